"""Seals: marks in a string that say which of its parts are private, and that no document can forge.

LlamaIndex pastes documents into one string long before a model sees them. A sealed text carries the name
of its privacy unit through all of that: an opening mark with a random nonce and a code (HMAC) over nonce,
unit and content, and a closing mark with the nonce. Marks hold no space, so splitters that cut between
words never cut one.

What the marks do not prove is not believed. A pair whose content has changed, half a pair, a mark from
elsewhere: the text stays private. Text that was cut out of a document that this process has sealed lately
is recognised by its words; text that is not belongs to the unit ``"private"``.
"""

import hashlib
import hmac
import re
import secrets
import threading
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import quote, unquote

from dpfusion_core.errors import ViewError
from dpfusion_core.messages import DEFAULT_UNIT, Segment

# Anything that looks like a mark, or like the beginning of one that was cut off.
_LIKE = re.compile(r"\[\[/?dpf[^\s\[\]]*(?:\]\]?)?", re.IGNORECASE)
_FRONT = re.compile(r"(?:\[|\[\[/?(?:d|dp)?)\Z")
_OPEN = re.compile(r"\[\[dpf:(?P<nonce>[\w-]{11}):(?P<unit>[\w.~%-]*):(?P<code>[\w-]{16})\]\]")
_HANDLE = re.compile(r"\[\[dpfv:(?P<nonce>[\w-]{11}):(?P<unit>[\w.~%-]*):(?P<code>[\w-]{16})\]\]")
# What LlamaIndex's generic formatters write of a message's flags into a prompt.
_FLAGS = re.compile(r"\n?\{[^\n{}]*'(?:is_private|dp_fusion)':.*\}")
_LABEL = re.compile(r"Source [1-9]\d{0,3}:")

_MIN_WORDS, _MIN_CHARACTERS = 5, 24
"""How much text without any mark must agree with a sealed document before it counts as cut from it."""


@dataclass(frozen=True)
class Seal:
    """A sealed text.

    Attributes:
        content: The text, free of marks. Never shown by ``repr``.
        unit: Its privacy unit; None if the text is public.
        nonce: Random, never used twice.
        opening: The mark before the text.
        handle: What stands for the text in vault mode.
    """

    content: str = field(repr=False)
    unit: str | None
    nonce: str = field(repr=False)
    opening: str = field(repr=False)
    handle: str = field(repr=False)

    @property
    def closing(self) -> str:
        """The mark behind the text."""
        return f"[[/dpf:{self.nonce}]]"

    @property
    def text(self) -> str:
        """The text between its marks."""
        return f"{self.opening}{self.content}{self.closing}"

    @cached_property
    def words(self) -> str:
        """The text with single spaces."""
        return _words(self.content)

    def segment(self, text: str | None = None) -> Segment:
        """Return the text, or a piece of it, as the engine wants it."""
        return Segment(
            self.content if text is None else text, is_private=self.unit is not None, unit=self.unit
        )


@dataclass(frozen=True)
class _Damaged:
    """A mark that is not part of a whole pair, and the document that it belongs to if that is known."""

    seal: Seal | None


