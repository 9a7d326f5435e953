"""A choice is one turn of the loop: enumerated, accounted for and charged like a token."""

import asyncio
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

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
from dpfusion_core.options import Prior
from dpfusion_core.privacy import Accounting, Neighbours, PrivacyParameters, response_loss
from tests.core.models import CharTokenizer
from tests.core.privacy.oracle import exact_delta, response_divergence
from tests.core.toys import EOS, VOCAB

SECRETS = ("alpha", "bravo", "carol", "delta")
CHOICES = ("a", "ab", "abc", "b", "ba")  # some begin others
ROUNDING = 1 + 1e-9
BUDGETS: list[dict[str, Any]] = [
    {"epsilon": 2.0, "delta": 0.01},
    {"order": 2.0, "beta": 0.05},
    {"order": 8.0, "beta": 0.1, "delta": 0.01},
]


def storied_backend(scale: float = 2.0) -> ScriptedBackend:
    """A model with tables of its own for every secret that it sees, and for what it has said."""
    tokenizer = CharTokenizer()
    needles = [tuple(tokenizer(secret)["input_ids"]) for secret in SECRETS]
    start = tuple(tokenizer("<assistant>")["input_ids"])

    @functools.cache
    def table(seen: tuple[int, ...], said: tuple[int, ...]) -> torch.Tensor:
        rng = np.random.default_rng([1, *seen, 99, *said])
        return torch.from_numpy(scale * rng.normal(size=VOCAB))

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        places = [i for i in range(len(row)) if row[i : i + len(start)] == start]
        found = [any(row[i : i + len(n)] == n for i in range(len(row))) for n in needles]
        return table(tuple(i for i, is_in in enumerate(found) if is_in), row[places[-1] + len(start) :])

    return ScriptedBackend(next_logits, tokenizer, VOCAB, eos_token_ids=[EOS])


def chat(*texts: str) -> list[Message]:
    """One unit for each text; ____ is what zero-out leaves of it."""
    return [
        *(Message("user", text, True, f"unit-{i}") for i, text in enumerate(texts)),
        Message("user", "which?"),
    ]


def exact(
    engine: FusionEngine, texts: Sequence[str], **options: Any
) -> tuple[dict[tuple[int, ...], float], Any]:
    """Return the exact distribution that a choice is drawn from, and the result."""
    result = engine.choose(chat(*texts), CHOICES, **options, curator=True)
    assert result.report is not None
    return {(i,): p for i, p in enumerate(result.report.sampled)}, result


def neighbours_of(texts: Sequence[str], unit: int, relation: Neighbours) -> list[list[str]]:
    """Return the inputs in which one unit's text is blanked or, if they are neighbours, another."""
    others = ["____", *(("delta", "zulu") if relation == "replace" else ())]
    return [[*texts[:unit], other, *texts[unit + 1 :]] for other in others]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("prior", ["uniform", "public"])
@pytest.mark.parametrize("accounting", ["fixed", "adaptive"])
@pytest.mark.parametrize("relation", ["zero-out", "replace"])
@pytest.mark.parametrize("units", [1, 2, 3])
def test_no_neighbours_diverge_by_more_than_reported(
    units: int, relation: Neighbours, accounting: Accounting, prior: Prior, budget: dict[str, Any]
) -> None:
    """Every choice of real requests is enumerated, on an input and on each of its neighbours."""
    engine = FusionEngine(storied_backend(scale=8.0))  # nearly sure, of the public view's choice as well
    options: dict[str, Any] = {
        **budget, "neighbours": relation, "accounting": accounting, "prior": prior,
    }  # fmt: skip
    texts = SECRETS[:units]
    whole, result = exact(engine, texts, **options)
    assert math.fsum(whole.values()) == pytest.approx(1.0, abs=1e-12)
    guarantee = result.guarantee
    assert (guarantee.mechanism, guarantee.tokens, guarantee.units) == ("choice", 1, units)
    alpha = guarantee.alpha
    for unit in range(units):
        for changed in neighbours_of(texts, unit, relation):
            other, _ = exact(engine, changed, **options)
            assert exact_delta(whole, other, guarantee.epsilon) <= guarantee.delta * ROUNDING
            if accounting == "fixed":
                assert response_divergence(whole, other, alpha) <= guarantee.charged * ROUNDING


