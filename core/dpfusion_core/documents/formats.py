"""The files that a run over a folder reads and writes."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as

TEXTS = (".txt", ".md")
TABLES = (".jsonl", ".csv")


@dataclass(frozen=True)
class Columns:
    """What happens to the columns of tables. What is not named is left out.

    Attributes:
        private: Columns whose texts are privatised.
        keep: Columns that are copied as they are: the caller says that they are public.
    """

    private: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if set(self.private) & set(self.keep):
            raise PrivacyParameterError("A column is either privatised or kept as it is, not both.")


@dataclass(frozen=True)
class Document:
    """A document in a file: a file of text, or a row of a table.

    Attributes:
        name: Path in the input folder, with the number of the row. It is the document's privacy unit.
        parts: The texts to privatise.
        row: What is kept of a row as it is.
    """

    name: str
    parts: tuple[str, ...] = field(repr=False)
    row: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Content:
    """The documents of a file; of a table, the columns of its output in their order."""

    documents: tuple[Document, ...] = field(repr=False)
    header: tuple[str, ...] = ()


def read(path: Path, name: str, columns: Columns) -> Content:
    """Read the documents of a file.

    Args:
        path: The file.
        name: Its name in the run, the path in the input folder.
        columns: For tables.

    Raises:
        ViewError: If the file is not text in UTF-8, or a table is malformed.
        PrivacyParameterError: If a table has none of the columns.
    """
    text = _text(path, name)
    if path.suffix.lower() in TEXTS:
        return Content((Document(name, (text,)),))
    if not columns.private:
        raise PrivacyParameterError(f"{name} is a table: say which columns hold private text (--columns).")
    rows = _csv(text, name) if path.suffix.lower() == ".csv" else _jsonl(text, name)
    known = {column for row in rows for column in row}
    missing = [column for column in (*columns.private, *columns.keep) if rows and column not in known]
    if missing:
        raise PrivacyParameterError(f"{name} has no column {missing[0]!r}.")
    order = {column: None for row in rows for column in row if column in {*columns.private, *columns.keep}}
    return Content(
        tuple(
            Document(
                f"{name}#{number}",
                tuple(_cell(row, column, name, number) for column in columns.private),
                {column: row[column] for column in columns.keep if column in row},
            )
            for number, row in enumerate(rows, start=1)
        ),
        tuple(order),
    )


def write(path: Path, content: Content, texts: Sequence[Sequence[str]], columns: Columns) -> str:
    """Return what stands in the output file.

    Args:
        path: The file; its suffix says in which format.
        content: What was read.
        texts: The parts of each document, privatised.
        columns: For tables.
    """
    if path.suffix.lower() in TEXTS:
        return texts[0][0]
    rows = []
    for document, parts in zip(content.documents, texts, strict=True):
        cells = dict(zip(columns.private, parts, strict=True)) | document.row
        rows.append({column: cells[column] for column in content.header if column in cells})
    if path.suffix.lower() == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, content.header)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _text(path: Path, name: str) -> str:
    with errors_as(ViewError, f"{name} is not a text in UTF-8.", only=UnicodeError):
        return path.read_bytes().decode("utf-8")


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
