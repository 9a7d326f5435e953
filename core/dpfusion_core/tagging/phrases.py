"""A tagger for phrases that are known beforehand."""

import re
from collections.abc import Iterable

from dpfusion_core.errors import TaggerError
from dpfusion_core.tagging.spans import Span, merge_spans


class PhraseTagger:
    """Tags every occurrence of known phrases; phrases that begin or end as words match whole words.

    Args:
        phrases: The private phrases, matched exactly.
        label: Label of the spans.

    Raises:
        TaggerError: If there is no phrase, or an empty one.

    Example:
        >>> PhraseTagger(["Ann"]).tag("Ann met Anna.")
        [Span(start=0, end=3, label='PRIVATE', score=1.0)]
    """

    def __init__(self, phrases: Iterable[str], label: str = "PRIVATE") -> None:
        if isinstance(phrases, str):
            raise TaggerError("Expected a list of phrases, not one string.")
        unique = sorted(set(phrases))
        if not unique or not all(phrase.strip() for phrase in unique):
            raise TaggerError("Expected at least one phrase, and none of them empty.")
        self._patterns = {phrase: re.compile(_occurrence(phrase)) for phrase in unique}
        self._label = label

    def __repr__(self) -> str:
        return f"PhraseTagger(<{len(self._patterns)} phrases>, label={self._label!r})"

    def tag(self, text: str) -> list[Span]:
        """Return the spans of all phrases in ``text``, merged where they overlap."""
        spans = (
            Span(match.start(), match.start() + len(phrase), self._label)
            for phrase, pattern in self._patterns.items()
            for match in pattern.finditer(text)
        )
        return merge_spans(spans, len(text))


def _occurrence(phrase: str) -> str:
    """Return a pattern of the places where a phrase begins, those that overlap included."""
    before = r"(?<!\w)" if re.match(r"\w", phrase) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", phrase) else ""
    return f"{before}(?={re.escape(phrase)}{after})"
