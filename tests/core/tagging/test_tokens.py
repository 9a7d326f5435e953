"""A token-classification model as a tagger, on a model whose answers are written into its embeddings."""

import functools
from typing import Any

import pytest
import torch

from dpfusion_core import TaggerError
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.tagging import TokenClassificationTagger

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
WORDS = {"ann": "B-PER", "lee": "I-PER", "bob": "B-PER", "##son": "I-PER", "oslo": "B-LOC", "\u674e": "B-PER"}
OTHERS = ["met", "in", ".", ",", "john", "##ny", "-", "and", "left", "\u8fd9", "born"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tiny(words: dict[str, str] = WORDS, certainty: float = 8.0, positions: int = 16) -> tuple[Any, Any]:
    """A model that labels each word by a table, and its tokenizer; it takes ``positions`` tokens."""
    import tokenizers
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words, *OTHERS])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    inner.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=0, num_attention_heads=1,
        max_position_embeddings=positions, id2label=dict(enumerate(LABELS)),
    )  # fmt: skip
    model = BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.bert.embeddings.LayerNorm.weight.fill_(1.0)
        table = model.bert.embeddings.word_embeddings.weight  # [vocab, hidden]
        for word, i in vocabulary.items():
            table[i, LABELS.index(words.get(word, "O"))] = 1.0
        model.classifier.weight[:, : len(LABELS)] = certainty * torch.eye(len(LABELS))
    return model, tokenizer


@functools.cache
def shared() -> TokenClassificationTagger:
    return TokenClassificationTagger(*tiny(), cache_size=0)


def found(text: str, tagger: TokenClassificationTagger | None = None) -> list[tuple[str, str]]:
    return [(text[s.start : s.end], s.label) for s in (tagger or shared()).tag(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann Lee met Bob in Oslo.", [("Ann Lee", "PER"), ("Bob", "PER"), ("Oslo", "LOC")]),
        ("Ann Bob", [("Ann", "PER"), ("Bob", "PER")]),  # two beginnings, two entities
        ("Ann  \r\n Lee", [("Ann  \r\n Lee", "PER")]),
        ("Johnson left", [("Johnson", "PER")]),  # the second half of the word is an entity, so is the word
        ("\U0001f469\u200d\u2695\ufe0f Ann \U0001f44b", [("Ann", "PER")]),
        ("A\u0301nn and Ann\u0301", [("A\u0301nn", "PER"), ("Ann\u0301", "PER")]),
        ("\u8fd9\u674e", [("\u674e", "PER")]),
        ("(Ann)", [("Ann", "PER")]),
        ("in Oslo, Ann.", [("Oslo", "LOC"), ("Ann", "PER")]),
        ("met in", []),
        ("", []),
        (" \t\n", []),
    ],
)
def test_entities_are_tagged_on_offsets_of_the_text(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


def test_an_entity_at_any_place_of_a_long_text_is_found() -> None:
    for place in range(0, 60):
        text = " ".join(["met"] * place + ["Ann Lee"] + ["met"] * (60 - place))
        assert found(text) == [("Ann Lee", "PER")]


@pytest.mark.parametrize(("length", "overlap"), [(8, 0), (8, 4), (9, 3), (16, 8)])
def test_windows_of_any_size_agree(length: int, overlap: int) -> None:
    tagger = TokenClassificationTagger(*tiny(), max_length=length, overlap=overlap, batch_size=3)
    text = "Oslo met " * 20 + "Ann left. Johnson and " * 9 + "Bob"
    assert tagger.tag(text) == shared().tag(text)
    assert len(tagger.tag(text)) == 20 + 18 + 1


def test_batches_and_single_texts_agree() -> None:
    texts = ["Ann met Bob.", "", "Oslo", "met", "Ann Lee in Oslo " * 10, "Oslo"]
    tagger = TokenClassificationTagger(*tiny(), batch_size=4)
    assert tagger.tag_batch(texts) == [shared().tag(text) for text in texts]


def test_padding_changes_nothing() -> None:
    """The model of this test sees no neighbours; the mask is what a real one would go by."""
    model, tokenizer = tiny()
    seen: list[torch.Tensor] = []
    tagger = TokenClassificationTagger(model, tokenizer)
    model.register_forward_pre_hook(lambda m, a, k: seen.append(k["attention_mask"]), with_kwargs=True)
    tagger.tag_batch(["Ann", "Ann met Bob in Oslo"])
    assert seen[0].sum(-1).tolist() == [3, 7]


def test_a_low_threshold_finds_what_is_less_certain() -> None:
    doubtful = tiny({"ann": "B-PER"}, certainty=0.01)  # all labels are about equally probable
    with torch.no_grad():
        doubtful[0].classifier.bias[0] = 0.5
    assert TokenClassificationTagger(*doubtful).tag("Ann met") == []
    spans = TokenClassificationTagger(*doubtful, threshold=0.5).tag("Ann met")
    assert spans
    assert 0.0 < spans[0].score < 0.5
    assert TokenClassificationTagger(*doubtful, threshold=0.9).tag("Ann met") == []


def test_labels_without_a_scheme() -> None:
    model, tokenizer = tiny()
    model.config.id2label = dict(enumerate(["public", "NAME", "NAME", "PLACE", "DATE-OF-BIRTH"]))
    tagger = TokenClassificationTagger(model, tokenizer, public_labels=["public"])
    assert found("Ann Lee in Oslo", tagger) == [("Ann Lee", "NAME"), ("Oslo", "PLACE")]


def test_loads_from_a_folder_and_remembers_answers(tmp_path: Any) -> None:
    model, tokenizer = tiny()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    tagger = TokenClassificationTagger(str(tmp_path))
    assert [(s.start, s.end, s.label) for s in tagger.tag("Ann met Bob")] == [(0, 3, "PER"), (8, 11, "PER")]
    tagger._model = None  # what it remembers needs no model
    assert len(tagger.tag("Ann met Bob")) == 2
    assert "Ann" not in repr(vars(tagger._cache))


@pytest.mark.parametrize("text", [None, "\ud800", b"Ann"], ids=repr)
def test_what_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(TaggerError):
        shared().tag(text)


def test_what_cannot_work_is_refused_at_once(tmp_path: Any) -> None:
    model, tokenizer = tiny()
    with pytest.raises(TaggerError, match="loaded"):
        TokenClassificationTagger(str(tmp_path / "nothing"))
    with pytest.raises(TaggerError, match="fast"):
        TokenClassificationTagger(model, None)
    with pytest.raises(TaggerError, match="token-classification"):
        TokenClassificationTagger(torch.nn.Linear(1, 1), tokenizer)
    for options in ({"public_labels": ["X"]}, {"public_labels": LABELS}, {"threshold": 1.5}, {"batch_size": 0},
                    {"max_length": 4}, {"overlap": 9}):  # fmt: skip
        with pytest.raises(PrivacyParameterError):
            TokenClassificationTagger(model, tokenizer, **options)
