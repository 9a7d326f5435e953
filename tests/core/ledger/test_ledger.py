"""Reserve, settle, amend: what is charged, what is refused, and what stays secret."""

import gc
import logging
import math
import pickle
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpfusion_core.errors import BudgetExhaustedError, LedgerError, PrivacyParameterError
from dpfusion_core.ledger import BudgetPolicy, PrivacyLedger, amounts
from dpfusion_core.privacy.budget import PrivacyBudget, RenyiLoss
from tests.core.ledger.helpers import converted, in_child, loss

BUDGET = PrivacyBudget(8.0, 1e-5)
TOTAL = converted(BUDGET).loss_at(4.0)  # 4.88 nats
Make = Callable[..., PrivacyLedger]


def spent(ledger: PrivacyLedger, unit: str, order: float = 4.0) -> float:
    [balance] = [each for each in ledger.account(unit).balances if each.order == order]
    return balance.spent


def test_reservation_is_charged_before_it_is_settled(make: Make) -> None:
    ledger = make(budget=BUDGET)
    reservation = ledger.reserve({"a": loss(1.5)}, order=4.0)
    assert reservation.granted == {"a": 1.5}
    assert spent(ledger, "a") == 1.5
    ledger.settle(reservation, {"a": loss(0.5)})
    assert spent(ledger, "a") == 0.5


def test_settling_returns_what_was_reserved_less_what_was_used_and_no_more(make: Make) -> None:
    ledger = make(budget=BUDGET)
    first = ledger.reserve({"a": loss(1.0), "b": loss(1.0)}, order=4.0)
    second = ledger.reserve({"a": loss(1.0)}, order=4.0)
    ledger.settle(first, {"a": loss(9.0)})  # more than reserved: nothing comes back; b is not named
    assert (spent(ledger, "a"), spent(ledger, "b")) == (2.0, 1.0)
    ledger.settle(second, {"a": RenyiLoss(3.0, lambda order: 0.0)})  # known up to order 3 only
    assert spent(ledger, "a") == 2.0


def test_settling_twice_or_something_unknown_is_refused(make: Make, sqlite_url: str, tmp_path: Path) -> None:
    ledger = make(budget=BUDGET)
    reservation = ledger.reserve({"a": loss(1.0)}, order=4.0)
    ledger.settle(pickle.loads(pickle.dumps(reservation)), {"a": loss(0.5)})
    with pytest.raises(LedgerError, match="settled already"):
        ledger.settle(reservation, {"a": loss(0.5)})
    assert spent(ledger, "a") == 0.5
    with PrivacyLedger(f"sqlite:///{tmp_path}/other.db", budget=BUDGET) as other:
        foreign = other.reserve({"a": loss(1.0)}, order=4.0)
    with pytest.raises(LedgerError, match="not in this ledger"):
        ledger.settle(foreign, {})
    with pytest.raises(PrivacyParameterError, match="units of the reservation"):
        ledger.settle(foreign, {"b": loss(0.1)})


def test_the_last_nat_can_be_spent_and_not_a_bit_more(make: Make) -> None:
    ledger = make(budget=BUDGET)
    whole = amounts.nats_at_most(amounts.budget(TOTAL))
    ledger.reserve({"a": loss(whole)}, order=4.0)
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve({"a": loss(1e-12)}, order=4.0)
    ledger.reserve({"a": loss(0.0)}, order=4.0)  # what loses nothing costs nothing
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve({"b": loss(whole + 1e-11)}, order=4.0)


def test_exhaustion_names_the_units_and_what_would_fit(make: Make) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(TOTAL - 1.0)}, order=4.0)
    ledger.reserve({"b": loss(TOTAL - 2.0)}, order=4.0)
    with pytest.raises(BudgetExhaustedError, match=r"'a', 'b'.* 24\.9% of the loss") as caught:
        ledger.reserve({"c": loss(1.0), "a": loss(4.0), "b": loss(4.0)}, order=4.0)
    assert caught.value.units == ("a", "b")
    share = caught.value.largest_share
    assert share == pytest.approx(0.25, abs=1e-9)
    assert pickle.loads(pickle.dumps(caught.value)).units == ("a", "b")
    with pytest.raises(PrivacyParameterError, match="no account"):
        ledger.account("c")  # all or none
    assert share is not None
    ledger.reserve({"a": loss(4.0 * share), "b": loss(4.0 * share)}, order=4.0)
    with pytest.raises(BudgetExhaustedError, match="Nothing of it would fit"):
        ledger.reserve({"a": loss(1.0)}, order=4.0)


