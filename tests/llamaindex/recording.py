"""A model that says what it is told and remembers every prompt, and retrieval that needs no network."""

import hashlib
import re
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from llama_index.core import Document
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from rank_bm25 import BM25Okapi
from transformers import AutoTokenizer

from dpfusion_core import FusionEngine
from dpfusion_core.tiny import model_path
from llamaindex_dpfusion import DPFusionLLM

QUESTION = "What does the record say?"


@cache
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_path())


@dataclass
class Call:
    """One request: the text of the public view, and of the private view of every unit."""

    public: str
    private: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        return [self.public, *self.private.values()]


class RecordingLedger:
    """Remembers which units each request was charged for; the views follow in the same order."""

    release_share = 0.1

    def __init__(self) -> None:
        self.charges: list[tuple[str, ...]] = []
        self.pending = threading.local()

    def orders(self, units: Sequence[str]) -> None:
        return None

    def reserve(self, losses: dict[str, Any], **options: Any) -> Any:
        self.charges.append(tuple(losses))
        self.pending.units = tuple(losses)
        return SimpleNamespace(granted={}, exhausted=())

    def settle(self, reservation: Any, used: Any) -> None:
        return None


class RecordingBackend:
    """Says ``answer(public prompt)``, whatever the private views."""

    fingerprint = "recording"

    def __init__(self, answer: Callable[[str], str], context_length: int | None) -> None:
        self.tokenizer = tokenizer()
        self.vocab_size = len(self.tokenizer)
        self.eos_token_ids = frozenset([self.tokenizer.eos_token_id])
        self.context_length = context_length
        self.answer = answer
        self.ledger: Any = RecordingLedger()
        self.calls: list[Call] = []
        self.open_sessions = 0

    def open(self, prompts: Sequence[Sequence[int]]) -> "RecordingSession":
        texts = [self.tokenizer.decode(list(prompt)) for prompt in prompts]
        rows = tuple(f"row {i}" for i in range(1, len(texts)))  # without a ledger units have no names here
        units = getattr(self.ledger.pending, "units", rows) if len(texts) > 1 else ()
        self.calls.append(Call(texts[0], dict(zip(units, texts[1:], strict=True))))
        self.open_sessions += 1
        return RecordingSession(self, len(texts), self.answer(texts[0]))

    def together(self) -> "RecordingBackend":
        return self


class RecordingSession:
    """Goes on with the answer from whatever has been said of it; a grammar may have chosen other tokens."""

    def __init__(self, backend: RecordingBackend, rows: int, answer: str) -> None:
        self._backend, self._rows, self._answer = backend, rows, answer
        self._said: list[int] = []
        self._is_open = True

    def logits(self) -> torch.Tensor:
        said = self._backend.tokenizer.decode(self._said)
        rest = self._answer[len(said) :] if self._answer.startswith(said) else ""
        ids = self._backend.tokenizer(rest, add_special_tokens=False)["input_ids"]
        row = torch.full((self._backend.vocab_size,), -50.0, dtype=torch.float64)
        row[[*ids, *self._backend.eos_token_ids][0]] = 50.0
        return row.expand(self._rows, -1)

    def append(self, token: int) -> None:
        self._said.append(token)

    def score(self, continuations: Sequence[Sequence[int]], ends: Collection[int]) -> torch.Tensor:
        said = [self._backend.tokenizer.decode([*self._said, *each]) for each in continuations]
        row = torch.tensor([0.0 if self._answer == each else -50.0 for each in said], dtype=torch.float64)
        return row.expand(self._rows, -1)

    def close(self) -> None:
        self._backend.open_sessions -= self._is_open
        self._is_open = False


def recording_llm(
    answer: str | Callable[[str], str] = "It is so.",
    context_length: int | None = None,
    *,
    has_ledger: bool = True,
    **options: Any,
) -> tuple[DPFusionLLM, RecordingBackend]:
    """Return an LLM and the backend that remembers what it is asked."""
    backend = RecordingBackend(answer if callable(answer) else lambda prompt: answer, context_length)
    engine = FusionEngine(backend, ledger=backend.ledger if has_ledger else None)
    return DPFusionLLM(engine=engine, **{"alpha": 2.0, "beta": 0.01, "max_tokens": 40, **options}), backend


class HashEmbedding(BaseEmbedding):
    """Bags of hashed words: deterministic, local, and near for texts that share words."""

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [1e-3] * 64
        for word in re.findall(r"\w+", text.lower()):
            vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % 64] += 1.0
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class BM25Retriever(BaseRetriever):
    """Retrieves by BM25 over the words of nodes."""

    def __init__(self, nodes: Sequence[BaseNode], top_k: int = 10) -> None:
        super().__init__()
        self._nodes, self._top_k = list(nodes), top_k
        texts = [re.findall(r"\w+", n.get_content(MetadataMode.NONE).lower()) for n in self._nodes]
        self._index = BM25Okapi(texts)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        scores = self._index.get_scores(re.findall(r"\w+", query_bundle.query_str.lower()))
        ranked = sorted(zip(self._nodes, scores, strict=True), key=lambda pair: -pair[1])[: self._top_k]
        return [NodeWithScore(node=node, score=float(score)) for node, score in ranked]


def words_of(number: int, count: int) -> list[str]:
    """Return words that stand in one document only."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        f"{letters[number]}{letters[i // 26 % 26]}{letters[i % 26]}q{letters[number]}" for i in range(count)
    ]


def documents(count: int = 4, words: int = 60, long: int = 300) -> list[Document]:
    """Return documents of unique words: one long, the others of a few lines and some with metadata."""
    found = []
    for number in range(count):
        text = words_of(number, long if number == 1 else words)
        lines = [" ".join(text[i : i + 9]) + "." for i in range(0, len(text), 9)]
        metadata = {"author": f"author{number}z"} if number % 2 else {}
        found.append(Document(text="\n".join(lines), doc_id=f"doc-{number}", metadata=metadata))
    return found


def private_words(document: BaseNode) -> set[str]:
    return set(re.findall(r"\w+", document.get_content(MetadataMode.LLM))) - {"author"}


def check(backend: RecordingBackend, docs: Sequence[BaseNode], *, strangers: Sequence[str] = ()) -> None:
    """Check what the model has seen: each document in the view of its own unit and nowhere else."""
    assert backend.calls, "the model was not asked"
    own = {doc.node_id: private_words(doc) for doc in docs}
    everything = set().union(*own.values())
    for call in backend.calls:
        for row in call.rows:
            low = row.lower()
            for mark in ("[[", "]]", "dpf", "is_private", "dp_fusion"):
                assert mark not in low, mark
        assert not everything & set(re.findall(r"[^\W_]+", call.public))
        for unit, row in call.private.items():
            seen = everything & set(re.findall(r"[^\W_]+", row))
            assert seen <= own.get(unit, set()), unit
            assert seen or unit in strangers or "author:" in row, f"{unit} is charged and shows nothing"
    charged = backend.ledger.charges
    revealed = [tuple(call.private) for call in backend.calls if call.private]
    assert sorted(charged) == sorted(revealed)
    assert backend.open_sessions == 0


def seen_by_unit(backend: RecordingBackend) -> dict[str, set[str]]:
    """Return the words that stood in each unit's views, over all calls."""
    seen: dict[str, set[str]] = {}
    for call in backend.calls:
        for unit, row in call.private.items():
            seen.setdefault(unit, set()).update(re.findall(r"[^\W_]+", row))
    return seen
