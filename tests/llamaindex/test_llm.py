import asyncio
import itertools
import pickle
import threading
import time
from typing import Any, Literal

import pytest
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from dpfusion_core import FusionEngine
from dpfusion_core.backends.shared import shared_backend
from dpfusion_core.errors import BackendError, PrivacyParameterError, RefusedError, UnsupportedError
from llamaindex_dpfusion import DPFusionLLM
from llamaindex_dpfusion.seals.sealer import sealer
from tests.llamaindex.recording import RecordingBackend, recording_llm, tokenizer

SECRET = "Ingrid Solheim lives in Trondheim."
CHAT = [
    ChatMessage(SECRET, additional_kwargs={"is_private": True, "unit": "ingrid"}),
    ChatMessage("Where does she live?"),
]


async def _last(generator: Any) -> Any:
    return [item async for item in generator][-1]


def _call(llm: DPFusionLLM, method: str, *args: Any, **kwargs: Any) -> Any:
    """Call one of the eight methods and return its last response."""
    if method.startswith("astream"):
        return asyncio.run(_arun(llm, method, *args, **kwargs))
    if method.startswith("a"):
        return asyncio.run(getattr(llm, method)(*args, **kwargs))
    found = getattr(llm, method)(*args, **kwargs)
    return [*found][-1] if "stream" in method else found


async def _arun(llm: DPFusionLLM, method: str, *args: Any, **kwargs: Any) -> Any:
    return await _last(await getattr(llm, method)(*args, **kwargs))


CHATS = ["chat", "achat", "stream_chat", "astream_chat"]
COMPLETIONS = ["complete", "acomplete", "stream_complete", "astream_complete"]


def test_it_is_one_of_llama_indexs_llms() -> None:
    assert issubclass(DPFusionLLM, FunctionCallingLLM)
    assert BaseLLM in DPFusionLLM.__mro__
    assert not DPFusionLLM.__abstractmethods__


@pytest.mark.parametrize("method", CHATS)
def test_chat_answers_within_its_guarantee(method: str) -> None:
    llm, backend = recording_llm("In a town.")
    response = _call(llm, method, CHAT)
    assert response.message.content == "In a town."
    assert response.message.role == "assistant"
    guarantee = response.raw["dp_fusion"]
    assert guarantee == response.message.additional_kwargs["dp_fusion"]
    assert (guarantee["units"], guarantee["neighbours"], guarantee["private"]) == (1, "zero-out", True)
    assert guarantee["epsilon"] > 0
    [call] = backend.calls
    assert SECRET in call.private["ingrid"]
    assert "Ingrid" not in call.public
    assert "Where does she live?" in call.public
    assert backend.open_sessions == 0


@pytest.mark.parametrize("method", COMPLETIONS)
@pytest.mark.parametrize("formatted", [False, True])
def test_complete_keeps_a_bare_string_private(method: str, formatted: bool) -> None:
    llm, backend = recording_llm("In a town.")
    response = _call(llm, method, f"{SECRET} Where?", formatted=formatted)
    assert response.text == "In a town."
    assert response.raw["dp_fusion"]["units"] == 1
    [call] = backend.calls
    assert "Ingrid" not in call.public
    assert SECRET in call.private["private"]
    assert ("<|im_start|>" in call.public) is not formatted


@pytest.mark.parametrize("method", ["stream_chat", "stream_complete"])
def test_a_stream_shows_the_answer_piece_by_piece(method: str) -> None:
    llm, _ = recording_llm("In a town by the sea.")
    responses = list(getattr(llm, method)(CHAT if "chat" in method else SECRET))
    assert len(responses) > 3
    assert "".join(r.delta or "" for r in responses) == "In a town by the sea."
    texts = [r.message.content or "" if "chat" in method else r.text for r in responses]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert [r.raw is not None for r in responses[:-1]] == [False] * (len(responses) - 1)


@pytest.mark.parametrize("policy", ["private", "redact", "error", "public"])
def test_the_policy_says_what_a_bare_string_is(policy: Any) -> None:
    llm, backend = recording_llm(complete_policy=policy)
    text = f"{SECRET} {sealer.seal('Ole lives in Bergen.', 'ole').text}"
    if policy == "error":
        with pytest.raises(PrivacyParameterError, match="bare string"):
            llm.complete(text)
        assert llm.complete(sealer.seal("Ole lives in Bergen.", "ole").text).text
        return
    llm.complete(text)
    [call] = backend.calls
    assert list(call.private) == {"private": ["private", "ole"]}.get(policy, ["ole"])
    assert ("Ingrid" in call.public) is (policy == "public")
    assert "Bergen" not in call.public
    assert "Bergen" in call.private["ole"]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="complete_policy"):
        DPFusionLLM(complete_policy="whatever")