def test_many_exhausted_units_make_a_short_message(make: Make) -> None:
    ledger = make(budget=BUDGET)
    with pytest.raises(BudgetExhaustedError, match="and 45 more") as caught:
        ledger.reserve({f"unit-{i}": loss(99.0) for i in range(50)}, order=4.0)
    assert len(caught.value.units) == 50


@pytest.mark.parametrize("nats", [1e9, float("inf")])
def test_a_loss_beyond_all_measure_never_fits(make: Make, nats: float) -> None:
    ledger = make(budget=BUDGET)
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve({"a": loss(nats)}, order=4.0)


def test_zero_out_charges_the_units_that_can_pay(make: Make) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(TOTAL - 0.5)}, order=4.0)
    before = spent(ledger, "a")
    reservation = ledger.reserve({"a": loss(1.0), "b": loss(1.0)}, order=4.0, on_exhausted="zero-out")
    assert reservation.exhausted == ("a",)
    assert reservation.granted == {"a": 0.0, "b": 1.0}
    ledger.settle(reservation, {"a": loss(0.0), "b": loss(0.25)})
    assert (spent(ledger, "a"), spent(ledger, "b")) == (before, 0.25)
    all_out = ledger.reserve({"a": loss(1.0)}, order=4.0, on_exhausted="zero-out")
    ledger.settle(all_out, {})
    assert ledger.curator.verify().ok


def test_adaptive_units_are_granted_what_is_left_in_silence(make: Make) -> None:
    ledger = make(budget=BUDGET)
    granted = []
    for _ in range(4):
        reservation = ledger.reserve({"a": loss(2.0)}, order=4.0, accounting="adaptive")
        assert reservation.exhausted == ()
        granted.append(reservation.granted["a"])
    assert granted == [2.0, 2.0, pytest.approx(TOTAL - 4.0, abs=1e-9), 0.0]
    assert Fraction(sum(map(Fraction, granted))) <= Fraction(TOTAL)
    ledger.settle(reservation, {"a": loss(0.0)})
    infinite = ledger.reserve({"b": loss(float("inf"))}, order=4.0, accounting="adaptive")
    assert infinite.granted["b"] == pytest.approx(TOTAL, abs=1e-9)


def test_a_zero_out_loss_is_not_charged_to_a_budget_about_replace_neighbours(make: Make) -> None:
    ledger = make(budget=PrivacyBudget(8.0))
    ledger.reserve({"a": loss(1.0)}, order=4.0, neighbours="replace")
    with pytest.raises(PrivacyParameterError, match="promise less"):
        ledger.reserve({"a": loss(1.0)}, order=4.0)
    with pytest.raises(PrivacyParameterError, match="promise less"):
        ledger.curator.open("a", order=4.0)
    ledger.reserve({"b": loss(1.0)}, order=4.0)
    ledger.reserve({"b": loss(1.0)}, order=4.0, neighbours="replace")  # bounds more than is asked
    assert [ledger.account(unit).neighbours for unit in "ab"] == ["replace", "zero-out"]
    with pytest.raises(PrivacyParameterError, match="neighbours"):
        ledger.reserve({"c": loss(1.0)}, order=4.0, neighbours="any")  # type: ignore[arg-type]


def test_the_two_kinds_of_accounting_do_not_mix(make: Make) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(1.0)}, order=4.0, accounting="adaptive")
    ledger.reserve({"f": loss(1.0)}, order=4.0)
    with pytest.raises(PrivacyParameterError, match="do not mix"):
        ledger.reserve({"a": loss(1.0)}, order=4.0)
    with pytest.raises(PrivacyParameterError, match="do not mix"):
        ledger.reserve({"f": loss(1.0)}, order=4.0, accounting="adaptive")


