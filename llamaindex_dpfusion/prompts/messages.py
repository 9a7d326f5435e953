"""From LlamaIndex's messages and prompts to the engine's: what is said, and which parts of it are private."""

from collections.abc import Sequence
from dataclasses import replace

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from dpfusion_core.adapters import Marks, arguments_text
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, ViewError, errors_as
from dpfusion_core.messages import DEFAULT_UNIT, Message, Segment, ToolCall
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.tokenization import Tokenizer
from dpfusion_core.views import Views
from llamaindex_dpfusion.prompts.components import ROLES, Role, parts_of, passages, repeats_talk
from llamaindex_dpfusion.prompts.segments import Rule, Written, segments_of
from llamaindex_dpfusion.seals.parts import Piece
from llamaindex_dpfusion.seals.sealer import sealer


def to_core(messages: Sequence[ChatMessage], rule: Rule | None = None) -> list[Message]:
    """Translate a conversation.

    Sealed text is private for its own unit. Of the rest, a message is private if its
    ``additional_kwargs["is_private"]`` says so, or cannot be read, and public if it is False. Without that
    flag, what a tool has said is private, and the rule decides about everything else.

    Args:
        messages: The conversation.
        rule: What text is of which nobody has said anything; public by default.

    Returns:
        The engine's messages.

    Raises:
        RefusedError: If the rule refuses the conversation.
        ViewError: If a private message is malformed.
        UnsupportedError: If a message holds something else than text.

    Example:
        >>> to_core([ChatMessage("Ann is ill.", additional_kwargs={"is_private": True, "unit": "ann"})])[0].units
        ('ann',)
    """
    written = written_in(messages)
    own: list[list[Segment]] = [[] for _ in messages]
    private_calls: set[int] = set()
    for found, segment in zip(written, segments_of(written, rule or Rule()), strict=True):
        if not found.is_calls:
            own[found.said.message - 1].append(segment)
        elif segment.is_private:
            private_calls.add(found.said.message)
    core = []
    for number, (message, segments) in enumerate(zip(messages, own, strict=True), 1):
        role, calls = ROLES[message.role.value], calls_of(message)
        marks = Marks.read(message.additional_kwargs)
        if marks.unit is not None and not marks.said and not any(s.is_private for s in segments):
            raise ViewError(
                "A message names a unit but is not private. Set is_private=True, or drop the unit."
            )
        call_id = message.additional_kwargs.get("tool_call_id") if role == "tool" else None
        is_private = number in private_calls  # then it is refused
        core.append(Message(role, segments, is_private, tool_calls=calls, tool_call_id=call_id))
    return core


def written_in(messages: Sequence[ChatMessage]) -> list[Written]:
    """Return all text of a conversation piece by piece, and what was said of each.

    Raises:
        PrivacyParameterError: If it is something else than a list of messages.
    """
    if not isinstance(messages, Sequence) or not all(isinstance(m, ChatMessage) for m in messages):
        raise PrivacyParameterError("Expected messages to be a list of ChatMessage.")
    shows_passage = passages(messages)
    return [
        written
        for i, message in enumerate(messages)
        for written in [
            *_written(message, i + 1, is_passage=i in shows_passage),
            *_written_calls(message, i + 1),
        ]
    ]


def _written(message: ChatMessage, number: int, *, is_passage: bool) -> list[Written]:
    role, text, marks = ROLES[message.role.value], text_of(message), Marks.read(message.additional_kwargs)
    if marks.said is not None:
        pieces = sealer.read_pieces(text, said=marks.said, unit=marks.unit)
        if not marks.said:  # of what is sealed as a template's text in it, too
            pieces = [replace(p, tag="") if p.unit is None else p for p in pieces]
        return [Written.of(p, role, number, is_marked=marks.said) for p in pieces]
    is_own = _is_own(message)
    written = []
    for part, is_component in parts_of(message, text):
        is_private = is_component or is_passage
        pieces = sealer.read_pieces(part, said=is_private or None, unit=marks.unit)
        who: Role = "tool" if is_private and not repeats_talk(part) else role
        written += [Written.of(p, who, number, is_own=is_own) for p in pieces]
    return written


def _written_calls(message: ChatMessage, number: int) -> list[Written]:
    calls, said = calls_of(message), Marks.read(message.additional_kwargs).said
    text = arguments_text(calls)
    if not text.strip():
        return []
    piece = Piece(text, DEFAULT_UNIT if said else None, "open" if said is None else "")
    written = Written.of(
        piece, ROLES[message.role.value], number, is_marked=bool(said), is_own=_is_own(message)
    )
    return [replace(written, is_calls=True)]


def calls_of(message: ChatMessage) -> tuple[ToolCall, ...]:
    """Return the calls of tools that a message asks for."""
    return tuple(
        ToolCall(block.tool_name, block.tool_kwargs, block.tool_call_id)
        for block in message.blocks
        if isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, dict)
    )


def _is_own(message: ChatMessage) -> bool:
    is_answer = ROLES[message.role.value] == "assistant"
    return is_answer and isinstance(message.additional_kwargs.get("dp_fusion"), dict)


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
    for message in messages:
        marks = Marks.read(message.additional_kwargs)
        pieces = sealer.read_pieces(text_of(message), said=marks.said is not False, unit=marks.unit)
        calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
        sealed.append(message.model_copy(update={"blocks": [TextBlock(text=sealed_text(pieces)), *calls]}))
    return sealed


def sealed_text(pieces: Sequence[Piece]) -> str:
    """Return pieces as one string in which each is sealed; open text as that of a template."""
    return "".join(
        sealer.seal(p.text, p.unit, tag="template" if p.tag == "open" else p.tag).text for p in pieces
    )


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
        with errors_as(ViewError, "The tokenizer cannot read the prompt ({error})."):
            encoded = tokenizer(text, add_special_tokens=not has_start, verbose=False)
            return tuple(int(i) for i in encoded["input_ids"])

    units = dict.fromkeys(s.unit for s in segments if s.unit is not None)
    return Views(ids(None), {unit: ids(unit) for unit in units})
