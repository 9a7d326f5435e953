"""What many documents say, over LLMs that are not ours and over our own."""

import asyncio
import threading
import time
from typing import Any

import pytest
from llama_index.core import Document, Settings, SummaryIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.llms import MockLLM

from dpfusion_core import FusionEngine, ScriptedBackend
from dpfusion_core.errors import BackendError, PrivacyParameterError, RefusedError, UnsupportedError
from dpfusion_core.privacy import releasing
from llamaindex_dpfusion import (
    DPConsensusLLM,
    DPFusionLLM,
    DPFusionNodePostprocessor,
    DPFusionSelector,
    DPFusionSynthesizer,
    DPFusionTransform,
)
from tests.draws import repeating
from tests.llamaindex.readers import Reader, city_of
from tests.llamaindex.test_tracing import Callbacks, Seen, seen  # noqa: F401

QUESTION = "Where do they live?"
CITIES = ["Oslo"] * 30 + ["Trondheim"] * 2
DOCUMENTS = [
    Document(text=f"Person {i} of our town lives in {city}.", doc_id=f"person-{i}")
    for i, city in enumerate(CITIES)
]
CHAT = [
    *(ChatMessage(d.text, additional_kwargs={"is_private": True, "unit": d.doc_id}) for d in DOCUMENTS),
    ChatMessage(QUESTION),
]
WAYS = ("chat", "achat", "stream_chat", "astream_chat")
RELEASED = {"item": "oslo"}


