"""A conversation as it was read from LangChain's messages, and what in it is private."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dpfusion_core.adapters import Said, Unmarked, arguments_text, decide, is_private, warn_unstable
from dpfusion_core.errors import ViewError
from dpfusion_core.messages import Message, Segment, ToolCall

Role = Literal["system", "user", "assistant", "tool"]

MENDS = (
    "Mark what is private: private_template('{context}') in the prompt or PrivateDocumentFormatter() in the "
    "place of format_docs, create_private_retriever_tool(...) for a tool, mark_private(message) for a message. "
    "In an agent, DPFusionMiddleware(public_roles=('human', 'system')) says that the person and the system "
    "prompt are public."
)
STABLE_MEND = (
    "Say what names it for good, for example unit='source' (a metadata key), or unit=lambda document: "
    "document.id where the ids are your own."
)


@dataclass(frozen=True)
class Piece:
    """A stretch of a message's text, and what is said of it: private, public, or nothing.

    Attributes:
        text: The text.
        mark: True: private. False: public. None: nothing is said.
        unit: Its privacy unit, if it is private.
        is_stable: Whether the unit's name is known to stay.
        names_unit: Whether its own block names the unit, and not the message.
    """

    text: str = field(repr=False)
    mark: bool | None
    unit: str | None = None
    is_stable: bool = True
    names_unit: bool = False


@dataclass(frozen=True)
class Turn:
    """A message as it was read, before it is decided what its unmarked text is.

    Attributes:
        role: Whose it is.
        pieces: Its text.
        is_own: Whether it is an answer of ours under a guarantee.
        is_ours: Whether it is a private message of this package.
        names_unit: Whether it names a unit and no privacy.
        tool_calls: The tools that it calls.
        calls_mark: What is said of the arguments of those, as :attr:`Piece.mark`.
        tool_call_id: The call that it answers.
        name: Of the speaker.
    """

    role: Role
    pieces: tuple[Piece, ...]
    is_own: bool = False
    is_ours: bool = False
    names_unit: bool = False
    tool_calls: tuple[ToolCall, ...] = ()
    calls_mark: bool | None = None
    tool_call_id: str | None = None
    name: str | None = None

    def said(self, number: int = 1) -> list[Said]:
        """Return the pieces as the rule for unmarked text reads them."""
        pieces = [Said(p.text, self.role, p.mark, self.is_own, number, p.is_stable) for p in self.pieces]
        if self.tool_calls:
            arguments = arguments_text(self.tool_calls)
            pieces.append(Said(arguments, self.role, self.calls_mark, self.is_own, number))
        # A place for private text that happens to be empty, as when no document was found, was not forgotten.
        return [*pieces, Said("", self.role, True, message=number)] if self.is_ours else pieces

    def decided(self, marks: Iterable[bool]) -> "Turn":
        """Return the message with a decision for each piece, and one for the arguments of its calls.

        Raises:
            ViewError: If a unit is named on public text.
        """
        marks = list(marks)
        calls_mark = marks[len(self.pieces)] if self.tool_calls else None
        pieces = tuple(replace(p, mark=mark) for p, mark in zip(self.pieces, marks, strict=False))
        if any(piece.names_unit and not piece.mark for piece in pieces):
            raise ViewError(
                "A content block names a unit but is not private. Set is_private=True beside it, or drop it."
            )
        if self.names_unit and not any(piece.mark for piece in pieces):
            raise ViewError(
                "A message names a unit but is not private. Set is_private=True, or drop the unit."
            )
        return replace(self, pieces=pieces, calls_mark=calls_mark)

    def by_rule(self, unmarked: Unmarked) -> "Turn":
        """Return the message decided by the rule; nothing is refused."""
        return self.decided(is_private(piece, unmarked) for piece in self.said())

    @property
    def is_private(self) -> bool:
        """Whether any text of a decided message is private."""
        return any(piece.mark for piece in self.pieces) or bool(self.calls_mark)

    def to_core(self) -> Message:
        """Return a decided message as the engine wants it.

        Raises:
            ViewError: If it calls tools and is private.
        """
        segments = [Segment(p.text, bool(p.mark), p.unit if p.mark else None) for p in self.pieces]
        # Public content as one string: the form in which chat templates know it best.
        content: str | list[Segment] = segments if self.is_private else "".join(p.text for p in self.pieces)
        return Message(
            self.role,
            content,
            is_private=bool(self.calls_mark),
            tool_calls=self.tool_calls,
            tool_call_id=self.tool_call_id,
            name=self.name,
        )


def admit(turns: Sequence[Turn], unmarked: Unmarked, *, has_ledger: bool = False) -> list[Turn]:
    """Decide what is private in a conversation, or refuse it; nothing has been computed then.

    Args:
        turns: The conversation.
        unmarked: What text without a mark is.
        has_ledger: Whether the answer is charged to accounts that outlive it.

    Raises:
        RefusedError: If the rule refuses the conversation, private text has lost its mark, or a unit's
            name is not stable and there is a ledger.
    """
    pieces = [piece for number, turn in enumerate(turns, 1) for piece in turn.said(number)]
    decisions = iter(decide(pieces, unmarked, mends=MENDS, has_ledger=has_ledger, stable_mend=STABLE_MEND))
    decided = [turn.decided([next(decisions) for _ in turn.said()]) for turn in turns]
    if any(p.mark and p.unit and not p.is_stable for turn in decided for p in turn.pieces):
        warn_unstable(STABLE_MEND)
    return decided
