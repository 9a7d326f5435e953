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


def test_all_chunks_of_a_document_share_one_guarantee() -> None:
    """They were charged one by one before: two chunks of one document cost it twice."""
    chunks = [Document(f"{SECRET} was ill, part {i}.", metadata={"source": "a.txt"}) for i in range(2)]
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(2.0), key="k" * 32) as ledger:
        found = transformer(ledger).transform_documents([*chunks, *documents()[:1]])
        assert ledger.account("a.txt").spent_epsilon <= 2.0 * (1 + 1e-9)
    guarantees = [document.metadata["dp_fusion"] for document in found]
    assert guarantees[0] == guarantees[1]
    assert [each["max_tokens"] for each in guarantees] == [40, 40, 20]


FACTS = {"properties": {"ward": {"enum": ["A", "B"]}, "ill": {"type": "boolean"}}}


@pytest.mark.parametrize("is_async", [False, True])
def test_facts_are_chosen_first_and_the_text_is_written_from_them(is_async: bool) -> None:
    def says(prompt: str) -> str:
        if "Paraphrase" in prompt:
            return "Somebody lies in ward B."
        return "yes" if "Ill?" in prompt else "B"

    engine = scripted_engine(says)
    llm = ChatDPFusion(engine=engine, epsilon=40.0, max_tokens=20, prior="uniform")
    work = DPDocumentTransformer(llm, schema=FACTS)
    given = documents()[:1]
    (found,) = asyncio.run(work.atransform_documents(given)) if is_async else work.transform_documents(given)
    assert found.metadata["facts"] == {"ward": "B", "ill": True}
    assert found.metadata["dp_fusion"]["epsilon"] == 40.0
    assert "ward B" in found.page_content
    requests: Any = engine.backend
    writing = [views for views in requests.requests if "Paraphrase" in views[0]]
    assert writing
    assert all(len(views) == 1 and SECRET not in views[0] for views in writing)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schema": {"properties": {"remark": {"type": "string"}}}}, "closed"),
        ({"schema": 7}, "schema"),
        ({"schema": FACTS, "shares": {"wrad": 1.0}}, "wrad"),
        ({"shares": {"ward": 1.0}}, "schema"),
        ({"shema": FACTS}, "Did you mean 'schema'"),
    ],
    ids=str,
)
def test_a_schema_is_read_or_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        transformer(**options).transform_documents(documents()[:1])


def test_accounting_that_documents_do_not_have_is_refused() -> None:
    llm = ChatDPFusion(engine=scripted_engine("x"), epsilon=2.0, accounting="adaptive")
    with pytest.raises(PrivacyParameterError, match="accounting is not for documents"):
        DPDocumentTransformer(llm).transform_documents(documents()[:1])
