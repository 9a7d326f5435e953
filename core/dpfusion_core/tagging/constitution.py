"""A chat model as a tagger: it lists the private phrases under a constitution."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError, TaggerError, errors_as
from dpfusion_core.messages import Message
from dpfusion_core.tagging.compose import SpanCache
from dpfusion_core.tagging.occurrences import find_phrases
from dpfusion_core.tagging.spans import DEFAULT_LABEL, Span
from dpfusion_core.tagging.windows import check_readable, sentences, windows

CONSTITUTIONS = ("LEGAL", "HEALTH", "FINANCE")
"""The constitutions that come with the package."""

_REQUEST = "List the private phrases in the text, one per line, exactly as written."
_REMINDER = " Write none if nothing is private. Write nothing else."
_MARKER = re.compile(r"(?:[-*\u2022]|\d{1,3}[.)])\s+")
_QUOTES = (('"', '"'), ("'", "'"), ("\u201c", "\u201d"), ("`", "`"))


class Answer(Protocol):
    """What a text model says."""

    @property
    def text(self) -> str:
        """The answer."""
        ...

    @property
    def finish_reason(self) -> str:
        """``"length"`` if the answer was cut off."""
        ...


class TextModel(Protocol):
    """A chat model; :class:`~dpfusion_core.FusionEngine` is one.

    If it has a method ``batch(requests, ...)`` for several conversations, that is used.
    """

    def generate(self, messages: Sequence[Message], *, temperature: float, max_tokens: int) -> Answer:
        """Answer a conversation."""
        ...


class ConstitutionTagger:
    """Asks a chat model on this machine for the private phrases of a text.

    The model reads the private text without differential privacy. That is sound as long as it runs where
    the text may be: its answer never leaves, it only selects phrases of the text. Only phrases that
    stand in the text count; everywhere they stand. The text is read in windows, and each
    window once more sentence by sentence; what any reading finds is private.

    Like every tagger that is a model, it can miss something, and a text that was written to mislead it
    can make it miss something.

    Args:
        model: The chat model: a :class:`~dpfusion_core.FusionEngine`, with the same backend as the one
            that generates or another.
        constitution: What counts as private: ``"LEGAL"``, ``"HEALTH"``, ``"FINANCE"``, or your own text.
        label: Label of the spans.
        window: Largest number of characters that the model reads at a time.
        by_sentence: Whether windows are read sentence by sentence, too.
        max_tokens: Largest number of tokens of an answer; one that is longer counts as malformed.
        batch_size: How many questions a model with a ``batch`` method is asked at a time.
        cache_size: For how many texts answers are remembered.

    Raises:
        PrivacyParameterError: If an argument is out of range, or the constitution is empty.

    Example:
        >>> from dpfusion_core import FusionEngine
        >>> tagger = ConstitutionTagger(FusionEngine.from_pretrained("dpfusion-tiny"), "HEALTH")
        >>> text = "The patient lives in Trondheim."
        >>> [text[span.start : span.end] for span in tagger.tag(text)]
        ['Trondheim']
    """

    def __init__(
        self,
        model: TextModel,
        constitution: str = "HEALTH",
        *,
        label: str = DEFAULT_LABEL,
        window: int = 2000,
        by_sentence: bool = True,
        max_tokens: int = 256,
        batch_size: int = 16,
        cache_size: int = 256,
    ) -> None:
        self._model = model
        self._name = constitution if constitution in CONSTITUTIONS else "<own>"
        self._rules = read_constitution(constitution)
        self._label = label
        self._window = _validate.count(window, "window", minimum=100)
        self._by_sentence = by_sentence
        self._max_tokens = _validate.count(max_tokens, "max_tokens")
        self._batch_size = _validate.count(batch_size, "batch_size")
        self._cache = SpanCache(cache_size)

    def __repr__(self) -> str:
        return f"ConstitutionTagger({self._model!r}, {self._name})"

    def tag(self, text: str) -> list[Span]:
        """Return the spans of the phrases that the model lists.

        Raises:
            TaggerError: If the model fails, or gives a malformed answer twice: an empty or cut-off one,
                or one of which no line stands in the text. The error does not quote it.
        """
        return self.tag_batch([text])[0]

    def tag_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of several texts; see :meth:`tag`."""
        found: dict[str, list[Span]] = {}
        for text in texts:
            check_readable(text)
            known = self._cache.get("", text) if text.strip() else []
            if known is not None:
                found[text] = known
        new = list(dict.fromkeys(text for text in texts if text not in found))
        for text, phrases in zip(new, self._phrases(new), strict=True):
            found[text] = find_phrases(text, ((phrase, self._label) for phrase in phrases))
            self._cache.put("", text, found[text])
        return [found[text] for text in texts]

    def _phrases(self, texts: Sequence[str]) -> list[list[str]]:
        """Read the texts and return the phrases of each."""
        pieces = [
            (number, text[start:end])
            for number, text in enumerate(texts)
            for start, end in windows(text, self._window, overlap=min(100, self._window // 4))
            if text[start:end].strip()
        ]
        readings = [
            _Reading(piece, answer)
            for (_, piece), answer in zip(pieces, self._ask([piece for _, piece in pieces]), strict=True)
        ]
        again = [place for place, reading in enumerate(readings) if reading.is_malformed]
        answers = self._ask([pieces[place][1] for place in again], _REMINDER)
        for place, answer in zip(again, answers, strict=True):
            readings[place] = _Reading(pieces[place][1], answer)
            if readings[place].is_malformed:
                raise TaggerError(
                    "The model gave a malformed list of private phrases twice: an empty or cut-off one, or "
                    "one of which nothing stands in the text. Use a larger model, a smaller window or a "
                    "larger max_tokens."
                )
        phrases: list[list[str]] = [[] for _ in texts]
        for (number, _), reading in zip(pieces, readings, strict=True):
            phrases[number] += reading.phrases
        if self._by_sentence:
            parts = [
                (number, part)
                for number, piece in pieces
                for part in sentences(piece)
                if part != piece.strip()
            ]
            # A second look, which can only add: a malformed answer to it does no harm.
            for (number, part), answer in zip(parts, self._ask([part for _, part in parts]), strict=True):
                phrases[number] += _Reading(part, answer).phrases
        return phrases

    def _ask(self, pieces: Sequence[str], reminder: str = "") -> list[Answer]:
        request = f"{_REQUEST}{reminder} Private phrases include\n{self._rules}"
        chats = [[Message("user", f"{piece}\n\n{request}")] for piece in pieces]
        options: dict[str, Any] = {"temperature": 0.0, "max_tokens": self._max_tokens}
        batch = getattr(self._model, "batch", None)
        with errors_as(
            TaggerError, "The model of the ConstitutionTagger failed ({error}).", ours=TaggerError
        ):
            if batch is not None and len(chats) > 1:
                starts = range(0, len(chats), self._batch_size)
                return [
                    answer
                    for start in starts
                    for answer in batch(chats[start : start + self._batch_size], **options)
                ]
            return [self._model.generate(chat, **options) for chat in chats]


@dataclass(frozen=True, repr=False)
class _Reading:
    """A piece of text and what the model said about it."""

    piece: str
    answer: Answer

    @property
    def lines(self) -> list[str]:
        return [line for line in map(str.strip, self.answer.text.splitlines()) if line]

    @property
    def phrases(self) -> list[str]:
        return [phrase for line in self.lines if (phrase := _standing(line, self.piece))]

    @property
    def is_malformed(self) -> bool:
        if self.answer.finish_reason == "length" or not self.lines:
            return True
        return not self.phrases and [line.rstrip(".").lower() for line in self.lines] != ["none"]


def _standing(line: str, piece: str) -> str | None:
    """Return the phrase that a line names if it stands in the piece; list marks and the like are left out."""
    plain = _MARKER.sub("", line, count=1) if _MARKER.match(line) else line
    candidates = [line, plain, plain.rstrip(".,;")]
    candidates += [plain[1:-1] for first, last in _QUOTES if plain[:1] == first and plain[-1:] == last]
    return next((phrase for phrase in candidates if find_phrases(piece, [(phrase, "X")])), None)


def read_constitution(constitution: str) -> str:
    """Return what a model is told of a constitution: its text without lines that begin with ``#``.

    Args:
        constitution: The name of one that comes with the package, or a text.

    Raises:
        PrivacyParameterError: If nothing is left of it.

    Example:
        >>> read_constitution("LEGAL").splitlines()[0]
        '- names of persons'
    """
    text = constitution
    if constitution in CONSTITUTIONS:
        file = resources.files("dpfusion_core.tagging") / "constitutions" / f"{constitution.lower()}.txt"
        text = file.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise PrivacyParameterError(
            f"The constitution is empty. Use one of {', '.join(CONSTITUTIONS)}, or say in your own words "
            "what is private."
        )
    return "\n".join(lines)
