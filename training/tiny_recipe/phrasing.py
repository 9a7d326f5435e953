"""Questions, instructions and lead-ins, composed from parts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

NOUN_QUESTIONS: tuple[tuple[str, str], ...] = (
    ("What is the {n} of {s}?", "The {n} of {s} is {v}."),
    ("What is the {n} of {s}?", "The {n} of {s} is {v}."),
    ("What is {p} {n}?", "{P} {n} is {v}."),
    ("What is {p} {n}?", "{P} {n} is {v}."),
    ("What is the {n}?", "The {n} is {v}."),
    ("What's the {n}?", "The {n} is {v}."),
    ("What's {p} {n}?", "{P} {n} is {v}."),
    ("What was {p} {n}?", "{P} {n} was {v}."),
    ("Which {n} is given?", "The {n} is {v}."),
    ("Which {n} is on file for {s}?", "The {n} on file for {s} is {v}."),
    ("Which {n} does the record give for {s}?", "The {n} of {s} is {v}."),
    ("What {n} is stated?", "The {n} is {v}."),
    ("What is mentioned as the {n}?", "The {n} is {v}."),
    ("What does the text say about the {n}?", "The {n} is {v}."),
    ("What is written under {n}?", "The {n} is {v}."),
    ("Give the {n}.", "The {n} is {v}."),
    ("Give me the {n} of {s}.", "The {n} of {s} is {v}."),
    ("Tell me the {n}.", "The {n} is {v}."),
    ("Tell me {p} {n}.", "{P} {n} is {v}."),
    ("State the {n} of {s}.", "The {n} of {s} is {v}."),
    ("Name the {n}.", "The {n} is {v}."),
    ("Find the {n}.", "The {n} is {v}."),
    ("Look up {p} {n}.", "{P} {n} is {v}."),
    ("Please provide the {n} of {s}.", "The {n} of {s} is {v}."),
    ("I need the {n}.", "The {n} is {v}."),
    ("I am looking for {p} {n}.", "{P} {n} is {v}."),
    ("Do you know {p} {n}?", "{P} {n} is {v}."),
    ("Can you find the {n} of {s}?", "The {n} of {s} is {v}."),
    ("Can you tell me what the {n} is?", "The {n} is {v}."),
    ("Could you tell me {p} {n}?", "{P} {n} is {v}."),
    ("{N}?", "The {n} is {v}."),
    ("{N} of {s}?", "The {n} of {s} is {v}."),
)
NAME_QUESTIONS: tuple[tuple[str, str], ...] = (
    ("What is the name of the {r}?", "The name of the {r} is {v}."),
    ("What is the {r}'s name?", "The {r}'s name is {v}."),
    ("What is the {r} called?", "The {r} is called {v}."),
    ("Who is the {r}?", "The {r} is {v}."),
    ("Who is the record about?", "The record is about {v}."),
    ("Who is this about?", "This is about {v}."),
    ("Whose record is this?", "This is the record of {v}."),
    ("What is the name?", "The name is {v}."),
    ("What is the full name of the {r}?", "The full name of the {r} is {v}."),
    ("Give the name.", "The name is {v}."),
    ("Give me the name of the {r}.", "The name of the {r} is {v}."),
    ("Tell me who the {r} is.", "The {r} is {v}."),
    ("Name the {r}.", "The {r} is {v}."),
    ("Can you tell me the name of the person?", "The name of the person is {v}."),
    ("Which person does the text describe?", "The text describes {v}."),
    ("Who does the file describe?", "The file describes {v}."),
    ("Name?", "The name is {v}."),
    ("I need the {r}'s name.", "The {r}'s name is {v}."),
)
GAP_QUESTIONS = (
    "Tell me {g}.", "Can you tell me {g}?", "Do you know {g}?", "I would like to know {g}.", "Please say {g}.",
    "Find out {g}.", "Does the record say {g}?", "Say {g}.", "Could you say {g}?", "I want to know {g}.",
    "Please tell me {g}.", "I wonder {g}.", "What does the record say about {g}?",
)  # fmt: skip
_PREFIXES = ("", "", "", "", "", "", "", "Question: ", "From the record: ", "Please answer: ", "Quick question: ",
             "Next: ", "Q: ", "One thing: ", "Thanks. ", "Also: ", "Hello. ")  # fmt: skip
_SUFFIXES = ("", "", "", "", "", "", "", " Answer in one sentence.", " Be brief.", " Use the record.", " Please.",
             " Thank you.", " Answer in a full sentence.", " Base your answer on the text.")  # fmt: skip
SHORT_SUFFIXES = (" Answer with the value only.", " Just the value.", " Reply with nothing else.", " Value only.",
                  " Only give the value itself.", " In a few words, no sentence.")  # fmt: skip

SYSTEMS = (
    "Use the record to help the user.", "You are a helpful assistant.", "Answer from the context.",
    "You answer questions about records.", "Rely only on the documents given.", "Be brief and precise.",
    "You are an assistant for case files. Answer in one sentence.", "You help with private documents.",
    "Answer the user's question with the help of the text.", "You are a careful clerk.",
    "Read the document and answer.", "You are an AI assistant that reads files and answers in full sentences.",
)  # fmt: skip
LEADS = (
    "", "", "", "Record: ", "Record:\n", "Here is the file:\n", "Text: ", "Document:\n", "Context: ", "File: ",
    "Consider this record.\n", "Here is a note. ", "Please read this:\n", "Case: ", "Below is a record.\n\n",
    "Information: ", "This is what we know. ", "Report:\n", "Background: ",
)  # fmt: skip
ACKS = ("Thank you. I have read it.", "I have read the record.", "Understood.", "Ready.", "Noted.")

_P_VERBS = ("Rewrite", "Paraphrase", "Reword", "Rephrase", "Restate", "Express")
_THINGS = ("the record", "the text", "the document", "this", "the passage", "the note", "the report above",
           "the following text", "the file", "the message", "it")  # fmt: skip
_P_ENDS = ("", "", " in other words", " in your own words", " in different words", " with other wording",
           " and keep all facts", " without losing any detail", " in plain English", " keeping every fact",
           " in new words, with the same meaning")  # fmt: skip
_P_WHOLE = (
    "Say the same in different words.", "Please give a paraphrase.", "Give me a version in other words.",
    "Put this into other words.", "Write the same thing differently.", "Tell me the same with new words.",
    "Paraphrase:", "Summarize the record, keeping all facts.", "Produce a paraphrase of the document.",
    "Your task is to paraphrase the document. Output only the paraphrase.", "Retell the text.",
)  # fmt: skip
_X_VERBS = (
    "List",
    "Extract",
    "Find",
    "Identify",
    "Output",
    "Copy out",
    "Give me",
    "Write down",
    "Name",
    "Mark",
)
_X_ALL = ("", " all", " every one of", " all of")
_X_THINGS = (
    "the private phrases", "the sensitive phrases", "the personal data", "the private values", "the sensitive values",
    "the identifying details", "the confidential phrases", "the personal information", "the PII",
    "the private information", "the phrases that should be hidden", "the sensitive spans", "the facts to redact",
    "the phrases that identify someone", "the protected health information",
)  # fmt: skip
_X_ENDS = (", one per line", ", one item per line", ", each on its own line", "", " and put each on a line",
           ", one per line, exactly as written", ", in order of appearance, one per line",
           ". Write one per line and nothing else")  # fmt: skip
_X_WHOLE = (
    "Which phrases are private? List them.", "What is sensitive here? One item per line.",
    "Which words would have to be removed to make this anonymous?", "What personal data does the text hold?",
    "List private phrases.", "Sensitive phrases?", "What should be redacted?",
)  # fmt: skip
_CATEGORIES = (
    "names", "dates", "places", "addresses", "phone numbers", "email addresses", "account numbers", "record numbers",
    "medical conditions", "diagnoses", "medications", "criminal charges", "amounts of money", "employers",
    "organisations", "occupations", "dates of birth", "financial products", "identifiers", "persons", "locations",
    "geographic subdivisions smaller than a state", "fax numbers", "social security numbers", "licence numbers",
    "vehicle identifiers", "web addresses", "IP addresses", "biometric identifiers", "photographs", "any other unique "
    "number or code", "health plan numbers", "demographic details", "quantities", "codes",
)  # fmt: skip
_C_LEADS = ("Sensitive are", "Private phrases include", "Categories:", "Look for", "These count as private:",
            "Consider the following categories:", "That covers", "PII means")  # fmt: skip


def lower_first(text: str) -> str:
    """Put the first letter in lower case."""
    return text[:1].lower() + text[1:]


def upper_first(text: str) -> str:
    """Put the first letter in upper case."""
    return text[:1].upper() + text[1:]


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """Choose one of some options."""
    return options[rng.randrange(len(options))]


def dress_question(rng: random.Random, question: str) -> str:
    """Put a question between an optional prefix and an optional suffix."""
    if rng.random() < 0.06:
        lead = pick(rng, ("According to the record, ", "In this file, ", "As far as the text says, ", "So, "))
        question = lead + (lower_first(question) if question.startswith(("W", "H", "In", "On")) else question)
    else:
        question = pick(rng, _PREFIXES) + question
    if rng.random() < 0.05:
        question = lower_first(question)
    return question + pick(rng, _SUFFIXES)


def paraphrase_instruction(rng: random.Random) -> str:
    """Compose an instruction to paraphrase."""
    if rng.random() < 0.3:
        return pick(rng, _P_WHOLE)
    please = pick(rng, ("", "", "Please ", "Now "))
    verb = pick(rng, _P_VERBS)
    text = f"{please}{lower_first(verb) if please else verb} {pick(rng, _THINGS)}{pick(rng, _P_ENDS)}"
    return text + pick(rng, (".", ".", ".", ":", ""))


def extraction_instruction(rng: random.Random) -> str:
    """Compose an instruction to list private phrases, with categories at times."""
    if rng.random() < 0.2:
        text = pick(rng, _X_WHOLE)
    else:
        please = pick(rng, ("", "", "Please ", "Now "))
        verb = pick(rng, _X_VERBS)
        where = pick(
            rng, ("", "", " in the text", " from the record", " in this document", " of the passage")
        )
        text = f"{please}{lower_first(verb) if please else verb}{pick(rng, _X_ALL)} {pick(rng, _X_THINGS)}{where}"
        text += pick(rng, _X_ENDS) + "."
    if rng.random() < 0.35:
        chosen = rng.sample(_CATEGORIES, rng.randint(3, 14))
        style = rng.random()
        if style < 0.4:
            body = " " + ", ".join(chosen) + "."
        elif style < 0.7:
            body = "\n" + "\n".join(f"- {c}" for c in chosen)
        else:
            body = " " + "; ".join(f"({i + 1}) {c}" for i, c in enumerate(chosen)) + "."
        text += pick(rng, (" ", "\n")) + pick(rng, _C_LEADS) + body
    if rng.random() < 0.2:
        text += pick(rng, (" If there are none, write none.", " Write none if nothing is private.",
                           " Do not add anything else.", " No bullets."))  # fmt: skip
    return text


_D_SUBJECTS = (
    "The file", "A copy of the letter", "The office", "The form", "The meeting", "Our team", "The report",
    "The waiting room", "The printer", "The weather", "The department", "A colleague", "The building", "The process",
    "This page", "The archive", "Nobody", "The law", "The old system", "The next step", "The summary", "The committee",
)  # fmt: skip
_D_VERBS = (
    "was closed", "is kept in order", "was checked again", "took longer than planned", "has not changed",
    "will be looked at again", "was sent to the office", "needs a signature", "went well", "was moved to another floor",
    "is still under review", "did not raise any questions", "was complete", "is easy to read", "was delayed",
    "will follow the usual rules", "has been updated", "was discussed at length", "is open to the public",
)  # fmt: skip
_D_ENDS = ("", "", "", " that week", " in the end", " as usual", " for now", " after lunch", " without any trouble",
           " because of the rain", " before the holidays", " according to the rules", " at the time")  # fmt: skip
_D_WHOLE = (
    "No further action is needed.", "Everything else is in order.", "There were no complaints.", "Please handle with "
    "care.", "All questions were answered.", "The mood was friendly.", "It was a quiet day.", "More details will "
    "follow.", "The family was informed.", "The forms were signed by both sides.", "A reminder will be sent.",
    "The next steps were explained.", "The conversation was short and polite.", "There is nothing else to report.",
)  # fmt: skip


def plain_sentence(rng: random.Random) -> str:
    """Compose a sentence without any private value."""
    if rng.random() < 0.25:
        return pick(rng, _D_WHOLE)
    return f"{pick(rng, _D_SUBJECTS)} {pick(rng, _D_VERBS)}{pick(rng, _D_ENDS)}."
