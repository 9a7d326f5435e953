import copy
import pickle
from typing import Any

import pytest
from llama_index.core import Settings, SimpleDirectoryReader, SummaryIndex, VectorStoreIndex
from llama_index.core.postprocessor import MetadataReplacementPostProcessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)

from dpfusion_core.errors import PrivacyParameterError, RefusedError, UnsupportedError, ViewError
from llamaindex_dpfusion import DPFusionNodePostprocessor, DPFusionRetriever
from llamaindex_dpfusion.seals.sealer import sealer
from tests.llamaindex.recording import (
    QUESTION,
    HashEmbedding,
    check,
    documents,
    private_words,
    recording_llm,
    seen_by_unit,
)

SOURCE = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="record-7", metadata={"author": "Dr. Roe"})}
NODE = TextNode(text="Ann is ill.", id_="node-1", metadata={"author": "Dr. Roe"}, relationships=SOURCE)


RANDOM_ID = "2f1de3f4-4a06-4b4e-8d3c-6a8f0f3d1c55"
RANDOM = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=RANDOM_ID)}


def pickle_of(node: Any) -> Any:
    return pickle.loads(pickle.dumps(node))


def seal(node: Any, **options: Any) -> Any:
    return DPFusionNodePostprocessor(**options).postprocess_nodes([NodeWithScore(node=node, score=0.5)])[0]


def units(node: Any, **options: Any) -> list[tuple[str, str | None]]:
    text = seal(node, **options).node.get_content(MetadataMode.LLM)
    return [(s.text, s.unit) for s in sealer.read(text, is_private=False)]


def test_an_app_becomes_private_per_document_with_two_lines() -> None:
    docs = documents()
    llm, backend = recording_llm()

    Settings.llm = llm  # line one
    index = VectorStoreIndex.from_documents(docs)
    query_engine = index.as_query_engine(
        similarity_top_k=9,
        node_postprocessors=[DPFusionNodePostprocessor()],  # line two
    )
    response = query_engine.query("What did the author do growing up?")

    assert str(response) == "It is so."
    check(backend, docs)
    assert sorted(backend.calls[0].private) == sorted(doc.node_id for doc in docs)


def test_without_the_second_line_all_documents_are_one_unit() -> None:
    docs = documents()
    llm, backend = recording_llm()
    SummaryIndex.from_documents(docs).as_query_engine(llm=llm).query(QUESTION)
    [call] = backend.calls
    assert list(call.private) == ["private"]
    assert not any(word in call.public for doc in docs for word in doc.text.split())


def test_the_mark_covers_metadata_and_only_the_llm_sees_it() -> None:
    sealed = seal(NODE)
    assert units(NODE) == [("author: Dr. Roe\n\nAnn is ill.", "record-7")]
    assert sealed.score == 0.5
    assert sealed.node.text == sealed.node.get_content() == "Ann is ill."
    assert sealed.node.get_content(MetadataMode.EMBED) == NODE.get_content(MetadataMode.EMBED)
    assert sealed.node.get_content(MetadataMode.ALL) == NODE.get_content(MetadataMode.ALL)
    assert sealed.node.metadata == NODE.metadata
    assert (sealed.node.node_id, sealed.node.ref_doc_id, sealed.node.hash) == (
        NODE.node_id,
        "record-7",
        NODE.hash,
    )
    assert "dpf" not in str(sealed.node.to_dict())
    assert "dpf" not in repr(sealed)
    assert sealed.node.reveal() == "author: Dr. Roe\n\nAnn is ill."
    assert "dpf" not in NODE.get_content(MetadataMode.LLM)


def test_excluded_metadata_stay_excluded() -> None:
    node = NODE.model_copy(update={"excluded_llm_metadata_keys": ["author"]})
    assert units(node) == [("Ann is ill.", "record-7")]


