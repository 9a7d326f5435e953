"""From LlamaIndex's messages and prompts to the engine's: what is said, and which parts of it are private."""

import re
from collections.abc import Collection, Sequence

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from dpfusion_core.errors import UnsupportedError
from dpfusion_core.messages import DEFAULT_UNIT, Message, Segment, ToolCall
from dpfusion_core.tokenization import Tokenizer
from dpfusion_core.views import Placeholder, Views
from llamaindex_dpfusion.sealing import sealer

PUBLIC_ROLES = ("user", "assistant")
"""Roles whose messages are public if nothing is said about them."""

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "tool": "tool",
    "function": "tool",
}
# What an agent that reasons in text writes before what a tool has said, in whosever message.
_OBSERVATION = re.compile(r"^\s*Observation:", re.MULTILINE)


def to_core(messages: Sequence[ChatMessage], public_roles: Collection[str] = PUBLIC_ROLES) -> list[Message]:
    """Translate a conversation.

    Sealed text is private for its own unit. Of the rest, a message is private if its
    ``additional_kwargs["is_private"]`` says so, or cannot be read, and public if it is False. A message
    without that flag is public if its role is in ``public_roles``, unless it repeats what a tool has said.

    Args:
        messages: The conversation.
        public_roles: Roles of messages that are public by default.

    Returns:
        The engine's messages.

    Raises:
        ViewError: If a private message is malformed.
        UnsupportedError: If a message holds something else than text.

    Example:
        >>> to_core([ChatMessage("Ann is ill.", additional_kwargs={"is_private": True, "unit": "ann"})])
        [Message(role='user', content=[Segment(text=<private>, is_private=True, unit='ann', label=None)],
         is_private=False, unit=None)]
    """
    return [_translate(message, public_roles) for message in messages]


def _translate(message: ChatMessage, public_roles: Collection[str]) -> Message:
    role, text = _ROLES[message.role.value], text_of(message)
    is_private = message.additional_kwargs.get("is_private")
    if is_private is None:
        is_private = role not in public_roles or repeats_a_tool(message)
    segments = sealer.read(text, is_private=is_private is not False, unit=unit_of(message))
    calls = tuple(
        ToolCall(block.tool_name, block.tool_kwargs, block.tool_call_id)
        for block in message.blocks
        if isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, dict)
    )
    call_id = message.additional_kwargs.get("tool_call_id") if role == "tool" else None
    return Message(role, segments, tool_calls=calls, tool_call_id=call_id)


def repeats_a_tool(message: ChatMessage) -> bool:
    """Return whether a message says what a tool has said, in whosever name.

    Agents write it into messages of the user and, in their memory, of the assistant.
    """
    is_tool = _ROLES[message.role.value] == "tool" or "tool_call_id" in message.additional_kwargs
    return is_tool or bool(_OBSERVATION.search(message.content or ""))


def unit_of(message: ChatMessage) -> str:
    """Return the privacy unit that a message's ``additional_kwargs["unit"]`` names, or the unnamed one."""
    unit = message.additional_kwargs.get("unit")
    return unit if isinstance(unit, str) and unit else DEFAULT_UNIT


def text_of(message: ChatMessage) -> str:
    """Return the text of a message.

    Raises:
        UnsupportedError: If it holds something else than text.
    """
    for block in message.blocks:
        if not isinstance(block, TextBlock | ThinkingBlock | ToolCallBlock | CachePoint):
            raise UnsupportedError(
                f"A message holds a {type(block).__name__}, and the model reads text alone. Leave it out, or "
                "put its text in its place."
            )
    return message.content or ""


def sealed_messages(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Seal messages that somebody else has filled in: what is not sealed or flagged public is private."""
    sealed = []
    for message, core in zip(messages, to_core(messages, ()), strict=True):
        text = TextBlock(text="".join(sealer.seal(s.text, s.unit).text for s in core.segments))
        calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
        sealed.append(message.model_copy(update={"blocks": [text, *calls]}))
    return sealed


def shown(messages: Sequence[Message], placeholder: Placeholder) -> list[ChatMessage]:
    """Return a conversation as traces may see it: with the placeholder for all that is private."""
    return [ChatMessage(shown_text(m.segments, placeholder), role=m.role) for m in messages]


def shown_text(segments: Sequence[Segment], placeholder: Placeholder) -> str:
    """Return the public text of segments."""
    return "".join(placeholder(s) if s.is_private else s.text for s in segments)


def prompt_views(segments: Sequence[Segment], tokenizer: Tokenizer, placeholder: Placeholder) -> Views:
    """Build the views of a ready prompt, without a chat template.

    Special tokens are added as the tokenizer does by default, but no second one to a prompt that
    begins with the first already.
    """

    def ids(revealed: str | None) -> tuple[int, ...]:
        text = "".join(placeholder(s) if s.is_private and s.unit != revealed else s.text for s in segments)
        start = getattr(tokenizer, "bos_token", None)
        has_start = isinstance(start, str) and text.startswith(start)
        encoded = tokenizer(text, add_special_tokens=not has_start, verbose=False)
        return tuple(int(i) for i in encoded["input_ids"])

    units = dict.fromkeys(s.unit for s in segments if s.unit is not None)
    return Views(ids(None), {unit: ids(unit) for unit in units})
