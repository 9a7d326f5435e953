"""A model rewrites a document chunk by chunk: from the redacted text alone, or with fusion."""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from dpfusion_core.charging import DocumentCharge, charged
from dpfusion_core.documents.chunks import Chunk
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import Cancelled, PrivacyParameterError
from dpfusion_core.messages import Message, Segment
from dpfusion_core.options import GenerationOptions, Options
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.planning import make_plan
from dpfusion_core.privacy import PrivacyGuarantee
from dpfusion_core.privacy.guarantee import nothing_private
from dpfusion_core.tokenization import encode


class Rewriter:
    """Rewrites chunks.

    Args:
        engine: Its backend is the model, its ledger is charged.
        placeholder: What stands in the place of private text.
        instruction: What the model is told to do; public.
        max_tokens: Largest number of tokens of a whole document; None lets it depend on the length of
            the redacted text.
        options: How tokens are sampled.
    """

    def __init__(
        self,
        engine: FusionEngine,
        placeholder: Placeholder,
        instruction: str,
        max_tokens: int | None,
        options: Mapping[str, Any],
    ) -> None:
        # What is private is known already, and the ledger is charged once for all chunks.
        self._engine = FusionEngine(engine.backend, placeholder=placeholder)
        self._ledger = engine.ledger
        self._instruction = instruction
        self._max_tokens = max_tokens
        self._options = options

    def paraphrase(self, chunks: Sequence[Chunk], stop: threading.Event) -> list[str]:
        """Rewrite redacted text; no private text reaches the model.

        Raises:
            ViewError: If a chunk does not fit the model.
            BackendError: If the model fails.
        """
        public = [Chunk((Segment(each.redacted),), each.redacted) for each in chunks]
        sizes = self._sizes(public)
        return [
            self._write(public[i], sizes[i], i, stop, {})[0] if chunk.has_words else chunk.redacted
            for i, chunk in enumerate(chunks)
        ]

    def fuse(
        self, chunks: Sequence[Chunk], budget: Options, stop: threading.Event
    ) -> tuple[list[str], PrivacyGuarantee]:
        """Rewrite private text with fusion, under one guarantee for all chunks.

        Raises:
            PrivacyParameterError: If an option is missing, out of range or contradictory.
            BudgetExhaustedError: If a unit's budget does not suffice; then nothing is generated.
            LedgerError: If the ledger cannot be reached or written; then nothing is generated.
            ViewError: If a chunk does not fit the model.
            BackendError: If the model fails.
        """
        is_private = self._options.get("seed") is None
        sizes = self._sizes(chunks)
        private = [i for i, chunk in enumerate(chunks) if chunk.units]
        if not private:
            texts = [self._write(chunk, sizes[i], i, stop, {})[0] for i, chunk in enumerate(chunks)]
            return texts, nothing_private(0, sum(sizes), private=is_private)
        plan = make_plan(
            replace(budget, max_tokens=sum(sizes[i] for i in private)),
            sorted({unit for i in private for unit in chunks[i].units}),
            self._ledger,
            together=min(len(chunks[i].units) for i in private),
        )
        chosen = plan.parameters
        settings: GenerationOptions = {
            "order": chosen.order,
            "beta": chosen.beta,
            "delta": chosen.delta,
            "neighbours": chosen.neighbours,
            "mixing_loss": chosen.mixing_loss,
        }
        texts = []
        with charged(plan, self._ledger, document=True) as reserved:
            charge = DocumentCharge(plan, reserved)
            for i, chunk in enumerate(chunks):
                if not chunk.units:
                    texts.append(self._write(chunk, sizes[i], i, stop, {})[0])
                    continue
                used = sizes[i]  # if it fails, it is not known how far it came
                try:
                    text, used = self._write(chunk, sizes[i], i, stop, settings)
                finally:
                    charge.count(used)
                texts.append(text)
        return texts, charge.guarantee(private=is_private)

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

    def _write(
        self, chunk: Chunk, size: int, number: int, stop: threading.Event, privacy: GenerationOptions
    ) -> tuple[str, int]:
        """Return a chunk's text in other words, and how many tokens were sampled for it."""
        if stop.is_set():
            raise Cancelled("The work on the document was stopped.")
        if not chunk.units and not chunk.has_words:
            return chunk.redacted, 0
        options = {**self._options, **privacy, "max_tokens": size}
        if options.get("seed") is not None:
            options["seed"] += number
        message = Message("user", [*chunk.segments, Segment(f"\n\n{self._instruction}")])
        result = self._engine.generate([message], **cast(GenerationOptions, options))
        shown = chunk.redacted
        before, after = shown[: len(shown) - len(shown.lstrip())], shown[len(shown.rstrip()) :]
        return before + result.text.strip() + after, result.guarantee.tokens