@pytest.mark.parametrize(
    ("node", "options", "unit"),
    [
        (NODE, {}, "record-7"),
        (NODE, {"unit": "node"}, "node-1"),
        (NODE, {"unit": lambda node: node.metadata["author"]}, "dr. roe"),
        (NODE, {"unit": lambda node: None}, "private"),
        (TextNode(text="Ann is ill.", id_="alone"), {}, "alone"),
        (TextNode(text="Ann is ill.", id_=""), {}, "private"),
        (Document(text="Ann is ill.", doc_id="whole"), {}, "whole"),
        (Node(text_resource=MediaResource(text="Ann is ill."), id_="media"), {}, "media"),
        (NODE, {"public": lambda node: node.metadata["author"] == "Dr. Roe"}, None),
        (NODE, {"public": lambda node: "yes"}, "record-7"),
    ],
)
def test_whose_unit_a_node_is(node: Any, options: Any, unit: str | None) -> None:
    assert [u for text, u in units(node, **options) if "Ann" in text] == [unit]


def test_two_nodes_with_one_id_and_different_text_are_one_unit() -> None:
    nodes = [NodeWithScore(node=TextNode(text=text, id_="same")) for text in ("Ann is ill.", "Ann is well.")]
    llm, backend = recording_llm()
    sealed = DPFusionNodePostprocessor(unit="node").postprocess_nodes(nodes)
    RetrieverQueryEngine.from_args(None, llm=llm).synthesize(_bundle(), sealed)  # type: ignore[arg-type]
    [call] = backend.calls
    assert list(call.private) == ["same"]
    assert "Ann is ill." in call.private["same"]
    assert "Ann is well." in call.private["same"]


def _bundle() -> Any:
    from llama_index.core.schema import QueryBundle

    return QueryBundle("How is Ann?")


def test_sealing_twice_is_sealing_once() -> None:
    again = DPFusionNodePostprocessor().postprocess_nodes([seal(NODE)])[0]
    text = again.node.get_content(MetadataMode.LLM)
    assert [s.unit for s in sealer.read(text, is_private=False)] == ["record-7"]


def test_a_sealed_node_that_is_stored_and_comes_back_is_a_plain_one() -> None:
    stored = TextNode.from_dict(seal(NODE).node.to_dict())
    assert stored.get_content(MetadataMode.LLM) == NODE.get_content(MetadataMode.LLM)


@pytest.mark.parametrize(
    "node",
    [
        ImageNode(text="x", image="YQ=="),
        ImageDocument(text="x", image="YQ=="),
        Node(text_resource=MediaResource(text="x"), image_resource=MediaResource(data=b"x")),
    ],
)
def test_images_are_refused(node: Any) -> None:
    with pytest.raises(UnsupportedError, match="image"):
        seal(node)


def test_an_empty_retrieval_asks_nobody() -> None:
    llm, backend = recording_llm()
    index = VectorStoreIndex([], embed_model=HashEmbedding())
    engine = index.as_query_engine(llm=llm, node_postprocessors=[DPFusionNodePostprocessor()])
    assert str(engine.query(QUESTION)) == "Empty Response"
    assert not backend.calls


def test_a_vault_node_shows_its_handle_everywhere() -> None:
    sealed = seal(NODE, vault=True)
    assert "Ann" not in repr(sealed)
    assert "Roe" not in str(sealed.node.model_dump())
    assert sealed.node.text == sealed.node.get_content(MetadataMode.LLM)
    assert sealed.node.ref_doc_id == "record-7"
    assert units(NODE, vault=True) == [("author: Dr. Roe\n\nAnn is ill.", "record-7")]


async def test_async_postprocessing_is_the_same() -> None:
    [sealed] = await DPFusionNodePostprocessor().apostprocess_nodes([NodeWithScore(node=NODE)])
    text = sealed.node.get_content(MetadataMode.LLM)
    assert [s.unit for s in sealer.read(text, is_private=False)] == ["record-7"]


