"""Examines a ledger from end to end: the log against its codes, and the accounts against the log.

Twice through the log, holding a page of it at a time. First in its order: is every entry genuine, and does
each follow the one before? Then account by account: what do the entries add up to, did each charge fit the
budget in force at its time, and is that what the ledger says of the account today?
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger.chain import (
    GENESIS,
    AccountState,
    Balance,
    is_genuine,
    read_amounts,
    read_delta,
    read_details,
)
from dpfusion_core.ledger.keys import Keyring

_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})", re.ASCII)
_MOST = 200  # problems that are told one by one

Progress = Callable[[int, int], None]
"""Is told how many rows have been read and how many there are to read."""


@dataclass(frozen=True)
class Verification:
    """What an examination of the ledger found.

    Attributes:
        ok: Whether there are no problems.
        entries: How many entries the log has.
        head: ``seq:hash`` of the last one. Note it elsewhere: given to a later ``verify``, it shows
            whether the log still contains everything that it contained today.
        problems: What is wrong, in words.
    """

    ok: bool
    entries: int
    head: str
    problems: tuple[str, ...]


def parse_head(head: str) -> tuple[int, str]:
    """Return number and hash of a head.

    Raises:
        PrivacyParameterError: If it is not one.
    """
    match = _HEAD.fullmatch(head) if isinstance(head, str) else None
    if match is None:
        raise PrivacyParameterError("Expected a head as `seq:hash`, as verify and export print it.")
    return int(match[1]), match[2]


class Problems:
    """What is wrong, in words; of a great many the first ones and their number."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._count = 0

    def add(self, problem: str) -> None:
        """Note a problem."""
        self._count += 1
        if self._count <= _MOST:
            self._first.append(problem)

    def all(self) -> tuple[str, ...]:
        """Return them."""
        more = self._count - len(self._first)
        return (*self._first, *([f"and {more} more problems"] if more else []))


class Chain:
    """Examines the log in its order.

    Args:
        keyring: The keys of the ledger.
        noted: A head noted earlier, if any.
        problems: Where to note problems.

    Attributes:
        count: How many rows were read.
        seq: Number of the last entry.
        hash: Its code.
        time: When it was written.
        broken: Numbers of the entries that are not genuine.
    """

    def __init__(self, keyring: Keyring, noted: tuple[int, str] | None, problems: Problems) -> None:
        self._keyring = keyring
        self._noted = noted
        self._problems = problems
        self.count = 0
        self.seq = 0
        self.hash = GENESIS
        self.time: object = ""
        self.broken: set[object] = set()

    def read(self, rows: Iterable[Sequence[Any]]) -> None:
        """Go through rows of the log, in order; may be called again with the rows that follow."""
        for row in rows:
            self.count += 1
            seq, previous, code = row[0], row[7], row[8]
            if type(seq) is not int or seq <= self.seq:  # nothing can follow such a row
                self._problems.add(f"a row after entry {self.seq} was changed, or written without the key")
                self.broken.add(seq)
                continue
            if seq != self.seq + 1:
                self._problems.add(f"entries {self.seq + 1} to {seq - 1} are missing from the log")
            elif previous != self.hash:
                self._problems.add(f"entry {seq} does not follow the one before it")
            if self._noted is not None and self._noted[0] == seq and self._noted[1] != code:
                self._problems.add(f"entry {seq} is not the one of the head that was noted earlier")
            if not is_genuine(self._keyring, row):
                self._problems.add(f"entry {seq} was changed, or written without the key")
                self.broken.add(seq)
            self.seq, self.hash, self.time = seq, code, row[1]

    def finish(self, heads: Sequence[tuple[Any, Any, Any]]) -> None:
        """Compare with the heads that the ledger has of itself; it should have one."""
        if self._noted is not None and self._noted[0] > self.seq:
            self._problems.add(
                f"the log ends at entry {self.seq}, before the head noted earlier (entry {self._noted[0]})"
            )
        if len(heads) != 1:
            self._problems.add(f"the ledger has {len(heads)} heads in place of one")
        for seq, code, time in heads[:1]:
            if (seq, code) != (self.seq, self.hash):
                said = seq if type(seq) is int else "something else"
                self._problems.add(f"the log ends at entry {self.seq}, the ledger says {said}")
            elif time != self.time:
                self._problems.add(f"the ledger has another time for entry {self.seq} than the log")


def compare(
    rows: Iterable[Sequence[Any]],
    stored: Iterable[tuple[str, AccountState]],
    broken: set[object],
    problems: Problems,
) -> None:
    """Compare the accounts that the log makes with those that the ledger has.

    Args:
        rows: Of each entry: unit, seq, kind, reservation, amounts, details; by unit and seq.
        stored: The accounts that the ledger has, by unit.
        broken: Numbers of entries that are not genuine; they are left out.
        problems: Where to note problems.
    """
    genuine = (row for row in rows if type(row[0]) is str and not (broken and row[1] in broken))
    logged = ((unit, _replay(group, problems)) for unit, group in groupby(genuine, itemgetter(0)))
    for unit, expected, found in _side_by_side(logged, iter(stored)):
        if found is None and expected is not None:
            problems.add(f"the account of unit {unit} is missing")
        elif expected is None and found is not None:
            problems.add(f"the account of unit {unit} was opened without an entry in the log")
        elif found != expected:
            problems.add(f"the account of unit {unit} is not what the log says")


