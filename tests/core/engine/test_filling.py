"""Structured answers: field by field, under one guarantee and one charge."""

import asyncio
import itertools
import math
from collections.abc import Iterator
from typing import Any, Literal
from unittest import mock

import pytest
from pydantic import BaseModel, Field

from dpfusion_core import (
    BudgetExhaustedError,
    FusionEngine,
    Message,
    PrivacyBudget,
    PrivacyLedger,
    PrivacyParameterError,
    ScriptedBackend,
    ViewError,
)
from dpfusion_core.privacy import Accounting, Neighbours
from tests.core.engine.test_choosing import chat, storied_backend
from tests.core.privacy.oracle import exact_delta, response_divergence

SCHEMA: dict[str, Any] = {
    "properties": {
        "ward": {"enum": ["a", "ab", "b"], "description": "ward?"},
        "ill": {"type": "boolean", "description": "ill?"},
    }
}


class Ticket(BaseModel):
    """What a support message is about."""

    urgent: bool = Field(description="Is it urgent? Answer yes or no.")
    topic: Literal["billing", "login"] = Field(description="What is it about?")
    tags: list[Literal["angry", "vip"]] = Field(description="Is the customer")


def paths(
    engine: FusionEngine, texts: tuple[str, ...], schema: Any, **options: Any
) -> tuple[dict[Any, float], Any]:
    """Return the exact probability of every object, by walking all of them, and a guarantee.

    The draw of each turn is forced, so that the engine itself makes every turn; its probability is what the
    curator's report says of the turn.
    """
    found: dict[Any, float] = {}
    guarantee = None

    def walk(prefix: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        nonlocal guarantee
        probabilities: list[list[float]] = []

        def force(log_probs: Any, rng: Any) -> int:
            probabilities.append(log_probs.exp().tolist())
            step = len(probabilities) - 1
            return prefix[step] if step < len(prefix) else 0

        with mock.patch("dpfusion_core.decoding.draw", force):
            result = engine.fill(chat(*texts)[:-1], schema, **options)
        guarantee = result.guarantee
        if len(prefix) == len(probabilities):
            found[prefix] = math.prod(row[i] for row, i in zip(probabilities, prefix, strict=True))
            return
        for option in range(len(probabilities[len(prefix)])):
            yield from walk((*prefix, option))

    list(walk(()))
    return found, guarantee


@pytest.mark.parametrize("is_even", [True, False])
@pytest.mark.parametrize("relation", ["zero-out", "replace"])
@pytest.mark.parametrize(("units", "accounting"), [(1, "fixed"), (2, "fixed"), (2, "adaptive")])
@pytest.mark.parametrize(
    "budget", [{"epsilon": 2.0, "delta": 0.01}, {"order": 3.0, "beta": 0.1, "delta": 0.05}], ids=str
)
def test_no_neighbours_diverge_by_more_than_reported(
    budget: dict[str, Any], units: int, accounting: Accounting, relation: Neighbours, is_even: bool
) -> None:
    """Every object of real requests is enumerated; later prompts hold the earlier answers."""
    share = 3.0 if relation == "zero-out" else 1.25  # a constant of each token has to be paid
    shares = None if is_even or accounting == "adaptive" else {"ward": share}
    engine = FusionEngine(storied_backend(scale=8.0))
    options: dict[str, Any] = {**budget, "accounting": accounting, "neighbours": relation, "shares": shares}
    texts = ("alpha", "bravo")[:units]
    whole, guarantee = paths(engine, texts, SCHEMA, **options)
    assert len(whole) == 6
    assert math.fsum(whole.values()) == pytest.approx(1.0, abs=1e-9)
    assert (guarantee.tokens, guarantee.max_tokens, guarantee.mechanism) == (2, 2, "choice")
    for unit, other in itertools.product(
        range(units), ["____", *(["delta"] if relation == "replace" else [])]
    ):
        changed, _ = paths(engine, (*texts[:unit], other, *texts[unit + 1 :]), SCHEMA, **options)
        assert exact_delta(whole, changed, guarantee.epsilon) <= guarantee.delta * (1 + 1e-9)
        if accounting == "fixed":
            assert response_divergence(whole, changed, guarantee.alpha) <= guarantee.charged * (1 + 1e-9)


def test_a_share_is_what_a_field_gets() -> None:
    """Two-sided: the loss of each turn by the curator's report is its share, to the end of the budget."""
    backend = ScriptedBackend.saying(lambda prompt: "yes" if "Bob" in prompt else "no", certainty=90.0)
    schema = {"properties": {name: {"type": "boolean"} for name in ("a", "b", "c")}}
    result = FusionEngine(backend).fill(
        [Message("user", "Bob", True)], schema, shares={"a": 2.0}, epsilon=2.0, curator=True
    )
    assert result.reports is not None
    spent = [result.reports[name].divergences["private"] for name in "abc"]
    assert spent[0] == pytest.approx(2 * spent[1], rel=1e-4)
    assert spent[1] == pytest.approx(spent[2], rel=1e-4)
    assert result.guarantee.charged == pytest.approx(math.fsum(spent), rel=1e-4)
    assert result.guarantee.epsilon == 2.0


def test_a_pydantic_class_is_filled_and_validates() -> None:
    says = {"urgent?": "yes", "about?": "login", "angry?": "no", "vip?": "yes"}

    def answer(prompt: str) -> str:
        place, word = max((prompt.rfind(word), word) for word in says)
        return says[word] if place >= 0 else "no"

    engine = FusionEngine(ScriptedBackend.saying(answer, certainty=80.0))
    message = Message("user", "I cannot log in!", is_private=True)
    result = engine.fill([message], Ticket, epsilon=60.0)
    assert Ticket.model_validate(result.value) == Ticket(urgent=True, topic="login", tags=["vip"])
    assert list(result.chosen) == ["urgent", "topic", "tags[angry]", "tags[vip]"]
    assert result.guarantee.epsilon == 60.0
    assert asyncio.run(engine.afill([message], Ticket, epsilon=60.0)).value == result.value


def test_earlier_answers_stand_in_the_prompt_of_later_ones() -> None:
    backend = ScriptedBackend.saying("b")
    schema = {"properties": {name: {"enum": ["a", "b"], "description": f"{name}?"} for name in ("x", "y")}}
    result = FusionEngine(backend).fill([Message("user", "secret", True)], schema, epsilon=9.0)
    public, private = backend.requests[-1]
    read = [len(backend.tokenizer(views[0])["input_ids"]) for views in backend.requests]
    assert result.prompt_tokens == sum(read)
    assert f"x?<|im_end|>\n<|im_start|>assistant\n{result.value['x']}<|im_end|>" in public
    assert "secret" in private
    assert "secret" not in public


def test_questions_can_be_put_in_other_words() -> None:
    backend = ScriptedBackend.saying("a")
    engine = FusionEngine(backend)
    schema = {"properties": {"x": {"enum": ["a", "b"]}}}
    engine.fill(
        [Message("user", "?")], schema, ask=lambda asked: f"{asked.name}, {' or '.join(asked.choices)}?"
    )
    assert "x, a or b?" in backend.requests[-1][0]
    with pytest.raises(ViewError, match="must return a text"):
        engine.fill([Message("user", "?")], schema, ask=lambda asked: "")
    with pytest.raises(ViewError, match=r"failed \(ZeroDivisionError\)"):
        engine.fill([Message("user", "?")], schema, ask=lambda asked: str(1 / 0))


def test_values_without_a_choice_cost_nothing() -> None:
    schema = {"properties": {"kind": {"const": "record"}, "of": {"properties": {"v": {"enum": [1]}}}}}
    result = FusionEngine(storied_backend()).fill(chat("alpha"), schema)
    assert result.value == {"kind": "record", "of": {"v": 1}}
    assert (result.guarantee.epsilon, result.guarantee.tokens) == (0.0, 0)


def test_open_fields_are_refused_by_name_before_anything_is_charged() -> None:
    backend = storied_backend()
    schema = {"properties": {"ill": {"type": "boolean"}, "note": {"type": "string"}}}
    with pytest.raises(PrivacyParameterError, match=r"Closed: ill\. Open: note\."):
        FusionEngine(backend).fill(chat("alpha"), schema, epsilon=2.0)
    assert backend.requests == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shares": {"wrad": 1.0}}, "no closed field"),
        ({"shares": {"ward": 0.0}}, "0 < share"),
        ({"shares": {"ward": math.nan}}, "share"),
        ({"shares": {"ward": 2.0}, "accounting": "adaptive"}, "shares go with accounting='fixed'"),
        ({"shares": {"ward": 1e6}, "neighbours": "replace"}, "too small"),
        ({"temperature": 0.0}, "temperature=0"),
        ({"max_tokens": 5}, "no effect on a choice"),
    ],
    ids=str,
)
def test_what_cannot_be_filled_is_refused_before_anything_is_charged(options: Any, words: str) -> None:
    backend = storied_backend()
    with pytest.raises(PrivacyParameterError, match=words):
        FusionEngine(backend).fill(chat("alpha"), SCHEMA, epsilon=2.0, **options)
    assert backend.requests == []


