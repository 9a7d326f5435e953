"""Requests with closed answers: one of some choices, yes or no, a number, a few words."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiny_recipe.cases import Case, Fact, article, fits
from tiny_recipe.chats import mark
from tiny_recipe.fields import NAME
from tiny_recipe.phrasing import pick, upper_first
from tiny_recipe.values import ValueMaker
from tiny_recipe.wordings import WIDE_COMMON, WIDE_DOMAINS

CHOICE_WORDINGS = (
    "{q} Answer with one of: {o}.", "{q} Choose one: {o}.", "{q} Options: {o}.", "{q} One of: {o}",
    "{q}\nOptions: {o}", "{q}\nChoices: {o}\nAnswer with one of them.", "{q} Pick one of these: {o}.",
    "{q} ({o})", "{q} Reply with exactly one of: {o}.", "{q}\nAnswer with one of these choices and nothing else: {o}",
    "Choose from {o}. {q}", "{q} The answer is one of: {o}.", "{q} Is it {o}?", "Options: {o}.\n{q}",
    "{q} Give only the label: {o}.", "Classify: {q} Labels: {o}.", "{q}\nPossible answers: {o}.",
    "{q} Select one option. {o}", "{q} Answer with exactly one of the following: {o}.",
)  # fmt: skip
_OPTION_STYLES = (", ", ", ", ", ", " | ", " / ", "; ", "\n", "or", "json", "dash")

BRIEF = (" In a few words, no sentence.", "\n\nIn a few words, no sentence.", "\nIn a few words, no sentence.",
         " Answer in a few words.", " A few words only.", " Answer briefly, in a few words.", " Short answer.",
         " Answer with a short phrase.", " Keep it to a few words.", " Use as few words as possible.",
         " Answer in at most five words.", " Answer with the phrase alone.", " Give a short answer without a sentence.",
         " Answer with a short phrase from the record.", " No full sentence.")  # fmt: skip
NUMBER = (" Answer with the number only.", "\nAnswer with the number only.", " Answer with a number.",
          " Answer with a number only.", " Give just the number.", " Number only.",
          " Reply with a single number.", " Only the number, no unit.", " Answer with one number and nothing else.",
          " As a number.", " Answer with digits only.")  # fmt: skip
YES_NO = (" Answer yes or no.", "\nAnswer yes or no.", "\n\nAnswer yes or no.", " Answer yes or no.", " Yes or no?",
          " Answer with yes or no.", " Reply yes or no only.",
          " Answer Yes or No.", " Answer with one word: yes or no.", " Answer with one of: yes, no.",
          " (yes/no)", " Say yes or no.", " Answer with Yes or No and nothing else.", " One of: yes, no",
          " Please answer only yes or no.", " Options: yes, no.", "")  # fmt: skip
_MENTION = (
    "Does the record mention {v}?", "Does the text mention {v}?", "Does this document mention {v}?",
    "Is {v} mentioned?",
    "Is there any mention of {v}?", "Does the record say anything about {v}?", "Does the file name {v}?",
    "Does the record contain {v}?", "Is {v} in the record?", "Does {v} occur in the text?",
    "Does the note speak of {v}?",
    "Does this concern {v}?", "Is the record about {v}?", "Does the document state {v}?", "Does it mention {v}?",
    "Does this record support the following: {v}?", "Is this true of the record: {v}?", "{v}: is it mentioned?",
)  # fmt: skip
_GIVEN = (
    "Does the record give {a}{n}?", "Does the text mention {a}{n}?", "Is {a}{n} given?", "Is the {n} stated?",
    "Does the record state the {n}?", "Is there {a}{n} in the document?", "Do we know the {n}?",
)  # fmt: skip
_RIGHT = (
    'Is "{v}" a right answer to the question: {q}', 'Is "{v}" a right answer to the question: {q}', "{q} Is it {v}?",
    'Is "{v}" the right answer to this question: {q}', 'Question: {q}\nIs the answer "{v}"?', '{q} Is "{v}" right?',
    "{q} Someone says: {v}. Is that right?", 'Does the record answer "{q}" with "{v}"?',
)  # fmt: skip
_CLAIM = (
    "Is it true that {c}?", "Does the record say that {c}?", "Is it right that {c}?", "Does the text state that {c}?",
    "True or not: {c}?", "Can you confirm that {c}?", "Is it the case that {c}?", "Does it say that {c}?",
    "Does the record support this: {c}?", "Statement: {c}. Is it correct?",
)  # fmt: skip
_BASE = {"lives": "live", "works": "work", "owes": "owe", "earns": "earn", "takes": "take", "suffers": "suffer",
         "comes": "come", "holds": "hold", "receives": "receive", "reports": "report", "pays": "pay", "speaks": "speak",
         "resides": "reside", "stays": "stay", "uses": "use", "complains": "complain", "belongs": "belong",
         "lies": "lie", "falls": "fall", "makes": "make", "gets": "get", "sees": "see", "faces": "face",
         "denies": "deny", "has": "have", "carries": "carry", "retires": "retire"}  # fmt: skip

NUMERIC = ("amount", "number", "age", "days", "times", "points", "hours")
"""Kinds whose values are numbers, with a unit at times."""


@dataclass(frozen=True)
class Request:
    """A request with its answer.

    Attributes:
        text: The request.
        answer: The answer, with its values marked.
        right: The bare answer.
        choices: The choices, where the request offers some.
    """

    text: str
    answer: str
    right: str
    choices: tuple[str, ...] = ()


Hidden = Callable[[Fact], bool]


def other_values(maker: ValueMaker, kind: str, n: int, not_in: str) -> list[str]:
    """Make different values of a kind that a text does not hold."""
    out: list[str] = []
    for _ in range(60):
        value, low = maker.make(kind), not_in.lower()
        if value.lower() not in low and all(value not in x and x not in value for x in out):
            out.append(value)
        if len(out) == n:
            break
    return out


def _options(rng: random.Random, options: Sequence[str]) -> str:
    style = pick(rng, _OPTION_STYLES)
    if style == "json":
        return json.dumps(list(options), ensure_ascii=False)
    if style == "dash":
        return "\n" + "\n".join(f"- {o}" for o in options)
    return ", ".join(options[:-1]) + " or " + options[-1] if style == "or" else style.join(options)


def offer(rng: random.Random, question: str, options: Sequence[str]) -> str:
    """Put the choices of a question beside it."""
    return pick(rng, CHOICE_WORDINGS).format(q=question, o=_options(rng, options)).replace(". .", ".")


def choice(
    rng: random.Random, maker: ValueMaker, question: str, fact: Fact, text: str, most: int = 8
) -> Request:
    """Ask for one of some values.

    Args:
        rng: Random source.
        maker: Source of the wrong choices.
        question: The bare question.
        fact: The fact asked.
        text: The text of the records; no wrong choice stands in it.
        most: At most how many choices there are.

    Returns:
        The request; the answer is the choice alone.
    """
    options = [fact.value, *other_values(maker, fact.field.kind, rng.randint(1, most - 1), text + question)]
    rng.shuffle(options)
    return Request(offer(rng, question, options), mark(fact.value), fact.value, tuple(options))


def _claim(rng: random.Random, case: Case, fact: Fact, value: str, subject: str) -> str:
    """Put a claim about a fact into a question."""
    clauses = [c for c in fact.field.clauses if fits(c, value)]
    if fact.field is NAME or not clauses or rng.random() < 0.35:
        where = f" of {subject}" if subject not in ("he", "she") else ""
        body = f"the {fact.noun}{where} is {value}"
        if rng.random() < 0.5:
            return f"Is the {fact.noun}{where} {value}?"
        return upper_first(pick(rng, _CLAIM).format(c=body))
    says = pick(rng, clauses).says.format(v=value, a=article(value))
    verb, _, rest = says.partition(" ")
    if rng.random() < 0.5 and verb in ("is", "was"):
        return f"{upper_first(verb)} {subject} {rest}?"
    if (
        rng.random() < 0.6
        and verb in _BASE
        and not rest.startswith(("been ", "lived ", "worked ", "struggled "))
    ):
        return f"Does {subject} {_BASE[verb]} {rest}?"
    return upper_first(pick(rng, _CLAIM).format(c=f"{subject} {says}"))


def _say(rng: random.Random, true: bool, suffix: str) -> tuple[str, str]:
    word = "yes" if true else "no"
    if "Yes" in suffix or ("yes, no" not in suffix and rng.random() < 0.5):
        word = word.capitalize()
    stop = "." if not suffix or (":" not in suffix and "nothing" not in suffix and rng.random() < 0.1) else ""
    return mark(word) + stop, word


def yes_no(
    rng: random.Random, maker: ValueMaker, case: Case, fact: Fact, text: str, subject: str, hidden: Hidden,
    others: Sequence[Case] = (), question: str = "",
) -> Request:  # fmt: skip
    """Ask whether something is so.

    Args:
        rng: Random source.
        maker: Source of values that are not there.
        case: The record asked about.
        fact: The fact asked about.
        text: The text of all records, with nothing redacted.
        subject: How to refer to whom the record is about.
        hidden: Whether a fact is redacted.
        others: The other records; a false claim may take its value from there.
        question: A bare question about the fact, to be asked whether a value answers it.

    Returns:
        The request; what is redacted or not there is a no.
    """
    suffix, u, true = pick(rng, YES_NO), rng.random(), rng.random() < 0.5
    if u < 0.12 and not others:
        here = {f.field.kind for f in case.facts}
        fields = [f for f in (*WIDE_COMMON, *WIDE_DOMAINS[case.domain]) if f.kind not in here]
        shown = [f for f in case.facts if not hidden(f)]
        true = true and bool(shown)
        noun = pick(rng, shown).noun if true else pick(rng, pick(rng, fields).nouns)
        question = pick(rng, _GIVEN).format(n=noun, a=article(noun))
    else:
        there = [
            f.value
            for c in others
            for f in c.facts
            if f.field.kind == fact.field.kind and f.value != fact.value
        ]
        value = fact.value
        if not true:
            new = other_values(maker, fact.field.kind, 1, text) or ["a blue whale"]
            value = pick(rng, there) if there and u >= 0.55 and rng.random() < 0.6 else new[0]
        true = true and not hidden(fact)
        question = (
            pick(rng, _MENTION).format(v=value) if u < 0.55 else _claim(rng, case, fact, value, subject)
        )
    answer, word = _say(rng, true, suffix)
    return Request(question + suffix, answer, word, ("yes", "no"))


def digits(value: str) -> str:
    """Return the number in a value, without unit and currency, or an empty string."""
    found = re.findall(r"\d[\d,]*(?:\.\d+)?", value)
    return found[0] if len(found) == 1 else ""


def number(rng: random.Random, question: str, fact: Fact) -> Request:
    """Ask for the number of a fact."""
    value = digits(fact.value)
    return Request(question + pick(rng, NUMBER), mark(value), value)


def brief(rng: random.Random, question: str, fact: Fact, hidden: bool) -> Request:
    """Ask for a few words."""
    value = fact.field.unknown if hidden else fact.value
    return Request(question + pick(rng, BRIEF), mark(value), value)