def raw_of(response: ChatResponse) -> dict[str, Any]:
    assert isinstance(response.raw, dict)
    return response.raw


def test_options_of_a_call_come_first() -> None:
    llm, _ = recording_llm("one two three four five six", max_tokens=40, alpha=2.0, beta=0.01)
    raw = raw_of(llm.chat(CHAT, max_tokens=2))
    assert raw["finish_reason"] == "length"
    assert raw["dp_fusion"]["max_tokens"] == 2
    assert llm.chat(CHAT, stop=["three"]).message.content == "one two "
    assert raw_of(llm.chat(CHAT, epsilon=3.0, delta=1e-6))["dp_fusion"]["epsilon"] == pytest.approx(
        3.0, rel=1e-3
    )
    assert raw_of(llm.chat(CHAT, seed=1))["dp_fusion"]["private"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 2.0, "beta": 0.01, "epsilon": 8.0}, "not both"),
        ({"alpha": None, "beta": None}, "no privacy parameters"),
        ({"temperature": 0.0}, "greedy"),
        ({"alpha": 0.5}, "order"),
    ],
)
def test_options_that_cannot_be_private_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PrivacyParameterError, match=message):
        recording_llm(**options)[0].chat(CHAT)


def test_unknown_options_are_refused_without_their_value() -> None:
    llm, backend = recording_llm()
    with pytest.raises(PrivacyParameterError, match="temprature") as caught:
        llm.chat(CHAT, temprature="Ingrid")
    assert "Ingrid" not in str(caught.value)
    assert not backend.calls


def test_a_public_chat_needs_no_budget() -> None:
    backend = RecordingBackend(lambda prompt: "Yes.", None)
    raw = raw_of(DPFusionLLM(engine=FusionEngine(backend), temperature=0.0).chat([ChatMessage("Hello.")]))
    assert raw["dp_fusion"]["accounting"] == "none"


def test_a_budget_and_nothing_private_is_refused_with_the_mends() -> None:
    llm, backend = recording_llm()
    chat = [ChatMessage("Be brief.", role="system"), ChatMessage("Hello.")]
    with pytest.raises(RefusedError, match="unmarked='public'") as caught:
        llm.chat(chat)
    assert "DPFusionNodePostprocessor" in str(caught.value)
    assert "additional_kwargs" in str(caught.value)
    assert not backend.calls
    assert not backend.ledger.charges
    open_llm = llm.model_copy(update={"unmarked": "public"})
    assert open_llm.chat(chat).message.content == "It is so."
    for message in chat:
        message.additional_kwargs["is_private"] = False
    assert llm.chat(chat).message.content == "It is so."


def test_metadata_says_what_the_model_can_do() -> None:
    llm, _ = recording_llm(context_length=512, max_tokens=33)
    metadata = llm.metadata
    assert (metadata.context_window, metadata.num_output) == (512, 33)
    assert metadata.is_chat_model
    assert metadata.is_function_calling_model
    assert llm.model_copy(update={"context_window": 100}).metadata.context_window == 100


def test_tokens_are_counted_on_the_public_view() -> None:
    counter = TokenCountingHandler()
    llm, _ = recording_llm("In a town.")
    llm.callback_manager = CallbackManager([counter])
    usage = raw_of(llm.chat(CHAT))["usage"]
    turns = [{"role": "user", "content": text} for text in ("____", "Where does she live?")]
    public = tokenizer().apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert usage["prompt_tokens"] == len(tokenizer()(public, add_special_tokens=False)["input_ids"])
    assert usage["completion_tokens"] == len(tokenizer()("In a town.")["input_ids"]) + 1
    assert counter.prompt_llm_token_count == usage["prompt_tokens"]
    assert counter.completion_llm_token_count == usage["completion_tokens"]


def test_nothing_about_the_model_says_a_secret() -> None:
    llm, _ = recording_llm()
    llm.chat(CHAT)
    for text in (repr(llm), str(llm.to_dict()), str(llm.to_payload()), str(llm.model_dump())):
        assert "Ingrid" not in text


