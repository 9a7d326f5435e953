"""What a budget buys: how near fused text stays to the private model, at equal epsilon.

At each token the overlap ``1 - TV(p, o)`` of the fused distribution with the private model's is taken,
and beside it the overlap of the redacted model's. What is printed is the share of the way from the
redacted model's to 1 that is recovered, over all tokens, with a 95 % bootstrap interval over the
responses. Every method answers the same requests within the same (epsilon, delta) for 70 tokens.
"""

import math
import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dpfusion_core import Message, PhraseTagger, TransformersBackend
from dpfusion_core.decoding import Protection, decode
from dpfusion_core.placeholders import fixed_placeholder
from dpfusion_core.privacy import (
    SPENDING_RULES,
    Accountant,
    AdaptiveAccountant,
    FixedAccountant,
    Fused,
    MixtureRule,
    PrivacyParameters,
    calibrate_beta,
    smallest_epsilon,
)
from dpfusion_core.sampling import Sampling
from dpfusion_core.tagging import split_by_spans
from dpfusion_core.views import Views, build_views
from tiny_recipe.held_out import held_out_records

DELTA, TOKENS = 1e-5, 70
Overlaps = list[tuple[float, float]]  # one pair for each token: fused, redacted


class RecordingRule:
    """The mixture, noting how near to the private distribution it and the public one are."""

    def __init__(self, parameters: PrivacyParameters) -> None:
        self._rule = MixtureRule.of(parameters)
        self.overlaps: Overlaps = []

    def fuse(self, public: Tensor, private: Tensor, bounds: Tensor) -> Fused:
        """Fuse one token of one unit."""
        fused = self._rule.fuse(public, private, bounds)
        rows = torch.stack([fused.log_probs, public]).exp()  # [2, vocab]
        near = torch.minimum(rows, private[0].exp()).sum(dim=-1)
        self.overlaps.append((float(near[0]), float(near[1])))
        return fused


@dataclass(frozen=True)
class Method:
    """A way to spend a budget; ``prepare`` is None where it cannot certify the budget."""

    name: str
    prepare: Callable[[], tuple[PrivacyParameters, Accountant]] | None


def methods(epsilon: float) -> list[Method]:
    """Return the methods at one epsilon."""
    fixed = calibrate_beta(epsilon, DELTA, TOKENS)
    adaptive = calibrate_beta(epsilon, DELTA, TOKENS, accounting="adaptive")
    found = [Method("paper, alpha=2", None)]
    # Its worst case: 4 beta T + log(1/delta) / (alpha - 1).
    beta = (epsilon - math.log(1.0 / DELTA)) / (4.0 * TOKENS)
    if beta > 0.0:
        paper = PrivacyParameters(2.0, beta, DELTA)
        found = [Method("paper, alpha=2", lambda: (paper, FixedAccountant(paper, 1, TOKENS)))]
    found.append(Method("fixed, best order", lambda: (fixed, FixedAccountant(fixed, 1, TOKENS))))
    for rule in SPENDING_RULES:
        found.append(
            Method(
                f"adaptive, {rule}",
                lambda rule=rule: (adaptive, AdaptiveAccountant(adaptive, 1, TOKENS, spending=rule)),  # type: ignore[misc]
            )
        )
    return found


def requests(backend: TransformersBackend, task: str, n: int) -> list[Views]:
    """Return held-out records whose values are private, with a question or to be paraphrased."""
    found = []
    for record in held_out_records(n, seed=31_000):
        spans = PhraseTagger(list(record.fields.values())).tag(record.text)
        request = record.question if task == "question" else "Paraphrase the text."
        messages = [Message("user", split_by_spans(record.text, spans)), Message("user", request)]
        found.append(build_views(messages, backend.tokenizer, fixed_placeholder()))
    return found


def respond(
    backend: TransformersBackend,
    views: Views,
    parameters: PrivacyParameters,
    accountant: Accountant,
    seed: int,
) -> Overlaps:
    """Sample one response and return its overlaps."""
    rule = RecordingRule(parameters)
    with closing(backend.open(views.prompts)) as session:
        for _ in decode(
            session,
            views.public,
            protection=Protection(rule, accountant),
            sampling=Sampling(),
            rng=random.Random(seed),
            max_tokens=TOKENS,
            eos_token_ids=backend.eos_token_ids,
        ):
            pass
    return rule.overlaps


def recovered(responses: Sequence[Overlaps]) -> float:
    """Return the share of the way from the redacted model's overlap to 1 that is recovered."""
    gained = sum(fused - redacted for response in responses for fused, redacted in response)
    return gained / sum(1.0 - redacted for response in responses for _, redacted in response)


