"""``Privatizer``: documents at one of three levels of privacy."""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dpfusion_core import _validate
from dpfusion_core.documents.chunks import Chunk, DocumentReport, Level, cut, redact
from dpfusion_core.documents.facts import Facts
from dpfusion_core.documents.options import BUDGET, check_options, check_schema
from dpfusion_core.documents.rewriting import Rewriter
from dpfusion_core.engine import FusionEngine, StructuredResult
from dpfusion_core.errors import PrivacyParameterError, ViewError
from dpfusion_core.messages import Message, Segment
from dpfusion_core.options import Options
from dpfusion_core.placeholders import Placeholder, fixed_placeholder
from dpfusion_core.privacy.guarantee import PrivacyGuarantee, Tagging
from dpfusion_core.tagging import Narrowing, Tagger
from dpfusion_core.tagging.spans import DEFAULT_LABEL

INSTRUCTION = "Paraphrase the text. Output only the paraphrase."
CHUNK = 1500


class Privatizer:
    """Privatises documents, one at each call; :func:`~dpfusion_core.privatize` describes the arguments.

    One more is ``together``: how many chunks the model writes at once. The work can only be stopped between
    them, so it is one by default.

    Example:
        >>> from dpfusion_core.tagging import PhraseTagger
        >>> privatizer = Privatizer("redact", tagger=PhraseTagger(["Ann"]))
        >>> texts, report = privatizer(["Ann is ill.", "Call Ann."])
        >>> texts, report.spans
        (['____ is ill.', 'Call ____.'], {'PRIVATE': 2})
    """

    def __init__(
        self,
        level: Level = "redact",
        *,
        tagger: Tagger | Narrowing | None = None,
        engine: FusionEngine | str | None = None,
        placeholder: str | Placeholder | None = None,
        max_tokens: int | None = None,
        chunk: int | None = None,
        instruction: str | None = None,
        together: int = 1,
        schema: Any = None,
        shares: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        writing = {"max_tokens": max_tokens, "chunk": chunk, "instruction": instruction}
        options = check_options(
            level, options, [name for name, value in writing.items() if value is not None]
        )
        check_schema(level, schema, shares, options)
        if level == "redact" and engine is not None and None not in (tagger, placeholder):
            raise PrivacyParameterError(
                "Level 'redact' needs no model, and tagger and placeholder are given: leave out engine, or choose "
                "level 'paraphrase' or 'dp'."
            )
        if isinstance(engine, str):
            engine = FusionEngine.from_pretrained(engine)
        if tagger is None:
            tagger = None if engine is None else engine.narrowing
        if tagger is None:
            raise PrivacyParameterError(
                "Say what finds the private phrases: give tagger=, for example tagger=PresidioTagger()."
            )
        if placeholder is None:
            placeholder = "____" if engine is None else engine.placeholder
        self.level = level
        self._narrowing = tagger if isinstance(tagger, Narrowing) else Narrowing(tagger)
        self._placeholder = fixed_placeholder(placeholder) if isinstance(placeholder, str) else placeholder
        self._chunk = _validate.count(CHUNK if chunk is None else chunk, "chunk", minimum=50)
        self._budget = Options(**options)
        # Other levels spend nothing, whatever ledger the engine has.
        self._ledger = engine.ledger if engine is not None and level == "dp" else None
        self._rewriter, self._facts = None, None
        if level != "redact":
            if engine is None:
                raise PrivacyParameterError(
                    f"Level {level!r} needs a model: give engine=, for example engine='dpfusion-tiny'."
                )
            limit = None if max_tokens is None else _validate.count(max_tokens, "max_tokens")
            sampling = {k: v for k, v in options.items() if k not in BUDGET and k != "prior"}
            if schema is not None:
                budget = {k: v for k, v in options.items() if k not in sampling or k == "seed"}
                self._facts = Facts(engine, self._placeholder, schema, shares, budget)
            self._rewriter = Rewriter(
                engine, self._placeholder, instruction or INSTRUCTION, limit, together, sampling
            )

    @property
    def is_charged(self) -> bool:
        """Whether a ledger is charged for each document."""
        return self._ledger is not None

    def __call__(
        self, parts: Sequence[str], unit: str | None = None, stop: threading.Event | None = None
    ) -> tuple[list[str], DocumentReport]:
        """Privatise one document.

        Args:
            parts: Its text, or several texts that belong together, as the columns of a row.
            unit: Its privacy unit. Units of labels and entities get this name as a prefix.
            stop: Ends the work before the next chunk once it is set.

        Returns:
            The parts, privatised, and the report.

        Raises:
            PrivacyParameterError: If an option is missing, out of range or contradictory.
            ViewError: If a text is unreadable, or a chunk does not fit the model.
            TaggerError: If the tagger fails and its narrowing says to raise.
            BudgetExhaustedError: If a unit's budget does not suffice; then nothing is generated.
            LedgerError: If the ledger cannot be reached or written; then nothing is generated.
            BackendError: If the model fails.
        """
        return self.batch([parts], [unit], stop)[0]

    def batch(
        self,
        documents: Sequence[Sequence[str]],
        units: Sequence[str | None],
        stop: threading.Event | None = None,
    ) -> list[tuple[list[str], DocumentReport]]:
        """Privatise several documents, each on its own account; see :meth:`__call__`.

        They are reserved for before the first is written, with a schema each before its facts are chosen, and share
        the model's forward passes, ``together`` chunks at a time. Where one fails, none is returned, and what was
        not used is given back.
        """
        started = time.perf_counter()
        read = [self._read(parts, unit) for parts, unit in zip(documents, units, strict=True)]
        guarantees: list[PrivacyGuarantee | None] = [None] * len(read)
        chunk_counts = [0] * len(read)
        facts: list[StructuredResult] = []
        if self._rewriter is None:
            texts = [[redact(part, self._placeholder) for part in segments] for segments, _ in read]
        else:
            cuts = [[cut(part, self._chunk, self._placeholder) for part in segments] for segments, _ in read]
            chunks = [[chunk for part in parts for chunk in part] for parts in cuts]
            chunk_counts = [len(each) for each in chunks]
            stop = stop or threading.Event()
            if self._facts is not None:
                facts = [self._facts.choose(segments, stop) for segments, _ in read]
                guarantees = [each.guarantee for each in facts]
                chunks = [self._facts.told(*each) for each in zip(chunks, facts, strict=True)]
                written = [
                    self._facts.completed(*each)
                    for each in zip(self._rewriter.paraphrase(chunks, stop), facts, strict=True)
                ]
            elif self.level == "paraphrase":
                written = self._rewriter.paraphrase(chunks, stop)
            else:
                fused = self._rewriter.fuse(chunks, self._budget, stop)
                written, guarantees = [each for each, _ in fused], [guarantee for _, guarantee in fused]
            texts = [_joined(parts, each) for parts, each in zip(cuts, written, strict=True)]
        seconds = time.perf_counter() - started
        done = []
        for i, (segments, whole) in enumerate(read):
            labels = Counter(s.label or DEFAULT_LABEL for part in segments for s in part if s.is_private)
            tagging: Tagging = "whole message" if whole else "phrases"
            guarantee = guarantees[i]
            if guarantee is not None and guarantee.units:
                guarantee = replace(guarantee, tagging=tagging)
            known = facts[i].value if facts else None
            report = DocumentReport(
                self.level, dict(labels), tagging, guarantee, chunk_counts[i], seconds, known
            )
            done.append((texts[i], report))
        return done

    def _read(self, parts: Sequence[str], unit: str | None) -> tuple[list[Sequence[Segment]], int]:
        """Return the segments of a document's parts, and how many of them stayed private as a whole."""
        if unit is None and self._ledger is not None:
            raise PrivacyParameterError(
                "The ledger keeps an account for each document: name the document (names=)."
            )
        if not all(isinstance(part, str) for part in parts):
            raise ViewError("Expected a document to be a text.")
        # A blank part tells nothing but that it is blank, and no tagger finds anything in it.
        messages = [
            Message("user", part, is_private=True, unit=unit) if part.strip() else Message("user", part)
            for part in parts
        ]
        narrowed, whole = self._narrowing(messages, self._ledger)
        return [message.segments for message in narrowed], whole


def _joined(parts: Sequence[Sequence[Chunk]], written: Sequence[str]) -> list[str]:
    """Return the text of each part from those of its chunks."""
    pieces = iter(written)
    return ["".join(next(pieces) for _ in part) for part in parts]
