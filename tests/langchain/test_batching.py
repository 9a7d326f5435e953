"""``batch`` and ``abatch`` run together, and each call keeps its own callbacks, cache and errors."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableLambda

from dpfusion_core import BackendError, DPFusionError, FusionEngine, ScriptedBackend, ViewError
from dpfusion_core.backends.shared import shared_backend
from langchain_dpfusion import ChatDPFusion, mark_private
from langchain_dpfusion.batching import PARALLEL
from tests.langchain.leaks import Recorder
from tests.langchain.scripted import scripted_backend


def echo(prompt: str) -> str:
    """Say the last word of the user, in the view at hand."""
    return prompt.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0].split()[-1]


class Counting(FusionEngine):
    """Notes how many conversations are answered together."""

    def __init__(self, backend: ScriptedBackend) -> None:
        super().__init__(backend)
        self.sizes: list[int] = []

    def batch(self, conversations: Sequence[Any], **options: Any) -> Any:
        self.sizes.append(len(conversations))
        return super().batch(conversations, **options)

    async def abatch(self, conversations: Sequence[Any], **options: Any) -> Any:
        self.sizes.append(len(conversations))
        return await super().abatch(conversations, **options)

    def stream(self, messages: Any, **options: Any) -> Any:
        self.sizes.append(1)
        return super().stream(messages, **options)

    async def astream(self, messages: Any, **options: Any) -> Any:
        self.sizes.append(1)
        async for chunk in super().astream(messages, **options):
            yield chunk


def counted(**options: Any) -> tuple[ChatDPFusion, Counting]:
    engine = Counting(scripted_backend(echo))
    settings: dict[str, Any] = {"epsilon": 8.0, "max_tokens": 8, "unmarked": "public"}
    return ChatDPFusion(engine=engine, **{**settings, **options}), engine


def asking(word: str) -> list[BaseMessage]:
    return [mark_private(HumanMessage("She is ill.")), HumanMessage(f"Say {word}")]


def run(llm: Any, is_async: bool, inputs: Any, config: Any = None, **kwargs: Any) -> Any:
    if is_async:
        return asyncio.run(asyncio.wait_for(llm.abatch(inputs, config, **kwargs), 20))
    return llm.batch(inputs, config, **kwargs)


BOTH = pytest.mark.parametrize("is_async", [False, True])


@BOTH
def test_a_batch_is_answered_together_and_in_order(is_async: bool) -> None:
    llm, engine = counted()
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    answers = run(llm, is_async, [asking(word) for word in words])
    assert [answer.text for answer in answers] == words
    assert engine.sizes == [9]
    assert all(answer.response_metadata["dp_fusion"]["units"] == 1 for answer in answers)


@BOTH
def test_max_concurrency_and_the_default_cut_a_batch_into_parts(is_async: bool) -> None:
    llm, engine = counted()
    run(llm, is_async, [asking("a")] * 5, {"max_concurrency": 2})
    assert engine.sizes == [2, 2, 1]
    engine.sizes.clear()
    run(llm, is_async, [asking("a")] * (PARALLEL + 3))
    assert engine.sizes == [PARALLEL, 3]
    assert run(llm, is_async, []) == []


@BOTH
def test_each_call_keeps_its_own_callbacks(is_async: bool) -> None:
    llm, _ = counted()
    recorders = [Recorder() for _ in range(3)]
    run(
        llm,
        is_async,
        [asking(word) for word in ("a", "b", "c")],
        [{"callbacks": [each]} for each in recorders],
    )
    for word, recorder in zip("abc", recorders, strict=True):
        assert [name for name, _ in recorder.events] == ["on_chat_model_start", "on_llm_end"]
        assert f"Say {word}" in recorder.text("on_chat_model_start")


@BOTH
def test_cached_answers_are_not_waited_for(is_async: bool) -> None:
    llm, engine = counted(cache=InMemoryCache())
    run(llm, is_async, [asking("a"), asking("b")])
    answers = run(llm, is_async, [asking("a"), asking("c"), asking("b"), asking("d")])
    assert [answer.text for answer in answers] == ["a", "c", "b", "d"]
    assert engine.sizes == [2, 2]
    run(llm, is_async, [asking("a"), asking("b")])
    assert engine.sizes == [2, 2]


@BOTH
def test_bad_input_takes_nobody_with_it(is_async: bool) -> None:
    llm, engine = counted()
    bad = [HumanMessage("x", additional_kwargs={"unit": "a"})]
    long = [mark_private(HumanMessage("x " * 3000)), HumanMessage("y")]
    answers = run(llm, is_async, [asking("a"), bad, asking("b"), long], return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == [
        "AIMessage",
        "ViewError",
        "AIMessage",
        "ViewError",
    ]
    assert engine.sizes == [3]
    with pytest.raises(ViewError):
        run(llm, is_async, [asking("a"), bad])


@BOTH
def test_a_failing_model_fails_every_call_and_retries_each(is_async: bool) -> None:
    backend = scripted_backend(echo)
    works, failures = backend._script, [1]

    def flaky(prompt: tuple[int, ...], said: tuple[int, ...]) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise BackendError("The model failed.")
        return works(prompt, said)

    backend._script = flaky
    engine = Counting(backend)
    llm = ChatDPFusion(engine=engine, epsilon=8.0, max_tokens=8, max_retries=1)
    assert [answer.text for answer in run(llm, is_async, [asking("a"), asking("b")])] == ["a", "b"]
    assert engine.sizes == [2, 1]  # only the one that failed is tried again
    failures[0] = 100
    with pytest.raises(DPFusionError):
        run(llm, is_async, [asking("a"), asking("b")])
    assert backend.open_sessions == 0


@BOTH
def test_an_unexpected_error_reaches_every_call(is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    llm, engine = counted()

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("bug")

    monkeypatch.setattr(engine, "abatch" if is_async else "batch", broken)
    with pytest.raises(RuntimeError, match="bug"):
        run(llm, is_async, [asking("a"), asking("b")])


@BOTH
def test_chains_bound_models_and_streaming_models_batch_too(is_async: bool) -> None:
    llm, engine = counted()
    chain = RunnableLambda(asking) | llm.bind(epsilon=4.0)
    answers = run(chain, is_async, ["a", "b", "c"])
    assert [answer.text for answer in answers] == ["a", "b", "c"]
    assert engine.sizes == [3]
    streaming, other = counted(streaming=True)
    assert [a.text for a in run(streaming, is_async, [asking("a"), asking("b")])] == ["a", "b"]
    assert other.sizes == [1, 1]


def test_a_call_within_a_call_does_not_wait_for_the_batch() -> None:
    llm, engine = counted()

    class Nested(Recorder):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            assert llm.invoke(asking("inner"), {"callbacks": []}).text == "inner"

    answers = llm.batch([asking("a"), asking("b")], {"callbacks": [Nested()]})
    assert [answer.text for answer in answers] == ["a", "b"]
    assert sorted(engine.sizes) == [1, 1, 2]


async def test_one_cancelled_call_leaves_the_others() -> None:
    llm, engine = counted()
    calls = [asyncio.ensure_future(llm.ainvoke(asking(word))) for word in "ab"]
    calls[0].cancel()
    assert (await calls[1]).text == "b"
    assert engine.sizes == [1]


def test_real_batches_use_one_forward_pass_per_token() -> None:
    backend = shared_backend("dpfusion-tiny")
    llm = ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, max_tokens=6, seed=1)  # the same answer each time
    passes = []
    hook = backend._model.register_forward_hook(lambda *args: passes.append(1))
    try:
        llm.invoke(asking("a"))
        alone = len(passes)
        passes.clear()
        llm.batch([asking("a")] * 6)
        together = len(passes)
    finally:
        hook.remove()
    assert together == alone + 5 * 2  # two views of five more prompts to read; then a pass per token for all
