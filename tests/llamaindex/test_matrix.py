"""Every engine of LlamaIndex, in every mode: each document is seen in the view of its own unit alone."""

import asyncio
from typing import Any

import pytest
from llama_index.core import SummaryIndex, VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine

from llamaindex_dpfusion import DPFusionNodePostprocessor
from tests.llamaindex.recording import (
    QUESTION,
    BM25Retriever,
    HashEmbedding,
    check,
    documents,
    private_words,
    recording_llm,
    seen_by_unit,
)

MODES = ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate", "compact_accumulate"]
NO_STREAM = {"accumulate", "compact_accumulate"}
WINDOWS = {"small": 950, "large": 8000}
DOCS = documents()


@pytest.fixture(scope="module")
def indices() -> dict[str, Any]:
    vector = VectorStoreIndex.from_documents(DOCS, embed_model=HashEmbedding())
    nodes = list(vector.docstore.docs.values())
    return {
        "vector": vector.as_retriever(similarity_top_k=10),
        "bm25": BM25Retriever(nodes),
        "summary": SummaryIndex(nodes).as_retriever(),
    }


@pytest.mark.parametrize("style", ["sync", "async", "stream", "astream"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("index", ["vector", "bm25", "summary"])
def test_query_engine(indices: dict[str, Any], index: str, mode: str, window: str, style: str) -> None:
    if mode in NO_STREAM and "stream" in style:
        style = style.replace("stream", "sync") if style == "stream" else "async"
    llm, backend = recording_llm(context_window=WINDOWS[window])
    engine = RetrieverQueryEngine.from_args(
        indices[index],
        llm=llm,
        response_mode=mode,
        streaming="stream" in style,
        node_postprocessors=[DPFusionNodePostprocessor()],
    )
    answer = run(engine, style)
    assert "It is so." in answer
    summaries = () if mode in ("compact", "simple_summarize") and window == "large" else ("PRIVATE",)
    check(backend, DOCS, strangers=summaries)
    seen = seen_by_unit(backend)
    for doc in DOCS:
        if mode != "simple_summarize" or window == "large":
            assert private_words(doc) <= seen[doc.node_id]


def run(engine: Any, style: str) -> str:
    async def ask() -> str:
        response = await engine.aquery(QUESTION)
        if style == "astream":
            return "".join([token async for token in response.async_response_gen()])
        return str(response)

    if style.startswith("a"):
        return asyncio.run(ask())
    response = engine.query(QUESTION)
    return "".join(response.response_gen) if style == "stream" else str(response)
