"""Many questions to one corpus: how often the item that most records name wins a private vote, too.

500 records of an account each, with epsilon 10 and delta 1e-5 for all questions together; 100 questions, each of
which concerns some of the records. What a record answers is drawn here; no model is asked. A question is
answered rightly if the item that was planted for it is the one with the largest count. Run it with
``PYTHONPATH=core:. python tests/benchmarks/votes.py``.
"""

import math
import random
from collections import Counter
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from dpfusion_core import PrivacyBudget, PrivacyLedger
from dpfusion_core.charging import charged
from dpfusion_core.options import Options
from dpfusion_core.releases import plan_votes

RECORDS, QUESTIONS, CORPORA = 500, 100, 2
BUDGET = PrivacyBudget(10.0, 1e-5)
RIVAL, STRAY = (
    0.6,
    0.1,
)  # as many name another item, in parts of those who name the planted one; or one of their own


@dataclass(frozen=True)
class Way:
    """How a corpus is asked: the accounting, and how many questions a record's epsilon is divided by."""

    name: str
    accounting: str
    responses: int


WAYS = (
    Way("fixed: every record pays for every question", "fixed", QUESTIONS),
    Way("adaptive: who has nothing to say pays nothing", "adaptive", 40),
)


def said_of(share: float, chance: random.Random) -> list[tuple[str, ...]]:
    """Draw what each record names in answer to one question."""
    draws = [chance.random() for _ in range(RECORDS)]
    said: list[tuple[str, ...]] = []
    for record, draw in enumerate(draws):
        if draw < share:
            said.append(("planted",))
        elif draw < share * (1.0 + RIVAL):
            said.append(("rival",))
        else:
            said.append((f"stray {record}",) if draw < share * (1.0 + RIVAL) + STRAY else ())
    return said


def asked(way: Way, share: float, seed: int) -> tuple[int, int, int, float]:
    """Return how many questions are right without noise, with it, and how many are wrong; and the largest epsilon."""
    chance = random.Random(seed)
    units = [f"record-{number}" for number in range(RECORDS)]
    options = Options(
        epsilon=BUDGET.epsilon,
        delta=BUDGET.delta,
        responses=way.responses,
        accounting="adaptive" if way.accounting == "adaptive" else "fixed",
        on_exhausted="zero-out",
    )
    plain = right = wrong = 0
    with PrivacyLedger("sqlite://", budget=BUDGET) as ledger:
        for _ in range(QUESTIONS):
            said = said_of(share, chance)
            votes = Counter(item for items in said for item in items)
            plain += votes.most_common(1)[0][0] == "planted"
            with charged(plan_votes(options, units, ledger, max_items=1), ledger) as charge:
                found = charge.votes(said)
            right += bool(found) and found[0].item == "planted"
            wrong += bool(found) and found[0].item != "planted"
        spent = max(account.spent_epsilon for account in ledger.curator.accounts())
    return plain, right, wrong, spent


def interval(part: int, whole: int) -> str:
    """Return a proportion with Wilson's 95 % interval."""
    z, p = 1.96, part / whole
    middle = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z / (1 + z * z / whole) * math.sqrt(p * (1 - p) / whole + z * z / (4 * whole * whole))
    return f"{p:.3f} [{max(0.0, middle - half):.3f}, {min(1.0, middle + half):.3f}]"


def main(console: Console) -> None:
    """Print the table."""
    table = Table(
        "records that name it",
        "accounting",
        "right without noise",
        "right",
        "of it",
        "wrong item first",
        "largest epsilon spent",
        title=f"{QUESTIONS} questions, {RECORDS} records, epsilon {BUDGET.epsilon:g} per record, {CORPORA} corpora",
    )
    total = QUESTIONS * CORPORA
    for share in (0.10, 0.20):
        for way in WAYS:
            runs = [asked(way, share, seed) for seed in range(CORPORA)]
            plain, right, wrong = (sum(column) for column in zip(*(run[:3] for run in runs), strict=True))
            table.add_row(
                f"{share:.0%}",
                way.name,
                interval(plain, total),
                interval(right, total),
                f"{right / plain:.1%}",
                f"{wrong / total:.3f}",
                f"{max(run[3] for run in runs):.3f}",
            )
    console.print(table)


if __name__ == "__main__":
    main(Console(width=180))
