"""``ChatDPFusion``: construction, generation, options, streaming, async, and what callers are told."""

import asyncio
import copy
import threading
import time
from typing import Any

import pytest
import torch
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel

from dpfusion_core import (
    BackendError,
    BudgetExhaustedError,
    DPFusionError,
    FusionEngine,
    PrivacyBudget,
    PrivacyLedger,
    PrivacyParameterError,
    ScriptedBackend,
    TransformersBackend,
    UnsupportedError,
)
from dpfusion_core.backends.shared import shared_backend
from langchain_dpfusion import ChatDPFusion, mark_private, private_block
from tests.core.models import CharTokenizer, random_model
from tests.langchain.scripted import scripted_backend, scripted_engine

PRIVATE: list[BaseMessage] = [mark_private(HumanMessage("She lives in Oslo.")), HumanMessage("Where?")]
PUBLIC: list[BaseMessage] = [HumanMessage("Hello")]


def scripted(says: Any = "In a city.", **options: Any) -> ChatDPFusion:
    settings: dict[str, Any] = {"epsilon": 8.0, "max_tokens": 40, "unmarked": "public"}
    return ChatDPFusion(engine=scripted_engine(says), **{**settings, **options})


def guarantee(message: BaseMessage) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["dp_fusion"]
    return found


# --- Construction ---


def test_construction_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(TransformersBackend, "from_pretrained", load)
    ChatDPFusion(model="no/such-model", epsilon=8.0)


def test_instances_of_one_model_share_its_weights() -> None:
    first, second = (
        ChatDPFusion(model="dpfusion-tiny", order=2.0, beta=beta, max_tokens=2) for beta in (0.1, 0.2)
    )
    assert first.engine_for().backend is second.engine_for().backend is shared_backend("dpfusion-tiny")
    assert first.engine_for() is first.engine_for()


def test_a_ready_model_and_tokenizer() -> None:
    backend = shared_backend("dpfusion-tiny")
    llm = ChatDPFusion(model=backend._model, tokenizer=backend.tokenizer, epsilon=8.0, max_tokens=4)
    assert guarantee(llm.invoke(PRIVATE))["units"] == 1
    assert llm.model_name.endswith("dpfusion-tiny")


def test_a_copy_with_other_settings_uses_them() -> None:
    llm = ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, max_tokens=2)
    llm.invoke(PRIVATE)
    other = llm.model_copy(update={"placeholder": "[hidden]"})
    assert other.engine_for() is not llm.engine_for()
    assert other.engine_for().backend is llm.engine_for().backend


def test_a_deep_copy_shares_the_weights() -> None:
    llm = ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, max_tokens=2)
    llm.invoke(PRIVATE)
    again = copy.deepcopy(llm)
    assert again is not llm
    assert again.engine_for().backend is llm.engine_for().backend


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"model": "dpfusion-tiny", "engine": "engine"},
        {"engine": "not an engine"},
        {"model": object()},
        {"model": "dpfusion-tiny", "tokenizer": object()},
        {"model": "dpfusion-tiny", "epsilon": 8.0, "alpha": 2.0, "beta": 0.1},
        {"model": "dpfusion-tiny", "alpha": 2.0},
        {"model": "dpfusion-tiny", "epsilon": -1.0},
        {"model": "dpfusion-tiny", "epsilonn": 8.0},
        {"model": "dpfusion-tiny", "accounting": "none"},
        {"model": "dpfusion-tiny", "unmarked": "users"},
        {"model": "dpfusion-tiny", "timeout": 0},
        {"model": "dpfusion-tiny", "max_retries": -1},
        {"model": "dpfusion-tiny", "temperature": "SECRET"},
        {"model": "dpfusion-tiny", "ledger": "SECRET"},
    ],
)
def test_bad_arguments_are_refused_at_once(arguments: dict[str, Any]) -> None:
    if arguments.get("engine") == "engine":
        arguments["engine"] = scripted_engine("x")
    with pytest.raises(PrivacyParameterError) as caught:
        ChatDPFusion(**arguments)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_copy_with_another_ready_model_of_the_same_name_uses_that_one() -> None:
    first, second = random_model("qwen2"), random_model("qwen2")
    llm = ChatDPFusion(model=first, tokenizer=CharTokenizer(), max_tokens=3, temperature=0, unmarked="public")
    llm.invoke("Hello")
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.zero_()  # every token is as likely as any other: the first one wins
    copied = llm.model_copy(update={"model": second})
    assert copied.invoke("Hello").text == CharTokenizer.alphabet[0] * 3
    assert llm.invoke("Hello").text != copied.invoke("Hello").text


