"""Conversations about records: questions, paraphrases and lists of private phrases."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tiny_recipe import phrasing as ph
from tiny_recipe.cases import Case, Fact, article, fits, possessive
from tiny_recipe.chats import OPEN, Blanks, Turn, converse, mark, number_cases
from tiny_recipe.fields import DOMAINS, NAME
from tiny_recipe.lists import written
from tiny_recipe.mixtures import about_one_of, requests
from tiny_recipe.phrasing import pick, upper_first
from tiny_recipe.records import make_case
from tiny_recipe.values import ValueMaker


@dataclass(frozen=True)
class Ask:
    """A question, the frame of its answer, the fact asked and the fact it is looked up by."""

    question: str
    frame: str
    fact: Fact
    key: Fact | None = None

    def answer(self, hidden: bool = False) -> str:
        """Fill the frame with the marked value or with the phrase for a redacted one."""
        value = self.fact.field.unknown if hidden else self.fact.value
        frame = self.frame.replace("{a}", "" if hidden else article(value))
        return upper_first(frame.format(v=mark(value)))


def refer(rng: random.Random, case: Case, by_name: float) -> str:
    """Choose how a question refers to the subject of a record."""
    person, u = case.person, rng.random()
    if person.name and u < by_name:
        words = person.name.split()
        v = rng.random()
        if v < 0.7:
            return person.name
        if v < 0.85:
            return pick(rng, ("Ms. ", "Mrs. ") if person.female else ("Mr. ",)) + words[-1]
        return words[0] if v < 0.93 else words[-1]
    v = rng.random()
    if v < 0.6:
        return f"the {person.role}"
    return person.pronoun if v < 0.8 else pick(rng, ("the person", "this person", "the subject"))


def compose(rng: random.Random, case: Case, fact: Fact, by_name: float = 0.4) -> tuple[str, str]:
    """Compose a bare question about a fact and the frame of its answer.

    Args:
        rng: Random source.
        case: The record.
        fact: The fact asked.
        by_name: Chance that the question names the subject.

    Returns:
        The question and the frame, with ``{v}`` for the value.
    """
    if fact.field is NAME:
        question, frame = pick(rng, ph.NAME_QUESTIONS)
        keep = {"r": case.person.role, "v": "{v}"}
        question, frame = question.format(**keep), frame.format(**keep)
    else:
        subject = refer(rng, case, by_name)
        own, u = possessive(subject), rng.random()
        spoken = {"he": "him", "she": "her"}.get(subject, subject)
        clauses = [c for c in fact.field.clauses if fits(c, fact.value)]
        if fact.field.kind == "name" and subject in ("he", "she"):
            subject = f"the {case.person.role}"
            own, spoken = possessive(subject), subject
        if clauses and u < 0.6:
            clause = pick(rng, clauses)
            frame = f"{subject} {clause.says}"
            if u < 0.36:
                question = clause.asks.format(s=subject)
            else:
                question = pick(rng, ph.GAP_QUESTIONS).format(g=clause.gap.format(s=subject))
            frame += "."
        else:
            noun = _question_noun(rng, case, fact)
            question, frame = pick(rng, ph.NOUN_QUESTIONS)
            if spoken != subject and "{s}" in question:
                question, frame = "What is {p} {n}?", "{P} {n} is {v}."
            keep = {
                "s": subject,
                "p": own,
                "P": upper_first(own),
                "n": noun,
                "N": upper_first(noun),
                "v": "{v}",
            }
            question, frame = question.format(**keep), frame.format(**keep)
    return upper_first(question), frame


def ask(rng: random.Random, case: Case, fact: Fact, by_name: float = 0.4, short: float = 0.08) -> Ask:
    """Compose a question about a fact.

    Args:
        rng: Random source.
        case: The record.
        fact: The fact asked.
        by_name: Chance that the question names the subject.
        short: Chance that only the value is asked for.

    Returns:
        The question with the frame of its answer.
    """
    question, frame = compose(rng, case, fact, by_name)
    if rng.random() < short:
        return Ask(question + pick(rng, ph.SHORT_SUFFIXES), "{v}", fact)
    return Ask(ph.dress_question(rng, question), frame, fact)


def _question_noun(rng: random.Random, case: Case, fact: Fact) -> str:
    same = sum(f.field.kind == fact.field.kind for f in case.facts)
    if same > 1 or fact.field.kind in ("name", "date") or rng.random() < 0.5:
        return fact.noun
    return pick(rng, fact.field.nouns)


def paraphrase(case: Case, blanks: Blanks | None) -> str:
    """Write a paraphrase: the record in other words, with generic phrases for what is redacted."""

    def show(fact: Fact, part: str) -> str:
        return mark(fact.field.unknown if blanks and blanks.hidden(fact) else part)

    text = re.sub(rf"\b(?:an|a|Ms\.|Mrs\.|Mr\.|Dr\.) (?={OPEN}an? )", "", case.paraphrase(show))
    return text[:1] + upper_first(text[1:]) if text.startswith(OPEN) and "that is not" in text[:40] else text


def extraction(case: Case, blanks: Blanks | None) -> str:
    """List the private phrases that a record shows, one per line, or ``none``."""
    shown = [mark(f.value) for f in case.facts if not (blanks and blanks.hidden(f))]
    return "\n".join(shown) or "none"


def _prefixed(rng: random.Random, case: Case, item: Ask, hidden: bool) -> Turn:
    """Answer a question after a given prefix of some other wording."""
    other = ask(rng, case, item.fact, 0.4, 0.0)
    text = other.answer(hidden)
    return Turn("assistant", text, silent=max(0, text.find(OPEN) - 1))


def single(
    rng: random.Random,
    maker: ValueMaker,
    facts: int,
    most: int = 8,
    wider: float = 0.35,
    closed: float = 0.42,
) -> list[Turn]:
    """Make a conversation about one record.

    Args:
        rng: Random source.
        maker: Source of values.
        facts: How many facts the record has.
        most: At most how many requests follow one another.
        wider: Chance of the wider wordings.
        closed: Chance of requests beside free questions.

    Returns:
        The messages.
    """
    wide = rng.random() < wider
    case = make_case(rng, maker, facts, wide=wide)
    share = pick(rng, (0.0, 0.0, 0.0, 0.0, 0.2, 0.4, 1.0))
    secret = {f for f in case.facts if rng.random() < share}
    blanks = Blanks(rng, lambda f: f in secret)
    whole = rng.random() < 0.05
    if whole:
        blanks = Blanks(rng, lambda f: True)
    context = blanks.whole() if whole else case.text(blanks)
    asked = rng.sample(case.facts, min(len(case.facts), rng.randint(1, most) if rng.random() < 0.5 else most))
    pairs = []
    for fact in asked:
        item = ask(rng, case, fact)
        pairs.append((item.question, item.answer(blanks.hidden(fact))))
    if rng.random() < 0.3:
        body = "Nothing is stated." if whole else paraphrase(case, blanks)
        pairs.append((ph.paraphrase_instruction(rng), body))
    if rng.random() < 0.4:
        pairs.append((ph.extraction_instruction(rng), extraction(case, blanks)))
    if rng.random() < closed:
        pairs = pairs[: rng.randint(0, 5)]
        pairs += requests(rng, maker, case, blanks.hidden, compose, rng.randint(1, 9))
    rng.shuffle(pairs)
    question_first = rng.random() < 0.3
    turns = converse(rng, context, pairs[: 2 if question_first else most + 1], question_first)
    if rng.random() < 0.06 and asked:
        fact = asked[0]
        item = ask(rng, case, fact)
        turns += [Turn("user", item.question), _prefixed(rng, case, item, blanks.hidden(fact))]
    return turns


def whole_task(rng: random.Random, maker: ValueMaker) -> list[Turn]:
    """Make a conversation that only paraphrases a record or lists its private phrases."""
    case = make_case(rng, maker, rng.randint(1, 8), form=0.1, wide=rng.random() < 0.3)
    share = pick(rng, (0.0, 0.0, 0.0, 0.3, 1.0))
    secret = {f for f in case.facts if rng.random() < share}
    blanks = Blanks(rng, lambda f: f in secret)
    if rng.random() < 0.6:
        instruction, answer = ph.extraction_instruction(rng), extraction(case, blanks)
        if rng.random() < 0.08:
            text = " ".join(ph.plain_sentence(rng) for _ in range(rng.randint(1, 4)))
            return converse(rng, text, [(instruction, "none")])
    else:
        instruction, answer = ph.paraphrase_instruction(rng), paraphrase(case, blanks)
    text = case.text(blanks)
    if rng.random() < 0.25:
        return [Turn("system", instruction), Turn("user", text), Turn("assistant", answer)]
    return converse(rng, text, [(instruction, answer)], rng.random() < 0.2)


def several_cases(
    rng: random.Random, maker: ValueMaker, n: int, facts: int = 6, wide: bool = False
) -> list[Case]:
    """Make records of different, named people, often with the same fields."""
    domain = pick(rng, tuple(DOMAINS)) if rng.random() < 0.6 else None
    form = pick(rng, (0.0, 0.0, 0.0, 0.3, 1.0))
    return [
        make_case(rng, maker, rng.randint(2, facts), domain, form, plain=0.08, named=1.0, wide=wide)
        for _ in range(n)
    ]


def ask_one_of(rng: random.Random, cases: Sequence[Case], numbered: bool) -> tuple[int, Ask]:
    """Compose a question about a fact of one of several records."""
    i = rng.randrange(len(cases))
    case = cases[i]
    fact = pick(rng, case.facts)
    if fact.field is NAME or (numbered and rng.random() < 0.2):
        item = ask(rng, case, fact, 0.0)
        if not numbered:
            return ask_who(rng, cases, i)
        where = pick(
            rng,
            ("In record {}: ", "In document {}, ", "Record {}: ", "Look at record [{}]. ", "For number {}: "),
        )
        return i, replace(item, question=where.format(i + 1) + item.question)
    while True:
        item = ask(rng, case, fact, 1.0)
        words = str(case.person.name).split()
        if any(x in item.question for x in words):
            return i, item


def ask_who(rng: random.Random, cases: Sequence[Case], i: int) -> tuple[int, Ask]:
    """Ask for the person by some other fact of the record."""
    case = cases[i]
    name = next(f for f in case.facts if f.field is NAME)
    key = pick(rng, [f for f in case.facts if f.field is not NAME])
    clauses = [c for c in key.field.clauses if fits(c, key.value)]
    if clauses and rng.random() < 0.8:
        says = pick(rng, clauses).says.format(v=key.value, a=article(key.value))
        return i, Ask(f"Who {says}?", "{v} " + says.replace("{", "").replace("}", "") + ".", name, key)
    return i, Ask(f"Whose {key.noun} is {key.value}?", f"The {key.noun} of {{v}} is {key.value}.", name, key)


def several(rng: random.Random, maker: ValueMaker, n: int, most: int = 9) -> list[Turn]:
    """Make a conversation about several records."""
    cases = several_cases(rng, maker, n, pick(rng, (5, 6)), rng.random() < 0.3)
    gone = {i for i in range(n) if rng.random() < 0.12}
    share = pick(rng, (0.0, 0.0, 0.2))
    secret = {f for c in cases for f in c.facts if f.field is not NAME and rng.random() < share}
    blanks = Blanks(rng, lambda f: f in secret)
    texts = [blanks.whole() if i in gone else c.text(blanks) for i, c in enumerate(cases)]
    before, context, numbered = number_cases(rng, texts)
    pairs = []
    for _ in range(rng.randint(3, most)):
        i, item = ask_one_of(rng, cases, numbered)
        pairs.append((item.question, item.answer(i in gone or item.fact in secret or item.key in secret)))
    for _ in range(rng.randint(1, 4) if rng.random() < 0.3 else 0):
        i = rng.randrange(n)
        fact = pick(rng, [f for f in cases[i].facts if f.field is not NAME])
        question = compose(rng, cases[i], fact, 1.0)[0]
        if i in gone or not any(x in question for x in str(cases[i].person.name).split()):
            continue
        closed = about_one_of(rng, maker, cases, question, i, fact, blanks.hidden)
        pairs += [closed] if closed else []
    rng.shuffle(pairs)
    if not before:
        return converse(rng, context, pairs)
    turns = [Turn("system", pick(rng, ph.SYSTEMS))] if rng.random() < 0.5 else []
    turns += before
    for request, answer in pairs:
        turns += [Turn("user", request), Turn("assistant", answer)]
    return turns


def repeat(rng: random.Random, maker: ValueMaker) -> list[Turn]:
    """Make the plainest task: repeat a text."""
    kinds = ("name", "id", "word", "date", "amount", "city", "number", "employer")
    text = " ".join(maker.make(pick(rng, kinds)) for _ in range(rng.randint(1, 5)))
    request = pick(rng, ("Repeat the text.", "Say this again.", "Copy the text.", "Repeat after me."))
    return [Turn("user", f"{text}\n{request}"), Turn("assistant", mark(text))]


def conversation(rng: random.Random, maker: ValueMaker, progress: float = 1.0) -> list[Turn]:
    """Make a training conversation.

    Args:
        rng: Random source.
        maker: Source of values.
        progress: Share of the warm-up curriculum that is over, 0 to 1.

    Returns:
        The messages.
    """
    u = rng.random()
    if u < (0.02 if progress >= 1 else 0.3 * (1 - progress) + 0.02):
        return repeat(rng, maker)
    if progress >= 0.5 and u > 0.56:
        return several(rng, maker, pick(rng, (2, 3, 3, 4)))
    if progress >= 0.5 and u > 0.515:
        return written(rng, maker)
    if progress >= 0.25 and u > 0.34:
        return whole_task(rng, maker)
    return single(rng, maker, rng.randint(1, 4) if progress < 0.25 else rng.randint(1, 8))
