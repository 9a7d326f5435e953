"""From the engine's chunks to LlamaIndex's responses."""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)

from dpfusion_core.adapters import FinishedReply, Reply
from dpfusion_core.generation import Chunk, GenerationResult
from llamaindex_dpfusion.prompts.net import seen_of_units


class Response:
    """Joins the chunks of one response; the last one brings the guarantee and the calls of tools.

    Args:
        tools: The tools that were offered.
    """

    def __init__(self, tools: Sequence[Any] = ()) -> None:
        self._reply = Reply(tools)

    def add(self, chunk: Chunk | GenerationResult) -> str:
        """Take a chunk, or the whole answer, and return the text that may be shown now."""
        text = self._reply.add(chunk)
        if self._reply.is_finished and self._reply.finished.is_released:
            seen_of_units.release(self._reply.finished.text)
        return text

    def chat(self, delta: str | None = None) -> ChatResponse:
        """Return the response so far."""
        if not self._reply.is_finished:
            message = ChatMessage(self._reply.shown, role=MessageRole.ASSISTANT)
            return ChatResponse(message=message, delta=delta)
        end = self._reply.finished
        blocks: list[TextBlock | ToolCallBlock] = [TextBlock(text=end.content)]
        blocks += [
            ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=dict(call.arguments))
            for call in end.tool_calls
        ]
        raw = _raw(end)
        message = ChatMessage(
            role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs={"dp_fusion": raw["dp_fusion"]}
        )
        return ChatResponse(message=message, raw=raw, delta=delta, additional_kwargs=raw["usage"])

    def completion(self, delta: str | None = None) -> CompletionResponse:
        """Return the response so far, as text alone: calls of tools stand in it as they were written."""
        if not self._reply.is_finished:
            return CompletionResponse(text=self._reply.shown, delta=delta)
        raw = _raw(self._reply.finished)
        kwargs = {"dp_fusion": raw["dp_fusion"], **raw["usage"]}
        text = self._reply.finished.text
        return CompletionResponse(text=text, raw=raw, delta=delta, additional_kwargs=kwargs)


def _raw(end: FinishedReply) -> dict[str, Any]:
    """Return what is said about a response; none of it depends on private data."""
    read, written = end.prompt_tokens, end.guarantee.tokens
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return {"dp_fusion": end.as_dict(), "finish_reason": end.finish_reason, "usage": usage}


def deltas(responses: Generator[Any, None, None]) -> Generator[str, None, None]:
    """Yield the new text of each response; closing it closes the responses."""
    with closing(responses):
        for response in responses:
            yield response.delta or ""


async def adeltas(responses: AsyncGenerator[Any, None]) -> AsyncGenerator[str, None]:
    """Yield the new text of each response; closing it closes the responses."""
    async with aclosing(responses):
        async for response in responses:
            yield response.delta or ""
