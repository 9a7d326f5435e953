"""What a run over a folder has done: the place where an output is released, once.

A document is charged, generated and then entered here in one transaction. Only what is entered here is
written to the output folder. So after an interruption, what is entered needs no second charge, and what
was charged and not entered was never shown.
"""

import errno
import hmac
import json
import os
import secrets
import sqlite3
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, errors_as

FILE = ".dpfusion-journal.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS documents (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL, texts TEXT NOT NULL, report TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Entry:
    """A document that is done: its texts, privatised, and its report as plain values."""

    texts: list[str]
    report: dict[str, Any]


class Journal:
    """The journal of an output folder. While it is open, no other run can use the folder.

    Args:
        folder: The output folder.
        settings: What the outputs depend on beside the documents. A folder holds outputs of one kind.

    Raises:
        UnsupportedError: If another run is using the folder, or the file is no journal.
        PrivacyParameterError: If the folder holds outputs of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        path = folder / FILE
        _make_private(path)
        self._connection = sqlite3.connect(path, timeout=0.5, isolation_level=None)
        try:
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("BEGIN EXCLUSIVE")  # kept as a lock until the journal is closed
            self._connection.execute("COMMIT")
            self._connection.executescript(_SCHEMA)
            self._key = bytes.fromhex(self._fact("key", secrets.token_hex(32)))
            asked = json.dumps(dict(settings), sort_keys=True)
            kept = self._fact("settings", asked)
        except sqlite3.Error:
            is_usable = False
        else:
            is_usable = True
        if not is_usable:
            self._connection.close()
            raise UnsupportedError(
                f"The journal {path} cannot be used: another run is at work on the folder, or it is no journal. "
                "Wait for the other run, or choose another output folder."
            )
        if kept != asked:
            self._connection.close()
            old = json.loads(kept)
            changed = sorted(
                name for name in old.keys() | settings.keys() if old.get(name) != settings.get(name)
            )
            raise PrivacyParameterError(
                f"{folder} holds documents that were made with other settings ({', '.join(changed)}). Choose "
                "another output folder: doing them again would charge their budgets again."
            )

    def close(self) -> None:
        """Close the journal, and with it the folder's lock."""
        self._connection.close()

    def find(self, name: str, parts: Sequence[str]) -> Entry | None:
        """Return a document that is done, if it has not changed since."""
        row = self._connection.execute(
            "SELECT digest, texts, report FROM documents WHERE name = ?", (name,)
        ).fetchone()
        if row is None or not hmac.compare_digest(row[0], self._digest(parts)):
            return None
        return Entry(json.loads(row[1]), json.loads(row[2]))

    def enter(self, name: str, parts: Sequence[str], entry: Entry) -> None:
        """Enter a document that is done. When this returns, it is on the disk.

        Raises:
            UnsupportedError: If it cannot be written; then it is not released.
        """
        row = (name, self._digest(parts), json.dumps(entry.texts), json.dumps(entry.report))
        with errors_as(UnsupportedError, _unwritten, only=sqlite3.Error):
            self._connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", row)

    def _fact(self, name: str, default: str) -> str:
        self._connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, default))
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0])

    def _digest(self, parts: Sequence[str]) -> str:
        """Return a keyed digest of a private text: without the journal's key it cannot be tried out."""
        return hmac.digest(self._key, json.dumps(list(parts)).encode(), "sha256").hex()


def _unwritten(error: sqlite3.Error) -> str:
    """Say why an output is not released; SQLite's own words name no values."""
    return (
        f"The journal cannot be written ({error}), so the document is not released. See to the disk and "
        "its permissions, and give the command again."
    )


def _make_private(path: Path) -> None:
    """Make a file for its owner alone, or an older one so; never where a link leads."""

    def refused(error: OSError) -> str:
        return (
            f"The journal {path} cannot be used: {error.strerror}. It must be a file of yours, and no link."
        )

    with errors_as(UnsupportedError, refused, only=OSError):
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a file")
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
