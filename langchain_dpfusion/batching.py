"""Calls that LangChain starts side by side meet here, and the engine answers them together.

LangChain's ``batch`` runs each input as a call of its own, in a thread or a task, with its own callbacks,
cache look-up and errors. That stays so: only where a call would ask the engine, it waits for the others.
A call that ends without asking (a cached answer, bad input) is no longer waited for.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import Any, Generic, TypeVar, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list

from dpfusion_core.adapters import Call
from dpfusion_core.engine import FusionEngine
from dpfusion_core.generation import GenerationResult

PARALLEL = 16
"""How many calls are answered together if ``max_concurrency`` does not say."""

_Answer = TypeVar("_Answer", "Future[GenerationResult]", "asyncio.Future[GenerationResult]")


class _Meeting(Generic[_Answer]):
    """Counts who is still to come.

    Args:
        owner: The chat model whose calls meet.
        size: Number of calls.
    """

    def __init__(self, owner: object, size: int) -> None:
        self.owner = owner
        self._expected = size
        self._lock = Lock()
        self._waiting: list[tuple[Call, _Answer]] = []

    def _arrive(self, call: Call, answer: _Answer) -> list[tuple[Call, _Answer]]:
        """Note that a call asks; return all that wait if it was the last to come."""
        with self._lock:
            self._waiting.append((call, answer))
            return self._complete()

    def _depart(self) -> list[tuple[Call, _Answer]]:
        """Note that a call has ended; return all that wait if it was the last to come."""
        with self._lock:
            self._expected -= 1
            return self._complete()

    def _complete(self) -> list[tuple[Call, _Answer]]:
        if len(self._waiting) < self._expected:
            return []
        waiting, self._waiting = self._waiting, []
        return waiting


class ThreadMeeting(_Meeting["Future[GenerationResult]"]):
    """A meeting of threads. The last to come runs the engine for all."""

    def ask(self, call: Call) -> GenerationResult:
        """Wait for the others and return this call's answer."""
        answer: Future[GenerationResult] = Future()
        self._run(self._arrive(call, answer))
        return answer.result()

    def leave(self) -> None:
        """End a call, answered or not."""
        self._run(self._depart())

    def _run(self, waiting: list[tuple[Call, "Future[GenerationResult]"]]) -> None:
        if not waiting:
            return
        calls = [call for call, _ in waiting]
        try:
            results: list[Any] = list(_engine(calls).batch(**_together(calls)))
        except BaseException as error:  # noqa: BLE001  every thread gets it
            results = [error] * len(calls)
        for (_, answer), result in zip(waiting, results, strict=True):
            _deliver(answer, result)


class TaskMeeting(_Meeting["asyncio.Future[GenerationResult]"]):
    """A meeting of tasks. The engine runs in a task of its own, which ends when nobody waits any more."""

    def __init__(self, owner: object, size: int) -> None:
        super().__init__(owner, size)
        self._asked: list[asyncio.Future[GenerationResult]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, call: Call) -> GenerationResult:
        """Wait for the others and return this call's answer."""
        answer: asyncio.Future[GenerationResult] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._start(self._arrive(call, answer))
        return await answer

    async def leave(self) -> None:
        """End a call, answered or cancelled; with the last cancelled one, the engine stops."""
        self._start(self._depart())
        if self._running is not None and all(answer.cancelled() for answer in self._asked):
            self._running.cancel()
            await asyncio.wait({self._running})

    def _start(self, waiting: list[tuple[Call, "asyncio.Future[GenerationResult]"]]) -> None:
        waiting = [(call, answer) for call, answer in waiting if not answer.cancelled()]
        if waiting:
            self._running = asyncio.create_task(self._run(waiting))

    async def _run(self, waiting: list[tuple[Call, "asyncio.Future[GenerationResult]"]]) -> None:
        calls = [call for call, _ in waiting]
        try:
            results: list[Any] = list(await _engine(calls).abatch(**_together(calls)))
        except Exception as error:  # noqa: BLE001  every task gets it
            results = [error] * len(calls)
        for (_, answer), result in zip(waiting, results, strict=True):
            _deliver(answer, result)


