"""``SealedNode``: a node whose text an LLM gets with marks around it, and everybody else without."""

from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import TextBlock
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    MetadataMode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    RelatedNodeType,
    TextNode,
)

from dpfusion_core.errors import UnsupportedError, ViewError
from llamaindex_dpfusion.prompts.net import remember
from llamaindex_dpfusion.seals.marks import LIKE, Tag
from llamaindex_dpfusion.seals.parts import Seal
from llamaindex_dpfusion.seals.sealer import sealer


@dataclass(frozen=True)
class Cover:
    """Says that a node was taken by its own score, in which retrieval, and how many were."""

    retrieval: str
    count: int


class SealedNode(TextNode):
    """A node whose text an LLM gets with marks around it, and everybody else without.

    It is sealed anew whenever that is needed: after its text was changed, in another process. Its unit
    stays what it was.
    """

    _source: str = PrivateAttr(default="")
    _seal: Seal | None = PrivateAttr(default=None)
    _handle: str = PrivateAttr(default="")
    _cover: Cover | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, node: BaseNode, unit: str | None, tag: Tag, *, vault: bool) -> "SealedNode":
        """Seal a node.

        Args:
            node: The node.
            unit: Its privacy unit; None says that it is public.
            tag: What else is known of the unit.
            vault: Whether everybody but the model sees a handle in place of text and metadata.

        Raises:
            UnsupportedError: If it holds something else than text.
            ViewError: If a handle stands in it beside other text.
        """
        _refuse_media(node)
        source = node.get_content(MetadataMode.LLM)
        seal = _known(source) or _sealed(source, unit, tag)
        if vault:
            related: dict[NodeRelationship, RelatedNodeType] = {}
            if node.source_node is not None:
                related[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=node.source_node.node_id)
            sealed = cls(id_=node.node_id, text=seal.handle, relationships=related)
            sealed._handle = seal.handle
        else:
            data = {name: getattr(node, name) for name in TextNode.model_fields if hasattr(node, name)}
            if not isinstance(node, TextNode):  # a Document, or a Node of several kinds of media
                data["text"] = node.get_content(MetadataMode.NONE)
            sealed = cls(**data)
        sealed._seal, sealed._source = seal, source
        return sealed

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come back with the text and unit that LlamaIndex's own way of unpickling leaves out."""
        super().__setstate__(state)
        for name, value in (state.get("__pydantic_private__") or {}).items():
            setattr(self, name, value)

    def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
        """Return the text; sealed, metadata and all, if it is meant for an LLM."""
        if metadata_mode != MetadataMode.LLM:
            return super().get_content(metadata_mode)
        seal = self._current()
        return seal.handle if self._handle else seal.text

    def get_content_blocks(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> list[Any]:
        """Return the text as blocks; as one sealed block if it is meant for an LLM."""
        if metadata_mode == MetadataMode.LLM:
            return [TextBlock(text=self.get_content(metadata_mode))]
        return super().get_content_blocks(metadata_mode)

    @property
    def cover(self) -> Cover | None:
        """How the node was taken, if its own score decided alone."""
        return self._cover

    def covered_by(self, cover: Cover) -> None:
        """Note how the node was taken."""
        self._cover = cover

    def reveal(self) -> str:
        """Return the text and metadata that the model sees, in vault mode too."""
        return self._current().content

    def in_vault(self) -> "SealedNode":
        """Return the node with a handle in place of text and metadata."""
        if self._handle:
            return self
        seal = self._current()
        return SealedNode.of(TextNode.model_validate(self.model_dump()), seal.unit, seal.tag, vault=True)

    def _current(self) -> Seal:
        """Return the seal of the text as it is now."""
        if self._seal is None:
            raise ViewError(
                "A sealed node was made without its postprocessor. Use DPFusionNodePostprocessor."
            )
        source = super().get_content(MetadataMode.LLM)
        if self._handle:
            source = self._source if source == self._handle else source
        if source != self._source:
            self._seal, self._source = _sealed(source, self._seal.unit, self._seal.tag), source
        elif not sealer.knows(self._seal):
            self._seal = _sealed(self._seal.content, self._seal.unit, self._seal.tag)
        return self._seal


def _sealed(text: str, unit: str | None, tag: Tag) -> Seal:
    seal = sealer.seal(text, unit, tag=tag, remember=True)
    if unit is not None:
        remember(seal.content, unit)
    return seal


def _known(text: str) -> Seal | None:
    """Return the seal of a text that is one sealed text and nothing else: its own unit stands.

    Raises:
        ViewError: If a handle stands beside other text: without it, the model would not see the document.
    """
    if not LIKE.search(text):
        return None
    pieces = list(sealer.pieces(text))
    seals = [piece for piece in pieces if isinstance(piece, Seal)]
    if len(pieces) == len(seals) == 1:
        return seals[0] if sealer.knows(seals[0]) else _sealed(seals[0].content, seals[0].unit, seals[0].tag)
    if any(seal.handle and sealer.knows(seal) for seal in seals):
        raise ViewError(
            "A node holds the handle of a sealed document beside other text. Seal nodes once and last: leave "
            "out the postprocessor or DPFusionSynthesizer behind a DPFusionRetriever, or retrieve without vault."
        )
    return None


def _refuse_media(node: BaseNode) -> None:
    if isinstance(node, ImageNode) or (
        isinstance(node, Node) and (node.image_resource or node.audio_resource or node.video_resource)
    ):
        raise UnsupportedError(
            "A retrieved node holds an image, sound or video, and the model reads text alone. Filter such "
            "nodes out before DPFusionNodePostprocessor, or index their captions as text."
        )
