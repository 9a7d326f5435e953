"""What one transaction writes: accounts, balances, and the next entries of the log."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dpfusion_core.errors import LedgerError
from dpfusion_core.ledger import chain, schema
from dpfusion_core.ledger.chain import AccountState, Balance, Kind
from dpfusion_core.ledger.keys import Keyring
from dpfusion_core.ledger.reading import changed, read_accounts
from dpfusion_core.ledger.schema import accounts, balances, log, meta

SKEW = timedelta(minutes=5)  # by which the clocks of hosts may differ
_LAST = 2**62  # no log has so many entries, and numbers beyond twice of it do not fit a column
EARLIEST = 2020  # a clock that shows an earlier year was never set

# SQLite, which has locked already, leaves the clause out.
_HEAD_LOCKED = sa.select(meta.c.seq, meta.c.head, meta.c.time, meta.c.schema_version).with_for_update()
_ENTRIES_OF = sa.select(log).where(log.c.reservation == sa.bindparam("reservation")).order_by(log.c.seq)
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
    .values(
        epsilon=sa.bindparam("new_epsilon"),
        delta=sa.bindparam("new_delta"),
        release_share=sa.bindparam("new_share"),
    )
)
_SET_RELEASED = (
    sa.update(accounts)
    .where(accounts.c.unit == sa.bindparam("of_unit"))
    .values(release_spent=sa.bindparam("new_released"))
)
_SET_HEAD = sa.update(meta).values(
    seq=sa.bindparam("new_seq"), head=sa.bindparam("new_head"), time=sa.bindparam("new_time")
)


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
            raise LedgerError("The ledger has lost its head: it is damaged. Restore it from a backup.")
        self._seq, self._hash, last, version = head
        if version != len(schema.MIGRATIONS):  # a newer dpfusion may keep accounts in another way
            raise LedgerError(
                f"The ledger was brought to schema {version} while this process used it with schema "
                f"{len(schema.MIGRATIONS)}. Upgrade dpfusion if need be, and start the process again."
            )
        if not (type(self._seq) is int and 0 <= self._seq < _LAST and isinstance(self._hash, str)):
            raise changed("head")
        self._time = _time_of(now, last)
        self._entries: list[dict[str, Any]] = []
        self._changed: dict[tuple[str, float], Balance] = {}
        self._released: dict[str, int] = {}

    def accounts(self, units: Collection[str]) -> dict[str, AccountState]:
        """Return the accounts that exist of these units, by keyed hash."""
        return read_accounts(self._connection, units)

    def entries_of(self, reservation: str) -> Sequence[sa.Row[Any]]:
        """Return the rows of the log that belong to a reservation.

        Raises:
            LedgerError: If one was changed since it was written.
        """
        rows = self._connection.execute(_ENTRIES_OF, {"reservation": reservation}).all()
        if not all(chain.is_genuine(self._keyring, row) for row in rows):
            raise changed("log")
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
            "release_share": account.release_share,
        }
        budgets = {order: balance.budget for order, balance in account.balances.items()}
        self.append("open", account.unit, None, budgets, details)

    def set_budget(self, account: AccountState) -> None:
        """Store an account's new epsilon, delta and split; its balances are stored by ``append``."""
        values = {"of_unit": account.unit, "new_epsilon": account.epsilon, "new_delta": account.delta}
        values |= {"new_share": account.release_share}
        self._connection.execute(_SET_BUDGET, values)

    def append(
        self,
        kind: Kind,
        unit: str,
        reservation: str | None,
        amounts: Mapping[float, int],
        details: Mapping[str, Any],
        changed: AccountState | None = None,
        delta: int = 0,
    ) -> None:
        """Add an entry to the log, and the account that it changed, ``delta`` of it for releases."""
        row: dict[str, Any] = {
            "seq": self._seq + 1,
            "time": self._time,
            "kind": kind,
            "unit": unit,
            "reservation": reservation,
            "amounts": chain.canonical(chain.as_written(amounts, delta)),
            "details": chain.canonical(dict(details)),
            "previous": self._hash,
            "hash": "",
        }
        row["hash"] = chain.seal(self._keyring, tuple(row.values()))
        self._seq, self._hash = row["seq"], row["hash"]
        self._entries.append(row)
        if changed is not None:
            self._changed |= {(unit, order): balance for order, balance in changed.balances.items()}
            self._released |= {unit: changed.release_spent} if delta else {}

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
        if self._released:
            spent = [{"of_unit": unit, "new_released": each} for unit, each in self._released.items()]
            self._connection.execute(_SET_RELEASED, spent)
        head = {"new_seq": self._seq, "new_head": self._hash, "new_time": self._time}
        self._connection.execute(_SET_HEAD, head)


def _time_of(now: datetime, last: str) -> str:
    """Return the time that an entry written now is given; ``last`` is that of the entry before.

    The clocks of hosts differ a little, and the log should not seem to run backwards because of that. If
    they differ by more, one of them is wrong, perhaps by years: then each entry says what its own host
    believed. The order of the log is that of seq alone.

    Raises:
        LedgerError: If one of the two is no time.
    """
    if not (isinstance(now, datetime) and now.tzinfo is not None and now.year >= EARLIEST):
        raise LedgerError("The clock of this host is wrong, or tells no time zone. Set it.")
    now = now.astimezone(UTC)
    try:
        before = datetime.fromisoformat(last) if last else now
        time = before if timedelta(0) < before - now <= SKEW else now
    except (TypeError, ValueError):
        problem = changed("head")
    else:
        return time.astimezone(UTC).isoformat(timespec="microseconds")
    raise problem
