"""A planted secret is found in nothing that our model lets out, however it is called."""

import asyncio
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.globals import set_debug, set_llm_cache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, convert_to_messages
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import LangChainTracer
from pydantic import BaseModel, SecretStr

from dpfusion_core import (
    BackendError,
    DPFusionError,
    FusionEngine,
    PrivacyBudget,
    PrivacyLedger,
    ScriptedBackend,
)
from dpfusion_core.errors import RefusedError
from dpfusion_core.tagging import PhraseTagger
from langchain_dpfusion import (
    ChatDPFusion,
    mark_private,
    private_block,
)
from tests.core.models import CharTokenizer, random_model
from tests.langchain.leaks import SECRET, Recorder, Sent, as_text, log_records
from tests.langchain.scripted import scripted_engine

TOLD = "The answer is not in the public record."


def chat(says: Any = TOLD, **options: Any) -> ChatDPFusion:
    settings = {"epsilon": 8.0, "max_tokens": 60, "unmarked": "public"}
    return ChatDPFusion(engine=scripted_engine(says), **{**settings, **options})


CONVERSATIONS: dict[str, list[Any]] = {
    "message": [mark_private(HumanMessage(f"Her name is {SECRET}.")), HumanMessage("What is her name?")],
    "unit": [
        mark_private(HumanMessage(f"Her name is {SECRET}."), "doc-1"),
        HumanMessage("What is her name?"),
    ],
    "span": [HumanMessage([private_block(SECRET, "doc-1"), " is ill. Who is ill?"])],
    "metadata": [
        HumanMessage(SECRET, response_metadata={"is_private": True, "copy": SECRET}),
        HumanMessage("?"),
    ],
    "tool": [
        HumanMessage("Who?"),
        AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]),
        ToolMessage(SECRET, tool_call_id="1", artifact={"documents": [SECRET]}),
    ],
    "artifact": [
        mark_private(HumanMessage("Ann")),
        HumanMessage("Who?", additional_kwargs={"documents": [Document(SECRET)]}),
        AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]),
        ToolMessage(
            "Found 1.",
            tool_call_id="1",
            artifact=[Document(SECRET)],
            additional_kwargs={"is_private": False},
        ),
    ],
    "system": [mark_private(SystemMessage(f"The records: {SECRET}")), HumanMessage("Who?")],
    "assistant": [HumanMessage("Who?"), mark_private(AIMessage(SECRET)), HumanMessage("Are you sure?")],
    "dict": [{"role": "user", "content": SECRET, "additional_kwargs": {"is_private": True}}, ("human", "?")],
}

WAYS: dict[str, Callable[[ChatDPFusion, Any, Any], Any]] = {
    "invoke": lambda llm, messages, config: llm.invoke(messages, config),
    "stream": lambda llm, messages, config: list(llm.stream(messages, config)),
    "batch": lambda llm, messages, config: llm.batch([messages, messages], config),
    "generate": lambda llm, messages, config: llm.generate(
        [llm._convert_input(messages).to_messages()], callbacks=config["callbacks"]
    ),
    "generate raw": lambda llm, messages, config: llm.generate(
        [convert_to_messages(messages)], callbacks=config["callbacks"]
    ),
    "generate_prompt": lambda llm, messages, config: llm.generate_prompt(
        [ChatPromptValue(messages=convert_to_messages(messages))], callbacks=config["callbacks"]
    ),
    "ainvoke": lambda llm, messages, config: asyncio.run(llm.ainvoke(messages, config)),
    "astream": lambda llm, messages, config: asyncio.run(_drain(llm.astream(messages, config))),
    "abatch": lambda llm, messages, config: asyncio.run(llm.abatch([messages, messages], config)),
    "agenerate": lambda llm, messages, config: asyncio.run(
        llm.agenerate_prompt(
            [ChatPromptValue(messages=convert_to_messages(messages))],
            callbacks=config["callbacks"],
        )
    ),
    "astream_events": lambda llm, messages, config: asyncio.run(
        _drain(llm.astream_events(messages, config, version="v2"))
    ),
    "astream_log": lambda llm, messages, config: asyncio.run(_drain(llm.astream_log(messages, config))),
    "stream_events v3": lambda llm, messages, config: _output(
        llm.stream_events(messages, config, version="v3")
    ),
    "astream_events v3": lambda llm, messages, config: asyncio.run(_aoutput(llm, messages, config)),
    "with_structured_output": lambda llm, messages, config: _told(
        llm.with_structured_output({"title": "Told", "type": "object", "properties": {}}).invoke(
            messages, config
        )
    ),
    "with_structured_output, streamed": lambda llm, messages, config: _told(
        list(llm.with_structured_output(Told, include_raw=True).stream(messages, config))
    ),
    "with_retry": lambda llm, messages, config: llm.with_retry().invoke(messages, config),
    "with_retry, batch": lambda llm, messages, config: llm.with_retry().batch([messages] * 2, config),
    "with_retry of a binding": lambda llm, messages, config: (
        llm.bind(max_tokens=50).with_retry().invoke(messages, config)
    ),
    "structured output with_retry and with_fallbacks": lambda llm, messages, config: _told(
        llm.with_structured_output(Told, method="json_schema")
        .with_retry()
        .with_fallbacks([llm.with_structured_output(Told)])
        .invoke(messages, config)
    ),
    "with_fallbacks": lambda llm, messages, config: llm.with_fallbacks([llm]).invoke(messages, config),
    "with_fallbacks of a binding": lambda llm, messages, config: (
        llm.bind_tools([Told]).with_fallbacks([llm]).invoke(messages, config)
    ),
    "with_fallbacks, astream": lambda llm, messages, config: asyncio.run(
        _drain(llm.with_config(tags=["a"]).with_fallbacks([llm]).astream(messages, config))
    ),
    "with_fallbacks, transform": lambda llm, messages, config: list(
        llm.with_fallbacks([llm]).transform(iter([convert_to_messages(messages)]), config)
    ),
    "with_fallbacks, abatch": lambda llm, messages, config: asyncio.run(
        llm.with_fallbacks([llm]).with_retry().abatch([messages, messages], config)
    ),
    "with_fallbacks, as completed": lambda llm, messages, config: list(
        llm.with_fallbacks([llm]).batch_as_completed([messages, messages], config)
    ),
    "with_fallbacks, async as completed": lambda llm, messages, config: asyncio.run(
        _drain(llm.with_fallbacks([llm]).abatch_as_completed([messages, messages], config))
    ),
    "tools of fallbacks": lambda llm, messages, config: (
        llm.with_fallbacks([llm]).bind_tools([Told]).invoke(messages, config)
    ),
    "as a sequence": lambda llm, messages, config: (RunnableLambda(lambda _: messages) | llm).invoke(
        "go", {"callbacks": [Only(config["callbacks"][0]), *config["callbacks"][1:]]}
    ),
}


