"""Every place where a phrase stands: all occurrences, whole words, all Unicode normal forms."""

import unicodedata
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpfusion_core import Message, Span
from dpfusion_core.tagging import FunctionTagger, Narrowing
from dpfusion_core.tagging.occurrences import find_phrases, same_phrase, tag_everywhere

FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


def found(text: str, phrase: str) -> list[str]:
    return [text[span.start : span.end] for span in find_phrases(text, [(phrase, "X")])]


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("Zoe\u0308 and Zo\u00eb", "Zo\u00eb", ["Zoe\u0308", "Zo\u00eb"]),
        ("Zo\u00eb", "Zoe\u0308", ["Zo\u00eb"]),
        ("Zoe\u0308", "Zoe", []),  # another word
        ("\ufb01x fix", "fix", ["\ufb01x", "fix"]),  # a ligature
        ("a\u2026b a...b", "a\u2026b", ["a\u2026b", "a...b"]),
        ("\uff11\uff12 12 123", "12", ["\uff11\uff12", "12"]),  # full-width digits
        ("Ann\r\nLee, Ann  Lee, Ann\u00a0Lee", "Ann Lee", ["Ann\r\nLee", "Ann  Lee", "Ann\u00a0Lee"]),
        ("Ann Lee", "  Ann\tLee ", ["Ann Lee"]),
        ("\u8fd9\u662f\u674e\u96f7\u7684\u4e66", "\u674e\u96f7", ["\u674e\u96f7"]),  # no spaces between words
        ("\ucca0\uc218\uac00", "\ucca0\uc218", ["\ucca0\uc218"]),  # a Korean name with its particle
        ("\u05e9\u05dc\u05d5\u05dd \u05d3\u05d5\u05d3.", "\u05d3\u05d5\u05d3", ["\u05d3\u05d5\u05d3"]),
        ("x\U0001f600y", "\U0001f600", ["\U0001f600"]),
        ("Ann_2 Ann-2", "Ann", ["Ann"]),
        ("RE: ANN LEE, ann lee, Annlee", "Ann Lee", ["ANN LEE", "ann lee"]),
        ("STRASSE stra\u00dfe Stra\u1e9ee", "Stra\u00dfe", ["STRASSE", "stra\u00dfe", "Stra\u1e9ee"]),
        ("ZO\u00cb ZOE\u0308 ZOE", "Zo\u00eb", ["ZO\u00cb", "ZOE\u0308"]),
        (
            "\u039f\u0394\u039f\u03a3 \u03bf\u03b4\u03cc\u03c2",
            "\u03bf\u03b4\u03bf\u03c2",
            ["\u039f\u0394\u039f\u03a3"],
        ),  # a sigma at the end
        ("", "Ann", []),
        ("Ann", "", []),
    ],
)
def test_occurrences(text: str, phrase: str, expected: list[str]) -> None:
    assert found(text, phrase) == expected


def test_a_span_takes_the_combining_marks_with_it() -> None:
    assert tag_everywhere("Zoe\u0308.", [Span(0, 3)]) == [Span(0, 4)]
    assert tag_everywhere("e\u0308x", [Span(1, 3)]) == [Span(0, 3)]
    assert tag_everywhere("\U0001f44b\U0001f3fd!", [Span(0, 1)]) == [Span(0, 2)]  # skin tone


def test_a_span_inside_a_word_stays_there() -> None:
    assert tag_everywhere("born1973 and 973", [Span(5, 8)]) == [Span(5, 8), Span(13, 16)]


def test_spellings_of_a_phrase_are_one_entity() -> None:
    assert same_phrase("Zo\u00eb  Li") == same_phrase("Zoe\u0308\nLi") != same_phrase("Zoe Li")


def test_a_megabyte_with_thousands_of_phrases() -> None:
    words = [f"name{i} of {i % 97}" for i in range(60_000)]
    text = ". ".join(words)
    assert len(text) > 1_000_000
    spans = find_phrases(text, ((word, "X") for word in words[::6]))
    assert len(spans) == 10_000


# Characters that normal forms treat differently, beside any others.
characters = st.one_of(
    st.sampled_from(
        "ab \u00e9\u0301e\u0308\u00c5\u212b\ufb01\u2026.\u1e69\u0323\u0307\uac00\u1100\u1161\u0344\u00bd1"
    ),
    st.characters(codec="utf-8"),
)
texts = st.text(characters, min_size=1, max_size=25)


@st.composite
def texts_with_a_phrase(draw: st.DrawFn) -> tuple[str, tuple[int, int]]:
    """A text in which a phrase stands several times, in several normal forms, between other text."""
    phrase = draw(st.text(characters, min_size=1, max_size=6).filter(lambda p: p.strip()))
    parts, first = [], None
    for form in draw(st.lists(st.sampled_from(FORMS), min_size=1, max_size=4)):
        parts.append(draw(texts))
        parts.append(draw(st.sampled_from([" ", "\r\n", ", ", "\u2014"])))
        if first is None:
            first = len("".join(parts)), len("".join(parts)) + len(phrase)
            parts.append(phrase)
        else:
            parts.append(unicodedata.normalize(form, phrase))
        parts.append(draw(st.sampled_from([" ", "\n", ".", "\u2014"])))
    assert first is not None
    return "".join(parts), first


@given(texts_with_a_phrase())
def test_no_occurrence_of_a_tagged_phrase_is_public(case: tuple[str, tuple[int, int]]) -> None:
    text, span = case
    narrowed, whole = Narrowing(FunctionTagger(lambda _: [span]), trust_empty=True)(
        [Message("user", text, is_private=True)]
    )
    segments = narrowed[0].segments
    assert whole == 0
    assert "".join(segment.text for segment in segments) == text  # restoring gives the text back
    phrase = text[span[0] : span[1]]
    for segment in segments:
        if not segment.is_private:
            assert find_phrases(segment.text, [(phrase, "X")]) == []
            # An independent, cruder search: between the public text's own boundaries.
            for form in FORMS:
                padded = f"\n{unicodedata.normalize('NFKD', segment.text)}\n"
                for left in (" ", "\n", ", ", "\u2014"):
                    for right in (" ", "\n", ".", "\u2014"):
                        needle = unicodedata.normalize("NFKD", unicodedata.normalize(form, phrase))
                        if needle[0].isalpha() and needle[-1].isalpha():
                            assert left + needle + right not in padded


@given(texts)
@example("\u0344a\u0344")
def test_folding_agrees_with_the_standard_library(text: str) -> None:
    from dpfusion_core.tagging.folding import _fold

    folded, starts, ends = _fold(text)
    assert folded == unicodedata.normalize("NFKD", text)
    if starts is not None and ends is not None:
        assert len(starts) == len(ends) == len(folded)
        assert list(starts) == sorted(starts)
        assert starts[0] == 0
        assert ends[-1] == len(text)
