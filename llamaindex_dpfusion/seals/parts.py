"""Sealed texts, and what is read out of a string that holds some: pieces, loose marks, stretches between them."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from dpfusion_core.messages import Segment
from llamaindex_dpfusion.seals import marks
from llamaindex_dpfusion.seals.marks import Tag


@dataclass(frozen=True)
class Piece:
    """A stretch of a string that is wholly public or wholly private, free of marks.

    Attributes:
        text: The text. Never shown by ``repr``.
        unit: Its privacy unit; None if the text is public.
        tag: What else is known of it; ``"open"`` if it is public because nobody has said anything of it.
    """

    text: str = field(repr=False)
    unit: str | None
    tag: Tag | Literal["open"] = ""

    @property
    def segment(self) -> Segment:
        """The text as the engine wants it."""
        return Segment(self.text, is_private=self.unit is not None, unit=self.unit)


@dataclass(frozen=True)
class Seal:
    """A sealed text.

    Attributes:
        content: The text, free of marks. Never shown by ``repr``.
        unit: Its privacy unit; None if the text is public.
        nonce: Random, never used twice.
        opening: The mark before the text.
        handle: What stands for the text in vault mode; empty if it is not remembered.
        tag: What else is known of it.
    """

    content: str = field(repr=False)
    unit: str | None
    nonce: str = field(repr=False)
    opening: str = field(repr=False)
    handle: str = field(repr=False)
    tag: Tag = ""

    @property
    def closing(self) -> str:
        """The mark behind the text."""
        return marks.closing(self.nonce)

    @property
    def text(self) -> str:
        """The text between its marks."""
        return f"{self.opening}{marks.with_inner_marks(self.content, self.nonce)}{self.closing}"

    @cached_property
    def words(self) -> str:
        """The text with single spaces."""
        return single_spaced(self.content)

    @property
    def piece(self) -> Piece:
        """The text without marks."""
        return Piece(self.content, self.unit, self.tag)


@dataclass(frozen=True)
class LooseMark:
    """A mark that is not part of a whole pair.

    Attributes:
        kind: Where the text stands that it speaks of: behind it, before it, around it; or none does.
        seal: The document that it belongs to if that is known.
    """

    kind: Literal["open", "close", "inner", "dead"]
    seal: Seal | None = None


@dataclass
class Stretch:
    """Text between two marks; it may have been cut out of a sealed document."""

    text: str
    proven: list[Seal] = field(default_factory=list)


def single_spaced(text: str) -> str:
    """Return a text with single spaces: splitters change them."""
    return " ".join(text.split())
