"""Where the ledger lies: connections, locks, transactions, and errors that say what to do.

SQLite and PostgreSQL run the same statements. What differs is here: how the one writer is chosen
(``BEGIN IMMEDIATE``; the locked row of ``dpfusion_meta``) and how a commit is made durable.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from dpfusion_core.errors import LedgerError, PrivacyParameterError, errors_as
from dpfusion_core.ledger import files, keys, schema
from dpfusion_core.ledger.explain import explain, quiet_logging
from dpfusion_core.ledger.server import Patience

_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}


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
        self._url = parse_url(url)
        self._secret = secret
        self._timeout = timeout
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._is_memory = self._is_sqlite and self._url.database in (None, "", ":memory:")
        # Absolute: connections are made later, too, wherever the process has gone by then.
        path = Path(self._url.database or "").absolute()
        self._path = path if self._is_sqlite and not self._is_memory else None
        self._patience = None if self._is_sqlite else Patience(timeout)
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
            with self._turn(opened, self._is_memory), engine.connect() as connection:
                if self._is_sqlite:
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
        is_reader = is_reader and not self._is_memory
        with nullcontext() if opened.engine else opened.opening:
            if opened.engine is None and (opened.reader is None or not is_reader):
                engine = self._make_engine(opened, is_reader)
                try:
                    opened.keyring = self._look(engine) if is_reader else self._prepare(engine)
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
            if self._is_memory and self._opened:
                raise LedgerError(
                    "A ledger in memory cannot be used after a fork: its charges would be forgotten. "
                    "Give a file, e.g. sqlite:///dpfusion-ledger.db."
                )
            opened = self._opened.setdefault(pid, _Opened())
        return opened

    def _make_engine(self, opened: _Opened, is_reader: bool) -> sa.Engine:
        options: dict[str, Any] = {"hide_parameters": True, "pool_timeout": self._timeout}
        options |= {"logging_name": quiet_logging(), "pool_logging_name": quiet_logging()}
        if self._is_memory:
            options |= {"poolclass": sa.StaticPool, "connect_args": {"check_same_thread": False}}
            del options["pool_timeout"]
        elif self._is_sqlite:
            options |= {"creator": partial(self._connect_file, opened, is_reader)}
            if is_reader:  # whether somebody writes is asked anew each time
                options |= {"poolclass": sa.NullPool}
                del options["pool_timeout"], options["pool_logging_name"]
        else:
            options |= {"pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
        needed = "A ledger on PostgreSQL needs psycopg: pip install 'dpfusion[postgres]'"
        with errors_as(LedgerError, needed, only=ImportError):
            engine = sa.create_engine(self._url, **options)
        on_connect = _set_up_sqlite if self._is_sqlite else self._set_up_postgresql
        sa.event.listen(engine, "connect", on_connect)
        if self._patience is not None:
            connect = self._patience.connect
            sa.event.listen(
                engine, "do_connect", lambda _dialect, _record, args, names: connect(*args, **names)
            )
        return engine

    def _connect_file(self, opened: _Opened, is_reader: bool) -> sqlite3.Connection:
        assert self._path is not None
        before = files.identity(self._path)
        if before is None and opened.identity is None:
            raise files.MissingLedger(
                f"There is no ledger at {self._path}. It is made by the first reservation, or by "
                "`dpfusion ledger budget`."
            )
        if before is None or opened.identity not in (None, before):
            raise files.was_replaced(self._path)
        connection = files.connect(self._path, self._timeout, is_reader)
        if files.identity(self._path) != before:
            connection.close()
            raise files.was_replaced(self._path)
        opened.identity = before
        return connection

    def _check_file(self, opened: _Opened, writer: dict[Any, Any] | None = None) -> None:
        """Check that a file, and what a writer has open beside it, are those that others see, too."""
        if self._path is None:
            return
        with files.explained(self._path):
            if not files.is_whole(self._path, opened.identity):
                raise files.was_replaced(self._path)
            if writer is not None and writer.get("is_wal"):
                log = files.log_identity(self._path)
                if log is None or writer.setdefault("log", log) != log:
                    raise files.was_replaced(self._path)

    @contextmanager
    def _unchanged(self, connection: sa.Connection) -> Iterator[None]:
        """Check that a file that nobody wrote to when it was opened has stayed as it is."""
        if self._path is None or not getattr(connection.connection.driver_connection, "is_immutable", False):
            yield
            return
        with files.explained(self._path):
            before = files.stamp(self._path)
        yield
        with files.explained(self._path):
            if files.stamp(self._path) != before:
                raise LedgerError(f"The ledger {self._path} was written to while it was read. Read it again.")

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
        if self._path is not None and not self._path.exists():
            files.make(self._path, self._secret, self._timeout, self._fill)
        with engine.begin() as connection:
            if self._is_sqlite:  # one state for all questions: another process may be migrating the ledger
                connection.exec_driver_sql("BEGIN")
            found = self._examine(connection)
        if self._path is not None:
            self._use_write_ahead_log(engine)
        keyring = self._make_keyring()
        if found is None or found[0] < len(schema.MIGRATIONS):
            with engine.begin() as connection:
                if self._is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                else:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(schema.ADVISORY_LOCK)))
                found = self._examine(connection)  # another process may have been first
                if found is None or found[1] == keyring.fingerprint:
                    schema.migrate(connection, found[0] if found else 0, keyring.fingerprint)
        _check_key(found, keyring)
        return keyring

    def _look(self, engine: sa.Engine) -> keys.Keyring:
        """Check that this is a ledger of ours that can be read as it is; return its keys."""
        with engine.begin() as connection:
            found = self._examine(connection)
        if found is None:
            raise files.MissingLedger("There is no ledger in this database. The first reservation makes one.")
        if found[0] < len(schema.MIGRATIONS):
            raise LedgerError(
                "The ledger was made by an older dpfusion. The first reservation, or `dpfusion ledger budget`, "
                "brings it to the present form or says what is to be done."
            )
        keyring = self._make_keyring()
        _check_key(found, keyring)
        return keyring

    def _fill(self, path: Path, keyring: keys.Keyring) -> None:
        engine = sa.create_engine(f"sqlite+pysqlite:///{path}", poolclass=sa.NullPool, hide_parameters=True)
        sa.event.listen(engine, "connect", _set_up_sqlite)
        with engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            schema.migrate(connection, 0, keyring.fingerprint)
        self._use_write_ahead_log(engine)

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
        if found is None and self._path is not None:
            raise files.was_emptied(self._path)
        return found

    def _make_keyring(self) -> keys.Keyring:
        if self._secret is not None:
            return keys.Keyring(self._secret)
        if self._is_memory:
            return keys.Keyring(os.urandom(32))
        assert self._path is not None  # a server has been refused without a key
        path = files.key_path(self._path)
        secret = keys.read_file(path)
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

    def _hurried(self) -> AbstractContextManager[None]:
        return nullcontext() if self._patience is None else self._patience.in_all()

    def _explained(self) -> errors_as:
        said = partial(explain, path=self._path, timeout=self._timeout)
        return errors_as(LedgerError, said, only=exc.SQLAlchemyError)


def _check_key(found: tuple[int, str] | None, keyring: keys.Keyring) -> None:
    if found is not None and found[1] != keyring.fingerprint:
        raise LedgerError(
            "The ledger was made with another key. Give the key that it was made with: "
            f"key=, {keys.VARIABLE}, or the key file beside the database."
        )


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
