"""What many documents say, over chat models that are not ours and over our own."""

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.globals import set_debug, set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tracers.context import collect_runs
from langsmith import tracing_context
from pydantic import BaseModel

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger, ScriptedBackend
from dpfusion_core.errors import (
    BackendError,
    BudgetExhaustedError,
    DPFusionError,
    PrivacyParameterError,
    RefusedError,
    UnsupportedError,
)
from dpfusion_core.privacy import releasing
from langchain_dpfusion import ChatDPConsensus, ChatDPFusion, PrivateDocumentFormatter, private_block
from tests.draws import repeating
from tests.langchain.leaks import SECRET, Recorder, Sent, as_text, log_records
from tests.langchain.readers import Reader, Router, StreamingReader, city_of, town

QUESTION = HumanMessage("Where do they live?")
WAYS = ("invoke", "ainvoke", "stream", "astream", "batch", "abatch")


@pytest.fixture(autouse=True)
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two documents of 32 would be told once in 3,000 times: what noise does is tested where it is drawn."""
    for module, name, value in repeating():
        if module is releasing:
            monkeypatch.setattr(module, name, value)


def records(texts: list[str] | None = None) -> HumanMessage:
    texts = [*town(30), *town(2, "Trondheim")] if texts is None else texts
    content: Any = [private_block(text, unit=f"person-{number}") for number, text in enumerate(texts)]
    return HumanMessage(content)


CHAT = [records(), QUESTION]


def consensus(reader: BaseChatModel | None = None, **options: Any) -> ChatDPConsensus:
    return ChatDPConsensus(llm=Reader() if reader is None else reader, **{"epsilon": 4.0, **options})


def ask(llm: Any, way: str = "invoke", chat: Any = CHAT, config: Any = None) -> Any:
    async def gathered() -> list[Any]:
        return [piece async for piece in llm.astream(chat, config)]

    if way == "invoke":
        return llm.invoke(chat, config)
    if way == "ainvoke":
        return asyncio.run(llm.ainvoke(chat, config))
    if way == "batch":
        return llm.batch([chat, chat], config)[1]
    if way == "abatch":
        return asyncio.run(llm.abatch([chat, chat], config))[1]
    pieces = list(llm.stream(chat, config)) if way == "stream" else asyncio.run(gathered())
    return sum(pieces[1:], pieces[0])


def said(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["dp_fusion"]
    return found


@pytest.fixture(autouse=True)
def _no_globals() -> Iterator[None]:
    yield
    set_debug(False)
    set_llm_cache(None)


# --- The answer ---


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Reader, StreamingReader])
def test_what_many_say_is_told_and_what_few_say_is_not(kind: type[Reader], way: str) -> None:
    reader = kind()
    answer = ask(consensus(reader), way)
    assert answer.text == "They live in oslo."
    found = said(answer)
    assert (found["mechanism"], found["epsilon"], found["delta"], found["units"]) == (
        "consensus",
        4.0,
        1e-5,
        32,
    )
    assert found["retrieval"] == "not covered"
    (released,) = found["items"]
    assert released["item"] == "oslo"
    assert 15 < released["count"] < 45
    times = 2 if "batch" in way else 1
    assert len(reader.asked) == times * (32 + 2)
    # Each document stands in one prompt alone; none in the public question and in the writing.
    assert all(prompt.count("Person ") <= 1 for prompt in reader.asked)
    assert sum("Person 7," in prompt for prompt in reader.asked) == times
    assert answer.usage_metadata["input_tokens"] >= 0


def test_a_stream_is_written_piece_by_piece() -> None:
    pieces = [piece.text for piece in consensus(StreamingReader()).stream(CHAT)]
    assert "".join(pieces) == "They live in oslo."
    assert len(pieces) > 10


def test_without_consensus_the_answer_is_the_public_one() -> None:
    reader = Reader(
        say=lambda prompt: f"town {len(prompt)} {hash(prompt)}" if "Person" in prompt else "Nobody says."
    )
    answer = ask(consensus(reader))
    assert answer.text == "Nobody says."
    assert said(answer)["items"] == []


def test_it_stands_in_a_chain_as_any_other_chat_model() -> None:
    """One line is changed: the model."""
    found = [Document(text, metadata={"source": f"person-{i}.txt"}) for i, text in enumerate(town())]
    chain = (
        {"docs": RunnableLambda(lambda _: found) | PrivateDocumentFormatter(), "input": RunnablePassthrough()}
        | ChatPromptTemplate(
            [("system", "Answer from the records."), ("placeholder", "{docs}"), ("human", "{input}")]
        )
        | consensus()
    )
    answer = chain.invoke("Where do they live?")
    assert answer.text == "They live in oslo."
    assert said(answer)["units"] == 30
    assert asyncio.run(chain.ainvoke("Where do they live?")).text == "They live in oslo."


def test_a_model_of_ours_takes_the_mechanism_in_one_word() -> None:
    backend = ScriptedBackend.saying(
        lambda prompt: city_of(prompt) if "Person" in prompt or "- " in prompt else "?"
    )
    llm = ChatDPFusion(engine=FusionEngine(backend), epsilon=4.0, mechanism="consensus")
    for way in WAYS:
        answer = ask(llm, way)
        assert [item["item"] for item in said(answer)["items"]] == ["oslo"]
        assert said(answer)["mechanism"] == "consensus"
    fused = llm.invoke(CHAT, mechanism="fusion")
    assert said(fused)["mechanism"] == "fusion"
    assert "items" not in said(fused)


def test_options_of_a_call_come_first() -> None:
    answer = consensus(epsilon=1.0).invoke(CHAT, epsilon=2.0, neighbours="replace", max_items=2)
    assert (said(answer)["epsilon"], said(answer)["neighbours"]) == (2.0, "replace")
    assert ask(consensus().bind(epsilon=3.0)).response_metadata["dp_fusion"]["epsilon"] == 3.0
    assert ask(consensus(epsilon=None).with_retry().bind(epsilon=3.0)).text == "They live in oslo."


def test_items_are_read_by_the_caller_s_function() -> None:
    reader = Reader(say=lambda prompt: "They like tea." if "Person" in prompt else "Nobody knows.")
    llm = consensus(reader, items=lambda answer: ["TEA"] if "tea" in answer else [])
    assert [item["item"] for item in said(ask(llm))["items"]] == ["tea"]


# --- Who hears of it ---


def listened(llm: Any, way: str, config: Any = None) -> Any:
    with log_records() as logs:
        answer = ask(llm, way, config=config)
    assert SECRET not in "\n".join(logs)
    return answer


@pytest.mark.parametrize("way", WAYS)
def test_no_callback_hears_of_a_document(way: str) -> None:
    outer, inner = Recorder(), Recorder()
    reader = Reader(callbacks=[inner])
    answer = listened(consensus(reader), way, {"callbacks": [outer]})
    assert answer.text == "They live in oslo."
    assert outer.events
    for recorder in (outer, inner):
        assert SECRET not in recorder.text()
        assert "Person" not in recorder.text()


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("is_router", [False, True])
def test_no_tracer_hears_of_a_document(way: str, is_router: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the environment's, nor that of a run around it, nor the console of ``set_debug``."""
    reader: BaseChatModel = Router(inner=Reader()) if is_router else Reader()
    sent = Sent()
    if not is_router:
        set_debug(True)
    chain = RunnableLambda(lambda chat: chat) | consensus(reader)
    hidden = [records(town()), QUESTION]
    with tracing_context(enabled=True, client=sent.client()), collect_runs() as runs:
        answer = ask(consensus(reader), way, hidden)
    assert answer.text == "They live in oslo."
    assert sent.session.request.called
    assert SECRET not in sent.text
    assert SECRET not in _traced(runs.traced_runs)
    assert SECRET not in capsys.readouterr().out
    set_debug(False)
    assert chain.invoke(CHAT).text == "They live in oslo."


