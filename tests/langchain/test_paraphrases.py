"""A corpus that is made private once."""

import asyncio
from typing import Any

import pytest
from langchain_core.documents import Document

from dpfusion_core import BudgetExhaustedError, PrivacyBudget, PrivacyLedger, PrivacyParameterError
from langchain_dpfusion import ChatDPFusion, DPDocumentTransformer
from tests.langchain.leaks import SECRET, as_text
from tests.langchain.records import documents
from tests.langchain.scripted import scripted_engine


def transformer(ledger: PrivacyLedger | None = None, **options: Any) -> DPDocumentTransformer:
    engine = scripted_engine("Somebody was treated.", ledger=ledger)
    return DPDocumentTransformer(ChatDPFusion(engine=engine, epsilon=2.0, max_tokens=20), **options)


@pytest.mark.parametrize("is_async", [False, True])
def test_private_documents_are_paraphrased_and_public_ones_pass(is_async: bool) -> None:
    given = documents()
    found = (
        asyncio.run(transformer().atransform_documents(given))
        if is_async
        else transformer().transform_documents(given)
    )
    assert [document.page_content for document in found] == ["Somebody was treated."] * 2 + [
        given[2].page_content
    ]
    assert [document.id for document in found] == [document.id for document in given]
    assert found[1].metadata["source"] == "debts.txt"
    assert [document.metadata["is_private"] for document in found] == [False] * 3
    assert found[0].metadata["dp_fusion"]["epsilon"] == pytest.approx(2.0)
    assert SECRET not in as_text(found)  # not even in the metadata


def test_the_caller_chooses_what_is_kept_and_what_is_private() -> None:
    found = transformer(keep=("patient",), private=lambda d: d.id == "doc-1").transform_documents(documents())
    assert found[0].metadata["patient"] == "p-1"
    assert found[1] == documents()[1]


def test_each_document_pays_from_its_own_account() -> None:
    ledger = PrivacyLedger("sqlite://", budget=PrivacyBudget(2.0), key="k" * 32)
    transformer(ledger).transform_documents(documents())
    assert ledger.account("doc-1").spent_epsilon > 0
    assert ledger.account("debts.txt").spent_epsilon > 0
    with pytest.raises(BudgetExhaustedError):
        transformer(ledger).transform_documents(documents()[:1])


def test_no_documents() -> None:
    assert transformer().transform_documents([]) == []
    assert (
        transformer().transform_documents([Document("x", metadata={"is_private": False})])[0].page_content
        == "x"
    )


def test_arguments_of_another_kind_are_refused() -> None:
    llm = ChatDPFusion(engine=scripted_engine("Fine."), epsilon=8.0)
    for arguments in ({"llm": "dpfusion-tiny"}, {"llm": llm, "keep": "source"}):
        with pytest.raises(PrivacyParameterError, match="keep to be a list"):
            DPDocumentTransformer(**arguments)