class Sealer:
    """Seals texts, and reads strings that hold sealed texts.

    Args:
        capacity: How many sealed documents are remembered, the latest ones. They are needed to recognise
            what a splitter has cut, and for vault mode.

    Example:
        >>> sealer = Sealer()
        >>> text = "Context: " + sealer.seal("Ann lives in Oslo.", "doc-1").text + " Who?"
        >>> [(s.text, s.unit) for s in sealer.read(text, is_private=False)]
        [('Context: ', None), ('Ann lives in Oslo.', 'doc-1'), (' Who?', None)]
    """

    def __init__(self, capacity: int = 1024) -> None:
        self.capacity = capacity
        self._key = secrets.token_bytes(32)
        self._documents: OrderedDict[str, Seal] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Sealer(capacity={self.capacity})"

    def seal(self, content: str, unit: str | None = DEFAULT_UNIT, *, remember: bool = False) -> Seal:
        """Seal a text. Whatever looks like a mark in it is removed.

        Args:
            content: The text.
            unit: Its privacy unit; None says that it is public.
            remember: Whether pieces cut out of it shall be recognised: for documents.
        """
        content, nonce = clean(content), secrets.token_urlsafe(8)
        name = quote(unit or "", safe="")
        opening = f"[[dpf:{nonce}:{name}:{self._code('pair', nonce, name, content)}]]"
        handle = f"[[dpfv:{nonce}:{name}:{self._code('handle', nonce, name, '')}]]"
        seal = Seal(content, unit, nonce, opening, handle)
        if remember:
            with self._lock:
                self._documents[nonce] = seal
                while len(self._documents) > self.capacity:
                    self._documents.popitem(last=False)
        return seal

    def forget(self) -> None:
        """Forget all sealed documents."""
        with self._lock:
            self._documents.clear()

    def read(self, text: str, *, is_private: bool, unit: str = DEFAULT_UNIT) -> list[Segment]:
        """Take a string apart.

        Args:
            text: A string that may hold sealed texts.
            is_private: Whether the text outside of them is private. If a mark is damaged, it is so anyway.
            unit: The unit of private text that is nobody else's.

        Returns:
            Segments free of marks.

        Raises:
            ViewError: If a handle stands for a text that is no longer remembered.
        """
        parts = self._parts(text)
        is_private = is_private or any(isinstance(part, _Damaged) for part in parts)
        has_seal = any(isinstance(part, Seal) or (isinstance(part, _Damaged) and part.seal) for part in parts)
        segments: list[Segment] = []
        for index, part in enumerate(parts):
            if isinstance(part, Seal):
                segments += [part.segment()] if part.content else []
            elif isinstance(part, str) and not is_private:
                segments.append(Segment(clean(part)))
            elif isinstance(part, str) and part.strip():
                beside = parts[max(index - 1, 0) : index + 2]
                near = [p.seal for p in beside if isinstance(p, _Damaged) and p.seal]
                segments += self._attribute(part, near, unit)
            elif isinstance(part, str) and has_seal and part:  # what LlamaIndex joins documents with
                segments.append(Segment("\n\n" if "\n" in part else " "))
        return [segment for segment in segments if segment.text]

    def pieces(self, text: str) -> Iterator[Seal | str]:
        """Yield the whole sealed texts of a string and what stands between them, for packing."""
        for part in self._parts(text):
            if isinstance(part, Seal):
                yield part
            elif isinstance(part, str) and part.strip():
                yield part.strip()

    def _parts(self, text: str) -> list[Seal | _Damaged | str]:
        """Cut a string at its marks."""
        parts: list[Seal | _Damaged | str] = []
        position = 0
        for mark in _LIKE.finditer(text) if "[[" in text else ():
            if mark.start() < position:  # the closing mark of a whole pair
                continue
            parts.append(text[position : mark.start()])
            seal, position = self._whole(text, mark)
            parts.append(seal or _Damaged(self._remembered(mark[0])))
        parts.append(text[position:])
        return parts

    def _whole(self, text: str, mark: re.Match[str]) -> tuple[Seal | None, int]:
        """Return what is sealed from this mark on, if the code fits, and where it ends."""
        if found := _OPEN.fullmatch(mark[0]):
            closing = f"[[/dpf:{found['nonce']}]]"
            end = text.find(closing, mark.end())
            content = text[mark.end() : end]
            if end >= 0 and self._fits(found, "pair", content):
                seal = Seal(content, unquote(found["unit"]) or None, found["nonce"], mark[0], "")
                return seal, end + len(closing)
        elif (found := _HANDLE.fullmatch(mark[0])) and self._fits(found, "handle", ""):
            remembered = self._documents.get(found["nonce"])
            if remembered is None:
                raise ViewError(
                    "A document in the prompt is no longer in the vault: this process has sealed more than "
                    f"{self.capacity} since, or another one has sealed it. Retrieve it again."
                )
            return remembered, mark.end()
        return None, mark.end()

    def _fits(self, found: re.Match[str], kind: str, content: str) -> bool:
        return hmac.compare_digest(self._code(kind, found["nonce"], found["unit"], content), found["code"])

    def _remembered(self, mark: str) -> Seal | None:
        """Return the sealed document that a mark belongs to."""
        nonce = mark.strip("[]/").partition(":")[2].partition(":")[0]
        seal = self._documents.get(nonce)
        return seal if seal and mark in (seal.opening, seal.closing) else None

    def _latest(self) -> list[Seal]:
        with self._lock:
            return list(self._documents.values())

    def _attribute(self, text: str, near: Sequence[Seal], unit: str) -> list[Segment]:
        """Say whose a stretch of private text is."""
        text = clean(self._without_rests(text))
        if owner := self._owner(text, near):
            return [owner.segment(text)]
        lines = text.splitlines(keepends=True)
        owners = [self._owner(line, near) for line in lines]
        # Short lines are recognised by what stands beside them.
        for order in (range(len(lines) - 1, -1, -1), range(len(lines))):
            neighbour: Seal | None = None
            for i in order:
                if owners[i] is None and neighbour and _words(lines[i]) in neighbour.words:
                    owners[i] = neighbour
                neighbour = owners[i] or neighbour
        # A citation engine writes labels of its own between documents that it has cut.
        strange = [line for line, owner in zip(lines, owners, strict=True) if owner is None and line.strip()]
        is_labels = any(owners) and all(_LABEL.fullmatch(line.strip()) for line in strange)
        return _joined(
            owner.segment(line)
            if owner
            else Segment(line, is_private=not is_labels, unit=None if is_labels else unit)
            for line, owner in zip(lines, owners, strict=True)
        )

    def _owner(self, text: str, near: Sequence[Seal]) -> Seal | None:
        """Find the sealed document that a text was cut from; None if its unit is not clear."""
        words = _words(text)
        if not words:
            return None
        for seal in near:
            if words in seal.words:
                return seal
        is_long = len(words) >= _MIN_CHARACTERS and words.count(" ") + 1 >= _MIN_WORDS
        found = {
            seal.unit: seal
            for seal in self._latest()
            if words == seal.words or (is_long and words in seal.words)
        }
        return found.popitem()[1] if len(found) == 1 else None

    def _without_rests(self, text: str) -> str:
        """Drop the parts of marks that a splitter of characters has left at the ends."""
        text = _FRONT.sub("", text)
        start = text.lstrip()
        rest = start[: start.find("]]") + 2] if "]]" in start else "]" if start.startswith("]") else start
        marks = (m for seal in self._latest() for m in (seal.opening, seal.closing))
        # A middle piece must hold a separator: a word alone, such as a unit's name, may be anybody's text.
        is_middle = rest == start and ":" in rest
        if rest and any(mark.endswith(rest) or (is_middle and rest in mark) for mark in marks):
            return start[len(rest) :]
        return text

    def _code(self, *parts: str) -> str:
        message = b"".join(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest() for part in parts)
        return urlsafe_b64encode(hmac.digest(self._key, message, "sha256")[:12]).decode()


def clean(text: str) -> str:
    """Remove whatever looks like a mark or like a flag that a formatter has written."""
    if "'is_private'" in text or "'dp_fusion'" in text:
        text = _FLAGS.sub("", text)
    while "[[" in text and _LIKE.search(text):  # removing one may make another
        text = _LIKE.sub("", text)
    return text


def _joined(segments: Iterable[Segment]) -> list[Segment]:
    """Join neighbours of the same kind."""
    joined: list[Segment] = []
    for segment in segments:
        before = joined.pop().text if joined and joined[-1].unit == segment.unit else ""
        joined.append(Segment(before + segment.text, segment.is_private, segment.unit))
    return joined


def _words(text: str) -> str:
    return " ".join(text.split())


sealer = Sealer()
"""The sealer of this process. Its key is random and never leaves it."""
