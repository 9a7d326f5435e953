"""Where the ledger lies: connections, locks, transactions, and errors that say what to do.

SQLite and PostgreSQL run the same statements. What differs is here: how the one writer is chosen
(``BEGIN IMMEDIATE``; the locked row of ``dpfusion_meta``) and how a commit is made durable.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from dpfusion_core.errors import LedgerError, PrivacyParameterError, errors_as
from dpfusion_core.ledger import keys, schema
from dpfusion_core.ledger.explain import explain, quiet_logging

_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}


@dataclass
class _Opened:
    """What a process holds of the store. It is never used by another process."""

    opening: threading.Lock = field(default_factory=threading.Lock)
    turn: threading.Lock = field(default_factory=threading.Lock)  # one writer of this process at a time
    engine: sa.Engine | None = None
    keyring: keys.Keyring | None = None


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
        self._url = parse_url(url)
        self._secret = secret
        self._timeout = timeout
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._is_memory = self._is_sqlite and self._url.database in (None, "", ":memory:")
        self._path = Path(self._url.database or "") if self._is_sqlite and not self._is_memory else None
        # Per process: after a fork the child makes its own connections, and leaves the parent's alone
        # (it must not even close them). Keyed by process id, and dict.setdefault is atomic, so no lock
        # is needed that another thread might have held during the fork.
        self._opened: dict[int, _Opened] = {}

    @property
    def keyring(self) -> keys.Keyring:
        """The keys of the ledger, which is opened first if need be."""
        with self._explained():
            opened = self._open()
        assert opened.keyring is not None
        return opened.keyring

    @contextmanager
    def write(self, is_durable: bool = True) -> Iterator[sa.Connection]:
        """Give a connection that holds the one lock of writers; commit at the end, or undo everything.

        Args:
            is_durable: Whether the commit must survive a power cut. It need not where losing it is
                safe: a refund that is lost leaves a unit charged.
        """
        with self._explained():
            opened = self._open()
            assert opened.engine is not None
            with self._turn(opened), opened.engine.begin() as connection:
                self._lock(connection, is_durable)
                yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one state of the ledger, whatever others write meanwhile."""
        with self._explained():
            opened = self._open()
            assert opened.engine is not None
            # The one connection of a ledger in memory cannot have a second transaction.
            with self._turn(opened, self._is_memory), opened.engine.connect() as connection:
                if self._is_sqlite:
                    connection.exec_driver_sql("BEGIN")
                else:
                    connection.execution_options(isolation_level="REPEATABLE READ")
                yield connection

    def close(self) -> None:
        """Close the connections of this process."""
        opened = self._opened.pop(os.getpid(), None)
        if opened is not None and opened.engine is not None:
            opened.engine.dispose()

    def _open(self) -> _Opened:
        pid = os.getpid()
        opened = self._opened.get(pid)
        if opened is None:
            if self._is_memory and self._opened:
                raise LedgerError(
                    "A ledger in memory cannot be used after a fork: its charges would be forgotten. "
                    "Give a file, e.g. sqlite:///dpfusion-ledger.db."
                )
            opened = self._opened.setdefault(pid, _Opened())
        if opened.keyring is None:
            with opened.opening:
                if opened.keyring is None:
                    opened.engine = opened.engine or self._make_engine()
                    opened.keyring = self._prepare(opened.engine)
        return opened

    def _make_engine(self) -> sa.Engine:
        options: dict[str, Any] = {"hide_parameters": True, "pool_timeout": self._timeout}
        options |= {"logging_name": quiet_logging(), "pool_logging_name": quiet_logging()}
        if self._is_memory:
            options |= {"poolclass": sa.StaticPool, "connect_args": {"check_same_thread": False}}
            del options["pool_timeout"]
        elif self._is_sqlite:
            options |= {"connect_args": {"timeout": self._timeout, "check_same_thread": False}}
        else:
            options |= {"pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
            options |= {"connect_args": {"connect_timeout": max(2, round(self._timeout))}}
        needed = "A ledger on PostgreSQL needs psycopg: pip install 'dpfusion[postgres]'"
        with errors_as(LedgerError, needed, only=ImportError):
            engine = sa.create_engine(self._url, **options)
        on_connect = _set_up_sqlite if self._is_sqlite else self._set_up_postgresql
        sa.event.listen(engine, "connect", on_connect)
        return engine

    def _set_up_postgresql(self, connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('lock_timeout', %s, false)", (f"{round(self._timeout * 1000)}ms",)
            )
            # A charge must not be lost, even if the server is set to forget.
            cursor.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'"
            )
        connection.commit()

    def _prepare(self, engine: sa.Engine) -> keys.Keyring:
        """Check that this is a ledger of ours, or make one; return its keys."""
        with engine.begin() as connection:
            if self._is_sqlite:  # one state for all questions: another process may be making the ledger
                connection.exec_driver_sql("BEGIN")
            found = self._examine(connection)
        if self._is_sqlite and not self._is_memory:
            self._use_write_ahead_log(engine)
        if found is None or found[0] < len(schema.MIGRATIONS):
            with engine.begin() as connection:
                if self._is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                else:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(schema.ADVISORY_LOCK)))
                found = self._examine(connection)  # another process may have been first
                keyring = self._make_keyring(is_new=found is None)
                if found is None or found[1] == keyring.fingerprint:
                    schema.migrate(connection, found[0] if found else 0, keyring.fingerprint)
        else:
            keyring = self._make_keyring(is_new=False)
        if found is not None and found[1] != keyring.fingerprint:
            raise LedgerError(
                "The ledger was made with another key. Give the key that it was made with: "
                f"key=, {keys.VARIABLE}, or the key file beside the database."
            )
        return keyring

    def _examine(self, connection: sa.Connection) -> tuple[int, str] | None:
        found = schema.read_version(connection)
        if found is not None and not (type(found[0]) is int and found[0] > 0):
            raise LedgerError("The ledger's schema is no number: it is damaged. Restore it from a backup.")
        if found is not None and found[0] > len(schema.MIGRATIONS):
            raise LedgerError(
                f"The ledger was made by a newer dpfusion (schema {found[0]}; this one knows "
                f"{len(schema.MIGRATIONS)}). Upgrade: pip install --upgrade dpfusion"
            )
        if found is None and self._is_sqlite and sa.inspect(connection).get_table_names():
            raise LedgerError(
                f"{self._path} is the database of something else, or a damaged ledger: it has tables "
                "but no ledger. Give another file."
            )
        return found

    def _make_keyring(self, is_new: bool) -> keys.Keyring:
        if self._secret is not None:
            return keys.Keyring(self._secret)
        if self._is_memory:
            return keys.Keyring(os.urandom(32))
        assert self._path is not None  # a server has been refused without a key
        path = self._path.with_name(self._path.name + ".key")
        secret = keys.read_or_make_file(path) if is_new else keys.read_file(path)
        if secret is None:
            raise LedgerError(
                f"The key of the ledger, {path}, is missing. Restore it from a backup, or give the key "
                f"with key= or {keys.VARIABLE}; without it no charge can be attributed."
            )
        return keys.Keyring(secret)

    def _use_write_ahead_log(self, engine: sa.Engine) -> None:
        """Switch to WAL: readers don't stop the writer. SQLite does not wait by itself here."""
        until = time.monotonic() + self._timeout
        while True:
            with engine.connect() as connection, suppress(exc.OperationalError):
                mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
                if mode != "wal":
                    # Where the file system has no shared memory it stays as it is: slower, and as safe.
                    mode = connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar()
                connection.info["is_wal"] = mode == "wal"
                return
            if time.monotonic() > until:
                return  # what follows fails for the same reason, and says it, or works without
            time.sleep(0.01)

    def _lock(self, connection: sa.Connection, is_durable: bool) -> None:
        if not self._is_sqlite:
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
        if not (is_needed and self._is_sqlite):
            yield
            return
        if not opened.turn.acquire(timeout=self._timeout):
            raise LedgerError(f"The ledger was busy for {self._timeout:g} s. Try again.")
        try:
            yield
        finally:
            opened.turn.release()

    def _explained(self) -> errors_as:
        said = partial(explain, path=self._path, timeout=self._timeout)
        return errors_as(LedgerError, said, only=exc.SQLAlchemyError)


def parse_url(url: str) -> sa.URL:
    """Return a URL with the driver that the ledger uses.

    Raises:
        PrivacyParameterError: If it is not a URL of SQLite or PostgreSQL. It is not quoted: it may
            hold a password.
    """
    with errors_as(
        PrivacyParameterError,
        "Expected the URL of a SQLite file or a PostgreSQL database, e.g. "
        "sqlite:///dpfusion-ledger.db or postgresql://user@host/database.",
    ):
        parsed = sa.make_url(url)
        driver = _DRIVERS[parsed.get_backend_name()]
    if driver == "sqlite+pysqlite" and parsed.query:
        raise PrivacyParameterError("Expected a SQLite URL without a query: sqlite:///path/to/file.db.")
    return parsed.set(drivername=driver)


def describe(url: str) -> str:
    """Return a URL without user, password and options."""
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        return "unreadable URL"
    host = (parsed.host or "").rpartition("@")[2]  # the rest of a password that was not quoted
    return f"{parsed.get_backend_name()}://{host}/{parsed.database or ''}"


def _set_up_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    record.info["is_wal"] = connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
