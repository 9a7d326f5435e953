"""A document on its way: what comes out of it, and the chunks in which a model reads it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dpfusion_core.messages import Segment
from dpfusion_core.placeholders import Placeholder, hide
from dpfusion_core.privacy import PrivacyGuarantee
from dpfusion_core.privacy.guarantee import Tagging

Level = Literal["redact", "paraphrase", "dp"]

_SENTENCE = re.compile(r".+?(?:[.!?;]\s+|\n+|\Z)", re.DOTALL)


@dataclass(frozen=True)
class DocumentReport:
    """What was done to a document. Nothing in it is private text.

    Attributes:
        level: ``"redact"``, ``"paraphrase"`` or ``"dp"``.
        spans: How many pieces were private, by label.
        tagging: ``"phrases"``, or ``"whole message"`` if a text stayed private as a whole.
        guarantee: What the output can tell about each privacy unit, for the whole document; None for the
            levels that are not differentially private.
        chunks: In how many chunks a model read the document.
        seconds: How long it took.
        facts: What was chosen of the document, where a schema was given; the guarantee is for it, and the text was
            written from it and from the redacted text.
    """

    level: Level
    spans: Mapping[str, int]
    tagging: Tagging
    guarantee: PrivacyGuarantee | None
    chunks: int
    seconds: float
    facts: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        fields = asdict(self)
        fields["guarantee"] = None if self.guarantee is None else self.guarantee.as_dict()
        return fields | {"spans": dict(self.spans)}


@dataclass(frozen=True)
class PrivatizedDocument:
    """A document at one of the three levels.

    Attributes:
        text: The text that may be shown.
        report: What was done to it.
    """

    text: str
    report: DocumentReport


@dataclass(frozen=True)
class Chunk:
    """A piece of a document that a model reads at once.

    Attributes:
        segments: Its public and private segments.
        redacted: Its text with the placeholders; public.
    """

    segments: tuple[Segment, ...] = field(repr=False)
    redacted: str

    @property
    def units(self) -> frozenset[str]:
        """The privacy units of its private segments."""
        return frozenset(segment.unit for segment in self.segments if segment.unit is not None)

    @property
    def has_words(self) -> bool:
        """Whether anything but placeholders and punctuation is public."""
        return any(any(map(str.isalnum, segment.text)) for segment in self.segments if not segment.is_private)


def redact(segments: Sequence[Segment], placeholder: Placeholder) -> str:
    """Return the text of segments with placeholders for the private ones."""
    return "".join(hide(each, placeholder) if each.is_private else each.text for each in segments)


def cut(segments: Sequence[Segment], size: int, placeholder: Placeholder) -> list[Chunk]:
    """Cut a document into chunks, where sentences end.

    Where it is cut depends on the redacted text alone, so it tells nothing about what is private.

    Args:
        segments: The document.
        size: Number of characters of redacted text after which a chunk ends with the sentence.
        placeholder: What stands in the place of private segments.
    """
    chunks: list[Chunk] = []
    current: list[Segment] = []
    length = 0
    for piece in _pieces(segments, size):
        shown = redact([piece], placeholder)
        is_full = length + len(shown) > size and bool(current) and current[-1].text[-1:].isspace()
        # A sentence that does not end is cut all the same, but never inside a private segment.
        if current and ((is_full and not current[-1].is_private) or length >= 2 * size):
            chunks.append(Chunk(tuple(current), redact(current, placeholder)))
            current, length = [], 0
        current.append(piece)
        length += len(shown)
    if current:
        chunks.append(Chunk(tuple(current), redact(current, placeholder)))
    return chunks


def _pieces(segments: Sequence[Segment], size: int) -> Iterator[Segment]:
    """Yield private segments whole, and public ones sentence by sentence."""
    for segment in segments:
        if segment.is_private:
            yield segment
            continue
        for match in _SENTENCE.finditer(segment.text):
            for start in range(0, len(match.group()), size):
                yield Segment(match.group()[start : start + size])
