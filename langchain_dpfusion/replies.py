"""From the engine's answers to LangChain's messages."""

import json
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from dpfusion_core.adapters import seen
from dpfusion_core.generation import Chunk, FinishReason, GenerationResult
from dpfusion_core.privacy import PrivacyGuarantee
from dpfusion_core.tool_calling import CLOSE, OPEN, ParsedReply, parse_tool_calls, visible_length
from langchain_dpfusion.messages import GUARANTEE_KEY

PROVIDER = "dpfusion"


@dataclass(frozen=True)
class Replies:
    """Writes the engine's answer as LangChain's, whole or in pieces.

    Args:
        model_name: For the answer's metadata.
        tools: The tools whose calls are looked for.
    """

    model_name: str
    tools: Sequence[Any] = ()

    def whole(self, result: GenerationResult) -> ChatResult:
        """Return a whole answer."""
        return to_result(result, self.model_name, self.tools)

    def pieces(self, chunks: Generator[Chunk, None, None]) -> Generator[ChatGenerationChunk, None, None]:
        """Yield an answer as its chunks come; closing this closes them."""
        replies = ReplyStream(self.model_name, self.tools)
        with closing(chunks):
            for chunk in chunks:
                yield from replies.push(chunk)

    async def apieces(self, chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[ChatGenerationChunk, None]:
        """Yield an answer as its chunks come, without blocking the event loop; closing this closes them."""
        replies = ReplyStream(self.model_name, self.tools)
        async with aclosing(chunks):
            async for chunk in chunks:
                for shown in replies.push(chunk):
                    yield shown


def to_result(result: GenerationResult, model_name: str, tools: Sequence[Any]) -> ChatResult:
    """Return a whole answer as LangChain's result."""
    _release(result.text, result.guarantee)
    reply = parse_tool_calls(result.text, tools)
    message = AIMessage(
        content=reply.content,
        tool_calls=[{"name": c.name, "args": dict(c.arguments), "id": c.id} for c in reply.tool_calls],
        invalid_tool_calls=[
            {
                "type": "invalid_tool_call",
                "name": None,
                "args": _invalid(bad.text),
                "id": None,
                "error": bad.error,
            }
            for bad in reply.invalid
        ],
        **_facts(result.finish_reason, result.guarantee, result.prompt_tokens, model_name, reply),
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


class ReplyStream:
    """Turns the engine's chunks into LangChain's, one for one.

    Text is held back from where a call of a tool begins, or could begin; the calls come with the last
    chunk, complete.

    Args:
        model_name: For the metadata of the last chunk.
        tools: The tools that were offered.
    """

    def __init__(self, model_name: str, tools: Sequence[Any]) -> None:
        self._model_name = model_name
        self._tools = tools
        self._text = ""
        self._shown = 0

    def push(self, chunk: Chunk) -> list[ChatGenerationChunk]:
        """Return what a chunk shows: one chunk, or none if that is nothing yet."""
        self._text += chunk.text
        if chunk.finish_reason is not None and chunk.guarantee is not None:
            return [self._last(chunk.finish_reason, chunk.guarantee, chunk.prompt_tokens or 0)]
        end = visible_length(self._text) if self._tools else len(self._text)
        text, self._shown = self._text[self._shown : end], max(self._shown, end)
        return [ChatGenerationChunk(message=AIMessageChunk(content=text))] if text else []

    def _last(
        self, finish: FinishReason, guarantee: PrivacyGuarantee, prompt_tokens: int
    ) -> ChatGenerationChunk:
        _release(self._text, guarantee)
        reply = parse_tool_calls(self._text, self._tools)
        shown = self._text[: self._shown]
        rest = reply.content.removeprefix(shown) if reply.content.startswith(shown) else ""
        calls = [(call.name, json.dumps(dict(call.arguments)), call.id) for call in reply.tool_calls]
        calls += [(None, _invalid(bad.text), None) for bad in reply.invalid]  # type: ignore[misc]
        message = AIMessageChunk(
            content=rest,
            tool_call_chunks=[
                {"type": "tool_call_chunk", "name": name, "args": arguments, "id": id_, "index": index}
                for index, (name, arguments, id_) in enumerate(calls)
            ],
            chunk_position="last",
            **_facts(finish, guarantee, prompt_tokens, self._model_name, reply),
        )
        return ChatGenerationChunk(message=message)


def _release(text: str, guarantee: PrivacyGuarantee) -> None:
    """Note that an answer is public now, whatever it quotes."""
    if guarantee.units and guarantee.private:
        seen.release(text)


def _facts(
    finish: FinishReason, guarantee: PrivacyGuarantee, prompt_tokens: int, model_name: str, reply: ParsedReply
) -> dict[str, Any]:
    """Return what is said about an answer; none of it depends on private data."""
    return {
        "usage_metadata": {
            "input_tokens": prompt_tokens,  # of the public view: the length of a private one is private
            "output_tokens": guarantee.tokens,
            "total_tokens": prompt_tokens + guarantee.tokens,
        },
        "response_metadata": {
            "model_name": model_name,
            "model_provider": PROVIDER,
            "finish_reason": "tool_calls" if reply.tool_calls else finish,
            GUARANTEE_KEY: guarantee.as_dict(),
        },
    }


def _invalid(text: str) -> str:
    """Return the text of a broken call in its tags: never taken for arguments when chunks are merged."""
    return f"{OPEN}{text}{CLOSE}"
