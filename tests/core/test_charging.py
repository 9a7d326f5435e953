"""A ledger behind the engine: reserved before the first token, settled after the last, never overspent."""

import asyncio
import logging
import math
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from dpfusion_core import (
    BackendError,
    BudgetExhaustedError,
    BudgetPolicy,
    Chunk,
    FusionEngine,
    GenerationOptions,
    LedgerError,
    Message,
    PrivacyBudget,
    PrivacyLedger,
    PrivacyParameterError,
    ScriptedBackend,
)
from dpfusion_core.charging import charged
from dpfusion_core.ledger.policy import conversion_delta
from dpfusion_core.options import read_options
from dpfusion_core.planning import make_plan
from dpfusion_core.privacy import SPENDING_RULES, Neighbours, token_loss
from tests.core.models import CharTokenizer
from tests.core.privacy.oracle import (
    NextToken,
    Prefix,
    accounted_responses,
    exact_delta,
    response_divergence,
)
from tests.core.privacy.test_enumeration import constant
from tests.core.toys import EOS, SECRET, TOKENS, VOCAB, logits_of, secretive_backend

QUANTUM = 1e-12
ASKED: dict[str, Any] = {"alpha": 4.0, "beta": 0.01, "max_tokens": 10}  # 0.4 nats at order 4
QUESTION = Message("user", "what?")


@pytest.fixture
def ledger() -> Iterator[PrivacyLedger]:
    """B(4) of this budget is 4.88 nats: twelve responses of ASKED."""
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(8.0, 1e-5)) as found:
        yield found


def spent(ledger: PrivacyLedger, unit: str = "doc") -> float:
    return ledger.account(unit).balances[0].spent


def records(*units: str) -> list[Message]:
    return [*(Message("user", SECRET, True, unit) for unit in units), QUESTION]


def untouchable(ledger: PrivacyLedger) -> FusionEngine:
    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        raise AssertionError("The model was asked.")

    return FusionEngine(ScriptedBackend(next_logits, CharTokenizer(), VOCAB, [EOS]), ledger=ledger)


def test_responses_add_up_and_an_early_end_gives_back(ledger: PrivacyLedger) -> None:
    whole = FusionEngine(secretive_backend(), ledger=ledger)
    short = FusionEngine(secretive_backend(eos=1.0), ledger=ledger)
    whole.generate(records("doc"), **ASKED)
    assert spent(ledger) == pytest.approx(0.4, abs=2 * QUANTUM)
    short.generate(records("doc"), **ASKED)  # the end-of-sequence token alone
    assert spent(ledger) == pytest.approx(0.44, abs=4 * QUANTUM)
    assert [entry.kind for entry in ledger.curator.entries()] == ["open", *["reserve", "settle"] * 2]
    assert ledger.curator.verify().ok


def test_nothing_is_generated_for_a_unit_without_budget(ledger: PrivacyLedger) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    for _ in range(12):
        engine.generate(records("doc"), **ASKED)
    before = spent(ledger)
    for call in (untouchable(ledger).generate, lambda *a, **k: next(untouchable(ledger).stream(*a, **k))):
        with pytest.raises(BudgetExhaustedError, match=r"'doc'.*max_tokens=3 would fit") as caught:
            call(records("doc", "other"), **ASKED)
        assert caught.value.units == ("doc",)
    assert spent(ledger) == before
    with pytest.raises(PrivacyParameterError, match="no account"):  # all or none: the other was not charged
        ledger.account("other")
    engine.generate(records("doc", "other"), **(ASKED | {"max_tokens": 3}))  # what was said to fit does


def test_what_is_said_to_fit_of_an_epsilon_fits(ledger: PrivacyLedger) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    options: dict[str, Any] = {"epsilon": 8.0, "max_tokens": 10}
    engine.generate(records("doc"), **options, responses=3)
    with pytest.raises(BudgetExhaustedError, match="responses=2 would fit"):
        engine.generate(records("doc"), **options)
    engine.generate(records("doc"), **options, responses=2)
    assert ledger.curator.verify().ok


@pytest.mark.parametrize("responses", [7, 60])
@pytest.mark.parametrize("neighbours", ["zero-out", "replace"])
def test_all_responses_of_an_epsilon_fit_its_budget(
    ledger: PrivacyLedger, responses: int, neighbours: Neighbours
) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    options: dict[str, Any] = {"epsilon": 8.0, "responses": responses, "neighbours": neighbours}
    for number in range(responses):
        engine.generate(records("doc", *["other"] * (number % 2)), **options, max_tokens=1 + number % 3)
    with pytest.raises(BudgetExhaustedError):
        engine.generate(records("doc"), **options, max_tokens=1)