def _replay(rows: Iterable[Sequence[Any]], problems: Problems) -> AccountState | None:
    """Work out an account from its entries; None if it was never opened."""
    account: AccountState | None = None
    reserved: dict[str, tuple[Mapping[float, int], int]] = {}
    for unit, seq, kind, reservation, text, more in rows:
        amounts, delta = read_amounts(text), read_delta(text)
        details = read_details(more)
        if kind == "open":
            if account is None:
                account = _opened(unit, amounts, details)
            else:  # it would have had its whole budget again
                problems.add(f"entry {seq} opens an account that was open already")
            continue
        closed = details.get("closed", ())
        if account is None or not (
            amounts.keys() <= account.balances.keys() and account.balances.keys() >= set(closed)
        ):
            problems.add(f"entry {seq} belongs to an account that was never opened")
            continue
        if kind == "amend":
            account.epsilon, account.delta = details["epsilon"], details["delta"]
            account.release_share = details.get("release_share", account.release_share)
            if (
                amounts.keys() != account.balances.keys()
                or details.get("shares", account.shares) != account.shares
            ):
                problems.add(f"entry {seq} amends an account that was another at its time")
            for order, amount in amounts.items():
                account.balances[order].budget = amount
            continue
        if kind == "settle":
            held, held_delta = reserved.pop(reservation, ({}, 0))
            if delta > held_delta or any(amount > held.get(order, 0) for order, amount in amounts.items()):
                problems.add(f"entry {seq} gives back more than was reserved")
        else:
            reserved[reservation] = amounts, delta
            if not _suits(account, details):
                problems.add(f"entry {seq} charges for a request of another kind than the account's")
            if not details.get("exhausted"):
                for order, each in account.balances.items():
                    if each.is_open and order not in amounts and order not in closed:
                        problems.add(f"entry {seq} leaves out an order at which the account is kept")
                        break
                if not _fitted(account, amounts, delta):
                    problems.add(f"entry {seq} charges more than the budget had left at its time")
        sign = 1 if kind == "reserve" else -1
        for order, amount in amounts.items():
            account.balances[order].spent += sign * amount
        for order in closed:
            account.balances[order].is_open = False
        account.release_spent += sign * delta
    return account


def _opened(unit: str, amounts: Mapping[float, int], details: Mapping[str, Any]) -> AccountState:
    return AccountState(
        unit,
        details["epsilon"],
        details["delta"],
        details["epsilon"],
        details["delta"],
        details["accounting"],
        details["neighbours"],
        details["shares"],
        details.get("release_share", 0.0),  # of an account from before there were releases
        0,
        {order: Balance(amount) for order, amount in amounts.items()},
    )


def _suits(account: AccountState, details: Mapping[str, Any]) -> bool:
    """Return whether a request was one that the account pays for: the rule of ``base.check_kind``."""
    accounting = details.get("accounting", account.accounting)
    neighbours = details.get("neighbours", account.neighbours)
    return accounting == account.accounting and not account.neighbours == "replace" != neighbours


def _fitted(account: AccountState, charged: Mapping[float, int], delta: int) -> bool:
    """Return whether the account could pay a charge: the rule of ``charges.weigh``.

    Fixed accounting: the charge fits if it does at some open order; it is charged at the others too.
    Adaptive accounting: what is granted is never more than what is left, and nothing if that is negative.
    Of the delta for releases no more is charged than is left, whatever the accounting.
    """
    delta_left = account.release_left
    if account.accounting == "adaptive" and delta_left < 0:
        return delta == 0 and not any(charged.values())
    if delta > delta_left:
        return False
    for order, amount in charged.items():
        balance = account.balances[order]
        left = balance.budget - balance.spent
        if account.accounting == "adaptive":
            left = max(0, left)
        if balance.is_open and left >= 0 and amount <= left:
            return True
    return False


def _side_by_side(
    logged: Iterator[tuple[str, AccountState | None]], stored: Iterator[tuple[str, AccountState]]
) -> Iterator[tuple[str, AccountState | None, AccountState | None]]:
    """Join two sequences that are in order of their units."""
    expected, found = next(logged, None), next(stored, None)
    while expected is not None or found is not None:
        if found is None or (expected is not None and expected[0] < found[0]):
            assert expected is not None
            yield expected[0], expected[1], None
            expected = next(logged, None)
        elif expected is None or found[0] < expected[0]:
            yield found[0], None, found[1]
            found = next(stored, None)
        else:
            yield found[0], expected[1], found[1]
            expected, found = next(logged, None), next(stored, None)
