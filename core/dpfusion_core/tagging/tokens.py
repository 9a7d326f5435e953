"""Token-classification models as taggers: the usual models for named entities and personal data."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError, TaggerError, errors_as
from dpfusion_core.tagging.compose import SpanCache
from dpfusion_core.tagging.folding import Boundaries
from dpfusion_core.tagging.occurrences import tag_everywhere
from dpfusion_core.tagging.spans import Span
from dpfusion_core.tagging.windows import check_readable

_BEGINNINGS = ("B", "S", "U")  # of the schemes BIO, BIOES and BILOU
_PREFIXES = (*_BEGINNINGS, "I", "E", "L")


class TokenClassificationTagger:
    """Tags what a ``transformers`` token-classification model calls an entity.

    A text that is longer than the model's context is read in overlapping windows; what is an entity in
    any of them is tagged. A word is private as a whole if any of its tokens is.

    Args:
        model: Name or path of the model, or a ready one.
        tokenizer: The tokenizer of a ready model; a fast one, for its offsets.
        threshold: From which probability of being an entity on a token counts. None: if an entity is
            the most probable answer. A small number finds more.
        public_labels: Labels that mean "no entity".
        max_length: Largest number of tokens of a window; by default what the model takes.
        overlap: How many tokens neighbouring windows share; a quarter of ``max_length`` by default.
        batch_size: How many windows are read at a time.
        device: Where the model runs; by default CUDA if there is one, else the CPU.
        cache_size: For how many texts answers are remembered.

    Raises:
        TaggerError: If the model cannot be loaded, or does not classify tokens.
        PrivacyParameterError: If a number is out of range.

    With a model from the hub or a folder::

        tagger = TokenClassificationTagger("dslim/bert-base-NER")
        tagger.tag("Ann lives in Oslo.")
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        threshold: float | None = None,
        public_labels: Iterable[str] = ("O",),
        max_length: int | None = None,
        overlap: int | None = None,
        batch_size: int = 16,
        device: str | torch.device | None = None,
        cache_size: int = 256,
    ) -> None:
        self._threshold = None if threshold is None else _validate.probability(threshold, "threshold")
        self._batch_size = _validate.count(batch_size, "batch_size")
        name = model if isinstance(model, str) else type(model).__name__
        if isinstance(model, str):
            model, tokenizer = _load(model)
        labels = getattr(getattr(model, "config", None), "id2label", None)
        if not callable(model) or not labels:
            raise TaggerError("Expected a token-classification model of transformers.")
        if not getattr(tokenizer, "is_fast", False):
            raise TaggerError("Expected the model's fast tokenizer: only those tell where a token stands.")
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._model = model.to(self._device).eval()
        self._tokenizer = tokenizer
        self._labels = [str(labels[i]) for i in range(len(labels))]
        self._is_public = torch.tensor([label in set(public_labels) for label in self._labels])  # [labels]
        if not self._is_public.any() or self._is_public.all():
            raise PrivacyParameterError(
                "Expected public_labels to name some but not all of the model's labels: "
                f"{', '.join(self._labels)}."
            )
        self._length = _validate.count(max_length or _context(model, tokenizer), "max_length", minimum=8)
        self._overlap = _validate.count(
            self._length // 4 if overlap is None else overlap, "overlap", minimum=0
        )
        if self._overlap > self._length // 2:
            raise PrivacyParameterError("Expected overlap to be at most half of max_length.")
        self._settings = f"TokenClassificationTagger({name!r}, threshold={threshold}, on {self._device})"
        self._cache = SpanCache(cache_size)
        self._lock = threading.Lock()  # fast tokenizers and models are not used by two threads at a time

    def __repr__(self) -> str:
        return self._settings

    def tag(self, text: str) -> list[Span]:
        """Return the spans of the entities in ``text``."""
        return self.tag_batch([text])[0]

    def tag_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of several texts.

        Raises:
            TaggerError: If a text is not readable.
        """
        found: dict[str, list[Span]] = {}
        for text in texts:
            check_readable(text)
            known = self._cache.get("", text) if text.strip() else []
            if known is not None:
                found[text] = known
        new = list(dict.fromkeys(text for text in texts if text not in found))
        if new:
            with self._lock:
                tokens = self._classify(new)
            for text, entities in zip(new, tokens, strict=True):
                found[text] = tag_everywhere(text, _spans(text, entities))
                self._cache.put("", text, found[text])
        return [found[text] for text in texts]

    @torch.no_grad()
    def _classify(self, texts: Sequence[str]) -> list[list["_Token"]]:
        """Return the tokens of each text that are entities in some window."""
        encoded = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self._length,
            stride=self._overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        found: list[dict[tuple[int, int], _Token]] = [{} for _ in texts]
        owners = encoded["overflow_to_sample_mapping"]
        for first in range(0, len(owners), self._batch_size):
            rows = range(first, min(first + self._batch_size, len(owners)))
            inputs = self._tokenizer.pad(
                {key: [encoded[key][row] for row in rows] for key in ("input_ids", "attention_mask")},
                return_tensors="pt",
            ).to(self._device)
            probabilities = self._model(**inputs).logits.double().softmax(-1).cpu()  # [rows, tokens, labels]
            for row, table in zip(rows, probabilities, strict=True):
                entities = found[owners[row]]
                for token in self._entities(table, encoded, row):
                    known = entities.get((token.start, token.end))
                    if known is None or token.score > known.score:
                        entities[token.start, token.end] = token
        return [sorted(entities.values(), key=lambda token: (token.start, token.end)) for entities in found]

    def _entities(self, table: torch.Tensor, encoded: Any, row: int) -> Iterator["_Token"]:
        private = table.masked_fill(self._is_public, -1.0)  # [tokens, labels]
        best = private.argmax(-1).tolist()  # [tokens]
        mass = table.masked_fill(self._is_public, 0.0).sum(-1).tolist()  # [tokens]
        top = table.argmax(-1).tolist()  # [tokens]
        offsets, special = encoded["offset_mapping"][row], encoded["special_tokens_mask"][row]
        for place, (start, end) in enumerate(offsets):
            is_entity = (
                not bool(self._is_public[top[place]])
                if self._threshold is None
                else mass[place] >= self._threshold
            )
            if is_entity and not special[place] and start < end:
                label = self._labels[best[place]]
                yield _Token(start, end, label, float(table[place, best[place]]))


@dataclass(frozen=True)
class _Token:
    """A token that is an entity, or a part of one."""

    start: int
    end: int
    label: str
    score: float

    @property
    def kind(self) -> str:
        """The label without the mark of its place in the entity."""
        prefix, dash, kind = self.label.partition("-")
        return kind if dash and kind and prefix in _PREFIXES else self.label

    @property
    def is_beginning(self) -> bool:
        return self.kind != self.label and self.label.partition("-")[0] in _BEGINNINGS


def _spans(text: str, tokens: Iterable[_Token]) -> list[Span]:
    """Join the tokens of an entity, and widen what results to whole words."""
    spans: list[Span] = []
    boundaries = Boundaries(text)
    previous: _Token | None = None
    for token in tokens:
        start, end = _strip(text, token.start, token.end)
        if start == end:
            continue
        start, end = boundaries.words(start, end)
        last = spans[-1] if spans else None
        if last and previous and (start < last.end or _continues(previous, token, text[last.end : start])):
            spans[-1] = Span(last.start, max(last.end, end), last.label, min(last.score, token.score))
        else:
            spans.append(Span(start, end, token.kind, token.score))
        previous = token
    return spans


def _continues(previous: _Token, token: _Token, gap: str) -> bool:
    """Tell whether a token belongs to the entity of the one before it."""
    return token.kind == previous.kind and not gap.strip() and (not token.is_beginning or not gap)


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out white space at the edges: some tokenizers count it to the word that follows."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))


def _load(name: str) -> tuple[Any, Any]:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    def refused(error: Exception) -> str:
        return (
            f"The token-classification model {name!r} cannot be loaded: {error}. Check the name, the "
            "folder's files, the network or HF_HUB_OFFLINE, and the access token of a gated model."
        )

    with errors_as(TaggerError, refused, only=(OSError, ValueError, ImportError, KeyError)):
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
        return AutoModelForTokenClassification.from_pretrained(name), tokenizer


def _context(model: Any, tokenizer: Any) -> int:
    """Return how many tokens a model takes."""
    stated = int(min(tokenizer.model_max_length, 1_000_000))
    positions = getattr(model.config, "max_position_embeddings", None) or 512
    # RoBERTa and its kin count positions from the padding token's id on.
    shift = (model.config.pad_token_id or 0) + 1 if "roberta" in model.config.model_type else 0
    return min(stated, int(positions) - shift)
