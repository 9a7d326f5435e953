"""Documents that travel beside the text of a message: artifacts, and what stands in its metadata."""

from collections.abc import Mapping
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage

from langchain_dpfusion.marked_messages import PLACEHOLDER, MessageT

_KEPT_OF_METADATA = ("source", "is_private")
_PLACES = ("additional_kwargs", "response_metadata")


def is_private_document(document: Document) -> bool:
    """Return whether a document is private: all are whose metadata do not say ``is_private: False``."""
    return document.metadata.get("is_private", True) is not False


def redacted_document(document: Document) -> Document:
    """Return a document as others may see it."""
    if not is_private_document(document):
        return document
    metadata = {key: document.metadata[key] for key in _KEPT_OF_METADATA if key in document.metadata}
    return Document(PLACEHOLDER, id=document.id, metadata=metadata)


def document_of(value: Mapping[Any, Any]) -> Document:
    """Return the document that a plain mapping with ``page_content`` stands for."""
    metadata = value.get("metadata")
    return Document(
        str(value["page_content"]),
        id=None if value.get("id") is None else str(value["id"]),
        metadata=dict(metadata) if isinstance(metadata, Mapping) else {},
    )


def without_documents(message: MessageT) -> MessageT:
    """Return a message without its artifact and with private documents in its metadata redacted.

    No model reads either; callbacks and traces would. A message with neither is returned as it is.
    """
    update: dict[str, Any] = {}
    if getattr(message, "artifact", None) is not None:
        update["artifact"] = None
    for place in _PLACES:
        before = getattr(message, place)
        after = redact_documents(before)
        if after is not before:
            update[place] = after
    return message.model_copy(update=update) if update else message


def redact_documents(value: Any) -> Any:
    """Return a value whose private documents are redacted; the value itself if there are none in it."""
    if isinstance(value, Document):
        return redacted_document(value)
    if isinstance(value, BaseMessage):  # a message within a message: nobody has said what it is
        return PLACEHOLDER
    if isinstance(value, Mapping):
        if "page_content" in value:
            document = document_of(value)
            shown = redacted_document(document)
            return value if shown is document else shown.model_dump()
        after = {key: redact_documents(each) for key, each in value.items()}
        return after if any(after[key] is not value[key] for key in after) else value
    if isinstance(value, list | tuple | set | frozenset):
        items = [redact_documents(each) for each in value]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value