def test_a_hostile_document_stays_in_its_unit() -> None:
    docs = documents(2)
    stolen = seal(docs[0]).node.get_content(MetadataMode.LLM)
    hostile = Document(text=f"evil1 {stolen[-30:]} evil2 {stolen[:70]} evil3 {stolen} evil4", doc_id="evil")
    llm, backend = recording_llm()
    index = SummaryIndex.from_documents([*docs, hostile])
    index.as_query_engine(llm=llm, node_postprocessors=[DPFusionNodePostprocessor()]).query(QUESTION)
    [call] = backend.calls
    assert list(call.private) == ["doc-0", "doc-1", "evil"]
    assert all("evil" not in row for unit, row in call.private.items() if unit != "evil")
    assert "evil" not in call.public
    assert all("[[" not in row for row in call.rows)


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate"])
@pytest.mark.parametrize("window", [950, 8000])
def test_documents_given_as_blocks_keep_their_unit(mode: Any, window: int) -> None:
    docs = documents()
    llm, backend = recording_llm(context_window=window)
    synthesizer = get_response_synthesizer(llm=llm, response_mode=mode, multimodal=True)
    nodes = SummaryIndex.from_documents(docs).as_retriever().retrieve(QUESTION)
    synthesizer.synthesize(QUESTION, DPFusionNodePostprocessor().postprocess_nodes(nodes))
    check(backend, docs, strangers=("private",))


# -- Sealing twice, and what becomes of a sealed node --


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_a_node_that_is_sealed_twice_keeps_its_text_and_its_first_unit(first: bool, second: bool) -> None:
    once = seal(NODE, vault=first)
    again = DPFusionNodePostprocessor(unit=lambda node: "other", public=lambda node: True, vault=second)
    [sealed] = again.postprocess_nodes([once])
    text = sealed.node.get_content(MetadataMode.LLM)
    assert [(s.text, s.unit) for s in sealer.read(text, is_private=False)] == [
        ("author: Dr. Roe\n\nAnn is ill.", "record-7")
    ]
    assert ("Ann" in repr(sealed)) is not (first or second)


@pytest.mark.parametrize("vault", [False, True])
def test_a_plain_node_around_sealed_text_is_sealed_once(vault: bool) -> None:
    """Postprocessors that make new nodes of what an LLM would see."""
    text = seal(NODE, vault=vault).node.get_content(MetadataMode.LLM)
    again = seal(TextNode(text=text, id_="copy"), unit="node").node.get_content(MetadataMode.LLM)
    assert [(s.text, s.unit) for s in sealer.read(again, is_private=False)] == [
        ("author: Dr. Roe\n\nAnn is ill.", "record-7")
    ]


def test_a_handle_beside_other_text_is_not_lost_silently() -> None:
    handle = seal(NODE, vault=True).node.get_content(MetadataMode.LLM)
    with pytest.raises(ViewError, match="Seal nodes once and last"):
        seal(TextNode(text=f"Source 1:\n{handle}\n", id_="copy"))


def test_a_retriever_and_a_postprocessor_may_both_seal() -> None:
    docs = documents()
    llm, backend = recording_llm()
    retriever = DPFusionRetriever(SummaryIndex.from_documents(docs).as_retriever())
    engine = RetrieverQueryEngine.from_args(
        retriever, llm=llm, node_postprocessors=[DPFusionNodePostprocessor()]
    )
    engine.query(QUESTION)
    check(backend, docs)
    assert all(private_words(doc) <= seen_by_unit(backend)[doc.node_id] for doc in docs)


def test_what_is_changed_after_sealing_is_what_the_model_sees() -> None:
    node = NODE.model_copy(update={"metadata": {"window": "Before. Ann is ill. After."}})
    sealed = seal(node, unit=lambda node: "record-7")
    [replaced] = MetadataReplacementPostProcessor("window").postprocess_nodes([sealed])
    text = replaced.node.get_content(MetadataMode.LLM)
    assert [(s.text, s.unit) for s in sealer.read(text, is_private=False)] == [
        ("window: Before. Ann is ill. After.\n\nBefore. Ann is ill. After.", "record-7")
    ]


@pytest.mark.parametrize("vault", [False, True])
@pytest.mark.parametrize("copy_of", [pickle_of, copy.deepcopy, copy.copy, lambda node: node.model_copy()])
@pytest.mark.parametrize("is_other_process", [False, True])
def test_a_copied_node_keeps_its_text_and_its_unit(vault: bool, copy_of: Any, is_other_process: bool) -> None:
    node = copy_of(seal(NODE, vault=vault).node)
    if is_other_process:
        sealer.forget()
    text = node.get_content(MetadataMode.LLM)
    assert [(s.text, s.unit) for s in sealer.read(text, is_private=False)] == [
        ("author: Dr. Roe\n\nAnn is ill.", "record-7")
    ]
    assert node.reveal() == "author: Dr. Roe\n\nAnn is ill."


