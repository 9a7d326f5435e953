"""What is read of a ledger: accounts and entries, a page at a time, and all of it when it is examined."""

import secrets
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from dpfusion_core.errors import LedgerError
from dpfusion_core.ledger.chain import CHANGED, AccountState, Balance
from dpfusion_core.ledger.keys import Keyring
from dpfusion_core.ledger.schema import accounts, balances, log, meta
from dpfusion_core.ledger.verification import Chain, Problems, Progress, Verification, compare

PAGE = 5_000  # rows that are held in memory at once
_FETCH = 200  # of them taken from a cursor at once: the fewer live, the less the garbage collector walks

_HEADS = sa.select(meta.c.seq, meta.c.head, meta.c.time)
_ALL_ACCOUNTS = sa.select(
    accounts, balances.c.renyi_order, balances.c.budget, balances.c.spent, balances.c.is_open
).outerjoin(balances, balances.c.unit == accounts.c.unit)
_ACCOUNTS_OF = _ALL_ACCOUNTS.where(accounts.c.unit.in_(sa.bindparam("units", expanding=True))).order_by(
    accounts.c.unit, balances.c.renyi_order
)
_LOG = sa.select(log).order_by(log.c.seq)
_STRAY = sa.select(sa.func.count()).where(balances.c.unit.not_in(sa.select(accounts.c.unit)))


def read_accounts(connection: sa.Connection, units: Collection[str]) -> dict[str, AccountState]:
    """Return the accounts that exist of ``units``, by keyed hash.

    Raises:
        LedgerError: If one holds what the ledger never writes.
    """
    rows = connection.execute(_ACCOUNTS_OF, {"units": list(units)})
    found = dict(_group(rows))
    if not all(map(_is_sound, found.values())):
        raise changed("accounts")
    return found


def read_page(connection: sa.Connection, after: int, unit: str | None = None) -> Sequence[tuple[Any, ...]]:
    """Return the rows of the log that follow entry ``after``, a limited number of them, in order."""
    page = _LOG.where(log.c.seq > after).limit(PAGE)
    return _all(connection, page if unit is None else page.where(log.c.unit == unit))


def read_page_of_accounts(connection: sa.Connection, after: str) -> list[AccountState]:
    """Return the accounts whose keyed hashes follow ``after``, a limited number of them, in order.

    Raises:
        LedgerError: If one holds what the ledger never writes.
    """
    page = sa.select(accounts.c.unit).where(accounts.c.unit > after).order_by(accounts.c.unit).limit(PAGE)
    query = _ALL_ACCOUNTS.where(accounts.c.unit.in_(page)).order_by(accounts.c.unit, balances.c.renyi_order)
    found = [state for _, state in _group(_all(connection, query))]
    if not all(map(_is_sound, found)):
        raise changed("accounts")
    return found


def count_rows(connection: sa.Connection, table: sa.Table) -> int:
    """Return how many rows a table has."""
    return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def verify(
    connection: sa.Connection, keyring: Keyring, noted: tuple[int, str] | None, progress: Progress | None
) -> Verification:
    """Examine the ledger; the connection sees one state of it all the while."""
    problems = Problems()
    found = Chain(keyring, noted, problems)
    report = _Reading(progress, 2 * count_rows(connection, log) if progress else 0)
    with closing(_stream(connection, _LOG)) as rows:
        found.read(chain.from_iterable(report.pages(rows)))
    found.finish([tuple(row) for row in connection.execute(_HEADS)])
    # Byte by byte, whatever language the server sorts by: Python compares like that too.
    is_sqlite = connection.dialect.name == "sqlite"
    unit, owner = (each if is_sqlite else each.collate("C") for each in (log.c.unit, accounts.c.unit))
    by_unit = sa.select(log.c.unit, log.c.seq, log.c.kind, log.c.reservation, log.c.amounts, log.c.details)
    with (
        closing(_stream(connection, by_unit.order_by(unit, log.c.seq))) as entries,
        closing(_stream(connection, _ALL_ACCOUNTS.order_by(owner, balances.c.renyi_order))) as stored,
    ):
        states = _sound(_group(chain.from_iterable(stored)), problems)
        compare(chain.from_iterable(report.pages(entries)), states, found.broken, problems)
    strays = connection.execute(_STRAY).scalar_one()
    if strays:
        problems.add(f"{strays} balances belong to no account")
    noticed = problems.all()
    return Verification(not noticed, found.count, f"{found.seq}:{found.hash}", noticed)


class _Reading:
    """Tells how far the reading is, page by page."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def pages(self, pages: Iterable[Sequence[tuple[Any, ...]]]) -> Iterator[Sequence[tuple[Any, ...]]]:
        for page in pages:
            yield page
            self._done += len(page)
            if self._progress is not None:
                self._progress(self._done, self._total)


def _stream(connection: sa.Connection, query: sa.Select[Any]) -> Generator[Sequence[tuple[Any, ...]]]:
    """Give the rows of a query a page at a time, by the driver's own cursor: at half of the cost."""
    dialect = connection.dialect
    assert dialect.dbapi is not None
    # A cursor with a name is kept by the server, which then sends no more than is asked for.
    name = {} if dialect.name == "sqlite" else {"name": f"dpfusion_{secrets.token_hex(8)}"}
    try:
        with closing(connection.connection.cursor(**name)) as cursor:
            cursor.execute(str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})))
            while page := cursor.fetchmany(min(PAGE, _FETCH)):
                yield page
    except dialect.dbapi.Error as error:
        original = error
    else:
        return
    raise sa.exc.DBAPIError("", None, original)


def _all(connection: sa.Connection, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
    with closing(_stream(connection, query)) as pages:
        return [row for page in pages for row in page]


def _group(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[str, AccountState]]:
    """Put together the rows of one account, which follow each other."""
    for unit, of_unit in groupby(rows, itemgetter(0)):
        state: AccountState | None = None
        for row in of_unit:
            if state is None:
                state = AccountState(
                    row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9], {}
                )
            order, budget, spent, is_open = row[10:]
            if order is not None:  # of an account without balances
                state.balances[order] = Balance(budget, spent, is_open)
        assert state is not None
        yield unit, state


def _sound(
    stored: Iterator[tuple[str, AccountState]], problems: Problems
) -> Iterator[tuple[str, AccountState]]:
    for unit, state in stored:
        if isinstance(unit, str):
            yield unit, state
        else:
            problems.add("there is an account whose unit is of a wrong type")


def _is_sound(state: AccountState) -> bool:
    """Return whether an account is of the types that the ledger writes, so that it can be reckoned with."""
    opened = state.opened_epsilon, state.opened_delta
    numbers = (state.epsilon, state.delta, *opened, state.release_share, *state.balances)
    spent = (n for each in state.balances.values() for n in (each.budget, each.spent))
    whole = (state.shares, state.release_spent, *spent)
    return (
        type(state.unit) is str
        and all(type(number) in (int, float) for number in numbers)
        and all(type(number) is int for number in whole)
        and state.shares > 0
        and 0.0 <= state.release_share < 1.0
        and any(each.is_open for each in state.balances.values())
        and all(each.is_open in (True, False) for each in state.balances.values())
    )


def changed(what: str) -> LedgerError:
    """Return the error that says that something was not written by the ledger."""
    return LedgerError(CHANGED.format(what))
