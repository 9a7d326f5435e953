"""Answers that are one of several public choices."""

import asyncio
from typing import Any, Literal

import pytest
from llama_index.core import Document, SummaryIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.evaluation import FaithfulnessEvaluator, RelevancyEvaluator
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.tools import QueryEngineTool
from pydantic import BaseModel

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger, ScriptedBackend
from dpfusion_core.adapters.closed import _say_mixed
from dpfusion_core.errors import BackendError, PrivacyParameterError, RefusedError
from llamaindex_dpfusion import DPFusionLLM, DPFusionNodePostprocessor, DPFusionSelector, DPFusionTransform
from tests.llamaindex.recording import documents
from tests.llamaindex.test_tracing import Seen, seen  # noqa: F401

SECRET = "Ingrid has gout."
CHAT = [
    ChatMessage(SECRET, additional_kwargs={"is_private": True, "unit": "ingrid"}),
    ChatMessage("Which illness?"),
]
ILLNESSES = ["asthma", "gout", "flu"]
WAYS = ("chat", "achat", "stream_chat", "astream_chat", "complete", "acomplete", "stream_complete")


def choosing(says: str = "gout", **options: Any) -> DPFusionLLM:
    return DPFusionLLM(engine=FusionEngine(ScriptedBackend.saying(says)), **{"epsilon": 20.0, **options})


def ask(llm: DPFusionLLM, way: str, **options: Any) -> list[Any]:
    asked: Any = CHAT if "chat" in way else SECRET

    async def work() -> list[Any]:
        found = await getattr(llm, way)(asked, **options)
        return [each async for each in found] if "stream" in way else [found]

    if way.startswith("a"):
        return asyncio.run(work())
    found = getattr(llm, way)(asked, **options)
    return list(found) if "stream" in way else [found]


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_is_one_of_the_choices_under_a_guarantee_of_one_step(way: str) -> None:
    llm = choosing(max_tokens=300, top_k=5, spending="capped")  # which text alone has
    for found in (ask(llm, way, choices=ILLNESSES), ask(choosing(choices=ILLNESSES), way)):
        [answer] = found
        assert (answer.message.content if "chat" in way else answer.text) == "gout"
        said = answer.raw["dp_fusion"]
        assert (said["mechanism"], said["max_tokens"], said["epsilon"], said["units"]) == (
            "choice",
            1,
            20.0,
            1,
        )
        assert answer.raw["finish_reason"] == "stop"
        assert answer.delta == ("gout" if "stream" in way else None)


def test_a_choice_is_charged_to_the_unit() -> None:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(3.0), key="k" * 32) as ledger:
        engine = FusionEngine(ScriptedBackend.saying("gout"), ledger=ledger)
        DPFusionLLM(engine=engine, epsilon=1.0).chat(CHAT, choices=ILLNESSES)
        assert 0 < ledger.account("ingrid").spent_epsilon <= 1.01


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"choices": ["gout"]}, "at least two"),
        ({"choices": "gout"}, "list of texts"),
        ({"choices": ["gout", " gout"]}, "same"),
        ({"choices": ILLNESSES, "max_tokens": 5}, "no effect on a choice"),
        ({"choices": ILLNESSES, "json_schema": {"type": "object"}}, "Ask for one"),
        ({"choices": ILLNESSES, "tools": [{"name": "f"}]}, "Ask for one"),
        ({"choises": ILLNESSES}, "Did you mean 'choices'"),
        ({"prior": "flat"}, "prior"),
    ],
    ids=str,
)
def test_choices_are_read_or_refused(options: dict[str, Any], words: str) -> None:
    backend = ScriptedBackend.saying("gout")
    llm = DPFusionLLM(engine=FusionEngine(backend), epsilon=20.0)
    with pytest.raises(PrivacyParameterError, match=words):
        llm.chat(CHAT, **options)
    assert not backend.requests


def test_choices_of_an_llm_are_checked_when_it_is_made_or_changed() -> None:
    with pytest.raises(PrivacyParameterError, match="at least two"):
        DPFusionLLM(choices=["yes"])
    llm = choosing()
    with pytest.raises(PrivacyParameterError, match="choices of DPFusionLLM"):
        llm.choices = "yes"  # type: ignore[assignment]
    with pytest.raises(PrivacyParameterError, match="writes text"):
        DPFusionTransform(choosing(choices=["yes", "no"]))


