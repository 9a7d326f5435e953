"""Presidio's patterns: what they find, what they leave alone, and that nothing is downloaded."""

import logging
import random
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dpfusion_core import Message, Span, TaggerError
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError
from dpfusion_core.tagging import Narrowing, PresidioTagger, find_spans
from tiny_recipe.held_out import held_out_records
from tiny_recipe.phrasing import plain_sentence

HERE = Path(__file__).parent
POSITIVES = [line.split("\t") for line in (HERE / "personal_data.tsv").read_text("utf-8").splitlines()]
NEAR_MISSES = (HERE / "near_misses.txt").read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def tagger() -> PresidioTagger:
    return PresidioTagger(cache_size=0)


@pytest.fixture(scope="module")
def by_entity() -> dict[str, PresidioTagger]:
    return {}


def test_the_tables_are_large_and_cover_every_type(tagger: PresidioTagger) -> None:
    assert len(POSITIVES) >= 150
    assert len(set(NEAR_MISSES)) >= 150
    assert {label for label, _ in POSITIVES} == set(tagger.entities)


@pytest.mark.parametrize(("label", "marked"), POSITIVES)
def test_personal_data_is_found(
    label: str, marked: str, tagger: PresidioTagger, by_entity: dict[str, PresidioTagger]
) -> None:
    match = re.search(r"\[\[(.*?)\]\]", marked)
    assert match is not None
    text = marked.replace("[[", "").replace("]]", "")
    wanted = set(range(match.start(), match.start() + len(match[1])))
    if label not in by_entity:
        by_entity[label] = PresidioTagger(entities=[label], cache_size=0)
    for each in (tagger, by_entity[label]):
        found = {place for span in each.tag(text) for place in range(span.start, span.end)}
        assert wanted <= found


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_near_misses_are_left_alone(text: str, tagger: PresidioTagger) -> None:
    assert [(text[span.start : span.end], span.label) for span in tagger.tag(text)] == []


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("A connection was tried.")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert PresidioTagger().tag("ann@example.com, https://example.org") != []


def test_a_megabyte_takes_less_than_ten_seconds(tagger: PresidioTagger) -> None:
    rng = random.Random(1)
    records = [record.text for record in held_out_records(2000, seed=3)]
    text = "\n".join(f"{record} {' '.join(plain_sentence(rng) for _ in range(8))}" for record in records)[
        :1_000_000
    ]
    assert len(text) == 1_000_000
    started = time.process_time()  # of this process: other programs on the machine do not count
    spans = tagger.tag(text)
    assert time.process_time() - started < 10.0
    assert len(spans) > 1000


def test_windows_do_not_part_what_they_find() -> None:
    piece = "Nothing is to be seen in this sentence. "
    for place in range(0, 3000, 37):
        text = (piece * 90)[:place] + " ann.lee@mail.example.com " + piece * 30
        found = PresidioTagger(window=1200, cache_size=0, entities=["EMAIL_ADDRESS"]).tag(text)
        assert [text[span.start : span.end] for span in found] == ["ann.lee@mail.example.com"]


def test_every_occurrence_is_tagged() -> None:
    text = "Passport number: C03005988. Later, C03005988 was seen again."
    assert [span.label for span in PresidioTagger().tag(text)] == ["US_PASSPORT"] * 2


def test_entities_countries_and_threshold() -> None:
    text = "ann@example.com, NHS number 943 476 5919"
    assert {span.label for span in PresidioTagger(entities=["EMAIL_ADDRESS"]).tag(text)} == {"EMAIL_ADDRESS"}
    assert "UK_NHS" not in PresidioTagger(countries=["us"]).entities
    assert "UK_NHS" in PresidioTagger(countries=["UK"]).entities
    assert "EMAIL_ADDRESS" in PresidioTagger(countries=[]).entities
    number = "The number 912803456 stands alone."
    assert PresidioTagger(threshold=0.01).tag(number)
    assert not PresidioTagger().tag(number)


def test_other_languages_have_their_own_documents() -> None:
    tagger = PresidioTagger("de")
    assert "DE_PASSPORT" in tagger.entities
    assert "US_SSN" not in tagger.entities
    assert tagger.tag("Schreiben Sie an anna@beispiel.example")


