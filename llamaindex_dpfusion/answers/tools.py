"""Calls of tools: from LlamaIndex's requests to arguments of ``chat``, and from responses to selections."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection

from dpfusion_core.errors import BackendError
from llamaindex_dpfusion.prompts.messages import sealed_messages

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool


def chat_arguments(
    tools: Sequence["BaseTool"],
    user_msg: str | ChatMessage | None,
    history: list[ChatMessage] | None,
    tool_required: bool,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Return the arguments of ``chat`` for a request with tools."""
    messages = list(history or [])
    if user_msg is not None:
        messages.append(ChatMessage(user_msg) if isinstance(user_msg, str) else user_msg)
    choice = options.pop("tool_choice", None) or ("any" if tool_required else "auto")
    schemas = [tool.metadata.to_openai_tool() for tool in tools]
    return {"messages": messages, "tools": schemas, "tool_choice": choice, **options}


def selections(response: ChatResponse, *, is_needed: bool) -> list[ToolSelection]:
    """Return the calls of tools in a response.

    Raises:
        BackendError: If there is none and one is needed.
    """
    calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    if not calls and is_needed:
        raise BackendError("The model was asked to call a tool and did not. Try tool_required=True.")
    return [
        ToolSelection(
            tool_id=call.tool_call_id or "",
            tool_name=call.tool_name,
            tool_kwargs=call.tool_kwargs if isinstance(call.tool_kwargs, dict) else {},
        )
        for call in calls
    ]


def sealed_history(
    user_msg: str | ChatMessage | None, history: list[ChatMessage] | None
) -> list[ChatMessage] | None:
    """Seal a history without a message of the user: programs have filled in its templates themselves."""
    return history if user_msg is not None or history is None else sealed_messages(history)
