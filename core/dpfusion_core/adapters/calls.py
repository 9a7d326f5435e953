"""One call of an engine: within a time limit, tried again if the model fails, ended when it is cancelled.

A call asks for text, or for an answer out of few, which comes as a text of one piece.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dpfusion_core.adapters.closed import Closed, closed_answer
from dpfusion_core.consensus import Consensus
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import BackendError, PrivacyParameterError
from dpfusion_core.generation import Chunk, GenerationResult, join_chunks
from dpfusion_core.messages import Message
from dpfusion_core.options import GenerationOptions
from dpfusion_core.views import Views


@dataclass(frozen=True)
class Call:
    """What one call asks of an engine, and how long and how often it may.

    A call that fails is tried again as long as none of its text is released: a whole answer at any token, a
    stream before its first chunk. Each attempt is charged for the tokens that it has drawn. One clock runs
    over all attempts, from when the answer is asked for. It is looked at between tokens, and what is late is
    not tried again. Closing a stream and cancelling a task end the generation and free the model's memory.

    Args:
        engine: Answers the call; or a consensus over another model, which knows no choices.
        source: The conversation, or ready views.
        options: The engine's options.
        timeout: Seconds that the answer may take; None for any time.
        max_retries: How many times more it is tried if the model fails.
        choices: The answer is one of these, if any are given; see
            :meth:`FusionEngine.choose <dpfusion_core.FusionEngine.choose>`.

    Raises:
        PrivacyParameterError: If choices are asked of a consensus over another model.

    Example:
        >>> engine = FusionEngine.from_pretrained("dpfusion-tiny")
        >>> call = Call(engine, [Message("user", "Hello.")], {"max_tokens": 4}, timeout=60.0)
        >>> "".join(chunk.text for chunk in call.stream()) != ""
        True
    """

    engine: FusionEngine | Consensus
    source: Sequence[Message] | Views = field(repr=False)
    options: GenerationOptions = field(repr=False)
    timeout: float | None = None
    max_retries: int = 0
    choices: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.choices is not None and isinstance(self.engine, Consensus):
            raise PrivacyParameterError(
                "A consensus over another model writes its answer. Choices are for a model of ours: leave them out."
            )

    @cached_property
    def closed(self) -> Closed | None:
        """How the call is answered by choices; None if its answer is written."""
        return closed_answer(self.source, self.options, self.choices)

    @property
    def shares_passes(self) -> bool:
        """Whether it may be answered together with others, in the same forward passes of one engine."""
        return self.timeout is None and self.closed is None and isinstance(self.engine, FusionEngine)

    def run(self, first: Callable[[], GenerationResult] | None = None) -> GenerationResult:
        """Return the whole answer.

        Args:
            first: Gets the answer the first time, in the place of this call alone: together with others.

        Raises:
            BackendError: If the model fails too often, or the answer is not finished in time.
            DPFusionError: See :meth:`FusionEngine.generate <dpfusion_core.FusionEngine.generate>`.
        """
        attempts = _Attempts(self)
        while True:
            try:
                if first is not None and attempts.failures == 0:
                    return first()
                return join_chunks(list(self._chunks(attempts)))
            except BackendError:
                if attempts.is_last():
                    raise

    async def arun(self, first: Callable[[], Awaitable[GenerationResult]] | None = None) -> GenerationResult:
        """Return the whole answer without blocking the event loop; see :meth:`run`."""
        attempts = _Attempts(self)
        while True:
            try:
                if first is not None and attempts.failures == 0:
                    return await first()
                async with aclosing(self._achunks(attempts)) as chunks:
                    return join_chunks([chunk async for chunk in chunks])
            except BackendError:
                if attempts.is_last():
                    raise

    def stream(self) -> Generator[Chunk, None, None]:
        """Yield the answer in pieces, the last one with the guarantee; for errors see :meth:`run`."""
        attempts = _Attempts(self)
        has_begun = False
        while True:
            try:
                with closing(self._chunks(attempts)) as chunks:
                    for chunk in chunks:
                        has_begun = True
                        yield chunk
                return
            except BackendError:
                if has_begun or attempts.is_last():
                    raise

    async def astream(self) -> AsyncGenerator[Chunk, None]:
        """Yield the answer in pieces without blocking the event loop; see :meth:`stream`."""
        attempts = _Attempts(self)
        has_begun = False
        while True:
            try:
                async with aclosing(self._achunks(attempts)) as chunks:
                    async for chunk in chunks:
                        has_begun = True
                        yield chunk
                return
            except BackendError:
                if has_begun or attempts.is_last():
                    raise

    @property
    def _engine(self) -> Any:  # the options of the two are not of one type
        return self.engine

    def _chunks(self, attempts: "_Attempts") -> Generator[Chunk, None, None]:
        if self.closed is not None:
            yield self.closed.answer(self._engine, self.source, self.options)
            return
        with closing(self._engine.stream(self.source, **self.options)) as chunks:
            for chunk in chunks:
                yield attempts.in_time(chunk)

    async def _achunks(self, attempts: "_Attempts") -> AsyncGenerator[Chunk, None]:
        if self.closed is not None:
            yield await asyncio.to_thread(self.closed.answer, self._engine, self.source, self.options)
            return
        async with aclosing(self._engine.astream(self.source, **self.options)) as chunks:
            async for chunk in chunks:
                yield attempts.in_time(chunk)


class _Attempts:
    """Counts the attempts of a call and watches its clock, which starts now."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._deadline = math.inf if call.timeout is None else time.monotonic() + call.timeout
        self.failures = 0

    def in_time(self, chunk: Chunk) -> Chunk:
        """Return a chunk, if it is not late or the answer is finished with it."""
        if chunk.finish_reason is None and self._is_late():
            timeout = self._call.timeout
            raise BackendError(f"The answer was not finished within timeout={timeout} seconds.")
        return chunk

    def is_last(self) -> bool:
        """Note that an attempt has failed; return whether there is no other."""
        self.failures += 1
        return self.failures > self._call.max_retries or self._is_late()

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline
