"""Spans of private text, and what a tagger is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dpfusion_core.errors import TaggerError
from dpfusion_core.messages import Segment

DEFAULT_LABEL = "PRIVATE"
"""The label of spans whose tagger does not say what kind of thing they are."""

_LABEL = 64  # characters of a label


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
    label: str = DEFAULT_LABEL
    score: float = 1.0


class Tagger(Protocol):
    """Finds the private pieces of a text.

    This one method is all that a tagger needs. One that is quicker about several texts at once may also
    have ``tag_batch(texts)``, which gives the spans of each; it is asked where there are several. (The
    ``Tagger`` of the published library, a client of a web service, is :class:`~dpfusion_core.DocumentPrivacyTagger`.)
    """

    def tag(self, text: str) -> Sequence[Span]:
        """Return the private spans of ``text``, on character offsets of the text as given."""
        ...


def tag_batch(tagger: Tagger, texts: Sequence[str]) -> list[Sequence[Span]]:
    """Ask a tagger about several texts, all at once if it can.

    Args:
        tagger: The tagger; its own ``tag_batch`` is used if it has one.
        texts: The texts.

    Raises:
        TaggerError: If the tagger does not answer for every text.
    """
    own = getattr(tagger, "tag_batch", None)
    if own is None:
        return [list(tagger.tag(text)) for text in texts]
    answers = list(own(texts))
    if len(answers) != len(texts):
        raise TaggerError(f"The tagger {type(tagger).__name__} did not answer for every text of a batch.")
    return answers


def merge_spans(spans: Iterable[Span], length: int) -> list[Span]:
    """Sort spans and merge those that overlap, with the lowest score.

    Of two labels the first one's is kept, unless it is the general one, ``PRIVATE``.

    Args:
        spans: In any order.
        length: Length of the text that they point into.

    Raises:
        TaggerError: If a span is malformed, empty, or reaches outside the text.

    Example:
        >>> merge_spans([Span(4, 8), Span(0, 5, "PERSON")], length=10)
        [Span(start=0, end=8, label='PERSON', score=1.0)]
    """
    checked = [_check(span, length) for span in spans]
    merged: list[Span] = []
    for span in sorted(checked):
        if merged and span.start < merged[-1].end:
            last = merged.pop()
            label = span.label if last.label == DEFAULT_LABEL else last.label
            merged.append(Span(last.start, max(last.end, span.end), label, min(last.score, span.score)))
        else:
            merged.append(span)
    return merged


def _check(span: object, length: int) -> Span:
    if not isinstance(span, Span):
        raise TaggerError("A tagger returned something else than spans.")
    offsets = (span.start, span.end)
    if not all(isinstance(offset, int) and not isinstance(offset, bool) for offset in offsets):
        raise TaggerError("A tagger returned a span whose offsets are not integers.")
    if not 0 <= span.start < span.end <= length:
        raise TaggerError(
            f"A tagger returned the span {span.start}:{span.end} for a text of another length. "
            "Spans must not be empty and must lie inside the text."
        )
    # Labels are public and stand in prompts. They are not quoted: a confused tagger may put text there.
    if not (isinstance(span.label, str) and span.label.isprintable() and 0 < len(span.label) <= _LABEL):
        raise TaggerError(f"A tagger returned a label that is not 1 to {_LABEL} printable characters.")
    if not isinstance(span.score, int | float) or not 0.0 <= span.score <= 1.0:
        raise TaggerError("A tagger returned a score that is not between 0 and 1.")
    return span


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
        segments.append(Segment(text[span.start : span.end], is_private=True, unit=unit, label=span.label))
        position = span.end
    segments.append(Segment(text[position:]))
    return [segment for segment in segments if segment.text]