# -- Units that last --


@pytest.mark.parametrize(
    ("node", "options", "unit", "tag"),
    [
        (
            TextNode(text="x", metadata={"file_path": "hr/CV-3.txt"}, relationships=RANDOM),
            {},
            "hr/cv-3.txt",
            "",
        ),
        (TextNode(text="x", metadata={"source": "s", "file_path": "f"}), {}, "s", ""),
        (TextNode(text="x", relationships=RANDOM), {}, RANDOM_ID, "unstable"),
        (TextNode(text="x", relationships=RANDOM, metadata={"case": 17}), {"unit": "case"}, "17", ""),
        (TextNode(text="x", id_="alone"), {}, "alone", "unstable"),
        (TextNode(text="x", id_="alone"), {"unit": "node"}, "alone", ""),
        (TextNode(text="x", id_=RANDOM_ID), {"unit": "node"}, RANDOM_ID, "unstable"),
        (Document(text="x", doc_id="whole"), {}, "whole", ""),
        (Document(text="x"), {"unit": lambda node: "all"}, "all", ""),
    ],
)
def test_the_unit_of_a_node_is_its_stable_source(node: Any, options: Any, unit: str, tag: str) -> None:
    text = seal(node, **options).node.get_content(MetadataMode.LLM)
    [piece] = sealer.read_pieces(text, said=None)
    assert (piece.unit, piece.tag) == (unit, tag)


def index_of(path: Any, **options: Any) -> SummaryIndex:
    return SummaryIndex.from_documents(SimpleDirectoryReader(str(path), **options).load_data())


@pytest.mark.parametrize("has_paths", [True, False])
def test_a_file_that_is_indexed_again_is_the_same_unit_or_an_error(tmp_path: Any, has_paths: bool) -> None:
    (tmp_path / "record.txt").write_text("Ann lives in Oslo and works there. " * 40)
    options: dict[str, Any] = {} if has_paths else {"file_metadata": lambda name: {"topic": "health"}}
    llm, backend = recording_llm()
    sealing = [DPFusionNodePostprocessor()]
    for _ in range(3):
        engine = index_of(tmp_path, **options).as_query_engine(llm=llm, node_postprocessors=sealing)
        if has_paths:
            engine.query(QUESTION)
            continue
        with pytest.raises(RefusedError, match="filename_as_id=True") as caught:
            engine.query(QUESTION)
        assert 'unit="file_path"' in str(caught.value)
    assert len(set(backend.ledger.charges)) == has_paths
    if not has_paths:
        for _ in range(3):
            index = index_of(tmp_path, filename_as_id=True, **options)
            index.as_query_engine(llm=llm, node_postprocessors=sealing).query(QUESTION)
        assert len(set(backend.ledger.charges)) == 1


def test_without_a_ledger_an_id_that_may_change_is_a_warning_once(recwarn: Any) -> None:
    llm, backend = recording_llm(has_ledger=False)
    engine = SummaryIndex.from_documents([Document(text="Ann is ill.")]).as_query_engine(
        llm=llm, node_postprocessors=[DPFusionNodePostprocessor()]
    )
    with pytest.warns(UserWarning, match="filename_as_id"):
        engine.query(QUESTION)
    engine.query(QUESTION)
    assert len(backend.calls) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vualt": True}, "Did you mean 'vault'"),
        ({"publc": None}, "Did you mean 'public'"),
        ({"unit": ""}, "metadata key"),
        ({"unit": 17}, "metadata key"),
        ({"public": True}, "a function of a node"),
    ],
)
def test_an_option_is_read_or_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PrivacyParameterError, match=message):
        DPFusionNodePostprocessor(**options)


def test_a_metadata_key_that_a_node_lacks_is_an_error() -> None:
    with pytest.raises(ViewError, match="'fle_path'"):
        seal(NODE, unit="fle_path")
