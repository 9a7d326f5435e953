"""The net: recognises private text that comes back without its mark.

It is never a way to classify. Recognised text is refused, not protected: the caller learns that a mark
was lost on the way and puts it back. What the caller says of a text binds, so marked text is not looked at.
"""

import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator

LONG = 8
"""How many words in a row are recognised wherever they stand."""

_SHORTEST = 3
"""Private texts with fewer words than a run are recognised as a whole, down to this many."""

# Words; scripts that are written without spaces count by the character.
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


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
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"PrivateTexts(capacity={self.capacity})"

    def remember(self, text: str, *, shortest: int = _SHORTEST) -> None:
        """Take note of a private text; one of fewer words than ``shortest`` is passed over."""
        # A document that is retrieved again costs nothing: what stands for the whole of it is forgotten
        # before its words are.
        whole = hash((shortest, text))
        if whole in self._private:
            return
        words = _words(text)
        if len(words) >= shortest:
            self._add(self._private, [whole, *_runs(words, min(len(words), LONG))])

    def release(self, text: str) -> None:
        """Take note of a text that was released under a guarantee: it is public from now on."""
        words = _words(text)
        self._add(self._released, [run for size in range(_SHORTEST, LONG + 1) for run in _runs(words, size)])

    def holds(self, text: str) -> bool:
        """Return whether private text stands in this one."""
        words = _words(text)
        sizes = range(_SHORTEST, LONG + 1)
        with self._lock:
            return any(
                run in self._private and run not in self._released
                for size in sizes
                for run in _runs(words, size)
            )

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._private.clear()
            self._released.clear()

    def _add(self, kept: OrderedDict[int, None], runs: list[int]) -> None:
        with self._lock:
            for run in runs[-self.capacity :]:
                kept.pop(run, None)
                kept[run] = None
            while len(kept) > self.capacity:
                kept.popitem(last=False)


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _runs(words: tuple[str, ...], size: int) -> Iterator[int]:
    """Yield a hash for every ``size`` words in a row; Python keys them anew in every process."""
    return (hash(words[i : i + size]) for i in range(len(words) - size + 1))


# Marks are lost between components that share no object but the process, so the memory is the process's.
seen = PrivateTexts()
"""The private texts that this process has seen of late."""
