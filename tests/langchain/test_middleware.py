"""Agents of ``create_agent``: tool results stay private, other models never see them, requests have budgets."""

import asyncio
import traceback
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, SummarizationMiddleware
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Overwrite, Send
from pydantic import BaseModel

from dpfusion_core import (
    BackendError,
    BudgetExhaustedError,
    FusionEngine,
    PrivacyBudget,
    PrivacyLedger,
    PrivacyParameterError,
    ScriptedBackend,
    UnsupportedError,
    ViewError,
)
from dpfusion_core.messages import DEFAULT_UNIT
from langchain_dpfusion import (
    ChatDPFusion,
    DPFusionMiddleware,
    PrivateDocumentFormatter,
    create_private_retriever_tool,
    mark_private,
)
from langchain_dpfusion.reading import has_private, to_core
from tests.langchain.leaks import SECRET, as_text
from tests.langchain.records import retriever
from tests.langchain.scripted import scripted_backend, scripted_engine

BOTH = pytest.mark.parametrize("is_async", [False, True])
QUESTION: dict[str, Any] = {"messages": [HumanMessage("Who was treated for gout?")]}


@tool
def lookup(query: str) -> str:
    """Look up a record."""
    return f"{SECRET} was treated for {query}."


@tool
def command(query: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Look up a record and update the state."""
    message = ToolMessage(f"{SECRET}: {query}", tool_call_id=tool_call_id, name="command")
    return Command(update={"messages": [message]})


@tool
def clock() -> str:
    """Tell the time."""
    return "It is noon."


def agentic(name: str, arguments: str = '{"query": "gout"}', calls: int = 1) -> Any:
    """Call a tool until it has answered a number of times, then answer."""

    def says(prompt: str) -> str:
        if prompt.count("<|im_start|>tool\n") < calls:
            return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
        return "Somebody was."

    return says


def chat(
    name: str = "lookup", arguments: str = '{"query": "gout"}', calls: int = 1, **options: Any
) -> ChatDPFusion:
    settings: dict[str, Any] = {"epsilon": 8.0, "max_tokens": 80, "unmarked": "public"}
    return ChatDPFusion(engine=scripted_engine(agentic(name, arguments, calls)), **{**settings, **options})


def run(agent: Any, is_async: bool, question: Any = None, **config: Any) -> list[Any]:
    question = QUESTION if question is None else question
    result = asyncio.run(agent.ainvoke(question, config)) if is_async else agent.invoke(question, config)
    messages: list[Any] = result["messages"]
    return messages


def units(message: Any) -> int:
    number: int = message.response_metadata["dp_fusion"]["units"]
    return number


class Eavesdropper(GenericFakeChatModel):
    """Another model, which keeps what it is told."""

    heard: list[str] = []  # noqa: RUF012  a field of pydantic, copied for each instance

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        self.heard.append(as_text(messages))
        return super()._generate(messages, *args, **kwargs)

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def eavesdropper() -> Eavesdropper:
    return Eavesdropper(messages=iter([AIMessage("I know nothing.")] * 9))


# --- What tools return ---


@BOTH
def test_a_tools_result_is_private_for_the_model_and_hidden_in_the_state(is_async: bool) -> None:
    messages = run(create_agent(chat(), [lookup], middleware=[DPFusionMiddleware()]), is_async)
    assert [type(message).__name__ for message in messages] == [
        "HumanMessage",
        "AIMessage",
        "ToolMessage",
        "AIMessage",
    ]
    assert [units(messages[1]), units(messages[3])] == [0, 1]
    assert messages[3].text == "Somebody was."
    assert SECRET not in messages[2].text
    assert SECRET in to_core([messages[2]])[0].segments[0].text


@BOTH
def test_messages_in_a_command_are_private_too(is_async: bool) -> None:
    messages = run(create_agent(chat("command"), [command], middleware=[DPFusionMiddleware()]), is_async)
    assert units(messages[-1]) == 1
    assert SECRET not in messages[2].text


@tool
def handoff(query: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
    """Look up records, and write them into the conversation in every way there is."""
    told = [
        ToolMessage("Done.", tool_call_id=tool_call_id, name="handoff"),
        HumanMessage(f"One: {SECRET}"),
        AIMessage(f"Two: {SECRET}"),
        SystemMessage(f"Three: {SECRET}"),
        ("user", f"Four: {SECRET}"),
        {"role": "assistant", "content": f"Five: {SECRET}"},
    ]
    return [Command(update={"messages": told, "jump_to": None})]


@BOTH
def test_every_message_of_a_private_tools_command_is_private(is_async: bool) -> None:
    backend = ScriptedBackend.saying(agentic("handoff"))
    llm = ChatDPFusion(engine=FusionEngine(backend), epsilon=8.0, max_tokens=80)
    messages = run(create_agent(llm, [handoff], middleware=[DPFusionMiddleware()]), is_async)
    public, private = backend.requests[-1]
    assert SECRET not in public
    assert private.count(SECRET) == 5
    assert SECRET not in "".join(str(message.text) for message in messages)


@pytest.mark.parametrize(
    "result",
    [
        Command(update=[("messages", [HumanMessage(SECRET)])]),
        Command(update=[HumanMessage(SECRET)]),
        Command(update={"messages": HumanMessage(SECRET), "other": [HumanMessage(SECRET)]}),
        Command(update={"messages": Overwrite([HumanMessage(SECRET)])}),
        Command(goto=Send("model", {"messages": [("user", SECRET)]})),
        Command(goto=[Send("model", HumanMessage(SECRET)), "other"]),
    ],
)
def test_commands_in_every_form(result: Command[Any]) -> None:
    marked = DPFusionMiddleware()._marked("f", result)
    assert "'is_private': True" in repr(marked)
    assert repr(marked).count(SECRET) == repr(marked).count("non_standard") >= 1
    public = DPFusionMiddleware(private_tools=())._marked("f", result)
    assert "non_standard" not in repr(public)


@pytest.mark.parametrize(
    ("update", "error"),
    [
        ({"messages": [object()]}, ViewError),
        (object(), UnsupportedError),
        ({"messages": [(SECRET, SECRET)]}, ViewError),
    ],
)
def test_commands_that_cannot_be_read_are_refused_and_not_quoted(update: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        DPFusionMiddleware()._marked("f", Command(update=update))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@BOTH
def test_documents_of_the_retriever_tool_stay_units_of_their_own(is_async: bool) -> None:
    search = create_private_retriever_tool(retriever(), "search", "Finds records.")
    messages = run(create_agent(chat("search"), [search], middleware=[DPFusionMiddleware()]), is_async)
    assert units(messages[-1]) == 2
    assert "The clinic opens at eight." in messages[2].text  # the public one
    assert SECRET not in messages[2].text


def test_only_named_tools_are_private_if_some_are_named() -> None:
    middleware = DPFusionMiddleware(private_tools={"lookup"})
    tools = [clock, lookup]
    assert units(run(create_agent(chat("clock", "{}"), tools, middleware=[middleware]), False)[-1]) == 0
    assert units(run(create_agent(chat(), tools, middleware=[middleware]), False)[-1]) == 1
    everything = DPFusionMiddleware()
    assert units(run(create_agent(chat("clock", "{}"), [clock], middleware=[everything]), False)[-1]) == 1


def test_what_a_tool_marks_itself_stays_private_in_a_public_tool() -> None:
    search = create_private_retriever_tool(retriever(), "search", "Finds records.")
    agent = create_agent(chat("search"), [search], middleware=[DPFusionMiddleware(private_tools=())])
    assert units(run(agent, False)[-1]) == 2


def test_without_the_middleware_tool_results_are_private_by_default() -> None:
    assert units(run(create_agent(chat(), [lookup]), False)[-1]) == 1


@BOTH
def test_what_the_user_says_is_private_if_asked_for(is_async: bool) -> None:
    agent = create_agent(chat(), [lookup], middleware=[DPFusionMiddleware(private_roles=("human",))])
    messages = run(agent, is_async)
    assert [units(messages[1]), units(messages[3])] == [1, 1]
    assert messages[0].text == ""


@BOTH
def test_private_messages_of_the_state_survive_strict_checkpoints(is_async: bool) -> None:
    backend = ScriptedBackend.saying("Somebody was.")
    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    llm = ChatDPFusion(engine=FusionEngine(backend), epsilon=8.0, max_tokens=20)
    agent = create_agent(llm, [lookup], checkpointer=saver)
    documents = [Document(f"{SECRET} has gout.", metadata={"source": "a.txt"})]
    question = {"messages": [*PrivateDocumentFormatter().invoke(documents), HumanMessage("Who?")]}
    config: Any = {"configurable": {"thread_id": "1"}}
    run(agent, is_async, question, **config)
    messages = run(agent, is_async, {"messages": [HumanMessage("Who else?")]}, **config)
    assert all(isinstance(message, BaseMessage) for message in messages)
    assert len(backend.requests) == 2
    for public, private in backend.requests:
        assert SECRET not in public
        assert SECRET in private


@BOTH
@pytest.mark.parametrize("unmarked", ["strict", "private"])
def test_an_agent_works_under_every_rule(is_async: bool, unmarked: Any) -> None:
    backend = ScriptedBackend.saying(agentic("lookup"))
    llm = ChatDPFusion(engine=FusionEngine(backend), epsilon=8.0, max_tokens=80, unmarked=unmarked)
    middleware = DPFusionMiddleware(private_roles=("system",))
    agent = create_agent(llm, [lookup], middleware=[middleware], system_prompt=f"{SECRET} is the boss.")
    assert run(agent, is_async)[-1].text == "Somebody was."
    assert not any(SECRET in views[0] for views in backend.requests)


# --- Other models ---


@BOTH
def test_another_model_is_refused_once_there_is_something_private(is_async: bool) -> None:
    other = eavesdropper()
    agent = create_agent(other, [lookup], middleware=[DPFusionMiddleware()])
    assert run(agent, is_async)[-1].text == "I know nothing."
    private = {"messages": [mark_private(HumanMessage(SECRET))]}
    with pytest.raises(UnsupportedError, match="Only ChatDPFusion") as caught:
        run(agent, is_async, private)
    assert SECRET not in str(caught.value) + "".join(other.heard)


@BOTH
@pytest.mark.parametrize("is_outer", [False, True])
def test_a_fallback_to_another_model_never_sees_private_text(is_async: bool, is_outer: bool) -> None:
    backend = scripted_backend(agentic("lookup"))
    works, other = backend._script, eavesdropper()

    def failing(prompt: tuple[int, ...], said: tuple[int, ...]) -> Any:
        read = backend.tokenizer.decode(prompt)
        if "tool_response" in read or "<|im_start|>tool" in read:
            raise BackendError("The model failed.")
        return works(prompt, said)

    backend._script = failing
    llm = ChatDPFusion(engine=FusionEngine(backend), epsilon=8.0, max_tokens=80, unmarked="public")
    ours, fallback = DPFusionMiddleware(), ModelFallbackMiddleware(other)
    middleware: list[Any] = [fallback, ours] if is_outer else [ours, fallback]
    agent = create_agent(llm, [lookup], middleware=middleware)
    if is_outer:  # our middleware is asked about the fallback, and refuses
        with pytest.raises((UnsupportedError, BackendError)):
            run(agent, is_async)
        assert other.heard == []
    else:  # the fallback gets placeholders
        assert run(agent, is_async)[-1].text == "I know nothing."
        assert "____" in other.heard[0]
    assert SECRET not in "".join(other.heard)


@BOTH
def test_a_summariser_never_sees_private_text(is_async: bool) -> None:
    other = eavesdropper()
    summary = SummarizationMiddleware(model=other, trigger=("messages", 4), keep=("messages", 1))
    middleware: list[Any] = [DPFusionMiddleware(), summary]
    agent = create_agent(chat(calls=1), [lookup], middleware=middleware, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    question = {"messages": [mark_private(HumanMessage(f"I am {SECRET}. Who was treated?"))]}
    first = run(agent, is_async, question, **config)
    assert units(first[-1]) >= 1
    run(agent, is_async, {"messages": [HumanMessage("And now?")]}, **config)
    assert other.heard
    assert SECRET not in "".join(other.heard)


def test_a_summary_by_the_private_model_reads_what_is_private() -> None:
    """The recipe: ``SummarizationMiddleware(model=ChatDPFusion(unmarked="private"))`` without hiding."""
    summariser = ChatDPFusion(
        engine=scripted_engine("A summary."), unmarked="private", epsilon=8.0, max_tokens=20
    )
    answer = summariser.invoke(f"Summarise: {SECRET}")
    assert units(answer) == 1


# --- Budgets ---


@BOTH
@pytest.mark.parametrize("how", ["end", "raise", "zero-out"])
def test_a_request_has_a_budget(is_async: bool, how: Any) -> None:
    middleware = DPFusionMiddleware(budget=PrivacyBudget(8.0), calls=2, on_exhausted=how)
    agent = create_agent(chat(calls=5, epsilon=100.0), [lookup], middleware=[middleware])
    if how == "raise":
        with pytest.raises(BudgetExhaustedError, match="calls=2"):
            run(agent, is_async)
        return
    messages = run(agent, is_async)
    answers = [message for message in messages if "dp_fusion" in message.response_metadata]
    spent = [answer for answer in answers if units(answer)]
    assert len(spent) == 2  # calls that read tool results; the first had nothing private
    if how == "end":
        assert "budget of this request is spent" in messages[-1].text
    else:
        assert [units(answer) for answer in answers[-2:]] == [0, 0]
        assert messages[-1].text == "Somebody was."
    # Together the two calls fit the budget: half of the loss each, at the same order.
    losses = [answer.response_metadata["dp_fusion"]["loss_per_token"] for answer in spent]
    whole = chat(epsilon=8.0).invoke([HumanMessage("?"), mark_private(HumanMessage("x"))])
    assert losses == [pytest.approx(whole.response_metadata["dp_fusion"]["loss_per_token"] / 2, rel=1e-3)] * 2


def test_each_request_of_a_thread_has_its_own_budget() -> None:
    middleware = DPFusionMiddleware(budget=PrivacyBudget(8.0), calls=1)
    agent = create_agent(chat(), [lookup], middleware=[middleware], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    assert run(agent, False, **config)[-1].text == "Somebody was."
    again = run(agent, False, {"messages": [HumanMessage("Are you sure?")]}, **config)
    assert units(again[-1]) == 1
    assert again[-1].text == "Somebody was."


@BOTH
@pytest.mark.parametrize("how", ["end", "raise", "zero-out"])
def test_a_budget_of_the_ledger_that_is_spent_in_the_middle_ends_the_agent_too(
    is_async: bool, how: Any
) -> None:
    ledger = PrivacyLedger("sqlite://", budget=PrivacyBudget(8.0), key="k" * 32)
    engine = scripted_engine(agentic("lookup", calls=3), ledger=ledger)
    llm = ChatDPFusion(engine=engine, epsilon=6.0, max_tokens=80)  # one call fits, a second does not
    agent = create_agent(
        llm, [lookup], middleware=[DPFusionMiddleware(on_exhausted=how)], checkpointer=InMemorySaver()
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    if how == "raise":
        with pytest.raises(BudgetExhaustedError):
            run(agent, is_async, **config)
        return
    messages = run(agent, is_async, **config)
    if how == "zero-out":
        assert messages[-1].text == "Somebody was."
        return
    assert "budget of this request is spent" in messages[-1].text
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai", "tool", "ai"]
    again = run(agent, is_async, {"messages": [HumanMessage("And now?")]}, **config)
    assert again[-2].text == "And now?"
    assert "spent" in again[-1].text
    ledger.curator.amend(DEFAULT_UNIT, PrivacyBudget(60.0), "granted more")
    assert run(agent, is_async, {"messages": [HumanMessage("Now?")]}, **config)[-1].text == "Somebody was."


@pytest.mark.parametrize(
    "arguments",
    [
        {"private_tool": {"lookup"}},
        {"private_tools": "lookup"},
        {"private_roles": ("tool",)},
        {"private_roles": ("human",), "public_roles": ("human",)},
        {"private_roles": "human"},
        {"budget": 8.0},
        {"calls": 0},
        {"on_exhausted": "stop"},
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError):
        DPFusionMiddleware(**arguments)


# --- Structured answers and histories ---


class Treated(BaseModel):
    """Who was treated."""

    count: int


@BOTH
def test_an_agent_answers_in_a_given_form(is_async: bool) -> None:
    def says(prompt: str) -> str:
        if "<|im_start|>tool\n" not in prompt:
            return agentic("lookup")(prompt)  # type: ignore[no-any-return]
        return '{"count": 1}'

    llm = ChatDPFusion(engine=scripted_engine(says), epsilon=8.0, max_tokens=120, unmarked="public")
    agent: Any = create_agent(llm, [lookup], middleware=[DPFusionMiddleware()], response_format=Treated)
    result: Any = asyncio.run(agent.ainvoke(QUESTION)) if is_async else agent.invoke(QUESTION)
    assert result["structured_response"] == Treated(count=1)
    assert [message.type for message in result["messages"]] == [
        "human",
        "ai",
        "tool",
        "ai",
    ]  # it called the tool
    assert units(result["messages"][-1]) == 1


@BOTH
def test_private_messages_survive_checkpoints(is_async: bool) -> None:
    saver = InMemorySaver()
    agent = create_agent(chat(), [lookup], middleware=[DPFusionMiddleware()], checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    run(agent, is_async, **config)
    kept = agent.get_state(config).values["messages"]
    assert has_private(kept)
    assert units(run(agent, is_async, {"messages": [HumanMessage("Again?")]}, **config)[-1]) == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_a_private_tool_that_the_agent_does_not_have_is_refused(is_async: bool) -> None:
    @tool
    def search_records(query: str) -> str:
        """Search records."""
        return SECRET

    llm = ChatDPFusion(engine=scripted_engine("Hello."), epsilon=8.0, max_tokens=20, unmarked="public")

    def ask(*names: str) -> Any:
        agent = create_agent(llm, [search_records], middleware=[DPFusionMiddleware(private_tools=names)])
        asked: Any = {"messages": [("user", "Who?")]}
        return asyncio.run(agent.ainvoke(asked)) if is_async else agent.invoke(asked)

    with pytest.raises(PrivacyParameterError, match=r"'search_record'.*no such tool"):
        ask("search_records", "search_record")
    assert ask("search_records")["messages"][-1].text == "Hello."