def test_a_request_at_a_larger_order_pays_at_the_order_of_the_account(make: Make) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(1.0)}, order=4.0)
    ledger.reserve({"a": RenyiLoss(8.0, lambda order: order / 8.0)}, order=8.0)
    assert spent(ledger, "a") == 1.5
    with pytest.raises(PrivacyParameterError, match=r"kept at order 4, .* Use order >= 4"):
        ledger.reserve({"a": loss(1.0, max_order=3.5)}, order=3.5)
    assert ledger.orders(["a", "unknown"]) == 4.0
    assert ledger.orders(["unknown"]) is None


def test_several_orders_are_all_charged_and_closed_where_nothing_is_known(make: Make) -> None:
    ledger = make(budget=BudgetPolicy(PrivacyBudget(20.0), orders=(2.0, 4.0, 8.0)))
    ledger.reserve({"a": RenyiLoss(8.0, lambda order: order)}, order=4.0)
    assert [spent(ledger, "a", order) for order in (2.0, 4.0, 8.0)] == [2.0, 4.0, 8.0]
    reservation = ledger.reserve({"a": RenyiLoss(4.0, lambda order: order / 4)}, order=4.0)
    account = ledger.account("a")
    assert [balance.is_open for balance in account.balances] == [True, True, False]
    ledger.settle(reservation, {"a": RenyiLoss(4.0, lambda order: order / 8)})
    assert [spent(ledger, "a", order) for order in (2.0, 4.0, 8.0)] == [2.25, 4.5, 8.0]
    assert not ledger.account("a").balances[2].is_open  # for ever
    assert ledger.orders(["a"]) == 2.0
    assert ledger.curator.verify().ok
    # More than order 2 allows, not more than order 4 does: fits, and is charged at both.
    two, four, _ = account.balances
    nats = math.floor(two.budget) - 1.0
    assert two.spent + nats > two.budget
    assert four.spent + nats < four.budget
    ledger.reserve({"a": loss(nats)}, order=4.0)
    assert spent(ledger, "a", 2.0) == 2.25 + nats
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve({"a": RenyiLoss(2.0, lambda order: 0.01)}, order=2.0)


def test_budgets_differ_by_unit_and_come_from_the_policy(make: Make) -> None:
    ledger = make(budget=BudgetPolicy(collections={"hr/": PrivacyBudget(6.0), "hr/pay/": PrivacyBudget(5.0)}))
    ledger.reserve({"hr/x": loss(0.125), "hr/pay/y": loss(0.2)}, order=6.0 - 2.0)
    assert ledger.account("hr/x").epsilon == 6.0
    assert ledger.account("hr/pay/y").epsilon == 5.0
    with pytest.raises(PrivacyParameterError, match=r"'other' has no budget.*ledger budget"):
        ledger.reserve({"hr/x": loss(0.1), "other": loss(0.1)}, order=4.0)
    assert spent(ledger, "hr/x") == 0.125


SPELLINGS = ("hr/cv-3", "HR/cv-3", "./hr/cv-3", " hr\\cv-3\n", "hr//\u200bcv-3/")


def test_all_spellings_of_a_unit_are_one_account(make: Make) -> None:
    small = PrivacyBudget(4.0, 1e-5)
    ledger = make(budget=BudgetPolicy(BUDGET, {"./HR/": small}))
    for count, name in enumerate(SPELLINGS, start=1):
        reservation = ledger.reserve({name: loss(0.5, 8.0)}, order=8.0)
        assert reservation.granted == {name: 0.5}
        ledger.settle(reservation, {SPELLINGS[count - 2]: loss(0.25, 8.0)})
        for each in SPELLINGS:
            assert (ledger.account(each).unit, spent(ledger, each, 8.0)) == ("hr/cv-3", 0.25 * count)
    assert [each.epsilon for each in ledger.curator.accounts()] == [4.0]  # one account, in the collection
    assert len(list(ledger.curator.entries(SPELLINGS[1]))) == len(list(ledger.curator.entries()))
    assert ledger.curator.open(SPELLINGS[2], order=8.0).unit == "hr/cv-3"
    assert ledger.curator.amend(SPELLINGS[3], PrivacyBudget(0.5, 0.5), "less").unit == "hr/cv-3"
    assert ledger.orders(SPELLINGS) == 8.0
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve({SPELLINGS[4]: loss(1.0, 8.0)}, order=8.0)
    assert ledger.curator.verify().ok


