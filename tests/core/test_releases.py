"""Releases behind a ledger: planned, reserved, drawn once, settled; their deltas add up within the account's."""

import math
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpfusion_core.charging import charged
from dpfusion_core.errors import BudgetExhaustedError, PrivacyParameterError
from dpfusion_core.ledger import BudgetPolicy, PrivacyLedger
from dpfusion_core.options import Options
from dpfusion_core.planning import make_plan
from dpfusion_core.privacy import PrivacyBudget, VoteRelease, rdp_to_epsilon
from dpfusion_core.release_charging import ReleaseCharge
from dpfusion_core.releases import ReleasePlan, plan_counts, plan_measure, plan_votes, release_epsilon
from tests.core.ledger.helpers import fork, loss

BUDGET = PrivacyBudget(2.0, 1e-5)
UNITS = tuple(f"doc-{number}" for number in range(60))
SAID = [("late", "cold")] * 50 + [("late",)] * 5 + [()] * 5


@pytest.fixture
def ledger() -> Iterator[PrivacyLedger]:
    with PrivacyLedger("sqlite://", budget=BUDGET) as found:
        yield found


def options(**changed: Any) -> Options:
    return Options(**{"epsilon": 2.0, "delta": 1e-5, **changed})


def spent(ledger: PrivacyLedger, unit: str = "doc-0") -> tuple[float, float]:
    account = ledger.account(unit)
    return account.balances[0].spent, account.release_spent


def test_what_many_say_is_released_and_everyone_pays_for_it(ledger: PrivacyLedger) -> None:
    plan = plan_votes(options(), UNITS, ledger, max_items=2)
    with charged(plan, ledger) as charge:
        found = charge.votes(SAID)
    assert {each.item for each in found} == {"late", "cold"}
    for unit in ("doc-0", "doc-59"):
        nats, delta = spent(ledger, unit)
        assert nats == pytest.approx(plan.loss.at(plan.order), abs=2e-12)
        assert delta == pytest.approx(plan.loss.delta, abs=2e-18)
        assert 0.0 < delta <= ledger.account(unit).release_delta == pytest.approx(1e-6)
    guarantee = charge.guarantee()
    assert (guarantee.epsilon, guarantee.delta, guarantee.units) == (2.0, 1e-5, 60)
    assert (guarantee.mechanism, guarantee.tokens, guarantee.accounting) == ("consensus", 1, "fixed")
    assert "one release" in str(guarantee)
    assert ledger.curator.verify().ok
    with pytest.raises(BudgetExhaustedError), charged(plan, ledger):
        pass


@pytest.mark.parametrize("responses", [3, 40])
@pytest.mark.parametrize("relation", ["zero-out", "replace"])
@pytest.mark.parametrize("accounting", ["fixed", "adaptive"])
def test_all_releases_of_an_epsilon_fit_its_budget_and_not_one_more(
    ledger: PrivacyLedger, responses: int, relation: Any, accounting: Any
) -> None:
    asked = options(responses=responses, neighbours=relation, accounting=accounting)
    unit = "doc-0"
    for turn in range(responses + 1):
        plan = plan_votes(asked, [unit, "doc-1"], ledger, max_items=2)
        is_last = turn == responses
        try:
            with charged(plan, ledger) as charge:
                assert charge.takes_part == (not is_last, not is_last)
                charge.votes([("a", "b"), ("c", "d")])
        except BudgetExhaustedError:
            assert is_last
            assert not plan.is_refundable
        account = ledger.account(unit)
        balance = account.balances[0]
        part = account.delta - account.release_delta
        assert rdp_to_epsilon(balance.spent, balance.order, part) <= BUDGET.epsilon
        assert account.release_spent <= account.release_delta
    assert account.release_spent > 0.5 * account.release_delta
    assert account.spent_epsilon > BUDGET.epsilon - 1e-6
    assert ledger.curator.verify().ok


