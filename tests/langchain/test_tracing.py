"""Whole chains, agents and histories, traced: with the redacting client no private text is sent."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_classic.chains import create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.documents import Document
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, message_to_dict
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tracers import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, Send
from langsmith import tracing_context

from langchain_dpfusion import (
    ChatDPFusion,
    DPFusionMiddleware,
    PrivateDocumentFormatter,
    create_private_retriever_tool,
    mark_private,
    private_block,
    private_template,
    private_tracing_client,
    redact_private,
)
from tests.langchain.leaks import SECRET, Recorder, Sent, as_text, log_records
from tests.langchain.records import documents, retriever
from tests.langchain.scripted import scripted_engine

PRIVATE = mark_private(HumanMessage(f"I am {SECRET}."))
MESSAGES: dict[str, Any] = {
    "message": PRIVATE,
    "span": HumanMessage([private_block(SECRET, "a"), "public words"]),
    "tool": ToolMessage(SECRET, tool_call_id="1", artifact=[SECRET]),
    "unreadable": HumanMessage([{"type": "image", "url": SECRET}]),
    "document": Document(SECRET, metadata={"note": SECRET, "source": "s"}),
    "block": private_block(SECRET),
    "bad metadata": {"page_content": SECRET, "metadata": SECRET},
    "unknown": object,
}
MESSAGES |= {
    "artifact of a public result": ToolMessage(
        "Found 1.",
        tool_call_id="1",
        artifact=[Document(SECRET)],
        additional_kwargs={"is_private": False},
    ),
    "documents in kwargs": HumanMessage("x", additional_kwargs={"context": [Document(SECRET)]}),
    "documents in metadata": AIMessage("x", response_metadata={"found": {"all": [Document(SECRET)]}}),
    "command of a tool": Command(
        update={"messages": [HumanMessage(SECRET), ToolMessage("x", tool_call_id="1")], "notes": SECRET},
        goto=[Send("model", {"messages": [HumanMessage(SECRET)]})],
    ),
    "private system message": mark_private(SystemMessage(SECRET)),
}
FORMS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda v: v,
    "in a list": lambda v: {"a": [[v], (v,)]},
    "dumped": lambda v: {"x": dumpd(v)},
    "model_dump": lambda v: v.model_dump() if hasattr(v, "model_dump") else v,
    "message_to_dict": lambda v: message_to_dict(v) if hasattr(v, "content") else v,
    "role": lambda v: (
        {"role": "tool" if isinstance(v, ToolMessage) else "user", **v.model_dump(exclude={"type"})}
        if hasattr(v, "content")
        else v
    ),
    "prompt": lambda v: ChatPromptValue(messages=[v]) if hasattr(v, "content") else v,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("strings", [False, True])
def test_private_things_are_redacted_in_every_form(form: str, message: str, strings: bool) -> None:
    shown = redact_private(FORMS[form](MESSAGES[message]), strings=strings)
    assert SECRET not in as_text(shown)
    if message == "span":
        assert "public words" in as_text(shown)
    if message == "document":
        assert "'s'" in as_text(shown)


def test_what_is_public_stays() -> None:
    public = {
        "messages": [HumanMessage("Hello"), {"role": "user", "content": "Hi"}, dumpd(AIMessage("Ho"))],
        "doc": Document("open", metadata={"is_private": False}),
        "number": 3,
        "text": "bare",
    }
    shown = redact_private(public)
    assert shown["messages"] == public["messages"]
    assert (shown["doc"], shown["number"], shown["text"]) == (public["doc"], 3, "bare")
    assert redact_private(public, strings=True)["text"] == "____"
    assert redact_private(public, strings=True)["messages"] == public["messages"]
    assert redact_private(HumanMessage("x"), unmarked="private").content == "____"


def test_results_of_models_are_redacted_like_messages() -> None:
    result = LLMResult(generations=[[ChatGeneration(message=AIMessage("Yes."))]])
    assert redact_private(result)["generations"][0][0]["message"].content == "Yes."


# --- Applications ---


def chat(says: Any = "Somebody was.", **options: Any) -> ChatDPFusion:
    return ChatDPFusion(
        engine=scripted_engine(says),
        **{"epsilon": 8.0, "max_tokens": 80, "unmarked": "public", **options},
    )


def calling(prompt: str) -> str:
    if "<|im_start|>tool\n" not in prompt:
        return '<tool_call>\n{"name": "search", "arguments": {"query": "gout"}}\n</tool_call>'
    return "Somebody was."


PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Answer."), private_template("{context}"), ("human", "{input}")]
)


def lcel(config: Any) -> Any:
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("context"), ("human", "{input}")])
    chain: Any = (
        {"context": retriever() | PrivateDocumentFormatter(), "input": RunnablePassthrough()}
        | prompt
        | chat()
    )
    return (chain | StrOutputParser()).invoke("Who?", config)


def joined(config: Any) -> Any:
    def join(found: list[Document]) -> str:
        return "\n\n".join(document.page_content for document in found)

    chain: Any = (
        {"context": retriever() | RunnableLambda(join), "input": RunnablePassthrough()} | PROMPT | chat()
    )
    return chain.invoke("Who?", config)


def stuffed(config: Any) -> Any:
    return create_stuff_documents_chain(chat(), PROMPT).invoke(
        {"context": documents(), "input": "Who?"}, config
    )


def retrieval(config: Any) -> Any:
    chain = create_retrieval_chain(retriever(), create_stuff_documents_chain(chat(), PROMPT))
    return chain.invoke({"input": "Who?"}, config)["answer"]


def agent(config: Any, **options: Any) -> Any:
    search = create_private_retriever_tool(retriever(), "search", "Finds records.", artifact=True)
    built = create_agent(chat(calling), [search], middleware=[DPFusionMiddleware()], **options)
    return built.invoke({"messages": [PRIVATE, HumanMessage("Who?")]}, config)["messages"][-1]


def plain_agent(config: Any) -> Any:
    search = create_private_retriever_tool(retriever(), "search", "Finds records.")
    asked: Any = {"messages": [("human", "Who?")]}
    return create_agent(chat(calling), [search]).invoke(asked, config)["messages"][-1]


def async_agent(config: Any) -> Any:
    search = create_private_retriever_tool(retriever(), "search", "Finds records.")
    built = create_agent(chat(calling), [search], middleware=[DPFusionMiddleware()])
    return asyncio.run(built.ainvoke({"messages": [PRIVATE, HumanMessage("Who?")]}, config))["messages"][-1]


def history(config: Any) -> Any:
    kept = InMemoryChatMessageHistory()
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), MessagesPlaceholder("input")])
    chain = RunnableWithMessageHistory(
        prompt | chat(), lambda: kept, input_messages_key="input", history_messages_key="history"
    )
    chain.invoke({"input": [PRIVATE]}, config)
    answer = chain.invoke({"input": [HumanMessage("Who am I?")]}, config)
    assert SECRET in as_text(kept.messages)
    assert answer.response_metadata["dp_fusion"]["units"] == 1
    return answer


def batched(config: Any) -> Any:
    return (PROMPT | chat()).batch([{"context": documents(), "input": "Who?"}] * 2, config)


def streamed(config: Any) -> Any:
    return "".join(
        (PROMPT | chat() | StrOutputParser()).stream({"context": documents(), "input": "Who?"}, config)
    )


APPLICATIONS = [lcel, joined, stuffed, retrieval, agent, plain_agent, async_agent, history, batched, streamed]


@pytest.mark.filterwarnings("ignore:The class `InMemoryChatMessageHistory` was deprecated")  # and much used
@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")  # likewise
@pytest.mark.parametrize("application", APPLICATIONS)
def test_the_redacting_client_sends_no_private_text_of_a_whole_application(application: Any) -> None:
    plain, redacted, recorder = Sent(), Sent(), Recorder()
    application({"callbacks": [LangChainTracer(client=plain.client())]})
    client = private_tracing_client(**redacted.options())
    with log_records() as logged:
        answer = application({"callbacks": [LangChainTracer(client=client), Models(recorder)]})
    assert "omebody" in as_text(answer)
    assert SECRET in plain.text  # the application itself does leak with a plain client
    assert redacted.session.request.called
    assert "ChatDPFusion" in redacted.text
    assert SECRET not in redacted.text
    assert SECRET not in recorder.text()
    assert "on_chat_model_start" in {name for name, _ in recorder.events}
    assert SECRET not in "\n".join(logged)


def test_the_context_manager_of_langsmith_takes_the_client() -> None:
    sent = Sent()
    with tracing_context(enabled=True, client=private_tracing_client(**sent.options())):
        chat().invoke([PRIVATE, HumanMessage("Who?")])
    assert sent.session.request.called
    assert SECRET not in sent.text


class Models(Recorder):
    """Passes on the events of chat models."""

    def __init__(self, target: Recorder) -> None:
        self.events = target.events

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_") and "chat_model" not in name and "llm" not in name:
            return lambda *args, **kwargs: None
        return super().__getattribute__(name)


def test_checkpoints_hold_private_text_only_in_messages_that_say_so() -> None:
    """The conversation itself is the application's: its messages are kept, with their marks."""
    saver = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "1"}}
    agent({**config}, checkpointer=saver)
    for saved in saver.list(config):
        values = saved.checkpoint["channel_values"]
        for message in values.get("messages", []):
            if SECRET in as_text(message):
                assert SECRET not in as_text(redact_private(message))
        assert SECRET not in as_text(
            {key: value for key, value in values.items() if key != "messages"} | {"__start__": 0}
        )
