"""Bad files, missing keys, servers out of reach, full disks, other versions: refused, with what to do."""

import os
import resource
import signal
import sqlite3
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from dpfusion_core.errors import BudgetExhaustedError, LedgerError, PrivacyParameterError
from dpfusion_core.ledger import BudgetPolicy, PrivacyLedger, keys, schema
from dpfusion_core.privacy.budget import PrivacyBudget
from tests.core.ledger.conftest import KEY
from tests.core.ledger.helpers import back_to, fork, in_child, loss, tamper, wait

BUDGET = PrivacyBudget(8.0, 1e-5)
Make = Callable[..., PrivacyLedger]


def charge(url: str, key: str | None = KEY, timeout: float = 30.0) -> float:
    """Charge one unit of 0.125 nats and return what it has been charged in all."""
    with PrivacyLedger(url, budget=BUDGET, key=key, timeout=timeout) as ledger:
        ledger.reserve({"a": loss(0.125)}, order=4.0)
        return ledger.account("a").balances[0].spent


@contextmanager
def stopped(url: str) -> Iterator[None]:
    """Stop all processes of a server, as a machine does that hangs."""
    with psycopg.connect(f"{url}/postgres") as connection:
        query = "SELECT pid FROM pg_stat_activity UNION SELECT pg_backend_pid()"
        found = [pid for (pid,) in connection.execute(query)]
        [(parent,)] = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchall()
    processes = [int(parent.split()[0]), *found]
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def in_threads(count: int, call: Callable[[], object], expected: type[Exception] | None) -> None:
    """Call in many threads at once, and check that each raises what is expected, or nothing."""
    raised: list[object] = []

    def work() -> None:
        try:
            call()
        except LedgerError as error:
            raised.append(type(error))
        else:
            raised.append(None)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == [expected] * count


def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    ledger = PrivacyLedger(f"sqlite:///{tmp_path}/x.db", budget=BUDGET)
    PrivacyLedger("postgresql://127.0.0.1:1/x", key=KEY)
    repr(ledger)
    assert list(tmp_path.iterdir()) == []


def test_two_ledgers_on_one_file_are_one(make: Make) -> None:
    first, second = make(budget=BUDGET), make(budget=BUDGET)
    reservation = first.reserve({"a": loss(1.0)}, order=4.0)
    second.reserve({"a": loss(1.0)}, order=4.0)
    second.settle(reservation, {"a": loss(0.5)})
    assert first.account("a").balances[0].spent == 1.5


def test_a_key_file_is_made_for_a_new_file_and_is_its_owners_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    charge(url, key=None)
    key_file = tmp_path / "x.db.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert len(bytes.fromhex(key_file.read_text())) == 32
    assert charge(url, key=None) == 0.25
    assert charge(url, key=key_file.read_text()) == 0.375
    assert {path.name for path in tmp_path.iterdir()} <= {"x.db", "x.db-wal", "x.db-shm", "x.db.key"}


def test_a_missing_key_file_is_an_error_and_no_new_key_is_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    charge(url, key=None)
    kept = (tmp_path / "x.db.key").rename(tmp_path / "kept")
    with pytest.raises(LedgerError, match=r"x\.db\.key, is missing\. Restore it"):
        charge(url, key=None)
    assert not (tmp_path / "x.db.key").exists()
    (tmp_path / "x.db.key").write_text("")
    with pytest.raises(LedgerError, match="damaged"):
        charge(url, key=None)
    kept.rename(tmp_path / "x.db.key")
    assert charge(url, key=None) == 0.25


def test_another_key_is_refused(url: str) -> None:
    charge(url)
    with pytest.raises(LedgerError, match="another key") as caught:
        charge(url, key="another key, just as long")
    assert "just as long" not in str(caught.value)
    assert charge(url) == 0.25


def test_the_key_may_come_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.VARIABLE, KEY)
    charge(url, key=None)
    monkeypatch.delenv(keys.VARIABLE)
    assert charge(url, key=KEY) == 0.25


