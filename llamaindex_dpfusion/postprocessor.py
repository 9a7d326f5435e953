"""``DPFusionNodePostprocessor``: every retrieved document becomes a privacy unit of its own."""

from collections.abc import Callable
from typing import Any, Literal

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)

from dpfusion_core.errors import UnsupportedError
from dpfusion_core.messages import DEFAULT_UNIT
from llamaindex_dpfusion.sealing import Seal, sealer

UnitOf = Literal["document", "node"] | Callable[[BaseNode], str]
"""Which privacy unit a node belongs to: its document's, one of its own, or what a function names."""


class SealedNode(TextNode):
    """A node whose text an LLM gets with marks around it, and everybody else without."""

    _shown: str = PrivateAttr(default="")

    def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
        """Return the text; sealed, metadata and all, if it is meant for an LLM."""
        return self._shown if metadata_mode == MetadataMode.LLM else super().get_content(metadata_mode)


class DPFusionNodePostprocessor(BaseNodePostprocessor):
    """Gives every retrieved document a privacy unit of its own; put it last in ``node_postprocessors``.

    The text that goes to the LLM, metadata included, is sealed with marks that no document can forge.
    ``response.source_nodes``, embeddings and storage see the nodes as they are.

    Args:
        unit: ``"document"``: nodes of one document share a unit, named by ``ref_doc_id``, or by the node's
            id if it has none. ``"node"``: each node is a unit. A function of the node names the unit; the
            name is public.
        public: Says of a node that it is public. By default none is.
        vault: Whether LlamaIndex sees a short handle only, in place of the text, so that the text stays out
            of the events and traces of prompts. Splitters then see short texts: everything goes into
            one prompt.

    Example:
        >>> nodes = [NodeWithScore(node=TextNode(text="Ann lives in Oslo.", id_="ann"))]
        >>> sealed = DPFusionNodePostprocessor().postprocess_nodes(nodes)
        >>> sealed[0].node.text
        'Ann lives in Oslo.'
        >>> sealed[0].node.get_content(MetadataMode.LLM).startswith("[[dpf:")
        True
    """

    unit: UnitOf = Field(default="document", exclude=True)
    public: Callable[[BaseNode], bool] | None = Field(default=None, exclude=True)
    vault: bool = False

    def __init__(self, unit: UnitOf = "document", **kwargs: Any) -> None:
        super().__init__(**{"unit": unit, **kwargs})

    @classmethod
    def class_name(cls) -> str:
        """Name of the class in serialised settings."""
        return "DPFusionNodePostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return [NodeWithScore(node=self._sealed(node.node), score=node.score) for node in nodes]

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return self._postprocess_nodes(nodes, query_bundle)

    def _sealed(self, node: BaseNode) -> SealedNode:
        seal = self._seal(node)
        data = {name: getattr(node, name) for name in TextNode.model_fields if hasattr(node, name)}
        if not isinstance(node, TextNode):  # a Document, or a Node of several kinds of media
            data["text"] = node.get_content(MetadataMode.NONE)
        sealed = SealedNode(**data)
        sealed._shown = seal.handle if self.vault else seal.text
        return sealed

    def _seal(self, node: BaseNode) -> Seal:
        if isinstance(node, ImageNode) or (
            isinstance(node, Node) and (node.image_resource or node.audio_resource or node.video_resource)
        ):
            raise UnsupportedError(
                "A retrieved node holds an image, sound or video, and the model reads text alone. Filter such "
                "nodes out before DPFusionNodePostprocessor, or index their captions as text."
            )
        is_public = self.public is not None and self.public(node) is True
        content = node.get_content(MetadataMode.LLM)
        return sealer.seal(content, None if is_public else self._unit_of(node), remember=True)

    def _unit_of(self, node: BaseNode) -> str:
        if callable(self.unit):
            name = self.unit(node)
            return name if isinstance(name, str) and name else DEFAULT_UNIT
        document = node.ref_doc_id if self.unit == "document" else None
        return document or node.node_id or DEFAULT_UNIT
