"""Answers that are one of several public choices."""

import asyncio
from typing import Any

import pytest
from llama_index.core import SummaryIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.evaluation import FaithfulnessEvaluator, RelevancyEvaluator
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.tools import QueryEngineTool

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger, ScriptedBackend
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