def test_a_prior_is_for_choices_and_says_nothing_of_text() -> None:
    llm = choosing("It is gout.", prior="public")
    assert llm.chat(CHAT).message.content == "It is gout."
    assert choosing(prior="public").chat(CHAT, choices=ILLNESSES).message.content == "gout"


def test_what_traces_see_of_a_choice_is_public(seen: Seen) -> None:  # noqa: F811
    choosing().chat(CHAT, choices=ILLNESSES)
    assert seen.kinds_with("____")
    assert seen.kinds_with("asthma")
    assert seen.kinds_with(SECRET) == set()


@pytest.mark.parametrize("evaluator", [FaithfulnessEvaluator, RelevancyEvaluator])
@pytest.mark.parametrize("verdict", ["YES", "NO"])
def test_a_grader_that_says_yes_or_no_takes_an_llm_of_choices(evaluator: Any, verdict: str) -> None:
    backend = ScriptedBackend.saying(verdict)
    llm = DPFusionLLM(engine=FusionEngine(backend), epsilon=20.0, choices=["YES", "NO"])
    judged = evaluator(llm=llm).evaluate(query="Which illness?", response="Gout.", contexts=[SECRET])
    assert judged.passing is (verdict == "YES")
    assert judged.feedback == verdict
    [public, *private] = backend.requests[0]
    assert SECRET not in public
    assert any(SECRET in view for view in private)


def router(selector: DPFusionSelector) -> RouterQueryEngine:
    letters, invoices = (SummaryIndex.from_documents(documents(1)) for _ in range(2))
    return RouterQueryEngine(
        llm=MockLLM(),
        selector=selector,
        query_engine_tools=[
            QueryEngineTool.from_defaults(
                index.as_query_engine(
                    llm=MockLLM(max_tokens=1), node_postprocessors=[DPFusionNodePostprocessor()]
                ),
                name=name,
                description=f"{name} of customers",
            )
            for name, index in (("letters", letters), ("invoices", invoices))
        ],
    )


@pytest.mark.parametrize("is_async", [False, True])
def test_a_router_selects_by_a_choice(is_async: bool) -> None:
    backend = ScriptedBackend.saying("2")
    llm = DPFusionLLM(engine=FusionEngine(backend), unmarked="public")
    engine = router(DPFusionSelector(llm))
    asked = "How much did they pay?"
    response: Any = asyncio.run(engine.aquery(asked)) if is_async else engine.query(asked)
    assert response.metadata["selector_result"].selections[0].index == 1
    [prompt] = backend.requests[0]
    assert "(1) letters of customers" in prompt
    assert asked in prompt


def test_a_selection_by_private_text_is_charged_and_its_budget_needed() -> None:
    llm = choosing("1", epsilon=None, unmarked="private")
    prompt = PromptTemplate("{tools_str} {query_str} {num_choices} {context_str}").partial_format(
        context_str=SECRET
    )
    with pytest.raises(RefusedError, match="no privacy parameters"):
        DPFusionSelector(llm, prompt).select(["letters", "invoices"], "Which?")
    assert DPFusionSelector(choosing("1"), prompt).select(["letters", "invoices"], "Which?").ind == 0


def test_there_is_something_to_select_from() -> None:
    with pytest.raises(PrivacyParameterError, match="nothing to select"):
        DPFusionSelector(choosing()).select([], "Which?")
    assert DPFusionSelector(choosing()).select(["letters"], "Which?").ind == 0
    wrong: Any = MockLLM()
    with pytest.raises(PrivacyParameterError, match="llm"):
        DPFusionSelector(wrong)


def test_a_model_that_fails_is_a_bare_error() -> None:
    backend = ScriptedBackend.saying("gout")

    def fail(*args: Any) -> Any:
        raise ArithmeticError(SECRET)

    backend._script = fail
    with pytest.raises(BackendError) as caught:
        DPFusionLLM(engine=FusionEngine(backend), epsilon=20.0).chat(CHAT, choices=ILLNESSES)
    assert SECRET not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


# --- Objects of closed fields ---


class Ward(BaseModel):
    """Where somebody lies."""

    ward: Literal["A", "B"]
    is_ill: bool


