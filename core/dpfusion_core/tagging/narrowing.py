"""From private messages to private phrases: what a tagger finds stays private, the rest becomes public."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError, TaggerError, errors_as
from dpfusion_core.messages import DEFAULT_UNIT, Message, Segment
from dpfusion_core.tagging.occurrences import find_phrases, same_phrase, tag_everywhere
from dpfusion_core.tagging.spans import Span, Tagger, merge_spans
from dpfusion_core.tagging.windows import check_readable

UnitsOf = Literal["message", "label", "entity"] | Callable[[Span, str], str]
"""Which privacy unit a tagged phrase belongs to: its message's, one for each label, one for each entity,
or what a function of the span and its text says."""


@dataclass(frozen=True)
class Narrowing:
    """How private messages are narrowed to private phrases.

    What cannot be shown to be public stays private: a tagger that fails, or that finds nothing, leaves
    the whole text private unless the caller says otherwise. A phrase that is found in one private text of
    a conversation is private in all of them.

    Attributes:
        tagger: Finds the phrases.
        units: ``"message"``: a phrase belongs to its message's unit. ``"label"``: to a unit of its
            label, as the DP-Fusion paper groups them. ``"entity"``: to a unit of its own, the same
            for the same phrase. A function gets the span and its text and names the unit; the name
            is public.
        numbered: Whether labels are numbered by entity: ``PERSON_1``, ``PERSON_2``.
        on_error: What to do if the tagger fails: ``"private"`` leaves the text private as a whole,
            ``"raise"`` raises.
        trust_empty: Whether a text in which the tagger finds nothing is public. By default it stays
            private as a whole.
        timeout: Seconds after which a tagger counts as failed; None waits for ever.

    Raises:
        PrivacyParameterError: If a value is none of the choices.

    Example:
        >>> from dpfusion_core.tagging import PhraseTagger
        >>> narrowing = Narrowing(PhraseTagger(["Ann"], label="PERSON"), units="label")
        >>> messages, whole = narrowing([Message("user", "Ann is ill.", is_private=True)])
        >>> messages[0].segments[0].unit, messages[0].segments[1], whole
        ('person', Segment(text=' is ill.', is_private=False, unit=None, label=None), 0)
    """

    tagger: Tagger
    units: UnitsOf = "message"
    numbered: bool = False
    on_error: Literal["private", "raise"] = "private"
    trust_empty: bool = False
    timeout: float | None = None

    def __post_init__(self) -> None:
        if not (self.units in ("message", "label", "entity") or callable(self.units)):
            raise PrivacyParameterError(
                "Expected units 'message', 'label', 'entity' or a function of a span and its text."
            )
        if self.on_error not in ("private", "raise"):
            raise PrivacyParameterError(f"Expected on_error 'private' or 'raise', got {self.on_error!r}.")
        if self.timeout is not None:
            _validate.positive(self.timeout, "timeout")

    def __call__(self, messages: Sequence[Message]) -> tuple[list[Message], int]:
        """Narrow a conversation.

        Args:
            messages: The conversation.

        Returns:
            The conversation with only the found phrases private, and the number of private texts
            that stayed private as a whole.

        Raises:
            TaggerError: If the tagger fails and ``on_error`` is ``"raise"``.
        """
        texts = [s.text for m in messages for s in m.segments if s.is_private]
        found = iter(self._find(texts))
        naming = _Naming(self.units, self.numbered)
        narrowed, whole = [], 0
        for message in messages:
            segments: list[Segment] = []
            for segment in message.segments:
                parts = [segment]
                if segment.is_private:
                    parts = self._cut(segment, next(found), naming)
                    whole += parts == [segment]
                segments += parts
            narrowed.append(replace(message, content=segments, is_private=False, unit=None))
        return narrowed, whole

    def _find(self, texts: Sequence[str]) -> list[list[Span] | None]:
        """Return the spans of each text; None for those that stay private as a whole."""
        found: list[list[Span] | None] = []
        for text in texts:
            try:
                spans = find_spans(self.tagger, text, self.timeout)
            except TaggerError:
                if self.on_error == "raise":
                    raise
                found.append(None)
            else:
                found.append(spans if spans or self.trust_empty else None)
        # What is private in one text is private in the others.
        phrases = {
            text[span.start : span.end]: span.label
            for text, spans in zip(texts, found, strict=True)
            for span in spans or ()
        }
        if len(texts) == 1:
            return found
        return [
            spans if spans is None else merge_spans([*spans, *find_phrases(text, phrases.items())], len(text))
            for text, spans in zip(texts, found, strict=True)
        ]

    def _cut(self, segment: Segment, spans: list[Span] | None, naming: "_Naming") -> list[Segment]:
        if spans is None:
            return [segment]
        try:
            return naming.cut(segment, spans)
        except TaggerError:
            if self.on_error == "raise":
                raise
            return [segment]


def find_spans(tagger: Tagger, text: str, timeout: float | None = None) -> list[Span]:
    """Ask a tagger, check what it says, and tag every occurrence of what it has found.

    Args:
        tagger: The tagger.
        text: The text.
        timeout: Seconds to wait at most; None for ever.

    Returns:
        Sorted spans inside the text that do not overlap.

    Raises:
        TaggerError: If the tagger raises, times out, or returns something else than such spans. The
            error never quotes the text.
    """
    check_readable(text)
    said = f"The tagger {type(tagger).__name__} raised {{error}}."
    with errors_as(TaggerError, said, ours=TaggerError):
        return tag_everywhere(text, _answer(tagger, text, timeout))


def _answer(tagger: Tagger, text: str, timeout: float | None) -> list[Any]:
    if timeout is None:
        return list(tagger.tag(text))
    answer: list[list[Any]] = []
    error: list[BaseException] = []

    def ask() -> None:
        try:
            answer.append(list(tagger.tag(text)))
        except BaseException as raised:  # noqa: BLE001  raised again below, in the thread that waits
            error.append(raised)

    # A daemon: a tagger cannot be interrupted, and one that never returns must not keep the process alive.
    thread = threading.Thread(target=ask, name="dpfusion-tagger", daemon=True)
    thread.start()
    thread.join(timeout)
    if error:
        raise error[0]
    if not answer:
        raise TaggerError(f"The tagger {type(tagger).__name__} did not answer within {timeout:g} s.")
    return answer[0]


@dataclass
class _Naming:
    """Names labels and units; entities are numbered in the order of their first appearance."""

    units: UnitsOf
    numbered: bool
    _numbers: dict[tuple[str, str], int] = field(default_factory=dict, repr=False)
    _counts: dict[str, int] = field(default_factory=dict, repr=False)

    def cut(self, segment: Segment, spans: Sequence[Span]) -> list[Segment]:
        parts, position = [], 0
        for span in spans:
            text = segment.text[span.start : span.end]
            entity = self._entity(span.label, text)
            label = entity if self.numbered else span.label
            parts.append(Segment(segment.text[position : span.start]))
            parts.append(Segment(text, is_private=True, unit=self._unit(segment, span, entity), label=label))
            position = span.end
        parts.append(Segment(segment.text[position:]))
        return [part for part in parts if part.text]

    def _entity(self, label: str, text: str) -> str:
        entity = label, same_phrase(text)
        if entity not in self._numbers:
            self._counts[label] = self._counts.get(label, 0) + 1
            self._numbers[entity] = self._counts[label]
        return f"{label}_{self._numbers[entity]}"

    def _unit(self, segment: Segment, span: Span, entity: str) -> str | None:
        if self.units == "message":
            return segment.unit
        if callable(self.units):
            with errors_as(TaggerError, "The function that names units gave {error}."):
                name = self.units(span, segment.text[span.start : span.end])
            if isinstance(name, str) and name:
                return name
            raise TaggerError("The function that names units gave no name.")
        name = span.label if self.units == "label" else entity
        # Entities of a named unit stay apart from those of others: a ledger keeps accounts by name.
        return name if segment.unit in (None, DEFAULT_UNIT) else f"{segment.unit}/{name}"