def test_two_spellings_in_one_request_do_not_share_a_budget_twice(make: Make) -> None:
    ledger = make(budget=BUDGET)
    most = 0.6 * TOTAL
    with pytest.raises(PrivacyParameterError, match="spellings of one unit"):
        ledger.reserve({"a": loss(most), " A": loss(most)}, order=4.0)
    reservation = ledger.reserve({"A": loss(most)}, order=4.0)
    for used in ({"a": loss(0.0), "A": loss(0.0)}, {"b": loss(0.0)}):
        with pytest.raises(PrivacyParameterError, match="units of the reservation"):
            ledger.settle(reservation, used)
    assert spent(ledger, "a") == pytest.approx(most)


def test_without_a_policy_only_opened_accounts_may_be_used(make: Make) -> None:
    ledger = make()
    with pytest.raises(PrivacyParameterError, match="no budget"):
        ledger.reserve({"a": loss(1.0)}, order=4.0)
    with pytest.raises(PrivacyParameterError, match="no budget"):
        ledger.curator.open("a", order=4.0)
    opened = ledger.curator.open("a", BUDGET, order=4.0)
    assert (opened.unit, opened.epsilon, opened.delta, opened.accounting) == ("a", 8.0, 1e-5, "fixed")
    assert ledger.curator.open("a", BUDGET, order=4.0) == opened
    ledger.reserve({"a": loss(1.0)}, order=4.0)
    for difference in ({"order": 3.0}, {"order": 4.0, "accounting": "adaptive"}):
        with pytest.raises(PrivacyParameterError):
            ledger.curator.open("a", BUDGET, **difference)


def test_a_budget_that_differs_from_the_record_is_refused_unless_it_was_amended(make: Make) -> None:
    make(budget=BUDGET).reserve({"a": loss(4.0)}, order=4.0)
    larger = PrivacyBudget(9.0, 1e-5)
    with pytest.raises(PrivacyParameterError, match=r"'a'.*epsilon=8.*dpfusion ledger amend"):
        make(budget=larger).reserve({"a": loss(0.1)}, order=4.0)
    account = make().curator.amend("a", larger, "the study was extended")
    assert account.epsilon == 9.0
    for budget in (BUDGET, larger):
        make(budget=budget).reserve({"a": loss(0.9)}, order=4.0)
    with pytest.raises(PrivacyParameterError, match="on record"):
        make(budget=PrivacyBudget(10.0, 1e-5)).reserve({"a": loss(0.1)}, order=4.0)
    [entry] = [each for each in make().curator.entries("a") if each.kind == "amend"]
    assert entry.details["reason"] == "the study was extended"
    assert make().curator.verify().ok


def test_a_budget_amended_below_what_is_spent_is_exhausted(make: Make) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(4.0)}, order=4.0)
    ledger.reserve({"b": loss(4.0)}, order=4.0, accounting="adaptive")
    for unit in ("a", "b"):
        ledger.curator.amend(unit, PrivacyBudget(5.0, 1e-5), "consent was narrowed")
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve({"a": loss(0.0001)}, order=4.0)
    assert ledger.reserve({"b": loss(1.0)}, order=4.0, accounting="adaptive").granted == {"b": 0.0}
    with pytest.raises(PrivacyParameterError, match="the conversion alone costs"):
        ledger.curator.amend("a", PrivacyBudget(0.1, 1e-5), "too far")
    with pytest.raises(PrivacyParameterError, match="reason"):
        ledger.curator.amend("a", BUDGET, "  ")
    with pytest.raises(PrivacyParameterError, match="no account"):
        ledger.curator.amend("unknown", BUDGET, "why not")


