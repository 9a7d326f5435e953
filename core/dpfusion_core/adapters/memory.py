"""The net: recognises private text that comes back without its mark.

It is never a way to classify. Recognised text is refused, not protected: the caller learns that a mark
was lost on the way and puts it back. What the caller says of a text binds, so marked text is not looked at.
"""

import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, Set
from itertools import accumulate, chain

LONG = 8
"""How many words in a row are recognised wherever they stand."""

SHORT = 3
"""Private texts with fewer words than a run are recognised as a whole, down to this many."""

# Scripts that are written without spaces count by the character, and it takes several to say a word.
_LIKE_THAI, _LIKE_HAN = "\u0e00-\u0eff\u1780-\u17ff", "\u3040-\u30ff\u3400-\u9fff"
_THAI, _HAN = re.compile(f"[{_LIKE_THAI}]"), re.compile(f"[{_LIKE_HAN}]")
_WORD = re.compile(rf"[{_LIKE_THAI}{_LIKE_HAN}]|[^\W{_LIKE_THAI}{_LIKE_HAN}]+")
_QUARTERS = 4
"""Lengths are counted in quarters of a word: a character of Thai, Lao and Khmer is one, one of Chinese and
Japanese two."""


class PrivateTexts:
    """Remembers private texts by hashes of their words; the text itself is not kept.

    Texts that were released by the mechanism are public: their words are passed over.

    Args:
        capacity: How many runs of words are remembered; the oldest are forgotten first. 2^18 take
            about 30 MB.

    Example:
        >>> texts = PrivateTexts()
        >>> texts.remember("The patient Ann Berg has lived in Oslo since the year 1973.")
        >>> texts.holds("Answer from this: the patient Ann Berg has lived in OSLO since the year 1973. Who?")
        True
        >>> texts.holds("Where has the patient lived?")
        False
    """

    def __init__(self, capacity: int = 2**18) -> None:
        self.capacity = capacity
        self._private: OrderedDict[int, None] = OrderedDict()
        self._released: OrderedDict[int, None] = OrderedDict()
        self._counts: set[int] = set()  # of words in private texts that are remembered as a whole
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"PrivateTexts(capacity={self.capacity})"

    def remember(self, text: str, *, shortest: int = SHORT, known: Set[int] = frozenset()) -> None:
        """Take note of a private text.

        Args:
            text: The text.
            shortest: How many words it has at least; a shorter one is passed over.
            known: Runs of public text, from :func:`runs_of`: where the private one repeats them, they are
                passed over.
        """
        # A document that is retrieved again costs nothing: what stands for the whole of it is forgotten
        # before its words are.
        whole = hash((shortest, text))
        if whole in self._private:
            return
        words = _words(text)
        length = _quarters(words)
        if length >= LONG * _QUARTERS:
            runs = _long_runs(words)
        elif length >= shortest * _QUARTERS:
            runs = _runs(words, len(words))
            with self._lock:
                self._counts.add(len(words))
        else:
            return
        self._add(self._private, [whole, *(run for run in runs if run not in known)])

    def release(self, text: str) -> None:
        """Take note of a text that was released under a guarantee: it is public from now on."""
        words = _words(text)
        most = LONG * _QUARTERS // min(map(_quarters_of, words), default=_QUARTERS)
        sizes = range(SHORT, most + 1)
        self._add(
            self._released, [*_long_runs(words), *(run for size in sizes for run in _runs(words, size))]
        )

    def holds(self, text: str) -> bool:
        """Return whether private text stands in this one."""
        words = _words(text)
        with self._lock:
            runs = chain(_long_runs(words), *(_runs(words, size) for size in self._counts))
            return any(run in self._private and run not in self._released for run in runs)

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._private.clear()
            self._released.clear()
            self._counts.clear()

    def _add(self, kept: OrderedDict[int, None], runs: list[int]) -> None:
        with self._lock:
            for run in runs[-self.capacity :]:
                kept.pop(run, None)
                kept[run] = None
            while len(kept) > self.capacity:
                kept.popitem(last=False)


def runs_of(text: str) -> Iterator[int]:
    """Yield what stands for each run of ``LONG`` words of a text."""
    return _long_runs(_words(text))


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _quarters_of(word: str) -> int:
    if _THAI.match(word):
        return 1
    return 2 if _HAN.match(word) else _QUARTERS


def _quarters(words: tuple[str, ...]) -> int:
    return sum(map(_quarters_of, words))


def _runs(words: tuple[str, ...], size: int) -> Iterator[int]:
    """Yield a hash for every ``size`` words in a row; Python keys them anew in every process."""
    return (hash(words[i : i + size]) for i in range(len(words) - size + 1))


def _long_runs(words: tuple[str, ...]) -> Iterator[int]:
    """Yield a hash for every run of words that has just reached the length of ``LONG`` words."""
    if _quarters(words) == len(words) * _QUARTERS:
        yield from _runs(words, LONG)
        return
    ends = list(accumulate(map(_quarters_of, words), initial=0))
    end = 0
    for start, begun in enumerate(ends):
        while end < len(ends) and ends[end] - begun < LONG * _QUARTERS:
            end += 1
        if end == len(ends):
            return
        yield hash(words[start:end])


# Marks are lost between components that share no object but the process, so the memory is the process's.
seen = PrivateTexts()
"""The private texts that this process has seen of late."""