def test_raw_holds_no_token_of_the_prompt() -> None:
    llm, _ = recording_llm()
    assert set(raw_of(llm.chat(CHAT))) == {"dp_fusion", "finish_reason", "usage"}
    assert all(isinstance(v, float | int | str | None) for v in raw_of(llm.chat(CHAT))["dp_fusion"].values())


@pytest.mark.parametrize("method", ["stream_chat", "stream_complete"])
def test_closing_a_stream_frees_the_model(method: str) -> None:
    llm, backend = recording_llm("one two three four five six")
    generator = getattr(llm, method)(CHAT if "chat" in method else SECRET)
    next(generator)
    assert backend.open_sessions == 1
    generator.close()
    assert backend.open_sessions == 0


@pytest.mark.parametrize("method", ["astream_chat", "astream_complete"])
async def test_closing_an_async_stream_frees_the_model(method: str) -> None:
    llm, backend = recording_llm("one two three four five six")
    generator = await getattr(llm, method)(CHAT if "chat" in method else SECRET)
    await anext(generator)
    assert backend.open_sessions == 1
    await generator.aclose()
    assert backend.open_sessions == 0


class SlowBackend(RecordingBackend):
    """Takes its time for every token."""

    def open(self, prompts: Any) -> Any:
        session = super().open(prompts)
        logits = session.logits

        def slowly() -> Any:
            time.sleep(0.04)
            return logits()

        session.logits = slowly  # type: ignore[method-assign]
        return session


def slow_llm(**options: Any) -> tuple[DPFusionLLM, SlowBackend]:
    backend = SlowBackend(lambda prompt: "one two three four five six seven eight", None)
    engine = FusionEngine(backend, ledger=backend.ledger)
    return DPFusionLLM(engine=engine, **{"alpha": 2.0, "beta": 0.01, **options}), backend


class WaitingBackend(RecordingBackend):
    """Waits, for every token, until it is let go."""

    def __init__(self) -> None:
        super().__init__(lambda prompt: "Yes.", None)
        self.begun, self.let_go = threading.Event(), threading.Event()

    def open(self, prompts: Any) -> Any:
        session = super().open(prompts)
        logits = session.logits

        def waiting() -> Any:
            self.begun.set()
            assert self.let_go.wait(30.0), "the event loop is blocked"
            return logits()

        session.logits = waiting  # type: ignore[method-assign]
        return session


@pytest.mark.parametrize("method", ["achat", "acomplete", "apredict"])
async def test_the_event_loop_is_not_blocked(method: str) -> None:
    """The model waits for what only the event loop can do."""
    backend = WaitingBackend()
    engine = FusionEngine(backend, ledger=backend.ledger)
    llm = DPFusionLLM(engine=engine, alpha=2.0, beta=0.01, unmarked="public")
    argument: Any = {"achat": CHAT, "acomplete": SECRET, "apredict": PromptTemplate("Hello.")}[method]
    task = asyncio.create_task(getattr(llm, method)(argument))
    while not backend.begun.is_set():
        await asyncio.sleep(0.001)
    backend.let_go.set()
    assert await task


async def test_cancelling_a_call_frees_the_model() -> None:
    llm, backend = slow_llm()
    task = asyncio.create_task(llm.achat(CHAT))
    while not backend.open_sessions and not task.done():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.open_sessions == 0


@pytest.mark.parametrize("method", ["chat", "achat"])
def test_a_call_ends_at_its_timeout(method: str) -> None:
    llm, backend = slow_llm(timeout=0.05)
    with pytest.raises(BackendError, match=r"not finished within timeout=0\.05 seconds"):
        _call(llm, method, CHAT)
    assert backend.open_sessions == 0


