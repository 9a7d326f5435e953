"""Requests for lists of items, for JSON, about what is common, and for an answer written from released items."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tiny_recipe.cases import Case, Fact, fits
from tiny_recipe.chats import Turn, mark
from tiny_recipe.closed import BRIEF, Hidden, Request, other_values
from tiny_recipe.fields import NAME, Field
from tiny_recipe.labels import CLOSED
from tiny_recipe.phrasing import SYSTEMS, pick, upper_first
from tiny_recipe.values import ValueMaker
from tiny_recipe.wordings import WIDE_COMMON, WIDE_DOMAINS

_ITEMS_ALL = (
    "What do most of them share? In a few words, no sentence", "What do most of the records say? Short points",
    "What do the documents have in common? In a few words", "What do they have in common? List short phrases",
    "List the main points as short phrases", "List the key facts as short phrases",
    "What are the main points? List them",
    "Give the key phrases", "List what the record says in short phrases", "Write down the most important facts",
    "Summarize the record as a list of short phrases", "List the findings", "Name the key points", "Give keywords",
    "Answer with a list of short phrases: what does the record say?", "List the important items",
    "Extract the key facts",
    "What does this record report? List short phrases", "What is said here? Give short items",
)  # fmt: skip
_ITEMS_ONE = (
    "{q} In a few words, no sentence", "{q} In a few words, no sentence", "{q}\nIn a few words, no sentence",
    "{q} Short points",
    "{q}\n\nList short points",
    "List every {n} named", "Which {n} is named? List it", "List the {n}", "Name the {n} as a short phrase",
    "What does the record say about the {n}? List short phrases", "List short phrases: {q}", "{q} Answer with a list",
    "{q} List short phrases", "{q} Give short items", "{q} Answer as short phrases", "{q} Answer with short phrases",
    "What is given as {n}? List",
)  # fmt: skip
_LINES = (". At most {k} points, one per line.", ". At most {k} points, one per line.", ", one per line.",
          ", one per line.", ", one item per line.", ", each on its own line.", ". One per line.",
          ", one short phrase per line.", " (one per line).", ", one per line and nothing else.")  # fmt: skip
_LISTS = (". Answer with a JSON list of at most {k} short points.",
          ". Answer with a JSON list of at most {k} short points.", " as a JSON list of strings.",
          " as a JSON array of strings.", ". Answer with a JSON list.",
          ". Reply with a JSON array of strings and nothing else.", " in JSON, as a list of strings.",
          " as a JSON list of short strings.")  # fmt: skip
_MOST = (" At most {k}.", " No more than {k}.", " Give up to {k}.", " At most {k} items.")
_COMMON_QUESTIONS = (
    ("What is the most common {n}?", "The most common {n} is {v}."), ("Which {n} is named most?", "The {n} is {v}."),
    ("Which {n} do most {r}s have?", "The {n} is {v}."), ("What {n} do the {r}s have?", "The {n} is {v}."),
    ("What {n} do the records give?", "The {n} is {v}."), ("Which {n} occurs most often?", "The {n} is {v}."),
    ("What do most {r}s have as {n}?", "The {n} is {v}."), ("What {n} do most of them share?", "The {n} is {v}."),
    ("What {n} do the records have in common?", "The {n} is {v}."), ("Which {n}s are named?", "The {n} is {v}."),
    ("What are the {n}s of the {r}s?", "The {n} is {v}."), ("Which {n} is typical?", "The {n} is {v}."),
)  # fmt: skip


def listed(values: Sequence[str], as_json: bool) -> str:
    """Write marked values as lines or as a JSON list."""
    if not as_json:
        return "\n".join(map(mark, values)) or mark("none")
    return "[" + ", ".join(f'"{mark(v)}"' for v in values) + "]"


def items(rng: random.Random, case: Case, question: str, fact: Fact | None, hidden: Hidden) -> Request:
    """Ask for a list of short phrases.

    Args:
        rng: Random source.
        case: The record.
        question: A bare question about the fact.
        fact: The fact asked, or None for all.
        hidden: Whether a fact is redacted.

    Returns:
        The request; the answer has one phrase per line or is a JSON list of strings.
    """
    facts = [f for f in case.facts if f.field is not NAME] if fact is None else [fact]
    shown = [f.value for f in facts if not hidden(f)]
    lead = pick(rng, _ITEMS_ALL) if fact is None else pick(rng, _ITEMS_ONE).format(n=fact.noun, q=question)
    as_json, k = rng.random() < 0.2, rng.randint(1, 6)
    end = pick(rng, _LISTS if as_json else _LINES)
    text = (lead + end).replace("?.", "?").replace("..", ".")
    if rng.random() < 0.2 and "{k}" not in text:
        text += pick(rng, _MOST)
    if "{k}" in text:
        text, shown = text.replace("{k}", str(k)), shown[:k]
    return Request(text, listed(shown, as_json), listed(shown, as_json))


def _of_many(asks: str, subject: str) -> str:
    """Put a question about one into the plural."""
    question = asks.format(s=subject.replace("persons", "people").replace("mans", "men"))
    for one, many in ((" does ", " do "), (" is ", " are "), (" was ", " were "), (" has ", " have ")):
        question = question.replace(one, many, 1)
    return question


def common(rng: random.Random, case: Case, fact: Fact, hidden: bool) -> Request:
    """Ask a question that is meant for many records about the one that is there."""
    question, frame = pick(rng, _COMMON_QUESTIONS)
    value = fact.field.unknown if hidden else fact.value
    question = (
        question.format(n=fact.noun, r=case.person.role).replace("persons", "people").replace("mans", "men")
    )
    clauses = [c for c in fact.field.clauses if fits(c, fact.value)]
    if clauses and rng.random() < 0.5:
        question = _of_many(pick(rng, clauses).asks, pick(rng, _MANY).format(r=case.person.role))
    if rng.random() < 0.45:
        return Request(question + pick(rng, BRIEF), mark(value), value)
    return Request(question, upper_first(frame.format(n=fact.noun, v=mark(value))), value)


def as_object(rng: random.Random, case: Case, hidden: Hidden) -> Request:
    """Ask for some facts as a JSON object."""
    facts = rng.sample(case.facts, min(len(case.facts), rng.randint(1, 4)))
    keys = [f.noun.replace(" ", "_") if rng.random() < 0.5 else f.noun for f in facts]
    text = pick(rng, ("Answer in JSON with the keys {k}.", "Return a JSON object with {k}.", "Give {k} as JSON.",
                      "Fill in a JSON object with the fields {k}.", "Extract {k} as a JSON object."))  # fmt: skip
    rows = ", ".join(
        f'"{k}": "{mark("not stated" if hidden(f) else f.value)}"' for k, f in zip(keys, facts, strict=True)
    )
    return Request(text.format(k=", ".join(keys)), "{" + rows + "}", rows)


_MANY = (
    "most of the {r}s",
    "most of the {r}s",
    "most {r}s",
    "the {r}s",
    "most of them",
    "they",
    "all of the {r}s",
)
_WRITE = (
    "What many documents say:\n{p}", "What many documents say:\n{p}", "What many documents say:\n{p}\n",
    "Write the answer from these points:\n{p}", "Write the answer from these points: {p}",
    "Points:\n{p}\nWrite the answer.",
    "Answer from these items alone:\n{p}", "What the documents say, with counts:\n{p}\nAnswer the question.",
    "Use only these items to answer:\n{p}", "These items were released:\n{p}\nWrite a short answer from them.",
    "Answer with the help of these points (count in brackets):\n{p}", "Items:\n{p}\nSum them up in one sentence.",
    "Many documents were asked. They said:\n{p}\nWrite the answer.", "Findings:\n{p}\n\nWrite one sentence from them.",
    "The following was found in several records:\n{p}", "Common to the documents:\n{p}\nPut this into a sentence.",
)  # fmt: skip
_ITEM_STYLES = ("- {v} (about {c} documents)", "- {v} (about {c} documents)", "- {v} (about {c} documents)",
                "- {v} ({c})", "- {v} ({c})", "- {v} ({c})", "{v} ({c})", "* {v}: {c}", "- {v}: {c}",
                "{v}: {c} documents",
                "- {v} (about {c} documents)", "- {v} (about {c})", "- {v} ({c} records)",
                "{i}. {v} ({c})")  # fmt: skip


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _field(rng: random.Random) -> tuple[str, Field]:
    domain = pick(rng, tuple(WIDE_DOMAINS))
    fields = CLOSED[domain] if rng.random() < 0.5 else (*WIDE_DOMAINS[domain], *WIDE_COMMON)
    return domain, pick(rng, fields)


def written(rng: random.Random, maker: ValueMaker) -> list[Turn]:
    """Make a conversation that writes an answer from released items, with their counts or without."""
    domain, field = _field(rng)
    noun, role = pick(rng, field.nouns), {"medical": "patient", "legal": "client"}.get(domain, "person")
    n = pick(rng, (1, 1, 1, 2, 2, 3, 4, 5))
    mixed = rng.random() < 0.2
    values: list[str] = []
    while len(values) < n:
        values += other_values(maker, _field(rng)[1].kind if mixed else field.kind, 1, "\n".join(values))
    counts = sorted((rng.choice((rng.randint(2, 40), rng.randint(5, 400))) for _ in values), reverse=True)
    counted = rng.random() < 0.75
    style = pick(rng, _ITEM_STYLES)
    points = "\n".join(
        style.format(v=v, c=c, i=i + 1) if counted else f"- {v}"
        for i, (v, c) in enumerate(zip(values, counts, strict=True))
    )
    shown = [mark(v) + (f" ({mark(str(c))})" if counted else "") for v, c in zip(values, counts, strict=True)]
    question, _ = pick(rng, _COMMON_QUESTIONS)
    question = question.format(n=noun, r=role).replace("persons", "people").replace("mans", "men")
    with_question = not mixed and rng.random() < 0.75
    if not with_question:
        question = pick(rng, ("What do most of the records say?", "What do they have in common?", "What is said most?",
                              "What do the documents share?", "What do the records have in common?"))  # fmt: skip
        answer = f"The records say {_joined(shown)}."
    elif n == 1:
        answer = f"The most common {noun} is {shown[0]}."
    else:
        answer = f"The most common {noun} is {shown[0]}, followed by {_joined(shown[1:])}."
    request = pick(rng, _WRITE).format(p=points)
    u = rng.random()
    turns = [Turn("system", pick(rng, SYSTEMS))] if rng.random() < 0.4 else []
    if request.startswith("What many"):
        turns += [Turn("user", f"{request}\n\n{question}")]
    elif u < 0.35:
        turns += [Turn("user", question), Turn("user", request)]
    elif u < 0.6:
        turns += [Turn("user", f"{question}\n\n{request}")]
    elif u < 0.75:
        turns += [Turn("user", f"Question: {question}\n{request}")]
    elif u < 0.9 or "Answer the question" in request:
        turns += [Turn("system", request), Turn("user", question)]
    else:
        turns += [Turn("user", f"{request}\n{question}")]
    return [*turns, Turn("assistant", answer)]