def test_own_recognisers_are_passed_through() -> None:
    from presidio_analyzer import Pattern, PatternRecognizer

    own = PatternRecognizer("CASE_NUMBER", patterns=[Pattern("case", r"\bAZ-\d+\b", 0.3)], context=["case"])
    tagger = PresidioTagger(recognizers=[own])
    assert tagger.tag("See case AZ-17.") == [Span(9, 14, "CASE_NUMBER", pytest.approx(0.65))]  # type: ignore[arg-type]
    assert tagger.tag("See AZ-17.") == []


def test_a_model_of_the_user_finds_names() -> None:
    """A spaCy pipeline that is made here stands for one that the user has."""
    import spacy
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ann Lee"}])  # type: ignore[attr-defined]
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "none"}])
    engine.nlp = {"en": nlp}  # type: ignore[assignment]  # which it declares as None
    text = "Ann Lee wrote to ann@example.com."
    found = PresidioTagger(nlp_engine=engine).tag(text)
    assert [(text[s.start : s.end], s.label) for s in found] == [
        ("Ann Lee", "PERSON"),
        ("ann@example.com", "EMAIL_ADDRESS"),
    ]


@pytest.mark.parametrize("arguments", [
    {"entities": ["EMAIL"]}, {"entities": []}, {"threshold": 1.5}, {"window": 10}, {"cache_size": -1},
])  # fmt: skip
def test_bad_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError):
        PresidioTagger(**arguments)


JUNK = {
    "empty": "", "white space": " \t\r\n\u2028", "zero bytes": "\x00" * 1000, "controls": "".join(map(chr, range(32))),
    "binary": bytes(range(256)).decode("latin-1") * 50, "marks": "a" + "\u0301" * 5000,
    "emoji": "\U0001f469\u200d\u2695\ufe0f" * 2000,
    "right to left": "\u202e\u05d0\u05e0\u05d0 ann@example.com", "one word": "x" * 30_000, "digits": "7" * 30_000,
    "at signs": "@" * 10_000, "dots": "." * 10_000,
}  # fmt: skip


@pytest.mark.parametrize("name", JUNK)
def test_junk_is_survived(name: str, tagger: PresidioTagger) -> None:
    started = time.process_time()
    spans = tagger.tag(JUNK[name])
    assert time.process_time() - started < 20.0
    assert all(0 <= span.start < span.end <= len(JUNK[name]) for span in spans)


@pytest.mark.parametrize("text", [None, b"ann", "\ud800ann@example.com"], ids=repr)
def test_what_is_no_text_is_refused(text: Any, tagger: PresidioTagger) -> None:
    with pytest.raises(TaggerError):
        tagger.tag(text)


def test_a_recogniser_that_fails_leaves_the_text_private(caplog: pytest.LogCaptureFixture) -> None:
    from presidio_analyzer import LocalRecognizer

    class Broken(LocalRecognizer):
        def load(self) -> None:
            pass

        def analyze(self, text: str, entities: list[str], nlp_artifacts: Any) -> list[Any]:
            raise ValueError(text)

    caplog.set_level(logging.DEBUG)
    tagger = PresidioTagger(recognizers=[Broken(["X"])])
    with pytest.raises(TaggerError) as caught:
        find_spans(tagger, "ann@example.com")
    assert caught.value.__context__ is None
    assert "ann@" not in str(caught.value) + caplog.text
    assert Narrowing(tagger)([Message("user", "ann@example.com", is_private=True)])[1] == 1


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'dpfusion\[presidio\]'"):
        PresidioTagger()


CATASTROPHE = "a" * 40 + "!"


def catastrophic(**fields: Any) -> Any:
    """A recogniser whose second pattern backtracks without end on such a text."""
    from presidio_analyzer import Pattern, PatternRecognizer

    patterns = [Pattern("quick", r"\bq\b", 0.5), Pattern("endless", r"(?:a|aa)+$", 0.9)]
    return PatternRecognizer("ENDLESS", patterns=patterns, **fields)


