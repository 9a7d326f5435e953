"""The charge log: a chain of authenticated entries from which every balance can be worked out again.

Each entry carries the authentication code (HMAC-SHA256) of itself and of the entry before. Who can
write to the database but has no key cannot make an entry, change one, or take one out of the middle
unseen. Taking entries off the end leaves the balances unexplained; doing that *and* setting the balances
back is found by whoever noted a head (``seq:hash``) earlier.
"""

import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from dpfusion_core.errors import PrivacyParameterError, errors_as
from dpfusion_core.ledger.keys import Keyring

Kind = Literal["open", "reserve", "settle", "amend"]
GENESIS = "0" * 64  # stands before the first entry
_HEAD = re.compile(r"(\d+):([0-9a-f]{64})")


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the charge log.

    Attributes:
        seq: Number in the log, from 1, without gaps.
        time: When, UTC; never before the entry before it.
        kind: "open" and "amend" set budgets, "reserve" charges, "settle" gives back.
        unit: Keyed hash of the privacy unit's id.
        reservation: Which reservation an entry of kind "reserve" or "settle" belongs to.
        amounts: Amounts by order, in 1e-12 nats. Not shown by ``repr``: under adaptive accounting
            they are private, for the curator only.
        details: What else was recorded: the caller's note, the budget, the reason of an amendment.
        previous: ``hash`` of the entry before.
        hash: Authentication code of this entry and ``previous``.
    """

    seq: int
    time: datetime
    kind: Kind
    unit: str
    reservation: str | None
    amounts: Mapping[float, int] = field(repr=False)
    details: Mapping[str, Any]
    previous: str
    hash: str

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as a line of an export: values that JSON knows."""
        return {
            "seq": self.seq,
            "time": self.time.isoformat(timespec="microseconds"),
            "kind": self.kind,
            "unit": self.unit,
            "reservation": self.reservation,
            "amounts": {repr(order): amount for order, amount in self.amounts.items()},
            "details": dict(self.details),
            "previous": self.previous,
            "hash": self.hash,
        }


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


@dataclass
class Balance:
    """What an account holds at one order: amounts of 1e-12 nats."""

    budget: int
    spent: int = 0
    is_open: bool = True


@dataclass
class AccountState:
    """An account as the store keeps it."""

    unit: str  # the keyed hash
    epsilon: float
    delta: float
    opened_epsilon: float
    opened_delta: float
    accounting: str
    neighbours: str
    shares: int  # into how many parts delta was divided
    balances: dict[float, Balance]


def canonical(value: object) -> str:
    """Return the one JSON text of a value.

    Raises:
        PrivacyParameterError: If JSON cannot hold it.
    """
    with errors_as(PrivacyParameterError, "Expected a note of values that JSON knows."):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def seal(keyring: Keyring, row: Mapping[str, Any]) -> str:
    """Return the code of a row of the log, which covers everything but the code itself."""
    names = ("seq", "time", "kind", "unit", "reservation", "amounts", "details", "previous")
    return keyring.seal(canonical([row[name] for name in names]))


def is_genuine(keyring: Keyring, row: Mapping[str, Any]) -> bool:
    """Return whether a row of the log is as it was written."""
    return hmac.compare_digest(seal(keyring, row).encode(), str(row["hash"]).encode())


def read_amounts(row: Mapping[str, Any]) -> dict[float, int]:
    """Return the amounts of a row by order."""
    return {float(order): int(amount) for order, amount in json.loads(row["amounts"]).items()}


def as_entry(row: Mapping[str, Any]) -> LedgerEntry:
    """Return a row of the log as callers see it."""
    return LedgerEntry(
        seq=row["seq"],
        time=datetime.fromisoformat(row["time"]),
        kind=row["kind"],
        unit=row["unit"],
        reservation=row["reservation"],
        amounts=read_amounts(row),
        details=json.loads(row["details"]),
        previous=row["previous"],
        hash=row["hash"],
    )


