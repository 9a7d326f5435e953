"""Making a ledger's tables, and checking that a database is a ledger of ours and the key is its own."""

import os
import sqlite3
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from dpfusion_core.errors import LedgerError
from dpfusion_core.ledger import files, keys, schema
from dpfusion_core.ledger.place import Place


def prepare(place: Place, engine: sa.Engine) -> keys.Keyring:
    """Check that this is a ledger of ours, or make one; return its keys."""
    if place.path is not None and not place.path.exists():
        files.make(place.path, place.secret, place.timeout, partial(_fill, place.timeout))
    with engine.begin() as connection:
        if place.is_sqlite:  # one state for all questions: another process may be migrating the ledger
            connection.exec_driver_sql("BEGIN")
        found = _examine(place, connection)
    if place.path is not None:
        _use_write_ahead_log(engine, place.timeout)
    keyring = _make_keyring(place)
    if found is None or found[0] < len(schema.MIGRATIONS):
        with engine.begin() as connection:
            if place.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(schema.ADVISORY_LOCK)))
            found = _examine(place, connection)  # another process may have been first
            if found is None or found[1] == keyring.fingerprint:
                schema.migrate(connection, found[0] if found else 0, keyring.fingerprint)
    _check_key(found, keyring)
    return keyring


def look(place: Place, engine: sa.Engine) -> keys.Keyring:
    """Check that this is a ledger of ours that can be read as it is; return its keys."""
    with engine.begin() as connection:
        found = _examine(place, connection)
    if found is None:
        raise files.MissingLedger("There is no ledger in this database. The first reservation makes one.")
    if found[0] < len(schema.MIGRATIONS):
        raise LedgerError(
            "The ledger was made by an older dpfusion. The first reservation, or `dpfusion ledger budget`, "
            "brings it to the present form or says what is to be done."
        )
    keyring = _make_keyring(place)
    _check_key(found, keyring)
    return keyring


def _fill(timeout: float, path: Path, keyring: keys.Keyring) -> None:
    engine = sa.create_engine(f"sqlite+pysqlite:///{path}", poolclass=sa.NullPool, hide_parameters=True)
    sa.event.listen(engine, "connect", set_up_sqlite)
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        schema.migrate(connection, 0, keyring.fingerprint)
    _use_write_ahead_log(engine, timeout)


def _examine(place: Place, connection: sa.Connection) -> tuple[int, str] | None:
    found = schema.read_version(connection)
    if found is not None and not (type(found[0]) is int and found[0] > 0):
        raise LedgerError("The ledger's schema is no number: it is damaged. Restore it from a backup.")
    if found is not None and found[0] > len(schema.MIGRATIONS):
        raise LedgerError(
            f"The ledger was made by a newer dpfusion (schema {found[0]}; this one knows "
            f"{len(schema.MIGRATIONS)}). Upgrade: pip install --upgrade dpfusion"
        )
    if found is None and place.is_sqlite and sa.inspect(connection).get_table_names():
        raise LedgerError(
            f"{place.path} is the database of something else, or a damaged ledger: it has tables "
            "but no ledger. Give another file."
        )
    if found is None and place.path is not None:
        raise files.was_emptied(place.path)
    return found


def _make_keyring(place: Place) -> keys.Keyring:
    if place.secret is not None:
        return keys.Keyring(place.secret)
    if place.is_memory:
        return keys.Keyring(os.urandom(32))
    assert place.path is not None  # a server has been refused without a key
    path = files.key_path(place.path)
    secret = keys.read_file(path)
    if secret is None:
        raise LedgerError(
            f"The key of the ledger, {path}, is missing. Restore it from a backup, or give the key "
            f"with key= or {keys.VARIABLE}; without it no charge can be attributed."
        )
    return keys.Keyring(secret)


def _use_write_ahead_log(engine: sa.Engine, timeout: float) -> None:
    """Switch to WAL: readers don't stop the writer. SQLite does not wait by itself here."""
    until = time.monotonic() + timeout
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


def _check_key(found: tuple[int, str] | None, keyring: keys.Keyring) -> None:
    if found is not None and found[1] != keyring.fingerprint:
        raise LedgerError(
            "The ledger was made with another key. Give the key that it was made with: "
            f"key=, {keys.VARIABLE}, or the key file beside the database."
        )


def set_up_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    """Begin transactions where we say, and note whether the file has a write-ahead log."""
    connection.isolation_level = None  # the driver would guess
    record.info["is_wal"] = connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
