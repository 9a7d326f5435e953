"""Spans on character offsets: cut and joined, a text comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpfusion_core import PhraseTagger, Span, TaggerError
from dpfusion_core.tagging import merge_spans, split_by_spans


@st.composite
def texts_and_spans(draw: st.DrawFn) -> tuple[str, list[Span]]:
    text = draw(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=30))
    cuts = st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text)))
    spans = [Span(min(a, b - 1), b) for a, b in draw(st.lists(cuts, max_size=5))]
    return text, [span for span in spans if span.start < span.end]


@given(texts_and_spans())
def test_segments_join_to_the_text_and_cover_the_spans(case: tuple[str, list[Span]]) -> None:
    text, spans = case
    segments = split_by_spans(text, spans, unit="u")
    assert "".join(segment.text for segment in segments) == text
    private = "".join(("1" if segment.is_private else "0") * len(segment.text) for segment in segments)
    expected = "".join(
        "1" if any(span.start <= place < span.end for span in spans) else "0" for place in range(len(text))
    )
    assert private == expected


@pytest.mark.parametrize("span", [Span(-1, 2), Span(2, 2), Span(3, 2), Span(0, 5)])
def test_span_that_does_not_fit_is_refused(span: Span) -> None:
    with pytest.raises(TaggerError, match="span"):
        merge_spans([span], length=4)


@pytest.mark.parametrize(
    ("phrases", "text", "found"),
    [
        (["Ann"], "Ann, Anna and joAnn; Ann", ["Ann", "Ann"]),
        (["Ann Lee", "Lee"], "Ann Lee and Lee", ["Ann Lee", "Lee"]),
        (["a b a"], "a b a b a", ["a b a b a"]),
        (["$2,450"], "It cost $2,450.", ["$2,450"]),
        (["+47 22"], "call +47 22 or +47 223", ["+47 22"]),
        (["李雷"], "这是 李雷 的", ["李雷"]),
        (["😀"], "x😀y", ["😀"]),
        (["a.c"], "abc a.c", ["a.c"]),
        (["x"], "", []),
    ],
)
def test_phrases_are_found_in_every_place(phrases: list[str], text: str, found: list[str]) -> None:
    assert [text[span.start : span.end] for span in PhraseTagger(phrases).tag(text)] == found


@pytest.mark.parametrize("phrases", [[], [""], ["a", " "], "word"])
def test_bad_phrases(phrases: list[str]) -> None:
    with pytest.raises(TaggerError):
        PhraseTagger(phrases)
