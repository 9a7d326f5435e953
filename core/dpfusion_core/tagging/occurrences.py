"""Every place where a phrase stands in a text, in whatever Unicode normal form and case.

A phrase stands where its atoms stand (:mod:`dpfusion_core.tagging.folding`), so a phrase that is a word
matches whole words only; what is returned are offsets of the text as given. All phrases are looked up
in one pass over the text, by the automaton of Aho and Corasick over atoms ("Efficient string matching",
1975): the time is proportional to the text and the phrases together, however often they stand there.
"""

from collections.abc import Iterable, Iterator

from dpfusion_core.tagging.folding import FoldedText, atoms_of
from dpfusion_core.tagging.spans import DEFAULT_LABEL, Span, merge_spans


class PhraseIndex:
    """Phrases that can be looked up in any number of texts, all at once.

    Args:
        phrases: Phrases with their labels and scores; blank ones count for nothing.

    Example:
        >>> index = PhraseIndex([("Ann", "PERSON", 1.0), ("Ann Lee", "PERSON", 1.0)])
        >>> index.find(FoldedText("Ann Lee, Anna and Ann"))
        [Span(start=0, end=7, label='PERSON', score=1.0), Span(start=18, end=21, label='PERSON', score=1.0)]
    """

    def __init__(self, phrases: Iterable[tuple[str, str, float]]) -> None:
        # Nodes by number; 0 is the root. What ends at a node: its length in atoms, label and score.
        self._next: list[dict[str, int]] = [{}]
        self._ends: list[tuple[int, str, float] | None] = [None]
        for phrase, label, score in phrases:
            keys = atoms_of(phrase)
            if keys:
                self._add(keys, label, score)
        self._fall = self._link()

    def find(self, text: FoldedText) -> list[Span]:
        """Return the spans of every occurrence, merged where they overlap, sorted."""
        return merge_spans(self._longest(text), text.length) if len(self._next) > 1 else []

    def _longest(self, text: FoldedText) -> Iterator[Span]:
        """Yield the longest of the occurrences that end at each atom: it covers the others."""
        follow, fall, ends, node = self._next, self._fall, self._ends, 0
        for place, key in enumerate(text.keys):
            while node and key not in follow[node]:
                node = fall[node]
            node = follow[node].get(key, 0)
            end = ends[node]
            if end is not None:
                length, label, score = end
                yield Span(*text.offsets(place - length + 1, place), label, score)

    def _add(self, keys: tuple[str, ...], label: str, score: float) -> None:
        node = 0
        for key in keys:
            if key not in self._next[node]:
                self._next[node][key] = len(self._next)
                self._next.append({})
                self._ends.append(None)
            node = self._next[node][key]
        known = self._ends[node]
        if known is not None:
            label, score = _first_label(*sorted((known[1], label))), min(known[2], score)
        self._ends[node] = len(keys), label, score

    def _link(self) -> list[int]:
        """Return where each node falls back to, and let nodes know what else ends at them."""
        fall = [0] * len(self._next)
        queue = list(self._next[0].values())
        for node in queue:  # breadth first: it grows while it is read
            for key, child in self._next[node].items():
                back = fall[node]
                while back and key not in self._next[back]:
                    back = fall[back]
                fall[child] = self._next[back].get(key, 0)
                queue.append(child)
            longest, shorter = self._ends[node], self._ends[fall[node]]
            if longest is None:
                self._ends[node] = shorter
            elif shorter is not None:
                label = _first_label(longest[1], shorter[1])
                self._ends[node] = longest[0], label, min(longest[2], shorter[2])
        return fall


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
    folded = FoldedText(text)
    phrases = {text[span.start : span.end]: span for span in reversed(found)}  # the first one's label
    others = PhraseIndex((phrase, each.label, each.score) for phrase, each in phrases.items()).find(folded)
    whole = (Span(*folded.characters(each.start, each.end), each.label, each.score) for each in found)
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
    return PhraseIndex((phrase, label, 1.0) for phrase, label in phrases).find(FoldedText(text))


def same_phrase(phrase: str) -> str:
    r"""Return a form that is the same for all spellings of a phrase, those in other case included.

    Example:
        >>> same_phrase("Zo\u00eb  Li") == same_phrase("ZOE\u0308\nLI")
        True
    """
    return "".join(atoms_of(phrase))


def _first_label(label: str, other: str) -> str:
    return other if label == DEFAULT_LABEL else label
