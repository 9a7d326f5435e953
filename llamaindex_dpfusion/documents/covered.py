"""Retrieval under the guarantee: each document is taken by its own score alone, and nobody learns how many were."""

import secrets
from collections.abc import Sequence
from typing import Any

from llama_index.core.indices import VectorStoreIndex
from llama_index.core.indices.vector_store import VectorIndexRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from dpfusion_core.consensus import passing
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, ViewError
from dpfusion_core.messages import Segment
from dpfusion_core.placeholders import Placeholder
from llamaindex_dpfusion.answers.events import bare
from llamaindex_dpfusion.documents.nodes import Cover, SealedNode
from llamaindex_dpfusion.documents.postprocessor import DPFusionNodePostprocessor, DPFusionRetriever
from llamaindex_dpfusion.options import check_type, named_as

LIMIT = 100_000
"""How many nodes an index is asked for unless the caller says otherwise: all of them."""

_NOBODY = "dpfusion-nobody"


class DPThresholdRetriever(DPFusionRetriever):
    """Takes every node whose own similarity to the question reaches a public threshold, and never the k best.

    Where the k best are taken, a document pushes another one out, and so tells of itself by what others say. Here each
    stands for itself. With a consensus and ``DPFusionSynthesizer(..., retrieval="covered")``, the guarantee then holds
    for the retrieval too, and hides how many documents took part:

        retriever = DPThresholdRetriever(index, threshold=0.4)
        engine = RetrieverQueryEngine(retriever, DPFusionSynthesizer(llm=llm, retrieval="covered"))

    The index must score all of its nodes, as LlamaIndex's own does; one that only approximates leaves some out by
    what the others are. Use no postprocessor that drops nodes by their rank: the synthesizer would refuse the rest.

    Args:
        index: Holds the nodes.
        threshold: The least similarity, on the scale of the index's vector store; public.
        limit: How many nodes the index is asked for; it must hold fewer.
        sealing: How nodes are sealed; in vault mode by default.
        **kwargs: Further arguments of the index's own retriever, such as ``filters``.

    Raises:
        PrivacyParameterError: If an argument is unknown, or none of those.
    """

    def __init__(
        self,
        index: VectorStoreIndex,
        threshold: float,
        *,
        limit: int = LIMIT,
        sealing: DPFusionNodePostprocessor | None = None,
        **kwargs: Any,
    ) -> None:
        check_type(index, VectorStoreIndex, "index")
        passing([], threshold)  # is it a number?
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise PrivacyParameterError("Expected limit to be an integer >= 1.")
        ranked = sorted(name for name in kwargs if "top_k" in name or "mode" in name)
        if ranked:
            raise PrivacyParameterError(
                f"{ranked[0]} takes nodes by their rank: leave it out, or use DPFusionRetriever."
            )
        known = named_as(VectorIndexRetriever.__init__, kwargs, type(self).__name__)
        super().__init__(index.as_retriever(similarity_top_k=limit, **known), sealing)
        self._threshold, self._limit = float(threshold), limit

    def passing(self, question: str) -> list[NodeWithScore]:
        """Return the nodes that pass, as they are; no event tells of them, and nobody else should."""
        return self._passing(bare(self._inner._retrieve)(QueryBundle(question)))

    def _passing(self, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
        if len(nodes) >= self._limit:
            raise UnsupportedError(
                f"The index holds limit={self._limit} nodes or more, so some would be left out by their rank. Raise "
                "limit."
            )
        return passing([(node, node.score) for node in nodes], self._threshold)

    def _taken(self, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
        sealed = super()._taken(self._passing(nodes))
        cover = Cover(secrets.token_hex(8), len(sealed))
        for each in sealed:
            if isinstance(each.node, SealedNode):
                each.node.covered_by(cover)
        return sealed


def covered(nodes: Sequence[NodeWithScore], placeholder: Placeholder) -> list[NodeWithScore]:
    """Return nodes, behind one that says nothing: so that none at all look like some.

    Raises:
        ViewError: If they are not all that one :class:`DPThresholdRetriever` has taken for one question.
    """
    covers = [node.node.cover if isinstance(node.node, SealedNode) else None for node in nodes]
    if nodes and (covers[0] is None or set(covers) != {covers[0]} or covers[0].count != len(nodes)):
        raise ViewError(
            'retrieval="covered" needs all the nodes that a DPThresholdRetriever has taken, as they are. Use it as the '
            "retriever, and no postprocessor that adds nodes or drops some."
        )
    text = placeholder(Segment("nothing", is_private=True, unit=_NOBODY))
    nobody = SealedNode.of(TextNode(text=text or "____"), _NOBODY, "", vault=False)
    return [NodeWithScore(node=nobody, score=None), *nodes]
