"""From the engine's answers to LangChain's messages."""

import json
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from dpfusion_core.adapters import FinishedReply, Reply
from dpfusion_core.generation import Chunk, GenerationResult
from dpfusion_core.tool_calling import CLOSE, OPEN
from langchain_dpfusion.marked_messages import GUARANTEE_KEY

PROVIDER = "dpfusion"


@dataclass(frozen=True)
class Replies:
    """Writes the engine's answer as LangChain's, whole or in pieces.

    Calls of tools come with the last piece, complete.

    Args:
        model_name: For the answer's metadata.
        tools: The tools whose calls are looked for.
    """

    model_name: str
    tools: Sequence[Any] = ()

    def whole(self, result: GenerationResult) -> ChatResult:
        """Return a whole answer."""
        reply = Reply(self.tools)
        reply.add(result)
        end = reply.finished
        message = AIMessage(
            content=end.content,
            tool_calls=[{"name": c.name, "args": dict(c.arguments), "id": c.id} for c in end.tool_calls],
            invalid_tool_calls=[
                {
                    "type": "invalid_tool_call",
                    "name": None,
                    "args": _invalid(bad.text),
                    "id": None,
                    "error": bad.error,
                }
                for bad in end.invalid
            ],
            **self._facts(end),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def pieces(self, chunks: Generator[Chunk, None, None]) -> Generator[ChatGenerationChunk, None, None]:
        """Yield an answer as its chunks come; closing this closes them."""
        reply = Reply(self.tools)
        with closing(chunks):
            for chunk in chunks:
                yield from self._shown(reply, reply.add(chunk))

    async def apieces(self, chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[ChatGenerationChunk, None]:
        """Yield an answer as its chunks come, without blocking the event loop; closing this closes them."""
        reply = Reply(self.tools)
        async with aclosing(chunks):
            async for chunk in chunks:
                for shown in self._shown(reply, reply.add(chunk)):
                    yield shown

    def _shown(self, reply: Reply, text: str) -> list[ChatGenerationChunk]:
        """Return what a chunk shows: one chunk, or none if that is nothing yet."""
        if not reply.is_finished:
            return [ChatGenerationChunk(message=AIMessageChunk(content=text))] if text else []
        end = reply.finished
        calls: list[tuple[Any, str, Any]] = [
            (call.name, json.dumps(dict(call.arguments)), call.id) for call in end.tool_calls
        ]
        calls += [(None, _invalid(bad.text), None) for bad in end.invalid]
        message = AIMessageChunk(
            content=text,
            tool_call_chunks=[
                {"type": "tool_call_chunk", "name": name, "args": arguments, "id": id_, "index": index}
                for index, (name, arguments, id_) in enumerate(calls)
            ],
            chunk_position="last",
            **self._facts(end),
        )
        return [ChatGenerationChunk(message=message)]

    def _facts(self, end: FinishedReply) -> dict[str, Any]:
        """Return what is said about an answer; none of it depends on private data."""
        return {
            "usage_metadata": {
                "input_tokens": end.prompt_tokens,  # of the public view: the length of a private one is private
                "output_tokens": end.guarantee.tokens,
                "total_tokens": end.prompt_tokens + end.guarantee.tokens,
            },
            "response_metadata": {
                "model_name": self.model_name,
                "model_provider": PROVIDER,
                "finish_reason": end.finish_reason,
                GUARANTEE_KEY: end.as_dict(),
            },
        }


def _invalid(text: str) -> str:
    """Return the text of a broken call in its tags: never taken for arguments when chunks are merged."""
    return f"{OPEN}{text}{CLOSE}"
