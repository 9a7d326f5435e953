"""Private paraphrases of a framework's documents: one guarantee for all chunks of a document."""

import asyncio
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from dpfusion_core.adapters.documents import DocumentUnit, warn_unstable
from dpfusion_core.adapters.memory import seen
from dpfusion_core.documents import DocumentReport, Privatizer
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import BackendError, Cancelled, RefusedError, raise_bare
from dpfusion_core.options import GenerationOptions, default_of
from dpfusion_core.privacy import PrivacyGuarantee
from dpfusion_core.tagging import FunctionTagger, Narrowing
from dpfusion_core.units import unit_id

TOGETHER = 16
"""How many chunks are written at once unless the caller says otherwise."""

_Places = list[int]


@dataclass(frozen=True)
class Paraphrase:
    """What may be shown in the place of a chunk.

    Attributes:
        text: The paraphrase.
        guarantee: For all chunks of the document.
        facts: What was chosen of the document, if there is a schema.
    """

    text: str
    guarantee: PrivacyGuarantee = field(repr=False)
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Paraphraser:
    """Paraphrases the private chunks of documents.

    Chunks of one privacy unit are one document: they share its epsilon, and are charged together, before any
    is written. A chunk of an unnamed unit is a document on its own.

    Args:
        engine: The model; its ledger is charged, its tagger narrows what is private.
        options: What a document may lose, and how tokens are sampled. ``max_tokens`` is for each chunk.
        instruction: What the model is told to do; public.
        stable_mend: One line for errors: how to name units by something stable in this framework.
        timeout: Seconds for all documents of a call, looked at between chunks; None for any time.
        max_retries: How many times more documents are tried if the model fails; each attempt is charged.
        together: How many chunks are written at once.
        schema: Facts to keep, as closed fields: they are chosen within epsilon, and the text is written from them;
            see :func:`~dpfusion_core.privatize`, as for ``shares``.
        shares: How the fields of the schema share epsilon.

    Example:
        >>> engine = FusionEngine.from_pretrained("dpfusion-tiny")
        >>> paraphraser = Paraphraser(engine, {"epsilon": 4.0, "max_tokens": 10}, "Paraphrase the text.")
        >>> ann = DocumentUnit("ann.txt", is_stable=True)
        >>> first, second = paraphraser([("Ann Roe lives in Oslo.", ann), ("She is ill.", ann)])
        >>> first.guarantee == second.guarantee, first.guarantee.units, first.guarantee.max_tokens
        (True, 1, 20)
    """

    engine: FusionEngine
    options: GenerationOptions = field(repr=False)
    instruction: str
    stable_mend: str = ""
    timeout: float | None = None
    max_retries: int = 0
    together: int = TOGETHER
    schema: Any = None
    shares: Mapping[str, float] | None = None

    def __call__(self, chunks: Sequence[tuple[str, DocumentUnit]]) -> list[Paraphrase]:
        """Return the paraphrase of each chunk.

        Args:
            chunks: The text of each, and whose it is.

        Raises:
            RefusedError: If a unit's name may change and there is a ledger.
            PrivacyParameterError: If an option is missing, contradictory, or none that documents have.
            BudgetExhaustedError: If a document's budget does not suffice; then nothing of it is written.
            BackendError: If the model fails too often, or the documents are not finished in time.
        """
        return self._paraphrase(chunks, _Clock(self.timeout))

    async def arun(self, chunks: Sequence[tuple[str, DocumentUnit]]) -> list[Paraphrase]:
        """Return the paraphrase of each chunk; if this is cancelled, the work ends with the chunks in progress."""
        clock = _Clock(self.timeout)
        try:
            return await asyncio.to_thread(self._paraphrase, chunks, clock)
        finally:
            clock.set()

    def _paraphrase(self, chunks: Sequence[tuple[str, DocumentUnit]], clock: "_Clock") -> list[Paraphrase]:
        self._check_units([unit for _, unit in chunks])
        documents: dict[str | int, _Places] = {}
        for place, (text, unit) in enumerate(chunks):
            documents.setdefault(place if unit.name is None else unit_id(unit.name), []).append(place)
            seen.remember(text)
        found: dict[int, Paraphrase] = {}
        for size, alike in groupby(sorted(documents.values(), key=len), key=len):
            privatizer, waiting, at_once = self._privatizer(size), list(alike), max(1, self.together // size)
            for some in (waiting[i : i + at_once] for i in range(0, len(waiting), at_once)):
                texts = [[chunks[place][0] for place in places] for places in some]
                units = [chunks[places[0]][1].name for places in some]
                for places, (written, report) in zip(
                    some, self._written(privatizer, texts, units, clock), strict=True
                ):
                    guarantee = self._guarantee(report)
                    made = [Paraphrase(text, guarantee, report.facts) for text in written]
                    found |= dict(zip(places, made, strict=True))
        for paraphrase in found.values():
            if paraphrase.guarantee.units and paraphrase.guarantee.private:
                seen.release(paraphrase.text)
        return [found[place] for place in range(len(chunks))]

    def _check_units(self, units: Sequence[DocumentUnit]) -> None:
        if all(unit.is_stable for unit in units):
            return
        if self.engine.ledger is not None:
            raise RefusedError(
                "A document is named by an id that may change when it is read again, so its budget in the ledger "
                f"would start anew. {self.stable_mend}"
            )
        if any(unit.name and not unit.is_stable for unit in units):
            warn_unstable(self.stable_mend)

    def _privatizer(self, size: int) -> Privatizer:
        """Return what paraphrases documents of so many chunks."""
        options: dict[str, Any] = dict(self.options)
        most = options.pop("max_tokens", None)
        tagger = self.engine.narrowing
        if most is None and tagger is None:  # the length of the redacted text would be that of a placeholder
            most = default_of("max_tokens")
        return Privatizer(
            "dp",
            tagger=_NOTHING if tagger is None else tagger,
            engine=self.engine,
            max_tokens=None if most is None else most * size,
            instruction=self.instruction,
            together=self.together,
            schema=self.schema,
            shares=self.shares,
            # What says the default says nothing; the rest is read, or refused as none of documents.
            **{
                name: value for name, value in options.items() if name == "alpha" or value != default_of(name)
            },
        )

    def _written(
        self, privatizer: Privatizer, texts: list[list[str]], units: list[str | None], clock: "_Clock"
    ) -> list[tuple[list[str], DocumentReport]]:
        attempts = self.max_retries + 1
        while True:
            attempts -= 1
            try:
                return privatizer.batch(texts, units, clock)
            except BackendError:
                if attempts == 0 or clock.is_set():
                    raise
            except Cancelled:
                if not clock.is_late:
                    raise
                said = f"The documents were not finished within timeout={self.timeout} seconds."
                raise_bare(BackendError(said))

    def _guarantee(self, report: DocumentReport) -> PrivacyGuarantee:
        if report.guarantee is None:
            raise BackendError("A paraphrase came without its guarantee.")
        if self.engine.narrowing is None and report.guarantee.units:
            return replace(
                report.guarantee, tagging="none"
            )  # the caller has said that it is private as a whole
        return report.guarantee


class _Clock(threading.Event):
    """Is set by a caller who leaves, or by itself when the time is over."""

    def __init__(self, timeout: float | None) -> None:
        super().__init__()
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def is_set(self) -> bool:
        return super().is_set() or self.is_late


_NOTHING = Narrowing(FunctionTagger(lambda text: []), timeout=None)
"""Narrows nothing: what it is given stays private as a whole."""
