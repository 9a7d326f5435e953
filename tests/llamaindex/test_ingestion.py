import asyncio
import pickle
from typing import Any, Literal

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, MetadataMode, TextNode
from pydantic import BaseModel

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger, ScriptedBackend
from dpfusion_core.errors import (
    BudgetExhaustedError,
    PrivacyParameterError,
    RefusedError,
    UnsupportedError,
    ViewError,
)
from llamaindex_dpfusion import DPFusionLLM, DPFusionTransform
from tests.llamaindex.recording import recording_llm

SECRET = "Ingrid Solheim lives in Trondheim."


def raw(**options: Any) -> Document:
    options = {
        "text": SECRET,
        "doc_id": "secret-id",
        "metadata": {"author": "Dr. Roe", "ward": "3"},
        **options,
    }
    return Document(**options)


def everything(node: Any) -> str:
    return f"{node.model_dump()} {node!r} {node.get_content(MetadataMode.ALL)}"


@pytest.mark.parametrize("is_async", [False, True])
def test_documents_become_private_paraphrases(is_async: bool) -> None:
    llm, backend = recording_llm("Somebody lives somewhere.")
    transform = DPFusionTransform(llm, batch_size=2)
    docs = [raw(doc_id=f"d{i}", text=f"{SECRET} {i}") for i in range(5)]
    made = asyncio.run(transform.acall(docs)) if is_async else transform(docs)
    assert [doc.get_content() for doc in made] == ["Somebody lives somewhere."] * 5
    assert len(backend.calls) == 5
    assert sorted(charge[0] for charge in backend.ledger.charges) == [f"d{i}" for i in range(5)]
    for call, doc in zip(backend.calls, docs, strict=True):
        assert "Ingrid" not in call.public
        assert "Paraphrase the document." in call.public
        assert doc.text in call.rows[1]
    assert all("Ingrid" not in everything(doc) for doc in made)


def test_nothing_of_the_old_document_is_left() -> None:
    llm, _ = recording_llm("Somebody.")
    [made] = DPFusionTransform(llm)([raw()])
    for word in ("Ingrid", "Roe", "secret-id", "ward"):
        assert word not in everything(made)
    assert set(made.metadata) == {"dp_fusion_epsilon", "dp_fusion_delta"}
    assert made.metadata["dp_fusion_epsilon"] > 0
    assert made.get_content(MetadataMode.LLM) == made.get_content(MetadataMode.EMBED) == "Somebody."


@pytest.mark.parametrize("is_async", [False, True])
def test_the_nodes_of_a_document_share_one_guarantee_and_one_charge(is_async: bool) -> None:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(4.5), key="k" * 32) as ledger:
        engine = FusionEngine(ScriptedBackend.saying("Somebody."), ledger=ledger)
        transform = DPFusionTransform(DPFusionLLM(engine=engine, epsilon=4.0, max_tokens=10), unit="case")
        nodes = [TextNode(text=f"{SECRET} {i}", metadata={"case": "C7"}) for i in range(3)]
        made = asyncio.run(transform.acall(nodes)) if is_async else transform(nodes)
        assert [node.get_content() for node in made] == ["Somebody."] * 3
        assert {node.metadata["dp_fusion_epsilon"] for node in made} == {4.0}
        assert len([entry for entry in ledger.curator.entries() if entry.kind == "reserve"]) == 1
        with pytest.raises(BudgetExhaustedError):
            transform([TextNode(text="More of it.", metadata={"case": "C7"})])


def test_a_paraphrase_is_public_for_the_net_and_its_source_is_not() -> None:
    engine = FusionEngine(ScriptedBackend.saying("Somebody lives in a town of the north by the sea."))
    llm = DPFusionLLM(engine=engine, epsilon=4.0, max_tokens=60)
    source = f"{SECRET} She has had a house there since the year of 1973."
    [made] = DPFusionTransform(llm)([raw(text=source)])
    private = ChatMessage("Bob is ill.", additional_kwargs={"is_private": True})
    llm.chat([private, ChatMessage(made.get_content())])
    with pytest.raises(RefusedError, match="private before"):
        llm.chat([private, ChatMessage(source)])


def test_what_is_named_public_is_kept() -> None:
    llm, _ = recording_llm("Somebody.")
    [made] = DPFusionTransform(llm, metadata_keys=("ward", "absent"), keep_ids=True)([raw()])
    assert made.metadata["ward"] == "3"
    assert made.node_id == "secret-id"
    assert "Roe" not in everything(made)


def test_chunks_of_one_document_are_one_unit_and_forget_their_source() -> None:
    llm, backend = recording_llm("Somebody.")
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=40, chunk_overlap=0), DPFusionTransform(llm)]
    )
    made = pipeline.run(documents=[raw(text=f"{SECRET} " * 12)])
    assert len(made) > 1
    assert set(backend.ledger.charges) == {("secret-id",)}
    assert all(not node.relationships and "Roe" not in everything(node) for node in made)