def interval(responses: Sequence[Overlaps]) -> tuple[float, float]:
    """Return a 95 % bootstrap interval over responses."""
    rng = random.Random(0)
    values = sorted(recovered(rng.choices(responses, k=len(responses))) for _ in range(400))
    return values[10], values[389]


def cell(responses: Sequence[Overlaps]) -> str:
    """Return a share with its interval, in percent."""
    low, high = interval(responses)
    return f"{100 * recovered(responses):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def compare_methods(console: Console, n: int) -> None:
    """Print the table of methods."""
    backend = TransformersBackend.from_pretrained("dpfusion-tiny")
    tasks = {task: requests(backend, task, n) for task in ("paraphrase", "question")}
    for epsilon in (4.0, 8.0):
        table = Table(
            "method",
            *tasks,
            title=f"Recovered overlap in percent, epsilon = {epsilon:g}, delta = {DELTA:g}, {TOKENS} tokens, "
            f"{n} records",
        )
        for method in methods(epsilon):
            if method.prepare is None:
                table.add_row(method.name, *["cannot certify it"] * len(tasks))
                continue
            cells = []
            for views in tasks.values():
                cells.append(cell([respond(backend, v, *method.prepare(), i) for i, v in enumerate(views)]))
            table.add_row(method.name, *cells)
        console.print(table)


def compare_splits(console: Console, n: int) -> None:
    """Print what each split between cap and divergence gives under replace neighbours."""
    backend = TransformersBackend.from_pretrained("dpfusion-tiny")
    tasks = {task: requests(backend, task, n) for task in ("paraphrase", "question")}
    table = Table(
        "epsilon",
        "share of the cap",
        *tasks,
        title="Replace neighbours, fixed accounting: recovered overlap, percent",
    )
    for epsilon in (4.0, 8.0):
        for share in (0.1, 0.5, 0.7, 0.9):
            parameters = calibrate_beta(epsilon, DELTA, TOKENS, neighbours="replace", mixing_share=share)
            cells = [
                cell([respond(backend, v, parameters, FixedAccountant(parameters, 1, TOKENS), i)
                      for i, v in enumerate(views)])
                for views in tasks.values()
            ]  # fmt: skip
            table.add_row(f"{epsilon:g}", f"{share:g}", *cells)
    console.print(table)


def smallest_epsilons(console: Console) -> None:
    """Print the smallest epsilon that each method can certify."""
    table = Table("method", "smallest epsilon", title=f"delta = {DELTA:g}, 100 tokens")
    table.add_row("paper, alpha=2", f"{math.log(1 / DELTA):.2f}")
    table.add_row("ours, alpha=2", f"{smallest_epsilon(2.0, DELTA):.2f}")
    table.add_row("ours, best order (fixed or adaptive)", f"{smallest_epsilon(256.0, DELTA):.3f}")
    console.print(table)


def synthetic_profiles(console: Console, n: int) -> None:
    """Print how the spending rules do where divergence comes early, late, everywhere or rarely."""
    profiles: dict[str, Callable[[int, random.Random], float]] = {
        "everywhere": lambda t, r: 0.5,
        "rarely": lambda t, r: 4.0 if r.random() < 0.1 else 0.02,
        "early": lambda t, r: 2.0 if t < 15 else 0.02,
        "late": lambda t, r: 2.0 if t >= TOKENS - 15 else 0.02,
        "ends early": lambda t, r: 1.0 if t < 12 else math.nan,
    }
    table = Table(
        "method", *profiles, title="Synthetic divergence profiles, epsilon = 8: recovered overlap in percent"
    )
    for method in methods(8.0):
        if method.prepare is None:
            continue
        cells = []
        for profile in profiles.values():
            responses = []
            for seed in range(n):
                parameters, accountant = method.prepare()
                rule, rng = RecordingRule(parameters), random.Random(seed)
                generator = torch.Generator().manual_seed(seed)
                for step in range(TOKENS):
                    scale = profile(step, rng)
                    if math.isnan(scale):
                        break
                    logits = 2.0 * torch.randn(200, dtype=torch.float64, generator=generator)
                    other = logits + scale * torch.randn(200, dtype=torch.float64, generator=generator)
                    fused = rule.fuse(
                        torch.log_softmax(logits, dim=-1),
                        torch.log_softmax(other, dim=-1)[None],
                        accountant.bounds(),
                    )
                    accountant.charge(fused.losses)
                responses.append(rule.overlaps)
            cells.append(f"{100 * recovered(responses):.1f}")
        table.add_row(method.name, *cells)
    console.print(table)


def print_all(console: Console, n: int = 20) -> None:
    """Print all tables, over ``n`` records."""
    torch.set_num_threads(1)
    smallest_epsilons(console)
    synthetic_profiles(console, max(4, n // 4))
    compare_methods(console, n)
    compare_splits(console, n)
