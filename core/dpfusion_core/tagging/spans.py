"""Spans of private text, and what a tagger is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dpfusion_core.errors import TaggerError
from dpfusion_core.messages import Segment


@dataclass(frozen=True, order=True)
class Span:
    """A private piece of a text.

    Attributes:
        start: Offset of the first character.
        end: Offset behind the last character.
        label: What kind of thing it is, for example ``"PERSON"``.
        score: Confidence in [0, 1].
    """

    start: int
    end: int
    label: str = "PRIVATE"
    score: float = 1.0


class Tagger(Protocol):
    """Finds the private pieces of a text."""

    def tag(self, text: str) -> Sequence[Span]:
        """Return the private spans of ``text``, on character offsets of the text as given."""
        ...


def merge_spans(spans: Iterable[Span], length: int) -> list[Span]:
    """Sort spans and merge those that overlap; the first one's label is kept, and the lowest score.

    Args:
        spans: In any order.
        length: Length of the text that they point into.

    Raises:
        TaggerError: If a span is empty or reaches outside the text.

    Example:
        >>> merge_spans([Span(4, 8), Span(0, 5, "PERSON")], length=10)
        [Span(start=0, end=8, label='PERSON', score=1.0)]
    """
    merged: list[Span] = []
    for span in sorted(spans):
        if not 0 <= span.start < span.end <= length:
            raise TaggerError(
                f"A tagger returned the span {span.start}:{span.end} for a text of another length. "
                "Spans must not be empty and must lie inside the text."
            )
        if merged and span.start < merged[-1].end:
            last = merged.pop()
            merged.append(Span(last.start, max(last.end, span.end), last.label, min(last.score, span.score)))
        else:
            merged.append(span)
    return merged


def split_by_spans(text: str, spans: Iterable[Span], unit: str | None = None) -> list[Segment]:
    """Cut a text into public and private segments.

    Args:
        text: The text.
        spans: Its private pieces.
        unit: Privacy unit of the private segments.

    Returns:
        Segments that joined give the text back; without spans, one public segment.

    Raises:
        TaggerError: If a span is empty or reaches outside the text.

    Example:
        >>> [s.is_private for s in split_by_spans("I am Jane.", [Span(5, 9)])]
        [False, True, False]
    """
    segments: list[Segment] = []
    position = 0
    for span in merge_spans(spans, len(text)):
        segments.append(Segment(text[position : span.start]))
        segments.append(Segment(text[span.start : span.end], is_private=True, unit=unit))
        position = span.end
    segments.append(Segment(text[position:]))
    return [segment for segment in segments if segment.text]