def _traced(runs: Any) -> str:
    return "".join(repr((run.inputs, run.outputs, run.extra)) + _traced(run.child_runs) for run in runs)


def test_who_says_so_is_heard() -> None:
    recorder = Recorder()
    llm = consensus(Reader(callbacks=[recorder]), trace_private=True)
    assert ask(llm).text == "They live in oslo."
    assert SECRET in recorder.text("on_chat_model_start")


def test_no_cache_keeps_a_document() -> None:
    cache = InMemoryCache()
    set_llm_cache(cache)
    reader = Reader()
    llm = consensus(reader)
    assert ask(llm).text == "They live in oslo."
    assert SECRET not in as_text(cache._cache)
    asked = len(reader.asked)
    assert ask(llm).text == "They live in oslo."  # a finished answer is free
    assert len(reader.asked) == asked
    other = Reader()
    assert ask(consensus(other)).text == "They live in oslo."
    assert other.asked  # another model's answer


def test_nothing_of_it_shows() -> None:
    llm = consensus(Reader())
    for text in (repr(llm), str(llm), as_text(llm), as_text(llm.model_dump())):
        assert SECRET not in text
    assert "Reader" in repr(llm)
    with pytest.raises(UnsupportedError, match="ready llm cannot be pickled"):
        llm.__getstate__()
    assert llm.model_copy(update={"epsilon": 2.0}).epsilon == 2.0


