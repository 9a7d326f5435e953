"""Whatever is done to the log or the balances from outside, verify finds it."""

import json
import math
import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpfusion_core.errors import BudgetExhaustedError, LedgerError, PrivacyParameterError
from dpfusion_core.ledger import BudgetPolicy, PrivacyLedger, chain, reading
from dpfusion_core.ledger.keys import Keyring
from dpfusion_core.privacy.budget import PrivacyBudget
from tests.benchmarks.big_ledger import fill as fill_much
from tests.core.ledger.conftest import KEY
from tests.core.ledger.helpers import loss, tamper

BUDGET = PrivacyBudget(8.0, 1e-5)
Make = Callable[..., PrivacyLedger]


def fill(ledger: PrivacyLedger) -> None:
    """Nine entries: open, reserve, settle for a; open, reserve for b; and so on."""
    ledger.settle(ledger.reserve({"a": loss(1.0)}, order=4.0, note={"tokens": 7}), {"a": loss(0.5)})  # 1 2 3
    ledger.reserve({"b": loss(1.0)}, order=4.0)  # 4 5
    ledger.curator.amend("b", PrivacyBudget(9.0), "longer study")  # 6
    ledger.reserve({"c": loss(2.0)}, order=4.0, accounting="adaptive")  # 7 8
    ledger.reserve({"a": loss(0.25)}, order=4.0)  # 9


def test_an_untouched_ledger_verifies_and_its_heads_stay_valid(make: Make) -> None:
    ledger = make(budget=BUDGET)
    with ledger._access.store.write():
        pass  # which makes one
    empty = ledger.curator.verify()
    assert (empty.ok, empty.entries, empty.head) == (True, 0, "0:" + "0" * 64)
    fill(ledger)
    found = ledger.curator.verify(empty.head)
    assert (found.ok, found.entries, found.problems) == (True, 9, ())
    last = list(ledger.curator.entries())[-1]
    assert found.head == f"{last.seq}:{last.hash}"
    ledger.reserve({"d": loss(0.5)}, order=4.0)
    assert ledger.curator.verify(found.head).ok


def test_entries_tell_what_happened(make: Make) -> None:
    ledger = make(budget=BUDGET)
    fill(ledger)
    entries = list(ledger.curator.entries())
    assert [entry.kind for entry in entries] == (
        ["open", "reserve", "settle", "open", "reserve", "amend", "open", "reserve", "reserve"]
    )
    assert [entry.seq for entry in entries] == list(range(1, 10))
    assert [entry.kind for entry in ledger.curator.entries("b")] == ["open", "reserve", "amend"]
    assert entries[1].amounts == {4.0: 10**12}
    assert entries[1].details == {"accounting": "fixed", "neighbours": "zero-out", "note": {"tokens": 7}}
    assert entries[2].amounts == {4.0: 5 * 10**11}
    assert entries[1].reservation == entries[2].reservation
    assert entries[3].previous == entries[2].hash
    assert json.loads(json.dumps(entries[1].as_dict()))["amounts"] == {"4.0": 10**12}


def test_the_ledger_can_be_used_while_its_log_is_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE", 2)
    with PrivacyLedger("sqlite://", budget=BUDGET, timeout=5.0) as in_memory:
        for ledger in (make(budget=BUDGET), in_memory):
            fill(ledger)
            seen = []
            for entry in ledger.curator.entries():
                seen.append(entry.seq)
                if len(seen) == 1:
                    ledger.reserve({"a": loss(0.125)}, order=4.0)
            assert seen == list(range(1, 11))
            assert [entry.seq for entry in ledger.curator.entries("a")] == [1, 2, 3, 9, 10]
            assert ledger.curator.verify().entries == 10