_MEETING: ContextVar[ThreadMeeting | TaskMeeting | None] = ContextVar("dpfusion_meeting", default=None)
_SEAT: ContextVar[ThreadMeeting | TaskMeeting | None] = ContextVar("dpfusion_seat", default=None)

_Kind = TypeVar("_Kind", ThreadMeeting, TaskMeeting)


@contextmanager
def open_meeting(meeting: ThreadMeeting | TaskMeeting) -> Iterator[None]:
    """Let the calls that are started in this context meet."""
    token = _MEETING.set(meeting)
    try:
        yield
    finally:
        _MEETING.reset(token)


def cut(
    inputs: Sequence[LanguageModelInput],
    config: RunnableConfig | list[RunnableConfig] | None,
    together: int = PARALLEL,
) -> Iterator[tuple[list[LanguageModelInput], list[RunnableConfig]]]:
    """Cut inputs into those that are answered together; all of a part run at the same time."""
    configs = get_config_list(config, len(inputs)) if inputs else []
    size = max(1, (configs[0].get("max_concurrency") if configs else None) or together)
    for start in range(0, len(inputs), size):
        part = list(inputs[start : start + size])
        yield part, [{**each, "max_concurrency": len(part)} for each in configs[start : start + size]]


@contextmanager
def seat(owner: object) -> Iterator[None]:
    """Take part in the meeting of this context, in a thread; calls within the call do not."""
    with _seated(owner, ThreadMeeting) as meeting:
        try:
            yield
        finally:
            if meeting is not None:
                meeting.leave()


@asynccontextmanager
async def aseat(owner: object) -> AsyncIterator[None]:
    """Take part in the meeting of this context, in a task; calls within the call do not."""
    with _seated(owner, TaskMeeting) as meeting:
        try:
            yield
        finally:
            if meeting is not None:
                await meeting.leave()


def answer(owner: object, call: Call) -> GenerationResult:
    """Answer a call, at the meeting where it has a seat or alone."""
    meeting = _take_seat(owner, call)
    return call.run(partial(meeting.ask, call) if isinstance(meeting, ThreadMeeting) else None)


async def aanswer(owner: object, call: Call) -> GenerationResult:
    """Do what :func:`answer` does without blocking the event loop."""
    meeting = _take_seat(owner, call)
    return await call.arun(partial(meeting.ask, call) if isinstance(meeting, TaskMeeting) else None)


def _take_seat(owner: object, call: Call) -> ThreadMeeting | TaskMeeting | None:
    """Return the meeting at which a call asks, the first time; None if it asks alone."""
    meeting = _SEAT.get()
    if meeting is None or meeting.owner is not owner:
        return None
    _SEAT.set(None)
    return meeting if call.shares_passes else None


@contextmanager
def _seated(owner: object, kind: type[_Kind]) -> Iterator[_Kind | None]:
    """Take a seat at the meeting of this context, if it is one of this kind."""
    meeting = _MEETING.get()
    if not isinstance(meeting, kind) or meeting.owner is not owner:
        yield None
        return
    tokens = _MEETING.set(None), _SEAT.set(meeting)
    try:
        yield meeting
    finally:
        _MEETING.reset(tokens[0])
        _SEAT.reset(tokens[1])


def _engine(calls: list[Call]) -> FusionEngine:
    return cast(FusionEngine, calls[0].engine)  # only such calls share forward passes


def _together(calls: list[Call]) -> dict[str, Any]:
    """Return the arguments of the engine's ``batch``."""
    return {
        "conversations": [call.source for call in calls],
        "each": [call.options for call in calls],
        "return_exceptions": True,
    }


def _deliver(answer: Any, result: GenerationResult | BaseException) -> None:
    if answer.done():  # cancelled
        return
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)
