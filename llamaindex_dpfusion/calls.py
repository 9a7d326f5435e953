"""One call of the LLM: what the engine is asked, and its answer whole or in pieces."""

import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import BackendError, BudgetExhaustedError, raise_bare
from dpfusion_core.generation import Chunk
from dpfusion_core.messages import DEFAULT_UNIT, Message
from dpfusion_core.options import GenerationOptions
from dpfusion_core.views import Views
from llamaindex_dpfusion.replies import Reply

R = TypeVar("R")


@dataclass(frozen=True)
class Call:
    """A call that has been translated.

    Attributes:
        engine: Answers it.
        source: The conversation, or the views of a ready prompt.
        options: The engine's options.
        said: The options as the caller has said them.
        timeout: Seconds after which it is given up; None for never.
        max_retries: How often it is tried again if the model fails before the first token.
    """

    engine: FusionEngine
    source: list[Message] | Views = field(repr=False)
    options: GenerationOptions
    said: dict[str, Any]
    timeout: float | None = None
    max_retries: int = 0

    def whole(self) -> Reply:
        """Answer at once."""
        reply = self._reply()
        with closing(self._chunks()) as chunks:
            for chunk in chunks:
                reply.add(chunk)
        return reply

    async def awhole(self) -> Reply:
        """Answer at once, without blocking the event loop."""
        reply = self._reply()
        async with aclosing(self._achunks()) as chunks:
            async for chunk in chunks:
                reply.add(chunk)
        return reply

    def pieces(self, respond: Callable[[Reply, str], R]) -> Generator[R, None, None]:
        """Answer in pieces, with chats or completions that grow."""
        reply = self._reply()
        with closing(self._chunks()) as chunks:
            for chunk in chunks:
                yield respond(reply, reply.add(chunk))

    async def apieces(self, respond: Callable[[Reply, str], R]) -> AsyncGenerator[R, None]:
        """Answer in pieces, without blocking the event loop."""
        reply = self._reply()
        async with aclosing(self._achunks()) as chunks:
            async for chunk in chunks:
                yield respond(reply, reply.add(chunk))

    def _reply(self) -> Reply:
        is_none = self.options.get("tool_choice") == "none"
        return Reply(() if is_none else self.options.get("tools") or ())

    def _chunks(self) -> Generator[Chunk, None, None]:
        watch = _Watch(self.timeout)
        for attempt in range(self.max_retries + 1):
            try:
                with closing(self.engine.stream(self.source, **self.options)) as chunks:
                    yield from map(watch, chunks)
                return
            except BudgetExhaustedError as error:
                raise_bare(_with_advice(error))
            except BackendError:
                if watch.has_begun or watch.is_late or attempt == self.max_retries:
                    raise

    async def _achunks(self) -> AsyncGenerator[Chunk, None]:
        watch = _Watch(self.timeout)
        for attempt in range(self.max_retries + 1):
            try:
                async with aclosing(self.engine.astream(self.source, **self.options)) as chunks:
                    async for chunk in chunks:
                        yield watch(chunk)
                return
            except BudgetExhaustedError as error:
                raise_bare(_with_advice(error))
            except BackendError:
                if watch.has_begun or watch.is_late or attempt == self.max_retries:
                    raise


def _with_advice(error: BudgetExhaustedError) -> BudgetExhaustedError:
    if DEFAULT_UNIT not in error.units:
        return error
    return BudgetExhaustedError(
        f"{error} The unit {DEFAULT_UNIT!r} is that of private text which names none, of the whole app: documents "
        "without DPFusionNodePostprocessor, bare prompts, conversations that a chat engine condenses, answers that "
        "are refined. Name one for each session with DPFusionLLM(unit=...), spare condensing with "
        "skip_condense=True, and put arguments that are public, such as existing_answer, into public_arguments.",
        units=error.units,
        largest_share=error.largest_share,
    )


class _Watch:
    """Watches the chunks of a call, all its attempts together, for its timeout."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self.has_begun = False

    def __call__(self, chunk: Chunk) -> Chunk:
        self.has_begun = True
        if self.is_late and chunk.finish_reason is None:
            raise BackendError(f"The answer was not finished within timeout={self._timeout:g} seconds.")
        return chunk

    @property
    def is_late(self) -> bool:
        """Whether the call has taken longer than it may."""
        return self._deadline is not None and time.monotonic() > self._deadline
