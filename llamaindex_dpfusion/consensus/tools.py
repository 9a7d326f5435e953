"""Tools for agents that ask a confidential corpus: how many, how much, what do most say."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore
from llama_index.core.tools import FunctionTool

from dpfusion_core.adapters.corpus import DESCRIPTIONS, Corpus
from dpfusion_core.errors import PrivacyParameterError, RefusedError
from dpfusion_core.privacy import PrivacyBudget
from llamaindex_dpfusion.documents.covered import DPThresholdRetriever
from llamaindex_dpfusion.documents.units import STABLE_MEND, UnitOf, check_unit, unit_of_node
from llamaindex_dpfusion.options import check_type
from llamaindex_dpfusion.settings import ConfiguredLLM


def create_corpus_tools(
    llm: ConfiguredLLM,
    documents: Sequence[BaseNode] | DPThresholdRetriever,
    *,
    budget: PrivacyBudget,
    questions: int = 10,
    description: str = "confidential documents",
    unit: UnitOf = "document",
) -> list[FunctionTool]:
    """Return tools with which an agent asks many confidential documents: a count, a measure, and what most say.

    Each document is asked alone, and only what many say comes out, with noise. What a tool returns is public under
    the guarantee in its ``raw_output``; the agent's LLM may be any, it sees no document.

    Args:
        llm: Reads the documents: a :class:`~llamaindex_dpfusion.DPConsensusLLM` or a
            :class:`~llamaindex_dpfusion.DPFusionLLM`. If it has a ledger, that is charged; else one of these tools
            alone, which lasts as long as they do.
        documents: The corpus, as documents or nodes, or a retriever that takes those whose own score passes a
            threshold: then it is private which and how many answer a question.
        budget: What all questions together may cost each document.
        questions: For how many questions it lasts. After them the tools say that it is spent.
        description: What the documents are, for the agent's LLM; public.
        unit: What names a document's unit; see :class:`~llamaindex_dpfusion.DPFusionNodePostprocessor`.

    Returns:
        The tools ``count_documents``, ``measure_documents`` and ``ask_documents``.

    Raises:
        PrivacyParameterError: If an argument is none of those.
        RefusedError: If there is a ledger and the name of a unit may change.

    Example:
        >>> from llama_index.core import Document
        >>> from llama_index.core.llms import MockLLM
        >>> from llamaindex_dpfusion import DPConsensusLLM
        >>> letters = [Document(text="It came late.", doc_id=f"letter-{n}") for n in range(50)]
        >>> tools = create_corpus_tools(DPConsensusLLM(MockLLM()), letters, budget=PrivacyBudget(epsilon=4.0))
        >>> [tool.metadata.name for tool in tools]
        ['count_documents', 'measure_documents', 'ask_documents']
    """
    check_type(llm, ConfiguredLLM, "llm")
    check_unit(unit)
    has_ledger = llm.engine.ledger is not None

    def read(nodes: Iterable[BaseNode]) -> list[tuple[str, str]]:
        found = []
        for node in nodes:
            named = unit_of_node(node, unit)
            if has_ledger and not named.is_stable:
                raise RefusedError(
                    "A document is named by an id that may change when it is read again, so its budget in the ledger "
                    f"would start anew. {STABLE_MEND}"
                )
            found.append((named.name or node.node_id, node.get_content(MetadataMode.LLM)))
        return found

    is_covered = isinstance(documents, DPThresholdRetriever)
    if isinstance(documents, DPThresholdRetriever):
        retriever = documents

        def texts(question: str) -> list[tuple[str, str]]:
            return read(each.node for each in retriever.passing(question))

    else:
        own = read(_nodes(documents))  # what is no document is refused before any question

        def texts(question: str) -> list[tuple[str, str]]:
            return own

    corpus = Corpus(llm.engine, texts, llm.engine_options(), budget, questions, is_covered=is_covered)
    works: dict[str, Callable[..., Any]] = {
        "count_documents": corpus.count,
        "measure_documents": corpus.measure,
        "ask_documents": corpus.ask,
    }
    return [
        FunctionTool.from_defaults(
            work, name=name, description=f"{DESCRIPTIONS[name]} The documents: {description}."
        )
        for name, work in works.items()
    ]


def _nodes(documents: Any) -> list[BaseNode]:
    wrong = "Expected documents: a list of documents or nodes, or a DPThresholdRetriever."
    if not isinstance(documents, list | tuple):
        raise PrivacyParameterError(wrong)
    nodes = [each.node if isinstance(each, NodeWithScore) else each for each in documents]
    if not nodes or not all(isinstance(node, BaseNode) for node in nodes):
        raise PrivacyParameterError(wrong)
    return nodes
