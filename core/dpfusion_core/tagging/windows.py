"""Pieces of long texts: windows that overlap, and sentences."""

import re
from collections.abc import Iterator

from dpfusion_core.errors import TaggerError, errors_as

_BREAKS = tuple(map(re.compile, (r"\n\s*\n", r"[.!?;]\s+|\n", r"\s+")))
"""Where a text is best cut: after a paragraph, a sentence or line, a word."""

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\s*\n\s*")


def windows(text: str, size: int, overlap: int = 0) -> Iterator[tuple[int, int]]:
    """Yield start and end of the pieces of a text, cut where it is natural.

    Args:
        text: The text.
        size: Largest number of characters of a piece.
        overlap: At least how many characters two neighbours share; at most half of ``size``.

    Example:
        >>> list(windows("One two. Three four.", size=12))
        [(0, 9), (9, 20)]
    """
    start = 0
    while len(text) - start > size:
        end = _cut(text, start + max(size // 2, overlap + 1), start + size)
        yield start, end
        start = end - overlap
    if start < len(text):
        yield start, len(text)


def sentences(text: str) -> list[str]:
    """Return the sentences and lines of a text, roughly.

    Example:
        >>> sentences("One. Two? Three")
        ['One.', 'Two?', 'Three']
    """
    return [part for part in map(str.strip, _SENTENCE_END.split(text)) if part]


def check_readable(text: str) -> None:
    """Refuse what is no text, before anything is computed.

    Raises:
        TaggerError: If it is not a string, or holds a lone surrogate.
    """
    if not isinstance(text, str):
        raise TaggerError(f"Expected a text to tag, not {type(text).__name__}.")
    with errors_as(TaggerError, "The text holds a lone surrogate, which no tagger can read."):
        text.encode("utf-8")


def _cut(text: str, first: int, last: int) -> int:
    """Return the best place to cut between two offsets."""
    for pattern in _BREAKS:
        ends = [match.end() for match in pattern.finditer(text, first, last)]
        if ends:
            return ends[-1]
    return last
