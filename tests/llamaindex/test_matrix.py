"""Every engine of LlamaIndex, in every mode: each document is seen in the view of its own unit alone."""

import asyncio
from typing import Any

import pytest
from llama_index.core import Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata
from llama_index.core.workflow import Context

from dpfusion_core.errors import DPFusionError, RefusedError, ViewError
from llamaindex_dpfusion import DPFusionNodePostprocessor, DPFusionPromptHelper, DPFusionSynthesizer
from tests.llamaindex.recording import (
    QUESTION,
    BM25Retriever,
    HashEmbedding,
    check,
    documents,
    private_words,
    recording_llm,
    seen_by_unit,
)

MODES = ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate", "compact_accumulate"]
STYLES = ["sync", "async", "stream", "astream"]
NO_STREAM = {"accumulate", "compact_accumulate"}
WINDOWS = {"small": 950, "large": 8000}
DOCS = documents()


@pytest.fixture(scope="module")
def indices() -> dict[str, Any]:
    vector = VectorStoreIndex.from_documents(DOCS, embed_model=HashEmbedding())
    nodes = list(vector.docstore.docs.values())
    return {
        "vector": vector.as_retriever(similarity_top_k=10),
        "bm25": BM25Retriever(nodes),
        "summary": SummaryIndex(nodes).as_retriever(),
    }


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("index", ["vector", "bm25", "summary", "vault"])
def test_query_engine(indices: dict[str, Any], index: str, mode: Any, window: str, style: str) -> None:
    if mode in NO_STREAM and "stream" in style:
        style = style.replace("stream", "sync") if style == "stream" else "async"
    llm, backend = recording_llm(context_window=WINDOWS[window])
    engine = RetrieverQueryEngine.from_args(
        indices["summary" if index == "vault" else index],
        llm=llm,
        response_mode=mode,
        streaming="stream" in style,
        node_postprocessors=[DPFusionNodePostprocessor(vault=index == "vault")],
    )
    answer = run(engine, style)
    assert "It is so." in answer
    summaries = () if mode in ("compact", "simple_summarize") and window == "large" else ("private",)
    check(backend, DOCS, strangers=summaries)
    seen = seen_by_unit(backend)
    for doc in DOCS:
        if mode != "simple_summarize" or window == "large":
            assert private_words(doc) <= seen[doc.node_id]


async def _tokens(stream: Any) -> str:
    return "".join([token async for token in stream])


def run(engine: Any, style: str) -> str:
    async def ask() -> str:
        response = await engine.aquery(QUESTION)
        return await _tokens(response.async_response_gen()) if style == "astream" else str(response)

    if style.startswith("a"):
        return asyncio.run(ask())
    response = engine.query(QUESTION)
    return "".join(response.response_gen) if style == "stream" else str(response)


def talk(engine: Any, style: str, message: str) -> str:
    async def ask() -> str:
        if style == "astream":
            return await _tokens((await engine.astream_chat(message)).async_response_gen())
        return str(await engine.achat(message))

    if style.startswith("a"):
        return asyncio.run(ask())
    if style == "stream":
        return "".join(engine.stream_chat(message).response_gen)
    return str(engine.chat(message))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", [ContextChatEngine, CondensePlusContextChatEngine])
def test_chat_engine(indices: dict[str, Any], kind: Any, window: str, style: str) -> None:
    llm, backend = recording_llm(context_window=WINDOWS[window])
    engine = kind.from_defaults(
        indices["vector"],
        llm=llm,
        node_postprocessors=[DPFusionNodePostprocessor()],
        system_prompt="Be brief.",
    )
    # In the next turn this question is a template that LlamaIndex fills in.
    assert "It is so." in talk(engine, style, "What of {context_str} and {context_msg} in the record?")
    assert "It is so." in talk(engine, style, QUESTION)
    check(backend, DOCS, strangers=("private",))
    assert all("Be brief." in call.public for call in backend.calls if call.private.keys() != {"private"})
    assert all(private_words(doc) <= seen_by_unit(backend)[doc.node_id] for doc in DOCS)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("window", WINDOWS)
def test_citation_engine(indices: dict[str, Any], window: str, style: str) -> None:
    llm, backend = recording_llm(context_window=WINDOWS[window])
    engine = CitationQueryEngine.from_args(
        indices["vector"].index if hasattr(indices["vector"], "index") else indices["vector"]._index,
        llm=llm,
        retriever=indices["vector"],
        citation_chunk_size=128,
        citation_chunk_overlap=10,
        response_synthesizer=DPFusionSynthesizer(llm=llm, streaming="stream" in style),
    )
    assert "It is so." in run(engine, style)
    check(backend, DOCS, strangers=("private",) if window == "small" else ())
    assert all(private_words(doc) <= seen_by_unit(backend)[doc.node_id] for doc in DOCS)
    assert any("Source 1:" in row for row in backend.calls[0].private.values())


@pytest.mark.parametrize("has_ledger", [False, True])
def test_a_citation_engine_that_cuts_off_the_marks_loses_no_privacy(
    indices: dict[str, Any], has_ledger: bool
) -> None:
    llm, backend = recording_llm(has_ledger=has_ledger)
    engine = CitationQueryEngine.from_args(
        indices["vector"]._index,
        llm=llm,
        retriever=indices["vector"],
        node_postprocessors=[DPFusionNodePostprocessor()],
    )
    if has_ledger:
        with pytest.raises(RefusedError, match="response_synthesizer=DPFusionSynthesizer"):
            engine.query(QUESTION)
        assert not backend.calls
    else:
        engine.query(QUESTION)
        [call] = backend.calls
        assert len(call.private) == 1
        assert not any(word in call.public for doc in DOCS for word in private_words(doc))


