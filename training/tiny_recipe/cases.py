"""Cases: the private facts of one person with a text that has a slot for each value."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tiny_recipe.fields import Clause, Field

SLOT = re.compile("\x01(\\d+)([fs]?)\x02")
"""Where a value goes: its place among the facts, and ``f`` or ``s`` for its first or last word alone."""


@dataclass(frozen=True)
class Fact:
    """One private value of a record.

    Attributes:
        field: What the value is.
        noun: The noun that the record uses for it.
        value: The private value.
    """

    field: Field
    noun: str
    value: str


@dataclass(frozen=True)
class Person:
    """Whom a record is about: the role, the gender and the place of the name among the facts."""

    role: str
    female: bool
    name: str | None

    @property
    def pronoun(self) -> str:
        """The pronoun of the subject."""
        return "she" if self.female else "he"


@dataclass(frozen=True)
class Case:
    """A record whose values are still slots.

    Attributes:
        domain: Domain of the record.
        person: Whom it is about.
        facts: The private facts, in order of first appearance.
        template: The text with a slot for each value.
        other: The same in other words.
    """

    domain: str
    person: Person
    facts: tuple[Fact, ...]
    template: str
    other: str

    def text(self, blank: Callable[[Fact], str | None] | None = None) -> str:
        """Fill the slots.

        Args:
            blank: Gives a placeholder for a fact, or None to show its value.

        Returns:
            The text of the record.
        """

        def fill(match: re.Match[str]) -> str:
            fact = self.facts[int(match[1])]
            hidden = blank(fact) if blank else None
            if hidden is not None:
                return hidden
            words = fact.value.split()
            return {"f": words[0], "s": words[-1]}.get(match[2], fact.value)

        return SLOT.sub(fill, self.template)

    def paraphrase(self, show: Callable[[Fact, str], str]) -> str:
        """Fill the slots of the text in other words.

        Args:
            show: Gives the text of a fact, from the fact and the part of its value.

        Returns:
            The paraphrase.
        """

        def fill(match: re.Match[str]) -> str:
            fact = self.facts[int(match[1])]
            words = fact.value.split()
            return show(fact, {"f": words[0], "s": words[-1]}.get(match[2], fact.value))

        return SLOT.sub(fill, self.other)


def possessive(subject: str) -> str:
    """Turn a subject into its possessive."""
    if subject in ("he", "she"):
        return {"he": "his", "she": "her"}[subject]
    return subject + "'s"


def article(value: str) -> str:
    """Return the indefinite article of a value, with a space."""
    return "an " if value[:1].lower() in "aeiou" else "a "


def mismatch(pattern: str, value: str) -> bool:
    """Tell whether ``in`` or ``on`` before the value does not suit a date or a year."""
    year = value.isdigit() and len(value) == 4
    if not (year or re.search(r"\d{4}", value)) or ("born" not in pattern and "date" not in pattern):
        return False
    return ("in {v}" in pattern) != year if ("in {v}" in pattern or "on {v}" in pattern) else False


def fits(clause: Clause, value: str) -> bool:
    """Tell whether a clause suits a value."""
    return not (mismatch(clause.says, value) or ("On which date" in clause.asks and value.isdigit()))
