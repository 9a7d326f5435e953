"""The retriever tool: what it finds is private in a conversation, document by document."""

import asyncio
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.retrievers import BaseRetriever

from langchain_dpfusion import create_private_retriever_tool
from langchain_dpfusion.reading import to_core
from tests.langchain.leaks import SECRET
from tests.langchain.records import retriever

CALL: dict[str, Any] = {"name": "search", "args": {"query": "gout"}, "id": "1", "type": "tool_call"}


class Nothing(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return []


@pytest.mark.parametrize("is_async", [False, True])
def test_results_are_private_for_each_document(is_async: bool) -> None:
    tool = create_private_retriever_tool(retriever(), "search", "Finds records.")
    message = asyncio.run(tool.ainvoke(CALL)) if is_async else tool.invoke(CALL)
    assert isinstance(message, ToolMessage)
    (translated,) = to_core([message])
    assert set(translated.units) == {"doc-1", "debts.txt"}  # and none for what stands between them
    assert message.artifact is None
    assert translated.tool_call_id == "1"


def test_documents_are_kept_if_they_are_wanted() -> None:
    tool = create_private_retriever_tool(retriever(), "search", "Finds records.", artifact=True)
    message = tool.invoke(CALL)
    assert {document.id for document in message.artifact} == {"doc-1", "doc-2", "doc-3"}
    assert to_core([message])[0].units


def test_the_caller_chooses_units_and_what_is_private() -> None:
    tool = create_private_retriever_tool(
        retriever(),
        "search",
        "Finds records.",
        unit=lambda d: d.metadata.get("patient"),
        private=lambda d: SECRET in d.page_content,
    )
    assert set(to_core([tool.invoke(CALL)])[0].units) == {"p-1", "debts.txt"}


def test_finding_nothing_is_public() -> None:
    tool = create_private_retriever_tool(Nothing(), "search", "Finds records.")
    (translated,) = to_core([tool.invoke(CALL)])
    assert translated.units == ()
    assert translated.content == "No documents were found."