class Told(BaseModel):
    """What is told."""


def _told(answer: Any) -> Any:
    return [answer, TOLD]  # an empty object, as its schema wants it


class Only(Recorder):
    """Passes on the events of chat models: those of a chain's other steps are the application's."""

    def __init__(self, target: Recorder) -> None:
        self.events = target.events

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_") and not ("llm" in name or "chat_model" in name or "stream_event" in name):
            return lambda *args, **kwargs: None
        return super().__getattribute__(name)


def _output(stream: Any) -> Any:
    return [list(stream), stream.output]


async def _aoutput(llm: ChatDPFusion, messages: Any, config: Any) -> Any:
    stream: Any = await llm.astream_events(messages, config, version="v3")
    return [[event async for event in stream], await stream.output]


async def _drain(items: Any) -> list[Any]:
    return [item async for item in items]


@pytest.mark.filterwarnings("ignore:The method .* is in beta")  # v3 events
@pytest.mark.filterwarnings("ignore:astream_log is deprecated")  # and still there
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("way", WAYS)
def test_callbacks_traces_and_logs_never_hold_the_secret(way: str, conversation: str, capsys: Any) -> None:
    recorder, sent = Recorder(), Sent()
    config: Any = {"callbacks": [recorder]}
    if way != "as a sequence":
        config["callbacks"].append(LangChainTracer(client=sent.client()))
    with log_records() as logged:
        set_debug("sequence" not in way)
        try:
            result = WAYS[way](chat(), CONVERSATIONS[conversation], config)
        finally:
            set_debug(False)
    assert TOLD.split()[1] in as_text(result)  # it did answer
    assert "on_chat_model_start" in {name for name, _ in recorder.events}
    assert "____" in recorder.text("on_chat_model_start")
    assert SECRET not in recorder.text()
    assert SECRET not in sent.text
    assert SECRET not in as_text(result)
    assert SECRET not in "\n".join(logged)
    assert SECRET not in "".join(capsys.readouterr())


def test_a_fallback_that_is_another_model_gets_placeholders() -> None:
    heard: list[str] = []

    class Other(GenericFakeChatModel):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            heard.append(as_text(messages))
            return super()._generate(messages, *args, **kwargs)

    other = Other(messages=iter([AIMessage("I know nothing.")] * 9))
    failing = ChatDPFusion(engine=FusionEngine(failing_backend()), epsilon=8.0, max_tokens=60)
    for llm in (failing.with_fallbacks([other]), failing.bind(max_tokens=9).with_fallbacks([other])):
        assert llm.invoke(CONVERSATIONS["message"]).text == "I know nothing."
        assert llm.batch([CONVERSATIONS["span"]])[0].text == "I know nothing."
    assert len(heard) == 4
    assert SECRET not in "".join(heard)


