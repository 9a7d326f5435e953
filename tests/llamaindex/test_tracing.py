"""What events, spans and callbacks get to see."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, CBEventType
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.memory import Memory, StaticMemoryBlock
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.tools import FunctionTool
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import instrument_tags
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span import BaseSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler
from pydantic import BaseModel, PrivateAttr

from dpfusion_core.errors import BackendError
from llamaindex_dpfusion import DPFusionNodePostprocessor, DPFusionRetriever
from tests.llamaindex.recording import BM25Retriever, check, documents, private_words, recording_llm

SECRET = "Ingrid Solheim"
CHAT = [ChatMessage(f"{SECRET} is ill.", additional_kwargs={"is_private": True}), ChatMessage("Who?")]
PROMPT = ChatPromptTemplate([ChatMessage("{context_str}"), *CHAT, ChatMessage("{query_str}")])
ARGUMENTS = {"context_str": f"{SECRET} is ill.", "query_str": "Who?"}


class Seen(BaseModel):
    """Everything that handlers were given, as text."""

    texts: list[tuple[str, str]] = []

    def add(self, kind: str, *things: Any) -> None:
        self.texts.append((kind, " ".join(_show(thing) for thing in things)))

    def kinds_with(self, word: str) -> set[str]:
        return {kind for kind, text in self.texts if word in text}


def _show(thing: Any) -> str:
    if isinstance(thing, BaseModel):
        return f"{thing!r} {thing.__dict__!r} {_show(getattr(thing, '__pydantic_private__', None))}"
    if isinstance(thing, dict):
        return " ".join(f"{key} {_show(value)}" for key, value in thing.items())
    if isinstance(thing, list | tuple):
        return " ".join(_show(item) for item in thing)
    if isinstance(thing, BaseException):
        return f"{thing!r} {thing.__cause__!r} {thing.__context__!r}"
    return repr(thing)


class Events(BaseEventHandler):
    seen: Seen

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.seen.add(type(event).__name__, event.__dict__)


class Spans(BaseSpanHandler[BaseSpan]):
    _seen: Seen = PrivateAttr()

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    def new_span(
        self,
        id_: str,
        bound_args: Any,
        instance: Any = None,
        parent_span_id: Any = None,
        tags: Any = None,
        **kwargs: Any,
    ) -> BaseSpan:
        told = (instance, tags)
        self._seen.add(f"span {id_.partition('-')[0]}", dict(bound_args.arguments), *told)
        return BaseSpan(id_=id_)

    def prepare_to_exit_span(
        self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **kwargs: Any
    ) -> BaseSpan:
        self._seen.add(f"span {id_.partition('-')[0]}", dict(bound_args.arguments), result)
        return BaseSpan(id_=id_)

    def prepare_to_drop_span(
        self, id_: str, bound_args: Any, instance: Any = None, err: Any = None, **kwargs: Any
    ) -> BaseSpan:
        self._seen.add(f"span {id_.partition('-')[0]}", dict(bound_args.arguments), err)
        return BaseSpan(id_=id_)


class Callbacks(BaseCallbackHandler):
    def __init__(self, seen: Seen) -> None:
        super().__init__([], [])
        self.seen = seen

    def on_event_start(
        self,
        event_type: CBEventType,
        payload: Any = None,
        event_id: str = "",
        parent_id: str = "",
        **kwargs: Any,
    ) -> str:
        self.seen.add(f"callback {event_type.value}", payload)
        return ""

    def on_event_end(
        self, event_type: CBEventType, payload: Any = None, event_id: str = "", **kwargs: Any
    ) -> None:
        self.seen.add(f"callback {event_type.value}", payload)

    def start_trace(self, trace_id: str | None = None) -> None: ...

    def end_trace(self, trace_id: str | None = None, trace_map: Any = None) -> None: ...


@pytest.fixture
def seen() -> Iterator[Seen]:
    root = get_dispatcher()
    events, spans, seen = root.event_handlers, root.span_handlers, Seen()
    root.event_handlers, root.span_handlers = [*events, Events(seen=seen)], [*spans, Spans(seen)]
    yield seen
    root.event_handlers, root.span_handlers = events, spans


class City(BaseModel):
    name: str


TOOL = FunctionTool.from_defaults(lambda name: "Found.", name="City", description="Finds a city.")
METHODS: dict[str, Any] = {
    "chat": (CHAT,),
    "complete": (f"{SECRET} is ill.",),
    "predict": (PROMPT,),
    "stream": (PROMPT,),
    "stream_chat": (CHAT,),
    "stream_complete": (f"{SECRET} is ill.",),
    "structured_predict": (City, PROMPT),
    "stream_structured_predict": (City, PROMPT),
    "chat_with_tools": ([TOOL], "Who?", CHAT),
    "predict_and_call": ([TOOL], None, CHAT),
}


def call(llm: Any, method: str) -> None:
    arguments: dict[str, Any] = ARGUMENTS if PROMPT in METHODS[method.removeprefix("a")] else {}
    positional = METHODS[method.removeprefix("a")]

    async def work() -> None:
        found = await getattr(llm, method)(*positional, **arguments)
        if "stream" in method:
            _ = [item async for item in found]

    if method.startswith("a"):
        asyncio.run(work())
    else:
        found = getattr(llm, method)(*positional, **arguments)
        if "stream" in method:
            list(found)


@pytest.mark.parametrize("prefix", ["", "a"])
@pytest.mark.parametrize("method", METHODS)
def test_events_and_spans_of_the_llm_hold_placeholders(seen: Seen, method: str, prefix: str) -> None:
    answer = '{"name": "City", "arguments": {"name": "Oslo"}}' if "call" in method else '{"name": "Oslo"}'
    llm, _ = recording_llm(answer, max_tokens=200)
    llm.callback_manager = CallbackManager([Callbacks(seen)])
    call(llm, prefix + method)
    assert seen.kinds_with(SECRET) == set()
    assert seen.kinds_with("____")
    kinds = {kind for kind, _ in seen.texts}
    start = "LLMCompletionStartEvent" if "complete" in method else "LLMChatStartEvent"
    assert start in kinds
    assert {"callback llm"} <= kinds
    if method in ("chat", "complete", "predict", "stream", "stream_chat", "stream_complete"):
        assert f"span {type(llm).__name__}.{prefix}{method}" in kinds
    if "call" not in method and ("predict" in method or method == "stream"):
        assert seen.kinds_with("Who?")


@pytest.mark.parametrize("prefix", ["", "a"])
@pytest.mark.parametrize("method", METHODS)
def test_what_a_workflow_tells_of_its_steps_in_tags_stays_off_them(
    seen: Seen, method: str, prefix: str
) -> None:
    answer = '{"name": "City", "arguments": {"name": "Oslo"}}' if "call" in method else '{"name": "Oslo"}'
    llm, _ = recording_llm(answer, max_tokens=200)
    tags = {
        "llamaindex.step.input_summary": f"AgentSetup(input=[{SECRET}])",
        "llamaindex.start_event": f"StartEvent(user_msg={SECRET})",
        "llamaindex.run_id": "run-17",
        "team": "ward-3",
    }
    with instrument_tags(tags):
        call(llm, prefix + method)
    assert seen.kinds_with(SECRET) == set()
    told = [text for kind, text in seen.texts if kind.startswith("LLM")]
    assert told
    assert all("run-17" in text and "ward-3" in text for text in told)


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince211")
@pytest.mark.filterwarnings("ignore::workflows.context.state_store.UnserializableKeyWarning")
@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")
def test_an_agent_tells_nothing_of_a_memory_in_the_events_of_its_model(seen: Seen) -> None:
    llm, backend = recording_llm("Hello.", unmarked="public")
    content: Any = f"{SECRET} is ill."  # it makes blocks of text itself
    memory = Memory.from_defaults(
        session_id="1", memory_blocks=[StaticMemoryBlock(name="core", static_content=content)]
    )

    async def talk() -> None:
        await FunctionAgent(tools=[TOOL], llm=llm).run("Who?", memory=memory)

    asyncio.run(talk())
    assert SECRET not in backend.calls[0].public
    assert not {kind for kind in seen.kinds_with(SECRET) if "LLM" in kind}


@pytest.mark.parametrize("prefix", ["", "a"])
@pytest.mark.parametrize("method", METHODS)
def test_exceptions_hold_nothing(seen: Seen, method: str, prefix: str) -> None:
    llm, backend = recording_llm()

    def fail(prompts: Any) -> Any:
        raise BackendError("Out of memory.")

    backend.open = fail  # type: ignore[method-assign]
    llm.callback_manager = CallbackManager([Callbacks(seen)])
    with pytest.raises(BackendError):
        call(llm, prefix + method)
    assert seen.kinds_with(SECRET) == set()


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate"])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["summary", "vector", "bm25"])
def test_a_vault_keeps_text_out_of_every_event(seen: Seen, kind: str, mode: Any, streaming: bool) -> None:
    docs = documents()
    llm, backend = recording_llm()
    llm.callback_manager = CallbackManager([Callbacks(seen)])
    inner: Any = {
        "summary": SummaryIndex.from_documents(docs).as_retriever(),
        "vector": VectorStoreIndex.from_documents(docs).as_retriever(similarity_top_k=9),
        "bm25": BM25Retriever(docs),
    }[kind]
    retriever = DPFusionRetriever(inner)
    seen.texts.clear()
    engine = RetrieverQueryEngine.from_args(
        retriever, llm=llm, response_mode=mode, streaming=streaming and mode != "accumulate"
    )
    response: Any = asyncio.run(engine.aquery("Who?")) if not streaming else engine.query("Who?")
    if streaming and mode != "accumulate":
        response = response.get_response()
    check(backend, docs, strangers=("private",))
    assert len(seen.texts) > 10
    for doc in docs:
        for word in private_words(doc):
            assert seen.kinds_with(word) == set()
    revealed = [found.node.reveal() for found in response.source_nodes]
    assert all(any(doc.text in text for text in revealed) for doc in docs)


def test_a_vault_works_with_citations(seen: Seen) -> None:
    docs = documents()
    llm, backend = recording_llm()
    index = SummaryIndex.from_documents(docs)
    engine = CitationQueryEngine.from_args(
        index,
        llm=llm,
        retriever=index.as_retriever(),
        node_postprocessors=[DPFusionNodePostprocessor(vault=True)],
    )
    engine.query("Who?")
    check(backend, docs, strangers=("private",))
    assert set(backend.calls[0].private) >= {doc.node_id for doc in docs}


def test_the_handlers_of_this_test_would_see_a_secret(seen: Seen) -> None:
    from llama_index.core.llms import MockLLM

    llm = MockLLM(max_tokens=3, callback_manager=CallbackManager([Callbacks(seen)]))
    llm.predict(PromptTemplate("{context_str}"), context_str=SECRET)
    assert {"LLMPredictStartEvent", "callback llm", "callback templating"} <= seen.kinds_with(SECRET)
    assert any(kind.startswith("span") for kind in seen.kinds_with(SECRET))
