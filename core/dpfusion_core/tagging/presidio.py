"""Microsoft Presidio's recognisers as a tagger: patterns and check digits, without a model to download."""

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError, TaggerError, UnsupportedError, errors_as
from dpfusion_core.tagging.compose import SpanCache
from dpfusion_core.tagging.occurrences import tag_everywhere, whole_words
from dpfusion_core.tagging.spans import Span
from dpfusion_core.tagging.windows import check_readable, windows

if TYPE_CHECKING:  # the extra loads when a PresidioTagger is made
    from presidio_analyzer import EntityRecognizer
    from presidio_analyzer.nlp_engine import NlpEngine

_OVERLAP = 300
_PROSE = re.compile(r"\A\w*[a-z]\.[A-Z][a-z]")  # "so.Then": a missing space, not the domain so.th
# Where slow recognisers can find something at all: they read these stretches alone.
_STRETCHES = {
    "EmailRecognizer": re.compile(r"(?<!\S)\S*@\S*"),
    "InPanRecognizer": re.compile(r"(?<!\S)\S*\d{4}\S*"),
    "UrlRecognizer": re.compile(r"(?<!\S)\S*[.:]\w\S*"),
    "PhoneRecognizer": re.compile(
        r"(?:\S{1,20}\s){0,2}\S{0,20}\d(?:\D{0,3}\d){6,}\S{0,20}(?:\s\S{1,20}){0,2}"
    ),
}
_WORD = re.compile(r"\w+")
# As Presidio's own enhancer: a word of the recogniser's context among the words before a match.
_CONTEXT_WORDS, _CONTEXT_BONUS, _CONTEXT_SCORE = 6, 0.35, 0.4
_MONTHS = (
    "(?-i:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_YEAR = r"(?:1[89]|20|21)\d\d"
_WRITTEN_DATES = (  # Presidio knows dates in digits alone
    rf"\b{_DAY}(?:\s+of)?\s+{_MONTHS}(?:,?\s+{_YEAR})?\b",
    rf"\b{_MONTHS}\s+{_DAY}\b(?:,?\s+{_YEAR}\b)?",
    rf"\b{_MONTHS},?\s+{_YEAR}\b",
)


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
        recognizers: Your own ``EntityRecognizer`` objects.
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
        known = [*_predefined(language, countries), *recognizers]
        if nlp_engine is not None:
            if not nlp_engine.is_loaded():
                nlp_engine.load()
            known += _named_entities(nlp_engine, language)
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
            TaggerError: If the text is not readable, or a recogniser fails.
        """
        check_readable(text)
        known = self._cache.get("", text)
        if known is None:
            found = (
                Span(start + each.start, start + each.end, each.label, each.score)
                for start, end in windows(text, self._window, _OVERLAP)
                for each in self._analyse(text[start:end])
            )
            known = tag_everywhere(text, found)
            self._cache.put("", text, known)
        return known

    def _analyse(self, piece: str) -> Iterator[Span]:
        artifacts = None
        with errors_as(TaggerError, "A recogniser of Presidio failed ({error})."):
            if self._nlp_engine is not None:
                artifacts = self._nlp_engine.process_text(piece, self._language)
            results = [
                (recognizer, result)
                for recognizer in self._recognizers
                for result in _results(recognizer, piece, artifacts)
            ]
        for recognizer, (start, result) in results:
            span = Span(start + result.start, start + result.end, result.entity_type, float(result.score))
            span = _with_context(piece, span, recognizer.context or ())
            is_prose = span.label == "URL" and _PROSE.search(piece[span.start : span.end])
            if span.score >= self._threshold and self._is_wanted(span.label) and not is_prose:
                # Presidio's URLs end where a short top-level domain does, inside of a longer one.
                yield replace(span, end=whole_words(piece, span.start, span.end)[1])

    def _is_wanted(self, entity: str) -> bool:
        return self._entities is None or entity in self._entities


def _results(recognizer: Any, piece: str, artifacts: Any) -> Iterator[tuple[int, Any]]:
    """Yield what a recogniser finds, with the offset that its results count from."""
    entities = list(recognizer.supported_entities)
    pattern = _STRETCHES.get(recognizer.name) if _is_presidios(recognizer) else None
    if pattern is None:
        yield from ((0, result) for result in recognizer.analyze(piece, entities, artifacts) or ())
        return
    for stretch in pattern.finditer(piece):
        for result in recognizer.analyze(stretch.group(), entities, artifacts) or ():
            yield stretch.start(), result


def _is_presidios(recognizer: Any) -> bool:
    return type(recognizer).__module__.startswith("presidio_analyzer.")


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


def _predefined(language: str, countries: Iterable[str] | None) -> list[Any]:
    """Return Presidio's recognisers that need neither a model nor a service."""
    needed = "PresidioTagger needs an extra: pip install 'dpfusion[presidio]'"
    with errors_as(UnsupportedError, needed, only=ImportError):
        from presidio_analyzer import Pattern, PatternRecognizer, predefined_recognizers
    presidio = predefined_recognizers
    wanted = None if countries is None else {country.lower() for country in countries}
    made: list[Any] = []
    for name in presidio.__all__:
        kind: Any = getattr(presidio, name)
        if not (inspect.isclass(kind) and issubclass(kind, PatternRecognizer | presidio.PhoneRecognizer)):
            continue
        default = inspect.signature(kind).parameters["supported_language"].default
        country = getattr(kind, "COUNTRY_CODE", None)
        if country is None or (default == language and (wanted is None or country in wanted)):
            made.append(cast(Any, kind)(supported_language=language))
    # Presidio's own asks the network for the list of top-level domains, and drops the addresses of
    # domains that are not in it, as in an intranet.
    made = [each for each in made if not isinstance(each, presidio.EmailRecognizer)]
    made.append(
        PatternRecognizer(
            "EMAIL_ADDRESS",
            name="EmailRecognizer",
            patterns=presidio.EmailRecognizer.PATTERNS,
            context=presidio.EmailRecognizer.CONTEXT,
            supported_language=language,
        )
    )
    if language == "en":
        patterns = [Pattern("written date", pattern, 0.6) for pattern in _WRITTEN_DATES]
        made.append(PatternRecognizer("DATE_TIME", name="WrittenDateRecognizer", patterns=patterns))
    return made


def _named_entities(nlp_engine: Any, language: str) -> list[Any]:
    """Return the recogniser that reads what a model has found."""
    from presidio_analyzer import RecognizerRegistry

    kind = RecognizerRegistry.get_nlp_recognizer(nlp_engine)
    return [kind(supported_language=language, supported_entities=nlp_engine.get_supported_entities())]
