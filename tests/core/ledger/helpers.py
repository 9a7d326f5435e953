"""What the tests of the ledger share."""

import os
import traceback
import warnings
from collections.abc import Callable

import sqlalchemy as sa

from dpfusion_core.ledger.place import parse_url
from dpfusion_core.ledger.policy import BudgetPolicy, conversion_delta
from dpfusion_core.privacy.budget import PrivacyBudget, RenyiLoss

SHARE = BudgetPolicy().release_share


def loss(nats: float, max_order: float = 4.0, delta: float = 0.0) -> RenyiLoss:
    """A loss that is the same at all orders."""
    return RenyiLoss(max_order, lambda order: nats, delta)


def converted(budget: PrivacyBudget, shares: int = 1) -> PrivacyBudget:
    """What an account with this budget has at one of its orders: the rest of delta is for releases."""
    return PrivacyBudget(budget.epsilon, conversion_delta(budget.delta, SHARE, shares))


def fork(work: Callable[[], None]) -> int:
    """Run work in a forked child; return its process id. Exit code 1 if it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads; ours are idle
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the child must not run the parent's tests
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(*pids: int) -> list[int]:
    """Wait for children; return their exit codes."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def in_child(work: Callable[[], None]) -> None:
    """Run work in a forked child and check that it succeeds."""
    assert wait(fork(work)) == [0]


def tamper(url: str, *statements: str) -> None:
    """Change the database as someone who may write to it but has no key: triggers are no obstacle."""
    engine = sa.create_engine(parse_url(url))
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            for action in ("update", "delete"):
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS dpfusion_log_no_{action}")
        else:
            connection.exec_driver_sql("DROP TRIGGER IF EXISTS dpfusion_log_only_grows ON dpfusion_log")
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def back_to(url: str, version: int) -> None:
    """Give a ledger the form of an older version."""
    columns = ("release_share", "release_spent")
    dropped = [f"ALTER TABLE dpfusion_accounts DROP COLUMN {column}" for column in columns]
    tamper(url, *(dropped if version < 3 else ()), f"UPDATE dpfusion_meta SET schema_version = {version}")
