"""One call of an engine: its clock, its attempts, and its end."""

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dpfusion_core import FusionEngine, Message, ScriptedBackend
from dpfusion_core.adapters import Call, calls
from dpfusion_core.errors import BackendError

QUESTION = [Message("user", "Who?")]
TEXT = "Nobody knows who it was."


class Flaky(ScriptedBackend):
    """Fails at given forward passes, counted over all attempts, and may be slow."""

    fails: frozenset[int] = frozenset()
    delay = 0.0
    passes = 0

    def score(self, prompt: Any, said: Any) -> Any:
        self.passes += 1
        time.sleep(self.delay)
        if self.passes in self.fails:
            raise BackendError("Out of memory.")
        return super().score(prompt, said)


def flaky(*fails: int, delay: float = 0.0) -> Flaky:
    backend = Flaky.saying(TEXT)
    assert isinstance(backend, Flaky)
    backend.fails, backend.delay = frozenset(fails), delay
    return backend


def make(backend: Flaky, **limits: Any) -> Call:
    return Call(FusionEngine(backend), QUESTION, {"max_tokens": 40}, **limits)


async def _astreamed(call: Call) -> str:
    return "".join([chunk.text async for chunk in call.astream()])


async def _awhole(call: Call) -> str:
    return (await call.arun()).text


WHOLE: list[Callable[[Call], str]] = [lambda c: c.run().text, lambda c: asyncio.run(_awhole(c))]
STREAMED: list[Callable[[Call], str]] = [
    lambda c: "".join(chunk.text for chunk in c.stream()),
    lambda c: asyncio.run(_astreamed(c)),
]
ALL = pytest.mark.parametrize("ask", [*WHOLE, *STREAMED], ids=["run", "arun", "stream", "astream"])


@ALL
def test_what_fails_before_its_first_token_is_tried_again(ask: Callable[[Call], str]) -> None:
    backend = flaky(1, 2)
    assert ask(make(backend, max_retries=2)) == TEXT
    assert backend.open_sessions == 0
    with pytest.raises(BackendError, match="Out of memory"):
        ask(make(flaky(1, 2), max_retries=1))


@pytest.mark.parametrize("ask", WHOLE, ids=["run", "arun"])
def test_a_whole_answer_is_tried_again_at_any_token(ask: Callable[[Call], str]) -> None:
    assert ask(make(flaky(3, 7), max_retries=2)) == TEXT


@pytest.mark.parametrize("ask", STREAMED, ids=["stream", "astream"])
def test_a_stream_that_was_begun_is_not_begun_again(ask: Callable[[Call], str]) -> None:
    backend = flaky(4)
    with pytest.raises(BackendError, match="Out of memory"):
        ask(make(backend, max_retries=1000))
    assert backend.passes == 4
    assert backend.open_sessions == 0


@ALL
def test_what_is_late_ends_between_tokens_and_is_not_tried_again(ask: Callable[[Call], str]) -> None:
    backend = flaky(delay=0.03)
    with pytest.raises(BackendError, match=r"not finished within timeout=0\.05"):
        ask(make(backend, timeout=0.05, max_retries=1000))
    assert backend.passes < 6
    assert backend.open_sessions == 0


@ALL
def test_one_clock_runs_over_all_attempts(ask: Callable[[Call], str]) -> None:
    backend = flaky(*range(1, 1000), delay=0.03)
    with pytest.raises(BackendError):
        ask(make(backend, timeout=0.1, max_retries=1000))
    assert backend.passes < 8


def test_the_clock_starts_when_the_answer_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(calls, "time", SimpleNamespace(monotonic=lambda: now[0]))
    chunks = make(flaky(), timeout=1.0).stream()
    now[0] = 100.0
    assert "".join(chunk.text for chunk in chunks) == TEXT


def test_only_the_first_attempt_goes_another_way() -> None:
    ways = []

    def together() -> Any:
        ways.append("together")
        raise BackendError("Out of memory.")

    assert make(flaky(), max_retries=1).run(together).text == TEXT
    assert ways == ["together"]


@pytest.mark.parametrize("is_async", [False, True])
def test_closing_a_stream_frees_the_model(is_async: bool) -> None:
    backend = flaky()

    def close() -> None:
        chunks = make(backend).stream()
        next(chunks)
        assert backend.open_sessions == 1
        chunks.close()

    async def aclose() -> None:
        chunks = make(backend).astream()
        await anext(chunks)
        assert backend.open_sessions == 1
        await chunks.aclose()

    asyncio.run(aclose()) if is_async else close()
    assert backend.open_sessions == 0


def test_a_call_shows_no_text() -> None:
    call = Call(FusionEngine(flaky()), [Message("user", "Ann is ill.")], {"stop": ["Ann"]})
    assert "Ann" not in repr(call)