def test_the_cache_gives_the_same_release_again_and_knows_every_setting() -> None:
    cache = IngestionCache()
    llm, backend = recording_llm("Somebody.")

    def run(**changes: Any) -> Any:
        changed = llm.model_copy(update=changes)
        pipeline = IngestionPipeline(transformations=[DPFusionTransform(changed)], cache=cache, docstore=None)
        return pipeline.run(documents=[raw()])

    first = run()
    assert run()[0].node_id == first[0].node_id
    assert len(backend.calls) == 1
    changed: list[dict[str, Any]] = [
        {"alpha": 3.0},
        {"beta": 0.02},
        {"max_tokens": 30},
        {"seed": 1},
        {"system_prompt": "x"},
        {"delta": 1e-6},
    ]
    for calls, changes in enumerate(changed, 2):
        run(**changes)
        assert len(backend.calls) == calls
    store: Any = cache.cache
    assert "Ingrid" not in str(store.to_dict())


def test_another_instruction_is_another_cache_key() -> None:
    llm, _ = recording_llm()
    assert DPFusionTransform(llm).to_dict() != DPFusionTransform(llm, instruction="Sum up.").to_dict()
    assert DPFusionTransform(llm).to_dict()["class_name"] == "DPFusionTransform"
    assert DPFusionTransform(llm).to_dict() == DPFusionTransform(llm).to_dict()


def test_it_does_not_go_to_other_processes() -> None:
    llm, _ = recording_llm()
    with pytest.raises(UnsupportedError, match="num_workers"):
        pickle.dumps(DPFusionTransform(llm))


def test_empty_documents_are_left_out() -> None:
    llm, backend = recording_llm()
    assert DPFusionTransform(llm)([raw(text=" \n"), TextNode(text="")]) == []
    assert not backend.calls


def test_a_document_that_is_too_long_says_what_to_do() -> None:
    llm, _ = recording_llm(context_length=100)
    with pytest.raises(ViewError, match="Shorten") as caught:
        DPFusionTransform(llm)([raw(text=SECRET * 100)])
    assert "Ingrid" not in str(caught.value)


class Facts(BaseModel):
    ward: Literal["A", "B"]
    symptoms: list[Literal["cough", "fever"]]


def doctor(prompt: str) -> str:
    if "Paraphrase" in prompt:
        return "Somebody lies in ward B with a cough."
    return (
        ("yes" if "cough?" in prompt.split("fever?")[-1] else "no") if "symptoms" in prompt.lower() else "B"
    )


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("schema", [Facts, Facts.model_json_schema()])
def test_facts_are_chosen_first_and_the_text_is_written_from_them(schema: Any, is_async: bool) -> None:
    backend = ScriptedBackend.saying(doctor)
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(40.0), key="k" * 32) as ledger:
        llm = DPFusionLLM(
            engine=FusionEngine(backend, ledger=ledger), epsilon=30.0, max_tokens=40, prior="uniform"
        )
        transform = DPFusionTransform(llm, output_schema=schema)
        source = raw(text="Ingrid Solheim lies in ward B and coughs.")
        [made] = asyncio.run(transform.acall([source])) if is_async else transform([source])
        assert made.metadata["ward"] == "B"
        assert made.metadata["symptoms"] == '["cough"]'
        assert made.metadata["dp_fusion_epsilon"] == 30.0
        assert "ward B" in made.get_content(MetadataMode.EMBED)
        assert len([entry for entry in ledger.curator.entries() if entry.kind == "reserve"]) == 1
    writing = [views for views in backend.requests if "Paraphrase" in views[0]]
    assert all(len(views) == 1 and "Ingrid" not in views[0] for views in writing)
    assert any("Ingrid" in view for views in backend.requests for view in views)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output_schema": {"properties": {"remark": {"type": "string"}}}}, "closed"),
        ({"output_schema": 7}, "schema"),
        ({"output_schema": Facts, "shares": {"wrad": 1.0}}, "wrad"),
        ({"shares": {"ward": 1.0}}, "schema"),
        ({"output_scheme": Facts}, "output_schema"),
    ],
    ids=str,
)
def test_a_schema_is_read_or_refused(options: dict[str, Any], words: str) -> None:
    backend = ScriptedBackend.saying("B")
    with pytest.raises(PrivacyParameterError, match=words):
        DPFusionTransform(DPFusionLLM(engine=FusionEngine(backend), epsilon=30.0), **options)([raw()])
    assert not backend.requests


def test_another_schema_is_another_cache_key() -> None:
    llm, _ = recording_llm()
    plain = DPFusionTransform(llm).to_dict()
    with_facts = DPFusionTransform(llm, output_schema=Facts).to_dict()
    assert plain != with_facts
    assert with_facts == DPFusionTransform(llm, output_schema=Facts.model_json_schema()).to_dict()
