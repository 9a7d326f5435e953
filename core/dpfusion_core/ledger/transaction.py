"""What one transaction reads and writes: accounts, balances, and the next entries of the log."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dpfusion_core.errors import LedgerError
from dpfusion_core.ledger import chain
from dpfusion_core.ledger.chain import AccountState, Balance, Kind
from dpfusion_core.ledger.keys import Keyring
from dpfusion_core.ledger.schema import accounts, balances, log, meta

FIRST = -1  # comes before every entry, also before one that should not be there
_PAGE = 5_000  # rows of the log that are held in memory at once

_HEAD = sa.select(meta.c.seq, meta.c.head, meta.c.time)
_HEAD_LOCKED = _HEAD.with_for_update()  # SQLite, which has locked already, leaves the clause out
_ACCOUNTS = (
    sa.select(accounts, balances.c.renyi_order, balances.c.budget, balances.c.spent, balances.c.is_open)
    .join(balances, balances.c.unit == accounts.c.unit)
    .order_by(accounts.c.unit, balances.c.renyi_order)
)
_ACCOUNTS_OF = _ACCOUNTS.where(accounts.c.unit.in_(sa.bindparam("units", expanding=True)))
_ENTRIES_OF = sa.select(log).where(log.c.reservation == sa.bindparam("reservation")).order_by(log.c.seq)
_PAGE_OF_LOG = sa.select(log).where(log.c.seq > sa.bindparam("after")).order_by(log.c.seq).limit(_PAGE)
_PAGE_OF_UNIT = _PAGE_OF_LOG.where(log.c.unit == sa.bindparam("of_unit"))
_SET_BALANCE = (
    sa.update(balances)
    .where(balances.c.unit == sa.bindparam("of_unit"), balances.c.renyi_order == sa.bindparam("of_order"))
    .values(
        budget=sa.bindparam("new_budget"),
        spent=sa.bindparam("new_spent"),
        is_open=sa.bindparam("new_is_open"),
    )
)
_SET_BUDGET = (
    sa.update(accounts)
    .where(accounts.c.unit == sa.bindparam("of_unit"))
    .values(epsilon=sa.bindparam("new_epsilon"), delta=sa.bindparam("new_delta"))
)
_SET_HEAD = sa.update(meta).values(
    seq=sa.bindparam("new_seq"), head=sa.bindparam("new_head"), time=sa.bindparam("new_time")
)


def read_head(connection: sa.Connection) -> tuple[int, str]:
    """Return number and hash of the last entry, as the ledger itself has them."""
    row = connection.execute(_HEAD).first()
    if row is None:
        raise _damaged()
    return row.seq, row.head


def read_accounts(connection: sa.Connection, units: Collection[str] | None = None) -> dict[str, AccountState]:
    """Return accounts by keyed hash: those that exist of ``units``, or all."""
    found: dict[str, AccountState] = {}
    query = _ACCOUNTS if units is None else _ACCOUNTS_OF
    rows = connection.execute(query, {} if units is None else {"units": list(units)})
    for unit, epsilon, delta, opened_epsilon, opened_delta, accounting, neighbours, shares, *rest in rows:
        if unit not in found:
            found[unit] = AccountState(
                unit, epsilon, delta, opened_epsilon, opened_delta, accounting, neighbours, shares, {}
            )
        order, budget, spent, is_open = rest
        found[unit].balances[order] = Balance(budget, spent, is_open)
    return found


def read_page(connection: sa.Connection, after: int, unit: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of the log that follow entry ``after``, a limited number of them, in order."""
    if unit is None:
        return _rows(connection.execute(_PAGE_OF_LOG, {"after": after}))
    return _rows(connection.execute(_PAGE_OF_UNIT, {"after": after, "of_unit": unit}))


