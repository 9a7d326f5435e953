"""Texts in the form in which phrases are compared, and where their characters and words end.

A text is compared after compatibility decomposition (NFKD), with any run of white space equal to any
other, and without case: who is Ann in a letter is ANN in its heading. It is cut into atoms: a word, a run
of white space, or any other single character, each with its combining marks. In scripts that are written
without spaces every character is an atom. All of this takes time in proportion to the text, whatever it is
made of.
"""

import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property

_SPACELESS = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul, decomposed: words take their particles without a space
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3130, 0x318F),  # Hangul
    (0x3400, 0x9FFF),  # Chinese characters
    (0xA960, 0xA97F),  # Hangul
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),  # Chinese characters
    (0x20000, 0x3FFFF),  # Chinese characters
)
_JOINED = "\u200c\u200d" + "".join(map(chr, range(0x1F3FB, 0x1F400)))  # joiners and skin tones
_ATOM = re.compile(r"w[wm]*|s+|.m*")
_MARKED = re.compile(r"[^m]?m+")
_WORD = re.compile(r"[wm]{2,}")
_FEW = 32  # up to here the standard library's ordering of marks, quadratic in their number, is the fastest


class _Classes(dict[str, str]):
    """The class of a character: of a word, white space, a mark on the character before, or other."""

    def __missing__(self, character: str) -> str:
        code = ord(character)
        if character.isspace():
            kind = "s"
        elif character in _JOINED or unicodedata.category(character).startswith("M"):
            kind = "m"
        elif any(first <= code <= last for first, last in _SPACELESS):
            kind = "o"
        else:
            kind = "w" if character.isalnum() or character == "_" else "o"
        self[character] = kind
        return kind


class _Combining(dict[str, bool]):
    """Whether a character's decomposition begins with a mark that is put in order with those before it."""

    def __missing__(self, character: str) -> bool:
        is_combining = unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) != 0
        self[character] = is_combining
        return is_combining


_CLASSES = _Classes()
_COMBINING = _Combining()


class FoldedText:
    """A text as a sequence of atoms.

    Args:
        text: The text.

    Attributes:
        keys: What the atoms are compared by, in their order.
        length: Number of characters of the text.
        characters: See :meth:`Boundaries.characters`.

    Example:
        >>> FoldedText("Caf\u00e9  Nord").keys
        ['cafe\u0301', ' ', 'nord']
    """

    def __init__(self, text: str) -> None:
        folded, self._starts, self._ends = _fold(text)
        self.keys: list[str] = []
        self.length = len(text)
        self._first, self._last = array("q"), array("q")  # where atoms begin and end; a long text has many
        known: dict[str, str] = {}
        for key, start, end in _atoms(folded):
            self.keys.append(known.setdefault(key, key))
            self._first.append(start)
            self._last.append(end)
        self.characters = Boundaries(text).characters

    def offsets(self, first: int, last: int) -> tuple[int, int]:
        """Return start and end in the text of a run of atoms, without parting a character from its marks."""
        start, end = self._first[first], self._last[last]
        if self._starts is not None and self._ends is not None:
            start, end = self._starts[start], self._ends[end - 1]
        return self.characters(start, end)


class Boundaries:
    """Where the characters and words of a text begin and end.

    Args:
        text: The text.

    Example:
        >>> Boundaries("Mr Johnson left").words(5, 8)
        (3, 10)
        >>> Boundaries("e\u0308x").characters(1, 3)
        (0, 3)
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def characters(self, start: int, end: int) -> tuple[int, int]:
        """Return a range that does not part a character from its combining marks."""
        return _widened(self._marked, start, end)

    def words(self, start: int, end: int) -> tuple[int, int]:
        """Return a range that does not part a word, nor a character from its combining marks."""
        return self.characters(*_widened(self._words, start, end))

    @cached_property
    def _classes(self) -> str:
        return "".join(map(_CLASSES.__getitem__, self._text))

    @cached_property
    def _marked(self) -> tuple[list[int], list[int]]:
        if self._text.isascii():
            return [], []
        return _runs(_MARKED, self._classes)

    @cached_property
    def _words(self) -> tuple[list[int], list[int]]:
        return _runs(_WORD, self._classes)


def atoms_of(phrase: str) -> tuple[str, ...]:
    """Return what the atoms of a phrase are compared by; none if it is blank."""
    return tuple(key for key, _, _ in _atoms(_fold(phrase.strip())[0]))


def _runs(pattern: re.Pattern[str], classes: str) -> tuple[list[int], list[int]]:
    spans = [match.span() for match in pattern.finditer(classes)]
    return [start for start, _ in spans], [end for _, end in spans]


def _widened(runs: tuple[list[int], list[int]], start: int, end: int) -> tuple[int, int]:
    """Return a range that begins and ends inside of none of the runs."""
    starts, ends = runs
    place = bisect_right(starts, start) - 1
    if place >= 0 and start < ends[place]:
        start = starts[place]
    place = bisect_right(starts, end - 1) - 1
    if place >= 0 and end < ends[place]:
        end = ends[place]
    return start, end


def _atoms(folded: str) -> Iterator[tuple[str, int, int]]:
    """Yield the atoms of a folded text: what they are compared by, start and end."""
    classes = "".join(map(_CLASSES.__getitem__, folded))
    for match in _ATOM.finditer(classes):
        start, end = match.span()
        yield " " if classes[start] == "s" else folded[start:end].casefold(), start, end


def _fold(text: str) -> tuple[str, "array[int] | None", "array[int] | None"]:
    """Decompose a text; with each character's start and end in the text, unless nothing has changed."""
    if unicodedata.is_normalized("NFKD", text):
        return text, None, None
    parts: list[str] = []
    starts, ends = array("q"), array("q")
    begin = 0
    for place in range(1, len(text) + 1):
        # Marks are put into a fixed order: a character is decomposed together with those that follow it.
        if place < len(text) and not text[place].isascii() and _COMBINING[text[place]]:
            continue
        part = _decomposed(text[begin:place])
        parts.append(part)
        starts.extend([begin] * len(part))
        ends.extend([place] * len(part))
        begin = place
    return "".join(parts), starts, ends


def _decomposed(group: str) -> str:
    """Return a character and the marks on it in NFKD.

    The standard library puts marks in order by insertion, in time quadratic in their number.
    """
    if len(group) <= _FEW:
        return unicodedata.normalize("NFKD", group)
    ordered: list[str] = []
    marks: list[str] = []
    for character in "".join(unicodedata.normalize("NFKD", each) for each in group):
        if unicodedata.combining(character):
            marks.append(character)
            continue
        ordered += sorted(marks, key=unicodedata.combining)  # a stable sort, as the standard asks
        ordered.append(character)
        marks.clear()
    return "".join(ordered + sorted(marks, key=unicodedata.combining))