def test_a_ready_engine_has_its_own_placeholder() -> None:
    with pytest.raises(PrivacyParameterError, match="ready engine"):
        ChatDPFusion(engine=scripted_engine("x"), placeholder="[x]")


def test_what_other_chat_models_take_is_taken() -> None:
    make: Any = ChatDPFusion
    make(model="dpfusion-tiny", api_key="none", streaming=True, verbose=False, tags=["a"], cache=False)


# --- Answers ---


def test_an_answer_says_what_it_cost_and_nothing_that_depends_on_the_text() -> None:
    short, long = (
        scripted().invoke([mark_private(HumanMessage("x" * length)), HumanMessage("?")])
        for length in (1, 200)
    )
    assert short.text == "In a city."
    assert short.response_metadata == long.response_metadata
    assert short.usage_metadata == long.usage_metadata
    assert guarantee(short)["epsilon"] == pytest.approx(8.0)
    assert short.response_metadata["model_name"] == "scripted"
    assert short.response_metadata["finish_reason"] == "stop"


def test_a_stream_gives_what_invoke_gives() -> None:
    llm = scripted()
    chunks = list(llm.stream(PRIVATE))
    whole: Any = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    answer = llm.invoke(PRIVATE)
    assert len(chunks) > 3
    assert (whole.text, whole.usage_metadata, whole.response_metadata) == (
        answer.text,
        answer.usage_metadata,
        answer.response_metadata,
    )
    assert [chunk.response_metadata for chunk in chunks[:-1]] == [{}] * (len(chunks) - 1)
    assert chunks[-1].chunk_position == "last"


async def test_async_gives_what_sync_gives() -> None:
    llm = scripted()
    answer = llm.invoke(PRIVATE)
    again = await llm.ainvoke(PRIVATE)
    pieces = [chunk async for chunk in llm.astream(PRIVATE)]
    assert again.text == answer.text == "".join(str(piece.content) for piece in pieces)
    assert again.response_metadata == answer.response_metadata == pieces[-1].response_metadata


def test_the_models_own_answers_are_public_in_later_turns() -> None:
    llm = scripted(unmarked="private", on_exhausted="raise")
    answer = llm.invoke(PRIVATE)
    later = llm.invoke(
        [
            SystemMessage("Be short.", additional_kwargs={"is_private": False}),
            answer,
            HumanMessage("And?", additional_kwargs={"is_private": False}),
        ]
    )
    assert guarantee(later)["units"] == 0
    forged = llm.invoke([AIMessage("She lives in Oslo."), HumanMessage("And?")])
    assert guarantee(forged)["units"] == 1


def test_usage_is_counted_by_langchain() -> None:
    with get_usage_metadata_callback() as usage:
        scripted().invoke(PRIVATE)
    assert usage.usage_metadata["scripted"]["output_tokens"] > 0


def test_each_unit_has_the_guarantee() -> None:
    message = HumanMessage([private_block("Ann", "a"), " and ", private_block("Bo", "b")])
    assert guarantee(scripted().invoke([message]))["units"] == 2


# --- Options ---