@pytest.fixture(autouse=True)
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two documents of 32 would be told once in 3,000 times: what noise does is tested where it is drawn."""
    for module, name, value in repeating():
        if module is releasing:
            monkeypatch.setattr(module, name, value)


def consensus(say: Any = city_of, *, delay: float = 0.0, **options: Any) -> tuple[DPConsensusLLM, Reader]:
    reader = Reader(say, delay=delay)
    return DPConsensusLLM(reader, **{"epsilon": 4.0, **options}), reader


def ask(llm: Any, way: str, messages: Any = CHAT, **options: Any) -> list[Any]:
    async def work() -> list[Any]:
        found = await getattr(llm, way)(messages, **options)
        return [each async for each in found] if "stream" in way else [found]

    if way.startswith("a"):
        return asyncio.run(work())
    found = getattr(llm, way)(messages, **options)
    return list(found) if "stream" in way else [found]


@pytest.mark.parametrize("way", WAYS)
def test_what_many_say_is_told_and_what_few_say_is_not(way: str) -> None:
    llm, reader = consensus()
    answers = ask(llm, way)
    assert answers[-1].message.content == "They live in oslo."
    if "stream" in way:
        assert "".join(answer.delta for answer in answers) == "They live in oslo."
        assert len(answers) > 5
    said = answers[-1].raw["dp_fusion"]
    assert (said["mechanism"], said["epsilon"], said["delta"], said["units"]) == ("consensus", 4.0, 1e-5, 32)
    assert said["retrieval"] == "not covered"
    [released] = said["items"]
    assert released["item"] == "oslo"
    assert 15 < released["count"] < 45
    # The public view, each document, and the writing; each document stands in one prompt alone.
    assert len(reader.asked) == len(CITIES) + 2
    for number in range(len(CITIES)):
        assert sum(f"Person {number} of" in prompt for prompt in reader.asked) == 1
    assert all(prompt.count("Person ") <= 1 for prompt in reader.asked)
    assert "Person" not in reader.asked[0] + reader.asked[-1]


def test_without_consensus_the_answer_is_the_public_one() -> None:
    llm, _ = consensus(lambda prompt: f"city {hash(prompt)}" if "Person" in prompt else "Nobody says.")
    [answer] = ask(llm, "chat")
    assert answer.message.content == "Nobody says."
    assert answer.raw["dp_fusion"]["items"] == []


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("how", ["postprocessor", "synthesizer", "vault"])
def test_a_query_engine_asks_each_document_alone(how: str, is_async: bool, is_streaming: bool) -> None:
    llm, reader = consensus()
    index = SummaryIndex.from_documents(DOCUMENTS)
    options: dict[str, Any] = {"streaming": is_streaming}
    if how == "synthesizer":
        options = {"response_synthesizer": DPFusionSynthesizer(llm=llm, streaming=is_streaming)}
    else:
        options["node_postprocessors"] = [DPFusionNodePostprocessor(vault=how == "vault")]
    engine = index.as_query_engine(llm=llm, **options)

    async def query() -> str:
        response: Any = await engine.aquery(QUESTION)
        if is_streaming:
            return "".join([piece async for piece in response.response_gen])
        return str(response)

    answer = asyncio.run(query()) if is_async else str(engine.query(QUESTION))
    assert answer == "They live in oslo."
    assert len(reader.asked) == len(CITIES) + 2
    assert all(prompt.count("Person ") <= 1 for prompt in reader.asked)
    assert "Person" not in reader.asked[0] + reader.asked[-1]
    assert not any("[[dpf" in prompt for prompt in reader.asked)


def test_a_model_of_ours_takes_the_mechanism_in_one_word() -> None:
    backend = ScriptedBackend.saying(
        lambda prompt: city_of(prompt) if "Person" in prompt or "- " in prompt else "?"
    )
    llm = DPFusionLLM(engine=FusionEngine(backend), epsilon=4.0, mechanism="consensus")
    [answer] = ask(llm, "chat")
    assert [each["item"] for each in answer.raw["dp_fusion"]["items"]] == ["oslo"]
    assert llm.metadata.context_window > 10**6
    index = SummaryIndex.from_documents(DOCUMENTS)
    engine = index.as_query_engine(llm=llm, node_postprocessors=[DPFusionNodePostprocessor()])
    assert "oslo" in str(engine.query(QUESTION))
    plain = llm.model_copy(update={"mechanism": None})
    assert plain.metadata.context_window < 10**6
    [answer] = ask(plain, "chat", mechanism="consensus")
    assert answer.raw["dp_fusion"]["mechanism"] == "consensus"


def test_a_chat_engine_says_what_many_say() -> None:
    llm, _ = consensus()
    index = SummaryIndex.from_documents(DOCUMENTS)
    engine = ContextChatEngine.from_defaults(
        retriever=index.as_retriever(), llm=llm, node_postprocessors=[DPFusionNodePostprocessor()]
    )
    assert str(engine.chat(QUESTION)) == "They live in oslo."


# --- What nobody hears ---


@pytest.mark.parametrize("way", WAYS)
def test_no_handler_sees_a_document_or_what_is_said_of_one(seen: Seen, way: str) -> None:  # noqa: F811
    Settings.callback_manager = CallbackManager([Callbacks(seen)])
    reader = Reader(callback_manager=CallbackManager([Callbacks(seen)]))
    llm = DPConsensusLLM(reader, epsilon=4.0, callback_manager=CallbackManager([Callbacks(seen)]))
    ask(llm, way)
    assert seen.kinds_with("____")
    assert {"LLMChatStartEvent", "callback llm"} <= seen.kinds_with(QUESTION)
    assert seen.kinds_with("Person") == seen.kinds_with("Trondheim") == set()


def test_with_the_caller_s_word_handlers_see_it(seen: Seen) -> None:  # noqa: F811
    ask(DPConsensusLLM(Reader(), epsilon=4.0, trace_private=True), "chat")
    assert seen.kinds_with("Person 31")


def test_an_error_of_the_llm_holds_no_text(seen: Seen) -> None:  # noqa: F811
    def fail(prompt: str) -> str:
        raise ValueError(prompt)

    llm, _ = consensus(fail)
    with pytest.raises(BackendError) as caught:
        ask(llm, "chat")
    assert "Person" not in repr(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert seen.kinds_with("Person") == set()


def test_an_llm_that_fails_for_some_documents_is_not_heard_for_them(
    seen: Seen,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    def flaky(prompt: str) -> str:
        if "Person 1" in prompt:  # 1 and 10 to 19
            raise ValueError(prompt)
        return city_of(prompt)

    llm, reader = consensus(flaky, answer_timeout=30.0)
    [answer] = ask(llm, "chat")
    [released] = answer.raw["dp_fusion"]["items"]
    assert 8 < released["count"] < 30
    assert answer.raw["dp_fusion"]["units"] == 32
    assert len(reader.asked) == len(CITIES) + 2
    assert seen.kinds_with("Person") == set()
    assert "Person" not in "".join(capsys.readouterr())


def test_a_failure_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpfusion_core.adapters.answering.LONGEST_WAIT", 0.001)
    lock, failed = threading.Lock(), set()

    def once(prompt: str) -> str:
        with lock:
            if prompt not in failed:
                failed.add(prompt)
                raise ConnectionError("busy")
        return city_of(prompt)

    llm, _ = consensus(once, answer_retries=1)
    [answer] = ask(llm, "chat")
    assert 15 < answer.raw["dp_fusion"]["items"][0]["count"] < 45


def test_a_document_that_takes_too_long_has_no_vote() -> None:
    def slow(prompt: str) -> str:
        time.sleep(3.0 if "Person 3" in prompt else 0.0)  # 3, 30, 31
        return city_of(prompt)

    llm, _ = consensus(slow, answer_timeout=0.3, at_once=40)
    start = time.monotonic()
    [answer] = ask(llm, "chat")
    assert time.monotonic() - start < 2.5
    assert answer.message.content == "They live in oslo."


@pytest.mark.parametrize("at_once", [1, 4])
def test_no_more_documents_are_read_at_once_than_was_said(at_once: int) -> None:
    llm, reader = consensus(delay=0.01, at_once=at_once)
    ask(llm, "chat")
    assert reader.most_at_once == at_once


def test_two_threads_ask_at_once() -> None:
    llm, _ = consensus()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.extend(ask(llm, "chat"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.message.content for answer in answers] == ["They live in oslo."] * 4


# --- What is refused ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilonn": 1.0}, "Did you mean 'epsilon'"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"temperature": 0.5}, "temperature"),
        ({"top_k": 5}, "top_k"),
        ({"order": 2.0, "beta": 0.1}, "order|beta"),
        ({"model": "x"}, "model"),
        ({"tagger": "x"}, "tagger"),
        ({"choices": ["a", "b"]}, "choices"),
        ({"mechanism": "fusion"}, "mechanism"),
        ({"spending": "capped"}, "spending"),
        ({"at_once": 0}, "at_once of DPConsensusLLM"),
        ({"answer_timeout": -1}, "answer_timeout of DPConsensusLLM"),
        ({"answer_retries": True}, "answer_retries of DPConsensusLLM"),
        ({"trace_private": "no"}, "trace_private of DPConsensusLLM"),
        ({"max_items": 0}, "max_items"),
        ({"items": "lists"}, "items"),
        ({"llm": "gpt-4"}, "llm"),
    ],
    ids=str,
)
def test_options_are_read_or_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        DPConsensusLLM(**{"llm": Reader(), "epsilon": 4.0, **options})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"epsilonn": 1.0}, PrivacyParameterError, "Did you mean 'epsilon'"),
        ({"temperature": 0.5}, PrivacyParameterError, "temperature"),
        ({"mechanism": "fusion"}, PrivacyParameterError, "one mechanism"),
        ({"choices": ["a", "b"]}, UnsupportedError, "DPFusionLLM"),
        ({"tools": [{"name": "f"}]}, PrivacyParameterError, "tools"),
    ],
    ids=str,
)
@pytest.mark.parametrize("way", WAYS)
def test_options_of_a_call_are_read_or_refused(
    options: dict[str, Any], error: type[Exception], words: str, way: str
) -> None:
    llm, reader = consensus()
    with pytest.raises(error, match=words):
        ask(llm, way, **options)
    assert not reader.asked


def test_one_of_ours_is_no_reader_of_plain_documents() -> None:
    with pytest.raises(PrivacyParameterError, match='mechanism="consensus"'):
        DPConsensusLLM(DPFusionLLM(), epsilon=1.0)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (CHAT[-2:], "one document"),
        (CHAT[-4:], "documents"),
        ([*CHAT[:-1], ChatMessage("Hm.", role="assistant")], "question"),
    ],
    ids=["one", "few", "no question"],
)
def test_what_cannot_be_told_is_refused_before_anybody_is_asked(messages: Any, words: str) -> None:
    llm, reader = consensus(epsilon=0.5)
    with pytest.raises((PrivacyParameterError, ValueError), match=words):
        ask(llm, "chat", messages)
    assert not reader.asked


def test_what_is_not_marked_is_refused_as_anywhere() -> None:
    llm, reader = consensus()
    with pytest.raises(RefusedError, match="nothing in this call is marked private"):
        ask(llm, "chat", CHAT[-1:])
    documents = [ChatMessage(message.content) for message in CHAT[:-1]]
    with pytest.raises(RefusedError):
        ask(llm, "chat", [*documents, CHAT[-1]])
    assert not reader.asked


def test_nodes_without_marks_are_one_unit_and_so_no_consensus() -> None:
    llm, reader = consensus()
    engine = SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=llm)
    with pytest.raises(Exception, match="one document"):
        engine.query(QUESTION)
    assert not reader.asked


def test_other_parts_say_that_they_need_a_model_of_ours() -> None:
    llm, _ = consensus()
    with pytest.raises(PrivacyParameterError, match="model of our own"):
        DPFusionTransform(llm)
    with pytest.raises(PrivacyParameterError, match="DPFusionLLM"):
        DPFusionSelector(llm)


# --- Settings ---


def test_settings_are_copied_checked_and_not_pickled() -> None:
    llm, reader = consensus()
    other = llm.model_copy(update={"epsilon": 2.0, "at_once": 3})
    assert (other.epsilon, other.at_once, llm.epsilon, llm.at_once) == (2.0, 3, 4.0, 8)
    assert ask(other, "chat")[0].raw["dp_fusion"]["epsilon"] == 2.0
    llm.llm = MockLLM(max_tokens=1)
    before = len(reader.asked)
    ask(llm, "chat")
    assert len(reader.asked) == before
    with pytest.raises(UnsupportedError, match="ready llm"):
        llm.__getstate__()
    told = llm.metadata
    assert (told.is_chat_model, told.is_function_calling_model) == (True, False)
