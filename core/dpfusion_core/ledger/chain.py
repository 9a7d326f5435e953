"""The charge log: a chain of authenticated entries from which every balance can be worked out again.

Each entry carries the authentication code (HMAC-SHA256) of itself and of the entry before. Who can
write to the database but has no key cannot make an entry, change one, or take one out of the middle
unseen. Taking entries off the end leaves the balances unexplained; doing that *and* setting the balances
back is found by whoever noted a head (``seq:hash``) earlier.
"""

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quote
from types import MappingProxyType
from typing import Any, Literal

from dpfusion_core.errors import LedgerError, PrivacyParameterError, errors_as
from dpfusion_core.ledger.amounts import split_delta
from dpfusion_core.ledger.keys import Keyring

Kind = Literal["open", "reserve", "settle", "amend"]
_DELTA = "delta"  # beside the orders, the key of an amount of probability
CHANGED = "Something in the {} of the ledger was changed from outside: run `dpfusion ledger verify`."
GENESIS = "0" * 64  # stands before the first entry

# Of the columns of a row of the log, in order; only entries that charge belong to a reservation.
_TYPES = frozenset((int, str, str, str, reservation, str, str, str, str) for reservation in (str, type(None)))
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the charge log.

    Attributes:
        seq: Number in the log, from 1, without gaps.
        time: When, UTC, by the clock of the host that wrote it. The order of the log is that of ``seq``.
        kind: "open" and "amend" set budgets, "reserve" charges, "settle" gives back.
        unit: Keyed hash of the privacy unit's id.
        reservation: Which reservation an entry of kind "reserve" or "settle" belongs to.
        amounts: Amounts by order, in 1e-12 nats. Not shown by ``repr``: under adaptive accounting
            they are private, for the curator only.
        details: What else was recorded: the caller's note, the budget, the reason of an amendment.
        previous: ``hash`` of the entry before.
        hash: Authentication code of this entry and ``previous``.
        delta: Amount of probability for releases, in 1e-18; private like ``amounts``.
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
    delta: int = field(default=0, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as a line of an export: values that JSON knows."""
        return {
            "seq": self.seq,
            "time": self.time.isoformat(timespec="microseconds"),
            "kind": self.kind,
            "unit": self.unit,
            "reservation": self.reservation,
            "amounts": as_written(self.amounts, self.delta),
            "details": dict(self.details),
            "previous": self.previous,
            "hash": self.hash,
        }


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
    shares: int  # into how many parts delta's part for the conversion was divided
    release_share: float  # of delta, for releases
    release_spent: int  # of it, in 1e-18
    balances: dict[float, Balance]

    @property
    def release_left(self) -> int:
        """What is left of delta for releases, in 1e-18; below 0 where the budget was lowered since."""
        return split_delta(self.delta, self.release_share)[1] - self.release_spent


def as_written(amounts: Mapping[float, int], delta: int) -> dict[str, int]:
    """Return amounts by order, and one of probability if there is any, as a row of the log holds them."""
    return {repr(order): amount for order, amount in amounts.items()} | ({_DELTA: delta} if delta else {})


def canonical(value: object) -> str:
    """Return the one JSON text of a value.

    Raises:
        PrivacyParameterError: If JSON cannot hold it.
    """
    with errors_as(PrivacyParameterError, "Expected a note of values that JSON knows."):
        return _encode(value)


def is_well_typed(row: Sequence[Any]) -> bool:
    """Return whether the values of a row are of the types that the ledger writes.

    SQLite stores a value of any type in any column.
    """
    return tuple(map(type, row)) in _TYPES and row[0] > 0


def seal(keyring: Keyring, row: Sequence[Any]) -> str:
    """Return the code of a row of the log, which covers everything but the code itself."""
    seq, time, kind, unit, reservation, amounts, details, previous, _ = row
    held = "null" if reservation is None else _quote(reservation)
    # What json.dumps writes of a list of the eight, at a third of its cost.
    return keyring.seal(
        f"[{seq},{_quote(time)},{_quote(kind)},{_quote(unit)},{held},{_quoted(amounts)},{_quoted(details)},"
        f"{_quote(previous)}]"
    )


def is_genuine(keyring: Keyring, row: Sequence[Any]) -> bool:
    """Return whether a row of the log is as it was written."""
    code = row[8]
    return (
        is_well_typed(row)
        and code.isascii()  # else it cannot be compared
        and hmac.compare_digest(seal(keyring, row), code)
    )


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    return _quote(text)


@lru_cache(maxsize=4096)  # many entries charge the same
def read_amounts(text: str) -> Mapping[float, int]:
    """Return the amounts of a row by order."""
    written = json.loads(text)
    return MappingProxyType({float(order): amount for order, amount in written.items() if order != _DELTA})


@lru_cache(maxsize=4096)
def read_delta(text: str) -> int:
    """Return the amount of probability among the amounts of a row, in 1e-18."""
    return int(json.loads(text).get(_DELTA, 0))


@lru_cache(maxsize=4096)
def read_details(text: str) -> Mapping[str, Any]:
    """Return what else a row holds."""
    return MappingProxyType(dict(json.loads(text)))


def as_entry(row: Sequence[Any]) -> LedgerEntry:
    """Return a row of the log as callers see it.

    Raises:
        LedgerError: If it is not one that the ledger wrote.
    """
    seq, time, kind, unit, reservation, amounts, details, previous, code = row
    with errors_as(LedgerError, CHANGED.format("log")):
        if not is_well_typed(row):
            raise TypeError
        return LedgerEntry(
            seq=seq,
            time=datetime.fromisoformat(time),
            kind=kind,
            unit=unit,
            reservation=reservation,
            amounts=read_amounts(amounts),
            delta=read_delta(amounts),
            details=dict(read_details(details)),
            previous=previous,
            hash=code,
        )


def as_lines(rows: Iterable[Sequence[Any]]) -> list[tuple[str, str]]:
    """Return rows of the log as lines of an export: ``as_dict`` of an entry as JSON, at a tenth of the cost.

    Returns:
        Of each row the head that ends with it, and its line.

    Raises:
        LedgerError: If one of them is not one that the ledger wrote.
    """
    with errors_as(LedgerError, CHANGED.format("log")):
        return [(f"{row[0]}:{row[8]}", _as_line(row)) for row in rows]
    raise AssertionError  # mypy takes errors_as for one that may swallow errors


def _as_line(row: Sequence[Any]) -> str:
    if not is_well_typed(row):
        raise TypeError
    seq, time, kind, unit, reservation, amounts, details, previous, code = row
    datetime.fromisoformat(time)
    held = "null" if reservation is None else _quote(reservation)
    return (
        f'{{"amounts": {_plain(amounts)}, "details": {_plain(details)}, "hash": {_quote(code)}, '
        f'"kind": {_quote(kind)}, "previous": {_quote(previous)}, "reservation": {held}, "seq": {seq}, '
        f'"time": {_quote(time)}, "unit": {_quote(unit)}}}'
    )


@lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    return json.dumps(dict(json.loads(text)), sort_keys=True)