def test_a_batch_behind_a_seal_gives_each_input_its_own_error() -> None:
    llm = chat(unmarked="strict").with_retry(stop_after_attempt=1)
    public = HumanMessage("Hello", additional_kwargs={"is_private": False})
    first, second = llm.batch([[public], [HumanMessage(SECRET)]], return_exceptions=True)
    assert first.text == TOLD
    assert isinstance(second, RefusedError)
    with pytest.raises(RefusedError):
        llm.batch([[public], [HumanMessage(SECRET)]])


# --- Caches ---


class Rows(InMemoryCache):
    """A cache whose rows can be read."""

    @property
    def text(self) -> str:
        return as_text(self._cache)


def answers(prompt: str) -> str:
    """Say which of two private names is in the prompt, so that a mix-up would show."""
    return next((name for name in ("Alice", "Bob") if name in prompt), "nobody")


def ask(name: str, **kwargs: Any) -> list[Any]:
    return [mark_private(HumanMessage(f"Her name is {name}."), **kwargs), HumanMessage("Who?")]


def cached(rows: Rows, **options: Any) -> ChatDPFusion:
    # Large alpha * beta: the answer follows the private view, so that a mix-up of answers would show.
    settings: dict[str, Any] = {"epsilon": None, "alpha": 2.0, "beta": 200.0, "cache": rows, "max_tokens": 8}
    return chat(answers, **{**settings, **options})


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("trace_private", [False, True])
def test_rows_of_the_cache_hold_a_digest_of_the_text(is_async: bool, trace_private: bool) -> None:
    rows = Rows()
    llm = cached(rows, trace_private=trace_private)
    messages = CONVERSATIONS["unit"]
    asyncio.run(llm.ainvoke(messages)) if is_async else llm.invoke(messages)
    assert len(rows._cache) == 1
    assert SECRET not in rows.text
    assert "dp_fusion_digest" in rows.text


def test_the_cache_tells_private_texts_units_and_settings_apart() -> None:
    rows = Rows()
    llm = cached(rows)
    assert llm.invoke(ask("Alice")).text == "Alice"
    assert llm.invoke(ask("Bob")).text == "Bob"
    llm.invoke(ask("Alice", unit="a"))
    llm.invoke(ask("Alice"), beta=100.0)
    llm.invoke(ask("Alice"), stop=["x"])
    assert len(rows._cache) == 5
    llm.invoke(ask("Alice"))
    assert len(rows._cache) == 5


def test_models_with_other_taggers_do_not_share_answers() -> None:
    rows = Rows()
    for phrases in (["Alice"], ["name"]):
        llm = ChatDPFusion(
            model="dpfusion-tiny", order=2.0, beta=1.0, max_tokens=3, cache=rows, tagger=PhraseTagger(phrases)
        )
        llm.invoke(ask("Alice"))
    assert len(rows._cache) == 2


def test_ready_models_of_one_name_do_not_share_answers() -> None:
    rows = Rows()
    for _ in range(2):
        llm = ChatDPFusion(
            model=random_model("qwen2"), tokenizer=CharTokenizer(), epsilon=8.0, max_tokens=3, cache=rows
        )
        llm.invoke(ask("Alice"))
    assert len(rows._cache) == 2


def test_digests_are_keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows_of(key: str | None) -> set[Any]:
        if key is None:
            monkeypatch.delenv("DPFUSION_CACHE_KEY", raising=False)
        else:
            monkeypatch.setenv("DPFUSION_CACHE_KEY", key)
        rows = Rows()
        ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, max_tokens=2, cache=rows).invoke(ask("Alice"))
        return set(rows._cache)

    assert rows_of("a" * 32) == rows_of("a" * 32) != rows_of("b" * 32)
    assert rows_of(None) == rows_of(None) != rows_of("a" * 32)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_cached_answer_costs_no_budget(is_async: bool) -> None:
    ledger = PrivacyLedger("sqlite://", budget=PrivacyBudget(8.0), key="k" * 32)
    engine = scripted_engine("Nobody knows.", ledger=ledger)
    llm = ChatDPFusion(engine=engine, epsilon=2.0, max_tokens=10, cache=Rows())

    def call() -> Any:
        return (
            asyncio.run(llm.ainvoke(ask("Alice", unit="a")))
            if is_async
            else llm.invoke(ask("Alice", unit="a"))
        )

    first, spent = call(), ledger.account("a").spent_epsilon
    again = call()
    assert spent > 0
    assert ledger.account("a").spent_epsilon == spent
    assert again.response_metadata["dp_fusion"] == first.response_metadata["dp_fusion"]


def test_the_global_cache_is_served_too() -> None:
    rows = Rows()
    set_llm_cache(rows)
    try:
        chat().invoke(CONVERSATIONS["span"])
    finally:
        set_llm_cache(None)
    assert rows._cache
    assert SECRET not in rows.text