def test_a_later_question_that_does_not_fit_is_found_before_anything_is_charged(tmp_path: Any) -> None:
    backend = storied_backend()
    ledger = PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=PrivacyBudget(4.0))
    engine = FusionEngine(backend, ledger=ledger)
    views = chat("alpha")[:-1]
    schema = {"properties": {name: {"enum": ["a" * 30, "b"], "description": "x"} for name in ("p", "q", "r")}}
    backend.context_length = 130
    with pytest.raises(ViewError, match="exceed"):
        engine.fill(views, schema, epsilon=2.0)
    assert backend.requests == []
    assert ledger.orders(["unit-0"]) is None


@pytest.mark.parametrize("shares", [None, {"ward": 3.0}], ids=str)
def test_one_object_is_one_charge(tmp_path: Any, shares: Any) -> None:
    ledger = PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=PrivacyBudget(4.5))
    engine = FusionEngine(storied_backend(), ledger=ledger)
    for _ in range(2):
        guarantee = engine.fill(chat("alpha"), SCHEMA, epsilon=2.0, shares=shares).guarantee
    [balance] = ledger.account("unit-0").balances
    assert guarantee.charged is not None
    assert balance.spent == pytest.approx(2 * guarantee.charged, abs=1e-10)
    with pytest.raises(BudgetExhaustedError):
        engine.fill(chat("alpha"), SCHEMA, epsilon=2.0, shares=shares)
    result = engine.fill(
        chat("alpha"), SCHEMA, epsilon=2.0, shares=shares, on_exhausted="zero-out", curator=True
    )
    assert result.reports is not None
    assert result.reports["ward"].sampled == pytest.approx([1 / 3] * 3)


def test_a_run_that_fails_between_two_fields_has_charged_the_first(tmp_path: Any) -> None:
    backend = storied_backend()
    ledger = PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=PrivacyBudget(4.5))
    engine = FusionEngine(backend, ledger=ledger)
    opened = backend.open

    def failing(prompts: Any) -> Any:
        if len(backend.requests) == 1:
            raise RuntimeError("alpha")
        return opened(prompts)

    backend.open = failing  # type: ignore[method-assign]
    with pytest.raises(Exception, match="RuntimeError") as caught:
        engine.fill(chat("alpha"), SCHEMA, epsilon=2.0)
    assert "alpha" not in str(caught.value)
    [balance] = ledger.account("unit-0").balances
    assert balance.spent == pytest.approx(1.98 / 2, rel=0.02)
