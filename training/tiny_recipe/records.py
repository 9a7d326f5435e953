"""Records: random facts of one person, written down."""

from __future__ import annotations

import random

from tiny_recipe.cases import SLOT, Case, Fact, Person
from tiny_recipe.fields import COMMON, DOMAINS, NAME, ROLES, Field, invented_field
from tiny_recipe.phrasing import pick
from tiny_recipe.values import ValueMaker
from tiny_recipe.wordings import WIDE_COMMON, WIDE_DOMAINS, loosen
from tiny_recipe.writing import Writer

# Nouns too coarse for a record that has two facts of the same kind.
_COARSE = frozenset(
    ("date", "amount", "number", "total", "sum", "address", "contact number", "place", "condition", "pay")
)


def make_case(
    rng: random.Random,
    maker: ValueMaker,
    facts: int,
    domain: str | None = None,
    form: float = 0.2,
    plain: float = 0.15,
    named: float = 0.8,
    wide: bool = False,
) -> Case:
    """Make a record.

    Args:
        rng: Random source.
        maker: Source of values.
        facts: How many facts it has, the name included.
        domain: Its domain, or None for any.
        form: Chance that it is a form and not prose.
        plain: Chance of a sentence without facts after each sentence.
        named: Chance that it has a name.
        wide: Whether it may use all wordings, labels and counts.

    Returns:
        The record.
    """
    domain = domain or pick(rng, tuple(DOMAINS))
    own, common = (WIDE_DOMAINS[domain], WIDE_COMMON) if wide else (DOMAINS[domain], COMMON)
    fields: list[Field] = []
    has_name = rng.random() < named and facts > 1
    while len(fields) < facts - has_name:
        u = rng.random()
        field = (
            invented_field(rng, maker)
            if u < 0.12
            else pick(rng, own if u < (0.7 if wide else 0.56) else common)
        )
        if all(field.key != f.key for f in fields):
            fields.append(field)
    if has_name:
        fields.insert(0 if rng.random() < 0.8 else rng.randint(0, len(fields)), NAME)
    kinds = [f.kind for f in fields]
    made: list[Fact] = []
    seen: set[str] = set()
    for field in fields:
        nouns = [n for n in field.nouns if kinds.count(field.kind) == 1 or n not in _COARSE] or list(
            field.nouns
        )
        value = maker.make(field.kind)
        while value in seen or any(value in s or s in value for s in seen):
            value = maker.make(field.kind)
        seen.add(value)
        made.append(Fact(field, pick(rng, nouns), value))
    name = next((f.value for f in made if f.field is NAME), None)
    person = Person(pick(rng, ROLES[domain]), rng.random() < 0.5, name)
    person = Person(person.role, {"woman": True, "man": False}.get(person.role, person.female), name)
    as_form, state = rng.random() < form, rng.getstate()
    again = random.Random()
    again.setstate(state)
    texts = [
        (w.form() if as_form else w.prose(plain)).replace(",,", ",")
        for w in (
            Writer(rng, person, made, loose=loosen if wide else None),
            Writer(again, person, made, other=True, loose=loosen if wide else None),
        )
    ]
    template = texts[0]
    order = list(dict.fromkeys(int(m[1]) for m in SLOT.finditer(template)))
    place = {old: new for new, old in enumerate(order)}
    first, second = (SLOT.sub(lambda m: f"\x01{place[int(m[1])]}{m[2]}\x02", t) for t in texts)
    return Case(domain, person, tuple(made[k] for k in order), first, second)