def test_what_rounding_leaves_of_a_budget_is_nothing_to_advise(ledger: PrivacyLedger) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    options: dict[str, Any] = {"epsilon": 8.0, "max_tokens": 10}
    engine.generate(records("doc"), **options)
    [balance] = ledger.account("doc").balances
    assert 0.0 < balance.budget - balance.spent < 1e-9
    with pytest.raises(BudgetExhaustedError, match="Nothing of it would fit") as caught:
        engine.generate(records("doc"), **options)
    assert "responses=" not in str(caught.value)


def test_a_response_may_spend_a_whole_budget_of_the_same_epsilon(ledger: PrivacyLedger) -> None:
    FusionEngine(secretive_backend(), ledger=ledger).generate(records("doc"), epsilon=8.0, max_tokens=7)
    [balance] = ledger.account("doc").balances
    assert 0.0 <= balance.budget - balance.spent < 1e-9
    assert ledger.account("doc").spent_epsilon == pytest.approx(8.0, abs=1e-8)


def test_epsilon_follows_the_order_at_which_the_account_is_kept(ledger: PrivacyLedger) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    engine.generate(records("doc"), alpha=6.0, beta=0.01, max_tokens=5)
    result = engine.generate(records("doc"), epsilon=8.0, responses=10, max_tokens=5)
    assert result.guarantee.alpha == 6.0  # 3.87 would say nothing at order 6
    with pytest.raises(PrivacyParameterError, match="order >= 6"):
        engine.generate(records("doc"), alpha=2.0, beta=0.01, max_tokens=5)


def test_a_whole_budget_may_be_spent_at_any_order_that_an_account_is_kept_at(ledger: PrivacyLedger) -> None:
    ledger.curator.open("doc", order=3.0)
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    for number in (1, 60):  # units of a request: which order would convert best depends on it
        units = ["doc", *(f"other-{i}" for i in range(number - 1))]
        result = engine.generate(records(*units), epsilon=8.0, responses=2, max_tokens=5)
        assert result.guarantee.alpha == 3.0
    [balance] = ledger.account("doc").balances
    assert 0.0 <= balance.budget - balance.spent < 1e-9


def test_exhausted_units_may_be_left_out() -> None:
    policy = BudgetPolicy(PrivacyBudget(8.0), {"poor": PrivacyBudget(5.0)})  # 4.91 and 1.91 nats
    options: dict[str, Any] = {**ASKED, "beta": 0.1, "curator": True}  # 2.57 nats with two units
    with PrivacyLedger("sqlite://", budget=policy) as ledger:
        engine = FusionEngine(secretive_backend(), ledger=ledger)
        with pytest.raises(BudgetExhaustedError, match="'poor'"):
            engine.generate(records("poor", "rich"), **options)
        result = engine.generate(records("poor", "rich"), **options, on_exhausted="zero-out")
        assert result.report is not None
        assert result.report.lambdas["poor"] == [0.0] * 10
        assert min(result.report.lambdas["rich"]) > 0.0
        assert (result.guarantee.units, result.guarantee.exhausted) == (2, 1)
        assert spent(ledger, "poor") == 0.0
        assert spent(ledger, "rich") == pytest.approx(10 * token_loss(0.4, 2, 4.0), abs=1e-10)


def test_adaptive_accounting_charges_what_was_realised(ledger: PrivacyLedger) -> None:
    """A private view that says what the public one says loses nothing."""
    same = FusionEngine(secretive_backend(private=(0.5, 0.3, 0.15, 0.05)), ledger=ledger)
    other = FusionEngine(secretive_backend(), ledger=ledger)
    same.generate(records("same"), **ASKED, accounting="adaptive")
    result = other.generate(records("other"), **ASKED, accounting="adaptive", curator=True)
    assert spent(ledger, "same") < 1e-9
    assert result.report is not None
    assert spent(ledger, "other") == pytest.approx(sum(result.report.divergences["other"]), abs=1e-10)
    assert spent(ledger, "other") <= 0.4 + QUANTUM


