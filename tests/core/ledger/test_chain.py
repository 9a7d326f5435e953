"""Whatever is done to the log or the balances from outside, verify finds it."""

import json
from collections.abc import Callable

import pytest

from dpfusion_core.errors import LedgerError, PrivacyParameterError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.privacy.budget import PrivacyBudget
from tests.core.ledger.helpers import loss, tamper

BUDGET = PrivacyBudget(8.0, 1e-5)
Make = Callable[..., PrivacyLedger]


def fill(ledger: PrivacyLedger) -> None:
    """Nine entries: open, reserve, settle for a; open, reserve for b; and so on."""
    ledger.settle(ledger.reserve({"a": loss(1.0)}, order=4.0, note={"tokens": 7}), {"a": loss(0.5)})  # 1 2 3
    ledger.reserve({"b": loss(1.0)}, order=4.0)  # 4 5
    ledger.amend("b", PrivacyBudget(9.0), "longer study")  # 6
    ledger.reserve({"c": loss(2.0)}, order=4.0, accounting="adaptive")  # 7 8
    ledger.reserve({"a": loss(0.25)}, order=4.0)  # 9


def test_an_untouched_ledger_verifies_and_its_heads_stay_valid(make: Make) -> None:
    ledger = make(budget=BUDGET)
    empty = ledger.verify()
    assert (empty.ok, empty.entries, empty.head) == (True, 0, "0:" + "0" * 64)
    fill(ledger)
    found = ledger.verify(empty.head)
    assert (found.ok, found.entries, found.problems) == (True, 9, ())
    last = list(ledger.entries())[-1]
    assert found.head == f"{last.seq}:{last.hash}"
    ledger.reserve({"d": loss(0.5)}, order=4.0)
    assert ledger.verify(found.head).ok


def test_entries_tell_what_happened(make: Make) -> None:
    ledger = make(budget=BUDGET)
    fill(ledger)
    entries = list(ledger.entries())
    assert [entry.kind for entry in entries] == (
        ["open", "reserve", "settle", "open", "reserve", "amend", "open", "reserve", "reserve"]
    )
    assert [entry.seq for entry in entries] == list(range(1, 10))
    assert [entry.kind for entry in ledger.entries("b")] == ["open", "reserve", "amend"]
    assert entries[1].amounts == {4.0: 10**12}
    assert entries[1].details == {"note": {"tokens": 7}}
    assert entries[2].amounts == {4.0: 5 * 10**11}
    assert entries[1].reservation == entries[2].reservation
    assert entries[3].previous == entries[2].hash
    assert json.loads(json.dumps(entries[1].as_dict()))["amounts"] == {"4.0": 10**12}


def test_the_ledger_can_be_used_while_its_log_is_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from dpfusion_core.ledger import transaction

    monkeypatch.setattr(transaction, "_PAGE_OF_LOG", transaction._PAGE_OF_LOG.limit(2))
    monkeypatch.setattr(transaction, "_PAGE_OF_UNIT", transaction._PAGE_OF_UNIT.limit(2))
    with PrivacyLedger("sqlite://", budget=BUDGET, timeout=5.0) as in_memory:
        for ledger in (make(budget=BUDGET), in_memory):
            fill(ledger)
            seen = []
            for entry in ledger.entries():
                seen.append(entry.seq)
                if len(seen) == 1:
                    ledger.reserve({"a": loss(0.125)}, order=4.0)
            assert seen == list(range(1, 11))
            assert [entry.seq for entry in ledger.entries("a")] == [1, 2, 3, 9, 10]
            assert ledger.verify().entries == 10


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
                "accounting, neighbours, shares FROM dpfusion_accounts LIMIT 1",
                "INSERT INTO dpfusion_balances VALUES ('f', 4.0, 1, 0, (1 = 1))",
            ],
            "f was opened without an entry",
        ),
        (["UPDATE dpfusion_meta SET seq = 20"], "the ledger says 20"),
        (["UPDATE dpfusion_meta SET head = 'x'"], "the ledger says 9"),
    ],
)
def test_every_kind_of_tampering_is_found(make: Make, url: str, statements: list[str], problem: str) -> None:
    ledger = make(budget=BUDGET)
    fill(ledger)
    tamper(url, *statements)
    found = ledger.verify()
    assert not found.ok
    assert any(problem in each for each in found.problems), found.problems


def test_a_log_cut_back_together_with_its_balances_is_found_by_a_head(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    fill(ledger)
    head = ledger.verify().head
    cut = [
        "DELETE FROM dpfusion_log WHERE seq = 9",
        "UPDATE dpfusion_balances SET spent = spent - 250000000000 "
        "WHERE unit = (SELECT unit FROM dpfusion_log WHERE seq = 1)",
        MEND_HEAD,
    ]
    tamper(url, *cut)
    assert ledger.verify().ok  # no one can tell from the ledger alone
    assert any("before the head noted earlier" in each for each in ledger.verify(head).problems)
    ledger.reserve({"a": loss(0.125)}, order=4.0)  # and if the log grows again
    assert any("entry 9 is not the one" in each for each in ledger.verify(head).problems)


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
        make(budget=BUDGET).verify(head)


def test_problems_tell_no_amounts(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"c": loss(1.2345678)}, order=4.0, accounting="adaptive")
    tamper(url, "UPDATE dpfusion_balances SET spent = 777777")
    assert "2345678" not in str(ledger.verify())
    assert "777777" not in str(ledger.verify())