def test_under_adaptive_accounting_a_unit_pays_for_what_it_said(ledger: PrivacyLedger) -> None:
    plan = plan_votes(options(accounting="adaptive"), UNITS, ledger, max_items=2)
    with charged(plan, ledger, question=1) as charge:
        assert all(charge.takes_part)
        charge.votes(SAID)
    assert isinstance(plan.rule, VoteRelease)
    for unit, items in (("doc-0", 2), ("doc-52", 1), ("doc-59", 0)):
        cost = plan.rule.loss(items)
        assert spent(ledger, unit) == pytest.approx((cost.at(plan.order), cost.delta), abs=2e-12, rel=1e-6)
    assert spent(ledger, "doc-59") == (0.0, 0.0)
    assert charge.guarantee().loss_per_token is None
    assert ledger.curator.verify().ok


def test_a_unit_that_cannot_pay_takes_no_part_in_silence_under_adaptive_accounting(
    ledger: PrivacyLedger,
) -> None:
    asked = options(accounting="adaptive")
    with charged(plan_votes(asked, ["doc-0"], ledger, max_items=1), ledger) as charge:
        charge.votes([("a",)])
    plan = plan_votes(asked, UNITS, ledger, max_items=1)
    before = spent(ledger)
    with charged(plan, ledger) as charge:
        assert charge.takes_part == (False, *[True] * 59)
        assert "True" not in repr(charge)
        charge.votes([("a",)] * 60)
    assert charge.used()["doc-0"].at(2.0) == 0.0
    assert spent(ledger) == before
    assert charge.guarantee().exhausted == 0  # it would tell


def test_who_has_loss_left_but_no_delta_takes_no_part(ledger: PrivacyLedger) -> None:
    plan = plan_votes(options(accounting="adaptive", responses=50), UNITS, ledger, max_items=1)
    ledger.reserve({"doc-0": loss(0.0, 99.0, 9.99e-7)}, order=plan.order, accounting="adaptive")
    ledger.reserve({"doc-1": loss(99.0, 99.0)}, order=plan.order, accounting="adaptive")
    with charged(plan, ledger) as charge:
        assert charge.takes_part == (False, False, *[True] * 58)


def test_what_a_unit_left_out_says_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("dpfusion_core.release_charging.release_votes", lambda said, rule: seen.append(said))
    with PrivacyLedger("sqlite://", budget=BUDGET) as ledger:
        ledger.reserve({"doc-1": loss(0.0, 99.0, 1e-6)}, order=12.0)
        plan = plan_votes(
            options(on_exhausted="zero-out", order=12.0), ["doc-0", "doc-1"], ledger, max_items=2
        )
        with charged(plan, ledger) as charge:
            assert charge.takes_part == (True, False)
            charge.votes([("a", "b", "c"), ("d",)])
        assert seen == [[["a", "b"], ()]]
        assert charge.guarantee().exhausted == 1


