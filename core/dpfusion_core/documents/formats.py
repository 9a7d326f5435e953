"""The files that a run over a folder reads and writes."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpfusion_core.documents.files import read_bytes
from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as

TEXTS = (".txt", ".md")
TABLES = (".jsonl", ".csv")


@dataclass(frozen=True)
class Columns:
    """What happens to the columns of tables. What is not named is left out.

    Attributes:
        private: Columns whose texts are privatised.
        keep: Columns that are copied as they are: the caller says that they are public.
        id: The column that says whose a row is; its values are public, for they stand in the names of
            privacy units. Rows of one id are one unit.
    """

    private: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    id: str | None = None

    def __post_init__(self) -> None:
        if self.id is not None and self.id in self.private:
            raise PrivacyParameterError(
                f"Column {self.id!r} cannot be the id and private: ids stand in errors and accounts."
            )
        if set(self.private) & set(self.keep):
            raise PrivacyParameterError("A column is either privatised or kept as it is, not both.")


@dataclass(frozen=True)
class Document:
    """A document in a file: a file of text, or a row of a table.

    Attributes:
        name: Path in the input folder, with the number of the row: for reports.
        key: The same with the row's id, if it has one: for the journal, as rows may be inserted.
        unit: Its privacy unit.
        parts: The texts to privatise.
        row: What is kept of a row as it is.
    """

    name: str
    key: str
    unit: str
    parts: tuple[str, ...] = field(repr=False)
    row: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Content:
    """The documents of a file; of a table, the columns of its output in their order."""

    documents: tuple[Document, ...] = field(repr=False)
    header: tuple[str, ...] = ()


def suffix(name: str) -> str:
    """Return what says which kind of file it is."""
    return Path(name).suffix.lower()


def read(path: Path, name: str, unit: str, columns: Columns) -> Content:
    """Read the documents of a file.

    Args:
        path: The file.
        name: Its name in the run, the path in the input folder.
        unit: Its privacy unit; rows have it as a prefix.
        columns: For tables.

    Raises:
        ViewError: If the file is not text in UTF-8, or a table is malformed.
        PrivacyParameterError: If a table has none of the columns.
    """
    text = _text(path, name)
    if suffix(name) in TEXTS:
        return Content((Document(name, name, unit, (text,)),))
    if not columns.private:
        raise PrivacyParameterError(f"{name} is a table: say which columns hold private text (--columns).")
    rows = _csv(text, name) if suffix(name) == ".csv" else _jsonl(text, name)
    known = {column for row in rows for column in row}
    asked = [*columns.private, *columns.keep, *([] if columns.id is None else [columns.id])]
    missing = [column for column in asked if rows and column not in known]
    if missing:
        raise PrivacyParameterError(f"{name} has no column {missing[0]!r}.")
    order = {column: None for row in rows for column in row if column in {*columns.private, *columns.keep}}
    keys: set[str] = set()
    return Content(
        tuple(
            Document(
                f"{name}#{number}",
                _new(f"{name}#{_id(row, columns, name, number)}", keys),
                f"{unit}#{_id(row, columns, name, number)}",
                tuple(_cell(row, column, name, number) for column in columns.private),
                {column: row[column] for column in columns.keep if column in row},
            )
            for number, row in enumerate(rows, start=1)
        ),
        tuple(order),
    )


def write(name: str, content: Content, texts: Sequence[Sequence[str]], columns: Columns) -> str:
    """Return what stands in the output file.

    Args:
        name: Name of the file; its suffix says in which format.
        content: What was read.
        texts: The parts of each document, privatised.
        columns: For tables.
    """
    if suffix(name) in TEXTS:
        return texts[0][0]
    rows = [
        dict(zip(columns.private, parts, strict=True)) | document.row
        for document, parts in zip(content.documents, texts, strict=True)
    ]
    return table(name, content.header, rows)


def table(name: str, header: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what stands in the file of a table; its suffix says in which format.

    Args:
        name: Name of the file.
        header: The columns in their order; others are left out.
        rows: The rows, by column.
    """
    if suffix(name) == ".jsonl":
        kept = ({column: row[column] for column in header if column in row} for row in rows)
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, header, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _text(path: Path, name: str) -> str:
    with errors_as(ViewError, f"{name} is not a text in UTF-8.", only=UnicodeError):
        return read_bytes(path, name).decode("utf-8")


def _csv(text: str, name: str) -> list[dict[str, Any]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    try:
        reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
        rows = list(reader)
    except csv.Error:
        rows = [{None: None}]
    if any(None in row or None in row.values() for row in rows):
        raise ViewError(f"{name} is not a CSV table whose rows have as many cells as its header.")
    return rows


def _jsonl(text: str, name: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            refusal = f"Line {number} of {name} is not a JSON object."
            with errors_as(ViewError, refusal):
                row = json.loads(line)
            if not isinstance(row, dict):
                raise ViewError(refusal)
            rows.append(row)
    return rows


def _cell(row: dict[str, Any], column: str, name: str, number: int) -> str:
    value = row.get(column, "")
    if not isinstance(value, str):
        raise ViewError(f"Column {column!r} of row {number} of {name} is not a text.")
    return value


def _id(row: dict[str, Any], columns: Columns, name: str, number: int) -> str:
    """Return what a row is known by: what stands in the column for it, else its number."""
    if columns.id is None:
        return str(number)
    value = row.get(columns.id)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise ViewError(f"Row {number} of {name} has no id: {columns.id!r} must be a text or a whole number.")
    return str(value)


def _new(key: str, keys: set[str]) -> str:
    """Return a key that no row before has had, and note it: rows may share an id."""
    made, count = key, 1
    while made in keys:
        count += 1
        made = f"{key} ({count})"
    keys.add(made)
    return made