@pytest.mark.parametrize(
    "arguments",
    [
        {"order": 1.0},
        {"order": 8.0},  # above the loss's max_order
        {"order": 4.0, "accounting": "guess"},
        {"order": 4.0, "on_exhausted": "ignore"},
        {"order": 4.0, "note": {"what": object()}},
        {"order": 4.0, "losses": {}},
        {"order": 4.0, "losses": {"": loss(1.0)}},
        {"order": 4.0, "losses": {7: loss(1.0)}},
        {"order": 4.0, "losses": {"a": 1.0}},
        {"order": 4.0, "losses": {"a": loss(-1.0)}},
        {"order": 4.0, "losses": {"a": loss(float("nan"))}},
        {"order": 1.1},  # nothing can be certified there
    ],
)
def test_arguments_out_of_range_are_refused_and_nothing_is_charged(
    sqlite_url: str, arguments: dict[str, Any]
) -> None:
    with PrivacyLedger(sqlite_url, budget=BUDGET) as ledger:
        with ledger._access.store.write():
            pass  # which makes one
        with pytest.raises(PrivacyParameterError):
            ledger.reserve(**{"losses": {"a": loss(1.0)}, **arguments})
        assert list(ledger.curator.entries()) == []
        assert list(ledger.curator.accounts()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "mysql://h/d"},
        {"url": "ledger.db"},
        {"url": "postgresql://h/d"},  # no key
        {"url": "sqlite:///x.db?mode=ro"},
        {"budget": 8.0},
        {"key": "short"},
        {"timeout": 0.0},
    ],
)
def test_unusable_arguments_of_the_ledger_are_refused(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PrivacyParameterError):
        PrivacyLedger(**{"url": f"sqlite:///{tmp_path}/x.db", **arguments}).account("a")


def test_spent_epsilon_is_the_conversion_of_what_was_spent(make: Make) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(amounts.nats_at_most(amounts.budget(TOTAL)))}, order=4.0)
    assert 8.0 - 1e-9 < ledger.account("a").spent_epsilon <= 8.0
    [account] = ledger.curator.accounts()
    assert account.unit != "a"
    assert account.epsilon == 8.0


def test_several_orders_convert_with_their_share_of_delta(make: Make) -> None:
    ledger = make(budget=BudgetPolicy(BUDGET, orders=(4.0, 8.0)))
    budget = amounts.nats_at_most(amounts.budget(converted(BUDGET, 2).loss_at(4.0)))
    ledger.reserve({"a": loss(budget)}, order=4.0)
    assert 8.0 - 1e-9 < ledger.account("a").spent_epsilon <= 8.0


def test_clocks_that_differ_a_little_do_not_turn_the_log_back(make: Make) -> None:
    times = [datetime(2030, 1, 1, tzinfo=UTC) - timedelta(minutes=minute) for minute in range(5)]
    remaining = iter(times)
    ledger = make(budget=BUDGET, clock=lambda: next(remaining))
    for _ in times:
        ledger.reserve({"a": loss(0.1)}, order=4.0)
    entries = list(ledger.curator.entries())
    assert {entry.time for entry in entries} == {times[0]}
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert ledger.curator.verify().ok


