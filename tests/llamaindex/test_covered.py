"""Retrieval under the guarantee: every node by its own score, and nobody learns how many there were."""

import asyncio
from typing import Any

import pytest
from llama_index.core import Document, SummaryIndex, VectorStoreIndex
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger, ScriptedBackend
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, ViewError
from llamaindex_dpfusion import (
    DPConsensusLLM,
    DPFusionLLM,
    DPFusionNodePostprocessor,
    DPFusionSynthesizer,
    DPThresholdRetriever,
)
from tests.llamaindex.readers import Reader, city_of
from tests.llamaindex.test_tracing import Seen, seen  # noqa: F401

QUESTION = "In which town does the person live?"
NEAR = [f"Person {i}: in which town does the person live? The person lives in Oslo." for i in range(30)]
FAR = [f"Invoice {i} over {7 * i} crowns for apples, pears, plums, nuts, flour and sugar." for i in range(30)]


def index_of(texts: list[str]) -> VectorStoreIndex:
    return VectorStoreIndex.from_documents(
        [
            Document(text=text, doc_id=f"doc-{i}", metadata={"source": f"doc-{i}"})
            for i, text in enumerate(texts)
        ]
    )


def engine_of(
    texts: list[str], threshold: float = 0.6, **options: Any
) -> tuple[RetrieverQueryEngine, Reader]:
    reader = Reader(city_of)
    llm = DPConsensusLLM(reader, epsilon=4.0, **options)
    retriever = DPThresholdRetriever(index_of(texts), threshold)
    return RetrieverQueryEngine(retriever, DPFusionSynthesizer(llm=llm, retrieval="covered")), reader


@pytest.mark.parametrize("is_async", [False, True])
def test_every_node_that_passes_takes_part_and_no_other(is_async: bool) -> None:
    engine, reader = engine_of(NEAR + FAR)
    response: Any = asyncio.run(engine.aquery(QUESTION)) if is_async else engine.query(QUESTION)
    assert str(response) == "They live in oslo."
    assert len(reader.asked) == len(NEAR) + 2
    for number in range(len(NEAR)):
        assert sum(f"Person {number}:" in prompt for prompt in reader.asked) == 1
    assert not any("Invoice" in prompt for prompt in reader.asked)
    assert response.source_nodes == []
    assert response.metadata is None


def test_the_guarantee_says_so_and_names_no_number() -> None:
    answers: list[Any] = []

    class Noted(DPConsensusLLM):
        def chat(self, messages: Any, **kwargs: Any) -> Any:
            answers.append(super().chat(messages, **kwargs))
            return answers[-1]

    llm = Noted(llm=Reader(city_of), epsilon=4.0)
    for texts in (NEAR, NEAR + FAR, FAR):
        retriever = DPThresholdRetriever(index_of(texts), 0.6)
        RetrieverQueryEngine(retriever, DPFusionSynthesizer(llm=llm, retrieval="covered")).query(QUESTION)
    some, more, none = (answer.raw["dp_fusion"] for answer in answers)
    assert some["retrieval"] == "covered"
    assert some["units"] is None
    assert {**some, "items": 0} == {**more, "items": 0} == {**none, "items": 0}
    assert none["items"] == []


def test_what_is_asked_in_public_is_the_same_for_none_one_and_many() -> None:
    questions, answers = set(), set()
    for count in (0, 1, 2, 30):
        engine, reader = engine_of(NEAR[:count] + FAR)
        engine.query(QUESTION)
        assert len(reader.asked) == count + 2
        questions.add(reader.asked[0])
        if count < 30:  # else something was released
            answers.add(reader.asked[-1])
    assert len(questions) == len(answers) == 1


def test_a_document_pushes_no_other_out() -> None:
    def asked(texts: list[str]) -> set[str]:
        engine, reader = engine_of(texts)
        engine.query(QUESTION)
        return {prompt for prompt in reader.asked if "Person" in prompt}

    assert asked(NEAR[:20]) < asked(NEAR[:21])
    assert len(asked(NEAR[:21]) - asked(NEAR[:20])) == 1


def test_who_takes_part_is_charged_and_who_does_not_keeps_its_budget() -> None:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(8.0), key="k" * 32) as ledger:
        engine, _ = engine_of(NEAR + FAR, ledger=ledger, on_exhausted="zero-out")
        engine.query(QUESTION)
        assert ledger.account("doc-0").spent_epsilon > 0
        with pytest.raises(PrivacyParameterError, match="no account"):
            ledger.account(f"doc-{len(NEAR)}")