def test_adaptive_accounting_never_tells_that_a_budget_is_spent(
    ledger: PrivacyLedger, caplog: pytest.LogCaptureFixture
) -> None:
    """The same request, again and again: what is shown never changes, and the unit falls silent."""
    caplog.set_level(logging.DEBUG)
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    shown, weights = set(), []
    for _ in range(16):
        chunks = list(engine.stream(records("doc"), **ASKED, accounting="adaptive", curator=True))
        last = chunks[-1]
        assert last.guarantee is not None
        assert last.report is not None
        shown.add((str(last.guarantee), repr(last.guarantee), repr(last.report), len(chunks)))
        weights.append(last.report.lambdas["doc"][0])
    assert len(shown) == 1
    assert weights[0] > 0.0
    assert weights[-1] == 0.0
    [balance] = ledger.account("doc").balances
    assert balance.spent <= balance.budget + 2 * QUANTUM
    assert not [record for record in caplog.records if record.name.startswith("dpfusion")]


def test_kinds_of_accounting_do_not_mix(ledger: PrivacyLedger) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    engine.generate(records("doc"), **ASKED, accounting="adaptive")
    with pytest.raises(PrivacyParameterError, match="adaptive"):
        engine.generate(records("doc"), **ASKED)


def test_neighbour_relations_do_not_mix_where_it_would_be_unsound(ledger: PrivacyLedger) -> None:
    """A zero-out loss says nothing about replace neighbours; the other way round it does."""
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    engine.generate(records("strict"), **ASKED, neighbours="replace")
    with pytest.raises(PrivacyParameterError, match="replace"):
        engine.generate(records("strict"), **ASKED)
    engine.generate(records("loose"), **ASKED)
    engine.generate(records("loose"), **ASKED, neighbours="replace")
    assert spent(ledger, "loose") == pytest.approx(0.4 + 0.8, abs=1e-10)


def test_adaptive_replace_gives_nothing_back(ledger: PrivacyLedger) -> None:
    engine = FusionEngine(secretive_backend(eos=1.0), ledger=ledger)
    engine.generate(records("doc"), **ASKED, neighbours="replace", accounting="adaptive")
    assert spent(ledger) == pytest.approx(0.8, abs=1e-10)
    assert ledger.account("doc").accounting == "fixed"  # so its charges are public


def test_a_unit_in_several_messages_is_charged_once(ledger: PrivacyLedger) -> None:
    FusionEngine(secretive_backend(), ledger=ledger).generate(records("doc", "doc"), **ASKED)
    assert spent(ledger) == pytest.approx(0.4, abs=1e-10)


def test_fifty_units_in_one_request(ledger: PrivacyLedger) -> None:
    units = [f"doc-{i}" for i in range(50)]
    FusionEngine(secretive_backend(), ledger=ledger).generate(records(*units), **(ASKED | {"max_tokens": 3}))
    assert {round(spent(ledger, unit), 9) for unit in units} == {round(3 * token_loss(0.04, 50, 4.0), 9)}


def test_public_requests_do_not_touch_the_ledger(ledger: PrivacyLedger) -> None:
    FusionEngine(secretive_backend(), ledger=ledger).generate([QUESTION], max_tokens=2)
    assert list(ledger.curator.entries()) == []


def test_a_stream_charges_from_its_first_piece_to_where_it_was_closed(ledger: PrivacyLedger) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    engine.stream(records("doc"), **ASKED).close()  # never asked for anything
    assert list(ledger.curator.entries()) == []
    stream = engine.stream(records("doc"), **ASKED)
    next(stream)
    next(stream)
    assert spent(ledger) == pytest.approx(0.4, abs=1e-10)  # reserved
    stream.close()
    assert spent(ledger) == pytest.approx(0.08, abs=1e-10)


async def test_cancelling_settles(ledger: PrivacyLedger) -> None:
    entered, leave = threading.Event(), threading.Event()

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        entered.set()
        leave.wait(10.0)
        return logits_of({TOKENS[0]: 1.0})

    engine = FusionEngine(ScriptedBackend(next_logits, CharTokenizer(), VOCAB, [EOS]), ledger=ledger)
    task = asyncio.create_task(engine.agenerate(records("doc"), **ASKED))
    await asyncio.to_thread(entered.wait, 10.0)
    assert spent(ledger) == pytest.approx(0.4, abs=1e-10)
    task.cancel()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spent(ledger) <= 0.08 + 1e-10


