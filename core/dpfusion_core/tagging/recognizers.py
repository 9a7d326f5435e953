"""Which of Presidio's recognisers are used, and on what part of a text each of them."""

import inspect
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, cast

from dpfusion_core.errors import UnsupportedError, errors_as

# Where slow recognisers can find something at all: they read these stretches alone.
_STRETCHES = {
    "EmailRecognizer": re.compile(r"(?<!\S)\S*@\S*"),
    "InPanRecognizer": re.compile(r"(?<!\S)\S*\d{4}\S*"),
    "PhoneRecognizer": re.compile(
        r"(?:\S{1,20}\s){0,2}\S{0,20}\d(?:\D{0,3}\d){6,}\S{0,20}(?:\s\S{1,20}){0,2}"
    ),
}
_WORD_LIST = re.compile(r"\(\?:\(\?:[a-z]+\)(?:\|\(\?:[a-z]+\))+\)")
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


def predefined(
    language: str, countries: Iterable[str] | None, is_logged: Callable[[logging.LogRecord], bool]
) -> list[Any]:
    """Return Presidio's recognisers that need neither a model nor a service.

    Args:
        language: Language of the texts.
        countries: Locales; None for all of the language.
        is_logged: Which of Presidio's log lines are let through.

    Raises:
        UnsupportedError: If Presidio is not installed.
    """
    needed = "PresidioTagger needs an extra: pip install 'dpfusion[presidio]'"
    with errors_as(UnsupportedError, needed, only=ImportError):
        from presidio_analyzer import Pattern, PatternRecognizer, predefined_recognizers
    logging.getLogger("presidio-analyzer").addFilter(is_logged)  # added once, however often
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
    urls = (each for each in made if isinstance(each, presidio.UrlRecognizer))
    for each in cast(Iterator[Any], urls):
        each.patterns = [Pattern(p.name, _with_tree(p.regex), p.score) for p in each.patterns]
    if language == "en":
        patterns = [Pattern("written date", pattern, 0.6) for pattern in _WRITTEN_DATES]
        made.append(PatternRecognizer("DATE_TIME", name="WrittenDateRecognizer", patterns=patterns))
    return made


def named_entities(nlp_engine: Any, language: str) -> list[Any]:
    """Return the recogniser that reads what a model has found."""
    from presidio_analyzer import RecognizerRegistry

    kind = RecognizerRegistry.get_nlp_recognizer(nlp_engine)
    return [kind(supported_language=language, supported_entities=nlp_engine.get_supported_entities())]


def _with_tree(pattern: str) -> str:
    """Return a pattern that tries its list of words letter by letter.

    Presidio's URLs try 675 top-level domains at every dot of a text, from every place before it.
    """

    def as_tree(match: re.Match[str]) -> str:
        return _tree(re.findall(r"[a-z]+", match.group()))

    return _WORD_LIST.sub(as_tree, pattern)


def _tree(words: Iterable[str]) -> str:
    """Return a pattern for any of some words, the longest that fits.

    Example:
        >>> _tree(["com", "co", "net"])
        '(?:co(?:m)?|net)'
    """
    branches: dict[str, list[str]] = {}
    for word in words:
        branches.setdefault(word[:1], []).append(word[1:])
    parts = [first + _tree(rest) for first, rest in branches.items() if first and rest != [""]]
    parts += [first for first, rest in branches.items() if first and rest == [""]]
    body = "|".join(parts)
    is_word = "" in branches
    return f"(?:{body})?" if is_word else f"(?:{body})" if len(parts) > 1 else body


def stretches(recognizer: Any, piece: str) -> Iterator[tuple[int, str]]:
    """Yield what a recogniser should read of a piece, with where it begins."""
    pattern = None
    if type(recognizer).__module__.startswith("presidio_analyzer."):
        pattern = _domains() if recognizer.name == "UrlRecognizer" else _STRETCHES.get(recognizer.name)
    if pattern is None:
        yield 0, piece
        return
    for match in pattern.finditer(piece):
        yield match.start(), match.group()


@cache
def _domains() -> re.Pattern[str]:
    """Return a pattern for what may be a URL: each of Presidio's has one of its top-level domains."""
    from presidio_analyzer.predefined_recognizers import UrlRecognizer

    words = _WORD_LIST.search(UrlRecognizer.BASE_URL_REGEX)
    return re.compile(rf"(?i)(?<!\S)\S*\.{_with_tree(words[0]) if words else ''}\S*")