class Note(BaseModel):
    ward: Literal["A", "B"]
    remark: str


RECORD = "Ann lies in ward B and is ill."
PROMPT = PromptTemplate("{context_str}\n{query_str}")


def of_the_form(prompt: str) -> str:
    return "yes" if "Is ill?" in prompt else "B"


async def _gathered(stream: Any) -> list[Any]:
    return [each async for each in stream]


async def _astructured(llm: DPFusionLLM, way: str, output_cls: Any) -> Any:
    found = getattr(llm, way)(output_cls, PROMPT, context_str=RECORD, query_str="How is she?")
    found = await found if way.startswith("a") else found
    return (await _gathered(found))[-1] if way.startswith("astream") else found


def structured(llm: DPFusionLLM, way: str, output_cls: Any = Ward) -> Any:
    if way.startswith("a"):
        return asyncio.run(_astructured(llm, way, output_cls))
    found = getattr(llm, way)(output_cls, PROMPT, context_str=RECORD, query_str="How is she?")
    return list(found)[-1] if way.startswith("stream") else found


STRUCTURED = [f"{a}{b}structured_predict" for a in ("", "a") for b in ("", "stream_")]


@pytest.mark.parametrize("way", STRUCTURED)
def test_an_object_of_closed_fields_is_chosen_field_by_field(way: str) -> None:
    backend = ScriptedBackend.saying(of_the_form)
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(40.0), key="k" * 32) as ledger:
        llm = DPFusionLLM(engine=FusionEngine(backend, ledger=ledger), epsilon=30.0, max_tokens=3)
        assert structured(llm, way) == Ward(ward="B", is_ill=True)
        assert ledger.account("private").spent_epsilon > 0
    assert len(backend.requests) == 2  # one turn for each field
    assert not any("schema" in view or "JSON" in view for views in backend.requests for view in views)
    assert all(
        RECORD not in views[0] and any(RECORD in view for view in views[1:]) for views in backend.requests
    )


@pytest.mark.parametrize("way", STRUCTURED)
def test_an_object_with_open_fields_is_written_and_the_log_says_what_it_costs(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    _say_mixed.cache_clear()
    backend = ScriptedBackend.saying('{"ward": "B", "remark": "She is ill."}')
    llm = DPFusionLLM(engine=FusionEngine(backend), epsilon=2000.0, max_tokens=100)
    with caplog.at_level("WARNING", "dpfusion"):
        assert structured(llm, way, Note) == Note(ward="B", remark="She is ill.")
    assert "closed fields (ward)" in caplog.text
    assert "open ones (remark)" in caplog.text
    assert "max_tokens=100" in caplog.text
    assert "JSON that obeys this schema" in backend.requests[0][0]


@pytest.mark.parametrize("way", WAYS)
def test_a_structured_llm_chooses_too(way: str) -> None:
    llm = DPFusionLLM(engine=FusionEngine(ScriptedBackend.saying(of_the_form)), epsilon=30.0)
    answers: Any = ask(llm.as_structured_llm(Ward), way)  # type: ignore[arg-type]
    assert answers[-1].raw == Ward(ward="B", is_ill=True)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_query_engine_with_an_output_class_chooses(is_async: bool) -> None:
    backend = ScriptedBackend.saying(of_the_form)
    llm = DPFusionLLM(engine=FusionEngine(backend), epsilon=30.0)
    index = SummaryIndex.from_documents([Document(text=RECORD, doc_id="ann")])
    engine = index.as_query_engine(
        llm=llm, output_cls=Ward, node_postprocessors=[DPFusionNodePostprocessor()]
    )
    response: Any = asyncio.run(engine.aquery("How is she?")) if is_async else engine.query("How is she?")
    assert response.response == Ward(ward="B", is_ill=True)
    assert len(backend.requests) == 2


def test_an_object_of_closed_fields_in_public_is_written() -> None:
    backend = ScriptedBackend.saying('{"ward": "A", "is_ill": false}')
    llm = DPFusionLLM(engine=FusionEngine(backend), max_tokens=60)
    assert llm.structured_predict(Ward, PromptTemplate("How is she?")) == Ward(ward="A", is_ill=False)
    assert "JSON that obeys" in backend.requests[0][0]