def test_a_host_whose_clock_is_wrong_stamps_its_own_entries_alone(make: Make) -> None:
    right, wrong = datetime(2030, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
    for time in (right, wrong, right):
        make(budget=BUDGET, clock=lambda time=time: time).reserve({"a": loss(0.1)}, order=4.0)
    ledger = make(budget=BUDGET)
    assert [entry.time for entry in ledger.curator.entries()] == [right, right, wrong, right]
    assert ledger.curator.verify().ok


@pytest.mark.parametrize("now", [None, "2030-01-01", datetime(2030, 1, 1), datetime(1970, 1, 1, tzinfo=UTC)])
def test_what_is_no_time_is_not_written(make: Make, now: Any) -> None:
    ledger = make(budget=BUDGET, clock=lambda: now)
    with pytest.raises(LedgerError, match="clock"):
        ledger.reserve({"a": loss(0.1)}, order=4.0)
    assert list(make(budget=BUDGET).curator.accounts()) == []


def test_what_answers_requests_can_neither_open_nor_amend_accounts() -> None:
    public = {name for name in dir(PrivacyLedger) if not name.startswith("_")}
    assert public == {
        "account",
        "close",
        "curator",
        "entity_key",
        "orders",
        "release_share",
        "reserve",
        "settle",
    }


def test_threads_share_a_ledger(make: Make) -> None:
    ledger = make(budget=BUDGET)
    refused = []

    def work() -> None:
        for _ in range(25):
            try:
                reservation = ledger.reserve({"a": loss(0.1)}, order=4.0)
            except BudgetExhaustedError:
                refused.append(1)
            else:
                ledger.settle(reservation, {"a": loss(0.05)})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 200 requests of 0.05 each: about 97 fit, less those that met others' open reservations.
    assert refused
    assert spent(ledger, "a") == pytest.approx(0.05 * (200 - len(refused)), abs=1e-9)
    assert spent(ledger, "a") <= TOTAL
    assert ledger.curator.verify().ok


def test_a_ledger_in_memory_serves_threads_and_refuses_a_forked_child() -> None:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(100.0)) as ledger:

        def work() -> None:
            for _ in range(20):
                ledger.settle(ledger.reserve({"a": loss(0.1)}, order=4.0), {"a": loss(0.05)})
                ledger.account("a")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert spent(ledger, "a") == pytest.approx(4.0)

        def in_forked() -> None:
            with pytest.raises(LedgerError, match="fork"):
                ledger.reserve({"a": loss(0.1)}, order=4.0)

        in_child(in_forked)


def test_a_forked_child_makes_its_own_connections(make: Make) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(0.5)}, order=4.0)

    def work() -> None:
        ledger.reserve({"a": loss(0.25)}, order=4.0)
        ledger.close()
        gc.collect()

    in_child(work)
    assert spent(ledger, "a") == 0.75
    ledger.reserve({"a": loss(0.25)}, order=4.0)  # the parent's connections are as they were
    assert spent(ledger, "a") == 1.0


def test_a_closed_ledger_says_so(make: Make) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(0.5)}, order=4.0)
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.reserve({"a": loss(0.5)}, order=4.0)


def test_no_unit_and_no_key_is_in_the_file(tmp_path: Path) -> None:
    ledger = PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=BUDGET, key="0123456789-secret-key")
    unit = "patient-Solheim"
    ledger.settle(ledger.reserve({unit: loss(0.5)}, order=4.0), {unit: loss(0.1)})
    ledger.curator.amend(unit, PrivacyBudget(9.0), "longer study")
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve({unit: loss(50.0)}, order=4.0)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "ledger.db-wal" in files
    content = b"".join(files.values())
    assert b"longer study" in content  # the file was read where it matters
    assert b"Solheim" not in content
    assert b"secret-key" not in content
    ledger.close()