class FailingBackend(RecordingBackend):
    failures = 2

    def open(self, prompts: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise BackendError("Out of memory.")
        return super().open(prompts)


@pytest.mark.parametrize("method", ["chat", "achat", "stream_chat", "astream_chat"])
@pytest.mark.parametrize(("retries", "is_enough"), [(1, False), (2, True)])
def test_a_call_that_fails_before_the_first_token_is_tried_again(
    method: str, retries: int, is_enough: bool
) -> None:
    backend = FailingBackend(lambda prompt: "Yes.", None)
    llm = DPFusionLLM(
        engine=FusionEngine(backend, ledger=backend.ledger), alpha=2.0, beta=0.01, max_retries=retries
    )
    if is_enough:
        assert _call(llm, method, CHAT).message.content == "Yes."
    else:
        with pytest.raises(BackendError, match="Out of memory"):
            _call(llm, method, CHAT)


def test_the_weights_are_shared_by_all_who_ask_for_the_same_model() -> None:
    one, two = DPFusionLLM("dpfusion-tiny"), DPFusionLLM(epsilon=3.0)
    assert one.engine.backend is two.engine.backend is shared_backend("dpfusion-tiny")


def test_a_ready_model_is_taken_as_it_is() -> None:
    backend = shared_backend("dpfusion-tiny")
    llm = DPFusionLLM(backend._model, tokenizer=backend.tokenizer, epsilon=8.0, max_tokens=3)
    assert raw_of(llm.chat(CHAT))["dp_fusion"]["epsilon"] == pytest.approx(8.0, rel=1e-3)


def test_settings_survive_a_pickle_and_secrets_do_not_enter_it() -> None:
    llm = DPFusionLLM("dpfusion-tiny", epsilon=3.0, max_tokens=5)
    llm.chat(CHAT)
    data = pickle.dumps(llm)
    assert b"Ingrid" not in data
    assert len(data) < 100_000
    assert pickle.loads(data).chat(CHAT).raw["dp_fusion"]["max_tokens"] == 5


# -- Templates --


@pytest.mark.parametrize("method", ["predict", "apredict", "stream", "astream"])
@pytest.mark.parametrize("has_template", [True, False])
def test_templates_are_filled_in_sealed(method: str, has_template: bool) -> None:
    llm, backend = recording_llm("In a town.")
    if not has_template:
        backend.tokenizer = _without_template()
    prompt = PromptTemplate("Context: {context_str} Query: {query_str}")
    arguments = {"context_str": SECRET, "query_str": "Where?"}

    async def ask() -> str:
        found = await getattr(llm, method)(prompt, **arguments)
        return "".join([token async for token in found]) if method == "astream" else found

    if method.startswith("a"):
        text = asyncio.run(ask())
    else:
        found = getattr(llm, method)(prompt, **arguments)
        text = "".join(found)
    assert text == "In a town."
    [call] = backend.calls
    assert "Context: ____ Query: Where?" in call.public
    assert f"Context: {SECRET} Query: Where?" in call.private["private"]
    assert ("<|im_start|>" in call.public) is has_template


@pytest.mark.parametrize("method", ["predict", "apredict"])
def test_a_refused_template_says_why_in_an_error_that_llama_index_does_not_swallow(method: str) -> None:
    llm, _ = recording_llm(temperature=0.0)
    with pytest.raises(RefusedError, match="greedy") as caught:
        _predict(llm, method)
    assert not isinstance(caught.value, ValueError)
    assert isinstance(caught.value.error, PrivacyParameterError)


def _predict(llm: DPFusionLLM, method: str) -> Any:
    found = getattr(llm, method)(PromptTemplate("{context_str}"), context_str=SECRET)
    return asyncio.run(found) if method == "apredict" else found


def _without_template() -> Any:
    import copy

    base = copy.deepcopy(tokenizer())
    base.chat_template = None
    return base


def test_a_model_without_a_chat_template_completes() -> None:
    llm, backend = recording_llm(completion_to_prompt=lambda text: f"Q: {text} A:", system_prompt="Be brief.")
    backend.tokenizer = _without_template()
    assert not llm.metadata.is_chat_model
    assert not llm.metadata.is_function_calling_model
    llm.predict(PromptTemplate("{context_str}"), context_str=SECRET)
    assert backend.calls[0].public == "Be brief.\n\nQ: ____ A:"


def test_an_output_parser_reads_the_answer() -> None:
    class City(BaseModel):
        name: str

    llm, backend = recording_llm('{"name": "Oslo"}', output_parser=PydanticOutputParser(City))
    assert llm.predict(PromptTemplate("{context_str}"), context_str=SECRET) == "name='Oslo'"
    assert "schema" in backend.calls[0].public
    with pytest.raises(UnsupportedError, match="predict"):
        llm.stream(PromptTemplate("{context_str}"), context_str=SECRET)


# -- Tools --


def find(q: Literal["x", "y"]) -> str:
    """Find a record."""
    return f"Found {q}."


TOOL = FunctionTool.from_defaults(find)
CALLING = 'I look. <tool_call>{"name": "find", "arguments": {"q": "x"}}</tool_call>'


@pytest.mark.parametrize("method", ["chat", "achat", "stream_chat", "astream_chat"])
def test_calls_of_tools_are_found(method: str) -> None:
    llm, backend = recording_llm(CALLING, max_tokens=100, unmarked="public")
    response = _call(llm, f"{method}_with_tools", [TOOL], user_msg="Find x.")
    assert response.message.content == "I look."
    assert "Find a record." in backend.calls[0].public
    [call] = llm.get_tool_calls_from_response(response)
    assert (call.tool_name, call.tool_kwargs) == ("find", {"q": "x"})
    assert call.tool_id


def test_a_streamed_call_of_a_tool_is_not_shown_as_text() -> None:
    llm, _ = recording_llm(CALLING, max_tokens=100, unmarked="public")
    responses = list(llm.stream_chat_with_tools([TOOL], user_msg="Find x."))
    assert "".join(r.delta or "" for r in responses).strip() == "I look."
    assert all("<" not in (r.message.content or "") for r in responses)
    assert any(isinstance(block, ToolCallBlock) for block in responses[-1].message.blocks)


def test_text_that_only_looks_like_a_call_is_shown() -> None:
    llm, _ = recording_llm("a < b [c] {d}", unmarked="public")
    responses = list(llm.stream_chat_with_tools([TOOL], user_msg="Find x."))
    assert "".join(r.delta or "" for r in responses) == "a < b [c] {d}"


def test_no_call_is_an_error_if_one_is_wanted() -> None:
    llm, _ = recording_llm("No.", unmarked="public")
    response = llm.chat_with_tools([TOOL], user_msg="Find x.")
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(BackendError, match="tool_required"):
        llm.get_tool_calls_from_response(response)


@pytest.mark.parametrize("choice", [{"tool_required": True}, {"tool_choice": "find"}])
def test_a_required_call_is_well_formed_whatever_the_model_wants(choice: dict[str, Any]) -> None:
    llm, _ = recording_llm("No, I will not call anything at all.", max_tokens=200, seed=0, unmarked="public")
    call = llm.get_tool_calls_from_response(llm.chat_with_tools([TOOL], user_msg="Find x.", **choice))[0]
    assert call.tool_name == "find"
    assert call.tool_kwargs["q"] in ("x", "y")


def test_predict_and_call_calls_the_tool() -> None:
    llm, _ = recording_llm(CALLING, max_tokens=100, unmarked="public")
    assert llm.predict_and_call([TOOL], user_msg="Find x.").response == "Found x."


def test_a_history_without_a_message_of_the_user_is_private_and_keeps_its_calls() -> None:
    llm, backend = recording_llm(CALLING, max_tokens=100, unmarked="public")
    call = ToolCallBlock(tool_call_id="7", tool_name="find", tool_kwargs={"q": "y"})
    history = [
        ChatMessage(SECRET),
        ChatMessage(role="assistant", blocks=[call]),
        ChatMessage("Found.", role="tool", additional_kwargs={"tool_call_id": "7"}),
    ]
    llm.predict_and_call([TOOL], chat_history=history)
    assert '"q": "y"' in backend.calls[0].public
    assert "Ingrid" not in backend.calls[0].public
    llm.predict_and_call([TOOL], user_msg="Find.", chat_history=[ChatMessage("Hello there.")])
    assert "Hello there." in backend.calls[1].public


def test_concurrent_calls_do_not_mix() -> None:
    llm, backend = recording_llm("Yes.")
    errors: list[BaseException] = []

    def ask(number: int) -> None:
        try:
            message = ChatMessage(
                f"secret{number}", additional_kwargs={"is_private": True, "unit": f"u{number}"}
            )
            llm.chat([message])
        except BaseException as error:  # noqa: BLE001  looked at below
            errors.append(error)

    threads: list[Any] = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(f"secret{unit[1:]}" in row for c in backend.calls for unit, row in c.private.items())


def test_a_history_of_200_turns_works_or_says_what_to_do() -> None:
    llm, _ = recording_llm(unmarked="public")
    turns = [ChatMessage(f"Turn {i}.", role=("user", "assistant")[i % 2]) for i in range(201)]
    assert llm.chat(turns).message.content == "It is so."
    small, _ = recording_llm(context_length=256, unmarked="public")
    with pytest.raises(ValueError, match="Shorten the messages"):
        small.chat(turns)