def test_a_failing_model_costs_what_was_sampled(ledger: PrivacyLedger) -> None:
    calls = iter(range(100))

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        return logits_of({TOKENS[0]: 1.0}) * (math.nan if next(calls) >= 10 else 1.0)

    engine = FusionEngine(ScriptedBackend(next_logits, CharTokenizer(), VOCAB, [EOS]), ledger=ledger)
    chunks: list[Chunk] = []
    with pytest.raises(BackendError, match="unusable"):
        chunks.extend(engine.stream(records("doc"), **ASKED))
    released = sum(len(chunk.token_ids) for chunk in chunks)
    assert released >= 3
    assert 0.04 * released - 1e-10 <= spent(ledger) <= 0.04 * (released + 1) + 1e-10


def test_no_ledger_no_text(ledger: PrivacyLedger) -> None:
    ledger.close()
    with pytest.raises(LedgerError):
        untouchable(ledger).generate(records("doc"), **ASKED)


def test_an_answer_outlives_a_ledger_that_fails_to_settle(
    ledger: PrivacyLedger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise LedgerError("The ledger cannot be written.")

    monkeypatch.setattr(ledger, "settle", fail)
    engine = FusionEngine(secretive_backend(eos=1.0), ledger=ledger)
    assert engine.generate(records("doc"), **ASKED).token_ids == (EOS,)
    assert spent(ledger) == pytest.approx(0.4, abs=1e-10)  # all of it
    assert "could not be given back" in caplog.text


def test_concurrent_requests_share_a_unit(tmp_path: Path) -> None:
    """Eight threads want 24 responses of 0.4 nats; 12 fit."""
    with PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=PrivacyBudget(8.0, 1e-5)) as ledger:
        engine = FusionEngine(secretive_backend(), ledger=ledger)
        answered, refused = [], []

        def work() -> None:
            for _ in range(3):
                try:
                    answered.append(engine.generate(records("doc"), **ASKED))
                except BudgetExhaustedError as error:
                    refused.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(answered), len(refused)) == (12, 12)
        assert spent(ledger) == pytest.approx(4.8, abs=1e-9)
        assert ledger.curator.verify().ok


def pair_of_responses(loud: bool, options: GenerationOptions, budget: PrivacyBudget) -> dict[Prefix, float]:
    """Return the exact joint distribution of two responses of up to 2 tokens through one ledger.

    Each path of the first response is replayed through a ledger of its own, so that the second one
    finds the account as that path left it.
    """
    public = constant(0.2, 0.3, 0.5)
    first = constant(0.0, 0.9, 0.1) if loud else public
    second = constant(0.05, 0.05, 0.9) if loud else public
    joint: dict[Prefix, float] = {}

    def fresh() -> tuple[PrivacyLedger, Any]:
        ledger = PrivacyLedger("sqlite://", budget=budget)
        plan = make_plan(read_options({**options, "max_tokens": 2}, "a test"), ["doc"], ledger)
        return ledger, plan

    ledger, plan = fresh()
    with charged(plan, ledger) as charge:
        paths = [
            path for path, _, _ in accounted_responses(public, [first], plan.rule(), charge.open(), 2, 0)
        ]
    ledger.close()
    for path in paths:
        ledger, plan = fresh()
        with charged(plan, ledger) as charge:
            probability, accountant = 1.0, charge.open()
            for step, token in enumerate(path):
                fused = plan.rule().fuse(public(path[:step]), first(path[:step])[None], accountant.bounds())
                accountant.charge(fused.losses)
                probability *= math.exp(fused.log_probs[token])
        with charged(plan, ledger) as charge:
            rest = accounted_responses(public, [second], plan.rule(), charge.open(), 2, 0)
        assert ledger.curator.verify().ok
        ledger.close()
        for more, conditional, _ in rest:
            joint[(*path, -1, *more)] = probability * conditional
    return joint


