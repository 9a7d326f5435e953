"""What the translation to and from the frameworks costs beside the engine."""

import statistics
import time
from collections.abc import Callable, Generator
from typing import Any

from langchain_core.messages import HumanMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from rich.console import Console
from rich.table import Table

from dpfusion_core import FusionEngine, ScriptedBackend
from dpfusion_core.generation import Chunk
from dpfusion_core.privacy.guarantee import nothing_private
from langchain_dpfusion import ChatDPFusion, mark_private
from llamaindex_dpfusion import DPFusionLLM, DPFusionNodePostprocessor

REPEATS = 31
TEMPLATE = PromptTemplate("Context: {context_str}\nQuery: {query_str}")


def silent_engine() -> FusionEngine:
    """Return an engine that answers at once: what is left is the translation."""
    engine = FusionEngine(ScriptedBackend.saying("Yes."))

    def stream(source: Any, **options: Any) -> Generator[Chunk, None, None]:
        yield Chunk("Yes.", (1,), "stop", nothing_private(1, 4, private=True), None, 1)

    engine.stream = stream  # type: ignore[assignment, method-assign]
    return engine


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call in milliseconds."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def translation(console: Console) -> None:
    """Time a call from the framework's objects to the framework's answer, without the engine."""
    table = Table("framework", "documents", "ms", title="Translation, without the engine")
    engine = silent_engine()
    chat = ChatDPFusion(engine=engine, order=2.0, beta=0.01, max_tokens=4)
    llm = DPFusionLLM(engine=engine, order=2.0, beta=0.01, max_tokens=4)
    for count in (1, 20):
        texts = [" ".join(f"word{i}of{j}" for i in range(150)) for j in range(count)]
        messages = [mark_private(HumanMessage(text), f"doc-{j}") for j, text in enumerate(texts)]
        nodes = [
            NodeWithScore(node=TextNode(text=text, id_=f"doc-{j}", metadata={"source": f"doc-{j}"}))
            for j, text in enumerate(texts)
        ]

        def query(nodes: list[NodeWithScore] = nodes) -> str:
            sealed = DPFusionNodePostprocessor().postprocess_nodes(nodes)
            context = "\n\n".join(each.node.get_content(MetadataMode.LLM) for each in sealed)
            return llm.predict(TEMPLATE, context_str=context, query_str="Who?")

        def ask(messages: list[Any] = messages) -> object:
            return chat.invoke([*messages, HumanMessage("Who?")])

        table.add_row("LangChain", str(count), f"{milliseconds(ask):.1f}")
        table.add_row("LlamaIndex", str(count), f"{milliseconds(query):.1f}")
    console.print(table)
