"""Every place where a phrase stands in a text, in whatever Unicode normal form.

Texts are compared after compatibility decomposition (NFKD), with any run of white space equal to any
other; what is returned are offsets of the text as given. A text is cut into atoms: a word, a run of
white space, or any other single character, each with its combining marks. A phrase stands where its
atoms stand, so a phrase that is a word matches whole words only. In scripts that are written without
spaces every character is an atom.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from dpfusion_core.tagging.spans import Span, merge_spans

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
_ATOM = re.compile(r"(?:wm*)+|s+|.m*")


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


_CLASSES = _Classes()


class TextIndex:
    """A text in which phrases can be looked up quickly.

    Args:
        text: The text.

    Example:
        >>> list(TextIndex("Ann, Anna and Ann").find("Ann"))
        [(0, 3), (14, 17)]
    """

    def __init__(self, text: str) -> None:
        folded, self._starts, self._ends = _fold(text)
        self._atoms = list(_atoms(folded))
        self._keys = [key for key, _, _ in self._atoms]
        self._places: dict[str, list[int]] = {}
        for place, key in enumerate(self._keys):
            self._places.setdefault(key, []).append(place)

    def find(self, phrase: str) -> Iterator[tuple[int, int]]:
        """Yield start and end of every occurrence, those that overlap included."""
        keys = [key for key, _, _ in _atoms(_fold(phrase.strip())[0])]
        if not keys:
            return
        rarest = min(range(len(keys)), key=lambda i: len(self._places.get(keys[i], ())))
        for place in self._places.get(keys[rarest], ()):
            first = place - rarest
            if first >= 0 and self._keys[first : first + len(keys)] == keys:
                yield self._offsets(first, first + len(keys) - 1)

    def _offsets(self, first: int, last: int) -> tuple[int, int]:
        start, end = self._atoms[first][1], self._atoms[last][2]
        if self._starts is None or self._ends is None:
            return start, end
        return self._starts[start], self._ends[end - 1]


def whole_characters(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a range of a text that does not part a character from its combining marks."""
    while start > 0 and _CLASSES[text[start]] == "m":
        start -= 1
    while end < len(text) and _CLASSES[text[end]] == "m":
        end += 1
    return start, end


def whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a range of a text that does not part a word, nor a character from its combining marks.

    Example:
        >>> whole_words("Mr Johnson left", 5, 8)
        (3, 10)
    """
    while start > 0 and _CLASSES[text[start]] in "wm" and _CLASSES[text[start - 1]] in "wm":
        start -= 1
    while end < len(text) and _CLASSES[text[end]] in "wm" and _CLASSES[text[end - 1]] in "wm":
        end += 1
    return whole_characters(text, start, end)


def tag_everywhere(text: str, spans: Iterable[Span]) -> list[Span]:
    """Tag every occurrence of the phrases that some spans have found.

    Args:
        text: The text.
        spans: Spans of the text.

    Returns:
        Sorted spans that do not overlap and do not part a character from its combining marks.

    Raises:
        TaggerError: If a span is empty or reaches outside the text.

    Example:
        >>> tag_everywhere("Ann met Bob. Ann left.", [Span(0, 3, "PERSON")])
        [Span(start=0, end=3, label='PERSON', score=1.0), Span(start=13, end=16, label='PERSON', score=1.0)]
    """
    found = list(spans)
    merge_spans(found, len(text))  # refuses what does not fit
    if not found:
        return []
    index = TextIndex(text)
    phrases = {text[span.start : span.end]: span for span in reversed(found)}  # the first one's label
    others = _occurrences(index, text, ((phrase, each.label, each.score) for phrase, each in phrases.items()))
    whole = (Span(*whole_characters(text, each.start, each.end), each.label, each.score) for each in found)
    return merge_spans([*whole, *others], len(text))


def find_phrases(text: str, phrases: Iterable[tuple[str, str]]) -> list[Span]:
    """Return the spans of phrases in a text, merged where they overlap.

    Args:
        text: The text.
        phrases: Pairs of a phrase and its label.

    Example:
        >>> find_phrases("Cafe\u0301 Nord", [("Caf\u00e9", "ORG")])
        [Span(start=0, end=5, label='ORG', score=1.0)]
    """
    index = TextIndex(text)
    found = _occurrences(index, text, ((phrase, label, 1.0) for phrase, label in phrases))
    return merge_spans(found, len(text))


def same_phrase(phrase: str) -> str:
    """Return a form that is the same for all spellings of a phrase that are matched with each other."""
    return "".join(key for key, _, _ in _atoms(_fold(phrase.strip())[0]))


def _occurrences(index: TextIndex, text: str, phrases: Iterable[tuple[str, str, float]]) -> list[Span]:
    return [
        Span(*whole_characters(text, start, end), label, score)
        for phrase, label, score in phrases
        for start, end in index.find(phrase)
    ]


def _atoms(folded: str) -> Iterator[tuple[str, int, int]]:
    """Yield the atoms of a folded text: what they are compared by, start and end."""
    classes = "".join(map(_CLASSES.__getitem__, folded))
    for match in _ATOM.finditer(classes):
        start, end = match.span()
        yield " " if classes[start] == "s" else folded[start:end], start, end


def _fold(text: str) -> tuple[str, list[int] | None, list[int] | None]:
    """Decompose a text; with each character's start and end in the text, unless nothing has changed."""
    if unicodedata.is_normalized("NFKD", text):
        return text, None, None
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    begin = 0
    for place in range(1, len(text) + 1):
        # Marks are put into a fixed order: a character is decomposed together with those that follow it.
        if place < len(text) and _is_mark(text[place]):
            continue
        part = unicodedata.normalize("NFKD", text[begin:place])
        parts.append(part)
        starts += [begin] * len(part)
        ends += [place] * len(part)
        begin = place
    return "".join(parts), starts, ends


def _is_mark(character: str) -> bool:
    if character.isascii():
        return False
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) != 0
