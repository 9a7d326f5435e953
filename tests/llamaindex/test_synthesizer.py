import asyncio
from typing import Any

import pytest
from llama_index.core import Settings, SummaryIndex
from llama_index.core.query_engine import CitationQueryEngine
from pydantic import BaseModel

from llamaindex_dpfusion import DPFusionNodePostprocessor, DPFusionSynthesizer
from tests.llamaindex.recording import QUESTION, check, documents, private_words, recording_llm, seen_by_unit

MODES = ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate", "compact_accumulate"]


@pytest.mark.parametrize("style", ["sync", "async", "stream"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("window", [1000, 8000])
def test_each_document_is_its_own_unit_without_a_postprocessor(mode: str, window: int, style: str) -> None:
    if style == "stream" and "accumulate" in mode:
        style = "sync"
    docs = documents()
    llm, backend = recording_llm(context_length=window)
    synthesizer = DPFusionSynthesizer(mode, llm=llm, streaming=style == "stream")
    engine = SummaryIndex.from_documents(docs).as_query_engine(llm=llm, response_synthesizer=synthesizer)
    response: Any = asyncio.run(engine.aquery(QUESTION)) if style == "async" else engine.query(QUESTION)
    text = "".join(response.response_gen) if style == "stream" else str(response)
    assert "It is so." in text
    assert [type(found.node).__name__ for found in response.source_nodes] == ["TextNode"] * 4
    check(backend, docs, strangers=("private",))
    if mode != "simple_summarize" or window == 8000:
        assert all(private_words(doc) <= seen_by_unit(backend)[doc.node_id] for doc in docs)


def test_citations_keep_their_document() -> None:
    docs = documents()
    llm, backend = recording_llm()
    index = SummaryIndex.from_documents(docs)
    engine = CitationQueryEngine.from_args(
        index, llm=llm, retriever=index.as_retriever(), response_synthesizer=DPFusionSynthesizer(llm=llm)
    )
    response = engine.query(QUESTION)
    check(backend, docs)
    assert len(backend.calls) == 1
    assert response.source_nodes[0].node.get_content().startswith("Source 1:")


def test_it_seals_as_it_is_told() -> None:
    docs = documents(2)
    llm, backend = recording_llm()
    Settings.llm = llm
    sealing = DPFusionNodePostprocessor(unit=lambda node: "everything")
    engine = SummaryIndex.from_documents(docs).as_query_engine(
        response_synthesizer=DPFusionSynthesizer(sealing=sealing)
    )
    engine.query(QUESTION)
    assert list(backend.calls[0].private) == ["everything"]


def test_bare_texts_are_one_private_unit() -> None:
    llm, backend = recording_llm()
    synthesizer = DPFusionSynthesizer(llm=llm)
    assert synthesizer.get_response(QUESTION, ["Ann is ill."]) == "It is so."
    assert asyncio.run(synthesizer.aget_response(QUESTION, ["Ann is ill."])) == "It is so."
    assert [list(call.private) for call in backend.calls] == [["private"]] * 2


def test_prompts_are_those_of_the_mode() -> None:
    llm, _ = recording_llm()
    assert "synthesizer:text_qa_template" in DPFusionSynthesizer(llm=llm).get_prompts()


def test_objects_come_from_a_structured_llm() -> None:
    class City(BaseModel):
        name: str

    docs = documents(2)
    llm, backend = recording_llm('{"name": "Oslo"}', max_tokens=60)
    structured = llm.as_structured_llm(City)
    engine = SummaryIndex.from_documents(docs).as_query_engine(
        llm=structured, response_synthesizer=DPFusionSynthesizer(llm=structured)
    )
    answer: Any = engine.query(QUESTION)
    assert answer.response == City(name="Oslo")
    check(backend, docs)
