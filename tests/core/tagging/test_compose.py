"""Unions and caches of taggers, and several texts at once."""

import threading
from collections.abc import Sequence

import pytest

from dpfusion_core import PhraseTagger, Span, TaggerError
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.tagging import CachedTagger, FunctionTagger, Tagger, UnionTagger, tag_batch
from dpfusion_core.tagging.compose import SpanCache

TEXT = "Ann met Bob."


class Counting:
    """Tags Ann; remembers what it was asked, in which thread."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: set[int] = set()

    def __repr__(self) -> str:
        return "Counting()"

    def tag(self, text: str) -> list[Span]:
        self.asked.append(text)
        self.threads.add(threading.get_ident())
        return PhraseTagger(["Ann"]).tag(text)


def failing(text: str) -> list[Span]:
    raise ValueError(text)


def test_union_merges_what_overlaps_and_prefers_the_specific_label() -> None:
    union = UnionTagger(
        PhraseTagger(["Ann met"]), PhraseTagger(["Ann"], label="PERSON"), PhraseTagger(["Bob"])
    )
    assert union.tag(TEXT) == [Span(0, 7, "PERSON"), Span(8, 11)]


def test_union_fails_if_one_fails() -> None:
    union = UnionTagger(PhraseTagger(["Ann"]), FunctionTagger(failing))
    with pytest.raises(ValueError, match="Ann"):
        union.tag(TEXT)
    with pytest.raises(TaggerError):
        UnionTagger()


def test_batch_is_one_by_one_without_own_method() -> None:
    texts = [TEXT, "Bob", "Ann"]
    tagger: Tagger
    for tagger in (Counting(), UnionTagger(Counting()), CachedTagger(Counting())):
        assert tag_batch(tagger, texts) == [tagger.tag(text) for text in texts]


def test_batch_of_another_length_is_refused() -> None:
    class Short(Counting):
        def tag_batch(self, texts: Sequence[str]) -> list[list[Span]]:
            return []

    with pytest.raises(TaggerError):
        tag_batch(Short(), [TEXT])


def test_cache_asks_once_and_forgets_the_oldest() -> None:
    counting = Counting()
    cached = CachedTagger(counting, size=2)
    for text in ["a", "b", "a", "c", "a", "b"]:
        cached.tag(text)
    assert counting.asked == ["a", "b", "c", "b"]
    assert cached.tag_batch(["a", "d", "b", "d"]) == [[]] * 4  # a and b are known, d is asked for once
    assert counting.asked[4:] == ["d"]


def test_cache_knows_other_settings_as_another_question() -> None:
    cache = SpanCache(4)
    cache.put("HEALTH", TEXT, [Span(0, 3)])
    assert cache.get("HEALTH", TEXT) == [Span(0, 3)]
    assert cache.get("LEGAL", TEXT) is None
    assert cache.get("HEALTHA", TEXT[1:]) is None  # the border between the two is part of the digest


def test_cache_holds_no_text_and_its_digests_tell_nothing() -> None:
    caches = SpanCache(4), SpanCache(4)
    for cache in caches:
        cache.put("", TEXT, [Span(0, 3)])
        assert TEXT not in repr(vars(cache))
    first, second = (next(iter(cache._spans)) for cache in caches)
    assert first != second  # keyed: who sees a digest cannot try texts


def test_cache_can_be_switched_off() -> None:
    counting = Counting()
    cached = CachedTagger(counting, size=0)
    assert cached.tag(TEXT) == cached.tag(TEXT) == [Span(0, 3)]
    assert len(counting.asked) == 2
    with pytest.raises(PrivacyParameterError):
        CachedTagger(counting, size=-1)


def test_failures_are_not_remembered() -> None:
    cached = CachedTagger(FunctionTagger(failing))
    for _ in range(2):
        with pytest.raises(ValueError, match="Ann"):
            cached.tag(TEXT)
