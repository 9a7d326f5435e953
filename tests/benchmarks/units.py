"""What many documents buy: the way to the private model over the number of units, with and without a weight cap.

The documents of a request say the same here, so that the share of the way to the private model is the weight that
they get, over all tokens. Where one of ``N`` knows what the others do not, it is the ``N``-th part of that.
"""

import random
from collections.abc import Sequence
from contextlib import closing

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dpfusion_core import TransformersBackend
from dpfusion_core.decoding import Protection, decode
from dpfusion_core.privacy import (
    FixedAccountant,
    Fused,
    MixtureRule,
    Neighbours,
    PrivacyParameters,
    calibrate_beta,
)
from dpfusion_core.sampling import Sampling
from dpfusion_core.views import Views
from tests.benchmarks.utility import DELTA, TOKENS, Overlaps, cell, requests

UNITS = (1, 2, 4, 8, 16, 32)
CAPS: tuple[float | None, ...] = (1.0, 0.75, 0.5, 0.25)


class Agreeing:
    """The mixture of as many units as are wanted, all with the text of one, noting how near to it the answer is."""

    def __init__(self, parameters: PrivacyParameters, units: int) -> None:
        self._rule, self._units = MixtureRule.of(parameters), units
        self.overlaps: Overlaps = []

    def fuse(self, public: Tensor, private: Tensor, bounds: Tensor) -> Fused:
        """Fuse one token; ``private`` has one row."""
        fused = self._rule.fuse(public, private.expand(self._units, -1), bounds)
        rows = torch.stack([fused.log_probs, public]).exp()  # [2, vocab]
        near = torch.minimum(rows, private[0].exp()).sum(dim=-1)
        self.overlaps.append((float(near[0]), float(near[1])))
        return fused


def respond(
    backend: TransformersBackend, views: Views, parameters: PrivacyParameters, units: int, seed: int
) -> Overlaps:
    """Sample one response and return its overlaps."""
    rule = Agreeing(parameters, units)
    with closing(backend.open(views.prompts)) as session:
        for _ in decode(
            session,
            views.public,
            protection=Protection(rule, FixedAccountant(parameters, units, TOKENS)),
            sampling=Sampling(),
            rng=random.Random(seed),
            max_tokens=TOKENS,
            eos_token_ids=backend.eos_token_ids,
        ):
            pass
    return rule.overlaps


def curve(console: Console, epsilons: Sequence[float], n: int) -> None:
    """Print the curve over the number of units; without a cap, with some, and with the default."""
    backend = TransformersBackend.from_pretrained("dpfusion-tiny")
    views = requests(backend, "paraphrase", n)
    relations: tuple[tuple[Neighbours, float], ...] = tuple(("zero-out", each) for each in epsilons)
    for neighbours, epsilon in (*relations, ("replace", epsilons[-1])):
        caps = CAPS if neighbours == "zero-out" else (None,)
        table = Table(
            "units",
            *("default cap" if cap is None else "no cap" if cap == 1.0 else f"cap {cap:g}" for cap in caps),
            "the default",
            title=f"Paraphrase, {neighbours} neighbours, epsilon = {epsilon:g}, {TOKENS} tokens, {n} records: "
            "recovered overlap in percent",
        )
        for units in UNITS:
            cells = []
            for cap in caps:
                chosen = calibrate_beta(epsilon, DELTA, TOKENS, units, neighbours=neighbours, weight_cap=cap)
                cells.append(cell([respond(backend, each, chosen, units, i) for i, each in enumerate(views)]))
            chosen = calibrate_beta(epsilon, DELTA, TOKENS, units, neighbours=neighbours)
            table.add_row(
                str(units), *cells, "none" if chosen.weight_cap == 1.0 else f"{chosen.weight_cap:.3g}"
            )
        console.print(table)


def print_all(console: Console, n: int = 8) -> None:
    """Print all tables, over ``n`` records."""
    torch.set_num_threads(1)
    curve(console, (2.0, 8.0), n)
