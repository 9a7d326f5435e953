"""``DPFusionNodePostprocessor`` and ``DPFusionRetriever``: every document becomes a privacy unit of its own."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from llama_index.core.base.llms.types import TextBlock
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    MetadataMode,
    Node,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    RelatedNodeType,
    TextNode,
)

from dpfusion_core.errors import UnsupportedError
from dpfusion_core.messages import DEFAULT_UNIT
from llamaindex_dpfusion.sealing import Seal, sealer
from llamaindex_dpfusion.tracing import bare, untraced

UnitOf = Literal["document", "node"] | Callable[[BaseNode], str]
"""Which privacy unit a node belongs to: its document's, one of its own, or what a function names."""


class SealedNode(TextNode):
    """A node whose text an LLM gets with marks around it, and everybody else without."""

    _shown: str = PrivateAttr(default="")

    def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
        """Return the text; sealed, metadata and all, if it is meant for an LLM."""
        return self._shown if metadata_mode == MetadataMode.LLM else super().get_content(metadata_mode)

    def get_content_blocks(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> list[Any]:
        """Return the text as blocks; as one sealed block if it is meant for an LLM."""
        if metadata_mode == MetadataMode.LLM:
            return [TextBlock(text=self._shown)]
        return super().get_content_blocks(metadata_mode)

    def reveal(self) -> str:
        """Return the text and metadata that the model sees, in vault mode too.

        Raises:
            ViewError: If the process has forgotten it since.
        """
        return "".join(segment.text for segment in sealer.read(self._shown, is_private=True))


class DPFusionNodePostprocessor(BaseNodePostprocessor):
    """Gives every retrieved document a privacy unit of its own; put it last in ``node_postprocessors``.

    The text that goes to the LLM, metadata included, is sealed with marks that no document can forge.
    ``response.source_nodes``, embeddings and storage see the nodes as they are.

    Args:
        unit: ``"document"``: nodes of one document share a unit, named by ``ref_doc_id``, or by the node's
            id if it has none. ``"node"``: each node is a unit. A function of the node names the unit; the
            name is public.
        public: Says of a node that it is public. By default none is.
        vault: Whether everybody but the model sees a short handle in place of text and metadata:
            ``response.source_nodes``, events and traces hold no text. :meth:`SealedNode.reveal` gives it.
            Splitters see short texts, so everything goes into one prompt; a view shows one document at a
            time, so only the longest must fit. The retriever's own event comes before: see
            :class:`DPFusionRetriever`.

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

    @untraced
    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return [NodeWithScore(node=self._sealed(node.node), score=node.score) for node in nodes]

    @untraced
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return self._postprocess_nodes(nodes, query_bundle)

    def _sealed(self, node: BaseNode) -> SealedNode:
        seal = self._seal(node)
        if self.vault:
            source = node.source_node
            kept: dict[NodeRelationship, RelatedNodeType] = {}
            if source is not None:
                kept[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=source.node_id)
            sealed = SealedNode(id_=node.node_id, text=seal.handle, relationships=kept)
            sealed._shown = seal.handle
            return sealed
        data = {name: getattr(node, name) for name in TextNode.model_fields if hasattr(node, name)}
        if not isinstance(node, TextNode):  # a Document, or a Node of several kinds of media
            data["text"] = node.get_content(MetadataMode.NONE)
        sealed = SealedNode(**data)
        sealed._shown = seal.text
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


class DPFusionRetriever(BaseRetriever):
    """A retriever whose nodes are sealed before any event tells of them.

    Use it in place of the postprocessor where events and traces may hold no text at all.

    Args:
        retriever: Finds the nodes.
        sealing: How they are sealed; in vault mode by default.
    """

    def __init__(
        self, retriever: BaseRetriever, sealing: DPFusionNodePostprocessor | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._inner = retriever
        self._sealing = sealing or DPFusionNodePostprocessor(vault=True)

    @untraced
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        retrieve = bare(self._inner._retrieve)
        return self._sealing.postprocess_nodes(retrieve(query_bundle))

    @untraced
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if type(self._inner)._aretrieve is BaseRetriever._aretrieve:  # it would call the traced method
            return await asyncio.to_thread(self._retrieve, query_bundle)
        retrieve = bare(self._inner._aretrieve)
        return self._sealing.postprocess_nodes(await retrieve(query_bundle))
