"""One call of a chat model: what it asks of the engine, and within which time."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any

from langchain_core.outputs import ChatGenerationChunk, ChatResult

from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import BackendError
from dpfusion_core.generation import Chunk, GenerationResult, join_chunks
from dpfusion_core.messages import Message
from dpfusion_core.options import GenerationOptions
from langchain_dpfusion.replies import ReplyStream, to_result


@dataclass(frozen=True)
class Call:
    """What one call asks of the engine."""

    engine: FusionEngine
    messages: list[Message] = field(repr=False)
    options: GenerationOptions
    model_name: str
    timeout: float | None
    max_retries: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def tools(self) -> Sequence[Any]:
        """The tools whose calls are looked for in the answer."""
        return () if self.options.get("tool_choice") == "none" else self.options.get("tools") or ()

    @property
    def is_late(self) -> bool:
        """Whether the call has taken longer than it may."""
        return self.timeout is not None and time.monotonic() - self.started > self.timeout

    def stream(self) -> Generator[Chunk, None, None]:
        """Yield the engine's chunks.

        Raises:
            BackendError: If the answer is not finished in time.
        """
        with closing(self.engine.stream(self.messages, **self.options)) as chunks:
            for chunk in chunks:
                yield chunk
                if chunk.finish_reason is None and self.is_late:
                    raise self._too_late()

    async def astream(self) -> AsyncGenerator[Chunk, None]:
        """Yield the engine's chunks; cancelling ends the generation and frees the model's memory."""
        async with aclosing(self.engine.astream(self.messages, **self.options)) as chunks:
            async for chunk in chunks:
                yield chunk
                if chunk.finish_reason is None and self.is_late:
                    raise self._too_late()

    def run(self) -> GenerationResult:
        """Return the engine's answer."""
        return join_chunks(list(self.stream()))

    async def arun(self) -> GenerationResult:
        """Return the engine's answer without blocking the event loop."""
        async with aclosing(self.astream()) as chunks:
            return join_chunks([chunk async for chunk in chunks])

    def answer(self, ask: Callable[["Call"], GenerationResult]) -> ChatResult:
        """Return the answer as LangChain's result; if the model fails, the call is tried again alone.

        Args:
            ask: Gets the answer the first time.

        Raises:
            BackendError: If the model fails too often, or the answer is not finished in time.
        """
        failures = 0
        while True:
            try:
                return self._result(self.run() if failures else ask(self))
            except BackendError:
                failures += 1
                if self._gives_up(failures):
                    raise

    async def aanswer(self, ask: Callable[["Call"], Awaitable[GenerationResult]]) -> ChatResult:
        """Do what :meth:`answer` does without blocking the event loop."""
        failures = 0
        while True:
            try:
                return self._result(await (self.arun() if failures else ask(self)))
            except BackendError:
                failures += 1
                if self._gives_up(failures):
                    raise

    def replies(self) -> Generator[ChatGenerationChunk, None, None]:
        """Yield the answer as LangChain's chunks."""
        replies = ReplyStream(self.model_name, self.tools)
        with closing(self.stream()) as chunks:
            for chunk in chunks:
                yield from replies.push(chunk)

    async def areplies(self) -> AsyncGenerator[ChatGenerationChunk, None]:
        """Yield the answer as LangChain's chunks without blocking the event loop."""
        replies = ReplyStream(self.model_name, self.tools)
        async with aclosing(self.astream()) as chunks:
            async for chunk in chunks:
                for shown in replies.push(chunk):
                    yield shown

    def _result(self, result: GenerationResult) -> ChatResult:
        return to_result(result, self.model_name, self.tools)

    def _gives_up(self, failures: int) -> bool:
        return failures > self.max_retries or self.is_late

    def _too_late(self) -> BackendError:
        return BackendError(f"The answer was not finished within timeout={self.timeout:g} seconds.")