def calling(tool: str) -> Any:
    def answer(prompt: str) -> str:
        if "<|im_start|>tool" in prompt.rpartition("<|im_start|>user")[2]:
            return "It is so."
        return f'<tool_call>{{"name": "{tool}", "arguments": {{"input": "{QUESTION}"}}}}</tool_call>'

    return answer


def reasoning(tool: str) -> Any:
    def answer(prompt: str) -> str:
        if prompt.count("____") > 1:
            return "Thought: I can answer without using any more tools.\nAnswer: It is so."
        return f'Thought: I need a tool.\nAction: {tool}\nAction Input: {{"input": "{QUESTION}"}}'

    return answer


def tools(indices: dict[str, Any], llm: Any, kind: str) -> Any:
    sealing: list[Any] = [DPFusionNodePostprocessor()]
    metadata = ToolMetadata(name="records", description="Finds what the records say.")
    if kind == "retriever":
        return RetrieverTool(indices["vector"], metadata=metadata, node_postprocessors=sealing)
    engine = RetrieverQueryEngine.from_args(indices["vector"], llm=llm, node_postprocessors=sealing)
    return QueryEngineTool(engine, metadata=metadata)


# Agents of llama-index-core 0.14 warn about themselves under this version of workflows and pydantic.
@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince211")
@pytest.mark.filterwarnings("ignore::workflows.context.state_store.UnserializableKeyWarning")
@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("kind", ["retriever", "query engine"])
@pytest.mark.parametrize("agent", [FunctionAgent, ReActAgent])
async def test_agent(indices: dict[str, Any], agent: Any, kind: str, streaming: bool) -> None:
    answer = calling("records") if agent is FunctionAgent else reasoning("records")
    answering = (
        (lambda p: "It is so." if "Context information" in p else answer(p))
        if kind != "retriever"
        else answer
    )
    # The question, the system prompt and the tools are public; what tools say is private all the same.
    llm, backend = recording_llm(answering, max_tokens=200, unmarked="public")
    worker = agent(tools=[tools(indices, llm, kind)], llm=llm, streaming=streaming)
    context = Context(worker)
    for _ in range(2):  # the second time, what the tool has said stands in the agent's memory
        assert "It is so." in str(await worker.run(QUESTION, ctx=context))
    check(backend, DOCS, strangers=("private",))
    assert all(private_words(doc) <= seen_by_unit(backend)[doc.node_id] for doc in DOCS)


def test_tool_alone(indices: dict[str, Any]) -> None:
    llm, backend = recording_llm()
    tool = tools(indices, llm, "query engine")
    assert "It is so." in str(tool(QUESTION))
    check(backend, DOCS)


@pytest.mark.parametrize("kind", [SimpleChatEngine, CondenseQuestionChatEngine])
def test_flags_and_guarantees_in_a_history_never_reach_the_model(indices: dict[str, Any], kind: Any) -> None:
    llm, backend = recording_llm()
    options: dict[str, Any] = {"llm": llm}
    if kind is CondenseQuestionChatEngine:
        options["query_engine"] = RetrieverQueryEngine.from_args(
            indices["vector"], llm=llm, node_postprocessors=[DPFusionNodePostprocessor()]
        )
    engine = kind.from_defaults(**options)
    history = [ChatMessage("I am secretq.", additional_kwargs={"is_private": True, "unit": "me"})]
    engine.chat("Hello.", chat_history=history)
    engine.chat("And now?")
    check(backend, DOCS, strangers=("private", "me"))
    assert not any("secretq" in call.public for call in backend.calls)
    assert any("secretq" in row for call in backend.calls for row in call.private.values())


@pytest.mark.parametrize("window", WINDOWS)
def test_a_chat_engine_with_200_turns_works_or_says_what_to_do(indices: dict[str, Any], window: str) -> None:
    llm, backend = recording_llm(context_window=WINDOWS[window], context_length=16000)
    Settings.prompt_helper = DPFusionPromptHelper.from_llm(llm)
    turns = [ChatMessage(f"Turn number {i}.", role=("user", "assistant")[i % 2]) for i in range(200)]
    engine = ContextChatEngine.from_defaults(
        indices["vector"], llm=llm, chat_history=turns, node_postprocessors=[DPFusionNodePostprocessor()]
    )
    if window == "small":
        with pytest.raises(ViewError, match="shorten the prompt or the history"):
            engine.chat(QUESTION)
        return
    assert str(engine.chat(QUESTION)) == "It is so."
    check(backend, DOCS, strangers=("private",))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("mode", MODES)
def test_a_refused_request_is_an_error_not_an_empty_response(
    indices: dict[str, Any], mode: Any, style: str
) -> None:
    if mode in NO_STREAM and "stream" in style:
        return
    llm, backend = recording_llm(alpha=None, beta=None)
    engine = RetrieverQueryEngine.from_args(
        indices["summary"], llm=llm, response_mode=mode, streaming="stream" in style
    )
    with pytest.raises(DPFusionError, match="no privacy parameters"):
        run(engine, style)
    assert not backend.calls
