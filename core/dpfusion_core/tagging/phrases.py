"""Taggers for what is known beforehand: phrases, patterns, and functions that find things."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import regex  # type: ignore[import-untyped]

from dpfusion_core import _validate
from dpfusion_core.errors import TaggerError, errors_as
from dpfusion_core.tagging.occurrences import find_phrases, tag_everywhere
from dpfusion_core.tagging.spans import DEFAULT_LABEL, Span


class PhraseTagger:
    """Tags every occurrence of known phrases; phrases that begin or end as words match whole words.

    A phrase also matches in the other Unicode normal forms, in other case, and with other white space
    between its words.

    Args:
        phrases: The private phrases, or phrases with a label each.
        label: Label of the spans, unless the phrases come with their own.

    Raises:
        TaggerError: If there is no phrase, or an empty one.

    Example:
        >>> PhraseTagger(["Ann"]).tag("Ann met Anna.")
        [Span(start=0, end=3, label='PRIVATE', score=1.0)]
        >>> PhraseTagger({"Ann": "PERSON"}).tag("Ann")
        [Span(start=0, end=3, label='PERSON', score=1.0)]
    """

    def __init__(self, phrases: Iterable[str] | Mapping[str, str], label: str = DEFAULT_LABEL) -> None:
        if isinstance(phrases, str):
            raise TaggerError("Expected a list of phrases, not one string.")
        labels = phrases if isinstance(phrases, Mapping) else dict.fromkeys(phrases, label)
        if not labels or not all(isinstance(phrase, str) and phrase.strip() for phrase in labels):
            raise TaggerError("Expected at least one phrase, and none of them empty.")
        self._labels = dict(sorted(labels.items()))

    def __repr__(self) -> str:
        return f"PhraseTagger(<{len(self._labels)} phrases>, labels={sorted(set(self._labels.values()))})"

    def tag(self, text: str) -> list[Span]:
        """Return the spans of all phrases in ``text``, merged where they overlap."""
        return find_phrases(text, self._labels.items())


class RegexTagger:
    r"""Tags what regular expressions match, and every other occurrence of it.

    Patterns are those of :mod:`re`; they are matched by the package ``regex``, which can be interrupted: one
    that backtracks without end makes the tagger fail.

    Args:
        patterns: Patterns by label, or patterns that share one.
        label: Label of the spans, unless the patterns come with their own.
        flags: Flags of :mod:`re` for patterns that are not compiled yet.
        timeout: Seconds of computing after which a pattern has failed at a text.

    Raises:
        TaggerError: If there is no pattern, or one that cannot be compiled.
        PrivacyParameterError: If ``timeout`` is not above 0.

    Example:
        >>> RegexTagger({"CASE": r"\bAZ-\d+\b"}).tag("See AZ-17.")
        [Span(start=4, end=9, label='CASE', score=1.0)]
    """

    def __init__(
        self,
        patterns: Mapping[str, str | re.Pattern[str]] | Iterable[str | re.Pattern[str]],
        label: str = DEFAULT_LABEL,
        flags: int = 0,
        timeout: float = 60.0,
    ) -> None:
        self._timeout = _validate.positive(timeout, "timeout")
        if isinstance(patterns, str):
            raise TaggerError("Expected a list of patterns, or patterns by label, not one string.")
        pairs = (
            list(patterns.items())
            if isinstance(patterns, Mapping)
            else [(label, pattern) for pattern in patterns]
        )
        if not pairs:
            raise TaggerError("Expected at least one pattern.")
        refusal = partial(str.format, "A pattern is not a regular expression: {}.")
        with errors_as(TaggerError, refusal, only=(re.error, regex.error, TypeError, ValueError)):
            self._patterns = [(name, _interruptible(pattern, flags)) for name, pattern in pairs]

    def __repr__(self) -> str:
        return f"RegexTagger({', '.join(f'{name}={pattern.pattern!r}' for name, pattern in self._patterns)})"

    def tag(self, text: str) -> list[Span]:
        """Return the spans of all matches in ``text``; empty matches do not count.

        Raises:
            TaggerError: If a pattern times out.
        """
        spans: list[Span] = []
        with errors_as(TaggerError, "A pattern of a RegexTagger timed out.", only=TimeoutError):
            for name, pattern in self._patterns:
                # Concurrent: others, such as who waits for this tagger, run meanwhile.
                matches = pattern.finditer(text, timeout=self._timeout, concurrent=True)
                spans += [Span(match.start(), match.end(), name) for match in matches if match.group()]
        return tag_everywhere(text, spans)


def _interruptible(pattern: str | re.Pattern[str], flags: int) -> Any:
    """Return a pattern of :mod:`re` as one of ``regex``; what the former refuses is refused."""
    known = pattern if isinstance(pattern, re.Pattern) else re.compile(pattern, flags)
    kept = known.flags & (re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE)
    return regex.compile(known.pattern, kept | (regex.ASCII if known.flags & re.ASCII else 0))


class FunctionTagger:
    """Makes a tagger of any function that finds private things in a text.

    Args:
        function: Called with the text. It may return phrases, pairs ``(start, end)``, triples with a
            label, :class:`Span`, mappings with ``start`` and ``end`` (LangChain's ``PIIMatch``
            detectors, pipelines of ``transformers``), or objects with ``start`` and ``end`` (Presidio).
        label: Label of what comes without one.

    Raises:
        TaggerError: If ``function`` cannot be called.

    Example:
        >>> FunctionTagger(lambda text: ["Ann"]).tag("Ann met Bob.")
        [Span(start=0, end=3, label='PRIVATE', score=1.0)]
        >>> FunctionTagger(lambda text: [{"type": "name", "value": "Bob", "start": 8, "end": 11}]).tag(
        ...     "Ann met Bob."
        ... )
        [Span(start=8, end=11, label='name', score=1.0)]
    """

    def __init__(self, function: Callable[[str], Iterable[Any]], label: str = DEFAULT_LABEL) -> None:
        if not callable(function):
            raise TaggerError("Expected a function of a text.")
        self._function = function
        self._label = label

    def __repr__(self) -> str:
        return f"FunctionTagger({getattr(self._function, '__qualname__', type(self._function).__name__)})"

    def tag(self, text: str) -> list[Span]:
        """Return the spans that the function finds, and all other occurrences of what stands there.

        Raises:
            TaggerError: If the function returns something else than described above.
        """
        found = self._function(text)
        if isinstance(found, str | bytes | Mapping) or not isinstance(found, Iterable):
            raise TaggerError("The function of a FunctionTagger returned something else than a list.")
        items = list(found)
        phrases = [item for item in items if isinstance(item, str)]
        spans = [self._span(item) for item in items if not isinstance(item, str)]
        return tag_everywhere(
            text, [*spans, *find_phrases(text, ((phrase, self._label) for phrase in phrases))]
        )

    def _span(self, item: Any) -> Span:
        if isinstance(item, Span):
            return item
        if isinstance(item, tuple) and len(item) in (2, 3):
            return Span(item[0], item[1], item[2] if len(item) == 3 else self._label)

        def get(name: str) -> Any:
            return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)

        label = next((get(name) for name in _LABELS if get(name)), self._label)
        score = get("score")
        # Scores of models are NumPy numbers at times.
        return Span(get("start"), get("end"), label, 1.0 if score is None else float(score))


_LABELS = ("label", "type", "entity_type", "entity_group", "entity")
