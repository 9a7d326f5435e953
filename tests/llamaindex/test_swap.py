"""Apps in which only the line of the model is changed: protected, or refused before anything is computed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core import Settings, SummaryIndex
from llama_index.core.agent.workflow import CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.evaluation import (
    AnswerRelevancyEvaluator,
    ContextRelevancyEvaluator,
    CorrectnessEvaluator,
    FaithfulnessEvaluator,
    GuidelineEvaluator,
    RelevancyEvaluator,
)
from llama_index.core.extractors import KeywordExtractor, SummaryExtractor, TitleExtractor
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.indices.query.query_transform.base import StepDecomposeQueryTransform
from llama_index.core.memory import ChatSummaryMemoryBuffer, Memory, StaticMemoryBlock, VectorMemoryBlock
from llama_index.core.postprocessor import LLMRerank
from llama_index.core.postprocessor.rankGPT_rerank import RankGPTRerank
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import (
    CitationQueryEngine,
    RouterQueryEngine,
    SubQuestionQueryEngine,
    TransformQueryEngine,
)
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.response_synthesizers import TreeSummarize
from llama_index.core.schema import Document, NodeWithScore, QueryBundle, TextNode
from llama_index.core.selectors import LLMMultiSelector, LLMSingleSelector
from llama_index.core.tools import FunctionTool, QueryEngineTool, ToolMetadata
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQueryResult
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel, Field

from dpfusion_core.errors import RefusedError
from llamaindex_dpfusion import DPFusionLLM, DPFusionNodePostprocessor
from llamaindex_dpfusion.prompts.components import asks_about_a_response
from tests.llamaindex.recording import RecordingBackend, recording_llm
from tests.llamaindex.test_tracing import Events, Seen, Spans

SECRET = "Ingrid Solheim"
TEXT = f"The patient {SECRET} was treated for migraine in Trondheim last May."
CONTENT: Any = TEXT  # it makes a block of text itself
QUESTION = "Who was treated?"


def index() -> SummaryIndex:
    return SummaryIndex.from_documents([Document(text=TEXT, doc_id="record-17")])


def nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=TEXT, id_=f"n{i}", metadata={"source": "r"})) for i in range(2)]


def query(llm: DPFusionLLM, **options: Any) -> Any:
    return index().as_query_engine(llm=llm, **options).query(QUESTION)


def tool(llm: DPFusionLLM) -> QueryEngineTool:
    return QueryEngineTool(
        index().as_query_engine(llm=llm), metadata=ToolMetadata(name="records", description="Records.")
    )


def chat_twice(engine: Any) -> None:
    engine.chat(QUESTION)
    engine.chat("And where?")


def remembered(llm: DPFusionLLM, block: Any) -> Any:
    memory = Memory.from_defaults(session_id="s", memory_blocks=[block])
    return SimpleChatEngine.from_defaults(llm=llm, memory=memory).chat(QUESTION)


class Store(BasePydanticVectorStore):
    """Finds everything that it was given."""

    stores_text: bool = True
    kept: list[Any] = Field(default_factory=list)

    @property
    def client(self) -> None:
        return None

    def add(self, nodes: Any, **options: Any) -> list[str]:
        self.kept.extend(nodes)
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **options: Any) -> None:
        self.kept.clear()

    def query(self, query: Any, **options: Any) -> VectorStoreQueryResult:
        count = len(self.kept)
        return VectorStoreQueryResult(nodes=self.kept, similarities=[1.0] * count, ids=["x"] * count)


def vector_memory(llm: DPFusionLLM) -> Any:
    block = VectorMemoryBlock(vector_store=Store(), embed_model=Settings.embed_model)
    asyncio.run(block.aput([ChatMessage(f"I am ill, says {SECRET}.")]))
    return remembered(llm, block)


def summary_memory(llm: DPFusionLLM) -> Any:
    history = [ChatMessage(TEXT, role="user"), ChatMessage("I see.", role="assistant")] * 3
    memory = ChatSummaryMemoryBuffer.from_defaults(chat_history=history, llm=llm, token_limit=30)
    return memory.get()


async def run(agent: Any) -> Any:
    return await agent.run(QUESTION)


def find() -> str:
    """Find a record."""
    return TEXT


class City(BaseModel):
    name: str


def evaluate(evaluator: Any) -> Any:
    return asyncio.run(evaluator.aevaluate(query=QUESTION, response=TEXT, contexts=[TEXT], reference=TEXT))


PROGRAM = PromptTemplate("Take the name of {text}")
APPS: dict[str, Callable[[DPFusionLLM], Any]] = {
    **{
        mode: lambda llm, mode=mode: query(llm, response_mode=mode)  # type: ignore[misc]
        for mode in ("compact", "refine", "tree_summarize", "simple_summarize", "accumulate")
    },
    "generation": lambda llm: llm.chat([ChatMessage(f"Context: {TEXT}"), ChatMessage(QUESTION)]),
    "system prompt": lambda llm: llm.chat([ChatMessage(TEXT, role="system"), ChatMessage(QUESTION)]),
    "f-string": lambda llm: llm.predict(PromptTemplate(f"Sum up: {TEXT}")),
    "complete": lambda llm: llm.complete(TEXT),
    "structured complete": lambda llm: llm.as_structured_llm(City).complete(TEXT),
    "structured acomplete": lambda llm: asyncio.run(llm.as_structured_llm(City).acomplete(TEXT)),
    "structured stream": lambda llm: list(llm.as_structured_llm(City).stream_complete(TEXT)),
    "structured chat": lambda llm: llm.as_structured_llm(City).chat([ChatMessage(TEXT)]),
    "structured predict": lambda llm: llm.structured_predict(City, PROGRAM, text=TEXT),
    "simple chat": lambda llm: SimpleChatEngine.from_defaults(llm=llm).chat(TEXT),
    "context chat": lambda llm: chat_twice(ContextChatEngine.from_defaults(index().as_retriever(), llm=llm)),
    "condense plus context": lambda llm: chat_twice(
        CondensePlusContextChatEngine.from_defaults(index().as_retriever(), llm=llm)
    ),
    "condense": lambda llm: chat_twice(
        CondenseQuestionChatEngine.from_defaults(index().as_query_engine(llm=llm), llm=llm)
    ),
    "hyde": lambda llm: TransformQueryEngine(
        index().as_query_engine(llm=llm), HyDEQueryTransform(llm=llm)
    ).query(QUESTION),
    "decompose": lambda llm: StepDecomposeQueryTransform(llm=llm).run(
        QueryBundle(QUESTION), {"prev_reasoning": TEXT, "index_summary": TEXT}
    ),
    "router": lambda llm: RouterQueryEngine.from_defaults(
        [tool(llm)], llm=llm, selector=LLMSingleSelector.from_defaults(llm=llm)
    ).query(QUESTION),
    "selector": lambda llm: LLMMultiSelector.from_defaults(llm=llm).select(
        [ToolMetadata(description=TEXT)], QUESTION
    ),
    "sub questions": lambda llm: SubQuestionQueryEngine.from_defaults(
        [tool(llm)], llm=llm, question_gen=LLMQuestionGenerator.from_defaults(llm=llm), use_async=False
    ).query(QUESTION),
    "citations": lambda llm: CitationQueryEngine.from_args(index(), llm=llm).query(QUESTION),
    "tree": lambda llm: TreeSummarize(llm=llm).get_response(QUESTION, [TEXT]),
    "LLM rerank": lambda llm: LLMRerank(llm=llm).postprocess_nodes(nodes(), query_str=QUESTION),
    "rankGPT": lambda llm: RankGPTRerank(llm=llm).postprocess_nodes(nodes(), query_str=QUESTION),
    "title": lambda llm: TitleExtractor(llm=llm).extract([n.node for n in nodes()]),
    "summary": lambda llm: SummaryExtractor(llm=llm).extract([n.node for n in nodes()]),
    "keywords": lambda llm: KeywordExtractor(llm=llm).extract([n.node for n in nodes()]),
    "static memory": lambda llm: remembered(llm, StaticMemoryBlock(static_content=CONTENT)),
    "vector memory": vector_memory,
    "summary memory": summary_memory,
    "function agent": lambda llm: asyncio.run(
        run(FunctionAgent(tools=[FunctionTool.from_defaults(find)], llm=llm))
    ),
    "react agent": lambda llm: asyncio.run(
        run(ReActAgent(tools=[FunctionTool.from_defaults(find)], llm=llm))
    ),
    "code agent": lambda llm: asyncio.run(run(CodeActAgent(code_execute_fn=lambda code: TEXT, llm=llm))),
    **{
        cls.__name__: lambda llm, cls=cls: evaluate(cls(llm=llm))  # type: ignore[misc]
        for cls in (
            FaithfulnessEvaluator,
            RelevancyEvaluator,
            CorrectnessEvaluator,
            AnswerRelevancyEvaluator,
            ContextRelevancyEvaluator,
            GuidelineEvaluator,
        )
    },
}


def acts(prompt: str) -> str:
    """Act as the agent that asks wants it."""
    last = prompt.rpartition("<|im_start|>user")[2]
    if "____" in last or "<|im_start|>tool" in last:
        return "Thought: I can answer without using any more tools.\nAnswer: It is so."
    if "Action Input" in prompt:
        return "Thought: I look.\nAction: find\nAction Input: {}"
    if "<execute>" in prompt:
        return "<execute>print(find())</execute>"
    if "<tool_call>" in prompt or "Find a record." in prompt:
        return '<tool_call>{"name": "find", "arguments": {}}</tool_call>'
    return '{"name": "Oslo"}'


IGNORED = [
    "ignore::pydantic.PydanticDeprecatedSince20",
    "ignore::pydantic.PydanticDeprecatedSince211",
    "ignore::workflows.context.state_store.UnserializableKeyWarning",
    "ignore::DeprecationWarning",
]


@pytest.mark.parametrize("unmarked", [None, "strict", "private", "public"])
@pytest.mark.parametrize("app", APPS)
@pytest.mark.filterwarnings(*IGNORED)
def test_no_text_of_a_document_is_public(seen: Seen, app: str, unmarked: Any) -> None:
    vouched = {"generation", "system prompt", "f-string", "simple chat", "structured chat"}
    if unmarked == "public" and app in vouched:
        return  # the person who vouches has written the text into the message
    llm, backend = recording_llm(acts, max_tokens=60, unmarked=unmarked, has_ledger=False)
    refused = None
    try:
        APPS[app](llm)
    except Exception as error:  # noqa: BLE001  apps trip over answers that are no JSON, too
        refused = error
    assert backend.calls or isinstance(refused, RefusedError)  # the app got as far as the model
    assert not any(SECRET in call.public for call in backend.calls)
    mine = {kind for kind in seen.kinds_with(SECRET) if "LLM" in kind and "Embedding" not in kind}
    assert not {kind for kind in mine if kind.startswith("span DPFusion") or kind.startswith("LLM")}


@pytest.fixture
def seen() -> Any:
    root, found = get_dispatcher(), Seen()
    events, spans = root.event_handlers, root.span_handlers
    root.event_handlers, root.span_handlers = [*events, Events(seen=found)], [*spans, Spans(found)]
    yield found
    root.event_handlers, root.span_handlers = events, spans


@pytest.mark.parametrize("app", ["generation", "system prompt", "f-string", "simple chat", "rankGPT"])
def test_by_default_a_call_without_any_mark_is_refused_before_anything(app: str) -> None:
    llm, backend = recording_llm()
    if app == "rankGPT":
        APPS[app](llm)
        assert backend.calls
        return
    with pytest.raises(RefusedError, match="nothing in this call is marked private"):
        APPS[app](llm)
    assert not backend.calls
    assert not backend.ledger.charges


@pytest.mark.parametrize("unmarked", ["error", "strict", "public"])
@pytest.mark.parametrize("role", ["user", "system", "assistant"])
def test_private_text_that_comes_back_without_its_mark_is_refused(role: str, unmarked: str) -> None:
    llm, backend = recording_llm(unmarked=unmarked)
    DPFusionNodePostprocessor().postprocess_nodes(nodes())[0].node.get_content()
    flagged = ChatMessage("Bob is well today.", additional_kwargs={"is_private": True, "unit": "bob"})
    with pytest.raises(RefusedError):
        llm.chat([flagged, ChatMessage(f"Judge: {TEXT}", role=role)])
    with pytest.raises(RefusedError):
        llm.predict(PromptTemplate("{query_str} {context_str}"), query_str=TEXT, context_str="x")
    assert not backend.calls
    said = ChatMessage(f"Judge: {TEXT}", role=role, additional_kwargs={"is_private": False})
    assert llm.chat([flagged, said]).message.content == "It is so."


def test_answers_of_ours_may_come_back() -> None:
    llm, backend = recording_llm(TEXT, unmarked="public", max_tokens=120, has_ledger=False)
    DPFusionNodePostprocessor().postprocess_nodes(nodes())
    llm.predict(PromptTemplate("{context_str}"), context_str=TEXT)
    assert llm.chat([ChatMessage(TEXT, role="assistant"), ChatMessage("And?")]).message.content
    assert TEXT in backend.calls[-1].public


@pytest.mark.parametrize(
    "evaluator", [FaithfulnessEvaluator, RelevancyEvaluator], ids=lambda cls: cls.__name__
)
def test_a_response_that_is_judged_is_no_question(evaluator: Any) -> None:
    made = evaluator(llm=recording_llm()[0])
    for name, template in made.get_prompts().items():
        assert asks_about_a_response(template.get_template()), name
    assert not asks_about_a_response("Context: {context_str} Query: {query_str}")


def test_recordings_see_what_is_public() -> None:
    """The tests above would see a leak."""
    llm, backend = recording_llm(unmarked="public", has_ledger=False)
    llm.chat([ChatMessage(TEXT)])
    assert isinstance(backend, RecordingBackend)
    assert SECRET in backend.calls[0].public
