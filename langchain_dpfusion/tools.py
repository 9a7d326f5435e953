"""A retriever as a tool, whose results stay private in the conversation of an agent."""

from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.prompts import BasePromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import StructuredTool
from langchain_core.tools.retriever import RetrieverInput

from langchain_dpfusion.documents import NOTHING_FOUND, DocumentBlocks, IsPrivate, UnitOf
from langchain_dpfusion.marked_messages import public_block
from langchain_dpfusion.options import named


@named("create_private_retriever_tool")
def create_private_retriever_tool(
    retriever: BaseRetriever,
    name: str,
    description: str,
    *,
    document_prompt: BasePromptTemplate[str] | None = None,
    document_separator: str = "\n\n",
    private: IsPrivate = None,
    unit: UnitOf = None,
    artifact: bool = False,
) -> StructuredTool:
    """Return a tool that finds documents and marks them as private, each a privacy unit of its own.

    Takes the place of LangChain's ``create_retriever_tool``.

    Args:
        retriever: Finds the documents.
        name: Name of the tool.
        description: What the model is told about it.
        document_prompt: How a document and its metadata are written; its content alone by default.
        document_separator: What stands between two documents.
        private: Which documents are private; by default all whose metadata do not say
            ``is_private: False``.
        unit: Metadata key, or function of a document, that names its privacy unit; by default its
            ``source``, ``file_path`` or the like, for all its chunks.
        artifact: Whether the documents themselves are kept in the message's ``artifact``, which goes
            into checkpoints and traces.

    Example:
        >>> from langchain_core.documents import Document
        >>> from langchain_core.vectorstores import InMemoryVectorStore
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> store = InMemoryVectorStore(DeterministicFakeEmbedding(size=4))
        >>> _ = store.add_documents([Document("Ann is ill.", metadata={"source": "doc-1"})])
        >>> tool = create_private_retriever_tool(store.as_retriever(), "search", "Finds records.")
        >>> tool.invoke({"query": "Ann"})[0]["extras"]
        {'is_private': True, 'unit': 'doc-1'}
    """
    blocks = DocumentBlocks(private, unit, document_prompt, document_separator)

    def answer(documents: list[Any]) -> Any:
        content: Any = blocks(documents) or [public_block(NOTHING_FOUND)]
        return (content, documents) if artifact else content

    def search(query: str, callbacks: Callbacks = None) -> Any:
        return answer(retriever.invoke(query, config={"callbacks": callbacks}))

    async def asearch(query: str, callbacks: Callbacks = None) -> Any:
        return answer(await retriever.ainvoke(query, config={"callbacks": callbacks}))

    return StructuredTool(
        name=name,
        description=description,
        func=search,
        coroutine=asearch,
        args_schema=RetrieverInput,
        response_format="content_and_artifact" if artifact else "content",
    )