# --- The model object ---


def secretive() -> ChatDPFusion:
    llm = ChatDPFusion(
        model="dpfusion-tiny",
        epsilon=8.0,
        max_tokens=2,
        tagger=PhraseTagger([SECRET]),
        cache_key=SecretStr(SECRET),
    )
    llm.invoke(CONVERSATIONS["message"])
    return llm


def test_repr_and_dumps_of_the_model_hold_no_text_and_no_key() -> None:
    llm = secretive()
    for text in (
        repr(llm),
        str(llm),
        dumps(llm),
        repr(llm._serialized),
        repr(llm.asdict()),
        repr(llm.bind(stop=["a"])),
    ):
        assert "ChatDPFusion" in text or "dpfusion" in text
        assert SECRET not in text


def test_a_pickle_of_the_model_holds_no_text_and_no_key() -> None:
    llm = ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, max_tokens=2, cache_key=SecretStr(SECRET))
    llm.invoke(CONVERSATIONS["message"])
    pickled = pickle.dumps(llm)
    assert SECRET.encode() not in pickled
    again = pickle.loads(pickled)
    assert again.invoke(CONVERSATIONS["message"]).response_metadata["dp_fusion"]["units"] == 1
    with pytest.raises(DPFusionError, match="placeholder cannot be pickled"):
        pickle.dumps(ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, placeholder=str.upper))
    with pytest.raises(DPFusionError, match="tagger cannot be pickled") as caught:
        pickle.dumps(secretive())
    assert SECRET not in str(caught.value)


# --- Exceptions ---


def failing_backend() -> ScriptedBackend:
    engine = scripted_engine(TOLD)

    def explode(prompt: tuple[int, ...], said: tuple[int, ...]) -> Any:
        raise BackendError("The model failed.")

    backend = engine.backend
    assert isinstance(backend, ScriptedBackend)
    backend._script = explode
    return backend


class QuotingTagger:
    def tag(self, text: str) -> Any:
        raise RuntimeError(text)


def quoting_placeholder(segment: Any) -> str:
    return "____"


EXCEPTIONS: dict[str, tuple[dict[str, Any], list[Any], dict[str, Any]]] = {
    "backend": ({"engine": None}, CONVERSATIONS["message"], {}),
    "too long": ({}, [mark_private(HumanMessage(SECRET * 500)), HumanMessage("?")], {}),
    "greedy": ({"temperature": 0}, CONVERSATIONS["message"], {}),
    "no parameters": ({"epsilon": None}, CONVERSATIONS["message"], {}),
    "unknown option": ({}, CONVERSATIONS["message"], {"context": SECRET}),
    "wrong option": ({}, CONVERSATIONS["message"], {"temperature": SECRET}),
    "image": ({}, [HumanMessage([{"type": "image_url", "image_url": {"url": SECRET}}])], {}),
    "system": ({}, [mark_private(HumanMessage("x").__class__("x")), ("system", "y")], {"stop": [""]}),
    "unit": ({}, [HumanMessage(SECRET, additional_kwargs={"unit": SECRET})], {}),
    "role": ({}, [{"role": "user", "content": [{"type": SECRET}]}], {}),
}


@pytest.mark.parametrize("case", EXCEPTIONS)
@pytest.mark.parametrize("way", ["invoke", "stream", "batch", "ainvoke", "astream", "abatch"])
def test_exceptions_never_hold_the_secret(case: str, way: str) -> None:
    options, messages, kwargs = EXCEPTIONS[case]
    if case == "backend":
        from dpfusion_core import FusionEngine

        options = {"engine": FusionEngine(failing_backend())}
    llm = (
        chat(**{**options})
        if "engine" not in options
        else ChatDPFusion(**options, epsilon=8.0, max_tokens=60)
    )
    recorder = Recorder()
    config: Any = {"callbacks": [recorder]}
    calls: dict[str, Callable[[], Any]] = {
        "invoke": lambda: llm.invoke(messages, config, **kwargs),
        "stream": lambda: list(llm.stream(messages, config, **kwargs)),
        "batch": lambda: llm.batch([messages, messages], config, **kwargs),
        "ainvoke": lambda: asyncio.run(llm.ainvoke(messages, config, **kwargs)),
        "astream": lambda: asyncio.run(_drain(llm.astream(messages, config, **kwargs))),
        "abatch": lambda: asyncio.run(llm.abatch([messages, messages], config, **kwargs)),
    }
    with pytest.raises(DPFusionError) as caught:
        calls[way]()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    seen: list[BaseException] = [caught.value]
    while (error := seen[-1].__cause__ or seen[-1].__context__) is not None:
        seen.append(error)
    assert not any(SECRET in as_text(error.args) for error in seen)
    assert SECRET not in recorder.text()