MEND_HEAD = (
    "UPDATE dpfusion_meta SET seq = (SELECT max(seq) FROM dpfusion_log), "
    "head = (SELECT hash FROM dpfusion_log ORDER BY seq DESC LIMIT 1)"
)


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["UPDATE dpfusion_log SET amounts = '{\"4.0\":1}' WHERE seq = 2"], "entry 2 was changed"),
        (["UPDATE dpfusion_log SET time = '2001-01-01T00:00:00+00:00' WHERE seq = 2"], "entry 2 was changed"),
        (["UPDATE dpfusion_log SET kind = 'settle' WHERE seq = 5"], "entry 5 was changed"),
        (["UPDATE dpfusion_log SET reservation = 'x' WHERE seq = 5"], "entry 5 was changed"),
        (["UPDATE dpfusion_log SET details = '{}' WHERE seq = 6"], "entry 6 was changed"),
        (["UPDATE dpfusion_log SET hash = previous WHERE seq = 9", MEND_HEAD], "entry 9 was changed"),
        (
            ["UPDATE dpfusion_log SET unit = (SELECT unit FROM dpfusion_log WHERE seq = 1) WHERE seq = 5"],
            "entry 5 was changed",
        ),
        (["DELETE FROM dpfusion_log WHERE seq = 5"], "entries 5 to 5 are missing"),
        (["DELETE FROM dpfusion_log WHERE seq = 1"], "entries 1 to 1 are missing"),
        (
            [
                "DELETE FROM dpfusion_log WHERE seq = 5",
                *[f"UPDATE dpfusion_log SET seq = {seq - 1} WHERE seq = {seq}" for seq in range(6, 10)],
                MEND_HEAD,
            ],
            "entry 5 does not follow",
        ),
        (["DELETE FROM dpfusion_log WHERE seq = 9"], "ends at entry 8, the ledger says 9"),
        (["DELETE FROM dpfusion_log WHERE seq = 9", MEND_HEAD], "is not what the log says"),
        (
            [
                "INSERT INTO dpfusion_log SELECT 10, time, kind, unit, reservation, amounts, details, hash, hash "
                "FROM dpfusion_log WHERE seq = 9",
                MEND_HEAD,
            ],
            "entry 10 was changed, or written without the key",
        ),
        (["UPDATE dpfusion_balances SET spent = 0"], "is not what the log says"),
        (["UPDATE dpfusion_balances SET budget = budget + 1"], "is not what the log says"),
        (["UPDATE dpfusion_balances SET is_open = (1 = 0)"], "is not what the log says"),
        (["UPDATE dpfusion_accounts SET epsilon = 99"], "is not what the log says"),
        (["UPDATE dpfusion_accounts SET opened_epsilon = 99"], "is not what the log says"),
        (["UPDATE dpfusion_accounts SET accounting = 'adaptive'"], "is not what the log says"),
        (["UPDATE dpfusion_accounts SET neighbours = 'replace'"], "is not what the log says"),
        (["DELETE FROM dpfusion_balances", "DELETE FROM dpfusion_accounts"], "is missing"),
        (
            [
                "INSERT INTO dpfusion_accounts SELECT 'f', epsilon, delta, opened_epsilon, opened_delta, "
                "accounting, neighbours, shares, release_share, release_spent FROM dpfusion_accounts LIMIT 1",
                "INSERT INTO dpfusion_balances VALUES ('f', 4.0, 1, 0, (1 = 1))",
            ],
            "f was opened without an entry",
        ),
        (["UPDATE dpfusion_meta SET seq = 20"], "the ledger says 20"),
        (["UPDATE dpfusion_meta SET head = 'x'"], "the ledger says 9"),
        (["UPDATE dpfusion_meta SET time = '2099-01-01T00:00:00.000000+00:00'"], "another time for entry 9"),
    ],
)
def test_every_kind_of_tampering_is_found(make: Make, url: str, statements: list[str], problem: str) -> None:
    ledger = make(budget=BUDGET)
    fill(ledger)
    tamper(url, *statements)
    found = ledger.curator.verify()
    assert not found.ok
    assert any(problem in each for each in found.problems), found.problems