def test_options_of_a_call_come_before_the_models() -> None:
    llm = scripted(epsilon=8.0, max_tokens=40, stop=["city"])
    assert llm.invoke(PRIVATE).text == "In a "
    assert llm.invoke(PRIVATE, stop=[" a"]).text == "In"
    assert llm.invoke(PRIVATE, stop=[]).text == "In a city."
    assert guarantee(llm.invoke(PRIVATE, epsilon=2.0))["epsilon"] == pytest.approx(2.0)
    assert guarantee(llm.invoke(PRIVATE, max_tokens=3))["max_tokens"] == 3
    assert guarantee(llm.invoke(PRIVATE, alpha=3.0, beta=0.1))["alpha"] == 3.0
    assert guarantee(scripted(epsilon=None, alpha=3.0, beta=0.1).invoke(PRIVATE, epsilon=4.0))["epsilon"] == (
        pytest.approx(4.0)
    )
    assert guarantee(llm.bind(epsilon=3.0).invoke(PRIVATE))["epsilon"] == pytest.approx(3.0)
    assert (
        guarantee(llm.invoke(PRIVATE, accounting="adaptive", neighbours="replace"))["neighbours"] == "replace"
    )
    assert guarantee(llm.invoke(PRIVATE, seed=1))["private"] is False


def test_configurable_fields() -> None:
    llm = ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, max_tokens=3).configurable_fields(
        epsilon=ConfigurableField(id="epsilon"), unmarked=ConfigurableField(id="who")
    )
    answer = llm.with_config(configurable={"epsilon": 2.0, "who": "private"}).invoke("Where?")
    assert guarantee(answer)["epsilon"] == pytest.approx(2.0)
    assert guarantee(answer)["units"] == 1


def test_a_stop_string_of_several_tokens_is_held_back_in_streams() -> None:
    llm = scripted("One two three four.", stop=["three f"])
    assert "".join(str(chunk.content) for chunk in llm.stream(PRIVATE)) == "One two "


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"context": "SECRET"}, PrivacyParameterError),
        ({"temperature": "SECRET"}, PrivacyParameterError),
        ({"epsilon": 0.0}, PrivacyParameterError),
        ({"stop": [""]}, PrivacyParameterError),
        ({"stop": "SECRET"}, None),
        ({"tool_choice": 3, "tools": [{}]}, PrivacyParameterError),
        ({"tools": ["SECRET"]}, PrivacyParameterError),
        ({"response_format": "json"}, PrivacyParameterError),
        ({"model": "another"}, UnsupportedError),
    ],
)
def test_bad_options_of_a_call(kwargs: dict[str, Any], error: type[Exception] | None) -> None:
    if error is None:
        scripted().invoke(PRIVATE, **kwargs)
        return
    with pytest.raises(error) as caught:
        scripted().invoke(PRIVATE, **kwargs)
    assert "SECRET" not in str(caught.value)


def test_private_text_without_parameters_is_refused_with_the_choice() -> None:
    with pytest.raises(PrivacyParameterError, match=r"epsilon=8\.0"):
        ChatDPFusion(engine=scripted_engine("x")).invoke(PRIVATE)


def test_greedy_decoding_of_private_text_is_refused() -> None:
    with pytest.raises(PrivacyParameterError, match="greedy"):
        scripted(temperature=0).invoke(PRIVATE)


def test_a_private_system_message_is_answered() -> None:
    answer = scripted().invoke([mark_private(SystemMessage("She lives in Oslo.")), HumanMessage("Where?")])
    assert guarantee(answer)["units"] == 1


def test_tool_results_are_private_by_default() -> None:
    conversation: list[BaseMessage] = [
        HumanMessage("Who?"),
        AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]),
        ToolMessage("Ann", tool_call_id="1"),
    ]
    llm = ChatDPFusion(engine=scripted_engine("x"), epsilon=8.0, max_tokens=5)
    assert guarantee(llm.invoke(conversation))["units"] == 1


def test_another_model_for_a_call() -> None:
    from dpfusion_core.tiny import model_path

    llm = ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, max_tokens=2)
    assert llm.invoke(PRIVATE, model=str(model_path())).response_metadata["model_name"] == str(model_path())


# --- Budgets ---


def test_a_spent_budget_is_told_before_any_computation() -> None:
    ledger = PrivacyLedger("sqlite://", budget=PrivacyBudget(3.0), key="k" * 32)
    engine = scripted_engine("In a city.", ledger=ledger)
    llm = ChatDPFusion(engine=engine, epsilon=3.0, max_tokens=5)
    llm.invoke(PRIVATE)
    with pytest.raises(BudgetExhaustedError):
        llm.invoke(PRIVATE)
    answer = llm.invoke(PRIVATE, on_exhausted="zero-out", epsilon=2.9)
    assert guarantee(answer)["exhausted"] == 1