def test_a_covered_retrieval_shows_neither_units_nor_how_many() -> None:
    recorder = Recorder()
    llm = consensus(retrieval="covered")
    separate = [
        HumanMessage(text, additional_kwargs={"is_private": True, "unit": f"u-{i}"})
        for i, text in enumerate(town())
    ]
    seen = []
    for chat in (CHAT, [records(town(5)), QUESTION], [*separate, QUESTION], [*separate[:3], QUESTION]):
        recorder.events.clear()
        answer = ask(llm, chat=chat, config={"callbacks": [recorder]})
        assert said(answer)["units"] is None
        assert said(answer)["retrieval"] == "covered"
        seen.append(recorder.text("on_chat_model_start").count("____"))
        assert "person-" not in recorder.text()
        assert "u-1" not in recorder.text()
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert ask(llm).text == "They live in oslo."


# --- What fails ---


class Sick(Reader):
    """Fails for the documents of some people, once or always."""

    numbers: range = range(0)
    is_once: bool = False

    def _answer(self, messages: Any) -> str:
        text = super()._answer(messages)
        prompt = "\n".join(str(message.content) for message in messages)
        is_again = sum(each == prompt for each in self.asked) > 1
        for number in self.numbers:
            if f"Person {number}," in prompt and not (self.is_once and is_again):
                raise ArithmeticError(prompt)
        return text


def test_a_document_that_fails_has_no_vote() -> None:
    answer = listened(consensus(Sick(numbers=range(0, 30, 2))), "invoke")
    (released,) = said(answer)["items"]
    assert released["count"] < 28
    assert said(answer)["units"] == 32  # public: it was given


def test_a_document_that_failed_is_asked_again() -> None:
    reader = Sick(numbers=range(2, 20), is_once=True)
    answer = ask(consensus(reader, answer_retries=1))
    assert answer.text == "They live in oslo."
    assert len(reader.asked) == 32 + 18 + 2


def test_a_model_that_always_fails_says_so_and_quotes_nothing() -> None:
    def say(prompt: str) -> str:
        raise ArithmeticError(prompt)

    for way in WAYS:
        with log_records() as logs, pytest.raises(BackendError) as caught:
            ask(consensus(Reader(say=say)), way)
        assert SECRET not in str(caught.value) + "".join(logs)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_document_that_takes_too_long_is_not_heard() -> None:
    def say(prompt: str) -> str:
        if "Person 3," in prompt:
            time.sleep(3.0)
        return city_of(prompt)

    begun = time.monotonic()
    answer = ask(consensus(Reader(say=say), answer_timeout=0.3, at_once=32))
    assert answer.text == "They live in oslo."
    assert time.monotonic() - begun < 2.5


def test_no_more_documents_are_read_at_once_than_is_said() -> None:
    reader = Reader(delay=0.01)
    llm = consensus(reader, at_once=3)
    llm.batch([CHAT] * 3)
    assert reader.most_at_once == 3


def test_a_rate_limiter_of_the_model_is_kept() -> None:
    limiter = InMemoryRateLimiter(requests_per_second=1000, check_every_n_seconds=0.001, max_bucket_size=100)
    taken = []
    acquire = limiter.acquire

    def counted(*, blocking: bool = True) -> bool:
        taken.append(1)
        return acquire(blocking=blocking)

    limiter.acquire = counted  # type: ignore[method-assign]
    ask(consensus(Reader(rate_limiter=limiter)))
    assert len(taken) == 32 + 2


