"""From LangChain messages to the engine's: what is said, and which parts of it are private.

``is_private`` is read in every place where LangChain keeps it: ``additional_kwargs``,
``response_metadata``, an attribute of the message, and, for a part of a message, a content block's
``extras`` or the block itself. One true value makes the text private, whatever the other places say. What
text without a mark is, :mod:`dpfusion_core.adapters` decides, by the same rule as for other frameworks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from dpfusion_core.adapters import (
    LONG,
    SHORT,
    Marks,
    Unmarked,
    seen,
)
from dpfusion_core.errors import UnsupportedError, ViewError
from dpfusion_core.messages import Message, ToolCall
from langchain_dpfusion.conversation import Piece, Role, Turn, admit
from langchain_dpfusion.marked_messages import (
    GUARANTEE_KEY,
    HIDDEN,
    UNITS_KEY,
    MessageT,
    PrivateHumanMessage,
    public_block,
    units_of,
)

_CHAT_ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
}
# Blocks that repeat what the message's tool_calls say, or that no model is given back.
_SILENT_BLOCKS = frozenset(
    {
        "tool_use",
        "tool_call",
        "tool_call_chunk",
        "invalid_tool_call",
        "function_call",
        "input_json_delta",
        "reasoning",
        "thinking",
        "redacted_thinking",
    }
)
_MEDIA_BLOCKS = frozenset({"image", "image_url", "input_image", "audio", "input_audio", "video", "file"})


def to_core(messages: Iterable[BaseMessage], unmarked: Unmarked = "public") -> list[Message]:
    """Translate a conversation; see :func:`admit`.

    Raises:
        ViewError: If a message is malformed, or names a unit without being private.
        UnsupportedError: If a message holds something else than text.
        RefusedError: If the rule for unmarked text refuses the conversation.

    Example:
        >>> (message,) = to_core([HumanMessage("Ann is ill.", additional_kwargs={"is_private": True})])
        >>> message.role, message.segments[0].text, message.units
        ('user', 'Ann is ill.', ('private',))
    """
    return [turn.to_core() for turn in admit([turn for m in messages for turn in read(m)], unmarked)]


def hide(message: MessageT, unmarked: Unmarked = "public") -> MessageT:
    """Return a copy of a private message whose private text only this package reads.

    Its blocks are of LangChain's type for what is not standard: a summary of a conversation, ``.text``
    and templates pass over them, while histories and checkpoints keep them.

    Args:
        message: The message; a public one is returned as it is.
        unmarked: What text without a mark is; results of tools are private whatever it says.

    Raises:
        ViewError: If the message is malformed.
        UnsupportedError: If the message holds something else than text.

    Example:
        >>> from langchain_dpfusion import mark_private
        >>> hidden = hide(mark_private(HumanMessage("Ann is ill.")))
        >>> str(hidden.text), has_private([hidden])
        ('', True)
    """
    turns = [turn.by_rule(unmarked) for turn in read(message)]
    pieces = [piece for turn in turns for piece in turn.pieces]
    if not any(piece.mark for piece in pieces):
        return message
    for turn in turns:
        turn.to_core()  # refuses what no model could read
    shortest = LONG if isinstance(message, ToolMessage) else SHORT
    for piece in pieces:
        if piece.mark:
            seen.remember(piece.text, shortest=shortest)
    blocks = [_hidden(piece) if piece.mark else public_block(piece.text) for piece in pieces]
    extra = {key: value for key, value in message.additional_kwargs.items() if key != "unit"}
    extra |= units_of((piece.unit, piece.is_stable) for piece in pieces if piece.mark)
    return message.model_copy(update={"content": blocks, "additional_kwargs": extra})


def has_private(messages: Sequence[BaseMessage]) -> bool:
    """Return whether any message has private text; one that cannot be read counts."""
    try:
        return any(turn.by_rule("public").is_private for message in messages for turn in read(message))
    except (ViewError, UnsupportedError):
        return True


def read(message: BaseMessage) -> list[Turn]:
    """Read a message: one turn, and one more for each result of a tool that is written into it.

    Raises:
        ViewError: If the message is malformed, or names a unit without being private.
        UnsupportedError: If the message holds something else than text.
    """
    role = _role(message)
    attributes = {name: getattr(message, name, None) for name in ("is_private", "unit")}
    outer = Marks.read(message.additional_kwargs, message.model_extra, attributes)
    # What a provider writes here may be anything: only what makes text private counts.
    metadata = Marks.read(message.response_metadata)
    flags = (*outer.flags, *(flag for flag in metadata.flags if flag))
    blocks = [message.content] if isinstance(message.content, str) else message.content
    unit = outer.unit or (metadata.unit if any(flags) else None)
    scope = _with_origin(_Scope(flags, unit, outer.is_stable), message, blocks)
    results: list[Turn] = []
    pieces: list[Piece] = []
    for block in blocks:
        if isinstance(block, dict) and block.get("type") == "tool_result":
            results.append(_tool_result(block, scope))
        else:
            pieces += scope.pieces(block)
    if results and not pieces:
        return results
    turn = Turn(
        role,
        tuple(pieces),
        names_unit=outer.unit is not None and not any(flags) and not results,
        is_ours=_is_ours(message),
        is_own=isinstance(message, AIMessage) and GUARANTEE_KEY in message.response_metadata,
        calls_mark=any(flags) if flags else None,
        tool_calls=tuple(ToolCall(c["name"], c["args"], c["id"]) for c in getattr(message, "tool_calls", ())),
        tool_call_id=message.tool_call_id if isinstance(message, ToolMessage) else None,
        name=message.name,
    )
    return [*results, turn]


def _role(message: BaseMessage) -> Role:
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, (ToolMessage, FunctionMessage)):
        return "tool"
    if isinstance(message, ChatMessage) and message.role in _CHAT_ROLES:
        return _CHAT_ROLES[message.role]
    # The role of a ChatMessage is not quoted: swapped arguments would put the text there.
    raise ViewError(
        f"Unknown role of a {type(message).__name__}. Use system, human, ai or tool messages, or a "
        f"ChatMessage with one of the roles {', '.join(_CHAT_ROLES)}."
    )


@dataclass(frozen=True)
class _Scope:
    """What holds for every block of a message."""

    flags: tuple[bool, ...]
    unit: str | None
    is_stable: bool

    def pieces(self, block: str | dict[Any, Any]) -> list[Piece]:
        if isinstance(block, str):
            return self.pieces({"type": "text", "text": block})
        kind, text = block.get("type", "text"), block.get("text")
        value = block.get("value")
        if kind == HIDDEN and isinstance(value, Mapping):
            return self.pieces({"type": "text", **value, "is_private": True})
        if kind in _SILENT_BLOCKS:
            return []
        if kind not in ("text", "text-plain") or not isinstance(text, str):
            what = f"a block of type {kind!r}" if kind in _MEDIA_BLOCKS else "a block without text"
            raise UnsupportedError(f"A message holds {what}. Only text can be fused: give its text.")
        marks = Marks.read(block, block.get("extras"))
        flags = (*self.flags, *marks.flags)
        mark = any(flags) if flags else None
        if marks.unit is None:
            return [Piece(text, mark, self.unit, self.is_stable)] if text else []
        return [Piece(text, mark, marks.unit, marks.is_stable, names_unit=True)] if text else []


def _with_origin(scope: _Scope, message: BaseMessage, blocks: Sequence[str | dict[Any, Any]]) -> _Scope:
    """Return the scope of a message; text of one of our own private ones stays private if its marks are gone."""
    if not _is_ours(message):
        return scope
    names = message.additional_kwargs.get(UNITS_KEY)
    units = {Marks.read({"unit": name}).unit for name in names} if isinstance(names, list) else set()
    flags = scope.flags if any(map(_is_marked, blocks)) else (*scope.flags, True)
    if scope.unit is not None or not units:
        return replace(scope, flags=flags)
    # With several, nobody can say any more whose text it is.
    is_one = len(units) == 1
    return _Scope(flags, units.pop() if is_one else None, scope.is_stable and is_one)


def _is_ours(message: BaseMessage) -> bool:
    return UNITS_KEY in message.additional_kwargs or isinstance(message, PrivateHumanMessage)


def _is_marked(block: str | dict[Any, Any]) -> bool:
    if not isinstance(block, dict):
        return False
    return block.get("type") == HIDDEN or bool(Marks.read(block, block.get("extras")).flags)


def _tool_result(block: dict[Any, Any], scope: _Scope) -> Turn:
    """Read a tool's result that is written as a block of a human message."""
    content = block.get("content") or ""
    marks = Marks.read(block, block.get("extras"))
    is_stable = marks.is_stable if marks.unit else scope.is_stable
    inner = _Scope((*scope.flags, *marks.flags), marks.unit or scope.unit, is_stable)
    parts = [content] if isinstance(content, str) else content
    pieces = tuple(piece for part in parts for piece in inner.pieces(part))
    return Turn("tool", pieces, tool_call_id=block.get("tool_use_id"))


def _hidden(piece: Piece) -> dict[str, Any]:
    value = {"text": piece.text, "is_private": True, "unit": piece.unit, "unit_is_stable": piece.is_stable}
    return {"type": HIDDEN, "value": value}
