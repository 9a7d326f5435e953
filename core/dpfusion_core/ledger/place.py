"""Which database holds a ledger: its URL, what it says, and how it may be shown."""

from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from dpfusion_core.errors import PrivacyParameterError, errors_as

_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}


@dataclass(frozen=True)
class Place:
    """A database, its key, and how long to wait for it.

    Args:
        url: With the driver; see :func:`parse_url`.
        secret: The key; None for the key file beside a SQLite database.
        timeout: For the lock and for a connection, in seconds.

    Attributes:
        path: The file, if it is one.
    """

    url: sa.URL = field(repr=False)
    secret: bytes | None = field(repr=False)
    timeout: float
    path: Path | None = field(init=False)

    def __post_init__(self) -> None:
        # Absolute: connections are made later, too, wherever the process has gone by then.
        file = Path(self.url.database or "").absolute()
        object.__setattr__(self, "path", file if self.is_sqlite and not self.is_memory else None)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite, else PostgreSQL."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def is_memory(self) -> bool:
        """Whether it is gone with the process."""
        return self.is_sqlite and self.url.database in (None, "", ":memory:")


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
