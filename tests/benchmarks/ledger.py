"""What the ledger costs a response: a reservation and its settlement, beside two bare commits of SQLite."""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dpfusion_core import PrivacyBudget, PrivacyLedger
from dpfusion_core.privacy import RenyiLoss

PAIRS, REPEATS = 200, 5


def pairs_per_second(pair: Callable[[], object]) -> float:
    """Return the median rate of a call over several rounds, after a warm-up."""
    rates = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        for _ in range(PAIRS):
            pair()
        rates.append(PAIRS / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def reserve_and_settle(console: Console) -> None:
    """Print how many responses a second one process can account for."""
    table = Table(
        "units", "bare commits, pairs/s", "ledger, pairs/s", "ratio", title="Reserve and settle, SQLite file"
    )
    asked, used = RenyiLoss(4.0, lambda order: 0.01), RenyiLoss(4.0, lambda order: 0.005)
    for units in (1, 4, 20):
        names = [f"doc-{i}" for i in range(units)]
        with tempfile.TemporaryDirectory() as folder:
            bare = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
            bare.execute("PRAGMA journal_mode = WAL")
            bare.execute("CREATE TABLE t (x INTEGER)")

            def commits(bare: sqlite3.Connection = bare) -> None:
                for level in ("FULL", "NORMAL"):  # a charge must survive a power cut, a refund need not
                    bare.execute(f"PRAGMA synchronous = {level}")
                    bare.execute("INSERT INTO t VALUES (1)")

            with PrivacyLedger(f"sqlite:///{folder}/ledger.db", budget=PrivacyBudget(1e6)) as ledger:

                def pair(ledger: PrivacyLedger = ledger, names: list[str] = names) -> None:
                    held = ledger.reserve(dict.fromkeys(names, asked), order=4.0)
                    ledger.settle(held, dict.fromkeys(names, used))

                theirs, ours = pairs_per_second(commits), pairs_per_second(pair)
            bare.close()
        table.add_row(str(units), f"{theirs:.0f}", f"{ours:.0f}", f"{ours / theirs:.2f}")
    console.print(table)
