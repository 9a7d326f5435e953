"""Texts that were written to keep a tagger busy: the time grows as the text does, no faster."""

import gc
import time
from collections.abc import Callable

import pytest

from dpfusion_core import Message, PhraseTagger, Span
from dpfusion_core.tagging import FunctionTagger, Narrowing, PresidioTagger, RegexTagger
from dpfusion_core.tagging.occurrences import find_phrases, same_phrase, tag_everywhere

_MARKS = "\u0301\u0323\u0308\u0327"  # in an order that must be changed


def _words(count: int) -> str:
    return "".join(chr(97 + (count >> shift) % 16) for shift in (12, 8, 4, 0))


def marks_in_disorder(n: int) -> None:
    find_phrases("e" + _MARKS * (n // 4), [("e" + _MARKS, "X")])


def marks_as_a_phrase(n: int) -> None:
    same_phrase("e" + _MARKS * (n // 4))


def every_mark_tagged(n: int) -> None:
    tag_everywhere("e" + "\u0301" * n, [Span(i, i + 1) for i in range(0, n, 3)])


def one_word_again_and_again(n: int) -> None:
    text = "Ann " * n
    assert len(tag_everywhere(text, [Span(0, len(text) // 2)])) == 1


def many_lengths_of_one_word(n: int) -> None:
    phrases = [" ".join(["Ann"] * length) for length in range(1, 40)]
    find_phrases("Ann " * n, [(phrase, "X") for phrase in phrases])


def one_long_word(n: int) -> None:
    RegexTagger([r"\d+"]).tag("a1" * n)


def many_messages(n: int) -> None:
    texts = [f"{_words(i)} met {_words(i + 1)} at noon." for i in range(n // 8)]
    tagger = FunctionTagger(lambda text: [(0, 4)])
    _, whole = Narrowing(tagger, timeout=None)([Message("user", text, is_private=True) for text in texts])
    assert whole == 0


def many_phrases_in_many_messages(n: int) -> None:
    tagger = PhraseTagger([f"{_words(i)} x" for i in range(0, 400, 2)])
    texts = [f"{_words(i)} x and {_words(i + 1)} x." for i in range(n // 32)]
    Narrowing(tagger, units="entity", timeout=None)([Message("user", t, is_private=True) for t in texts])


CASES: list[tuple[Callable[[int], None], int]] = [
    (marks_in_disorder, 25_000), (marks_as_a_phrase, 25_000), (every_mark_tagged, 10_000),
    (one_word_again_and_again, 10_000), (many_lengths_of_one_word, 10_000), (one_long_word, 20_000),
    (many_messages, 4_000), (many_phrases_in_many_messages, 1_600),
]  # fmt: skip


def seconds(work: Callable[[int], object], size: int) -> float:
    """Return the shortest of three runs: what other programs take from the machine does not count."""
    taken = []
    gc.disable()  # it walks through what other tests have left behind
    try:
        for _ in range(3):
            started = time.process_time()
            work(size)
            taken.append(time.process_time() - started)
    finally:
        gc.enable()
    return min(taken)


@pytest.mark.parametrize(("work", "size"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_four_times_the_text_takes_less_than_eight_times_the_time(
    work: Callable[[int], None], size: int
) -> None:
    assert seconds(work, 4 * size) < 8.0 * max(seconds(work, size), 0.002)


ORDINARY = "Mr Smith went home at noon. He called 555 0147 then, and wrote to his bank. "
URL_LIKE = ["a.", "1.2.3.4.", "1.", "a.b-c.", "x.co.", '"a.']


@pytest.mark.parametrize("piece", URL_LIKE)
def test_dots_without_end_take_no_longer_than_five_times_ordinary_text(piece: str) -> None:
    tagger = PresidioTagger(cache_size=0)
    size = 20_000
    ordinary = seconds(lambda n: tagger.tag((ORDINARY * n)[:n]), size)
    assert seconds(lambda n: tagger.tag((piece * n)[:n]), size) < 5.0 * ordinary