@pytest.mark.parametrize("content", [b"this is no database " * 500, b"SQLite format 3\x00" + b"\xff" * 9000])
def test_what_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="not a SQLite database, or is damaged"):
        charge(f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_a_damaged_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    charge(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(LedgerError, match="damaged"):
        charge(f"sqlite:///{path}")


def test_the_database_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(LedgerError, match="database of something else"):
        charge(f"sqlite:///{path}")
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_ledger_without_its_head_is_refused(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    ledger.reserve({"a": loss(1.0)}, order=4.0)
    tamper(url, "DELETE FROM dpfusion_meta")
    with pytest.raises(LedgerError, match="lost its head"):
        ledger.reserve({"a": loss(1.0)}, order=4.0)
    assert ledger.curator.verify().problems == ("the ledger has 0 heads in place of one",)
    with pytest.raises(LedgerError):
        make(budget=BUDGET).reserve({"a": loss(1.0)}, order=4.0)


def test_a_newer_schema_is_refused(url: str) -> None:
    charge(url)
    tamper(url, "UPDATE dpfusion_meta SET schema_version = 99")
    with pytest.raises(LedgerError, match=r"newer dpfusion.*pip install --upgrade"):
        charge(url)


def test_a_ledger_of_ids_that_were_not_normal_is_refused_and_left_as_it_is(make: Make, url: str) -> None:
    with make(budget=BUDGET)._access.store.write():
        pass
    back_to(url, 1)
    assert charge(url) == 0.125  # without accounts there is nothing to lose
    back_to(url, 1)
    with pytest.raises(LedgerError, match=r"spellings of an id.*ledger budget"):
        charge(url)
    tamper(url, "UPDATE dpfusion_meta SET schema_version = 2")  # of which the columns are, still
    assert charge(url) == 0.25


def test_accounts_from_before_there_were_releases_are_kept_and_have_nothing_for_them(
    make: Make, url: str
) -> None:
    with make(budget=BudgetPolicy(BUDGET, release_share=0.0)) as old:
        held = old.reserve({"a": loss(1.0)}, order=4.0)
    back_to(url, 2)
    with make(budget=BUDGET) as ledger:
        ledger.reserve({"c": loss(1.0)}, order=4.0)  # writing brings it to the present form
        ledger.settle(held, {"a": loss(0.5)})
        account = ledger.account("a")
        assert (account.release_share, account.release_delta, account.release_spent) == (0.0, 0.0, 0.0)
        assert account.balances[0].budget == pytest.approx(BUDGET.loss_at(4.0), abs=2e-12)
        assert account.balances[0].spent == 0.5
        with pytest.raises(BudgetExhaustedError):
            ledger.reserve({"a": loss(0.0, delta=1e-9)}, order=4.0)
        ledger.reserve({"b": loss(0.0, delta=1e-9)}, order=4.0)  # which is new
        ledger.curator.amend("a", BUDGET, "releases are wanted", release_share=0.1)
        ledger.reserve({"a": loss(0.0, delta=1e-9)}, order=4.0)
        assert ledger.curator.verify().ok


def test_a_migration_runs_exactly_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    charge(url)
    ran = []

    def second(connection: sa.Connection) -> None:
        ran.append(connection.exec_driver_sql("SELECT count(*) FROM dpfusion_log").scalar())
        connection.exec_driver_sql("CREATE TABLE dpfusion_example (x INTEGER)")

    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, second))
    threads = [threading.Thread(target=charge, args=(url,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert charge(url) == 0.125 * 6
    assert ran == [2]
    monkeypatch.undo()
    with pytest.raises(LedgerError, match="newer"):
        charge(url)


def test_an_old_process_notices_that_the_ledger_was_migrated(make: Make, url: str) -> None:
    ledger = make(budget=BUDGET)
    held = ledger.reserve({"a": loss(1.0)}, order=4.0)
    tamper(url, "UPDATE dpfusion_meta SET schema_version = schema_version + 1")
    for call in (
        lambda: ledger.reserve({"a": loss(1.0)}, order=4.0),
        lambda: ledger.settle(held, {"a": loss(0.5)}),
        lambda: ledger.curator.amend("a", BUDGET, "why"),
    ):
        with pytest.raises(LedgerError, match=r"brought to schema 4 .* start the process again"):
            call()
    tamper(url, "UPDATE dpfusion_meta SET schema_version = schema_version - 1")
    assert charge(url) == 1.125


def test_a_migration_that_fails_leaves_everything_as_it_was(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge(url)

    def broken(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE dpfusion_example (x INTEGER)")
        connection.exec_driver_sql("SELECT nothing FROM nowhere")

    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
    with pytest.raises(LedgerError):
        charge(url)
    monkeypatch.undo()
    assert charge(url) == 0.25


def test_the_log_refuses_changes_made_by_accident(url: str) -> None:
    charge(url)
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    for statement in ("UPDATE dpfusion_log SET kind = 'x'", "DELETE FROM dpfusion_log"):
        with engine.begin() as connection, pytest.raises(sa.exc.DBAPIError, match="only grows"):
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"cannot be opened\. See that its directory exists"):
        charge(f"sqlite:///{tmp_path}/nowhere/x.db")


def unprivileged() -> None:
    """Root may write anywhere; so be someone else (in a forked child)."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_read_only_directory_is_an_error(key: str | None) -> None:
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o555)

    def work() -> None:
        unprivileged()
        with pytest.raises(LedgerError, match=r"cannot be opened|Cannot make the ledger key"):
            charge(f"sqlite:///{directory}/x.db", key)

    in_child(work)
    directory.chmod(0o700)
    directory.rmdir()


def test_a_read_only_file_is_an_error_and_nothing_is_charged() -> None:
    directory = Path(tempfile.mkdtemp())
    url = f"sqlite:///{directory}/x.db"
    charge(url)
    directory.chmod(0o777)
    (directory / "x.db").chmod(0o444)

    def work() -> None:
        unprivileged()
        with pytest.raises(LedgerError, match=r"cannot be (written to|opened)"):
            charge(url)

    in_child(work)
    assert charge(url) == 0.25
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def test_looking_neither_makes_nor_changes_anything(make: Make, url: str, tmp_path: Path) -> None:
    def looks(ledger: PrivacyLedger) -> list[Callable[[], object]]:
        return [
            ledger.curator.verify, lambda: list(ledger.curator.accounts()), lambda: list(ledger.curator.entries()),
            lambda: list(ledger.curator.entries("a")), lambda: ledger.account("a"),
        ]  # fmt: skip

    def files() -> dict[str, tuple[bytes, int]]:
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}

    for look in looks(make(budget=BUDGET)):
        with pytest.raises(LedgerError, match="There is no ledger"):
            look()
    assert make(budget=BUDGET).orders(["a"]) is None
    assert files() == {}
    charge(url)
    before = files()
    ledger = make(budget=BUDGET)
    for look in looks(ledger):
        look()
    assert ledger.orders(["a"]) == 4.0
    ledger.close()
    assert files() == before
    with make(budget=BUDGET) as writer:
        writer.reserve({"a": loss(0.5)}, order=4.0)  # what is in the -wal alone is seen
        assert make(budget=BUDGET).account("a").balances[0].spent == 0.625
        assert make(budget=BUDGET).curator.verify().entries == 3


def replaced(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("end", "change"),
    [("-wal", Path.unlink), ("-shm", Path.unlink), ("-wal", replaced), ("-wal", emptied)],
)
def test_a_log_that_is_gone_refuses_the_next_reservation(
    sqlite_url: str, tmp_path: Path, end: str, change: Callable[[Path], None]
) -> None:
    with PrivacyLedger(sqlite_url, budget=BUDGET, key=KEY) as ledger:
        ledger.reserve({"a": loss(0.5)}, order=4.0)
        change(next(tmp_path.glob(f"*{end}")))
        for _ in range(2):  # what is in it, or is written to it now, is lost when the process ends
            with pytest.raises(LedgerError, match="was removed, emptied or replaced while it was in use"):
                ledger.reserve({"a": loss(0.5)}, order=4.0)


def test_a_ledger_in_a_directory_of_others_can_be_read(tmp_path: Path) -> None:
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    charge(f"sqlite:///{directory}/x.db")
    (directory / "x.db").chmod(0o644)

    def work() -> None:
        unprivileged()
        with PrivacyLedger(f"sqlite:///{directory}/x.db", key=KEY) as ledger:
            assert ledger.curator.verify().ok
            assert ledger.account("a").balances[0].spent == 0.125

    in_child(work)
    (directory / "x.db").unlink()
    directory.rmdir()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("key", [None, KEY])
def test_all_files_are_their_owners_alone(tmp_path: Path, umask: int, key: str | None) -> None:
    def work() -> None:
        os.umask(umask)
        with PrivacyLedger(f"sqlite:///{tmp_path}/x.db", budget=BUDGET, key=key) as ledger:
            ledger.reserve({"a": loss(0.125)}, order=4.0)
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        names = {"x.db", "x.db-wal", "x.db-shm"} | ({"x.db.key"} if key is None else set())
        assert modes == dict.fromkeys(names, 0o600)

    in_child(work)


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_ledger_that_is_gone_is_not_begun_anew_by_itself(tmp_path: Path, how: str) -> None:
    url, path = f"sqlite:///{tmp_path}/x.db", tmp_path / "x.db"
    charge(url, key=None)
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(b"")
    left = {each.name for each in tmp_path.iterdir()}
    # Who would write is told what is left of a ledger that was there; who looks, that there is none.
    refused = {
        "removed": (r"but x\.db\.key of one is there: the ledger was removed", "There is no ledger at"),
        "emptied": ("is empty: it was emptied", "is empty: it was emptied"),
    }
    looks: list[Callable[[], object]] = [lambda: charge(url, key=None), PrivacyLedger(url).curator.verify]
    for look, reason in zip(looks, refused[how], strict=True):
        with pytest.raises(LedgerError, match=reason):
            look()
        assert {each.name for each in tmp_path.iterdir()} == left
    assert path.exists() == (how == "emptied")
    assert not path.exists() or path.read_bytes() == b""
    assert {each.name for each in tmp_path.iterdir()} - {"x.db"} == {"x.db.key"}
    path.write_bytes(content)
    assert charge(url, key=None) == 0.25
    path.unlink()
    (tmp_path / "x.db.key").unlink()
    assert charge(url, key=None) == 0.125  # anew, on purpose


def test_an_emptied_ledger_is_refused_whoever_keeps_the_key(sqlite_url: str, tmp_path: Path) -> None:
    charge(sqlite_url)
    (tmp_path / "ledger.db").write_bytes(b"")
    with pytest.raises(LedgerError, match="is empty"):
        charge(sqlite_url)


@pytest.mark.parametrize("how", ["removed", "replaced by an older copy", "emptied"])
def test_a_file_that_goes_while_the_ledger_is_in_use_stops_it(
    sqlite_url: str, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "ledger.db"
    charge(sqlite_url)
    copy = path.read_bytes()
    with PrivacyLedger(sqlite_url, budget=BUDGET, key=KEY) as ledger:
        held = ledger.reserve({"a": loss(1.0)}, order=4.0)
        if how == "emptied":
            os.truncate(path, 0)
        else:
            path.unlink()
            if how != "removed":
                path.write_bytes(copy)
        calls: list[Callable[[], object]] = [
            lambda: ledger.reserve({"a": loss(1.0)}, order=4.0),
            lambda: ledger.settle(held, {"a": loss(0.0)}),
            lambda: ledger.curator.amend("a", BUDGET, "why"),
        ]
        if how != "emptied":
            calls += [ledger.curator.verify, lambda: ledger.account("a")]
        for call in calls:
            with pytest.raises(LedgerError):
                call()


def test_a_ledger_stays_where_it_is_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with PrivacyLedger("sqlite:///x.db", budget=BUDGET, key=KEY) as ledger:
        ledger.reserve({"a": loss(1.0)}, order=4.0)
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path / "sub")
        threads = [threading.Thread(target=ledger.reserve, args=({"a": loss(0.5)},), kwargs={"order": 4.0})]
        threads[0].start()
        threads[0].join()
        assert ledger.account("a").balances[0].spent == 1.5
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_full_disk_is_an_error_and_loses_no_charge(sqlite_url: str) -> None:
    charge(sqlite_url)

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        ledger = PrivacyLedger(sqlite_url, budget=BUDGET, key=KEY)
        granted, refusal = 0, ""
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # as full as a disk can be
        try:
            for _ in range(10_000):
                ledger.reserve({"b": loss(0.0)}, order=4.0, note={"filler": "x" * 2000})
                granted += 1
        except LedgerError as error:
            refusal = str(error)
        assert "cannot be written to: the disk may be full" in refusal
        assert granted > 5
        count = sum(entry.kind == "reserve" for entry in ledger.curator.entries("b"))
        assert count >= granted

    in_child(work)
    with PrivacyLedger(sqlite_url, budget=BUDGET, key=KEY) as ledger:
        assert ledger.curator.verify().ok
    assert charge(sqlite_url) == 0.25


def test_a_server_out_of_reach_is_an_error() -> None:
    with pytest.raises(LedgerError, match=r"cannot be reached\. See that the server runs") as caught:
        charge("postgresql://user:pa55w@127.0.0.1:1/x", timeout=2.0)
    assert "pa55w" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_server_that_stands_still_is_an_error_and_can_be_used_when_it_goes_on(
    postgresql: str, postgresql_url: str
) -> None:
    seconds = 1.5
    ledger = PrivacyLedger(postgresql_url, budget=BUDGET, key=KEY, timeout=seconds)
    held = ledger.reserve({"a": loss(1.0)}, order=4.0)
    calls = (
        lambda: ledger.reserve({"a": loss(0.125)}, order=4.0),
        lambda: ledger.settle(held, {"a": loss(1.0)}),
        lambda: ledger.account("a"),
        ledger.curator.verify,
        lambda: PrivacyLedger(postgresql_url, budget=BUDGET, key=KEY, timeout=seconds).reserve(
            {"a": loss(0.125)}, order=4.0
        ),
    )
    with stopped(postgresql):
        threads, started = threading.active_count(), time.monotonic()
        for call in calls:
            with pytest.raises(LedgerError, match="cannot be reached"):
                call()
        in_threads(20, calls[0], LedgerError)
        assert time.monotonic() - started < 6 * (2 * seconds + 3)
        assert threading.active_count() == threads
    ledger.reserve({"a": loss(1.0)}, order=4.0)  # the server goes on, and so does the ledger
    with (
        pytest.raises(LedgerError, match="no answer within"),
        ledger._access.store.write() as connection,
        stopped(postgresql),
    ):
        connection.execute(sa.select(schema.meta))  # one stops in the middle of a transaction
    in_threads(5, lambda: ledger.reserve({"a": loss(0.25)}, order=4.0), None)
    assert ledger.account("a").balances[0].spent >= 3.25
    assert ledger.curator.verify().ok
    ledger.close()


def test_a_database_that_the_server_does_not_have_is_an_error(postgresql: str) -> None:
    with pytest.raises(LedgerError, match=r"does not exist|cannot be reached"):
        charge(f"{postgresql}/nowhere")


def test_a_server_without_psycopg_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"pip install 'dpfusion\[postgres\]'"):
        charge("postgresql://127.0.0.1:1/x")


def test_a_server_that_restarted_is_connected_to_again(make: Make, postgresql_url: str) -> None:
    with PrivacyLedger(postgresql_url, budget=BUDGET, key=KEY) as ledger:
        ledger.reserve({"a": loss(1.0)}, order=4.0)
        engine = sa.create_engine(postgresql_url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        engine.dispose()
        ledger.reserve({"a": loss(1.0)}, order=4.0)
        assert ledger.account("a").balances[0].spent == 2.0


def test_charges_are_durable_even_on_a_server_that_is_set_to_forget(postgresql_url: str) -> None:
    engine = sa.create_engine(postgresql_url.replace("postgresql:", "postgresql+psycopg:"))
    name = postgresql_url.rpartition("/")[2]
    with engine.begin() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    engine.dispose()
    with PrivacyLedger(postgresql_url, budget=BUDGET, key=KEY) as ledger:
        for is_durable, expected in ((True, "on"), (False, "off"), (True, "on")):
            with ledger._access.store.write(is_durable) as connection:
                assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == expected


def test_charges_are_durable_on_sqlite(sqlite_url: str) -> None:
    with PrivacyLedger(sqlite_url, budget=BUDGET, key=KEY) as ledger:
        for is_durable, expected in ((True, 2), (False, 1), (True, 2)):
            with ledger._access.store.write(is_durable) as connection:
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == expected
                assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_who_waits_too_long_for_the_lock_is_told_so(make: Make, url: str) -> None:
    holder, waiter = make(budget=BUDGET), make(budget=BUDGET, timeout=0.2)
    holder.reserve({"a": loss(1.0)}, order=4.0)
    with holder._access.store.write() as connection:
        connection.execute(sa.select(schema.meta).with_for_update())
        with pytest.raises(LedgerError, match=r"was busy for 0\.2 s"):
            waiter.reserve({"a": loss(1.0)}, order=4.0)
        assert waiter.account("a").balances[0].spent == 1.0  # readers do not wait
    waiter.reserve({"a": loss(1.0)}, order=4.0)


def test_verify_sees_one_state_while_others_write(make: Make) -> None:
    ledger = make(budget=PrivacyBudget(100.0))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            ledger.settle(ledger.reserve({"a": loss(0.01)}, order=4.0), {"a": loss(0.0)})

    ledger.reserve({"a": loss(0.01)}, order=4.0)
    thread = threading.Thread(target=write)
    thread.start()
    found = [ledger.curator.verify()]
    while len(found) < 30 or (found[-1].entries == found[0].entries and len(found) < 10_000):
        found.append(ledger.curator.verify())  # until the other thread has had its turn
    stop.set()
    thread.join()
    assert [each.problems for each in found if not each.ok] == []
    assert found[-1].entries > found[0].entries


def test_sixteen_processes_may_make_a_ledger_at_once(tmp_path: Path, postgresql_url: str) -> None:
    for url, key in ((f"sqlite:///{tmp_path}/x.db", None), (postgresql_url, KEY)):
        read_end, write_end = os.pipe()

        def work(url: str = url, key: str | None = key, gate: int = read_end, end: int = write_end) -> None:
            os.close(end)
            os.read(gate, 1)  # all at once, when the parent closes its end
            charge(url, key)

        children = [fork(work) for _ in range(16)]
        os.close(read_end)
        os.close(write_end)
        assert wait(*children) == [0] * 16
        assert charge(url, key) == 0.125 * 17


def test_a_ledger_that_is_made_meanwhile_is_not_taken_for_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, read_version, tries = f"sqlite:///{tmp_path}/x.db", schema.read_version, list[str]()

    def with_another_process(connection: sa.Connection) -> tuple[int, str] | None:
        found = read_version(connection)
        if not tries:  # between the first question of the first examination and its second one
            tries.append(url)
            with suppress(LedgerError):  # it may have to wait for us
                charge(url, KEY, timeout=0.1)
        return found

    monkeypatch.setattr(schema, "read_version", with_another_process)
    assert charge(url, KEY) > 0.0
    assert tries


def test_a_url_of_something_else_is_not_quoted() -> None:
    with pytest.raises(PrivacyParameterError) as caught:
        PrivacyLedger("mysql://user:pa55w@host/db", key=KEY)
    assert "pa55w" not in str(caught.value)
