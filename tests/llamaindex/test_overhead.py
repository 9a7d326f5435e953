"""What the translation costs beside the engine."""

import time
from collections.abc import Generator
from typing import Any

from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from dpfusion_core.generation import Chunk
from llamaindex_dpfusion import DPFusionNodePostprocessor
from tests.llamaindex.recording import recording_llm, words_of

TEMPLATE = PromptTemplate("Context: {context_str}\nQuery: {query_str}")


def overhead(count: int, words: int = 150, repeats: int = 15) -> float:
    """Return the seconds of a call with so many documents, from retrieved nodes to the answer, without the engine."""
    nodes = [
        NodeWithScore(node=TextNode(text=" ".join(words_of(i, words)), id_=f"doc-{i}")) for i in range(count)
    ]
    llm, _ = recording_llm()
    asked: list[Any] = []

    def stream(source: Any, **options: Any) -> Generator[Chunk, None, None]:
        asked.append(source)
        yield Chunk("Yes.", (1,), "stop", None, None, 1)

    llm.engine.stream = stream  # type: ignore[method-assign]
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        sealed = DPFusionNodePostprocessor().postprocess_nodes(nodes)
        context = "\n\n".join(n.node.get_content(MetadataMode.LLM) for n in sealed)
        assert llm.predict(TEMPLATE, context_str=context, query_str="Who?") == "Yes."
        times.append(time.perf_counter() - start)
    assert all(len(source[0].units) == count for source in asked)
    return min(times)  # the machine may be busy


def test_twenty_documents_cost_less_than_ten_milliseconds() -> None:
    assert overhead(20) < 0.010
