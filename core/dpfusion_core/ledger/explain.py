"""What went wrong with the database, in words that say what to do and quote no data."""

import logging
from pathlib import Path

from sqlalchemy import exc

_LOGGER = "dpfusion-ledger"

# What SQLite says, and what to do. Its own messages name tables and files; but for the first, no values.
_UNREADABLE = "could not decode"
_SQLITE = (
    (("locked", "busy"), "was busy for {timeout:g} s. Try again, or give a longer timeout."),
    (
        ("unable to open",),
        "cannot be opened. See that its directory exists and can be written to, also by this user.",
    ),
    (("readonly", "read-only"), "cannot be written to. Make the file and its directory writable."),
    (("full", "disk i/o", "too large"), "cannot be written to: the disk may be full. Make room."),
    (
        ("not a database", "malformed", "corrupt", "encrypted"),
        "is not a SQLite database, or is damaged. Restore it from a backup, or give another file.",
    ),
)

# Likewise PostgreSQL, by the class of its error code (SQLSTATE).
_POSTGRESQL = (
    ("55P03", "was busy for {timeout:g} s. Try again, or give a longer timeout."),
    ("25006", "is read-only: a standby, or set so. Connect to the primary server."),
    ("42501", "refuses this user. Grant it the rights to its tables, and CREATE to make them."),
    ("28", "refuses this user or password. See the URL."),
    ("3D", "does not exist on the server. Create the database."),
    ("53", "has no room or no connections left. See to the server."),
    ("57P", "is shutting down or starting up. Try again."),
    ("08", "cannot be reached. See that the server runs and that the URL is right."),
)


def explain(error: exc.SQLAlchemyError, path: Path | None, timeout: float) -> str:
    """Return what to tell the caller about an error of the database.

    Args:
        error: What SQLAlchemy raised.
        path: The file of the database, if it is one.
        timeout: How long was waited, in seconds.
    """
    original = getattr(error, "orig", None)
    if isinstance(error, exc.TimeoutError):
        return f"The ledger was busy for {timeout:g} s: no connection was free. Try again."
    if type(original).__module__ == "sqlite3":
        said = str(original)
        if _UNREADABLE in said.lower():
            return f"The ledger {path or 'in memory'} holds text that is none: run `dpfusion ledger verify`."
        for words, advice in _SQLITE:
            if any(word in said.lower() for word in words):
                return f"The ledger {path or 'in memory'} {advice.format(timeout=timeout)} (SQLite: {said})"
        return f"The ledger {path or 'in memory'} failed. (SQLite: {said})"
    state = getattr(original, "sqlstate", None)
    if original is not None and state is None:
        # There is no code where no connection came about, and such messages quote no data.
        said = " ".join(str(original).split())
        return f"The ledger cannot be reached. See that the server runs and that the URL is right. ({said})"
    for prefix, advice in _POSTGRESQL:
        if str(state).startswith(prefix):
            return f"The ledger {advice.format(timeout=timeout)} (PostgreSQL error {state})"
    return f"The ledger failed ({type(original or error).__name__}, code {state})."


def quiet_logging() -> str:
    """Return the name under which SQLAlchemy logs for the ledger, made quiet.

    At its debug level SQLAlchemy logs the rows that it reads: balances, which may be private.
    """
    for logger in ("sqlalchemy.engine.Engine", "sqlalchemy.pool.impl.QueuePool"):
        logging.getLogger(f"{logger}.{_LOGGER}").setLevel(logging.WARNING)
    return _LOGGER