@pytest.mark.parametrize("prior", ["uniform", "public"])
def test_what_zero_out_leaves_of_a_unit_is_the_prior(prior: Prior) -> None:
    """Not what the model makes of the public view: with a uniform prior that would be another distribution."""
    engine = FusionEngine(storied_backend())
    blank, result = exact(engine, ["____"], epsilon=2.0, prior=prior)
    expected = [0.2] * 5
    if prior == "public":
        expected = list(result.report.prior)
        assert max(expected) > 0.3  # a prior of its own
    assert list(blank.values()) == pytest.approx(expected, abs=1e-12)
    assert result.report.private["unit-0"] == result.report.prior
    # Beside others it is one of N, and contributes the prior.
    both, with_other = exact(engine, ["alpha", "____"], epsilon=2.0, prior=prior)
    weight = with_other.report.lambdas["unit-0"]
    of_other = with_other.report.private["unit-0"]
    mixed = [q * (1 - weight / 2) + p * weight / 2 for q, p in zip(expected, of_other, strict=True)]
    assert list(both.values()) == pytest.approx(mixed, abs=1e-12)


def test_the_report_is_reached_for_one_unit_that_is_sure() -> None:
    """Two-sided: the loss that is charged is the true one."""
    backend = ScriptedBackend.saying(lambda prompt: "gout" if "Bob" in prompt else "asthma", certainty=80.0)
    engine = FusionEngine(backend)
    names = ["asthma", "gout", "anaemia", "lupus", "measles"]

    def drawn(text: str) -> dict[tuple[int, ...], float]:
        result = engine.choose([Message("user", text, True)], names, epsilon=2.0, curator=True)
        assert result.report is not None
        return {(i,): p for i, p in enumerate(result.report.sampled)}

    guarantee = engine.choose([Message("user", "Bob", True)], names, epsilon=2.0).guarantee
    divergence = response_divergence(drawn("Bob"), drawn("____"), guarantee.alpha or 0.0)
    assert guarantee.charged is not None
    assert guarantee.charged * (1 - 1e-5) <= divergence <= guarantee.charged * ROUNDING


@pytest.mark.parametrize(
    ("epsilon", "choices"), [(0.5, 2), (1.0, 2), (1.0, 5), (2.0, 5), (3.0, 5), (4.0, 20)]
)
def test_a_sure_model_is_right_as_often_as_epsilon_can_allow(epsilon: float, choices: int) -> None:
    """The ceiling of docs/theory.md, section 10, from both sides."""
    engine = FusionEngine(ScriptedBackend.saying(lambda prompt: "b" if "Bob" in prompt else "a"))
    names = [chr(ord("a") + i) for i in range(choices)]
    result = engine.choose([Message("user", "Bob", True)], names, epsilon=epsilon, curator=True)
    assert result.report is not None
    ceiling = min(math.exp(epsilon) / choices, 1 - (1 - 1 / choices) * math.exp(-epsilon))
    assert 0.96 * ceiling < result.report.sampled[1] <= ceiling + 1e-5
    assert result.guarantee.epsilon == epsilon


def test_frequencies_of_real_runs_fit_the_exact_distribution_and_no_wider_lambda() -> None:
    engine = FusionEngine(storied_backend())
    _, result = exact(engine, ["alpha"], epsilon=1.0)
    report = result.report
    runs = 1500
    counts = [0] * 5
    for seed in range(runs):
        counts[engine.choose(chat("alpha"), CHOICES, epsilon=1.0, seed=seed).index] += 1

    def p_value(stretch: float) -> float:
        weight = min(1.0, stretch * report.lambdas["unit-0"])
        pairs = zip(report.prior, report.private["unit-0"], strict=True)
        expected = [runs * ((1 - weight) * q + weight * p) for q, p in pairs]
        return float(scipy.stats.chisquare(counts, expected).pvalue)

    assert p_value(1.0) > 0.01
    assert p_value(1.5) < 1e-3
    assert p_value(0.5) < 1e-3


