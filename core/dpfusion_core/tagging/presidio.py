"""Microsoft Presidio's recognisers as a tagger: patterns and check digits, without a model to download."""

import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError, TaggerError, errors_as
from dpfusion_core.tagging.compose import SpanCache
from dpfusion_core.tagging.folding import Boundaries
from dpfusion_core.tagging.occurrences import tag_everywhere
from dpfusion_core.tagging.recognizers import named_entities, predefined, stretches
from dpfusion_core.tagging.spans import Span
from dpfusion_core.tagging.windows import check_readable, windows

if TYPE_CHECKING:  # the extra loads when a PresidioTagger is made
    from presidio_analyzer import EntityRecognizer
    from presidio_analyzer.nlp_engine import NlpEngine

_OVERLAP = 300
_PROSE = re.compile(r"\A\w*[a-z]\.[A-Z][a-z]")  # "so.Then": a missing space, not the domain so.th
_WORD = re.compile(r"\w+")
# As Presidio's own enhancer: a word of the recogniser's context among the words before a match.
_CONTEXT_WORDS, _CONTEXT_BONUS, _CONTEXT_SCORE = 6, 0.35, 0.4


class PresidioTagger:
    """Tags personal data by patterns, check digits and the words before them.

    E-mail addresses, phone numbers, IBANs, credit cards, social security, tax and health numbers, passports
    and driving licences, vehicle plates, IP and MAC addresses, URLs, dates, crypto wallets and more, of all
    locales that Presidio knows for the language. Names and places have no pattern: give an ``nlp_engine``
    with a model, or unite this tagger with another one.

    Args:
        language: Language of the texts.
        countries: Locales, for example ``["us", "uk"]``; by default all of the language.
        entities: What to tag, by Presidio's names (``"EMAIL_ADDRESS"``); by default everything.
        threshold: Smallest score that counts. At 0.4, Presidio's number for a plain phone number, numbers
            without a form of their own, like passports, need a word like "passport" before them.
        recognizers: Your own ``EntityRecognizer`` objects. One that gives up a search must raise: what it
            passes over counts as public.
        nlp_engine: Presidio's ``SpacyNlpEngine`` or ``TransformersNlpEngine`` with a model of yours, for
            names, places and organisations.
        window: Largest number of characters that recognisers see at a time.
        cache_size: For how many texts answers are remembered.

    Raises:
        UnsupportedError: If Presidio is not installed.
        PrivacyParameterError: If an argument is out of range, or no recogniser is left.

    Example:
        >>> text = "Write to ann@example.com, or call (212) 555-0147."
        >>> [(text[span.start : span.end], span.label) for span in PresidioTagger().tag(text)]
        [('ann@example.com', 'EMAIL_ADDRESS'), ('(212) 555-0147', 'PHONE_NUMBER')]
    """

    def __init__(
        self,
        language: str = "en",
        *,
        countries: Iterable[str] | None = None,
        entities: Iterable[str] | None = None,
        threshold: float = 0.4,
        recognizers: "Sequence[EntityRecognizer]" = (),
        nlp_engine: "NlpEngine | None" = None,
        window: int = 10_000,
        cache_size: int = 256,
    ) -> None:
        self._threshold = _validate.unit_interval(threshold, "threshold")
        self._window = _validate.count(window, "window", minimum=4 * _OVERLAP)
        self._language = language
        known = [*predefined(language, countries, _is_not_ours), *recognizers]
        if nlp_engine is not None:
            if not nlp_engine.is_loaded():
                nlp_engine.load()
            known += named_entities(nlp_engine, language)
        self._nlp_engine = nlp_engine
        wanted = None if entities is None else set(entities)
        self._recognizers = [
            each for each in known if wanted is None or wanted & set(each.supported_entities)
        ]
        self._entities = wanted
        unknown = set() if wanted is None else wanted - {e for r in known for e in r.supported_entities}
        if unknown or not self._recognizers:
            raise PrivacyParameterError(
                f"No recogniser for {', '.join(sorted(unknown)) or 'the language and countries'}. "
                f"Known for {language!r}: {', '.join(sorted({e for r in known for e in r.supported_entities}))}."
            )
        self._cache = SpanCache(cache_size)

    def __repr__(self) -> str:
        engine = "" if self._nlp_engine is None else f", {type(self._nlp_engine).__name__}"
        kinds = ", all entities" if self._entities is None else f", {sorted(self._entities)}"
        return (
            f"PresidioTagger({self._language!r}, {len(self._recognizers)} recognisers{kinds}, "
            f"threshold={self._threshold:g}{engine})"
        )

    @property
    def entities(self) -> tuple[str, ...]:
        """The kinds of entities that are tagged."""
        found = {name for each in self._recognizers for name in each.supported_entities}
        return tuple(sorted(found if self._entities is None else found & self._entities))

    def tag(self, text: str) -> list[Span]:
        """Return the spans of personal data in ``text``.

        Raises:
            TaggerError: If the text is not readable, or a recogniser fails or times out.
        """
        check_readable(text)
        known = self._cache.get("", text)
        if known is None:
            limit = _time_out(self._recognizers)
            found = (
                Span(start + each.start, start + each.end, each.label, each.score)
                for start, end in windows(text, self._window, _OVERLAP)
                for each in self._analyse(text[start:end], limit)
            )
            known = tag_everywhere(text, found)
            self._cache.put("", text, known)
        return known

    def _analyse(self, piece: str, limit: float) -> Iterator[Span]:
        quiet = _is_at_work.set(True)
        try:
            # Presidio's errors quote words of the text.
            with errors_as(TaggerError, "A recogniser of Presidio failed ({error})."):
                results = self._results(piece, limit)
        finally:
            _is_at_work.reset(quiet)
        boundaries = Boundaries(piece)
        for recognizer, start, result in results:
            span = Span(start + result.start, start + result.end, result.entity_type, float(result.score))
            span = _with_context(piece, span, recognizer.context or ())
            is_prose = span.label == "URL" and _PROSE.search(piece[span.start : span.end])
            if span.score >= self._threshold and self._is_wanted(span.label) and not is_prose:
                # Presidio's URLs end where a short top-level domain does, inside of a longer one.
                yield replace(span, end=boundaries.words(span.start, span.end)[1])

    def _results(self, piece: str, limit: float) -> list[tuple[Any, int, Any]]:
        """Return what the recognisers find, each with the offset that it counts from."""
        artifacts = None
        if self._nlp_engine is not None:
            artifacts = self._nlp_engine.process_text(piece, self._language)
        found = []
        for recognizer in self._recognizers:
            for start, stretch in stretches(recognizer, piece):
                found += [(recognizer, start, each) for each in _ask(recognizer, stretch, artifacts, limit)]
        return found

    def _is_wanted(self, entity: str) -> bool:
        return self._entities is None or entity in self._entities


