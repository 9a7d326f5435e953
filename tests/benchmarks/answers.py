"""What an answer about one record is worth at each epsilon: a choice out of five, yes or no, free text.

Records, names and values are held out: the model has seen none of them. A choice is scored by the exact probability
of the right one, a text by whether it holds the value. Intervals hold 95 % (Wilson). *Redacted* is the model that
reads the placeholder, *plain* the one that reads the text without any protection.
"""

import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dpfusion_core import FusionEngine, Message, PhraseTagger
from dpfusion_core.tagging import split_by_spans
from tiny_recipe.held_out import Record, held_out_records

DELTA = 1e-5
EPSILONS = (0.5, 1.0, 2.0, 3.0)
CHOICES = 5


@dataclass(frozen=True)
class Share:
    """How often something was so.

    Attributes:
        mean: Of 0 to 1 each.
        n: How many were looked at.
    """

    mean: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Share":
        """Return the mean of values between 0 and 1."""
        return cls(statistics.fmean(values), len(values))

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval; for probabilities, which vary less than yes and no, it is too wide."""
        z, n = 1.96, self.n
        middle = (self.mean + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(self.mean * (1 - self.mean) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.mean:.2f} ({low:.2f} to {high:.2f})"


@dataclass(frozen=True)
class Closed:
    """A question about one record with its choices.

    Attributes:
        record: The record; its values are private.
        question: What is asked.
        choices: All of them.
        right: The right one.
    """

    record: Record
    question: str
    choices: tuple[str, ...]
    right: str

    def messages(self, is_redacted: bool = False) -> list[Message]:
        """Return the request, or that of the redacted model."""
        segments = split_by_spans(
            self.record.text, PhraseTagger(list(self.record.fields.values())).tag(self.record.text)
        )
        shown = Message("user", self.record.all_redacted if is_redacted else segments)
        return [shown, Message("user", self.question)]


def five(n: int, seed: int = 41_000) -> Iterator[Closed]:
    """Yield questions with five answers: the right one, and four other values of the same kind."""
    rng = random.Random(seed)
    values: dict[str, list[str]] = {}
    for record in held_out_records(300, seed + 1):
        values.setdefault(record.field, []).append(record.answer)
    for record in held_out_records(n, seed):
        others = [v for v in dict.fromkeys(values[record.field]) if v not in record.text]
        choices = [record.answer, *rng.sample(others, CHOICES - 1)]
        rng.shuffle(choices)
        yield Closed(record, record.question, tuple(choices), record.answer)


def yes_or_no(n: int, seed: int = 42_000) -> Iterator[Closed]:
    """Yield questions whether a record mentions a value; half of the answers are yes."""
    for number, each in enumerate(five(n, seed)):
        is_so = number % 2 == 0
        value = each.right if is_so else next(v for v in each.choices if v != each.right)
        question = f"Does the record mention {value}? Answer yes or no."
        yield Closed(each.record, question, ("yes", "no"), "yes" if is_so else "no")


def closed(engine: FusionEngine, asked: Sequence[Closed]) -> dict[str, Share]:
    """Return how often the answer is right: redacted, plain, and at each epsilon in expectation."""
    found: dict[str, list[float]] = {}
    for each in asked:
        right = each.choices.index(each.right)
        redacted = engine.choose(each.messages(is_redacted=True), each.choices, temperature=0.0)
        found.setdefault("redacted", []).append(float(redacted.index == right))
        for epsilon in EPSILONS:
            chosen = engine.choose(each.messages(), each.choices, epsilon=epsilon, delta=DELTA, curator=True)
            assert chosen.report is not None
            [private] = chosen.report.private.values()
            found.setdefault(f"{epsilon:g}", []).append(chosen.report.sampled[right])
        found.setdefault("plain", []).append(
            float(max(range(len(private)), key=private.__getitem__) == right)
        )
    return {name: Share.of(values) for name, values in found.items()}


def free_text(engine: FusionEngine, n: int) -> dict[str, Share]:
    """Return how often a free answer about one record, fused token by token, tells the value asked for."""
    asked = list(five(n))

    def right(is_redacted: bool, **options: Any) -> Share:
        chats = [each.messages(is_redacted) for each in asked]
        said = engine.batch(chats, max_tokens=24, **options)
        return Share.of([float(each.right in answer.text) for each, answer in zip(asked, said, strict=True)])

    found = {"redacted": right(True, temperature=0.0)}
    found |= {f"{epsilon:g}": right(False, epsilon=epsilon, delta=DELTA) for epsilon in EPSILONS}
    plain = engine.batch(
        [[Message("user", each.record.text), Message("user", each.question)] for each in asked],
        max_tokens=24,
        temperature=0.0,
    )
    found["plain"] = Share.of([float(e.right in answer.text) for e, answer in zip(asked, plain, strict=True)])
    return found
