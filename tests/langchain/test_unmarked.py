"""LangChain's best-known prompts with nothing changed but the model line: protected or refused, never public."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import dynamic_prompt
from langchain_classic.chains import (
    ConversationalRetrievalChain,
    RetrievalQA,
    create_history_aware_retriever,
    create_retrieval_chain,
)
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_classic.chains.question_answering import load_qa_chain
from langchain_classic.chains.summarize import load_summarize_chain
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import (
    LLMChainExtractor,
    LLMChainFilter,
    LLMListwiseRerank,
)
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tools import StructuredTool, create_retriever_tool
from langgraph.graph import START, StateGraph
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger, ScriptedBackend
from dpfusion_core.errors import DPFusionError, PrivacyParameterError, RefusedError
from langchain_dpfusion import (
    ChatDPFusion,
    DPFusionMiddleware,
    PrivateDocumentFormatter,
    create_private_retriever_tool,
    mark_private,
    private_template,
)
from langchain_dpfusion.reading import hide
from tests.langchain.leaks import SECRET, Recorder

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated"),  # chains that many still have
    pytest.mark.filterwarnings("ignore:.*was deprecated"),
]

TEXT = f"The patient {SECRET} was treated for gout at the clinic in Bergen in the spring of 2019."
DOCUMENTS = [
    Document(TEXT, metadata={"source": "records/gout.txt"}),
    Document(f"{SECRET} owes forty kroner to the baker.", metadata={"source": "records/debts.txt"}),
]
QUESTION = "Who was treated?"
ASKED: Any = {"messages": [("user", QUESTION)]}
EXAMPLE = AIMessage("", tool_calls=[{"name": "Person", "args": {"name": SECRET}, "id": "1"}])
RETRIEVER: Any = RunnableLambda(lambda query: DOCUMENTS)


def format_docs(documents: list[Document]) -> str:
    return "\n\n".join(document.page_content for document in documents)


class Person(BaseModel):
    """Information about a person."""

    name: str = Field(default="", max_length=4)


class Grade(BaseModel):
    """Binary score for relevance check on retrieved documents."""

    binary_score: bool


class _Retriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return DOCUMENTS


SYSTEM = "You are an assistant for question-answering tasks. Use the following context.\n\n{context}"
RAG = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", "{input}")])


def lcel(llm: Any) -> Any:
    return (
        {"context": RETRIEVER | format_docs, "input": RunnablePassthrough()} | RAG | llm | StrOutputParser()
    )


def hub_prompt(llm: Any) -> Any:
    prompt = ChatPromptTemplate.from_template(
        "Answer the question.\nQuestion: {question}\nContext: {context}"
    )
    prompt.invoke({"question": QUESTION, "context": format_docs(DOCUMENTS)})
    return (prompt | llm).invoke({"question": QUESTION, "context": format_docs(DOCUMENTS)})


def history_aware(llm: Any) -> Any:
    rephrase = ChatPromptTemplate.from_messages(
        [("system", "Rephrase."), MessagesPlaceholder("chat_history"), ("human", "{input}")]
    )
    aware = create_history_aware_retriever(llm, _Retriever(), rephrase)
    chain = create_retrieval_chain(aware, create_stuff_documents_chain(llm, RAG))
    history = [HumanMessage("Who was there?"), AIMessage(TEXT)]
    return chain.invoke({"input": QUESTION, "chat_history": history})


def extraction(llm: Any) -> Any:
    prompt = ChatPromptTemplate.from_messages(
        [("system", "You are an expert extraction algorithm."), ("human", "{text}")]
    )
    return (prompt | llm.with_structured_output(Person)).invoke({"text": TEXT})


def grader(llm: Any) -> Any:
    prompt = ChatPromptTemplate.from_messages(
        [("system", "You are a grader."), ("human", "Retrieved document: {document} Question: {question}")]
    )
    grade = llm.with_structured_output(Grade, method="json_schema")
    return (prompt | grade).invoke({"document": TEXT, "question": QUESTION})


def compressed(compressor: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def run(llm: Any) -> Any:
        retriever = ContextualCompressionRetriever(
            base_compressor=compressor(llm), base_retriever=_Retriever()
        )
        try:
            return retriever.invoke(QUESTION)
        except DPFusionError:
            raise
        except Exception:  # noqa: BLE001  the toy's answer may not be what the parser wants
            return None

    return run


def agentic_rag(llm: Any) -> Any:
    tool = create_retriever_tool(_Retriever(), "search", "Search the records.")
    agent = create_agent(llm, [tool], system_prompt="Search if you need to.")
    return agent.invoke(ASKED)


def prompt_with_context(llm: Any) -> Any:
    @dynamic_prompt
    def context(request: Any) -> str:
        return f"Use the following context:\n\n{format_docs(DOCUMENTS)}"

    return create_agent(llm, tools=[], middleware=[context]).invoke(ASKED)


def graph(llm: Any) -> Any:
    class State(TypedDict, total=False):
        question: str
        answer: str

    def generate(state: State) -> State:
        messages = [
            SystemMessage(SYSTEM.format(context=format_docs(DOCUMENTS))),
            HumanMessage(state["question"]),
        ]
        return {"answer": str(llm.invoke(messages).text)}

    built = StateGraph(State).add_node("generate", generate).add_edge(START, "generate").compile()
    return built.invoke({"question": QUESTION})


async def _events(chain: Any) -> list[Any]:
    return [event async for event in chain.astream_events(QUESTION, version="v2")]


APPS: dict[str, Callable[[Any], Any]] = {
    "system with context": lambda llm: lcel(llm).invoke(QUESTION),
    "one human message": hub_prompt,
    "bare string": lambda llm: llm.invoke(f"Answer from this: {TEXT}"),
    "batch": lambda llm: lcel(llm).batch([QUESTION, "Who else?"]),
    "abatch": lambda llm: asyncio.run(lcel(llm).abatch([QUESTION, "Who else?"])),
    "stream": lambda llm: list(lcel(llm).stream(QUESTION)),
    "astream_events": lambda llm: asyncio.run(_events(lcel(llm))),
    "with_retry": lambda llm: lcel(llm.with_retry(stop_after_attempt=1)).invoke(QUESTION),
    "with_fallbacks": lambda llm: lcel(llm.with_fallbacks([llm])).invoke(QUESTION),
    "create_stuff_documents_chain": lambda llm: create_stuff_documents_chain(llm, RAG).invoke(
        {"context": DOCUMENTS, "input": QUESTION}
    ),
    "create_retrieval_chain": lambda llm: create_retrieval_chain(
        _Retriever(), create_stuff_documents_chain(llm, RAG)
    ).invoke({"input": QUESTION}),
    "history aware": history_aware,
    "load_qa_chain": lambda llm: load_qa_chain(llm).invoke(
        {"input_documents": DOCUMENTS, "question": QUESTION}
    ),
    "map reduce": lambda llm: load_summarize_chain(llm, chain_type="map_reduce", token_max=1000).invoke(
        {"input_documents": DOCUMENTS}
    ),
    "refine": lambda llm: load_summarize_chain(llm, chain_type="refine").invoke(
        {"input_documents": DOCUMENTS}
    ),
    "RetrievalQA": lambda llm: RetrievalQA.from_chain_type(llm, retriever=_Retriever()).invoke(QUESTION),
    "ConversationalRetrievalChain": lambda llm: ConversationalRetrievalChain.from_llm(
        llm, retriever=_Retriever()
    ).invoke({"question": QUESTION, "chat_history": [("Who?", TEXT)]}),
    "extraction": extraction,
    "grader": grader,
    "filter": compressed(LLMChainFilter.from_llm),
    "extractor": compressed(LLMChainExtractor.from_llm),
    "rerank": compressed(LLMListwiseRerank.from_llm),
    "agentic rag": agentic_rag,
    "dynamic prompt": prompt_with_context,
    "graph": graph,
    "completion prompt": lambda llm: (PromptTemplate.from_template("{context}?") | llm).invoke(
        {"context": TEXT}
    ),
}


def says(prompt: str) -> str:
    if "# Tools" in prompt and "search" in prompt and "<|im_start|>tool\n" not in prompt:
        return '<tool_call>\n{"name": "search", "arguments": {"query": "gout"}}\n</tool_call>'
    return "Somebody."


def chat(**options: Any) -> tuple[ChatDPFusion, ScriptedBackend]:
    backend = ScriptedBackend.saying(says, context_length=4096)
    settings: dict[str, Any] = {"epsilon": 8.0, "max_tokens": 60}
    return ChatDPFusion(engine=FusionEngine(backend), **{**settings, **options}), backend


def public_views(backend: ScriptedBackend) -> str:
    return "\n".join(views[0] for views in backend.requests)


SETTINGS: dict[str, dict[str, Any]] = {
    "epsilon": {},
    "alpha and beta": {"epsilon": None, "alpha": 2.0, "beta": 0.01},
    "strict": {"unmarked": "strict"},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("app", APPS)
def test_an_app_that_only_swaps_the_model_is_refused_before_any_computation(app: str, setting: str) -> None:
    llm, backend = chat(**SETTINGS[setting])
    with pytest.raises(RefusedError, match=r"private_template|is_private") as caught:
        APPS[app](llm)
    assert backend.requests == []
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("app", APPS)
def test_with_a_ledger_alone_too(app: str) -> None:
    backend = ScriptedBackend.saying(says)
    ledger = PrivacyLedger("sqlite://", budget=PrivacyBudget(8.0), key="k" * 32)
    llm = ChatDPFusion(engine=FusionEngine(backend, ledger=ledger), max_tokens=60)
    with pytest.raises(RefusedError):
        APPS[app](llm)
    assert backend.requests == []


@pytest.mark.parametrize("app", APPS)
def test_if_unmarked_text_is_private_every_app_is_protected(app: str) -> None:
    llm, backend = chat(unmarked="private")
    APPS[app](llm)
    assert backend.requests
    assert SECRET not in public_views(backend)
    assert any(SECRET in view for views in backend.requests for view in views[1:])


@pytest.mark.parametrize("setting", ["epsilon", "strict"])
@pytest.mark.parametrize("app", ["system with context", "with_retry", "with_fallbacks", "stream", "batch"])
def test_callbacks_of_the_model_are_not_told_of_a_refused_call(app: str, setting: str) -> None:
    llm, _ = chat(**SETTINGS[setting])
    recorder = Recorder()
    with pytest.raises(RefusedError):
        APPS[app](llm.with_config(callbacks=[recorder]))
    assert SECRET not in recorder.text("on_chat_model")


@pytest.mark.parametrize(
    "run",
    [
        lambda llm, config: llm.invoke(TEXT, config),
        lambda llm, config: llm.batch([TEXT], config),
        lambda llm, config: list(llm.stream(TEXT, config)),
        lambda llm, config: asyncio.run(llm.ainvoke(TEXT, config)),
        lambda llm, config: asyncio.run(llm.abatch([TEXT], config)),
        lambda llm, config: llm.generate([[HumanMessage(TEXT)]], callbacks=config["callbacks"]),
        lambda llm, config: asyncio.run(_drained(llm.astream(TEXT, config))),
        lambda llm, config: asyncio.run(_drained(llm.astream_events(TEXT, config, version="v2"))),
        lambda llm, config: llm.invoke(TEXT, {**config, "tags": ["a"]}, epsilon=4.0),
    ],
)
def test_nor_are_they_without_a_chain(run: Any) -> None:
    llm, backend = chat()
    recorder = Recorder()
    with pytest.raises(RefusedError):
        run(llm, {"callbacks": [recorder]})
    assert SECRET not in recorder.text()
    assert backend.requests == []


async def _drained(items: Any) -> list[Any]:
    return [item async for item in items]


def test_the_budget_of_a_call_counts_like_the_models() -> None:
    llm, backend = chat(epsilon=None)
    for call in ({"epsilon": 8.0}, {"alpha": 2.0, "beta": 0.1}):
        for run in (
            lambda call=call: llm.invoke(TEXT, **call),
            lambda call=call: list(llm.stream(TEXT, **call)),
            lambda call=call: llm.bind(**call).invoke(TEXT),
            lambda call=call: llm.with_structured_output(Person, **call).invoke(TEXT),
        ):
            with pytest.raises(RefusedError):
                run()
    assert backend.requests == []
    assert llm.invoke("Hello").text == "Somebody."  # ordinary public generation


def test_a_call_may_say_what_unmarked_text_is() -> None:
    llm, backend = chat()
    assert llm.invoke("Hello", unmarked="public").response_metadata["dp_fusion"]["units"] == 0
    assert llm.bind(unmarked="private").invoke(TEXT).response_metadata["dp_fusion"]["units"] == 1
    llm.with_structured_output(Person, unmarked="private").invoke(TEXT)
    assert SECRET not in public_views(backend)
    with pytest.raises(PrivacyParameterError, match="unmarked"):
        llm.invoke(TEXT, unmarked="privat")


def test_unmarked_parts_of_a_private_message_follow_the_rule_of_the_call() -> None:
    llm, backend = chat()
    message = HumanMessage([TEXT, {"type": "text", "text": "Ann", "extras": {"is_private": True}}])
    recorder = Recorder()
    llm.bind(unmarked="private").invoke([message], {"callbacks": [recorder]})
    llm.invoke([message], {"callbacks": [recorder]}, unmarked="private")
    asyncio.run(llm.ainvoke([message], {"callbacks": [recorder]}, unmarked="private"))
    list(llm.stream([message], {"callbacks": [recorder]}, unmarked="private"))
    assert SECRET not in public_views(backend) + recorder.text()
    with pytest.raises(RefusedError, match=r"Message 1 \(role 'user'\)"):
        llm.invoke([message], unmarked="strict")


def test_strict_is_not_excused_by_a_private_message_elsewhere() -> None:
    llm, backend = chat(unmarked="strict")
    with pytest.raises(RefusedError, match=r"Message 2 \(role 'system'\)"):
        llm.invoke([mark_private(HumanMessage(TEXT)), SystemMessage("Be short.")])
    assert backend.requests == []


def test_what_is_gone_names_what_takes_its_place() -> None:
    for build in (
        lambda: ChatDPFusion(model="dpfusion-tiny", default_private="all"),  # type: ignore[call-arg]
        lambda: chat()[0].invoke("x", default_private=None),
        lambda: chat()[0].bind_tools([], default_private=None),
    ):
        with pytest.raises(PrivacyParameterError, match="unmarked="):
            build()


# --- Agents ---


def test_an_agent_whose_question_is_said_to_be_public_protects_what_its_tools_return() -> None:
    for options, middleware in (
        ({"unmarked": "public"}, []),
        ({}, [DPFusionMiddleware(public_roles=("human", "system"))]),
    ):
        llm, backend = chat(**options)
        tool = create_retriever_tool(_Retriever(), "search", "Search the records.")
        agent = create_agent(llm, [tool], system_prompt="Search.", middleware=middleware)
        agent.invoke(ASKED)
        assert len(backend.requests) == 2
        assert SECRET not in public_views(backend)
        assert SECRET in backend.requests[1][1]


def test_the_middleware_vouches_for_the_question_and_not_for_what_is_written_into_it() -> None:
    from langchain.agents.middleware import before_model

    @before_model
    def augment(state: Any, runtime: Any) -> Any:
        last = state["messages"][-1]
        return {"messages": [last.model_copy(update={"content": f"{last.text}\n\n{TEXT}"})]}

    llm, backend = chat()
    middleware: list[Any] = [DPFusionMiddleware(), augment]
    agent = create_agent(llm, [], middleware=middleware)
    with pytest.raises(RefusedError):
        agent.invoke(ASKED)
    assert backend.requests == []


def test_the_middleware_does_not_vouch_for_a_system_prompt_unless_told() -> None:
    @dynamic_prompt
    def context(request: Any) -> str:
        return f"Use the following context:\n\n{TEXT}"

    llm, backend = chat()
    question: Any = {"messages": [("user", "?!")]}
    vouching: list[Any] = [DPFusionMiddleware(), context]
    with pytest.raises(RefusedError):
        create_agent(llm, [], middleware=vouching).invoke(question)
    assert backend.requests == []
    middleware: list[Any] = [context, DPFusionMiddleware(private_roles=("system",))]
    create_agent(llm, [], middleware=middleware).invoke(ASKED)
    assert SECRET not in public_views(backend)
    assert len(backend.requests) == 1


@pytest.mark.parametrize(
    ("call", "unmarked"),
    [
        (mark_private(EXAMPLE), "public"),
        (EXAMPLE.model_copy(update={"additional_kwargs": {"is_private": True}}), "public"),
        (EXAMPLE, "private"),
        (EXAMPLE, "strict"),
    ],
)
def test_the_arguments_of_a_call_are_text_like_any_other(call: AIMessage, unmarked: Any) -> None:
    llm, backend = chat()
    recorder = Recorder()
    chain = [mark_private(HumanMessage(TEXT)), call, ToolMessage("Right.", tool_call_id="1")]
    with pytest.raises(DPFusionError, match=r"cannot call tools|does not say"):
        llm.invoke(chain, {"callbacks": [recorder]}, unmarked=unmarked)
    assert backend.requests == []
    assert recorder.text("on_chat_model") == ""
    vouched = EXAMPLE.model_copy(update={"additional_kwargs": {"is_private": False}})
    assert llm.invoke([chain[0], vouched, chain[2]], unmarked=unmarked).text
    own = EXAMPLE.model_copy(update={"response_metadata": {"dp_fusion": {"epsilon": 8.0}}})
    assert llm.invoke([chain[0], own, chain[2]], unmarked=unmarked).text


def test_the_net_holds_the_arguments_of_calls_too() -> None:
    llm, backend = chat()
    mark_private(HumanMessage(TEXT))
    call = AIMessage("", tool_calls=[{"name": "note", "args": {"lines": [TEXT]}, "id": "1"}])
    with pytest.raises(RefusedError, match="mark was lost"):
        llm.invoke([HumanMessage(QUESTION), call, ToolMessage("Noted.", tool_call_id="1")], unmarked="public")
    assert backend.requests == []


# --- The net ---


def seen_in_a_message(llm: Any) -> None:
    llm.invoke([mark_private(HumanMessage(TEXT)), HumanMessage(QUESTION)], epsilon=8.0)


def seen_by_the_mark(llm: Any) -> None:
    mark_private(HumanMessage(TEXT))


def seen_by_the_mark_of_a_block(llm: Any) -> None:
    mark_private(HumanMessage([{"type": "text", "text": TEXT}]))


def seen_in_an_agent(llm: Any) -> None:
    hide(ToolMessage(TEXT, tool_call_id="1"))


def seen_by_the_formatter(llm: Any) -> None:
    PrivateDocumentFormatter().invoke(DOCUMENTS)


def seen_by_the_tool(llm: Any) -> None:
    create_private_retriever_tool(_Retriever(), "search", "Search.").invoke({"query": "x"})


def seen_by_a_template(llm: Any) -> None:
    private_template("{context}").format_messages(context=TEXT)


@pytest.mark.parametrize("unmarked", [None, "error", "public"])
@pytest.mark.parametrize(
    "how",
    [
        seen_in_a_message,
        seen_by_the_mark,
        seen_by_the_mark_of_a_block,
        seen_in_an_agent,
        seen_by_the_formatter,
        seen_by_the_tool,
        seen_by_a_template,
    ],
)
def test_text_that_was_private_and_comes_back_unmarked_is_refused(how: Any, unmarked: Any) -> None:
    llm, backend = chat(epsilon=None)
    how(llm)
    before = len(backend.requests)
    # With "error", one private message lets the others be public: only the net is left.
    pasted = [HumanMessage(f"Summarise this for me: {TEXT.upper()}"), mark_private(HumanMessage("Ann"))]
    with pytest.raises(RefusedError, match="mark was lost"):
        llm.invoke(pasted, unmarked=unmarked, epsilon=8.0)
    with pytest.raises(RefusedError, match="mark was lost"):
        list(llm.stream(pasted, unmarked=unmarked, epsilon=8.0))
    assert len(backend.requests) == before
    llm.invoke(pasted, unmarked="private", epsilon=8.0)
    assert SECRET.upper() not in backend.requests[-1][0]
    said = HumanMessage(TEXT, additional_kwargs={"is_private": False})  # what the caller says binds
    assert llm.invoke([said]).response_metadata["dp_fusion"]["units"] == 0


def test_a_unit_is_what_the_caller_says_whatever_was_seen_before() -> None:
    llm, backend = chat()
    PrivateDocumentFormatter(unit=lambda _: "doc-a").invoke(DOCUMENTS[:1])
    message = mark_private(HumanMessage(TEXT), "patient-17")
    ledger = PrivacyLedger("sqlite://", budget=PrivacyBudget(8.0), key="k" * 32)
    llm = ChatDPFusion(engine=FusionEngine(backend, ledger=ledger), epsilon=1.0, max_tokens=10)
    llm.invoke([message])
    assert ledger.account("patient-17").spent_epsilon > 0
    with pytest.raises(PrivacyParameterError, match="no account"):
        ledger.account("doc-a")
    public = HumanMessage(TEXT, additional_kwargs={"is_private": False})
    llm.invoke([public, mark_private(HumanMessage("Ann"))])  # and public now does not make it public later
    llm.invoke([message])
    assert SECRET not in backend.requests[-1][0]


def test_an_answer_of_ours_may_be_quoted() -> None:
    backend = ScriptedBackend.saying(TEXT)
    llm = ChatDPFusion(engine=FusionEngine(backend), order=2.0, beta=500.0, max_tokens=60)
    answer = llm.invoke([mark_private(HumanMessage(TEXT)), HumanMessage(QUESTION)])
    assert SECRET in answer.text
    assert llm.invoke(f"You said: {answer.text}", unmarked="public").text


@pytest.mark.parametrize("middleware", [[], [DPFusionMiddleware()]])
@pytest.mark.parametrize(
    "result",
    [
        "No results found.",
        '{"query": "What does the record of the patient in Oslo say of gout?", "results": []}',
    ],
)
def test_what_a_tool_says_of_nothing_and_what_it_repeats_of_the_question_are_nobodys_secrets(
    result: str, middleware: list[Any]
) -> None:
    call = '<tool_call>{"name": "search", "arguments": {"query": "gout"}}</tool_call>'
    backend = ScriptedBackend.saying(lambda prompt: "Gone." if "|>tool" in prompt else call)
    llm = ChatDPFusion(engine=FusionEngine(backend), epsilon=8.0, max_tokens=60, unmarked="public")
    search = StructuredTool.from_function(lambda query: result, name="search", description="Searches.")
    agent = create_agent(
        llm, [search], middleware=middleware, system_prompt="Say so if you have no results found."
    )
    for _ in range(2):
        asked: Any = {"messages": [("user", "What does the record of the patient in Oslo say of gout?")]}
        assert agent.invoke(asked)["messages"][-1].text == "Gone."
