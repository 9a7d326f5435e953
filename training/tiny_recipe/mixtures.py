"""Mixtures of requests beside free questions, about one record or about one of several."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tiny_recipe.cases import Case, Fact
from tiny_recipe.chats import mark
from tiny_recipe.closed import NUMERIC, Hidden, brief, choice, digits, number, yes_no
from tiny_recipe.fields import NAME
from tiny_recipe.lists import as_object, common, items
from tiny_recipe.phrasing import pick
from tiny_recipe.values import ValueMaker

Composer = Callable[[random.Random, Case, Fact], tuple[str, str]]
"""Composes a bare question about a fact, and the frame of its answer."""


def requests(
    rng: random.Random, maker: ValueMaker, case: Case, hidden: Hidden, compose: Composer, n: int
) -> list[tuple[str, str]]:
    """Make requests about one record.

    Args:
        rng: Random source.
        maker: Source of values that are not there.
        case: The record.
        hidden: Whether a fact is redacted.
        compose: Composes a bare question about a fact.
        n: How many.

    Returns:
        Requests with answers.
    """
    text, out = case.text(), []
    for _ in range(n):
        fact, u = pick(rng, case.facts), rng.random()
        question = compose(rng, case, fact)[0]
        role = f"the {case.person.role}"
        subject = (
            role if fact.field is NAME else pick(rng, (case.person.name or role, role, case.person.pronoun))
        )
        numeric = [f for f in case.facts if f.field.kind in NUMERIC and digits(f.value) and not hidden(f)]
        if u < 0.3 and not hidden(fact):
            made = choice(rng, maker, question, fact, text)
        elif u < 0.55:
            made = yes_no(rng, maker, case, fact, text, subject, hidden, question=question)
        elif u < 0.65 and numeric:
            fact = pick(rng, numeric)
            made = number(rng, compose(rng, case, fact)[0], fact)
        elif u < 0.73:
            made = brief(rng, question, fact, hidden(fact))
        elif u < 0.87:
            made = items(rng, case, question, None if rng.random() < 0.5 else fact, hidden)
        elif u < 0.98 and fact.field is not NAME:
            made = common(rng, case, fact, hidden(fact))
        else:
            made = as_object(rng, case, hidden)
        out.append((made.text, made.answer))
    return out


def about_one_of(
    rng: random.Random,
    maker: ValueMaker,
    cases: Sequence[Case],
    question: str,
    i: int,
    fact: Fact,
    hidden: Hidden,
) -> tuple[str, str] | None:
    """Make a closed request about one of several records, or None where the fact is redacted.

    Args:
        rng: Random source.
        maker: Source of values that are not there.
        cases: The records, each with a name.
        question: A bare question that names whom it is about.
        i: Which record it is about.
        fact: The fact asked.
        hidden: Whether a fact is redacted.

    Returns:
        A request with its answer.
    """
    text, u = "\n".join(c.text() for c in cases), rng.random()
    if hidden(fact):
        return None
    if u < 0.4:
        there = [f.value for c in cases for f in c.facts if f.field.kind == fact.field.kind and f.value != fact.value
                 and f.value not in fact.value and fact.value not in f.value]  # fmt: skip
        made = choice(rng, maker, question, fact, text, 6)
        options = list(dict.fromkeys([fact.value, *rng.sample(there, min(len(there), 3)), *made.choices[:2]]))
        rng.shuffle(options)
        return f"{question} Answer with one of: {', '.join(options)}.", mark(fact.value)
    if u < 0.8:
        others = [c for k, c in enumerate(cases) if k != i]
        made = yes_no(rng, maker, cases[i], fact, text, str(cases[i].person.name), hidden, others, question)
        return made.text, made.answer
    made = brief(rng, question, fact, False)
    return made.text, made.answer