def test_an_error_about_a_spent_budget_would_tell() -> None:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(8.0), key="k" * 32) as ledger:
        engine, reader = engine_of(NEAR, ledger=ledger)
        with pytest.raises(Exception, match="on_exhausted='zero-out'"):
            engine.query(QUESTION)
        assert not reader.asked


# --- What would not be covered ---


@pytest.mark.parametrize("how", ["another retriever", "dropped by rank", "added", "two questions"])
def test_nodes_that_were_not_all_taken_so_are_refused(how: str) -> None:
    retriever = DPThresholdRetriever(index_of(NEAR), 0.6)
    nodes = retriever.retrieve(QUESTION)
    assert len(nodes) == len(NEAR)
    plain = (
        SummaryIndex.from_documents([Document(text=text) for text in NEAR]).as_retriever().retrieve(QUESTION)
    )
    given = {
        "another retriever": plain,
        "dropped by rank": nodes[:5],
        "added": [*nodes, plain[0]],
        "two questions": [*nodes[:15], *retriever.retrieve(QUESTION)[15:]],
    }
    reader = Reader(city_of)
    synthesizer = DPFusionSynthesizer(llm=DPConsensusLLM(reader, epsilon=4.0), retrieval="covered")
    with pytest.raises(ViewError, match="DPThresholdRetriever"):
        synthesizer.synthesize(QUESTION, given[how])
    assert not reader.asked


def test_a_postprocessor_that_drops_nodes_is_noticed() -> None:
    retriever = DPThresholdRetriever(index_of(NEAR + FAR), 0.1)
    llm = DPConsensusLLM(Reader(city_of), epsilon=4.0)
    engine = RetrieverQueryEngine(
        retriever,
        DPFusionSynthesizer(llm=llm, retrieval="covered"),
        node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=0.6)],
    )
    with pytest.raises(ViewError, match="no postprocessor"):
        engine.query(QUESTION)


@pytest.mark.parametrize("vault", [False, True])
def test_documents_that_were_taken_by_rank_are_not_covered(vault: bool) -> None:
    raws: list[Any] = []

    class Noted(DPConsensusLLM):
        def chat(self, messages: Any, **kwargs: Any) -> Any:
            response = super().chat(messages, **kwargs)
            raws.append(response.raw)
            return response

    llm = Noted(llm=Reader(city_of), epsilon=4.0)
    sealing = DPFusionNodePostprocessor(vault=vault)
    engine = index_of(NEAR).as_query_engine(llm=llm, similarity_top_k=30, node_postprocessors=[sealing])
    assert str(engine.query(QUESTION)) == "They live in oslo."
    assert raws[0]["dp_fusion"]["retrieval"] == "not covered"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": "high"}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"limit": 0}, "limit"),
        ({"similarity_top_k": 3}, "rank"),
        ({"vector_store_query_mode": "mmr"}, "rank"),
        ({"index": SummaryIndex([])}, "index"),
        ({"filtres": None}, "filters"),
    ],
    ids=lambda each: each if isinstance(each, str) else next(iter(each)),
)
def test_arguments_are_read_or_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        DPThresholdRetriever(**{"index": index_of(NEAR[:1]), "threshold": 0.5, **options})


def test_an_index_that_is_larger_than_the_limit_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="Raise limit"):
        DPThresholdRetriever(index_of(NEAR), 0.5, limit=30).retrieve(QUESTION)
    assert len(DPThresholdRetriever(index_of(NEAR), 0.5, limit=31).retrieve(QUESTION)) == 30


@pytest.mark.parametrize("retrieval", ["coverd", "covered"])
def test_covered_is_for_a_consensus(retrieval: Any) -> None:
    llm = DPFusionLLM(engine=FusionEngine(ScriptedBackend.saying("x")), epsilon=8.0)
    with pytest.raises(PrivacyParameterError, match=r"covered|consensus"):
        DPFusionSynthesizer(llm=llm, retrieval=retrieval)


def test_events_of_the_retrieval_hold_no_text(seen: Seen) -> None:  # noqa: F811
    engine, _ = engine_of(NEAR)
    seen.texts.clear()
    engine.query(QUESTION)
    assert {"RetrievalEndEvent", "GetResponseStartEvent"} <= seen.kinds_with("")
    assert seen.kinds_with("Person 1:") == set()


def test_nodes_say_how_they_were_taken_only_through_the_retriever() -> None:
    [node] = DPFusionNodePostprocessor().postprocess_nodes(
        [NodeWithScore(node=Document(text="Ann.", doc_id="ann"), score=0.9)]
    )
    assert node.node.cover is None  # type: ignore[attr-defined]
