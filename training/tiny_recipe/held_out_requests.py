"""Held-out requests beside free questions, with values that no training record has."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tiny_recipe import chats, closed, lists, tasks
from tiny_recipe import phrasing as ph
from tiny_recipe.cases import Case, Fact
from tiny_recipe.fields import NAME
from tiny_recipe.held_out import Probe
from tiny_recipe.records import make_case
from tiny_recipe.values import ValueMaker


def _maker(rng: random.Random) -> ValueMaker:
    return ValueMaker(rng, held_out=True, invented=0.3)


def _case(rng: random.Random) -> tuple[Case, Fact, str]:
    while True:
        case = make_case(rng, _maker(rng), rng.randint(2, 7), wide=True)
        facts = [f for f in case.facts if f.field is not NAME]
        if facts:
            fact = ph.pick(rng, facts)
            return case, fact, tasks.compose(rng, case, fact)[0]


def _never(fact: Fact) -> bool:
    return False


def _probe(rng: random.Random, text: str, request: closed.Request, field: str = "", frame: str = "") -> Probe:
    turns = chats.converse(rng, text, [(request.text, "")])[:-1]
    messages = tuple({"role": t.role, "content": t.clean} for t in turns)
    return Probe(
        messages, (_clean(request.right),), request.choices, field, frame or _clean(request.right), text
    )


def _clean(text: str) -> str:
    return text.replace(chats.OPEN, "").replace(chats.CLOSE, "")


def choices(n: int, seed: int, listed: bool = True) -> Iterator[Probe]:
    """Yield questions with one of five answers, the choices standing in the request or not.

    ``forbidden`` holds the choices, the right one included.
    """
    rng = random.Random(seed)
    for _ in range(n):
        case, fact, question = _case(rng)
        text = case.text()
        options = [fact.value, *closed.other_values(_maker(rng), fact.field.kind, 4, text + question)]
        while len(options) < 5:
            options += closed.other_values(_maker(rng), "word", 1, text + "".join(options))
        rng.shuffle(options)
        asked = closed.offer(rng, question, options) if listed else question
        yield _probe(rng, text, closed.Request(asked, "", fact.value, tuple(options)), fact.field.kind)


def yes_no(n: int, seed: int, true: bool) -> Iterator[Probe]:
    """Yield yes/no questions about a record whose answer is yes, or no."""
    rng, made = random.Random(seed), 0
    while made < n:
        case, fact, _ = _case(rng)
        subject = case.person.name or f"the {case.person.role}"
        request = closed.yes_no(rng, _maker(rng), case, fact, case.text(), subject, _never)
        if (request.right.lower() == "yes") == true and "yes" in request.text.lower():
            made += 1
            yield _probe(rng, case.text(), request)


def brief(n: int, seed: int) -> Iterator[Probe]:
    """Yield questions to be answered in a few words."""
    rng = random.Random(seed)
    for _ in range(n):
        case, fact, question = _case(rng)
        yield _probe(rng, case.text(), closed.brief(rng, question, fact, False), fact.field.kind)


def numbers(n: int, seed: int) -> Iterator[Probe]:
    """Yield questions to be answered with a number."""
    rng, made = random.Random(seed), 0
    while made < n:
        case, fact, question = _case(rng)
        if fact.field.kind in closed.NUMERIC and closed.digits(fact.value):
            made += 1
            yield _probe(rng, case.text(), closed.number(rng, question, fact), fact.field.kind)


def common(n: int, seed: int) -> Iterator[Probe]:
    """Yield questions meant for many records, put to one."""
    rng = random.Random(seed)
    for _ in range(n):
        case, fact, _ = _case(rng)
        yield _probe(rng, case.text(), lists.common(rng, case, fact, False), fact.field.kind)


def items(n: int, seed: int, as_json: bool) -> Iterator[Probe]:
    """Yield requests for a list of short phrases, one per line or in JSON."""
    rng, made = random.Random(seed), 0
    while made < n:
        case, fact, question = _case(rng)
        request = lists.items(rng, case, question, fact if made % 2 else None, _never)
        if request.right.startswith("[") == as_json:
            made += 1
            yield _probe(rng, case.text(), request)


def written(n: int, seed: int) -> Iterator[Probe]:
    """Yield requests to write an answer from released items."""
    rng = random.Random(seed)
    for _ in range(n):
        turns = lists.written(rng, _maker(rng))
        messages = tuple({"role": t.role, "content": t.clean} for t in turns[:-1])
        parts = turns[-1].text.split(chats.OPEN)[1:]
        yield Probe(messages, tuple(p.split(chats.CLOSE)[0] for p in parts), (), "", turns[-1].clean)
