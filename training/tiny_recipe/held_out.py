"""Held-out records and requests: values and names that no training record has.

Only the standard library is needed.  Everything is drawn from a seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dpfusion_core.tiny import PLACEHOLDER
from tiny_recipe import chats, tasks
from tiny_recipe import phrasing as ph
from tiny_recipe.cases import Case, Fact
from tiny_recipe.records import make_case
from tiny_recipe.values import ValueMaker

FIELDS = ("name", "birth", "city", "employer", "amount", "id", "date", "diagnosis", "charge", "product", "phone",
          "email", "address", "job", "drug")  # fmt: skip
"""The fields that are asked, in the order of the evaluation."""


@dataclass(frozen=True)
class Record:
    """A held-out record with a question about it.

    Attributes:
        text: The text of the record.
        fields: Its private values by the noun that the record uses.
        question: A question about one of them.
        answer: The value asked for.
        field: The kind of the value asked for, one of :data:`FIELDS`.
        redacted: The text with the placeholder for the value asked for.
        all_redacted: The text with the placeholder for every private value.
    """

    text: str
    fields: Mapping[str, str]
    question: str
    answer: str
    field: str
    redacted: str
    all_redacted: str


@dataclass(frozen=True)
class Probe:
    """A request of the evaluation with what is expected.

    Attributes:
        messages: The messages, up to the answer.
        expected: The values that the answer must hold.
        forbidden: Values that it must not hold.
        field: Kind of the value asked for, or an empty string.
        frame: The whole answer as the generator would write it.
        source: The text of the record.
    """

    messages: tuple[dict[str, str], ...]
    expected: tuple[str, ...]
    forbidden: tuple[str, ...] = ()
    field: str = ""
    frame: str = ""
    source: str = ""


def _maker(rng: random.Random) -> ValueMaker:
    return ValueMaker(rng, held_out=True, invented=0.3)


def _case_with(rng: random.Random, kind: str, low: int = 2, high: int = 7) -> tuple[Case, Fact]:
    while True:
        case = make_case(rng, _maker(rng), rng.randint(low, high))
        found = [f for f in case.facts if f.field.kind == kind and not f.field.key.startswith("other:")]
        if kind == "name":
            found = [f for f in found if f.field.key == "name"]
        if found:
            return case, ph.pick(rng, found)


def _hide(case: Case, secret: Fact) -> str:
    return case.text(lambda fact: PLACEHOLDER if fact is secret else None)


def _messages(turns: list[chats.Turn]) -> tuple[dict[str, str], ...]:
    return tuple({"role": t.role, "content": t.clean} for t in turns)


def _layout(rng: random.Random, text: str, request: str) -> tuple[dict[str, str], ...]:
    return _messages(chats.converse(rng, text, [(request, "")])[:-1])


def held_out_records(n: int, seed: int) -> list[Record]:
    """Make held-out records with questions.

    Args:
        n: How many.
        seed: Seed of the random source; the same seed gives the same records.

    Returns:
        The records; the fields asked take turns.
    """
    rng, out = random.Random(seed), []
    for i in range(n):
        case, fact = _case_with(rng, FIELDS[i % len(FIELDS)])
        item = tasks.ask(rng, case, fact, short=0.0)
        out.append(Record(
            text=case.text(), fields=MappingProxyType({f.noun: f.value for f in case.facts}), question=item.question,
            answer=fact.value, field=fact.field.kind,
            redacted=_hide(case, fact),
            all_redacted=case.text(lambda f: PLACEHOLDER),
        ))  # fmt: skip
    return out


def _others(facts: tuple[Fact, ...], asked: str, question: str) -> tuple[str, ...]:
    return tuple(
        f.value for f in facts if f.value != asked and f.value not in question and f.value not in asked
    )


def one_record(n: int, seed: int) -> Iterator[Probe]:
    """Yield questions about one record."""
    rng = random.Random(seed)
    for i in range(n):
        case, fact = _case_with(rng, FIELDS[i % len(FIELDS)])
        item = tasks.ask(rng, case, fact)
        yield Probe(_layout(rng, case.text(), item.question), (fact.value,),
                    _others(case.facts, fact.value, item.question), fact.field.kind, _clean(item.answer()))  # fmt: skip


def several_records(n: int, seed: int) -> Iterator[Probe]:
    """Yield questions about one of two to four records."""
    rng = random.Random(seed)
    for i in range(n):
        count = 2 + i % 3
        cases = tasks.several_cases(rng, _maker(rng), count)
        before, context, numbered = chats.number_cases(rng, [c.text() for c in cases])
        _, item = tasks.ask_one_of(rng, cases, numbered)
        facts = tuple(f for c in cases for f in c.facts)
        last = (*_messages(before), {"role": "user", "content": item.question})
        yield Probe(last if before else _layout(rng, context, item.question), (item.fact.value,),
                    _others(facts, item.fact.value, item.question), str(count), _clean(item.answer()))  # fmt: skip


def redacted_value(n: int, seed: int, whole: bool = False) -> Iterator[Probe]:
    """Yield questions whose value, or whose whole record, is redacted."""
    rng = random.Random(seed)
    for i in range(n):
        case, fact = _case_with(rng, FIELDS[i % len(FIELDS)])
        item = tasks.ask(rng, case, fact)
        text = PLACEHOLDER if whole else _hide(case, fact)
        yield Probe(_layout(rng, text, item.question), (fact.field.unknown,),
                    _others(case.facts, "", item.question), fact.field.kind, _clean(item.answer(True)))  # fmt: skip


def paraphrases(n: int, seed: int) -> Iterator[Probe]:
    """Yield requests to paraphrase a record of two to four sentences."""
    rng = random.Random(seed)
    made = 0
    while made < n:
        case = make_case(rng, _maker(rng), rng.randint(2, 6), form=0.0)
        text = case.text()
        if 2 <= len(re.findall(r"[.!?](?= [A-Z]|$)", text)) <= 4:
            made += 1
            yield Probe(
                _layout(rng, text, ph.paraphrase_instruction(rng)),
                tuple(f.value for f in case.facts),
                source=text,
            )


def extractions(n: int, seed: int) -> Iterator[Probe]:
    """Yield requests to list the private phrases of a record."""
    rng = random.Random(seed)
    for _ in range(n):
        case = make_case(rng, _maker(rng), rng.randint(1, 7))
        yield Probe(
            _layout(rng, case.text(), ph.extraction_instruction(rng)), tuple(f.value for f in case.facts)
        )


def _clean(text: str) -> str:
    return text.replace(chats.OPEN, "").replace(chats.CLOSE, "")