@pytest.mark.parametrize("size", [0.4, 0.7, 1.0])
@pytest.mark.parametrize("spending", ["fixed", *sorted(SPENDING_RULES)])
def test_two_responses_never_tell_more_than_the_budget(spending: Any, size: float) -> None:
    """Exact, over all pairs of responses; each asks for 0.4, 0.7 or all of the budget."""
    order, budget = 4.0, PrivacyBudget(3.0, 0.01)
    whole = PrivacyBudget(3.0, conversion_delta(0.01, BudgetPolicy().release_share)).loss_at(order)
    options: GenerationOptions = {"alpha": order, "beta": size * whole / 2 / order - 1e-9}
    options |= (
        {"on_exhausted": "zero-out"}
        if spending == "fixed"
        else {"accounting": "adaptive", "spending": spending}
    )
    there, blank = (pair_of_responses(loud, options, budget) for loud in (True, False))
    assert math.fsum(there.values()) == pytest.approx(1.0, abs=1e-9)
    divergence = response_divergence(there, blank, order)
    assert divergence <= whole * (1 + 1e-9)
    assert exact_delta(there, blank, budget.epsilon) <= budget.delta
    # Two-sided: both responses told something where the budget was for both.
    assert divergence > size * whole * (1.2 if size < 0.5 else 0.7)


def one_response(
    private: NextToken, options: GenerationOptions, ledger: PrivacyLedger, others: Sequence[NextToken] = ()
) -> dict[Prefix, float]:
    """Return the exact distribution of a response of 2 tokens about ``doc``, charged to a ledger."""
    units = ["doc", *(f"other-{i}" for i in range(len(others)))]
    plan = make_plan(read_options({**options, "max_tokens": 2}, "a test"), units, ledger)
    with charged(plan, ledger) as charge:
        accountant = charge.open()
        paths = accounted_responses(PUBLIC, [private, *others], plan.rule(), accountant, 2)  # of copies
        for _ in range(2):
            accountant.charge(torch.zeros(len(units), dtype=torch.float64))
    return {path: probability for path, probability, _ in paths}


PUBLIC, LOUD, QUIET = constant(0.2, 0.3, 0.5), constant(0.0, 0.9, 0.1), constant(0.9, 0.0, 0.1)


@pytest.mark.parametrize("relation", ["zero-out", "replace"])
@pytest.mark.parametrize("accounting", ["fixed", "adaptive"])
def test_an_exhausted_unit_is_used_no_more_whatever_the_accounting(accounting: Any, relation: Any) -> None:
    """Exact. Charges are public here, so that responses are independent and their divergences add up."""
    if (accounting, relation) == ("adaptive", "zero-out"):
        return  # charges are private there: the test above
    order, budget = 4.0, PrivacyBudget(3.0, 0.01)
    whole = PrivacyBudget(3.0, conversion_delta(0.01, BudgetPolicy().release_share)).loss_at(order)
    options: GenerationOptions = {
        "alpha": order,
        "beta": 0.4 * whole / 2 / order / (2 if relation == "replace" else 1),
        "accounting": accounting,
        "neighbours": relation,
        "on_exhausted": "zero-out",
    }
    total, each = 0.0, []
    ledgers = [PrivacyLedger("sqlite://", budget=budget) for _ in range(2)]
    for _ in range(10):
        other = QUIET if relation == "replace" else PUBLIC
        rows = zip((LOUD, other), ledgers, strict=True)
        first, second = (one_response(row, options, one) for row, one in rows)
        each.append(response_divergence(first, second, order))
        total += each[-1]
    assert total <= whole * (1 + 1e-9)
    assert min(each[:2]) > 0.0 == max(each[2:])  # two fit, and the others tell nothing
    for ledger in ledgers:
        assert spent(ledger) <= whole
        ledger.close()


def test_killed_at_any_moment_a_unit_has_been_charged_what_was_released(tmp_path: Path) -> None:
    """Children generate and write one byte per token; they are killed with -9 while they do."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    released = 0
    with PrivacyLedger(url, budget=PrivacyBudget(1e6, 1e-5)) as ledger:
        ledger.curator.open("doc", order=4.0)
    for attempt in range(20):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                with PrivacyLedger(url, budget=PrivacyBudget(1e6, 1e-5)) as ledger:
                    engine = FusionEngine(secretive_backend(), ledger=ledger)
                    while True:
                        for chunk in engine.stream(records("doc"), **ASKED):
                            os.write(write, b"." * len(chunk.token_ids))
            finally:
                os._exit(1)
        os.close(write)
        wanted = released + 1 + attempt  # in the middle of a response, and not always at the same token
        while released < wanted:
            released += len(os.read(read, wanted - released))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := os.read(read, 4096):
            released += len(more)
        os.close(read)
        with PrivacyLedger(url, budget=PrivacyBudget(1e6, 1e-5)) as ledger:
            assert spent(ledger) >= 0.04 * released - 1e-9
            assert ledger.curator.verify().ok
    assert released > 100