def test_an_account_that_was_emptied_asked_and_set_right_again_is_found(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    most = BUDGET.loss_at(4.0) * 0.9
    ledger.reserve({"a": loss(most)}, order=4.0)
    for _ in range(9):
        tamper(url, "UPDATE dpfusion_balances SET spent = 0")
        ledger.reserve({"a": loss(most)}, order=4.0)
    [entry, *_] = [each for each in ledger.curator.entries() if each.kind == "reserve"]
    tamper(url, f"UPDATE dpfusion_balances SET spent = {10 * entry.amounts[4.0]}")
    problems = ledger.curator.verify().problems
    assert problems == tuple(
        f"entry {seq} charges more than the budget had left at its time" for seq in range(3, 12)
    )


@pytest.mark.parametrize("accounting", ["fixed", "adaptive"])
def test_a_budget_that_was_raised_for_one_request_is_found(make: Make, url: str, accounting: Any) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(4.0)}, order=4.0, accounting=accounting)
    tamper(url, "UPDATE dpfusion_balances SET budget = budget + 9000000000000")
    ledger.reserve({"a": loss(4.0)}, order=4.0, accounting=accounting)
    tamper(url, "UPDATE dpfusion_balances SET budget = budget - 9000000000000")
    assert ledger.curator.verify().problems == ("entry 3 charges more than the budget had left at its time",)


def test_an_order_that_was_hidden_from_requests_is_found(make: Make, url: str) -> None:
    ledger = make(budget=BudgetPolicy(PrivacyBudget(16.0), orders=(4.0, 8.0)))
    total = {each.order: each.budget for each in ledger.curator.open("a", order=4.0).balances}
    for order, other in ((4.0, 8.0), (8.0, 4.0)):  # the whole budget at one, and once more at the other
        tamper(url, f"UPDATE dpfusion_balances SET is_open = (1 = 0) WHERE renyi_order = {other}")
        ledger.reserve({"a": loss(total[order], 8.0)}, order=4.0)
        tamper(url, "UPDATE dpfusion_balances SET is_open = (1 = 1)")
    assert ledger.curator.verify().problems == tuple(
        f"entry {seq} leaves out an order at which the account is kept" for seq in (2, 3)
    )


def test_an_order_that_the_account_never_had_is_found(make: Make, url: str) -> None:
    ledger = make(budget=BudgetPolicy(PrivacyBudget(16.0), orders=(4.0, 8.0)))
    ledger.curator.open("a", order=4.0)
    tamper(url, "UPDATE dpfusion_balances SET renyi_order = 99 WHERE renyi_order = 4.0")
    ledger.reserve({"a": loss(0.5, 8.0)}, order=4.0)  # which closes it: nothing is known of the loss there
    tamper(url, "UPDATE dpfusion_balances SET renyi_order = 4.0, is_open = (1 = 1) WHERE renyi_order = 99")
    assert "entry 2 belongs to an account that was never opened" in ledger.curator.verify().problems


def test_an_order_that_was_hidden_from_an_amendment_is_found(make: Make, url: str) -> None:
    ledger = make(budget=BudgetPolicy(PrivacyBudget(16.0), orders=(4.0, 8.0)))
    ledger.curator.open("a", order=4.0)
    tamper(url, "UPDATE dpfusion_balances SET unit = 'x' WHERE renyi_order = 4.0")
    ledger.curator.amend("a", PrivacyBudget(8.0), "less")
    tamper(
        url,
        "UPDATE dpfusion_balances SET unit = (SELECT unit FROM dpfusion_accounts) WHERE renyi_order = 4.0",
    )
    assert ledger.curator.verify().problems == ("entry 2 amends an account that was another at its time",)


@pytest.mark.parametrize(
    ("kind", "column", "value"),
    [
        ({"neighbours": "replace"}, "neighbours", "zero-out"),
        ({"accounting": "fixed"}, "accounting", "adaptive"),
        ({"accounting": "adaptive"}, "accounting", "fixed"),
    ],
)
def test_an_account_that_was_of_another_kind_for_one_request_is_found(
    make: Make, url: str, kind: dict[str, Any], column: str, value: str
) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(0.1)}, order=4.0, **kind)
    tamper(url, f"UPDATE dpfusion_accounts SET {column} = '{value}'")
    ledger.reserve({"a": loss(0.1)}, order=4.0, **{**kind, column: value})
    tamper(url, f"UPDATE dpfusion_accounts SET {column} = '{kind[column]}'")
    assert ledger.curator.verify().problems == (
        "entry 3 charges for a request of another kind than the account's",
    )