def test_a_bare_string_is_private_if_human_messages_are() -> None:
    assert guarantee(scripted(unmarked="private").invoke("Hello"))["units"] == 1


# --- Time, failures, cancellation ---


TOKENS = 200


def slow_backend(steps: list[int]) -> ScriptedBackend:
    """A model that takes its time for each of its tokens, and notes them in ``steps``."""
    backend = scripted_backend("x" * TOKENS)
    quick = backend._script

    def slow(prompt: tuple[int, ...], said: tuple[int, ...]) -> Any:
        steps.append(len(said))
        time.sleep(0.02)
        return quick(prompt, said)

    backend._script = slow
    return backend


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream", "batch"])
def test_timeout(way: str) -> None:
    steps: list[int] = []
    backend = slow_backend(steps)
    llm = ChatDPFusion(
        engine=FusionEngine(backend),
        unmarked="public",
        timeout=0.1,
        max_retries=1000,  # what is late is not tried again
        max_tokens=200,
    )

    async def drain() -> None:
        async for _ in llm.astream(PUBLIC):
            pass

    calls: dict[str, Any] = {
        "invoke": lambda: llm.invoke(PUBLIC),
        "stream": lambda: list(llm.stream(PUBLIC)),
        "ainvoke": lambda: asyncio.run(llm.ainvoke(PUBLIC)),
        "astream": lambda: asyncio.run(drain()),
        "batch": lambda: llm.batch([PUBLIC, PUBLIC]),
    }
    with pytest.raises(BackendError, match=r"timeout=0\.1"):
        calls[way]()
    assert len(steps) < TOKENS  # it does not go on to the end
    assert backend.open_sessions == 0


@pytest.mark.parametrize("is_async", [False, True])
def test_retries(is_async: bool) -> None:
    backend = scripted_backend("Hi.")
    works = backend._script
    failures = [2]

    def flaky(prompt: tuple[int, ...], said: tuple[int, ...]) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise BackendError("The model failed.")
        return works(prompt, said)

    backend._script = flaky

    def call(retries: int) -> str:
        llm = ChatDPFusion(engine=FusionEngine(backend), unmarked="public", max_retries=retries)
        answer = asyncio.run(llm.ainvoke(PUBLIC)) if is_async else llm.invoke(PUBLIC)
        return str(answer.text)

    with pytest.raises(BackendError):
        call(1)
    failures[0] = 2
    assert call(2) == "Hi."
    assert backend.open_sessions == 0


@pytest.mark.parametrize("way", ["ainvoke", "astream", "abatch"])
async def test_cancelling_frees_the_model(way: str) -> None:
    steps: list[int] = []
    backend = slow_backend(steps)
    llm = ChatDPFusion(engine=FusionEngine(backend), unmarked="public", max_tokens=200)

    async def drain() -> None:
        async for _ in llm.astream(PUBLIC):
            pass

    calls: dict[str, Any] = {
        "ainvoke": lambda: llm.ainvoke(PUBLIC),
        "astream": drain,
        "abatch": lambda: llm.abatch([PUBLIC, PUBLIC]),
    }
    task = asyncio.ensure_future(calls[way]())
    while not backend.open_sessions:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.1)  # the token in progress
    assert len(steps) < TOKENS  # it does not go on to the end
    assert backend.open_sessions == 0


def test_leaving_a_stream_frees_the_model() -> None:
    backend = scripted_backend("One two three.")
    llm = ChatDPFusion(engine=FusionEngine(backend), unmarked="public")
    stream: Any = llm.stream(PUBLIC)
    next(stream)
    assert backend.open_sessions == 1
    stream.close()
    assert backend.open_sessions == 0


