"""Labels: the closed fields of a schema for each of many documents."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack, cast

from dpfusion_core.closed import closed_fields
from dpfusion_core.documents.folder import Run, RunSummary, SourceOptions, run_folder
from dpfusion_core.documents.formats import TEXTS, Columns, Content, suffix, table
from dpfusion_core.documents.journal import Entry
from dpfusion_core.documents.totals import Labels, LabelTotal, label_totals
from dpfusion_core.engine import FusionEngine
from dpfusion_core.engine.filling import Ask, refuse_open
from dpfusion_core.errors import PrivacyParameterError, ViewError
from dpfusion_core.messages import Message
from dpfusion_core.options import GenerationOptions
from dpfusion_core.privacy import PrivacyGuarantee

LABELS, TOTALS = "labels.csv", "totals.json"
"""What a run over a folder writes beside the report: labels of files of text, and the totals of all documents."""


@dataclass(frozen=True)
class LabelReport:
    """The labels of a document. Nothing in it is private text.

    Attributes:
        labels: The object; it obeys the schema.
        chosen: The text that was chosen for each question, by the field's name.
        weights: See :class:`~dpfusion_core.documents.Labels`.
        guarantee: What the labels can tell about the document.
        seconds: How long it took.
    """

    labels: Mapping[str, Any]
    chosen: Mapping[str, str]
    weights: Mapping[str, float] | None
    guarantee: PrivacyGuarantee
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return asdict(self) | {"guarantee": self.guarantee.as_dict()}


class Labeller:
    """Labels documents, one at each call: each is a privacy unit, private as a whole.

    Args:
        engine: An engine, or the name or path of a model. Its ledger is charged once for each document.
        schema: What is to be known of a document, as closed fields; see :func:`~dpfusion_core.closed_fields`.
        shares: How the fields share the budget of a document; see :meth:`FusionEngine.fill`.
        ask: Puts a field into a question.
        **options: The budget of each document, ``temperature`` and ``seed``; see
            :class:`~dpfusion_core.options.Options`.

    Raises:
        PrivacyParameterError: If the schema has an open field or none that is to be chosen.

    Example:
        >>> from dpfusion_core import ScriptedBackend
        >>> engine = FusionEngine(ScriptedBackend.saying("yes"))
        >>> labeller = Labeller(engine, {"properties": {"fell": {"type": "boolean"}}}, epsilon=30.0)
        >>> labeller(["She fell."]).labels
        {'fell': True}
    """

    def __init__(
        self,
        engine: FusionEngine | str,
        schema: Any,
        *,
        shares: Mapping[str, float] | None = None,
        ask: Ask | None = None,
        **options: Any,
    ) -> None:
        self.fields = closed_fields(schema)
        refuse_open(self.fields)
        if not self.fields.closed:
            raise PrivacyParameterError(
                "The schema leaves nothing to choose: each of its fields has one value."
            )
        loaded = FusionEngine.from_pretrained(engine) if isinstance(engine, str) else engine
        # A document is private as a whole: no tagger is asked.
        self._engine = FusionEngine(loaded.backend, placeholder=loaded.placeholder, ledger=loaded.ledger)
        self._shares, self._ask = shares, ask
        self._options = cast(GenerationOptions, options)

    @property
    def is_charged(self) -> bool:
        """Whether a ledger is charged for each document."""
        return self._engine.ledger is not None

    def __call__(self, parts: Sequence[str], unit: str | None = None) -> LabelReport:
        """Label one document.

        Args:
            parts: Its text, or several texts that belong together, as the columns of a row.
            unit: Its privacy unit.

        Raises:
            PrivacyParameterError: If an option is missing, out of range or without effect.
            ViewError: If a text is unreadable, or does not fit the model.
            BudgetExhaustedError: If the document's budget does not suffice; then nothing is chosen.
            LedgerError: If the ledger cannot be reached or written; then nothing is chosen.
            BackendError: If the model fails.
        """
        started = time.perf_counter()
        if unit is None and self.is_charged:
            raise PrivacyParameterError("The ledger keeps an account for each document: name the document.")
        if not all(isinstance(part, str) for part in parts):
            raise ViewError("Expected a document to be a text.")
        messages = [Message("user", part, is_private=True, unit=unit) for part in parts if part.strip()]
        found = self._engine.fill(
            # A document without a word is one as well: it is private that it has none.
            messages or [Message("user", " ", is_private=True, unit=unit)],
            self.fields.schema,
            shares=self._shares,
            ask=self._ask,
            for_totals=True,
            **self._options,
        )
        seconds = time.perf_counter() - started
        return LabelReport(found.value, found.chosen, found.weights, found.guarantee, seconds)


@dataclass
class LabelSummary:
    """What a run has done, and the totals of its labels.

    Attributes:
        run: What was done.
        totals: Of all documents that are labelled, by earlier runs too.
    """

    run: RunSummary
    totals: list[LabelTotal]


def label_folder(
    source: Path,
    target: Path,
    labeller: Labeller,
    *,
    settings: Mapping[str, Any],
    **options: Unpack[SourceOptions],
) -> LabelSummary:
    """Label the txt, md, jsonl and csv files of a folder, or one file; goes on where an earlier run stopped.

    What is a document and its privacy unit, and what is charged, is as for
    :func:`~dpfusion_core.documents.folder.privatize_folder`. Tables keep the columns that are named as public, with a
    column for each field; the labels of files of text stand in ``labels.csv``, the totals in ``totals.json``.

    Args:
        source: The folder, or a file.
        target: The output folder; made if need be.
        labeller: Labels one document.
        settings: What the labels depend on, by name, as values that JSON knows.
        **options: ``columns``, ``collection``, ``follow_symlinks`` and ``on_progress``, as there.

    Raises:
        DPFusionError: See there.
    """
    names = list(dict.fromkeys(".".join(each.path) for each in labeller.fields.closed))
    columns = options.get("columns") or Columns()
    clash = sorted({*names, "document"} & {*columns.keep})
    if clash:
        raise PrivacyParameterError(
            f"{clash[0]!r} is a kept column and a column of the labels. Rename it in one of them."
        )
    texts: list[dict[str, Any]] = []
    labels: list[Labels] = []

    def work(parts: Sequence[str], unit: str) -> Entry:
        return Entry([], labeller(parts, unit).as_dict())

    def written(name: str, content: Content, entries: Sequence[Entry]) -> dict[str, str]:
        rows = [_flat(entry.report["labels"]) for entry in entries]
        if suffix(name) in TEXTS:
            texts.extend({"document": name, **row} for row in rows)
            return {}
        header = [*(column for column in content.header if column in columns.keep), *names]
        kept = [document.row | row for document, row in zip(content.documents, rows, strict=True)]
        return {name: table(name, header, kept)}

    def last(entries: Sequence[Entry]) -> dict[str, str]:
        labels.extend(Labels(each.report["chosen"], each.report["weights"]) for each in entries)
        totals = [each.as_dict() for each in label_totals(labeller.fields, labels)]
        made = {TOTALS: json.dumps(totals, indent=2) + "\n"}
        return made | ({LABELS: table(LABELS, ["document", *names], texts)} if texts else {})

    run = Run(work, written, last, labeller.is_charged, (LABELS, TOTALS))
    summary = run_folder(source, target, run, settings=settings, **options)
    return LabelSummary(summary, label_totals(labeller.fields, labels))


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return an object's values by their names with dots; lists as their members with semicolons."""
    found: dict[str, Any] = {}
    for key, each in value.items():
        if isinstance(each, Mapping):
            found |= _flat(each, f"{before}{key}.")
        else:
            found[before + key] = "; ".join(map(str, each)) if isinstance(each, list) else each
    return found
