"""A run over a folder, which goes on where it stopped."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpfusion_core.documents.formats import TABLES, TEXTS, Columns, Content, Document, read, write
from dpfusion_core.documents.journal import Entry, Journal
from dpfusion_core.documents.levels import Privatizer
from dpfusion_core.errors import DPFusionError, PrivacyParameterError

REPORT = "report.jsonl"


@dataclass
class RunSummary:
    """What a run has done.

    Attributes:
        done: Documents that it privatised.
        known: Documents that an earlier run had privatised already; nothing was charged for them.
        failed: What went wrong, by document or file; never with text.
        skipped: Files of other kinds, which are not in the output.
    """

    done: int = 0
    known: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def privatize_folder(
    source: Path,
    target: Path,
    privatizer: Privatizer,
    *,
    settings: Mapping[str, Any],
    columns: Columns | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> RunSummary:
    """Privatise the txt, md, jsonl and csv files of a folder, or one file.

    A document is a file of text, or a row of a table. Its privacy unit is its path in the folder, with the
    number of the row: ``notes/17.txt``, ``visits.csv#3``. A run that was interrupted goes on where it
    stopped; a document that is in the output is not charged again, unless it has changed. A document that
    fails does not stop the others; a file appears in the output once all of its documents are done.

    Args:
        source: The folder, or a file.
        target: The output folder; made if need be. It also holds ``report.jsonl``, a line without private
            text for each document, and a journal, which is for the curator.
        privatizer: Does one document.
        settings: What the outputs depend on, by name, as values that JSON knows: a folder holds outputs
            of the same settings only.
        columns: For tables.
        on_progress: Called with the number of documents that are done, and of all.

    Returns:
        What was done.

    Raises:
        PrivacyParameterError: If there is nothing to read, source and target overlap, or the target holds
            outputs of other settings.
        UnsupportedError: If another run is using the target.
    """
    columns = columns or Columns()
    files, summary = _files(source, target), RunSummary()
    contents: dict[str, Content] = {}
    for name, path in files.items():
        if path.suffix.lower() not in (*TEXTS, *TABLES):
            summary.skipped.append(name)
            continue
        try:
            contents[name] = read(path, name, columns)
        except (DPFusionError, OSError) as error:
            summary.failed[name] = _reason(error)
    total = sum(len(content.documents) for content in contents.values())
    target.mkdir(parents=True, exist_ok=True)
    asked = {**settings, "columns": list(columns.private), "keep": list(columns.keep)}
    with closing(Journal(target, asked)) as journal:
        lines: list[dict[str, Any]] = []
        count = 0
        for name, content in contents.items():
            entries = []
            for document in content.documents:
                entry = _one(document, journal, privatizer, summary)
                count += 1
                on_progress(count, total)
                if entry is not None:
                    entries.append(entry)
                    lines.append({"document": document.name, **entry.report})
            if len(entries) == len(content.documents):
                texts = [entry.texts for entry in entries]
                _replace(target / name, write(files[name], content, texts, columns))
        lines += [{"document": name, "error": reason} for name, reason in summary.failed.items()]
        _replace(target / REPORT, "".join(json.dumps(line) + "\n" for line in lines))
    return summary


def _one(document: Document, journal: Journal, privatizer: Privatizer, summary: RunSummary) -> Entry | None:
    """Return a document from the journal, or privatise it and enter it there."""
    known = journal.find(document.name, document.parts)
    if known is not None:
        summary.known += 1
        return known
    try:
        texts, report = privatizer(document.parts, document.name)
    except DPFusionError as error:
        summary.failed[document.name] = _reason(error)
        return None
    entry = Entry(texts, report.as_dict())
    journal.enter(document.name, document.parts, entry)
    summary.done += 1
    return entry


def _files(source: Path, target: Path) -> dict[str, Path]:
    """Return the files to read, by their path in the folder; hidden ones are left out."""
    inside, outside = source.resolve(), target.resolve()
    if not inside.exists():
        raise PrivacyParameterError(f"There is no {source}.")
    if inside.is_file():
        if outside == inside or outside == inside.parent:
            raise PrivacyParameterError("The output folder must not be the one that the input is in.")
        return {source.name: source}
    if outside.is_relative_to(inside) or inside.is_relative_to(outside):
        raise PrivacyParameterError("Input and output must be two folders, neither of them in the other.")
    found = {path.relative_to(source).as_posix(): path for path in _walk(source)}
    if not found:
        raise PrivacyParameterError(f"There is no file in {source}.")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        elif path.is_file():
            yield path


def _replace(path: Path, text: str) -> None:
    """Write a file so that it is there with its whole content or not at all."""
    data = text.encode("utf-8")
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror}"
    return f"{type(error).__name__}: {error}"
