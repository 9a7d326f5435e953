"""The marks of sealed text: how they look, and how whatever looks like one is removed.

Of a document between its marks: ``[[dpf:NONCE:NAME:CODE]]first part [[dpf+NONC]]second part[[/dpf:NONCE]]``.
In vault mode ``[[dpfv:NONCE:NAME:CODE]]`` stands for all of it. Marks hold no space, so splitters that cut
between words never cut one.
"""

import re
from typing import Literal
from urllib.parse import quote, unquote

Tag = Literal["", "template", "unstable", "cut"]
"""What else is known of a sealed text.

- ``"template"``: public, as the text of a template or an argument that is named public; nobody has looked at it.
- ``"unstable"``: the name of its unit may change when the same document comes again.
- ``"cut"``: private; it was cut out of some sealed document, and nothing proves out of which.
"""

_TAGS: dict[Tag, str] = {
    "": "",
    "template": "%t",
    "unstable": "%u",
    "cut": "%c",
}  # quoting writes none of these

_NAME = r"[\w.~%-]*"
LIKE = re.compile(r"\[\[/?dpf[^\s\[\]]*(?:\]\]?)?", re.IGNORECASE)
"""Anything that looks like a mark, or like the beginning of one that was cut off."""

OPEN = re.compile(rf"\[\[dpf:(?P<nonce>[\w-]{{11}}):(?P<name>{_NAME}):(?P<code>[\w-]{{24}})\]\]")
INNER = re.compile(r"\[\[dpf\+(?P<nonce>[\w-]{6})\]\]")
CLOSE = re.compile(r"\[\[/dpf:(?P<nonce>[\w-]{11})\]\]")
HANDLE = re.compile(rf"\[\[dpfv:(?P<nonce>[\w-]{{11}}):(?P<name>{_NAME}):(?P<code>[\w-]{{16}})\]\]")

FRONT = re.compile(r"(?:\[|\[\[/?(?:d|dp)?)\Z")
"""The first characters of a mark, where a splitter of characters has cut it."""

REST = re.compile(r"\A\s*(\[?[\w.~%:+/-]*\]\]?)")
"""The last characters of one."""

_MIDDLE = re.compile(r"\A\s*(?=\S{8})(\[?[\w.~%/+-]*:[\w.~%:-]*)\s*\Z")

# What LlamaIndex's generic formatters write of a message's flags into a prompt.
_FLAGS = re.compile(r"\n?\{[^\n{}]*'(?:is_private|dp_fusion)':.*\}")

SHORT = 6
"""How much of the nonce the marks inside of a text hold: they are many, and splitters count them as text."""

_PART = 128
"""About how many characters stand between two marks of a document: less than what splitters repeat of one chunk
in the next, even in a small window."""


_GAP = re.compile(r"\s(?=\S)")


def name_of(unit: str | None, tag: Tag) -> str:
    """Return what a mark says of a text's unit; None for public text."""
    return _TAGS[tag] + quote(unit or "", safe="")


def read_name(name: str) -> tuple[str | None, Tag]:
    """Return the unit and the tag that a mark says."""
    for tag, prefix in _TAGS.items():
        if prefix and name.startswith(prefix):
            return unquote(name[len(prefix) :]) or None, tag
    return unquote(name) or None, ""


def closing(nonce: str) -> str:
    """Return the mark behind a text."""
    return f"[[/dpf:{nonce}]]"


def inner(nonce: str) -> str:
    """Return the mark between the parts of a text."""
    return f"[[dpf+{nonce[:SHORT]}]]"


def with_inner_marks(content: str, nonce: str) -> str:
    """Put marks between the words of a long text, so that whatever a splitter cuts out holds one."""
    parts, start = [], 0
    while len(content) - start > 1.5 * _PART:
        # The next beginning of a word; in scripts without spaces any place will do.
        gap = _GAP.search(content, start + _PART, start + 2 * _PART)
        end = gap.end() if gap else start + _PART
        parts.append(content[start:end])
        start = end
    return inner(nonce).join([*parts, content[start:]])


def middle_of_a_mark(text: str) -> str:
    """Return what may be a piece out of the middle of a mark, or nothing.

    It must hold a separator, and enough random characters to be nothing else: a word alone, such as a
    unit's name, or a number with a colon may be anybody's text.
    """
    found = _MIDDLE.match(text)
    return found[1] if found else ""


def clean(text: str) -> str:
    """Remove whatever looks like a mark or like a flag that a formatter has written."""
    if "'is_private'" in text or "'dp_fusion'" in text:
        text = _FLAGS.sub("", text)
    while "[[" in text and LIKE.search(text):  # removing one may make another
        text = LIKE.sub("", text)
    return text