def test_scores_are_those_of_whole_sequences_to_their_end() -> None:
    """The public choice of a model without private text is P(tokens, end), renormalised over the choices."""
    backend = storied_backend()
    result = FusionEngine(backend).choose([Message("user", "which?")], CHOICES, seed=1, curator=True)
    tokenizer = CharTokenizer()
    prompt = tuple(tokenizer("<user>which?\n<assistant>")["input_ids"])
    found = []
    for writing in ("", " "):
        totals = []
        for choice in CHOICES:
            ids = tuple(tokenizer(writing + choice)["input_ids"])
            rows = [backend.score(prompt, ids[:n]).log_softmax(-1) for n in range(len(ids) + 1)]
            totals.append(
                math.fsum([*(float(rows[n][ids[n]]) for n in range(len(ids))), float(rows[-1][EOS])])
            )
        found.append(torch.tensor(totals).double().softmax(-1).tolist())
    assert result.report is not None
    assert list(result.report.sampled) in [pytest.approx(each, rel=1e-6) for each in found]
    assert result.guarantee.epsilon == 0.0


def test_a_model_that_begins_with_a_space_is_scored_as_it_writes() -> None:
    names = ["gout", "asthma"]
    for answer in ("gout", " gout"):
        engine = FusionEngine(ScriptedBackend.saying(answer, certainty=30.0))
        report = engine.choose([Message("user", "?")], names, temperature=1.0, curator=True).report
        assert report is not None
        assert report.sampled[0] > 0.999


def test_a_view_that_allows_no_choice_contributes_the_prior_and_raises_nothing() -> None:
    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        needle = tuple(CharTokenizer()("alpha")["input_ids"])
        logits = torch.zeros(VOCAB, dtype=torch.float64)
        if any(row[i : i + 5] == needle for i in range(len(row))):
            logits[CharTokenizer.alphabet.index("a") : CharTokenizer.alphabet.index("c")] = -math.inf
        return logits

    backend = ScriptedBackend(next_logits, CharTokenizer(), VOCAB, [EOS])
    drawn, _ = exact(FusionEngine(backend), ["alpha"], epsilon=2.0)
    assert list(drawn.values()) == pytest.approx([0.2] * 5)


def test_greedy_needs_public_text_alone() -> None:
    engine = FusionEngine(ScriptedBackend.saying("gout"))
    assert engine.choose([Message("user", "?")], ["asthma", "gout"], temperature=0.0).choice == "gout"
    with pytest.raises(PrivacyParameterError, match="temperature=0"):
        engine.choose([Message("user", "?", True)], ["asthma", "gout"], temperature=0.0, epsilon=2.0)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ([], "at least two choices, got 0"),
        (["a"], "at least two choices, got 1"),
        ("ab", "list of texts"),
        (["a", "b", " a"], "1 and 3 are the same"),
        (["caf\u00e9", "cafe\u0301"], "are the same"),
        (["a", ""], "Choice 2 is no text, or blank"),
        (["a", " \n"], "Choice 2 is no text, or blank"),
        (["a", None], "Choice 2"),
        (["a", "\ud800"], "surrogate"),
        (["a", "\u4f60"], "cannot write choice 2"),
    ],
    ids=repr,
)
def test_what_is_no_choice_is_refused_before_anything_is_charged(
    choices: Any, words: str, tmp_path: Any
) -> None:
    ledger = PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=PrivacyBudget(4.0))
    engine = FusionEngine(storied_backend(), ledger=ledger)
    with pytest.raises(PrivacyParameterError, match=words):
        engine.choose(chat("alpha"), choices, epsilon=2.0)
    assert ledger.orders(["unit-0"]) is None  # no account was opened
    assert engine.backend.open_sessions == 0  # type: ignore[attr-defined]