def _ask(recognizer: Any, text: str, artifacts: Any, limit: float) -> list[Any]:
    """Return what a recogniser finds; fail if a pattern may have been given up.

    When a pattern times out, Presidio logs it and goes on as if it had found nothing, in several places.
    The ``regex`` package counts the time of the whole process; a later version may count another. So
    whatever took as long as a time-out, on either clock, counts as one.
    """
    started = time.process_time(), time.monotonic()
    found = list(recognizer.analyze(text, list(recognizer.supported_entities), artifacts) or ())
    if max(time.process_time() - started[0], time.monotonic() - started[1]) >= limit:
        raise TaggerError(
            "A recogniser of Presidio took as long as its time-out for patterns, so it may have given one up. "
            "Give texts in shorter pieces, or raise REGEX_TIMEOUT_SECONDS in the environment."
        )
    return found


def _time_out(recognizers: Iterable[Any]) -> float:
    """Return the shortest time after which a pattern may be given up, in seconds, with some slack.

    Modules of Presidio, and of recognisers that are made after its pattern, have a constant each.
    """
    names = {kind.__module__ for each in recognizers for kind in type(each).__mro__}
    names |= {name for name in list(sys.modules) if name.startswith("presidio_analyzer")}
    limits = [getattr(sys.modules.get(name), "REGEX_TIMEOUT_SECONDS", None) for name in names]
    return 0.95 * min((each for each in limits if isinstance(each, int | float)), default=60.0)


_is_at_work: ContextVar[bool] = ContextVar("_is_at_work", default=False)


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Keep Presidio's log lines out while it reads for us: some quote the text."""
    return not _is_at_work.get()


def _with_context(text: str, span: Span, context: Iterable[str]) -> Span:
    """Return a match with a higher score if a word of the context stands before it."""
    before = text[max(0, span.start - 100) : span.start].lower()
    words = _WORD.findall(before)[-_CONTEXT_WORDS:]
    joined = " ".join(words)
    for word in map(str.lower, context):
        is_there = word in joined if " " in word else any(map(partial(_is_form_of, word), words))
        if is_there:
            return replace(span, score=min(1.0, max(span.score + _CONTEXT_BONUS, _CONTEXT_SCORE)))
    return span


def _is_form_of(stem: str, word: str) -> bool:
    """Tell whether a word is a stem with an ending; a short stem must be the word."""
    return word == stem or (len(stem) > 3 and word.startswith(stem))
