"""A run over a folder, which goes on where it stopped."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

from dpfusion_core.documents.files import check_outputs, find_files, replace_file
from dpfusion_core.documents.formats import TABLES, TEXTS, Columns, Content, Document, read, suffix, write
from dpfusion_core.documents.journal import FILE, Entry, Journal
from dpfusion_core.documents.privatizer import Privatizer
from dpfusion_core.errors import DPFusionError, PrivacyParameterError
from dpfusion_core.units import unit_id

REPORT = "report.jsonl"


@dataclass
class RunSummary:
    """What a run has done.

    Attributes:
        done: Documents that it privatised.
        known: Documents that an earlier run had privatised already; nothing was charged for them.
        failed: What went wrong, by document or file; never with text.
        skipped: What is not in the output and why, by file: other kinds of files, symbolic links, pipes.
    """

    done: int = 0
    known: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


class SourceOptions(TypedDict, total=False):
    """How a run reads its input; see :func:`privatize_folder`."""

    columns: Columns | None
    collection: str | None
    follow_symlinks: bool
    on_progress: Callable[[int, int], None]


@dataclass(frozen=True)
class Run:
    """What a run does with documents.

    Attributes:
        work: Does one document, from its parts and its privacy unit.
        written: Returns the output files, by name, of an input file whose documents are all done.
        last: Returns the output files, by name, of all documents that are done.
        is_charged: Whether a ledger is charged for each document.
        own: Names of files in the output that are the run's own.
    """

    work: Callable[[Sequence[str], str], Entry]
    written: Callable[[str, Content, Sequence[Entry]], dict[str, str]]
    last: Callable[[Sequence[Entry]], dict[str, str]] = lambda entries: {}
    is_charged: bool = False
    own: tuple[str, ...] = ()


def privatize_folder(
    source: Path,
    target: Path,
    privatizer: Privatizer,
    *,
    settings: Mapping[str, Any],
    columns: Columns | None = None,
    collection: str | None = None,
    follow_symlinks: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> RunSummary:
    """Privatise the txt, md, jsonl and csv files of a folder, or one file.

    A document is a file of text, or a row of a table. Its privacy unit is where the file lies on this
    machine, all links resolved: ``/data/hr/notes/17.txt``, from whatever folder and by whatever path the run
    was started. With a collection it is that name and the path in the input folder, ``hr/notes/17.txt``,
    which stays when the folder moves. Rows have their id behind it, ``/data/hr/visits.csv#4711``, or their
    number; a number changes when a row is inserted, so a ledger wants an id.

    A run that was interrupted goes on where it stopped; a document that is in the output is not charged
    again, unless it has changed. A document that fails does not stop the others; a file appears in the
    output once all of its documents are done.

    Args:
        source: The folder, or a file.
        target: The output folder; made if need be. It also holds ``report.jsonl``, a line without private
            text for each document, and a journal, which is for the curator.
        privatizer: Does one document.
        settings: What the outputs depend on, by name, as values that JSON knows: a folder holds outputs
            of the same settings only.
        columns: For tables.
        collection: Name of the input folder in the ids of privacy units, in the place of its path.
        follow_symlinks: Whether links in the input folder are followed. They may lead anywhere.
        on_progress: Called with the number of documents that are done, and of all.

    Returns:
        What was done.

    Raises:
        PrivacyParameterError: If there is nothing to read, source and target overlap, the target holds
            outputs of other settings, or a ledger is to be charged for rows without ids.
        UnsupportedError: If another run is using the target, or a link leads out of it.
    """

    def work(parts: Sequence[str], unit: str) -> Entry:
        texts, report = privatizer(parts, unit)
        return Entry(texts, report.as_dict())

    def written(name: str, content: Content, entries: Sequence[Entry]) -> dict[str, str]:
        return {name: write(name, content, [entry.texts for entry in entries], columns or Columns())}

    return run_folder(
        source,
        target,
        Run(work, written, is_charged=privatizer.is_charged),
        settings=settings,
        columns=columns,
        collection=collection,
        follow_symlinks=follow_symlinks,
        on_progress=on_progress,
    )


def run_folder(
    source: Path, target: Path, run: Run, *, settings: Mapping[str, Any], **options: Unpack[SourceOptions]
) -> RunSummary:
    """Do what a run does with each document of a folder; for errors see :func:`privatize_folder`.

    Args:
        source: The folder, or a file.
        target: The output folder; made if need be.
        run: What is done with a document.
        settings: What the outputs depend on.
        **options: How the input is read, as there.
    """
    columns = options.get("columns") or Columns()
    collection, follow_symlinks = options.get("collection"), options.get("follow_symlinks", False)
    on_progress: Callable[[int, int], None] = options.get("on_progress", lambda done, total: None)
    found = find_files(source, target, follow_symlinks=follow_symlinks)
    files, summary = found.files, RunSummary(skipped=dict(found.left_out))
    if columns.id is None and run.is_charged and any(suffix(name) in TABLES for name in files):
        raise PrivacyParameterError(
            "The ledger keeps an account for each row of a table, and the number of a row changes when one is "
            "inserted. Name the column that says whose a row is (--id), or leave out the ledger."
        )
    own = {REPORT, *run.own}
    contents: dict[str, Content] = {}
    for name, path in files.items():
        if name in own:
            summary.failed[name] = (
                f"Its output would be the report of the run. Give the file another name than {name}."
            )
        elif suffix(name) not in (*TEXTS, *TABLES):
            summary.skipped[name] = "neither txt, md, jsonl nor csv"
        else:
            unit = path.as_posix() if collection is None else f"{unit_id(collection)}/{name}"
            try:
                contents[name] = read(path, name, unit, columns)
            except (DPFusionError, OSError) as error:
                summary.failed[name] = _reason(error)
    total = sum(len(content.documents) for content in contents.values())
    target.mkdir(parents=True, exist_ok=True)
    check_outputs(target, [*contents, *own, FILE])
    asked = {**settings, "columns": list(columns.private), "keep": list(columns.keep)}
    asked |= {} if columns.id is None else {"id": columns.id}
    with closing(Journal(target, asked)) as journal:
        lines: list[dict[str, Any]] = []
        done: list[Entry] = []
        count = 0
        for name, content in contents.items():
            entries = []
            for document in content.documents:
                entry = _one(document, journal, run, summary)
                count += 1
                on_progress(count, total)
                if entry is not None:
                    entries.append(entry)
                    lines.append({"document": document.name, **entry.report})
            done += entries
            if len(entries) == len(content.documents):
                _replace(target, run.written(name, content, entries))
        _replace(target, run.last(done))
        lines += [{"document": name, "error": reason} for name, reason in summary.failed.items()]
        lines += [{"document": name, "left out": reason} for name, reason in summary.skipped.items()]
        replace_file(target, REPORT, "".join(json.dumps(line) + "\n" for line in lines))
    return summary


def _replace(target: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        replace_file(target, name, text)


def _one(document: Document, journal: Journal, run: Run, summary: RunSummary) -> Entry | None:
    """Return a document from the journal, or do it and enter it there."""
    known = journal.find(document.key, document.parts)
    if known is not None:
        summary.known += 1
        return known
    try:
        entry = run.work(document.parts, document.unit)
    except DPFusionError as error:
        summary.failed[document.name] = _reason(error)
        return None
    journal.enter(document.key, document.parts, entry)
    summary.done += 1
    return entry


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror}"
    return f"{type(error).__name__}: {error}"
