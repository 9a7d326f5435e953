"""Chats: messages, their layouts and the placeholders of redacted values."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dpfusion_core.tiny import PLACEHOLDER
from tiny_recipe import phrasing as ph
from tiny_recipe.cases import Fact
from tiny_recipe.phrasing import pick

OPEN, CLOSE = "\x03", "\x04"
"""Marks around the values in what the assistant says; they are removed before training."""


@dataclass(frozen=True)
class Turn:
    """One message.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        text: The text, with values of the assistant marked.
        silent: How many leading characters are a given prefix, not to be learnt.
    """

    role: str
    text: str
    silent: int = 0

    @property
    def clean(self) -> str:
        """The text without marks."""
        return self.text.replace(OPEN, "").replace(CLOSE, "")


def mark(value: str) -> str:
    """Mark a value."""
    return f"{OPEN}{value}{CLOSE}"


class Blanks:
    """Placeholders of one style, for the facts that are to be hidden."""

    def __init__(self, rng: random.Random, hidden: Callable[[Fact], bool]) -> None:
        """Choose a style.

        Args:
            rng: Random source.
            hidden: Whether a fact is hidden.
        """
        self.hidden = hidden
        self.style = rng.choices(
            ("____", "run", "dots", "tag", "count", "red", "stars"), (78, 5, 3, 5, 3, 3, 3)
        )[0]
        self.length = rng.randint(5, 14)
        self._numbers: dict[str, int] = {}

    def whole(self) -> str:
        """Return the placeholder of a whole record."""
        return {"run": "_" * self.length, "dots": "_ _ _", "red": "[REDACTED]"}.get(self.style, PLACEHOLDER)

    def __call__(self, fact: Fact) -> str | None:
        """Return the placeholder of a fact, or None where it is shown."""
        if not self.hidden(fact):
            return None
        tag = {"name": "PERSON", "city": "LOCATION", "employer": "ORGANIZATION", "birth": "DATE"}.get(
            fact.field.kind, fact.field.kind.upper()
        )
        if self.style == "tag":
            return f"[{tag}]" if tag != "PERSON" or self.length % 2 else "[NAME]"
        if self.style == "count":
            return f"[{tag}_{self._numbers.setdefault(fact.value, len(self._numbers) + 1)}]"
        return "***" if self.style == "stars" else self.whole()


def lay_out(
    rng: random.Random, context: str, first: str, system: str | None, question_first: bool = False
) -> list[Turn]:
    """Put a record and the first request into messages of some layout, or the request before the record."""
    u, lead = 0.5 if question_first else rng.random(), pick(rng, ph.LEADS)
    turns = [Turn("system", system)] if system else []
    if u < 0.45:
        return [*turns, Turn("user", f"{lead}{context}{pick(rng, (chr(10), chr(10) * 2, ' '))}{first}")]
    if u < 0.6:
        before = pick(rng, ("\n\n", "\n", " ", "\n\nRecord: ", "\nText: ", "\n\n---\n"))
        return [*turns, Turn("user", f"{first}{before}{context}")]
    if u < 0.72:
        join = "\n\n" if system else ""
        return [Turn("system", f"{system or ''}{join}{lead}{context}"), Turn("user", first)]
    if u < 0.86:
        return [*turns, Turn("user", lead + context), Turn("user", first)]
    if u < 0.93:
        return [
            *turns,
            Turn("user", lead + context),
            Turn("assistant", pick(rng, ph.ACKS)),
            Turn("user", first),
        ]
    return [Turn("user", lead + context), *turns, Turn("user", first)]


def converse(
    rng: random.Random, context: str, pairs: Sequence[tuple[str, str]], question_first: bool = False
) -> list[Turn]:
    """Make a conversation of requests and answers about a context."""
    system = pick(rng, ph.SYSTEMS) if rng.random() < 0.6 else None
    turns = lay_out(rng, context, pairs[0][0], system, question_first)
    for i, (request, answer) in enumerate(pairs):
        if i:
            turns.append(Turn("user", request))
        turns.append(Turn("assistant", answer))
    return turns


def number_cases(rng: random.Random, texts: Sequence[str]) -> tuple[list[Turn], str, bool]:
    """Lay several records out, numbered or not, in one message or in several."""
    style = pick(rng, ("[{}] ", "[{}] ", "Record {}: ", "{}. ", "Document {}:\n", "", ""))
    rows = [style.format(i + 1) + t for i, t in enumerate(texts)]
    if rng.random() < 0.35:
        role = pick(rng, ("user", "user", "user", "system"))
        return [Turn(role, t) for t in rows], "", bool(style)
    return [], pick(rng, ("\n", "\n\n")).join(rows), bool(style)
