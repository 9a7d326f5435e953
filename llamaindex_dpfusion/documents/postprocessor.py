"""``DPFusionNodePostprocessor`` and ``DPFusionRetriever``: every document becomes a privacy unit of its own."""

import asyncio
from collections.abc import Callable
from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle

from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as
from dpfusion_core.messages import DEFAULT_UNIT
from dpfusion_core.options import canonical
from llamaindex_dpfusion.answers.events import bare, untraced
from llamaindex_dpfusion.documents.nodes import SealedNode
from llamaindex_dpfusion.documents.units import UnitOf, check_unit, unit_of_node
from llamaindex_dpfusion.options import check_type, checked_fields, named_as
from llamaindex_dpfusion.seals.marks import Tag


class DPFusionNodePostprocessor(BaseNodePostprocessor):
    """Gives every retrieved document a privacy unit of its own; put it last in ``node_postprocessors``.

    The text that goes to the LLM, metadata included, is sealed with marks that no document can forge.
    ``response.source_nodes``, embeddings and storage see the nodes as they are.

    Args:
        unit: ``"document"``: nodes of one document share a unit, named by where it came from: its ``source``
            or ``file_path``, or else its ``ref_doc_id``. ``"node"``: each node is a unit, named by its id.
            Another string is the metadata key that names the unit; a function of the node names it, too.
            Names are public. A ledger takes no name that an index may draw anew.
        public: Says of a node that it is public. By default none is.
        vault: Whether everybody but the model sees a short handle in place of text and metadata:
            ``response.source_nodes``, events and traces hold no text. ``node.reveal()`` gives it.
            Splitters see short texts, so everything goes into one prompt; a view shows one document at a
            time, so only the longest must fit. The retriever's own event comes before: see
            :class:`DPFusionRetriever`.

    Nodes that are sealed already keep the unit that they have.

    Raises:
        PrivacyParameterError: If an option is unknown, or ``unit`` or ``public`` is none of those.

    Example:
        >>> from llama_index.core.schema import MetadataMode, TextNode
        >>> nodes = [NodeWithScore(node=TextNode(text="Ann lives in Oslo.", id_="ann"))]
        >>> sealed = DPFusionNodePostprocessor().postprocess_nodes(nodes)
        >>> sealed[0].node.text
        'Ann lives in Oslo.'
        >>> sealed[0].node.get_content(MetadataMode.LLM).startswith("[[dpf:")
        True
    """

    unit: UnitOf = Field(default="document", exclude=True)
    public: Callable[[BaseNode], bool] | None = Field(default=None, exclude=True)
    vault: bool = Field(default=False, strict=True)

    def __init__(self, unit: UnitOf = "document", **kwargs: Any) -> None:
        owner = type(self).__name__
        options = canonical(kwargs, type(self).model_fields.keys() - {"unit"}, owner)
        check_unit(unit)
        if not (options.get("public") is None or callable(options["public"])):
            raise PrivacyParameterError(f"Expected public of {owner} to be a function of a node.")
        with checked_fields(owner):
            super().__init__(**{"unit": unit, **options})

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
        if isinstance(node, SealedNode):  # whoever has sealed it first has said whose it is
            return node.in_vault() if self.vault else node
        with errors_as(ViewError, "The function that says which nodes are public failed ({error})."):
            is_public = self.public is not None and self.public(node) is True
        if is_public:
            return SealedNode.of(node, None, "", vault=self.vault)
        unit = unit_of_node(node, self.unit)
        tag: Tag = "" if unit.is_stable else "unstable"
        return SealedNode.of(node, unit.name or DEFAULT_UNIT, tag, vault=self.vault)


class DPFusionRetriever(BaseRetriever):
    """A retriever whose nodes are sealed before any event tells of them.

    Use it in place of the postprocessor where events and traces may hold no text at all.

    Args:
        retriever: Finds the nodes.
        sealing: How they are sealed; in vault mode by default.
        **kwargs: Further arguments of LlamaIndex's ``BaseRetriever``.

    Raises:
        PrivacyParameterError: If an argument is unknown, or of another kind.
    """

    def __init__(
        self, retriever: BaseRetriever, sealing: DPFusionNodePostprocessor | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**named_as(BaseRetriever.__init__, kwargs, type(self).__name__))
        self._inner = check_type(retriever, BaseRetriever, "retriever")
        self._sealing = check_type(
            sealing or DPFusionNodePostprocessor(vault=True), DPFusionNodePostprocessor, "sealing"
        )

    @untraced
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        retrieve = bare(self._inner._retrieve)
        return self._taken(retrieve(query_bundle))

    @untraced
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if type(self._inner)._aretrieve is BaseRetriever._aretrieve:  # it would call the traced method
            return await asyncio.to_thread(self._retrieve, query_bundle)
        retrieve = bare(self._inner._aretrieve)
        return self._taken(await retrieve(query_bundle))

    def _taken(self, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
        return self._sealing.postprocess_nodes(nodes)