def with_own_analysis() -> Any:
    from presidio_analyzer import Pattern, PatternRecognizer

    class Own(PatternRecognizer):
        def analyze(
            self, text: str, entities: Any, nlp_artifacts: Any = None, regex_flags: Any = None
        ) -> Any:
            return list(super().analyze(text, entities, nlp_artifacts, regex_flags))

    return Own("ENDLESS", patterns=[Pattern("endless", r"(?:a|aa)+$", 0.9)])


def iban() -> Any:
    from presidio_analyzer import Pattern
    from presidio_analyzer.predefined_recognizers import IbanRecognizer

    patterns: list[Any] = [Pattern("endless", r"((?:a|aa)+)$", 0.9)]  # declared as list[str] there
    return IbanRecognizer(patterns=patterns)


def deny_list() -> Any:
    from presidio_analyzer import PatternRecognizer

    made: Any = PatternRecognizer("DENIED", deny_list=["x"])
    made.patterns[0].regex = r"(?:a|aa)+$"
    return made


@pytest.mark.parametrize("make", [catastrophic, with_own_analysis, iban, deny_list])
def test_a_pattern_that_times_out_fails_closed(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import presidio_analyzer.pattern_recognizer
    import presidio_analyzer.predefined_recognizers.generic.iban_recognizer as iban_recognizer

    caplog.set_level(logging.DEBUG)
    for module in (presidio_analyzer.pattern_recognizer, iban_recognizer):
        monkeypatch.setattr(module, "REGEX_TIMEOUT_SECONDS", 0.3)
    tagger = PresidioTagger(recognizers=[make()], entities=make().supported_entities, cache_size=4)
    for _ in range(2):  # a failure is not remembered as an answer
        with pytest.raises(TaggerError, match="time-out"):
            tagger.tag(CATASTROPHE)
    assert Narrowing(tagger)([Message("user", CATASTROPHE, is_private=True)])[1] == 1
    assert Narrowing(tagger, trust_empty=True)([Message("user", CATASTROPHE, is_private=True)])[1] == 1
    assert tagger.tag("nothing of the kind") == []
    assert "aaaa" not in caplog.text


def test_presidio_still_keeps_its_time_out_where_it_is_looked_for() -> None:
    """What the check above rests on: one constant's name, in the modules that match patterns."""
    import presidio_analyzer.pattern_recognizer
    import presidio_analyzer.predefined_recognizers.generic.iban_recognizer as iban_recognizer

    from dpfusion_core.tagging.presidio import _time_out

    constants = {m.REGEX_TIMEOUT_SECONDS for m in (presidio_analyzer.pattern_recognizer, iban_recognizer)}
    assert _time_out([]) == pytest.approx(0.95 * min(constants))


def test_presidios_log_lines_about_a_text_do_not_come_through(caplog: pytest.LogCaptureFixture) -> None:
    from presidio_analyzer import LocalRecognizer

    log = logging.getLogger("presidio-analyzer")

    class Talkative(LocalRecognizer):
        def load(self) -> None:
            pass

        def analyze(self, text: str, entities: list[str], nlp_artifacts: Any) -> list[Any]:
            log.error("Failed to validate text %s", text)
            return []

    caplog.set_level(logging.DEBUG)
    PresidioTagger(recognizers=[Talkative(["X"])]).tag("ann@example.com")
    assert "ann@" not in caplog.text
    log.error("for the host")
    assert "for the host" in caplog.text


def test_the_tree_of_top_level_domains_knows_all_of_them() -> None:
    from presidio_analyzer.predefined_recognizers import UrlRecognizer

    from dpfusion_core.tagging.recognizers import _WORD_LIST, _with_tree

    assert len(_WORD_LIST.findall(UrlRecognizer.BASE_URL_REGEX)) == 1
    listed = _WORD_LIST.search(UrlRecognizer.BASE_URL_REGEX)
    assert listed is not None
    words = re.findall(r"[a-z]+", listed[0])
    assert len(words) > 600
    tree = re.compile(_with_tree(listed[0]))
    assert all(tree.fullmatch(word) for word in words)
    known = set(words)
    assert not any(tree.fullmatch(word + end) for word in words for end in "aqz" if word + end not in known)
    assert not any(tree.fullmatch(word[:-1]) for word in words if word[:-1] not in known)