async def test_the_event_loop_is_not_blocked() -> None:
    """The model waits for what only the event loop can do."""
    begun, let_go = threading.Event(), threading.Event()
    backend = scripted_backend("Hi.")
    quick = backend._script

    def waiting(prompt: tuple[int, ...], said: tuple[int, ...]) -> Any:
        begun.set()
        assert let_go.wait(30.0), "the event loop is blocked"
        return quick(prompt, said)

    backend._script = waiting
    llm = ChatDPFusion(engine=FusionEngine(backend), unmarked="public", max_tokens=4)
    task = asyncio.ensure_future(llm.ainvoke(PUBLIC))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    let_go.set()
    assert (await task).text == "Hi."


# --- Tools and structured output ---


def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


class Person(BaseModel):
    """A person."""

    name: str
    age: int


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


def test_text_before_a_call_is_streamed_and_the_call_is_not_shown_as_text() -> None:
    llm = scripted(f"Let me see. {CALL}", max_tokens=80).bind_tools([add])
    chunks = list(llm.stream(PRIVATE))
    assert "".join(str(chunk.content) for chunk in chunks) == "Let me see."
    assert len(chunks) > 3
    assert [call["args"] for call in chunks[-1].tool_calls] == [{"a": 1, "b": 2}]
    answer = llm.invoke(PRIVATE)
    assert answer.text == "Let me see."
    assert answer.response_metadata["finish_reason"] == "tool_calls"


def test_text_that_only_looks_like_a_call_is_shown() -> None:
    llm = scripted("{braces} and <tool_ tags>", max_tokens=60).bind_tools([add])
    assert "".join(str(chunk.content) for chunk in llm.stream(PRIVATE)) == "{braces} and <tool_ tags>"


@pytest.mark.parametrize("bad", ['{"name": "minus", "arguments": {}}', "{not json"])
def test_broken_calls_are_invalid_calls_in_both_ways(bad: str) -> None:
    llm = scripted(f"<tool_call>{bad}</tool_call>", max_tokens=60).bind_tools([add])
    answer = llm.invoke(PRIVATE)
    chunks = list(llm.stream(PRIVATE))
    for message in (answer, chunks[-1]):
        assert message.tool_calls == []
        assert len(message.invalid_tool_calls) == 1
        assert bad in str(message.invalid_tool_calls[0]["args"])


def test_a_forced_call_obeys_the_schema_whatever_the_model_wants() -> None:
    llm = scripted("I would rather not.", max_tokens=120).bind_tools([add], tool_choice="any")
    (call,) = llm.invoke(PRIVATE).tool_calls
    assert call["name"] == "add"
    assert {type(value) for value in call["args"].values()} == {int}


@pytest.mark.parametrize("choice", ["none", False])
def test_choices_without_a_call(choice: Any) -> None:
    llm = scripted(CALL if choice == "none" else "No.", max_tokens=80).bind_tools([add], tool_choice=choice)
    assert not llm.invoke(PRIVATE).tool_calls


@pytest.mark.parametrize(
    "choice", ["required", True, "add", {"type": "function", "function": {"name": "add"}}]
)
def test_every_form_of_forcing_a_call(choice: Any) -> None:
    llm = scripted("No.", max_tokens=120).bind_tools([add], tool_choice=choice)
    assert llm.invoke(PRIVATE).tool_calls


@pytest.mark.parametrize(
    "tool",
    [
        {"name": "f", "parameters": "SECRET"},
        {"title": "f", "type": "object", "properties": {"x": {"type": "SECRET"}}},
        {"no": "name"},
        object(),
    ],
)
def test_tools_without_a_valid_schema_are_refused(tool: Any) -> None:
    with pytest.raises(DPFusionError):
        scripted().bind_tools([tool], tool_choice="any").invoke(PRIVATE)