def parse_head(head: str) -> tuple[int, str]:
    """Return number and hash of a head.

    Raises:
        PrivacyParameterError: If it is not one.
    """
    match = _HEAD.fullmatch(head) if isinstance(head, str) else None
    if match is None:
        raise PrivacyParameterError("Expected a head as `seq:hash`, as verify and export print it.")
    return int(match[1]), match[2]


class Replay:
    """Works out accounts and balances from the log alone, and notes what is wrong on the way.

    Args:
        keyring: The keys of the ledger.
        noted: A head noted earlier, if any.
    """

    def __init__(self, keyring: Keyring, noted: tuple[int, str] | None = None) -> None:
        self._keyring = keyring
        self._noted = noted
        self._reserved: dict[tuple[str | None, str], dict[float, int]] = {}
        self.accounts: dict[str, AccountState] = {}
        self.problems: list[str] = []
        self.count = 0
        self.seq = 0
        self.hash = GENESIS

    def read(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Go through rows of the log, in order; may be called again with the rows that follow."""
        for row in rows:
            self.count += 1
            if row["seq"] != self.seq + 1:
                self.problems.append(f"entries {self.seq + 1} to {row['seq'] - 1} are missing from the log")
            elif row["previous"] != self.hash:
                self.problems.append(f"entry {row['seq']} does not follow the one before it")
            self.seq, self.hash = row["seq"], row["hash"]
            if self._noted is not None and self._noted[0] == row["seq"] and self._noted[1] != row["hash"]:
                self.problems.append(f"entry {row['seq']} is not the one of the head that was noted earlier")
            if is_genuine(self._keyring, row):
                self._apply(row)
            else:
                self.problems.append(f"entry {row['seq']} was changed, or written without the key")

    def finish(self, head: tuple[int, str], stored: Mapping[str, AccountState]) -> tuple[str, ...]:
        """Compare with what the ledger says of itself; return all problems.

        Args:
            head: Number and hash of the last entry, as the ledger has them.
            stored: The accounts, as the ledger has them.
        """
        if self._noted is not None and self._noted[0] > self.seq:
            self.problems.append(
                f"the log ends at entry {self.seq}, before the head noted earlier (entry {self._noted[0]})"
            )
        if head != (self.seq, self.hash):
            self.problems.append(f"the log ends at entry {self.seq}, the ledger says {head[0]}")
        for unit in sorted(self.accounts.keys() | stored.keys()):
            if unit not in stored:
                self.problems.append(f"the account of unit {unit} is missing")
            elif unit not in self.accounts:
                self.problems.append(f"the account of unit {unit} was opened without an entry in the log")
            elif stored[unit] != self.accounts[unit]:
                self.problems.append(f"the account of unit {unit} is not what the log says")
        return tuple(self.problems)

    def _apply(self, row: Mapping[str, Any]) -> None:
        found, details = read_amounts(row), json.loads(row["details"])
        unit, kind = row["unit"], row["kind"]
        account = self.accounts.get(unit)
        if kind == "open":
            self.accounts[unit] = AccountState(
                unit,
                details["epsilon"],
                details["delta"],
                details["epsilon"],
                details["delta"],
                details["accounting"],
                details["neighbours"],
                details["shares"],
                {order: Balance(amount) for order, amount in found.items()},
            )
            return
        if account is None or not found.keys() <= account.balances.keys():
            self.problems.append(f"entry {row['seq']} belongs to an account that was never opened")
            return
        if kind == "amend":
            account.epsilon, account.delta = details["epsilon"], details["delta"]
        if kind == "settle":
            reserved = self._reserved.pop((row["reservation"], unit), {})
            if any(amount > reserved.get(order, 0) for order, amount in found.items()):
                self.problems.append(f"entry {row['seq']} gives back more than was reserved")
        if kind == "reserve":
            self._reserved[row["reservation"], unit] = found
        for order, amount in found.items():
            balance = account.balances[order]
            if kind == "amend":
                balance.budget = amount
            else:
                balance.spent += amount if kind == "reserve" else -amount
        for order in details.get("closed", ()):
            account.balances[order].is_open = False
