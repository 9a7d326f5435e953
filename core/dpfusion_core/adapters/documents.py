"""Which privacy unit a retrieved document is: its stable source, for all its chunks."""

import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

SOURCE_KEYS = ("source", "file_path", "path", "url", "document_id", "doc_id", "parent_id", "parent_doc_id")
"""Where loaders and splitters write what a chunk was cut from, in the order in which they are asked."""


@dataclass(frozen=True)
class DocumentUnit:
    """The privacy unit of a document.

    Attributes:
        name: Its id; None for the unnamed unit.
        is_stable: Whether the name is known to be the same when the same document comes again, after a
            new index, too. A ledger only takes units that are.
    """

    name: str | None
    is_stable: bool


def document_unit(
    metadata: Mapping[str, Any],
    *,
    key: str | None = None,
    parent_id: str | None = None,
    own_id: str | None = None,
) -> DocumentUnit:
    """Return the privacy unit of a document or of a chunk of one.

    Args:
        metadata: The document's.
        key: The metadata key that the caller names; its word is taken for stable. Without it, the first
            of :data:`SOURCE_KEYS`.
        parent_id: What the framework says a chunk was cut from, if anything; stable unless it is random.
        own_id: The id of the chunk itself. An index draws it, so it is never known to be stable.

    Example:
        >>> document_unit({"source": "hr/cv-3.txt"}, own_id="5f1c")
        DocumentUnit(name='hr/cv-3.txt', is_stable=True)
        >>> document_unit({}, own_id="5f1c")
        DocumentUnit(name='5f1c', is_stable=False)
    """
    if key is not None and (name := _name(metadata.get(key))) is not None:
        return DocumentUnit(name, is_stable=True)
    candidates = [_name(metadata.get(k)) for k in SOURCE_KEYS] if key is None else []
    names = [name for name in (*candidates, _name(parent_id)) if name is not None]
    for name in names:
        if not _is_random(name):
            return DocumentUnit(name, is_stable=True)
    return DocumentUnit(names[0] if names else _name(own_id), is_stable=False)


@cache
def warn_unstable(mend: str) -> None:
    """Warn, once in this process, that a unit's name may change; ``mend`` says what helps."""
    warnings.warn(
        "A document's privacy unit is named by an id that an index may draw anew, so one document could come "
        f"back as another unit. {mend}",
        stacklevel=2,
    )


def _name(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if text.strip() else None


def _is_random(name: str) -> bool:
    """Return whether a name is an id that was drawn at random or from a clock."""
    try:
        return uuid.UUID(name).version in (1, 4, 6, 7)
    except ValueError:
        return False
