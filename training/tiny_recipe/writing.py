"""Writing: sentences and forms that state the facts of a case."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tiny_recipe.cases import Fact, Person, article, fits, mismatch, possessive
from tiny_recipe.fields import NAME
from tiny_recipe.phrasing import pick, plain_sentence, upper_first

_NOUN_SENTENCES = (
    "The {n} is {v}.", "The {n} is {v}.", "The {n} of {s} is {v}.", "{P} {n} is {v}.", "{v} is the {n}.",
    "{v} is {p} {n}.", "The {n} on file is {v}.", "The file gives {v} as the {n}.", "As {n}, {s} gave {v}.",
    "The {n} was recorded as {v}.", "The {n} was noted as {v}.", "According to the file, the {n} is {v}.",
    "The {n}, {v}, is on file.", "We have {v} as {p} {n}.", "For the {n}, the form says {v}.", "{N}: {v}.",
    "The {n} listed here is {v}.", "{P} {n} was {v}.", "It names {v} as the {n}.", "{S} has {v} as {n}.",
)  # fmt: skip
_NAME_SENTENCES = (
    "The {r} is {v}.", "The name of the {r} is {v}.", "This record concerns {v}.", "The file was opened for {v}.",
    "{v} is the {r}.", "The {r} is called {v}.", "The {r} is named {v}.", "This is about {v}, {ar}.",
    "We spoke with {v}.", "The {r}'s name is {v}.", "File of {v}.", "The {r} introduced {o} as {v}.", "Re: {v}.",
)  # fmt: skip


def _has_subject(pattern: str) -> bool:
    return any(x in pattern for x in ("{s}", "{S}", "{p}", "{P}"))


class Writer:
    """Writes the text of one record."""

    def __init__(
        self,
        rng: random.Random,
        person: Person,
        facts: Sequence[Fact],
        other: bool = False,
        loose: Callable[[random.Random, str, bool], str] | None = None,
    ) -> None:
        """Set up the writer.

        Args:
            rng: Random source.
            person: Whom the record is about.
            facts: Its facts, in order.
            other: Whether to take another wording wherever there is one.
            loose: Changes each sentence, given whether its first letter may become small.
        """
        self.other, self.loose = other, loose
        self.rng, self.person, self.facts = rng, person, facts
        self.named = any(f.field is NAME for f in facts)
        self.name_slot = next((i for i, f in enumerate(facts) if f.field is NAME), -1)
        self.started = self.introduced = False

    def _word(self, options: Sequence[str]) -> str:
        """Choose a wording, or the next one of the same make where another is wanted."""
        chosen = pick(self.rng, options)
        if not self.other:
            return chosen
        alike = [o for o in dict.fromkeys(options) if _has_subject(o) == _has_subject(chosen)]
        return alike[(alike.index(chosen) + 1) % len(alike)]

    def _subject(self) -> str:
        r, u, p, slot = self.rng, self.rng.random(), self.person, self.name_slot
        if not self.started:
            self.started = True
            if self.named and not self.introduced and (u < 0.75 or slot == 0):
                self.introduced = True
                the_role = f"the {p.role}" + pick(r, (",", ""))
                return (
                    f"{the_role} \x01{slot}\x02" + ("," if the_role[-1] == "," else "")
                    if u < 0.15
                    else f"\x01{slot}\x02"
                )
        if not self.introduced:
            return f"the {p.role}"
        if u < 0.4:
            return p.pronoun
        if u < 0.65:
            return f"the {p.role}"
        if u < 0.75:
            return f"\x01{slot}\x02"
        title = pick(r, ("Ms. ", "Mrs. ") if p.female else ("Mr. ",))
        return f"{title}\x01{slot}s\x02" if u < 0.9 else f"\x01{slot}f\x02"

    def _fill(self, pattern: str, i: int, subject: str = "") -> str:
        fact = self.facts[i]
        if _has_subject(pattern):
            subject = subject or self._subject()
        own = possessive(subject) if subject else ""
        if "of {s}" in pattern or ("{s} gave" not in pattern and pattern.endswith("{s}.")):
            subject = {"he": "him", "she": "her"}.get(subject, subject)
        role = self.person.role
        text = pattern.format(
            s=subject, S=upper_first(subject), p=own, P=upper_first(own), n=fact.noun, N=upper_first(fact.noun),
            v=f"\x01{i}\x02", a=article(fact.value), r=role, ar=article(role) + role,
            o="herself" if self.person.female else "himself",
        )  # fmt: skip
        return upper_first(text)

    def _clause(self, i: int) -> str:
        field, fact = self.facts[i].field, self.facts[i]
        options = [c.says for c in field.clauses if fits(c, fact.value)] or ["has the " + fact.noun + " {v}"]
        return self._word(options).format(v=f"\x01{i}\x02", a=article(fact.value))

    def _mod(self, i: int) -> str:
        fact = self.facts[i]
        options = [m for m in fact.field.mods if not mismatch(m, fact.value)] or [fact.noun + " {v}"]
        return self._word(options).format(v=f"\x01{i}\x02", a=article(fact.value))

    def _one(self, i: int) -> str:
        r, field = self.rng, self.facts[i].field
        if field is NAME:
            self.introduced = True
            return self._fill(self._word(_NAME_SENTENCES), i)
        u = r.random()
        if field.clauses and u < 0.6:
            return upper_first(f"{self._subject()} {self._clause(i)}.")
        if field.plain and u < 0.75:
            return self._fill(self._word(field.plain) + ".", i)
        return self._fill(self._word(_NOUN_SENTENCES), i)

    def _several(self, ids: Sequence[int]) -> str:
        r, u = self.rng, self.rng.random()
        if u < 0.4:
            parts = [self._clause(i) for i in ids]
            body = ", ".join(parts[:-1]) + pick(r, (" and ", " and ", ", and ")) + parts[-1]
            return upper_first(f"{self._subject()} {body}.")
        if u < 0.6:
            mods = ", ".join(self._mod(i) for i in ids[:-1])
            return upper_first(f"{self._subject()}, {mods}, {self._clause(ids[-1])}.")
        if u < 0.7:
            return upper_first(
                f"{self._mod(ids[0])}, {self._subject()} {' and '.join(map(self._clause, ids[1:]))}."
            )
        if u < 0.85:
            parts = [f"the {self.facts[i].noun} is \x01{i}\x02" for i in ids]
            return upper_first(pick(r, (" and ", ", and ", ", ", "; ")).join(parts) + ".")
        join = pick(r, ("; ", ", while ", " and ", ", but ", ", and "))
        return (
            join.join(p[:-1] if k == 0 else self._lower(p[:-1]) for k, p in enumerate(map(self._one, ids)))
            + "."
        )

    @staticmethod
    def _lower(text: str) -> str:
        return text if text.startswith(("\x01", "Mr", "Ms", "Dr")) else text[:1].lower() + text[1:]

    def _loosen(self, sentence: str) -> str:
        return self.loose(self.rng, sentence, self._lower(sentence) != sentence) if self.loose else sentence

    def prose(self, plain: float) -> str:
        """Write sentences of one to three facts each.

        Args:
            plain: Chance of a sentence without facts after each sentence.

        Returns:
            The template of the record.
        """
        r, i, out = self.rng, 0, []
        if r.random() < plain / 2:
            out.append(plain_sentence(r))
        ids = list(range(len(self.facts)))
        if self.name_slot == 0 and r.random() < 0.7:
            ids = ids[1:]  # the name comes in as the subject of the first sentence
        while i < len(ids):
            n = min(len(ids) - i, r.choices((1, 2, 3), (6, 3, 1))[0])
            group = ids[i : i + n]
            if self.name_slot in group and self.introduced:
                group.remove(self.name_slot)
            i += n
            if not group:
                continue
            single = len(group) == 1 or any(self.facts[k].field is NAME for k in group)
            said = [self._one(k) for k in group] if single else [self._several(group)]
            out.extend(self._loosen(x) for x in said)
            if len(ids) < len(self.facts) and not self.introduced:
                out.insert(0, self._one(0))
                ids = list(range(1, len(self.facts)))
            if r.random() < plain:
                out.append(plain_sentence(r))
        if self.named and not self.introduced:
            out.insert(0, self._one(self.name_slot))
        return " ".join(out)

    def form(self) -> str:
        """Write a form, one fact after the other."""
        r = self.rng
        if self.other:
            return " ".join(f"The {f.noun} is \x01{i}\x02." for i, f in enumerate(self.facts))
        colon = pick(r, (": ", ": ", ": ", " = ", " - ", " is "))
        join = pick(r, ("\n", "\n", "; ", " | ", ", ", ". "))
        title = r.random() < 0.8
        rows = [
            (upper_first(f.noun) if title else f.noun) + f"{colon}\x01{i}\x02"
            for i, f in enumerate(self.facts)
        ]
        return join.join(rows) + pick(r, ("", "."))
