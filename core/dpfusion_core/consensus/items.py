"""Own items: from what a model answers for one document to the few strings that the document votes for.

Votes only add up where documents say the same string, so answers are cut small and brought to a normal form:

1. Unicode's normal form C, case folded, characters that do not show dropped, one blank between words.
2. A list's mark (``-``, ``*``, ``2.``), quotation marks and punctuation around the item are dropped, and a leading
   ``a``, ``an`` or ``the``.
3. What is longer than ``LONGEST_ITEM`` characters is cut off there.

All of it is a function of one document's answer and of public text. There are three forms. ``"points"``: the model
is asked for a few words, one point per line. ``"phrases"``: it answers as it likes, and the phrases that the public
answer and the question lack are the items. ``"json"``: a JSON list, held by a grammar where the model's server can.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

from dpfusion_core.options import Items

LONGEST_ITEM = 120
"""Characters of an item; more are cut off."""

LONGEST_POINT = 8
"""Words of a line that is one point; a longer one is read as a sentence, for its phrases."""

NOTHING = frozenset({"", "n/a", "none", "nothing", "not mentioned", "not stated", "unknown"})
"""Points that say that there is none."""

_SMALL = (
    "a about an and are as at be been but by can did do does for from had has have he her his i if in is it its may "
    "more no not of on or our she so some that the their there they this to was we were which will with you"
)
_STOP_WORDS = frozenset(_SMALL.split())
_MARK = re.compile(r"^(?:[-*\u2022\u2013\u2014]|\d{1,3}[.)])\s+")
_ARTICLE = re.compile(r"^(?:an?|the) (?=\S)")
_AROUND = " \t.,;:!?\"'`*_\u201c\u201d\u2018\u2019\u00ab\u00bb"
_WORD = re.compile(r"\S+")
_SENTENCE = re.compile(r"(?<=\w\w\w[.!?]) +(?=[^\W\d_])")  # not behind an initial or a short title


def normal_form(text: str) -> str:
    """Return the normal form of an item; empty if nothing is left of it.

    Example:
        >>> normal_form(' 2. The  "Late Delivery". ')
        'late delivery'
    """
    words = text[: 20 * LONGEST_ITEM].split()  # what follows would be cut off anyway
    shown = ("".join(c for c in word if unicodedata.category(c) not in ("Cc", "Cf", "Cs")) for word in words)
    line = " ".join(word for word in shown if word)
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", line).casefold())
    plain = folded.strip(_AROUND)
    while (shorter := _ARTICLE.sub("", _MARK.sub("", plain)).strip(_AROUND)) != plain:
        plain = shorter
    plain = plain[:LONGEST_ITEM].strip(_AROUND)
    return plain if any(character.isalnum() for character in plain) else ""


def read_items(answer: str, form: Items, public: str = "") -> list[str]:
    r"""Return the items of an answer, without repetition, the best ones first.

    Args:
        answer: What the model said.
        form: How to read it.
        public: Public text whose words are no news: the public answer and the question.

    Example:
        >>> read_items("- Late delivery\n- The price", "points")
        ['late delivery', 'price']
        >>> read_items("The city is Oslo.", "phrases", "The city is not stated.")
        ['oslo']
    """
    if callable(form):
        found: Iterable[str] = form(answer)
    elif form == "phrases":
        found = _phrases(answer, public)
    else:
        listed = _listed(answer) if form == "json" else None
        found = listed if listed is not None else _points(answer, public)
    items = dict.fromkeys(normal_form(each) for each in found if isinstance(each, str))
    return [each for each in items if each not in NOTHING]


def _points(answer: str, public: str) -> list[str]:
    found: list[str] = []
    for line in answer.splitlines():
        for point in _SENTENCE.split(line):
            found += [point] if len(point.split()) <= LONGEST_POINT else _phrases(point, public)
    return found


def _listed(answer: str) -> Sequence[str] | None:
    """Return the strings of a JSON list; None if it is none."""
    try:
        read = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return [each for each in read if isinstance(each, str)] if isinstance(read, list) else None


def _phrases(answer: str, public: str) -> list[str]:
    """Return the runs of words that public text lacks, the longest first; small words only stand inside of them."""
    known = {_word(each) for each in public.split()}
    runs: list[list[re.Match[str]]] = [[]]
    for match in _WORD.finditer(answer):
        if _word(match[0]) not in known - _STOP_WORDS:
            runs[-1].append(match)
        if _word(match[0]) in known - _STOP_WORDS or match[0][-1] in ".,;:!?":
            runs.append([])
    phrases = []
    for run in runs:
        news = [place for place, match in enumerate(run) if _word(match[0]) not in _STOP_WORDS]
        if news:
            phrases.append(answer[run[news[0]].start() : run[news[-1]].end()])
    return sorted(phrases, key=len, reverse=True)


def _word(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold()).strip(_AROUND)
