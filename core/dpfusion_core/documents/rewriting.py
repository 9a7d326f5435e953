"""A model rewrites documents chunk by chunk: from the redacted text alone, or with fusion."""

import math
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, cast

from dpfusion_core import _validate
from dpfusion_core.charging import DocumentCharge, charged
from dpfusion_core.documents.chunks import Chunk
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import Cancelled, DPFusionError, PrivacyParameterError, raise_bare
from dpfusion_core.generation import GenerationResult
from dpfusion_core.messages import Message, Segment
from dpfusion_core.options import GenerationOptions, Options
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.planning import make_plan
from dpfusion_core.privacy import PrivacyGuarantee
from dpfusion_core.privacy.guarantee import nothing_private
from dpfusion_core.tokenization import encode


@dataclass
class _Document:
    """A document on its way through the model.

    Attributes:
        chunks: What is read.
        sizes: Largest number of tokens of each chunk's text.
        texts: What is written so far; the redacted text where nothing is to be written.
        open: Which chunks are to be written.
        settings: The privacy settings of a chunk with private text.
        charge: What the chunks cost; None if nothing is private, or none of it is shown to the model.
    """

    chunks: Sequence[Chunk]
    sizes: Sequence[int]
    open: Sequence[int]
    settings: GenerationOptions = field(default_factory=GenerationOptions)
    charge: DocumentCharge | None = None

    def __post_init__(self) -> None:
        self.texts = [chunk.redacted for chunk in self.chunks]


class Rewriter:
    """Rewrites the chunks of documents.

    Args:
        engine: Its backend is the model, its ledger is charged.
        placeholder: What stands in the place of private text.
        instruction: What the model is told to do; public.
        max_tokens: Largest number of tokens of a whole document; None lets it depend on the length of
            the redacted text.
        together: How many chunks the model writes at once.
        options: How tokens are sampled.
    """

    def __init__(
        self,
        engine: FusionEngine,
        placeholder: Placeholder,
        instruction: str,
        max_tokens: int | None,
        together: int,
        options: Mapping[str, Any],
    ) -> None:
        # What is private is known already, and the ledger is charged once for all chunks.
        self._engine = FusionEngine(engine.backend, placeholder=placeholder)
        self._ledger = engine.ledger
        self._instruction = instruction
        self._max_tokens = max_tokens
        self._together = _validate.count(together, "together")
        self._options = options

    def paraphrase(self, documents: Sequence[Sequence[Chunk]], stop: threading.Event) -> list[list[str]]:
        """Rewrite redacted text; no private text reaches the model.

        Raises:
            ViewError: If a chunk does not fit the model.
            BackendError: If the model fails.
            Cancelled: If the work was stopped.
        """
        works = []
        for chunks in documents:
            public = [Chunk((Segment(each.redacted),), each.redacted) for each in chunks]
            with_words = [i for i, chunk in enumerate(chunks) if chunk.has_words]
            works.append(_Document(public, self._sizes(public), with_words))
        self._write(works, stop)
        return [work.texts for work in works]

    def fuse(
        self, documents: Sequence[Sequence[Chunk]], budget: Options, stop: threading.Event
    ) -> list[tuple[list[str], PrivacyGuarantee]]:
        """Rewrite private text with fusion, under one guarantee for all chunks of a document.

        Raises:
            PrivacyParameterError: If an option is missing, out of range or contradictory.
            BudgetExhaustedError: If a unit's budget does not suffice; then nothing is generated.
            LedgerError: If the ledger cannot be reached or written; then nothing is generated.
            ViewError: If a chunk does not fit the model.
            BackendError: If the model fails.
            Cancelled: If the work was stopped.
        """
        is_private = self._options.get("seed") is None
        with ExitStack() as charges:
            works = [self._begun(chunks, budget, charges) for chunks in documents]
            self._write(works, stop)
        return [
            (
                work.texts,
                nothing_private(0, sum(work.sizes), private=is_private)
                if work.charge is None
                else work.charge.guarantee(private=is_private),
            )
            for work in works
        ]

    def _begun(self, chunks: Sequence[Chunk], budget: Options, charges: ExitStack) -> _Document:
        """Reserve what a document may cost."""
        sizes = self._sizes(chunks)
        private = [i for i, chunk in enumerate(chunks) if chunk.units]
        work = _Document(chunks, sizes, [i for i, c in enumerate(chunks) if c.units or c.has_words])
        if not private:
            return work
        plan = make_plan(
            replace(budget, max_tokens=sum(sizes[i] for i in private)),
            sorted({unit for i in private for unit in chunks[i].units}),
            self._ledger,
            together=min(len(chunks[i].units) for i in private),
        )
        chosen = plan.parameters
        work.settings = {
            "order": chosen.order,
            "beta": chosen.beta,
            "delta": chosen.delta,
            "neighbours": chosen.neighbours,
            "mixing_loss": chosen.mixing_loss,
            "weight_cap": chosen.weight_cap,
        }
        work.charge = DocumentCharge(plan, charges.enter_context(charged(plan, self._ledger, document=True)))
        return work

    def _sizes(self, chunks: Sequence[Chunk]) -> list[int]:
        """Return the largest number of tokens of each chunk's text: a function of the redacted text."""
        tokenizer = self._engine.backend.tokenizer
        lengths = [len(encode(tokenizer, each.redacted)) for each in chunks]
        if self._max_tokens is None:
            return [16 + math.ceil(1.25 * length) for length in lengths]
        if self._max_tokens < len(chunks):
            raise PrivacyParameterError(
                f"max_tokens={self._max_tokens} is less than one token for each of {len(chunks)} chunks. "
                "Raise it, or let chunks be longer (chunk=)."
            )
        total = max(1, sum(lengths))
        spare = self._max_tokens - len(chunks)
        return [1 + spare * length // total for length in lengths]

    def _write(self, works: Sequence[_Document], stop: threading.Event) -> None:
        """Write the chunks of documents, some at once, in their order."""
        todo = [(work, i) for work in works for i in work.open]
        for start in range(0, len(todo), self._together):
            if stop.is_set():
                raise Cancelled("The work on the document was stopped.")
            part = todo[start : start + self._together]
            results = self._engine.batch(
                [self._messages(work.chunks[i]) for work, i in part],
                each=[self._said(work, i) for work, i in part],
                return_exceptions=True,
            )
            for (work, i), result in zip(part, results, strict=True):
                if work.charge is not None and work.chunks[i].units:
                    # Of one that failed it is not known how far it came.
                    done = result.guarantee.tokens if isinstance(result, GenerationResult) else work.sizes[i]
                    work.charge.count(done)
            for (work, i), result in zip(part, results, strict=True):
                if isinstance(result, DPFusionError):
                    raise_bare(result)
                work.texts[i] = _framed(result, work.chunks[i].redacted)

    def _messages(self, chunk: Chunk) -> list[Message]:
        return [Message("user", [*chunk.segments, Segment(f"\n\n{self._instruction}")])]

    def _said(self, work: _Document, number: int) -> GenerationOptions:
        """Return the options of a chunk."""
        privacy = work.settings if work.chunks[number].units else {}
        options = {**self._options, **privacy, "max_tokens": work.sizes[number]}
        if options.get("seed") is not None:
            options["seed"] += number
        return cast(GenerationOptions, options)


def _framed(result: GenerationResult, shown: str) -> str:
    """Return a text between the white space of what it is written for."""
    before, after = shown[: len(shown) - len(shown.lstrip())], shown[len(shown.rstrip()) :]
    return before + result.text.strip() + after
