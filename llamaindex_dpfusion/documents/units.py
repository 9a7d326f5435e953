"""Whose privacy unit a node is, and whether the name of the unit lasts."""

from collections.abc import Callable

from llama_index.core.schema import BaseNode

from dpfusion_core.adapters import DocumentUnit, document_unit
from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as

UnitOf = str | Callable[[BaseNode], str | None]
"""Which privacy unit a node belongs to.

``"document"``: its document's. ``"node"``: one of its own. Another string: what the metadata say under this
key. A function: what it names.
"""

STABLE_MEND = (
    "Name it by something that stays: SimpleDirectoryReader(..., filename_as_id=True), doc_id=... of a Document, "
    'or DPFusionNodePostprocessor(unit="file_path") with the metadata key that says where it came from.'
)
"""What to do where an index draws ids anew."""


def check_unit(unit: object) -> None:
    """Raise ``PrivacyParameterError`` unless this can say whose unit a node is."""
    if not callable(unit) and not (isinstance(unit, str) and unit):
        raise PrivacyParameterError(
            'Expected unit to be "document", "node", the name of a metadata key, or a function of a node.'
        )


def unit_of_node(node: BaseNode, unit: UnitOf) -> DocumentUnit:
    """Return the privacy unit of a node.

    Args:
        node: The node, or a whole document.
        unit: What names it. Of what the caller names itself, the caller says that it lasts.

    Raises:
        ViewError: If the metadata say nothing under the key that was named.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> unit_of_node(TextNode(text="Ann is ill.", metadata={"file_path": "cv-3.txt"}), "document")
        DocumentUnit(name='cv-3.txt', is_stable=True)
    """
    if callable(unit):
        with errors_as(ViewError, "The function that names a node's privacy unit failed ({error})."):
            name = unit(node)
        return DocumentUnit(name if isinstance(name, str) and name.strip() else None, is_stable=True)
    if unit == "node":
        return document_unit({}, parent_id=node.node_id)
    if unit != "document" and not str(node.metadata.get(unit) or "").strip():
        raise ViewError(
            f"A node has no metadata {unit!r} to name its privacy unit by. Give it to all documents, or name the "
            "unit by another key, or by a function of the node."
        )
    return document_unit(
        node.metadata,
        key=None if unit == "document" else unit,
        # A document is no chunk of anything, so its id is not drawn by an index but by who made it.
        parent_id=node.ref_doc_id or (node.node_id if node.class_name() == "Document" else None),
        own_id=node.node_id,
    )
