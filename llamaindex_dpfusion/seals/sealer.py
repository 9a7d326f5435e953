"""Seals: marks in a string that say which of its parts are private, and that no document can forge.

LlamaIndex pastes documents into one string long before a model sees them. A sealed text carries the name
of its privacy unit through all of that: an opening mark with a random nonce and a code (HMAC) over nonce,
unit and content, a closing mark with the nonce, and in a long text more of them in between.

Whose a text is, its own marks say, or else the caller. A whole seal proves its unit by its code. A piece
that was cut out of a document is that document's if a mark of it stands beside the piece or in it and the
document holds the piece. Everything else belongs to the unit that the caller names. That a text resembles
one that was sealed before never makes it public, nor anybody else's.
"""

import hmac
import secrets
import threading
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from re import Match
from typing import Literal

from dpfusion_core.errors import ViewError
from dpfusion_core.messages import DEFAULT_UNIT, Segment
from dpfusion_core.units import unit_id
from llamaindex_dpfusion.seals import marks
from llamaindex_dpfusion.seals.marks import Tag, clean
from llamaindex_dpfusion.seals.parts import LooseMark, Piece, Seal, Stretch, single_spaced

_PROOF = 8  # characters of a code that prove nonce and unit, whatever the content


class Sealer:
    """Seals texts, and reads strings that hold sealed texts.

    Args:
        capacity: How many sealed documents are remembered, the latest ones. They are needed to prove whose
            the pieces of a cut document are, and for vault mode.
        characters: How much text is remembered, in characters.

    Example:
        >>> sealer = Sealer()
        >>> text = "Context: " + sealer.seal("Ann lives in Oslo.", "doc-1").text + " Who?"
        >>> [(s.text, s.unit) for s in sealer.read(text, is_private=False)]
        [('Context: ', None), ('Ann lives in Oslo.', 'doc-1'), (' Who?', None)]
    """

    def __init__(self, capacity: int = 4096, characters: int = 2**26) -> None:
        self.capacity = capacity
        self.characters = characters
        self._key = secrets.token_bytes(32)
        self._documents: OrderedDict[str, Seal] = OrderedDict()
        self._by_short: dict[str, Seal] = {}
        self._size = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Sealer(capacity={self.capacity}, characters={self.characters})"

    def seal(
        self, content: str, unit: str | None = DEFAULT_UNIT, *, tag: Tag = "", remember: bool = False
    ) -> Seal:
        """Seal a text. Whatever looks like a mark in it is removed.

        Args:
            content: The text.
            unit: Its privacy unit; None says that it is public.
            tag: What else is known of it.
            remember: Whether pieces cut out of it shall keep their unit: for documents.
        """
        unit = None if unit is None else unit_id(unit)
        content, nonce, name = clean(content), secrets.token_urlsafe(8), marks.name_of(unit, tag)
        opening = (
            f"[[dpf:{nonce}:{name}:{self._proof(nonce, name)}{self._code('pair', nonce, name, content)}]]"
        )
        handle = f"[[dpfv:{nonce}:{name}:{self._code('handle', nonce, name)}]]" if remember else ""
        seal = Seal(content, unit, nonce, opening, handle, tag)
        if remember:
            self._remember(seal)
        return seal

    def knows(self, seal: Seal) -> bool:
        """Return whether this process can still read the seal's handle, and the pieces of its text."""
        return self._documents.get(seal.nonce) is seal

    def forget(self) -> None:
        """Forget all sealed documents."""
        with self._lock:
            self._documents.clear()
            self._by_short.clear()
            self._size = 0

    def read(self, text: str, *, is_private: bool, unit: str | None = None) -> list[Segment]:
        """Take a string apart, as the engine wants it; see :meth:`read_pieces`."""
        return [piece.segment for piece in self.read_pieces(text, said=is_private, unit=unit)]

    def read_pieces(self, text: str, *, said: bool | None, unit: str | None = None) -> list[Piece]:
        """Take a string apart. How many pieces there are depends on its marks alone.

        Args:
            text: A string that may hold sealed texts.
            said: Whether the text outside of them was said to be private. If a mark is damaged, it is so
                anyway.
            unit: The unit of private text that no mark names; the unnamed one by default.

        Returns:
            Pieces free of marks, none of them empty.

        Raises:
            ViewError: If marks stand for a text that this process does not have.
        """
        parts = list(self._parts(text))
        is_cut = any(isinstance(part, LooseMark) for part in parts)
        has_mark = is_cut or any(isinstance(part, Seal) for part in parts)
        rest = Piece("", unit_id(unit) if unit else DEFAULT_UNIT, "cut" if is_cut and not unit else "")
        pieces: list[Piece] = []
        for part in self._stretches(parts):
            if isinstance(part, Seal):
                pieces.append(part.piece)
            elif not (said or is_cut):
                pieces.append(Piece(clean(part.text), None, "open" if said is None else ""))
            elif part.text.strip():
                pieces.append(self._attributed(part, rest))
            elif part.text and has_mark:  # what LlamaIndex joins documents with
                pieces.append(Piece("\n\n" if "\n" in part.text else " ", None))
        pieces = [piece for piece in pieces if piece.text]
        if not pieces and text.strip() and not any(isinstance(part, Seal) for part in parts):
            raise ViewError(
                "The text holds nothing but marks without their document. If a splitter has cut them, pack "
                "with Settings.prompt_helper = DPFusionPromptHelper.from_llm(llm); if another process has "
                "sealed the document, retrieve it again in this one."
            )
        return pieces

    def pieces(self, text: str) -> Iterator[Seal | str]:
        """Yield the whole sealed texts of a string and what stands between them, for packing."""
        for part in self._parts(text):
            if isinstance(part, Seal):
                yield part
            elif isinstance(part, str) and part.strip():
                yield part.strip()

    def _parts(self, text: str) -> Iterator[Seal | LooseMark | str]:
        """Cut a string at its marks."""
        position = 0
        changed: set[str] = set()
        for mark in marks.LIKE.finditer(text) if "[[" in text else ():
            if mark.start() < position:  # a mark of a whole pair
                continue
            yield text[position : mark.start()]
            position = mark.end()
            if found := marks.OPEN.fullmatch(mark[0]):
                end = self._end(text, found, mark.end(), changed)
                if end is not None:
                    content = text[mark.end() : end].replace(marks.inner(found["nonce"]), "")
                    unit, tag = marks.read_name(found["name"])
                    yield Seal(content, unit, found["nonce"], mark[0], "", tag)
                    position = end + len(marks.closing(found["nonce"]))
                    continue
            yield self._handled(mark) or self._mark(mark[0])
        yield text[position:]

    def _end(self, text: str, found: Match[str], start: int, changed: set[str]) -> int | None:
        """Return where the text that is sealed from this mark on ends, if its code fits.

        Cheap for marks that are not ours, and each of ours is gone through once: a hostile text costs no
        more than a long one.
        """
        nonce, name, code = found["nonce"], found["name"], found["code"]
        if nonce in changed or not hmac.compare_digest(self._proof(nonce, name), code[:_PROOF]):
            return None
        end = text.find(marks.closing(nonce), start)
        content = text[start : max(end, start)].replace(marks.inner(nonce), "")
        if end >= 0 and hmac.compare_digest(self._code("pair", nonce, name, content), code[_PROOF:]):
            return end
        changed.add(nonce)
        return None

    def _handled(self, mark: Match[str]) -> Seal | None:
        """Return the text that a handle of ours stands for."""
        found = marks.HANDLE.fullmatch(mark[0])
        if not found or not hmac.compare_digest(
            self._code("handle", found["nonce"], found["name"]), found["code"]
        ):
            return None
        remembered = self._documents.get(found["nonce"])
        if remembered is None:
            raise ViewError(
                f"A document in the prompt is no longer in the vault: this process has sealed more than "
                f"{self.capacity} documents or {self.characters} characters since. Retrieve it again."
            )
        return remembered

    def _mark(self, mark: str) -> LooseMark:
        """Say what a mark outside of a whole pair tells."""
        kinds: tuple[tuple[Literal["open", "close", "inner"], Match[str] | None], ...] = (
            ("open", marks.OPEN.fullmatch(mark)),
            ("close", marks.CLOSE.fullmatch(mark)),
            ("inner", marks.INNER.fullmatch(mark)),
        )
        for kind, found in kinds:
            known = self._by_short if kind == "inner" else self._documents
            seal = known.get(found["nonce"]) if found else None
            if seal and (kind != "open" or mark == seal.opening):
                return LooseMark(kind, seal)
        return LooseMark("dead")

    def _stretches(self, parts: list[Seal | LooseMark | str]) -> Iterator[Seal | Stretch]:
        """Join what marks inside of a document have parted, and note what the marks around it prove."""
        stretch = Stretch("")
        for part in parts:
            if isinstance(part, str):
                stretch.text += part
            elif isinstance(part, LooseMark) and part.kind == "inner" and part.seal:
                stretch.proven.append(part.seal)
            else:
                if isinstance(part, LooseMark) and part.kind == "close" and part.seal:
                    stretch.proven.append(part.seal)
                yield stretch
                if isinstance(part, Seal):
                    yield part
                is_open = isinstance(part, LooseMark) and part.kind == "open"
                stretch = Stretch(
                    "", [part.seal] if isinstance(part, LooseMark) and is_open and part.seal else []
                )
        yield stretch

    def _attributed(self, stretch: Stretch, rest: Piece) -> Piece:
        """Say whose a stretch of private text is."""
        text, rests = self._without_rests(stretch.text)
        text, proven = clean(text), [*stretch.proven, *rests]
        if not text.strip():
            return Piece("", None)
        if len({seal.nonce for seal in proven}) == 1 and single_spaced(text) in proven[0].words:
            # A piece of a public document is private like any other text of its message.
            return Piece(text, proven[0].unit or rest.unit, proven[0].tag if proven[0].unit else "")
        return replace(rest, text=text)

    def _without_rests(self, text: str) -> tuple[str, list[Seal]]:
        """Drop the parts of marks that a splitter of characters has left at the ends.

        Returns:
            The text, and the document that such a part belongs to if it is long enough to tell.
        """
        text = marks.FRONT.sub("", text)
        if found := marks.REST.match(text):
            is_end, rest = True, found[1]
        else:
            is_end, rest = False, marks.middle_of_a_mark(text)
        if not rest:
            return text, []
        with self._lock:
            documents = list(self._documents.values())
        for seal in documents:
            for mark in (seal.opening, marks.inner(seal.nonce), seal.closing):
                if mark.endswith(rest) if is_end else rest in mark:
                    is_telling = is_end and len(rest) >= _PROOF and mark != seal.closing
                    return text.lstrip()[len(rest) :], [seal] if is_telling else []
        return text, []

    def _remember(self, seal: Seal) -> None:
        with self._lock:
            self._documents[seal.nonce] = seal
            self._by_short[seal.nonce[: marks.SHORT]] = seal
            self._size += len(seal.content)
            while len(self._documents) > max(self.capacity, 1) or (
                self._size > self.characters and len(self._documents) > 1
            ):
                _, oldest = self._documents.popitem(last=False)
                self._size -= len(oldest.content)
                if self._by_short.get(oldest.nonce[: marks.SHORT]) is oldest:
                    del self._by_short[oldest.nonce[: marks.SHORT]]

    def _proof(self, nonce: str, name: str) -> str:
        return self._code("proof", nonce, name)[:_PROOF]

    def _code(self, *parts: str) -> str:
        # Only the last part can hold a NUL, so no two lists of parts make one message.
        message = "\0".join(parts).encode("utf-8", "surrogatepass")
        return urlsafe_b64encode(hmac.digest(self._key, message, "sha256")[:12]).decode()


sealer = Sealer()
"""The sealer of this process: a splitter's chunks share nothing else. Its key is random and never leaves it."""