def test_what_is_private_is_neither_shown_nor_logged(
    make: Make, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool", "psycopg"):
        caplog.set_level(logging.DEBUG, logger=name)
    ledger = make(budget=BUDGET, key="0123456789-secret-key")
    reservation = ledger.reserve({"a": loss(1.2345678)}, order=4.0, accounting="adaptive")
    ledger.settle(reservation, {"a": loss(0.7654321)})
    last = ledger.reserve({"a": loss(99.0)}, order=4.0, accounting="adaptive")
    shown = [
        repr(each) for each in (ledger, reservation, last, ledger.account("a"), *ledger.curator.entries())
    ]
    with pytest.raises(PrivacyParameterError) as mixed:
        ledger.reserve({"a": loss(1.0)}, order=4.0)
    with pytest.raises(LedgerError) as twice:
        ledger.settle(reservation, {"a": loss(0.3)})
    shown += [
        repr(mixed.value),
        repr(twice.value),
        str(ledger.curator.verify()),
        caplog.text,
        *capfd.readouterr(),
    ]
    text = " ".join(shown)
    left = TOTAL - 0.7654321
    numbers = ("1.2345678", "12345678", "0.7654321", "7654321", f"{left:.4f}", str(int(left * 1e12))[:6])
    assert not [secret for secret in ("secret-key", *numbers) if secret in text]


def test_the_password_of_a_url_is_not_shown() -> None:
    for url in ("postgresql://u:pa55w@host/db?password=pa55w", "postgresql://u:pa55w@pa55w@host/db"):
        shown = repr(PrivacyLedger(url, key="0123456789-secret-key"))
        assert "pa55w" not in shown
        assert shown == "PrivacyLedger('postgresql://host/db')"


class Model:
    """The same in a few lines of plain Python, for one order."""

    def __init__(self) -> None:
        self.budget: dict[str, int] = {}
        self.spent: dict[str, int] = {}

    def reserve(self, asked: dict[str, int]) -> bool:
        for unit in asked:
            if self.spent.get(unit, 0) + asked[unit] > self.budget.get(unit, amounts.budget(TOTAL)):
                return False
        for unit, amount in asked.items():
            self.budget.setdefault(unit, amounts.budget(TOTAL))
            self.spent[unit] = self.spent.get(unit, 0) + amount
        return True


nats = st.floats(0.0, 6.0, allow_subnormal=False)
units = st.sampled_from(["a", "b", "c"])
actions = st.one_of(
    st.tuples(st.just("reserve"), st.dictionaries(units, nats, min_size=1)),
    st.tuples(st.just("settle"), st.integers(0, 9), st.dictionaries(units, nats)),
    st.tuples(st.just("amend"), units, st.floats(4.0, 12.0)),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(actions, max_size=25))
def test_any_sequence_of_calls_agrees_with_a_plain_model(sequence: list[tuple[Any, ...]]) -> None:
    model, opened = Model(), []
    with PrivacyLedger("sqlite://", budget=BUDGET) as ledger:
        for kind, *rest in sequence:
            if kind == "reserve":
                asked = {unit: -int(-Fraction(value) * 10**12 // 1) for unit, value in rest[0].items()}
                losses = {unit: loss(value) for unit, value in rest[0].items()}
                if model.reserve(asked):
                    opened.append((ledger.reserve(losses, order=4.0), asked))
                else:
                    with pytest.raises(BudgetExhaustedError):
                        ledger.reserve(losses, order=4.0)
            elif kind == "settle" and rest[0] < len(opened):
                reservation, asked = opened.pop(rest[0])
                used = {unit: value for unit, value in rest[1].items() if unit in asked}
                ledger.settle(reservation, {unit: loss(value) for unit, value in used.items()})
                for unit, value in used.items():
                    model.spent[unit] -= max(0, asked[unit] + int(-Fraction(value) * 10**12 // 1))
            elif kind == "amend" and rest[0] in model.spent:
                budget = PrivacyBudget(rest[1])
                ledger.curator.amend(rest[0], budget, "a test")
                model.budget[rest[0]] = amounts.budget(converted(budget).loss_at(4.0))
        for unit, spent_amount in model.spent.items():
            assert spent(ledger, unit) == amounts.nats_at_least(spent_amount)
        assert len(list(ledger.curator.accounts())) == len(model.spent)
        assert ledger.curator.verify().ok


@given(st.floats(0.0, 1e5), st.integers(0, 10**17))
def test_rounding_never_favours_spending(value: float, amount: int) -> None:
    charged, allowed = amounts.charge(value), amounts.budget(value)
    assert charged is not None
    assert Fraction(allowed) <= Fraction(value) * 10**12 <= Fraction(charged)
    assert charged - allowed <= 1
    assert Fraction(amounts.nats_at_most(amount)) * 10**12 <= amount
    assert Fraction(amounts.nats_at_least(amount)) * 10**12 >= amount
