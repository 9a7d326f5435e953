"""Facts first, then text: closed fields of a document are chosen within epsilon, the rest is post-processing."""

import re
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from dpfusion_core.closed import ClosedField, closed_fields
from dpfusion_core.documents.chunks import Chunk
from dpfusion_core.engine import FusionEngine, StructuredResult
from dpfusion_core.engine.filling import refuse_open, words_of
from dpfusion_core.errors import Cancelled
from dpfusion_core.messages import Message, Segment
from dpfusion_core.options import GenerationOptions
from dpfusion_core.placeholders import Placeholder


class Facts:
    """Chooses the facts of documents and puts them into sentences.

    Args:
        engine: Its backend chooses, its ledger is charged.
        placeholder: What stands in the place of private text.
        schema: What is to be known of a document; see :func:`~dpfusion_core.closed_fields`.
        shares: How the fields share the budget of a document.
        options: The budget, ``prior`` and ``seed``.

    Raises:
        PrivacyParameterError: If the schema has an open field, or is none.
    """

    def __init__(
        self,
        engine: FusionEngine,
        placeholder: Placeholder,
        schema: Any,
        shares: Mapping[str, float] | None,
        options: Mapping[str, Any],
    ) -> None:
        self._fields = closed_fields(schema)
        refuse_open(self._fields)
        # What is private is known already.
        self._engine = FusionEngine(engine.backend, placeholder=placeholder, ledger=engine.ledger)
        self._shares = shares
        self._options = cast(GenerationOptions, dict(options))

    def choose(self, parts: Sequence[Sequence[Segment]], stop: threading.Event) -> StructuredResult:
        """Return the facts of one document; for errors see :meth:`~dpfusion_core.FusionEngine.fill`.

        Args:
            parts: Its segments; the model reads all of it at once.
            stop: Set if the work is to end.
        """
        if stop.is_set():
            raise Cancelled("The work on the document was stopped.")
        messages = [Message("user", part) for part in parts if part]
        return self._engine.fill(messages, self._fields.schema, shares=self._shares, **self._options)

    def told(self, chunks: Sequence[Chunk], facts: StructuredResult) -> list[Chunk]:
        """Return the redacted chunks of a document, with its facts behind the first. All of it is public."""
        said = self._statements(facts).values()
        texts = [each.redacted for each in chunks]
        return [
            Chunk((Segment(text),), text)
            for text in (_with(text, said if number == 0 else ()) for number, text in enumerate(texts))
        ]

    def completed(self, texts: Sequence[str], facts: StructuredResult) -> list[str]:
        """Return what a model has written, with the facts that it has left out behind it."""
        whole = " ".join(" ".join(texts).casefold().split())
        missing = [
            sentence
            for field, sentence in self._statements(facts).items()
            if not _holds(whole, _words_of(field, facts.chosen[field.name]))
        ]
        return [*texts[:-1], *(_with(text, missing) for text in texts[-1:])]

    def _statements(self, facts: StructuredResult) -> dict[ClosedField, str]:
        said = {each: plain_statement(each, facts.chosen[each.name]) for each in self._fields.closed}
        return {each: sentence for each, sentence in said.items() if sentence is not None}


def _with(text: str, sentences: Collection[str]) -> str:
    """Return a text with sentences behind it, before the white space at its end."""
    body = text.rstrip()
    return " ".join([*([body] if body else []), *sentences]) + text[len(body) :]


def _words_of(asked: ClosedField, answer: str) -> str:
    """Return what tells a fact; empty for yes, no and numbers, which could stand there for something else."""
    if asked.member is not None:
        return asked.member
    return answer if isinstance(asked.values[answer], str) else ""


def _holds(whole: str, words: str) -> bool:
    """Whether a text has these words, not as a part of others."""
    if not words:
        return False
    shown = re.escape(" ".join(words.casefold().split()))
    return re.search(rf"(?<!\w){shown}(?!\w)", whole) is not None


def plain_statement(asked: ClosedField, answer: str) -> str | None:
    """Return a sentence that says a fact; None for what an array does not have, and for what is null.

    Example:
        >>> plain_statement(ClosedField(("home_ward",), {"A": "A", "B": "B"}), "B")
        'The home ward is B.'
        >>> plain_statement(ClosedField(("is_ill",), {"yes": True, "no": False}), "no")
        'Is ill: no.'
    """
    value = asked.values[answer]
    words = words_of(asked.path)
    if asked.member is not None:
        return f"The {words} include {asked.member}." if value else None
    if value is None:
        return None
    if isinstance(value, bool):
        return f"{words[:1].upper()}{words[1:]}: {answer}."
    return f"The {words} is {answer}."
