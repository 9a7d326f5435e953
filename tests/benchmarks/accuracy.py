"""How often answers are right at each epsilon, for every mechanism, beside redaction and no protection."""

from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from dpfusion_core import FusionEngine
from dpfusion_core.cli.attack import most_of_choice
from tests.benchmarks.answers import CHOICES, DELTA, EPSILONS, Share, closed, five, free_text, yes_or_no
from tests.benchmarks.corpora import Remembering, alone, consensus

_COLUMNS = ("redacted", *(f"{epsilon:g}" for epsilon in EPSILONS), "plain")


def print_all(console: Console, n: int = 400) -> None:
    """Print how good answers are at each epsilon: ``n`` questions to one record, ``n / 4`` corpora of many."""
    torch.set_num_threads(1)
    engine = FusionEngine.from_pretrained("dpfusion-tiny")
    answerer = Remembering(engine)
    rows: list[tuple[str, int, Callable[[], dict[str, Share]]]] = [
        (f"one of {CHOICES}, of one record", n, lambda: closed(engine, list(five(n)))),
        ("yes or no, of one record", n, lambda: closed(engine, list(yes_or_no(n)))),
        ("free text, of one record", n // 4, lambda: free_text(engine, n // 4)),
    ]
    for sharing, size in ((16, 16), (8, 32), (16, 64)):
        rows.append(
            (
                f"consensus, {sharing} of {size} records",
                n // 4,
                lambda size=size, sharing=sharing: consensus(answerer, size, sharing, n // 4),  # type: ignore[misc]
            )
        )
    table = Table(
        "question", "n", "redacted", *(f"epsilon {epsilon:g}" for epsilon in EPSILONS), "plain",
        title=f"Right answers (95 % interval), delta = {DELTA:g}",
    )  # fmt: skip
    for name, count, measure in rows:
        found = measure()
        cells = [str(found[key]) if key in found else "refused" for key in _COLUMNS]
        table.add_row(name, str(count), *cells)
        console.print(
            f"{name}: {', '.join(f'{key} {found[key]}' for key in _COLUMNS if key in found)}", style="dim"
        )
    most = [f"{most_of_choice(epsilon, CHOICES):.2f}" for epsilon in EPSILONS]
    table.add_row(f"the most for one of {CHOICES}", "", "", *most, "")
    table.add_row("the most for yes or no", "", "", *(f"{most_of_choice(e, 2):.2f}" for e in EPSILONS), "")
    console.print(table)
    console.print(f"Told in 1,000 runs what one of 16 records alone says, epsilon 2: {alone(answerer, 1000)}")
