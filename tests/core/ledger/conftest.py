"""A ledger on SQLite and on a real PostgreSQL server, which the tests start themselves."""

import glob
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dpfusion_core.ledger import PrivacyLedger

KEY = "a key for tests, of enough bytes"
_UNPRIVILEGED = "postgres"  # initdb refuses to be run by root


def _programs() -> Path | None:
    """Return the directory of initdb and pg_ctl, or None."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda name: -int(name.split("/")[4]))
    on_path = shutil.which("initdb")
    candidates = [Path(name).parent for name in [*found, *([on_path] if on_path else [])]]
    return next((each for each in candidates if (each / "pg_ctl").exists()), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a server of our own, up to the name of the database."""
    programs = _programs()
    if programs is None:
        reason = "no PostgreSQL server here: apt-get install postgresql"
        if os.environ.get("DPFUSION_REQUIRE_POSTGRES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    home = Path(tempfile.mkdtemp(prefix="dpfusion-pg-"))  # not tmp_path: the server's user cannot enter it
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix = ["setpriv", f"--reuid={_UNPRIVILEGED}", f"--regid={_UNPRIVILEGED}", "--init-groups"]
        shutil.chown(home, _UNPRIVILEGED)
    port = _free_port()
    data = home / "data"

    def run(program: str, *arguments: str) -> None:
        command = [*prefix, str(programs / program), *arguments]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run("initdb", "-D", str(data), "-U", "dpfusion", "-A", "trust", "--no-locale", "-E", "UTF8")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home}"
    # Its output goes to a file: a server that inherits our pipe would keep it open for ever.
    run("pg_ctl", "-D", str(data), "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql://dpfusion@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgresql_url(postgresql: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database of the test's own."""
    name = f"test_{abs(hash(request.node.nodeid))}"
    with psycopg.connect(f"{postgresql}/postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{postgresql}/{name}"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, on SQLite and on PostgreSQL."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def make(url: str) -> Iterator[Callable[..., PrivacyLedger]]:
    """Make ledgers on the database, which are closed after the test."""
    made = []

    def make_ledger(**arguments: Any) -> PrivacyLedger:
        made.append(PrivacyLedger(url, **{"key": KEY, **arguments}))
        return made[-1]

    yield make_ledger
    for ledger in made:
        ledger.close()
