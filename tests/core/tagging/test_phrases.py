"""Taggers of what is known beforehand."""

import re
import threading
from typing import Any

import pytest

from dpfusion_core import Message, PhraseTagger, Span, TaggerError
from dpfusion_core.tagging import FunctionTagger, Narrowing, RegexTagger, find_spans
from dpfusion_core.tagging.occurrences import tag_everywhere

TEXT = "Ann met Bob. Ann left at noon."


def test_phrases_with_labels_of_their_own() -> None:
    tagger = PhraseTagger({"Ann": "PERSON", "noon": "TIME"})
    assert tagger.tag(TEXT) == [Span(0, 3, "PERSON"), Span(13, 16, "PERSON"), Span(25, 29, "TIME")]


def test_repr_shows_no_phrase() -> None:
    assert repr(PhraseTagger(["xyzzy"])) == "PhraseTagger(<1 phrases>, labels=['PRIVATE'])"


def test_patterns_by_label() -> None:
    tagger = RegexTagger({"CAPS": r"\b[A-Z]\w+", "TIME": re.compile("NOON", re.I)})
    assert [(TEXT[s.start : s.end], s.label) for s in tagger.tag(TEXT)] == [
        ("Ann", "CAPS"), ("Bob", "CAPS"), ("Ann", "CAPS"), ("noon", "TIME"),
    ]  # fmt: skip
    assert RegexTagger(["ANN"], label="X", flags=re.I).tag("Ann") == [Span(0, 3, "X")]


def test_empty_matches_do_not_count() -> None:
    assert RegexTagger(["z*"]).tag("abc") == []


def test_what_a_pattern_finds_in_one_place_is_tagged_in_all() -> None:
    assert RegexTagger([r"(?<=Mr )\w+"]).tag("Mr Li says Li") == [Span(3, 5), Span(11, 13)]


@pytest.mark.parametrize("patterns", [[], {}, "ab", ["("], [3]], ids=repr)
def test_bad_patterns(patterns: Any) -> None:
    with pytest.raises(TaggerError):
        RegexTagger(patterns)


class Result:
    """As Presidio's."""

    start, end, entity_type, score = 0, 3, "PERSON", 0.5


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (["Ann"], [Span(0, 3), Span(13, 16)]),
        ([(0, 3)], [Span(0, 3), Span(13, 16)]),
        ([(8, 11, "PERSON")], [Span(8, 11, "PERSON")]),
        ([Span(8, 11, "X", 0.25)], [Span(8, 11, "X", 0.25)]),
        (
            [{"start": 8, "end": 11, "entity_group": "PER", "score": 0.5, "word": "bob"}],
            [Span(8, 11, "PER", 0.5)],
        ),
        ([Result()], [Span(0, 3, "PERSON", 0.5), Span(13, 16, "PERSON", 0.5)]),
        ((phrase for phrase in ["Bob", "noon"]), [Span(8, 11), Span(25, 29)]),
        ([], []),
        (["Carl"], []),
    ],
)
def test_answers_of_functions(answer: Any, expected: list[Span]) -> None:
    assert FunctionTagger(lambda text: answer).tag(TEXT) == expected


def test_detectors_of_langchain_are_functions_of_a_text() -> None:
    """LangChain's ``PIIMiddleware`` takes and has detectors that return ``PIIMatch``."""
    middleware = pytest.importorskip("langchain.agents.middleware")
    tagger = FunctionTagger(middleware.PIIMiddleware("email").detector)
    text = "Write to ann@example.com, please."
    assert tagger.tag(text) == [Span(9, 24, "email")]


@pytest.mark.parametrize(
    "answer",
    [None, 7, "Ann", {"start": 0, "end": 3}, [None], [(1,)], [{"start": 0}], [("0", "3")], [Span(0, 99)],
     [Span(True, 3)], [Span(0, 3, "")], [Span(0, 3, "a\nb")], [Span(0, 3, "x" * 65)], [Span(0, 3, score=2.0)],
     [Span(0, 3, None)], [Span(0, 3, score=float("nan"))]],  # type: ignore[arg-type]
    ids=repr,
)  # fmt: skip
def test_nonsense_is_refused_without_quoting(answer: Any) -> None:
    with pytest.raises(TaggerError) as caught:
        find_spans(FunctionTagger(lambda text: answer), TEXT)
    assert "Ann" not in str(caught.value)


def test_not_a_function() -> None:
    with pytest.raises(TaggerError):
        FunctionTagger("Ann")  # type: ignore[arg-type]


def test_a_pattern_that_backtracks_without_end_fails_closed() -> None:
    text = f"ann@example.com {'a' * 60}!"
    tagger = RegexTagger([r"\S+@\S+", r"(?:a|aa)+$"], timeout=0.3)
    with pytest.raises(TaggerError, match="timed out"):
        tagger.tag(text)
    assert Narrowing(tagger)([Message("user", text, is_private=True)])[1] == 1


def test_who_waits_for_a_pattern_is_not_held_up_by_it() -> None:
    tagger = RegexTagger([r"(?:a|aa)+$"], timeout=2.0)
    _, whole = Narrowing(tagger, timeout=0.1)([Message("user", f"{'a' * 60}!", is_private=True)])
    assert whole == 1
    [searching] = [each for each in threading.enumerate() if each.name == "dpfusion-tagger"]  # it goes on
    searching.join()


@pytest.mark.parametrize("flags", [0, re.IGNORECASE, re.ASCII, re.DOTALL | re.MULTILINE, re.VERBOSE])
@pytest.mark.parametrize("pattern", [
    r"\bann\b", r"(?i)ANN", r"[^\W\d]+\Z", r"^.+$", r"(?P<x>n)(?P=x)", r"(?<=\d)\w", r"\u00e9+", r"a{2,}|e?n",
    r"(?s:.)x",
])  # fmt: skip
def test_patterns_match_as_those_of_the_standard_library(pattern: str, flags: int) -> None:
    text = "Ann, ann\u00e9 \u00e9\u00c9 5x\nANN aaa \u0663x_\r\nx"
    expected = [Span(*match.span()) for match in re.finditer(pattern, text, flags) if match.group()]
    found = RegexTagger([pattern], flags=flags).tag(text)
    assert found == RegexTagger([re.compile(pattern, flags)]).tag(text)
    assert found == tag_everywhere(text, expected)