def test_a_delta_that_was_shared_by_fewer_orders_for_an_amendment_is_found(make: Make, url: str) -> None:
    ledger = make(budget=BudgetPolicy(PrivacyBudget(16.0), orders=(4.0, 8.0)))
    ledger.curator.open("a", order=4.0)
    tamper(url, "UPDATE dpfusion_accounts SET shares = 1")
    ledger.curator.amend("a", PrivacyBudget(17.0), "more")
    tamper(url, "UPDATE dpfusion_accounts SET shares = 2")
    assert ledger.curator.verify().problems == ("entry 2 amends an account that was another at its time",)


def test_what_a_head_cannot_hold_is_an_error_of_ours(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    fill(ledger)
    tamper(url, f"UPDATE dpfusion_meta SET seq = {2**63 - 1}")
    with pytest.raises(LedgerError, match="head of the ledger was changed"):
        ledger.reserve({"a": loss(0.1)}, order=4.0)


@pytest.mark.parametrize("accounting", ["fixed", "adaptive"])
def test_a_delta_that_was_set_back_for_one_release_is_found(make: Make, url: str, accounting: Any) -> None:
    ledger = make(budget=BUDGET)
    for _ in range(2):
        ledger.reserve({"a": loss(0.1, delta=6e-7)}, order=4.0, accounting=accounting)
        tamper(url, "UPDATE dpfusion_accounts SET release_spent = 0")
    tamper(url, f"UPDATE dpfusion_accounts SET release_spent = {12 * 10**11}")
    problems = ledger.curator.verify().problems
    assert "entry 3 charges more than the budget had left at its time" in problems


def test_a_delta_that_was_given_back_twice_is_found(make: Make) -> None:
    ledger = make(budget=BUDGET)
    held = ledger.reserve({"a": loss(0.1, delta=4e-7)}, order=4.0)
    with ledger._access.store.write() as connection:
        transaction = ledger._access.transaction(connection)
        [hashed] = ledger._access.hash(["a"]).values()
        state = transaction.accounts([hashed])[hashed]
        state.release_spent = 0
        transaction.append("settle", hashed, held.id, {}, {}, state, 2 * 4 * 10**11)
        transaction.finish()
    assert "entry 3 gives back more than was reserved" in ledger.curator.verify().problems


@pytest.mark.parametrize("accounting", ["fixed", "adaptive"])
def test_deltas_are_logged_exported_and_examined(make: Make, accounting: Any) -> None:
    ledger = make(budget=BUDGET)
    held = ledger.reserve({"a": loss(0.1, delta=4e-7)}, order=4.0, accounting=accounting)
    ledger.settle(held, {"a": loss(0.1, delta=1e-7)})
    charged, back = list(ledger.curator.entries("a"))[1:]
    assert (charged.delta, back.delta) == pytest.approx((4 * 10**11, 3 * 10**11), abs=1)
    assert "delta" not in repr(charged).partition("details=")[0]  # private like the amounts
    lines = [json.loads(line) for _, line in ledger.curator.lines("a")]
    assert lines == [entry.as_dict() for entry in ledger.curator.entries("a")]
    assert lines[1]["amounts"]["delta"] == charged.delta
    assert ledger.curator.verify().ok


def test_an_account_that_was_taken_away_and_opened_anew_is_found(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(4.0)}, order=4.0)
    tamper(url, "DELETE FROM dpfusion_balances", "DELETE FROM dpfusion_accounts")
    ledger.reserve({"a": loss(4.0)}, order=4.0)
    problems = ledger.curator.verify().problems
    assert problems[0] == "entry 3 opens an account that was open already"
    assert problems[1] == "entry 4 charges more than the budget had left at its time"


