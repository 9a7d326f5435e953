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

from dpfusion_core.generation import Chunk, GenerationResult
from dpfusion_core.tool_calling import parse_tool_calls, visible_length
from llamaindex_dpfusion.claims import release


class Reply:
    """Joins the chunks of one response.

    Args:
        tools: The tools that were offered.
    """

    def __init__(self, tools: Sequence[Any] = ()) -> None:
        self._tools = tools
        self._text = ""
        self._shown = ""
        self._last: Chunk | GenerationResult | None = None

    def add(self, chunk: Chunk | GenerationResult) -> str:
        """Take a chunk, or the whole answer, and return the text that may be shown now."""
        self._text += chunk.text
        visible = self._text
        if chunk.finish_reason is not None:
            self._last = chunk
            release(self._text)  # under its guarantee
            visible = self.content if self.content.startswith(self._shown) else self._shown
        elif self._tools:
            visible = self._text[: visible_length(self._text)]
        delta = visible[len(self._shown) :]
        self._shown = visible
        return delta

    @property
    def content(self) -> str:
        """The text so far without calls of tools."""
        return parse_tool_calls(self._text, self._tools).content if self._tools else self._text

    def chat(self, delta: str | None = None) -> ChatResponse:
        """Return the response so far; the last one holds the guarantee and the calls of tools."""
        if self._last is None:
            message = ChatMessage(self._shown, role=MessageRole.ASSISTANT)
            return ChatResponse(message=message, delta=delta)
        parsed = parse_tool_calls(self._text, self._tools)
        blocks: list[TextBlock | ToolCallBlock] = [TextBlock(text=parsed.content)]
        blocks += [
            ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=dict(call.arguments))
            for call in parsed.tool_calls
        ]
        message = ChatMessage(
            role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs={"dp_fusion": self._guarantee()}
        )
        raw = self._raw()
        return ChatResponse(message=message, raw=raw, delta=delta, additional_kwargs=raw["usage"])

    def completion(self, delta: str | None = None) -> CompletionResponse:
        """Return the response so far; the last one holds the guarantee."""
        if self._last is None:
            return CompletionResponse(text=self._shown, delta=delta)
        raw = self._raw()
        kwargs = {"dp_fusion": raw["dp_fusion"], **raw["usage"]}
        return CompletionResponse(text=self._text, raw=raw, delta=delta, additional_kwargs=kwargs)

    def _guarantee(self) -> dict[str, Any]:
        return self._last.guarantee.as_dict() if self._last and self._last.guarantee else {}

    def _usage(self) -> dict[str, int]:
        read = self._last.prompt_tokens if self._last and self._last.prompt_tokens else 0
        written = self._guarantee().get("tokens", 0)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _raw(self) -> dict[str, Any]:
        reason: str | None = self._last.finish_reason if self._last else None
        if self._tools and parse_tool_calls(self._text, self._tools).tool_calls:
            reason = "tool_calls"
        return {"dp_fusion": self._guarantee(), "finish_reason": reason, "usage": self._usage()}


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
