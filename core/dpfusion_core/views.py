"""From messages to views: one prompt per privacy unit, and the public one.

The public view has every private segment replaced by the placeholder; the private view of a unit
reveals that unit and keeps all others replaced. Each view is rendered with the model's chat
template and tokenised on its own, so the public view is a function of the redacted text alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jinja2 import TemplateError

from dpfusion_core.errors import ViewError, errors_as
from dpfusion_core.messages import DEFAULT_UNIT, Message, normal_unit
from dpfusion_core.placeholders import Placeholder, hide
from dpfusion_core.tokenization import Tokenizer, encode
from dpfusion_core.turns import arrangements

_TEMPLATE_HINT = (
    "Set `tokenizer.chat_template`, or use a chat model: base models have no template for messages."
)


@dataclass(frozen=True)
class Views:
    """The prompts of one request as token ids.

    Attributes:
        public: The public view.
        private: Each unit's private view, by unit, in order of first appearance.
        is_continuation: Whether the last message is an assistant's that is to be continued.

    Raises:
        ViewError: If something named as a unit is no id, or two ids are spellings of one unit.
    """

    public: tuple[int, ...]
    private: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    is_continuation: bool = False

    def __post_init__(self) -> None:
        private = {normal_unit(unit): tuple(ids) for unit, ids in self.private.items()}
        if len(private) < len(self.private):
            raise ViewError(
                "Two ids of the views are spellings of one unit (see dpfusion_core.units). Reveal it in one view."
            )
        object.__setattr__(self, "public", tuple(self.public))
        object.__setattr__(self, "private", private)

    @property
    def units(self) -> tuple[str, ...]:
        """The privacy units, in the order of the rows."""
        return tuple(self.private)

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        """All views, the public one first."""
        return (self.public, *self.private.values())


def build_views(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    placeholder: Placeholder,
    tools: Sequence[Any] | None = None,
) -> Views:
    """Build the views of a conversation.

    Args:
        messages: The conversation. If it ends with an assistant message, that one is continued.
        tokenizer: The model's, with its chat template.
        placeholder: What stands in the place of hidden segments.
        tools: JSON schemas or functions for the chat template's ``tools``; public.

    Returns:
        The public view and one private view per unit.

    Raises:
        ViewError: If the conversation is empty or the template or the tokenizer refuses it.
    """
    messages = arrange(messages, tokenizer, placeholder, tools)
    units = dict.fromkeys(unit for message in messages for unit in message.units)
    public = _encode(tokenizer, render(messages, tokenizer, placeholder, None, tools))
    private = {
        unit: _encode(tokenizer, render(messages, tokenizer, placeholder, {unit}, tools)) for unit in units
    }
    return Views(public, private, messages[-1].role == "assistant")


def arrange(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    placeholder: Placeholder,
    tools: Sequence[Any] | None = None,
) -> Sequence[Message]:
    """Return the first arrangement of a conversation whose public view the chat template accepts.

    Which one that is depends on the public view alone. For the arguments see :func:`build_views`.

    Raises:
        ViewError: If the template refuses all; what it says of the conversation as it is.
    """
    refusals: list[ViewError] = []
    for arrangement in arrangements(messages):
        try:
            render(arrangement, tokenizer, placeholder, None, tools)
        except ViewError as error:
            refusals.append(error)
        else:
            return arrangement
    raise refusals[0]


def views_of_contexts(private_context: str, public_context: str, tokenizer: Tokenizer) -> Views:
    """Build the views of two ready prompts, the unnamed unit's and the public one.

    Args:
        private_context: The exact prompt that reveals the private text.
        public_context: The exact prompt with the private text replaced.
        tokenizer: The model's; no special tokens are added.

    Raises:
        ViewError: If a prompt is empty or cannot be tokenised.
    """
    public = _encode(tokenizer, public_context)
    return Views(public, {DEFAULT_UNIT: _encode(tokenizer, private_context)})


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    placeholder: Placeholder,
    revealed: set[str] | None = None,
    tools: Sequence[Any] | None = None,
) -> str:
    """Return the exact prompt text of one view.

    Args:
        messages: The conversation.
        tokenizer: The model's, with its chat template.
        placeholder: What stands in the place of hidden segments.
        revealed: The units whose text is shown; none by default.
        tools: JSON schemas or functions for the chat template's ``tools``; public.

    Raises:
        ViewError: If the conversation is empty or the template refuses it.
    """
    if not messages:
        raise ViewError("The conversation is empty. Give at least one message.")
    if not getattr(tokenizer, "chat_template", None):
        raise ViewError(f"The model has no chat template. {_TEMPLATE_HINT}")
    conversation = [_turn(message, placeholder, revealed or set()) for message in messages]
    refusal = partial(_refusal, tokenizer, conversation, tools, is_public=not revealed)
    with errors_as(ViewError, refusal):
        return _apply(tokenizer, conversation, tools)


def _turn(message: Message, placeholder: Placeholder, revealed: set[str]) -> dict[str, Any]:
    """Return a message as chat templates want it, with only the revealed units' text."""
    parts = (
        hide(segment, placeholder) if segment.is_private and segment.unit not in revealed else segment.text
        for segment in message.segments
    )
    turn: dict[str, Any] = {"role": message.role, "content": "".join(parts)}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for call in message.tool_calls
        ]
    more = {"tool_call_id": message.tool_call_id, "name": message.name}
    return turn | {key: value for key, value in more.items() if value is not None}


def _apply(
    tokenizer: Tokenizer, conversation: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None
) -> str:
    is_continuation = conversation[-1]["role"] == "assistant"
    return str(
        tokenizer.apply_chat_template(
            conversation,
            tools=list(tools) if tools else None,
            tokenize=False,
            add_generation_prompt=not is_continuation,
            continue_final_message=is_continuation,
        )
    )


def _refusal(
    tokenizer: Tokenizer,
    conversation: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] | None,
    cause: Exception,
    *,
    is_public: bool,
) -> str:
    """Say which message the template refuses and why, without a word of any message."""
    number = len(conversation)
    for end in range(1, len(conversation)):
        try:
            _apply(tokenizer, conversation[:end], tools)
        except Exception:  # noqa: BLE001  the question is only whether it raises
            number = end
            break
    role = conversation[number - 1]["role"]
    # A template's own words are fixed text, but it could quote content: then they are withheld.
    reason = str(cause)
    is_fixed = is_public and isinstance(cause, TemplateError)
    is_quoting = any(message["content"] and message["content"] in reason for message in conversation)
    words = f" It says: {reason[:200]!r}." if is_fixed and reason and not is_quoting else ""
    return (
        f"The model's chat template refuses message {number} of {len(conversation)} (role {role!r})."
        f"{words} Joining messages of one role, and system messages with user messages, does not help: "
        "move, merge or re-role that message, or set `tokenizer.chat_template`."
    )


def _encode(tokenizer: Tokenizer, prompt: str) -> tuple[int, ...]:
    """Tokenise a rendered prompt; the template has already put every special token where it belongs."""
    ids = encode(tokenizer, prompt)
    if not ids:
        raise ViewError("The prompt is empty after tokenisation. Give a message with text.")
    return ids