def test_a_reservation_whose_settlement_was_hidden_for_a_while_is_found(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    held = ledger.reserve({"a": loss(2.0)}, order=4.0)
    ledger.reserve({"a": loss(2.0)}, order=4.0)
    ledger.settle(held, {"a": loss(0.0)})
    tamper(url, "UPDATE dpfusion_log SET reservation = 'x' WHERE kind = 'settle'")
    ledger.settle(held, {"a": loss(0.0)})
    tamper(
        url,
        "UPDATE dpfusion_log SET reservation = (SELECT reservation FROM dpfusion_log WHERE seq = 2) "
        "WHERE reservation = 'x'",
    )
    assert ledger.curator.verify().problems == ("entry 5 gives back more than was reserved",)


def test_charges_that_fitted_are_never_called_too_large(make: Make) -> None:
    policy = BudgetPolicy(BUDGET, orders=(4.0, 8.0, 16.0))
    ledger = make(budget=policy)
    total = {each.order: each.budget for each in ledger.curator.open("a", order=4.0).balances}
    ledger.reserve({"a": loss(min(total.values()), 16.0)}, order=4.0)  # to the last bit at one order
    ledger.reserve({"a": loss(0.0, 16.0)}, order=4.0)
    ledger.reserve({"a": loss(math.inf)}, order=4.0, on_exhausted="zero-out")
    ledger.reserve({"a": loss(0.0, 8.0)}, order=4.0)  # closes one
    ledger.curator.amend("a", PrivacyBudget(3.0, 1e-2), "less than what was spent")
    ledger.reserve({"a": loss(9.0, 16.0)}, order=4.0, on_exhausted="zero-out")
    ledger.curator.amend("a", PrivacyBudget(9.0, 1e-5), "more")
    ledger.reserve({"a": loss(0.5, 16.0)}, order=4.0)
    ledger.reserve({"b": loss(99.0)}, order=4.0, accounting="adaptive")
    ledger.curator.amend("b", PrivacyBudget(5.0, 1e-5), "less than what was spent")
    ledger.reserve({"b": loss(99.0)}, order=4.0, accounting="adaptive")
    assert ledger.curator.verify().problems == ()


STRAYS = {
    "a row of the log": "INSERT INTO dpfusion_log SELECT -7, time, kind, unit, reservation, amounts, details, "
    "previous, hash FROM dpfusion_log WHERE seq = 2",
    "a row numbered zero": "INSERT INTO dpfusion_log SELECT 0, time, kind, unit, reservation, amounts, "
    "details, previous, hash FROM dpfusion_log WHERE seq = 2",
    "a balance": "INSERT INTO dpfusion_balances VALUES ('f', 4.0, 1, 0, (1 = 1))",
    "an order": "INSERT INTO dpfusion_balances SELECT unit, 32.0, 9, 0, is_open FROM dpfusion_balances LIMIT 1",
    "an account": "INSERT INTO dpfusion_accounts SELECT 'f', epsilon, delta, opened_epsilon, opened_delta, "
    "accounting, neighbours, shares, release_share, release_spent FROM dpfusion_accounts LIMIT 1",
    "a head": "INSERT INTO dpfusion_meta SELECT 2, schema_version, key_fingerprint, seq, head, time "
    "FROM dpfusion_meta",
}


@pytest.mark.parametrize("statement", STRAYS.values(), ids=STRAYS)
def test_rows_that_belong_nowhere_are_found(make: Make, url: str, statement: str) -> None:
    ledger = make(budget=BUDGET)
    fill(ledger)
    tamper(url, statement)
    assert not ledger.curator.verify().ok


VALUES = ["'x'", "x'ff00'", "1.5", "'{'", "-1", "''", "9999999999999999999", "'[[[['", "CAST(x'ff' AS TEXT)"]
COLUMNS = [
    *[f"dpfusion_log SET {c}" for c in ("seq", "time", "kind", "unit", "reservation", "amounts", "details")],
    *[f"dpfusion_log SET {c}" for c in ("previous", "hash")],
    *[f"dpfusion_accounts SET {c}" for c in ("unit", "epsilon", "delta", "opened_epsilon", "shares")],
    *[f"dpfusion_accounts SET {c}" for c in ("release_share", "release_spent")],
    *[f"dpfusion_accounts SET {c}" for c in ("accounting", "neighbours")],
    *[f"dpfusion_balances SET {c}" for c in ("unit", "renyi_order", "budget", "spent", "is_open")],
    *[f"dpfusion_meta SET {c}" for c in ("seq", "head", "time", "schema_version", "key_fingerprint")],
]


@pytest.mark.parametrize("column", COLUMNS)
def test_values_of_any_type_are_a_problem_or_an_error_of_ours(sqlite_url: str, column: str) -> None:
    for value in VALUES:
        path = Path(sqlite_url.removeprefix("sqlite:///"))
        for each in path.parent.iterdir():
            each.unlink()
        with PrivacyLedger(sqlite_url, budget=BUDGET, key=KEY) as ledger:
            held = ledger.reserve({"a": loss(1.0)}, order=4.0)
        table = column.split()[0]
        key = "rowid" if table.endswith(("log", "meta")) else "unit"  # the others have no rowid
        tamper(sqlite_url, f"UPDATE {column} = {value} WHERE {key} = (SELECT max({key}) FROM {table})")
        with PrivacyLedger(sqlite_url, budget=BUDGET, key=KEY) as ledger:
            for look in (lambda: list(ledger.curator.accounts()), lambda: list(ledger.curator.entries())):
                with suppress(LedgerError, PrivacyParameterError):
                    look()
            refused: list[str] = []
            try:
                refused += ledger.curator.verify().problems
            except LedgerError as error:
                refused.append(str(error))
            harmless = column.endswith("meta SET time")  # found when the next entry is written
            assert refused or harmless, value
            assert "\ufffd" not in str(refused)
            for use in (
                lambda held=held: ledger.settle(held, {"a": loss(0.5)}),
                lambda: ledger.reserve({"a": loss(0.5)}, order=4.0),
                lambda: ledger.curator.open("a", order=4.0),
                lambda: ledger.account("a"),
                lambda: ledger.orders(["a"]),
                lambda: ledger.curator.amend("a", BUDGET, "why"),
            ):
                with suppress(LedgerError, PrivacyParameterError, BudgetExhaustedError):
                    use()


def test_looking_at_all_of_a_ledger_takes_the_memory_of_a_page(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE", 100)
    peaks: dict[int, list[int]] = {}
    with PrivacyLedger(sqlite_url, key=KEY) as ledger:
        for entries in (1_500, 6_000):
            fill_much(ledger, entries, entries // 3, name=str(entries))
            looks: list[Callable[[], object]] = [
                ledger.curator.verify,
                lambda: sum(1 for _ in ledger.curator.accounts()),
                lambda: sum(1 for _ in ledger.curator.entries()),
                lambda: sum(1 for _ in ledger.curator.lines()),
            ]
            for look in looks:
                look()  # caches of statements fill
                tracemalloc.start()
                look()
                peaks.setdefault(entries, []).append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
    for few, many in zip(*peaks.values(), strict=True):
        assert many < 1.3 * few + 50_000


def test_progress_tells_how_far_it_is(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE", 4)
    ledger = make(budget=BUDGET)
    fill(ledger)
    for look, last in (
        (lambda told: ledger.curator.verify(None, told), 18),
        (lambda told: list(ledger.curator.entries(None, told)), 9),
        (lambda told: list(ledger.curator.lines(progress=told)), 9),
        (lambda told: list(ledger.curator.accounts(told)), 3),
    ):
        told: list[tuple[int, int]] = []
        look(lambda done, total, told=told: told.append((done, total)))
        assert told[-1] == (last, last)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert len(told) >= last // 9 * 3 or last == 3


def test_lines_are_the_entries_as_json(make: Make) -> None:
    ledger = make(budget=BUDGET)
    fill(ledger)
    entries, lines = list(ledger.curator.entries()), list(ledger.curator.lines())
    assert [line for _, line in lines] == [json.dumps(each.as_dict(), sort_keys=True) for each in entries]
    assert [head for head, _ in lines] == [f"{each.seq}:{each.hash}" for each in entries]
    assert len(list(ledger.curator.lines("a"))) == 4


@given(
    st.tuples(st.integers(1, 2**62), *[st.text()] * 3, st.none() | st.text(), *[st.text()] * 4),
)
def test_the_code_covers_the_json_text_of_a_row(row: tuple[Any, ...]) -> None:
    keyring = Keyring(b"a key of enough bytes")
    assert chain.seal(keyring, row) == keyring.seal(chain.canonical(row[:-1]))


def test_null_in_a_column_is_found(sqlite_url: str) -> None:
    with PrivacyLedger(sqlite_url, budget=BUDGET, key=KEY) as ledger:
        ledger.reserve({"a": loss(1.0)}, order=4.0)
        with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(
                "UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'dpfusion_balances'"
            )
        connection.close()
        tamper(sqlite_url, "UPDATE dpfusion_balances SET spent = NULL")
        assert not ledger.curator.verify().ok
        for call in (lambda: ledger.reserve({"a": loss(0.1)}, order=4.0), lambda: ledger.account("a")):
            with pytest.raises(LedgerError, match="ledger verify"):
                call()


def test_of_a_great_many_problems_the_first_are_told(make: Make, url: str) -> None:
    ledger = make(budget=PrivacyBudget(1e6))
    for _ in range(250):
        ledger.reserve({"a": loss(0.1)}, order=4.0)
    tamper(url, "UPDATE dpfusion_log SET details = '[]'")
    problems = ledger.curator.verify().problems
    assert len(problems) == 201
    assert problems[0] == "entry 1 was changed, or written without the key"
    assert problems[-1] == "and 52 more problems"


def test_a_log_cut_back_together_with_its_balances_is_found_by_a_head(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    fill(ledger)
    head = ledger.curator.verify().head
    cut = [
        "DELETE FROM dpfusion_log WHERE seq = 9",
        "UPDATE dpfusion_balances SET spent = spent - 250000000000 "
        "WHERE unit = (SELECT unit FROM dpfusion_log WHERE seq = 1)",
        MEND_HEAD,
        "UPDATE dpfusion_meta SET time = (SELECT time FROM dpfusion_log ORDER BY seq DESC LIMIT 1)",
    ]
    tamper(url, *cut)
    assert ledger.curator.verify().ok  # no one can tell from the ledger alone
    assert any("before the head noted earlier" in each for each in ledger.curator.verify(head).problems)
    ledger.reserve({"a": loss(0.125)}, order=4.0)  # and if the log grows again
    assert any("entry 9 is not the one" in each for each in ledger.curator.verify(head).problems)


def test_settling_by_an_entry_that_was_changed_is_refused(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    first = ledger.reserve({"a": loss(1.0)}, order=4.0)
    ledger.reserve({"a": loss(2.0)}, order=4.0)
    tamper(url, "UPDATE dpfusion_log SET amounts = '{\"4.0\":3000000000000}' WHERE seq = 2")
    with pytest.raises(LedgerError, match="changed from outside"):
        ledger.settle(first, {"a": loss(0.0)})
    assert ledger.account("a").balances[0].spent == 3.0


def test_settling_against_a_balance_that_is_too_low_is_refused(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    reservation = ledger.reserve({"a": loss(1.0)}, order=4.0)
    tamper(url, "UPDATE dpfusion_balances SET spent = 0")
    with pytest.raises(LedgerError, match="ledger verify"):
        ledger.settle(reservation, {"a": loss(0.0)})


@pytest.mark.parametrize("head", ["", "9", "9:abc", "x:" + "0" * 64, "9:" + "0" * 64 + "\n"])
def test_what_is_not_a_head_is_refused(make: Make, head: str) -> None:
    with pytest.raises(PrivacyParameterError, match="seq:hash"):
        make(budget=BUDGET).curator.verify(head)


def test_problems_tell_no_amounts(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"c": loss(1.2345678)}, order=4.0, accounting="adaptive")
    tamper(url, "UPDATE dpfusion_balances SET spent = 777777")
    assert "2345678" not in str(ledger.curator.verify())
    assert "777777" not in str(ledger.curator.verify())