def read_log(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Go through the whole log, in order."""
    after = FIRST
    while page := read_page(connection, after):
        yield from page
        after = page[-1]["seq"]


class Transaction:
    """Changes that are made together. Call ``finish`` once, at the end.

    Args:
        connection: One that holds the lock of writers, or takes it by reading the head.
        keyring: The keys of the ledger.
        now: The time of the entries, unless the log is ahead of it.
    """

    def __init__(self, connection: sa.Connection, keyring: Keyring, now: datetime) -> None:
        self._connection = connection
        self._keyring = keyring
        head = connection.execute(_HEAD_LOCKED).first()
        if head is None:
            raise _damaged()
        self._seq, self._hash, last = head
        # The clock may run backwards; the log does not. Its order is that of seq alone.
        self._time = max(now.astimezone(UTC).isoformat(timespec="microseconds"), last)
        self._entries: list[dict[str, Any]] = []
        self._changed: dict[tuple[str, float], Balance] = {}

    def accounts(self, units: Collection[str]) -> dict[str, AccountState]:
        """Return the accounts that exist of these units, by keyed hash."""
        return read_accounts(self._connection, units)

    def entries_of(self, reservation: str) -> list[dict[str, Any]]:
        """Return the rows of the log that belong to a reservation.

        Raises:
            LedgerError: If one was changed since it was written.
        """
        rows = _rows(self._connection.execute(_ENTRIES_OF, {"reservation": reservation}))
        if not all(chain.is_genuine(self._keyring, row) for row in rows):
            raise LedgerError("The log of the ledger was changed from outside: run `dpfusion ledger verify`.")
        return rows

    def open(self, account: AccountState) -> None:
        """Add an account."""
        self._connection.execute(
            sa.insert(accounts),
            {name: value for name, value in vars(account).items() if name != "balances"},
        )
        self._connection.execute(
            sa.insert(balances),
            [
                {"unit": account.unit, "renyi_order": order, **vars(balance)}
                for order, balance in account.balances.items()
            ],
        )
        details = {
            "epsilon": account.epsilon,
            "delta": account.delta,
            "accounting": account.accounting,
            "neighbours": account.neighbours,
            "shares": account.shares,
        }
        budgets = {order: balance.budget for order, balance in account.balances.items()}
        self.append("open", account.unit, None, budgets, details)

    def set_budget(self, account: AccountState) -> None:
        """Store an account's new epsilon and delta; its balances are stored by ``append``."""
        values = {"of_unit": account.unit, "new_epsilon": account.epsilon, "new_delta": account.delta}
        self._connection.execute(_SET_BUDGET, values)

    def append(
        self,
        kind: Kind,
        unit: str,
        reservation: str | None,
        amounts: Mapping[float, int],
        details: Mapping[str, Any],
        changed: Mapping[float, Balance] | None = None,
    ) -> None:
        """Add an entry to the log, and the balances that it changed."""
        row: dict[str, Any] = {
            "seq": self._seq + 1,
            "time": self._time,
            "kind": kind,
            "unit": unit,
            "reservation": reservation,
            "amounts": chain.canonical({repr(order): amount for order, amount in amounts.items()}),
            "details": chain.canonical(dict(details)),
            "previous": self._hash,
        }
        row["hash"] = chain.seal(self._keyring, row)
        self._seq, self._hash = row["seq"], row["hash"]
        self._entries.append(row)
        self._changed |= {(unit, order): balance for order, balance in (changed or {}).items()}

    def finish(self) -> None:
        """Write what has been gathered; it counts once the caller commits."""
        if not self._entries:
            return
        self._connection.execute(sa.insert(log), self._entries)
        if self._changed:
            values = [
                {
                    "of_unit": unit,
                    "of_order": order,
                    "new_budget": balance.budget,
                    "new_spent": balance.spent,
                    "new_is_open": balance.is_open,
                }
                for (unit, order), balance in self._changed.items()
            ]
            self._connection.execute(_SET_BALANCE, values)
        head = {"new_seq": self._seq, "new_head": self._hash, "new_time": self._time}
        self._connection.execute(_SET_HEAD, head)


def _rows(result: sa.CursorResult[Any]) -> list[dict[str, Any]]:
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]


def _damaged() -> LedgerError:
    return LedgerError("The ledger has lost its head: it is damaged. Restore it from a backup.")