def test_a_choice_that_begins_another_needs_an_end() -> None:
    backend = storied_backend()
    backend.eos_token_ids = frozenset()
    with pytest.raises(PrivacyParameterError, match="as the beginning of"):
        FusionEngine(backend).choose(chat("alpha"), ["ab", "b", "abc"], epsilon=2.0)
    assert FusionEngine(backend).choose(chat("alpha"), ["abc", "b"], epsilon=2.0).choice in ("abc", "b")


@pytest.mark.parametrize(
    "options", [{"max_tokens": 5}, {"top_k": 2}, {"stop": ["x"]}, {"spending": "capped"}, {"json_schema": {}}]
)
def test_options_of_text_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError, match=f"{next(iter(options))} has no effect on a choice"):
        FusionEngine(storied_backend()).choose(chat("alpha"), CHOICES, epsilon=2.0, **options)
    with pytest.raises(PrivacyParameterError, match="prior is for choices"):
        FusionEngine(storied_backend()).generate(chat("alpha"), epsilon=8.0, prior="public")


def test_private_text_needs_a_budget() -> None:
    with pytest.raises(PrivacyParameterError, match="no privacy parameters"):
        FusionEngine(storied_backend()).choose(chat("alpha"), CHOICES)


def test_choices_that_do_not_fit_the_model() -> None:
    backend = storied_backend()
    backend.context_length = 48
    with pytest.raises(ViewError, match="the longest choice together exceed"):
        FusionEngine(backend).choose(chat("alpha"), ["a" * 20, "b"], epsilon=2.0)


def test_the_ledger_is_charged_once_for_each_choice(tmp_path: Any) -> None:
    ledger = PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=PrivacyBudget(4.5))
    engine = FusionEngine(storied_backend(), ledger=ledger)
    for _ in range(2):
        guarantee = engine.choose(chat("alpha"), CHOICES, epsilon=2.0).guarantee
    alpha = guarantee.alpha or 0.0
    one = response_loss(PrivacyParameters(alpha, guarantee.beta or 0.0), 1, 1).at(alpha)
    assert guarantee.charged == pytest.approx(one)
    [balance] = ledger.account("unit-0").balances
    assert balance.order == alpha
    assert balance.spent == pytest.approx(2 * one, abs=1e-11)
    with pytest.raises(BudgetExhaustedError):
        engine.choose(chat("alpha"), CHOICES, epsilon=2.0)
    # A unit that cannot pay contributes the prior.
    drawn, _ = exact(engine, ["alpha"], epsilon=2.0, on_exhausted="zero-out")
    assert list(drawn.values()) == pytest.approx([0.2] * 5)


def test_a_seed_repeats_the_choice_and_says_so() -> None:
    engine = FusionEngine(storied_backend())
    first, again = (engine.choose(chat("alpha"), CHOICES, epsilon=2.0, seed=3) for _ in range(2))
    assert first == again
    assert not first.guarantee.private


def test_batches_and_async_choose_as_one_by_one() -> None:
    engine = FusionEngine(storied_backend())
    conversations = [chat("alpha"), chat("bravo", "carol"), chat("delta")]
    each: Any = [{"seed": seed} for seed in range(3)]
    alone = [
        engine.choose(messages, CHOICES, epsilon=2.0, **said)
        for messages, said in zip(conversations, each, strict=True)
    ]
    assert engine.choose_batch(conversations, CHOICES, each=each, epsilon=2.0) == alone
    assert asyncio.run(engine.achoose_batch(conversations, CHOICES, each=each, epsilon=2.0)) == alone
    assert asyncio.run(engine.achoose(chat("alpha"), CHOICES, epsilon=2.0, seed=0)) == alone[0]
    mixed = engine.choose_batch([chat("alpha"), []], CHOICES, epsilon=2.0, return_exceptions=True)
    assert isinstance(mixed[1], ViewError)
    with pytest.raises(PrivacyParameterError, match="options for 3 conversations"):
        engine.choose_batch(conversations, CHOICES, each=[{}], epsilon=2.0)


def test_nothing_private_is_shown() -> None:
    result = FusionEngine(storied_backend()).choose(chat("alpha"), CHOICES, epsilon=2.0, curator=True)
    assert str(result.report) == "ChoiceReport()"
    assert "report" not in repr(result)
