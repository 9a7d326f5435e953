from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import Settings, SummaryIndex
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.prompts import PromptTemplate
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer

from dpfusion_core.errors import RefusedError, ViewError
from llamaindex_dpfusion import DPFusionNodePostprocessor, DPFusionPromptHelper
from llamaindex_dpfusion.seals.sealer import sealer
from tests.llamaindex.recording import (
    QUESTION,
    check,
    documents,
    private_words,
    recording_llm,
    seen_by_unit,
    tokenizer,
    words_of,
)

PROMPT = PromptTemplate("Context: {context_str}\nQuery: {query_str}")


def tokens(text: str) -> list[int]:
    return list(tokenizer()(text, add_special_tokens=False)["input_ids"])


def helper(window: int, **options: Any) -> DPFusionPromptHelper:
    return DPFusionPromptHelper(context_window=window, num_output=20, tokenizer=tokens, **options)


def sealed(*texts: str) -> list[str]:
    return [sealer.seal(text, f"doc-{i}", remember=True).text for i, text in enumerate(texts)]


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    window=st.integers(80, 400),
    overlap=st.sampled_from([0.0, 0.1]),
)
def test_no_chunk_is_too_long_and_no_word_changes_its_unit(
    sizes: list[int], window: int, overlap: float
) -> None:
    texts = [" ".join(words_of(i, size)) for i, size in enumerate(sizes)]
    chunks = helper(window, chunk_overlap_ratio=overlap).repack(PROMPT, sealed(*texts))
    found: dict[str, set[str]] = {}
    for chunk in chunks:
        segments = sealer.read(chunk, is_private=False)
        assert not "".join(s.text for s in segments if not s.is_private).strip()
        prompt = PROMPT.format(context_str="".join(s.text for s in segments), query_str="")
        assert len(tokens(prompt)) + 20 <= window
        for segment in segments:
            if segment.unit:
                found.setdefault(segment.unit, set()).update(segment.text.split())
    assert found == {f"doc-{i}": set(text.split()) for i, text in enumerate(texts) if text}


def test_marks_cost_nothing() -> None:
    texts = [f"Record {i}." for i in range(20)]
    plain = helper(200).repack(PROMPT, texts)
    assert len(helper(200).repack(PROMPT, sealed(*texts))) == len(plain) == 1


def test_truncation_keeps_whole_seals_that_fit() -> None:
    texts = [" ".join(words_of(i, 30)) for i in range(4)]
    [kept] = helper(300).truncate(PROMPT, ["\n".join(sealed(*texts))])
    segments = [s for s in sealer.read(kept, is_private=False) if s.is_private]
    assert 0 < len(segments) < 4
    assert [s.unit for s in segments] == [f"doc-{i}" for i in range(len(segments))]
    assert helper(300).truncate(PROMPT, []) == []


def test_text_that_is_not_sealed_is_packed_too() -> None:
    chunks = helper(100).repack(PROMPT, [*sealed("Sealed text."), " ".join(words_of(1, 60))])
    segments = [s for c in chunks for s in sealer.read(c, is_private=True)]
    assert {s.unit for s in segments} - {None} == {"doc-0", "private"}


def test_a_window_without_room_says_what_to_do() -> None:
    with pytest.raises(ViewError, match="Lower max_tokens"):
        helper(30).repack(PROMPT, sealed("Some text."))
    with pytest.raises(ViewError, match="context window of 30"):
        helper(30).truncate(PROMPT, sealed("Some text."))


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "accumulate", "compact_accumulate"])
def test_as_a_setting_it_serves_every_engine_in_the_models_own_window(mode: str) -> None:
    docs = documents()
    llm, backend = recording_llm(context_length=1000)
    Settings.llm = llm
    Settings.prompt_helper = DPFusionPromptHelper.from_llm(llm)
    engine = SummaryIndex.from_documents(docs).as_query_engine(
        response_mode=mode, node_postprocessors=[DPFusionNodePostprocessor()]
    )
    assert "It is so." in str(engine.query(QUESTION))
    check(backend, docs, strangers=("private",))
    assert all(private_words(doc) <= seen_by_unit(backend)[doc.node_id] for doc in docs)


def test_a_prompt_helper_of_the_users_own_costs_no_identity() -> None:
    docs = documents()
    llm, backend = recording_llm()
    own = PromptHelper(context_window=900, num_output=40, chunk_overlap_ratio=0.3, separator=" ")
    engine = SummaryIndex.from_documents(docs).as_query_engine(
        llm=llm,
        response_synthesizer=get_response_synthesizer(llm=llm, prompt_helper=own),
        node_postprocessors=[DPFusionNodePostprocessor()],
    )
    engine.query(QUESTION)
    assert len(backend.calls) > 2
    check(backend, docs, strangers=("private",))


@pytest.mark.parametrize("has_ledger", [False, True])
def test_a_helper_that_cuts_between_characters_costs_no_privacy(has_ledger: bool) -> None:
    docs = documents(words=20, long=40)
    llm, backend = recording_llm(has_ledger=has_ledger)
    own = PromptHelper(context_window=230, num_output=40, chunk_overlap_ratio=0.0, chunk_size_limit=9)
    engine = SummaryIndex.from_documents(docs).as_query_engine(
        llm=llm,
        response_synthesizer=get_response_synthesizer(
            response_mode=ResponseMode.ACCUMULATE, llm=llm, prompt_helper=own
        ),
        node_postprocessors=[DPFusionNodePostprocessor()],
    )
    with pytest.raises(RefusedError, match="DPFusionPromptHelper"):
        engine.query(QUESTION)  # a prompt without its document, or a piece without its account
    words = {word for doc in docs for word in private_words(doc)}
    for call in backend.calls:
        assert not words & set(call.public.split())
        assert all("[[" not in row and "dpf" not in row for row in call.rows)


@pytest.mark.parametrize("method", ["repack", "truncate"])
def test_padding_counts_by_place_and_by_name(method: str) -> None:
    pack, texts = getattr(helper(120), method), sealed(" ".join(words_of(0, 80)))
    assert len(pack(PROMPT, texts, 60)[0].split()) < len(pack(PROMPT, texts)[0].split())
    assert len(pack(PROMPT, texts, padding=60, llm=None)[0].split()) < len(pack(PROMPT, texts)[0].split())
