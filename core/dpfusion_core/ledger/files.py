"""A SQLite ledger as files: made whole and for its owner alone, never made by looking, noticed when gone."""

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from dpfusion_core.errors import LedgerError, errors_as
from dpfusion_core.ledger import keys

_LOG_BEGINS = (b"", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")  # nothing yet, or SQLite's magic number


class MissingLedger(LedgerError):
    """There is no ledger here. Only a reservation, or opening an account, makes one."""


class Connection(sqlite3.Connection):
    """One that knows whether it takes the file for one that nobody writes to."""

    is_immutable = False


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another of the same name; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_whole(path: Path, known: tuple[int, int] | None) -> bool:
    """Return whether a file is the one that is known, and has something in it."""
    return identity(path) == known and known is not None and stamp(path)[1] > 0


def stamp(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file is written to."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def connect(path: Path, timeout: float, is_reader: bool) -> Connection:
    """Connect to a file that is there. A reader neither writes nor makes a file.

    SQLite makes the files ``-wal`` and ``-shm`` to read where writers may come. They are there while
    somebody uses the ledger; where they are not, nobody does, and it is read without them.
    """
    is_immutable = is_reader and not _beside(path, "-wal").exists()
    mode = ("immutable=1" if is_immutable else "mode=ro") if is_reader else "mode=rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{mode}",
        uri=True,
        timeout=timeout,
        check_same_thread=False,
        factory=Connection,
    )
    connection.is_immutable = is_immutable
    return connection


def make(
    path: Path, secret: bytes | None, timeout: float, fill: Callable[[Path, keys.Keyring], None]
) -> None:
    """Make a ledger, and its key unless a secret is given; nothing happens if another process was first.

    The file appears with its tables or not at all: a ledger that is empty was emptied.

    Args:
        path: Of the database.
        secret: The caller's key; None for the key file.
        timeout: How long to wait for another process that is making it, in seconds.
        fill: Makes the tables in an empty file.

    Raises:
        LedgerError: If the files cannot be made, or something is left of a ledger that was there.
    """
    if _beside(path, "-wal").exists() and not path.exists():
        raise _gone(path, _beside(path, "-wal"))
    if secret is not None:
        _make_database(path, keys.Keyring(secret), fill)
        return
    key = key_path(path)
    with keys.made(key) as made:
        if made is not None:
            _make_database(path, keys.Keyring(made), fill)
            return
    # There is a key. Whoever made it holds it until there is a database too.
    with keys.held(key, timeout):
        if not path.exists():
            raise _gone(path, key)


def key_path(path: Path) -> Path:
    """Return where the key of a ledger is, unless the caller keeps it."""
    return _beside(path, ".key")


def log_identity(path: Path) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return what tells the log, where SQLite keeps what is not in the file yet, and its index from others.

    None if one of them is missing, or the log has lost its beginning, without which nothing of it counts.
    """
    log, index = identity(_beside(path, "-wal")), identity(_beside(path, "-shm"))
    if log is None or index is None:
        return None
    with _beside(path, "-wal").open("rb") as file:
        return (log, index) if file.read(4) in _LOG_BEGINS else None


def was_emptied(path: Path) -> LedgerError:
    """Return the error for a file in which there is nothing, not even a ledger without accounts."""
    return LedgerError(
        f"The ledger {path} is empty: it was emptied, or the file was made by something else. Restore it "
        "from a backup. To begin a new ledger on purpose, in which every unit has its whole budget again, "
        "remove the file, and its key file if there is one."
    )


def was_replaced(path: Path) -> LedgerError:
    """Return the error for a file that is not the one that was opened."""
    return LedgerError(
        f"The ledger {path}, or the -wal or -shm beside it, was removed, emptied or replaced while it was in use: "
        "charges would be lost. Nothing may be generated. Put the file back, verify it with the last head that was "
        "noted, and start again."
    )


def explained(path: Path) -> errors_as:
    """Say what to do about errors of the file system."""

    def said(error: OSError) -> str:
        return (
            f"The ledger {path} cannot be opened. See that its directory exists and can be written to, "
            f"also by this user. ({error.strerror})"
        )

    return errors_as(LedgerError, said, only=OSError)


def _make_database(path: Path, keyring: keys.Keyring, fill: Callable[[Path, keys.Keyring], None]) -> None:
    with explained(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        os.close(descriptor)
        made = Path(name)
        try:
            fill(made, keyring)
            with suppress(FileExistsError):  # another process was first: its ledger is the ledger
                os.link(made, path)
        finally:
            for each in (made, *(_beside(made, end) for end in ("-wal", "-shm", "-journal"))):
                each.unlink(missing_ok=True)


def _gone(path: Path, left: Path) -> LedgerError:
    return LedgerError(
        f"There is no ledger at {path}, but {left.name} of one is there: the ledger was removed. Restore it "
        "from a backup. To begin a new one on purpose, in which every unit has its whole budget again, remove "
        f"{left}."
    )


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def open_private(path: Path) -> TextIO:
    """Open a text file for writing that its owner alone may read, whatever the umask; devices as they are."""
    file = open(  # noqa: SIM115  the caller closes it
        path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)
    )
    if path.is_file():
        os.chmod(file.fileno(), 0o600)  # it may have been there
    return file