def test_a_release_that_did_not_happen_costs_nothing_and_one_that_did_is_never_given_back(
    ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_votes(options(responses=4), UNITS, ledger, max_items=2)
    with pytest.raises(KeyError), charged(plan, ledger) as charge:
        raise KeyError("the model failed")
    assert charge.guarantee().tokens == 0
    assert spent(ledger) == (0.0, 0.0)
    with pytest.raises(ZeroDivisionError), charged(plan, ledger) as charge:
        fail_after(charge.votes(SAID))
    assert spent(ledger)[0] == pytest.approx(plan.loss.at(plan.order), abs=2e-12)
    before = spent(ledger)
    monkeypatch.setattr("dpfusion_core.release_charging.release_votes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), charged(plan, ledger) as charge:
        charge.votes(SAID)  # who knows how far it came
    assert spent(ledger)[0] == pytest.approx(2 * before[0], abs=4e-12)
    assert spent(ledger)[1] == pytest.approx(2 * before[1], abs=4e-18)


def test_one_charge_is_for_one_release_of_all_its_units(ledger: PrivacyLedger) -> None:
    with charged(plan_votes(options(), UNITS, ledger, max_items=2), ledger) as charge:
        with pytest.raises(PrivacyParameterError, match="60 units"):
            charge.votes(SAID[:-1])
        with pytest.raises(PrivacyParameterError, match="plan is for a VoteRelease"):
            charge.counts([[0]] * 60)
        charge.votes(SAID)
        with pytest.raises(PrivacyParameterError, match="one release"):
            charge.votes(SAID)


def test_counting_needs_no_delta_but_that_of_the_conversion(ledger: PrivacyLedger) -> None:
    plan = plan_counts(options(), UNITS, ledger, questions=2)
    with charged(plan, ledger) as charge:
        first, second = charge.counts([[0, 1, 1, 7]] * 40 + [[0]] * 15 + [[]] * 5)
    assert first.low <= first.value <= first.high <= 60
    assert abs(first.value - 55) < 30
    assert abs(second.value - 40) < 30
    nats, delta = spent(ledger)
    assert delta == 0.0
    assert nats == pytest.approx(plan.loss.at(plan.order), abs=2e-12)
    assert charge.guarantee().mechanism == "count"


@pytest.mark.parametrize("measure", ["mean", "sum", "quantile"])
@pytest.mark.parametrize("accounting", ["fixed", "adaptive"])
def test_numbers_are_measured_and_who_has_none_loses_none_under_adaptive_accounting(
    ledger: PrivacyLedger, measure: Any, accounting: Any
) -> None:
    asked = options(accounting=accounting, responses=2)
    units = [f"doc-{number}" for number in range(400)]
    plan = plan_measure(asked, units, ledger, measure=measure, lower=0.0, upper=10.0)
    with charged(plan, ledger) as charge:
        found = charge.measure([None, math.nan, math.inf, *[4.0] * 397])
    true = 4.0 * 397 if measure == "sum" else 4.0
    assert abs(found.value - true) < (400.0 if measure == "sum" else 1.0)
    if measure != "quantile":
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high
    whole = plan.loss.at(plan.order)
    for unit, said in (("doc-0", False), ("doc-1", False), ("doc-2", False), ("doc-3", True)):
        expected = whole if said or accounting == "fixed" else 0.0
        assert spent(ledger, unit)[0] == pytest.approx(expected, abs=2e-12)
        assert spent(ledger, unit)[1] == 0.0
    assert charge.guarantee().mechanism == "measure"
    with charged(plan, ledger) as charge:
        charge.measure([1.0] * 400)  # the second half of the budget
    assert ledger.account("doc-3").spent_epsilon <= BUDGET.epsilon


def test_without_a_ledger_all_of_delta_is_for_one_release() -> None:
    plan = plan_votes(options(epsilon=1.0), UNITS, None, max_items=1)
    with charged(plan, None) as charge:
        assert {each.item for each in charge.votes([("a",)] * 60)} == {"a"}
    epsilon, order = release_epsilon(plan.loss, 1e-5)
    assert epsilon <= 1.0 + 1e-9
    assert order is None  # Laplace noise
    assert charge.guarantee().epsilon == 1.0
    many = plan_votes(options(epsilon=1.0, responses=50), UNITS, None, max_items=1).guarantee(1)
    assert 0.05 < many.epsilon < 0.5  # its own, with all of delta


@pytest.mark.parametrize("delta", [1e-9, 1e-5])
@pytest.mark.parametrize("responses", [1, 2, 60])
def test_a_guarantee_says_the_order_that_its_epsilon_comes_from(delta: float, responses: int) -> None:
    asked = options(epsilon=3.0, delta=delta, responses=responses)
    for plan in (plan_votes(asked, UNITS, None, max_items=1), plan_counts(asked, UNITS, None)):
        guarantee, loss = plan.guarantee(1), plan.loss
        if guarantee.order is None:
            assert loss.at(math.inf) <= guarantee.epsilon + 1e-9
        else:
            converted = rdp_to_epsilon(loss.at(guarantee.order), guarantee.order, delta - loss.delta)
            assert converted <= guarantee.epsilon + 1e-9
        assert guarantee.epsilon == 3.0 if responses == 1 else guarantee.epsilon < 3.0
        assert guarantee.charged == guarantee.loss_per_token is not None


def test_a_guarantee_names_no_number_of_units_where_taking_part_is_private() -> None:
    plan = plan_votes(options(), UNITS, None, max_items=1, is_participation_private=True)
    guarantee = plan.guarantee(1)
    assert guarantee.units is None
    assert "60" not in str(guarantee)
    counts = plan_counts(options(), UNITS[:2], None, is_participation_private=True)
    with charged(counts, None) as charge:
        found = [charge.counts([[0]] * 2)[0].high]
    for _ in range(9):
        with charged(counts, None) as charge:
            found.append(charge.counts([[0]] * 2)[0].high)
    assert max(found) > 2  # not clipped to a number that nobody may know


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"epsilon": None}, "needs epsilon"),
        ({"epsilon": None, "order": 4.0, "beta": 0.01}, "needs epsilon"),
        ({"epsilon": 1e-4}, "cannot be certified"),
        ({"epsilon": 0.2, "order": 1.5}, "cannot be certified"),
    ],
)
def test_what_cannot_be_planned_is_refused_before_anything_is_charged(
    ledger: PrivacyLedger, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(PrivacyParameterError, match=said):
        plan_votes(options(**changed), UNITS, ledger, max_items=2)
    with pytest.raises(PrivacyParameterError, match="no account"):
        ledger.account("doc-0")


def test_a_ledger_without_delta_for_releases_says_so() -> None:
    with PrivacyLedger("sqlite://", budget=BudgetPolicy(BUDGET, release_share=0.0)) as ledger:
        with pytest.raises(PrivacyParameterError, match="release_share above 0"):
            plan_votes(options(), UNITS, ledger, max_items=2)
        with pytest.raises(BudgetExhaustedError):
            ledger.reserve({"a": loss(0.0, 12.0, delta=1e-18)}, order=12.0)


def test_what_dies_between_reserving_and_settling_stays_charged(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"

    def work() -> None:
        with PrivacyLedger(url, budget=BUDGET) as mine:
            plan = plan_votes(options(accounting="adaptive"), UNITS, mine, max_items=2)
            with charged(plan, mine) as charge:
                charge.votes(SAID)
                os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(fork(work), 0)
    with PrivacyLedger(url, budget=BUDGET) as ledger:
        plan = plan_votes(options(accounting="adaptive"), UNITS, ledger, max_items=2)
        whole = pytest.approx(plan.loss.at(plan.order), abs=2e-12), pytest.approx(plan.loss.delta, abs=2e-18)
        for unit in ("doc-0", "doc-59"):  # of which one said nothing
            assert list(spent(ledger, unit)) == list(whole)
        assert ledger.curator.verify().ok


def test_threads_never_spend_the_same_delta_twice(ledger: PrivacyLedger) -> None:
    asked, done = options(responses=10), []

    def work() -> None:
        for _ in range(4):
            try:
                with charged(plan_votes(asked, ["doc-0"], ledger, max_items=1), ledger) as charge:
                    done.append(charge.votes([("a",)]))
            except BudgetExhaustedError:
                pass

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    account = ledger.account("doc-0")
    assert len(done) == 10
    assert account.release_spent <= account.release_delta
    assert ledger.curator.verify().ok


def test_one_account_for_all_mechanisms_never_exceeds_its_epsilon_and_delta() -> None:
    """Text, a choice and releases in turn, by exact composition at the account's order."""
    for accounting in ("fixed", "adaptive"):
        with PrivacyLedger("sqlite://", budget=PrivacyBudget(4.0, 1e-5)) as ledger:
            asked = Options(epsilon=4.0, responses=6, order=5.0, max_tokens=20, accounting=accounting)
            total, delta, refused = 0.0, 0.0, 0
            for turn in range(20):
                plans: list[Any] = [
                    make_plan(asked, ["doc-0"], ledger),
                    make_plan(Options(**{**vars(asked), "max_tokens": 1}), ["doc-0"], ledger, choices=5),
                    plan_votes(asked, ["doc-0"], ledger, max_items=3),
                    plan_counts(asked, ["doc-0"], ledger),
                ]
                plan = plans[turn % 4]
                try:
                    with charged(plan, ledger) as charge:
                        total, delta = total + _lose_all(plan, charge), delta + _delta_of(plan, charge)
                except BudgetExhaustedError:
                    refused += 1
            account = ledger.account("doc-0")
            assert account.delta == 1e-5
            assert delta <= account.release_delta
            assert rdp_to_epsilon(total, 5.0, 1e-5 - account.release_delta) <= 4.0
            assert total == pytest.approx(account.balances[0].spent, abs=1e-10)
            assert delta == pytest.approx(account.release_spent, abs=1e-16)
            assert account.spent_epsilon > 3.0
            assert refused > 5 or accounting == "adaptive"
            assert ledger.curator.verify().ok


def fail_after(released: object) -> None:
    raise ZeroDivisionError("the writer failed")


def _lose_all(plan: Any, charge: Any) -> float:
    """Let a request lose all it may; return that, in nats at order 5."""
    if isinstance(charge, ReleaseCharge):
        if not isinstance(plan, ReleasePlan) or not charge.takes_part[0]:
            return 0.0
        charge.votes([("a", "b", "c")]) if isinstance(plan.rule, VoteRelease) else charge.counts([[0]])
        return charge.used()["doc-0"].at(5.0)
    accountant = charge.open()
    for _ in range(plan.options.max_tokens):
        bound = accountant.bounds()
        accountant.charge(bound)  # of one unit: all that it may diverge
    return float(charge.used()["doc-0"].at(5.0))


def _delta_of(plan: Any, charge: Any) -> float:
    return charge.used()["doc-0"].delta if isinstance(charge, ReleaseCharge) else 0.0


def test_an_unknown_loss_is_never_given_back_and_too_much_of_delta_not_at_all(ledger: PrivacyLedger) -> None:
    held = ledger.reserve({"a": loss(0.5, 12.0, delta=4e-7), "b": loss(0.5, 12.0, delta=4e-7)}, order=12.0)
    ledger.settle(held, {"a": loss(0.2, 12.0, delta=9e-7)})
    assert [ledger.account(unit).release_spent for unit in "ab"] == pytest.approx([4e-7, 4e-7])
    for bad in (-1e-9, 1.5, math.nan):
        with pytest.raises(PrivacyParameterError):
            ledger.reserve({"a": loss(0.1, 12.0, delta=bad)}, order=12.0)


def test_the_curator_changes_the_split_on_record(ledger: PrivacyLedger) -> None:
    ledger.reserve({"a": loss(0.1, 12.0, delta=1e-6)}, order=12.0)
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve({"a": loss(0.1, 12.0, delta=1e-7)}, order=12.0)
    before = ledger.account("a")
    after = ledger.curator.amend("a", BUDGET, "many releases are coming", release_share=0.5)
    assert after.release_share == 0.5
    assert after.release_delta == pytest.approx(5e-6)
    assert after.balances[0].budget < before.balances[0].budget
    ledger.reserve({"a": loss(0.1, 12.0, delta=1e-7)}, order=12.0)
    ledger.curator.amend("a", BUDGET, "no: back to what it was", release_share=0.1)
    for nats, delta in (
        (0.1, 1e-9),
        (0.1, 0.0),
    ):  # more than there is was spent: nothing is left for anything
        with pytest.raises(BudgetExhaustedError):
            ledger.reserve({"a": loss(nats, 12.0, delta=delta)}, order=12.0)
    assert ledger.curator.amend("a", BUDGET, "a larger delta").release_share == 0.1
    with pytest.raises(PrivacyParameterError):
        ledger.curator.amend("a", BUDGET, "too much", release_share=1.0)
    assert ledger.curator.verify().ok