def test_a_template_without_tools_says_so() -> None:
    backend = scripted_backend("x")

    class Plain:
        chat_template = "{{ messages }}"
        eos_token_id = 0

        def apply_chat_template(self, conversation: Any, **kwargs: Any) -> str:
            return "".join(turn["content"] for turn in conversation)

        def __call__(self, text: str, **kwargs: Any) -> Any:
            return backend.tokenizer(text, add_special_tokens=False)

        def decode(self, ids: Any, **kwargs: Any) -> Any:
            return backend.tokenizer.decode(ids)

    plain = ScriptedBackend(lambda row: backend._script(row, ()), Plain(), backend.vocab_size, [0])
    llm = ChatDPFusion(engine=FusionEngine(plain), epsilon=8.0)
    assert llm.profile is not None
    assert llm.profile["tool_calling"] is False
    with pytest.raises(NotImplementedError, match="chat template does not show tools"):
        llm.bind_tools([add]).invoke(PRIVATE)


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_structured_output(method: Any) -> None:
    def says(prompt: str) -> str:
        inner = '{"name": "Ann", "age": 7}'
        return (
            f'<tool_call>\n{{"name": "Person", "arguments": {inner}}}\n</tool_call>'
            if "# Tools" in prompt
            else inner
        )

    llm = scripted(says, max_tokens=100)
    assert llm.with_structured_output(Person, method=method).invoke(PRIVATE) == Person(name="Ann", age=7)
    raw: Any = llm.with_structured_output(Person.model_json_schema(), method=method, include_raw=True).invoke(
        PRIVATE
    )
    assert raw["parsed"] == {"name": "Ann", "age": 7}
    assert guarantee(raw["raw"])["units"] == 1


def test_structured_output_holds_against_a_model_that_wants_to_talk() -> None:
    llm = scripted("No, I will not.", max_tokens=300).with_structured_output(
        {
            "title": "Choice",
            "type": "object",
            "properties": {"answer": {"enum": ["yes", "no"]}},
            "required": ["answer"],
        },
        method="json_schema",
    )
    answer: Any = llm.invoke(PRIVATE)
    assert answer["answer"] in ("yes", "no")


def test_an_unknown_method_of_structured_output() -> None:
    with pytest.raises(PrivacyParameterError, match="Unknown method"):
        scripted().with_structured_output(Person, method="magic")  # type: ignore[arg-type]


# --- What LangChain asks of a model ---


def test_token_counts() -> None:
    llm = scripted()
    assert llm.get_num_tokens("Hello there") == len(llm.get_token_ids("Hello there")) > 0
    short, long = (
        llm.get_num_tokens_from_messages([mark_private(HumanMessage(text))]) for text in ("x", "x y z " * 20)
    )
    assert long > short + 40
    assert llm.get_num_tokens_from_messages(PUBLIC, tools=[add]) > llm.get_num_tokens_from_messages(PUBLIC)


def test_the_profile_names_what_the_model_can() -> None:
    profile = scripted().profile
    assert profile is not None
    assert (profile["tool_calling"], profile["structured_output"], profile["max_input_tokens"]) == (
        True,
        True,
        2048,
    )


def test_parameters_for_tracers() -> None:
    llm = ChatDPFusion(model="dpfusion-tiny", temperature=0.5, max_tokens=7, stop=["x"])
    assert llm._get_ls_params() == {
        "ls_provider": "dpfusion",
        "ls_model_type": "chat",
        "ls_model_name": "dpfusion-tiny",
        "ls_temperature": 0.5,
        "ls_max_tokens": 7,
        "ls_stop": ["x"],
    }
    assert llm._get_ls_params(model="m", temperature=0.1, stop=["y"])["ls_stop"] == ["y"]
    assert llm.metadata is not None
    assert "langchain-dpfusion" in llm.metadata["lc_versions"]


def test_output_version_v1() -> None:
    llm = scripted(f"Yes. {CALL}", output_version="v1", max_tokens=80).bind_tools([add])
    answer = llm.invoke(PRIVATE)
    assert [block["type"] for block in answer.content_blocks] == ["text", "tool_call"]
    whole: Any = None
    for chunk in llm.stream(PRIVATE):
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessageChunk)
    assert [block["type"] for block in whole.content_blocks] == ["text", "tool_call"]


@pytest.mark.parametrize(
    "name",
    [
        "_convert_input",
        "_generate_with_cache",
        "_agenerate_with_cache",
        "_get_invocation_params",
        "_get_ls_params",
        "_resolve_model_profile",
        "_identifying_params",
        "_add_version",
    ],
)
def test_what_the_model_overrides_or_uses_is_still_there(name: str) -> None:
    """Names that are not public; the leak tests show that they are still called."""
    assert hasattr(BaseChatModel, name)
