"""How often answers are right at each epsilon, for every mechanism, beside redaction and no protection.

What is printed is the table of ``RESULTS.md``. Each row is printed as soon as it is known.
"""

from collections.abc import Mapping

import torch
from rich.console import Console

from dpfusion_core import FusionEngine
from dpfusion_core.cli.attack import most_of_choice
from tests.benchmarks.answers import CHOICES, DELTA, EPSILONS, Share, closed, five, free_text, yes_or_no
from tests.benchmarks.corpora import Remembering, alone, consensus, count_errors, counts

_COLUMNS = ("redacted", *(f"{epsilon:g}" for epsilon in EPSILONS), "plain")


def print_all(console: Console, n: int = 400, model: str = "dpfusion-tiny") -> None:
    """Print how good answers are: ``n`` questions to one record, ``n / 4`` corpora of many."""
    torch.set_num_threads(1)
    engine = FusionEngine.from_pretrained(model)
    answerer = Remembering(engine)

    def say(*cells: str) -> None:
        console.print(f"| {' | '.join(cells)} |", soft_wrap=True, highlight=False, markup=False)

    def row(name: str, size: int, found: Mapping[str, Share]) -> None:
        say(name, str(size), *(str(found[key]) if key in found else "refused" for key in _COLUMNS))

    console.print(f"### Right answers (95 % interval), delta = {DELTA:g}\n", highlight=False)
    say("question", "n", "redacted", *(f"epsilon {epsilon:g}" for epsilon in EPSILONS), "plain")
    say("---", *["---"] * (len(_COLUMNS) + 1))
    few = n // 4
    row(f"one of {CHOICES}, from one record", n, closed(engine, list(five(n))))
    say(
        f"*the most for one of {CHOICES}*",
        "",
        "",
        *(f"{most_of_choice(e, CHOICES):.2f}" for e in EPSILONS),
        "",
    )
    row("yes or no, from one record", n, closed(engine, list(yes_or_no(n))))
    say("*the most for yes or no*", "", "", *(f"{most_of_choice(e, 2):.2f}" for e in EPSILONS), "")
    for sharing, size in ((16, 16), (8, 32), (16, 64)):
        found = consensus(answerer, size, sharing, few)
        row(f"what {sharing} of {size} records share", few, found)
    row("how many of 64 records, to within 5", few, counts(answerer, few))
    row("free text, from one record", few, free_text(engine, few))
    console.print()
    told = alone(answerer, 1000)
    console.print(
        f"Told in 1,000 runs what one of 16 records alone says, at epsilon 2: {told}.", highlight=False
    )
    for epsilon in EPSILONS:
        found_error, own = count_errors(answerer, epsilon)
        console.print(
            f"Counts at epsilon {epsilon:g}: root mean square error {found_error:.2f}, of the noise alone {own:.2f}.",
            highlight=False,
        )
