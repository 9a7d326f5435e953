"""Agents ask a confidential corpus with a budget, and see no document."""

import asyncio
import re
from typing import Any

import pytest
from llama_index.core import Document
from llama_index.core.llms import MockLLM
from llama_index.core.tools import FunctionTool

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger, ScriptedBackend
from dpfusion_core.errors import PrivacyParameterError, RefusedError
from llamaindex_dpfusion import DPConsensusLLM, DPFusionLLM, DPThresholdRetriever, create_corpus_tools
from tests.llamaindex.readers import Reader, city_of
from tests.llamaindex.test_covered import FAR, NEAR, QUESTION, index_of
from tests.llamaindex.test_tracing import Seen, seen  # noqa: F401

DOCUMENTS = [
    Document(
        text=f"Person {n} lives in {'Oslo' if n < 60 else 'Bergen'} for {n} years.", doc_id=f"person-{n}"
    )
    for n in range(80)
]


def reads(prompt: str) -> str:
    if "How many years" in prompt:
        found = re.search(r"for (\d+) years", prompt)
        return found[1] if found else "none"
    if "Oslo?" in prompt:
        return "yes" if "lives in Oslo" in prompt else "no"
    return city_of(prompt)


def tools_of(llm: Any = None, documents: Any = DOCUMENTS, **options: Any) -> dict[str, FunctionTool]:
    llm = llm or DPConsensusLLM(Reader(reads), epsilon=1.0)
    made = create_corpus_tools(llm, documents, **{"budget": PrivacyBudget(60.0), "questions": 3, **options})
    return {str(tool.metadata.name): tool for tool in made}


@pytest.mark.parametrize("is_async", [False, True])
def test_an_agent_counts_measures_and_asks(is_async: bool) -> None:
    tools = tools_of()

    def call(name: str, **arguments: Any) -> Any:
        return asyncio.run(tools[name].acall(**arguments)) if is_async else tools[name](**arguments)

    counted = call("count_documents", question="Does the person live in Oslo?")
    assert 50 < int(re.findall(r"\d+", counted.content)[0]) < 70
    assert counted.raw_output.guarantee.mechanism == "count"
    measured = call("measure_documents", question="How many years?", lower=0.0, upper=100.0)
    assert 30 < float(re.findall(r"[\d.]+\d", measured.content)[0]) < 50
    asked = call("ask_documents", question="Where do they live?")
    assert "oslo" in asked.content
    assert "bergen" in asked.content
    assert not any("Person" in told.content for told in (counted, measured, asked))
    spent = call("count_documents", question="Does the person live in Oslo?")
    assert "spent" in spent.content
    assert spent.raw_output.guarantee is None


def test_all_questions_together_stay_within_the_budget() -> None:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(4.0), key="k" * 32) as ledger:
        llm = DPConsensusLLM(Reader(reads), ledger=ledger)
        tools = tools_of(llm, budget=PrivacyBudget(4.0))
        for _ in range(3):
            assert "About" in tools["count_documents"](question="Does the person live in Oslo?").content
        assert 2.0 < ledger.account("person-0").spent_epsilon <= 4.0


def test_a_question_that_is_refused_costs_none() -> None:
    tools = tools_of(questions=1)
    refused = tools["measure_documents"](question="How many years?", lower=5.0, upper=1.0)
    assert "lower" in refused.content
    assert "About" in tools["count_documents"](question="Does the person live in Oslo?").content


def test_over_a_retriever_it_is_private_which_documents_answer() -> None:
    reader = Reader(lambda prompt: "yes")
    llm = DPConsensusLLM(reader)
    tools = tools_of(llm, DPThresholdRetriever(index_of(NEAR + FAR), 0.6))
    counted = tools["count_documents"](question=QUESTION)
    assert (counted.raw_output.guarantee.retrieval, counted.raw_output.guarantee.units) == ("covered", None)
    assert len(reader.asked) == len(NEAR)
    assert not any("Invoice" in prompt for prompt in reader.asked)


def test_a_model_of_ours_reads_too() -> None:
    backend = ScriptedBackend.saying(lambda prompt: "yes" if "Oslo for" in prompt else "no")
    tools = tools_of(DPFusionLLM(engine=FusionEngine(backend)), questions=1)
    counted = tools["count_documents"](question="Does the person live in Oslo?")
    assert 40 < int(re.findall(r"\d+", counted.content)[0]) < 75


def test_no_handler_sees_a_document(seen: Seen) -> None:  # noqa: F811
    tools_of()["count_documents"](question="Does the person live in Oslo?")
    tools = tools_of(documents=DPThresholdRetriever(index_of(NEAR), 0.6))
    seen.texts.clear()
    tools["ask_documents"](question=QUESTION)
    assert seen.kinds_with("Person") == set()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"llm": MockLLM()}, "llm"),
        ({"documents": "Ann lives in Oslo."}, "documents"),
        ({"documents": ["Ann lives in Oslo."]}, "documents"),
        ({"documents": []}, "documents"),
        ({"budget": 4.0}, "PrivacyBudget"),
        ({"questions": 0}, "questions"),
        ({"unit": 7}, "unit"),
    ],
    ids=lambda each: each if isinstance(each, str) else next(iter(each)),
)
def test_arguments_are_read_or_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words) as caught:
        tools_of(**options)
    assert "Ann" not in str(caught.value)


def test_a_ledger_takes_no_document_whose_name_may_change() -> None:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(4.0), key="k" * 32) as ledger:
        llm = DPConsensusLLM(Reader(reads), ledger=ledger)
        with pytest.raises(RefusedError, match="would start anew"):
            tools_of(llm, [Document(text="Ann lives in Oslo.")])
