"""The connections to a ledger: locks, transactions, and errors that say what to do.

SQLite and PostgreSQL run the same statements. What differs is here: how the one writer is chosen
(``BEGIN IMMEDIATE``; the locked row of ``dpfusion_meta``) and how a commit is made durable.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from dpfusion_core.errors import LedgerError, errors_as
from dpfusion_core.ledger import files, keys
from dpfusion_core.ledger.explain import explain, quiet_logging
from dpfusion_core.ledger.opening import look, prepare, set_up_sqlite
from dpfusion_core.ledger.place import Place, parse_url
from dpfusion_core.ledger.server import Patience


@dataclass
class _Opened:
    """What a process holds of the store. It is never used by another process."""

    opening: threading.Lock = field(default_factory=threading.Lock)
    turn: threading.Lock = field(default_factory=threading.Lock)  # one writer of this process at a time
    engine: sa.Engine | None = None  # of a ledger that was made and migrated
    reader: sa.Engine | None = None  # of one that was only looked at
    keyring: keys.Keyring | None = None
    identity: tuple[int, int] | None = None  # of a file


class Store:
    """A database that holds a ledger; it is connected to, made and migrated on first use.

    Args:
        url: SQLAlchemy URL of a SQLite file or a PostgreSQL database.
        secret: The key; None for the key file beside a SQLite database.
        timeout: How long to wait for the lock and for a connection, in seconds.

    Raises:
        PrivacyParameterError: If the URL is of another kind or the key is missing.
    """

    def __init__(self, url: str, secret: bytes | None, timeout: float) -> None:
        self._place = Place(parse_url(url), secret, timeout)
        self._patience = None if self._place.is_sqlite else Patience(timeout)
        # Per process: after a fork the child makes its own connections, and leaves the parent's alone
        # (it must not even close them). Keyed by process id, and dict.setdefault is atomic, so no lock
        # is needed that another thread might have held during the fork.
        self._opened: dict[int, _Opened] = {}

    def keyring(self, is_reader: bool = False) -> keys.Keyring:
        """Return the keys of the ledger, which is opened first if need be; only a reader does not make it.

        Raises:
            MissingLedger: If there is no ledger and it is not to be made.
        """
        with self._explained(), self._hurried():
            opened, _ = self._open(is_reader)
        assert opened.keyring is not None
        return opened.keyring

    @contextmanager
    def write(self, is_durable: bool = True) -> Iterator[sa.Connection]:
        """Give a connection that holds the one lock of writers; commit at the end, or undo everything.

        Args:
            is_durable: Whether the commit must survive a power cut. It need not where losing it is
                safe: a refund that is lost leaves a unit charged.
        """
        with self._explained(), self._hurried():
            opened, engine = self._open()
            with self._turn(opened), engine.begin() as connection:
                self._lock(connection, is_durable)
                info = connection.info  # which the connection keeps as long as it is open
                self._check_file(opened, info)
                yield connection
            self._check_file(opened, info)  # it may have gone in between

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one state of the ledger, whatever others write meanwhile."""
        with self._explained():
            opened, engine = self._open(is_reader=True)
            # The one connection of a ledger in memory cannot have a second transaction.
            with self._turn(opened, self._place.is_memory), engine.connect() as connection:
                if self._place.is_sqlite:
                    connection.exec_driver_sql("BEGIN")
                else:
                    connection.execution_options(isolation_level="REPEATABLE READ")
                with self._unchanged(connection):
                    yield connection
            self._check_file(opened)

    def close(self) -> None:
        """Close the connections of this process."""
        opened = self._opened.pop(os.getpid(), None)
        for engine in (opened.engine, opened.reader) if opened else ():
            if engine is not None:
                engine.dispose()

    def _open(self, is_reader: bool = False) -> tuple[_Opened, sa.Engine]:
        opened = self._held()
        is_reader = is_reader and not self._place.is_memory
        with nullcontext() if opened.engine else opened.opening:
            if opened.engine is None and (opened.reader is None or not is_reader):
                engine = self._make_engine(opened, is_reader)
                try:
                    opened.keyring = (look if is_reader else prepare)(self._place, engine)
                except BaseException:
                    engine.dispose()
                    raise
                opened.reader, opened.engine = (engine, None) if is_reader else (opened.reader, engine)
            used = opened.engine or opened.reader
        assert used is not None
        return opened, used

    def _held(self) -> _Opened:
        pid = os.getpid()
        opened = self._opened.get(pid)
        if opened is None:
            if self._place.is_memory and self._opened:
                raise LedgerError(
                    "A ledger in memory cannot be used after a fork: its charges would be forgotten. "
                    "Give a file, e.g. sqlite:///dpfusion-ledger.db."
                )
            opened = self._opened.setdefault(pid, _Opened())
        return opened

    def _make_engine(self, opened: _Opened, is_reader: bool) -> sa.Engine:
        options: dict[str, Any] = {"hide_parameters": True, "pool_timeout": self._place.timeout}
        options |= {"logging_name": quiet_logging(), "pool_logging_name": quiet_logging()}
        if self._place.is_memory:
            options |= {"poolclass": sa.StaticPool, "connect_args": {"check_same_thread": False}}
            del options["pool_timeout"]
        elif self._place.is_sqlite:
            options |= {"creator": partial(self._connect_file, opened, is_reader)}
            if is_reader:  # whether somebody writes is asked anew each time
                options |= {"poolclass": sa.NullPool}
                del options["pool_timeout"], options["pool_logging_name"]
        else:
            options |= {"pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
        needed = "A ledger on PostgreSQL needs psycopg: pip install 'dpfusion[postgres]'"
        with errors_as(LedgerError, needed, only=ImportError):
            engine = sa.create_engine(self._place.url, **options)
        on_connect = set_up_sqlite if self._place.is_sqlite else self._set_up_postgresql
        sa.event.listen(engine, "connect", on_connect)
        if self._patience is not None:
            connect = self._patience.connect
            sa.event.listen(
                engine, "do_connect", lambda _dialect, _record, args, names: connect(*args, **names)
            )
        return engine

    def _connect_file(self, opened: _Opened, is_reader: bool) -> sqlite3.Connection:
        path = self._place.path
        assert path is not None
        before = files.identity(path)
        if before is None and opened.identity is None:
            raise files.MissingLedger(
                f"There is no ledger at {path}. It is made by the first reservation, or by "
                "`dpfusion ledger budget`."
            )
        if before is None or opened.identity not in (None, before):
            raise files.was_replaced(path)
        connection = files.connect(path, self._place.timeout, is_reader)
        if files.identity(path) != before:
            connection.close()
            raise files.was_replaced(path)
        opened.identity = before
        return connection

    def _check_file(self, opened: _Opened, writer: dict[Any, Any] | None = None) -> None:
        """Check that a file, and what a writer has open beside it, are those that others see, too."""
        path = self._place.path
        if path is None:
            return
        with files.explained(path):
            if not files.is_whole(path, opened.identity):
                raise files.was_replaced(path)
            if writer is not None and writer.get("is_wal"):
                log = files.log_identity(path)
                if log is None or writer.setdefault("log", log) != log:
                    raise files.was_replaced(path)

    @contextmanager
    def _unchanged(self, connection: sa.Connection) -> Iterator[None]:
        """Check that a file that nobody wrote to when it was opened has stayed as it is."""
        path = self._place.path
        if path is None or not getattr(connection.connection.driver_connection, "is_immutable", False):
            yield
            return
        with files.explained(path):
            before = files.stamp(path)
        yield
        with files.explained(path):
            if files.stamp(path) != before:
                raise LedgerError(f"The ledger {path} was written to while it was read. Read it again.")

    def _set_up_postgresql(self, connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('lock_timeout', %s, false)", (f"{round(self._place.timeout * 1000)}ms",)
            )
            # A charge must not be lost, even if the server is set to forget.
            cursor.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'"
            )
        connection.commit()

    def _lock(self, connection: sa.Connection, is_durable: bool) -> None:
        if not self._place.is_sqlite:
            if not is_durable:
                connection.execute(sa.select(sa.func.set_config("synchronous_commit", "off", True)))
            return  # the row of dpfusion_meta is locked when it is read
        level = "FULL" if is_durable or not connection.info.get("is_wal") else "NORMAL"
        if connection.info.get("synchronous") != level:
            connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
            connection.info["synchronous"] = level
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    @contextmanager
    def _turn(self, opened: _Opened, is_needed: bool = True) -> Iterator[None]:
        """Queue the writers of this process, which is fairer and quicker than SQLite's polling."""
        if not (is_needed and self._place.is_sqlite):
            yield
            return
        if not opened.turn.acquire(timeout=self._place.timeout):
            raise LedgerError(f"The ledger was busy for {self._place.timeout:g} s. Try again.")
        try:
            yield
        finally:
            opened.turn.release()

    def _hurried(self) -> AbstractContextManager[None]:
        return nullcontext() if self._patience is None else self._patience.in_all()

    def _explained(self) -> errors_as:
        said = partial(explain, path=self._place.path, timeout=self._place.timeout)
        return errors_as(LedgerError, said, only=exc.SQLAlchemyError)