@pytest.mark.parametrize(
    ("chat", "error", "words"),
    [
        ([QUESTION], RefusedError, "nothing in this call is marked private"),
        ([records(town(1)), QUESTION], PrivacyParameterError, "one document"),
        ([records(town(2)), QUESTION], PrivacyParameterError, "documents"),
        ([records()], DPFusionError, "needs a question"),
        ([HumanMessage("x"), HumanMessage(town()[0]), QUESTION], RefusedError, "marked private"),
    ],
    ids=["unmarked", "one", "two", "no question", "documents without marks"],
)
@pytest.mark.parametrize("way", WAYS)
def test_what_no_consensus_can_answer_is_refused_before_a_document_is_asked(
    way: str, chat: Any, error: type[Exception], words: str
) -> None:
    reader = Reader()
    with pytest.raises(error, match=words):
        ask(consensus(reader), way, chat)
    assert not reader.asked


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilonn": 1.0}, "Did you mean 'epsilon'"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"at_one": 2}, "Did you mean 'at_once'"),
        ({"at_once": 0}, "at_once"),
        ({"answer_timeout": 0.0}, "answer_timeout"),
        ({"answer_retries": -1}, "answer_retries"),
        ({"max_items": 0}, "max_items"),
        ({"items": "lines"}, "items"),
        ({"retrieval": "top-k"}, "retrieval"),
        ({"temperature": 0.5}, "Unknown option 'temperature'"),
        ({"order": 2.0, "beta": 0.1, "epsilon": None}, "Unknown option"),
        ({"mechanism": "fusion"}, "Unknown option 'mechanism'"),
        ({"model": "dpfusion-tiny"}, "Unknown option 'model'"),
        ({"tagger": None}, "Unknown option 'tagger'"),
        ({"llm": "gpt"}, "llm"),
        ({"llm": ChatDPFusion(model="dpfusion-tiny")}, "mechanism='consensus'"),
        ({"unmarked": "publik"}, "unmarked"),
    ],
    ids=str,
)
def test_a_consensus_is_not_made_of_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        ChatDPConsensus(**{"llm": Reader(), "epsilon": 1.0, **options})
    if "llm" not in options and "model" not in options:
        llm = consensus()
        with pytest.raises(PrivacyParameterError, match=words):
            llm.model_copy(update=options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"top_k": 5}, "top_k"),
        ({"temperature": 0.0}, "temperature"),
        ({"stop": ["x"]}, "stop"),
        ({"choices": ["yes", "no"]}, "writes its answer"),
        ({"mechanism": "fusion"}, "mechanism"),
        ({"epsilonn": 1.0}, "Did you mean 'epsilon'"),
        ({"items": len}, "items"),
    ],
    ids=str,
)
def test_options_that_say_nothing_of_a_consensus_are_refused(call: dict[str, Any], words: str) -> None:
    reader = Reader()
    with pytest.raises(PrivacyParameterError, match=words):
        consensus(reader).invoke(CHAT, **call)
    assert not reader.asked
    with pytest.raises(UnsupportedError, match="one model"):
        consensus(reader).invoke(CHAT, model="other")


def test_a_consensus_is_made_at_once() -> None:
    """LangChain sets fields of its own while a model is made: that must not make others, and these others again."""
    made = []

    class Counted(ChatDPConsensus):
        def check_fields(self) -> None:
            made.append(self)
            super().check_fields()

    llm = Counted(llm=Reader(), epsilon=1.0)
    assert len(made) == 1
    assert llm.profile is not None
    assert not llm.profile.get("tool_calling")
    llm.epsilon = 2.0
    assert len(made) == 2


def test_retrieval_says_nothing_of_fusion() -> None:
    with pytest.raises(PrivacyParameterError, match="consensus alone"):
        ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, retrieval="covered")


# --- Charges, threads ---


def test_each_document_pays_from_its_own_account() -> None:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(2.0), key="k" * 32) as ledger:
        reader = Reader()
        llm = consensus(reader, ledger=ledger, epsilon=1.5, responses=1)
        ask(llm)
        assert 0 < ledger.account("person-0").spent_epsilon <= 2.0
        asked = len(reader.asked)
        with pytest.raises(BudgetExhaustedError):
            ask(llm)
        assert len(reader.asked) <= asked + 1  # the public question, and no document


def test_threads_ask_side_by_side() -> None:
    llm = consensus()
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(ask(llm).text)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["They live in oslo."] * 4


def test_the_answer_has_the_form_that_is_asked_for() -> None:
    """A consensus of our own model is written by the grammar."""

    class Place(BaseModel):
        """Where they live."""

        city: str

    def say(prompt: str) -> str:
        if "- oslo" in prompt:
            return '{"city": "Oslo"}'
        return city_of(prompt) if "Person" in prompt else '{"city": "?"}'

    llm = ChatDPFusion(engine=FusionEngine(ScriptedBackend.saying(say)), epsilon=4.0, mechanism="consensus")
    found: Any = llm.with_structured_output(Place, include_raw=True).invoke(CHAT)
    assert found["parsed"] == Place(city="Oslo")
    assert said(found["raw"])["mechanism"] == "consensus"


def test_the_method_that_is_called_unheard_is_where_it_was() -> None:
    """``BaseChatModel._generate`` is what every chat model must have; it is called without ``run_manager``."""
    assert "_generate" in BaseChatModel.__abstractmethods__
    parameters = inspect.signature(BaseChatModel._generate).parameters
    assert list(parameters) == ["self", "messages", "stop", "run_manager", "kwargs"]
    assert parameters["run_manager"].default is None
