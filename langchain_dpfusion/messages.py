"""From LangChain messages to the engine's: what is said, and which parts of it are private.

``is_private`` is read in every place where LangChain keeps it over templates, histories, merges and
serialisation: ``additional_kwargs``, ``response_metadata``, an attribute of the message, and, for a
part of a message, a content block's ``extras`` or the block itself. One true value makes the text
private, whatever the other places say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from dpfusion_core.errors import UnsupportedError, ViewError
from dpfusion_core.messages import Message, Segment, ToolCall

DefaultPrivate = Literal["human", "tool", "all"] | None
"""Which messages without any flag are private: human ones, tool results, or all but system messages and
the model's own answers."""

MessageT = TypeVar("MessageT", bound=BaseMessage)

GUARANTEE_KEY = "dp_fusion"
"""Where an answer's ``response_metadata`` holds its guarantee; answers that have it are public."""

_FLAGS = frozenset({"isprivate", "private"})
_CHAT_ROLES = {
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
_HIDDEN = "non_standard"
_MEDIA_BLOCKS = frozenset({"image", "image_url", "input_image", "audio", "input_audio", "video", "file"})


def to_core(messages: Iterable[BaseMessage], default_private: DefaultPrivate = "tool") -> list[Message]:
    """Translate a conversation.

    Args:
        messages: LangChain messages.
        default_private: Which messages without any flag are private.

    Returns:
        The engine's messages.

    Raises:
        ViewError: If a message is malformed, names a unit without being private, or a system
            message is private.
        UnsupportedError: If a message holds something else than text.

    Example:
        >>> (message,) = to_core([HumanMessage("Ann is ill.", additional_kwargs={"is_private": True})])
        >>> message.role, message.segments[0].text, message.units
        ('user', 'Ann is ill.', ('private',))
    """
    return [part for message in messages for part in _translate(message, default_private)]


def mark_private(message: MessageT, unit: str | None = None) -> MessageT:
    """Return a copy of a message that is private.

    The flag stands in ``additional_kwargs``. A unit is written into the content blocks: LangChain
    merges messages by joining their additional strings, so a unit would not survive there.

    Args:
        message: The message.
        unit: Privacy unit of its text; None for the unnamed one.

    Example:
        >>> mark_private(HumanMessage("Ann is ill.")).additional_kwargs
        {'is_private': True}
    """
    update: dict[str, Any] = {"additional_kwargs": {**message.additional_kwargs, "is_private": True}}
    if unit is not None:
        content = [message.content] if isinstance(message.content, str) else message.content
        update["content"] = [_with_unit(block, unit) for block in content]
    return message.model_copy(update=update)


def private_block(text: str, unit: str | None = None) -> dict[str, Any]:
    """Return a content block of private text.

    Args:
        text: The text.
        unit: Its privacy unit; None for the unnamed one.

    Example:
        >>> private_block("Ann is ill.", unit="patient-7")["extras"]
        {'is_private': True, 'unit': 'patient-7'}
    """
    extras: dict[str, Any] = {"is_private": True}
    if unit is not None:
        extras["unit"] = unit
    return {"type": "text", "text": text, "extras": extras}


def public_block(text: str) -> dict[str, Any]:
    """Return a content block that is public whatever is private by default.

    Args:
        text: Text that tells nothing about anybody, such as what stands between two documents.
    """
    return {"type": "text", "text": text, "extras": {"is_private": False}}


def hide(message: MessageT, default_private: DefaultPrivate = None) -> MessageT:
    """Return a copy of a private message whose private text only this package reads.

    Its blocks are of LangChain's type for what is not standard: a summary of a conversation, ``.text``
    and templates pass over them, while histories and checkpoints keep them.

    Args:
        message: The message; a public one is returned as it is.
        default_private: Which messages without any flag are private.

    Raises:
        ViewError: If the message is malformed.
        UnsupportedError: If the message holds something else than text.

    Example:
        >>> hidden = hide(mark_private(HumanMessage("Ann is ill.")))
        >>> str(hidden.text), has_private([hidden])
        ('', True)
    """
    segments = [s for part in _translate(message, default_private) for s in part.segments]
    if not any(segment.is_private for segment in segments):
        return message
    blocks = [
        {"type": _HIDDEN, "value": {"text": s.text, "is_private": True, "unit": s.unit}}
        if s.is_private
        else public_block(s.text)
        for s in segments
    ]
    extra = {key: value for key, value in message.additional_kwargs.items() if key != "unit"}
    return message.model_copy(update={"content": blocks, "additional_kwargs": extra})


def has_private(messages: Sequence[BaseMessage], default_private: DefaultPrivate = None) -> bool:
    """Return whether any message has private text; one that cannot be read counts."""
    try:
        return any(message.units for message in to_core(messages, default_private))
    except (ViewError, UnsupportedError):
        return True


def _translate(message: BaseMessage, default_private: DefaultPrivate) -> list[Message]:
    role = _role(message)
    attributes = {name: getattr(message, name, None) for name in ("is_private", "unit")}
    outer = _Marks(message.additional_kwargs, message.model_extra, attributes)
    # What a provider writes here may be anything: only what makes text private counts.
    metadata = _Marks(message.response_metadata)
    flags = (*outer.flags, *(flag for flag in metadata.flags if flag))
    unit = outer.unit or (metadata.unit if any(flags) else None)
    scope = _Scope(flags, unit, _is_default(message, role, default_private))
    blocks = [message.content] if isinstance(message.content, str) else message.content
    messages: list[Message] = []
    segments: list[Segment] = []
    for block in blocks:
        if isinstance(block, dict) and block.get("type") == "tool_result":
            messages.append(_tool_result(block, scope))
        else:
            segments += scope.segments(block)
    fields: dict[str, Any] = {"name": message.name}
    if isinstance(message, AIMessage):
        fields["tool_calls"] = tuple(ToolCall(c["name"], c["args"], c["id"]) for c in message.tool_calls)
    if isinstance(message, ToolMessage):
        fields["tool_call_id"] = message.tool_call_id
    if segments or not messages:
        messages.append(Message(role, _plain(segments), **fields))
    is_private = any(message.units for message in messages)
    if outer.unit and not (is_private or any(flags)):
        raise ViewError("A message names a unit but is not private. Set is_private=True, or drop the unit.")
    if role == "system" and is_private:
        raise ViewError(
            "A system message is private. System messages hold instructions: put private text into a "
            "human message, for example with private_template('{context}')."
        )
    return messages


def _role(message: BaseMessage) -> str:
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


def _is_default(message: BaseMessage, role: str, default_private: DefaultPrivate) -> bool:
    if default_private == "all":
        return role != "system" and GUARANTEE_KEY not in message.response_metadata
    return (default_private, role) in {("human", "user"), ("tool", "tool")}


@dataclass(frozen=True)
class _Scope:
    """What holds for every block of a message."""

    flags: tuple[bool, ...]
    unit: str | None
    default: bool

    def segments(self, block: str | dict[Any, Any]) -> list[Segment]:
        """Translate a content block."""
        if isinstance(block, str):
            return self.segments({"type": "text", "text": block})
        kind, text = block.get("type", "text"), block.get("text")
        value = block.get("value")
        if kind == _HIDDEN and isinstance(value, Mapping):
            return self.segments({"type": "text", **value, "is_private": True})
        if kind in _SILENT_BLOCKS:
            return []
        if kind not in ("text", "text-plain") or not isinstance(text, str):
            what = f"a block of type {kind!r}" if kind in _MEDIA_BLOCKS else "a block without text"
            raise UnsupportedError(f"A message holds {what}. Only text can be fused: give its text.")
        marks = _Marks(block, block.get("extras"))
        flags = (*self.flags, *marks.flags)
        is_private = any(flags) or (not flags and self.default)
        if marks.unit and not is_private:
            raise ViewError(
                "A content block names a unit but is not private. Set is_private=True beside it, or drop it."
            )
        if not text:
            return []
        return [Segment(text, is_private, (marks.unit or self.unit) if is_private else None)]


def _tool_result(block: dict[Any, Any], scope: _Scope) -> Message:
    """Translate a tool's result that is written as a block of a human message."""
    content = block.get("content") or ""
    marks = _Marks(block, block.get("extras"))
    inner = _Scope((*scope.flags, *marks.flags), marks.unit or scope.unit, scope.default)
    parts = [content] if isinstance(content, str) else content
    segments = [segment for part in parts for segment in inner.segments(part)]
    return Message("tool", _plain(segments), tool_call_id=block.get("tool_use_id"))


def _plain(segments: list[Segment]) -> str | list[Segment]:
    """Return public content as a string: the form in which chat templates know it best."""
    if any(segment.is_private for segment in segments):
        return segments
    return "".join(segment.text for segment in segments)


class _Marks:
    """The flags and the unit that some places of a message or block hold."""

    def __init__(self, *places: object) -> None:
        flags: list[bool] = []
        units: set[str] = set()
        for place in places:
            if place is None:
                continue
            if not isinstance(place, Mapping):
                flags.append(True)  # where a flag would stand, nothing can be read
                continue
            for key, value in place.items():
                name = str(key).lower().replace("_", "").replace("-", "")
                if value is None:
                    continue
                if name in _FLAGS:
                    # Only the exact key can say that something is public.
                    flags += [True] if _truth(value) else [False] * (key == "is_private")
                elif name == "unit":
                    units.add(_unit_name(value))
        if len(units) > 1:
            raise ViewError("A message or content block names two different units. Name one.")
        self.flags = tuple(flags)
        self.unit: str | None = next(iter(units), None)


def _truth(value: object) -> bool:
    try:
        return bool(value)
    except Exception:  # noqa: BLE001  a value that cannot be read means private
        return True


def _unit_name(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise ViewError("The unit of a message or content block must be a non-empty string.")


def _with_unit(block: str | dict[Any, Any], unit: str) -> dict[Any, Any]:
    if isinstance(block, str):
        return private_block(block, unit)
    extras = block.get("extras")
    return {
        **block,
        "extras": {**(extras if isinstance(extras, dict) else {}), "is_private": True, "unit": unit},
    }
