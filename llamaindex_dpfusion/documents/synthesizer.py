"""``DPFusionSynthesizer``: a response synthesizer that seals the nodes that it is given."""

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.llms import LLM
from llama_index.core.prompts.mixin import PromptDictType, PromptMixinType
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.response_synthesizers.base import BaseSynthesizer
from llama_index.core.schema import NodeWithScore, QueryType
from llama_index.core.settings import Settings
from llama_index.core.types import RESPONSE_TEXT_TYPE

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy.guarantee import Retrieval
from llamaindex_dpfusion.documents.covered import covered
from llamaindex_dpfusion.documents.packing import DPFusionPromptHelper
from llamaindex_dpfusion.documents.postprocessor import DPFusionNodePostprocessor
from llamaindex_dpfusion.options import check_type, named_as
from llamaindex_dpfusion.settings import ConfiguredLLM


class DPFusionSynthesizer(BaseSynthesizer):
    """Answers from nodes of which each document is a privacy unit of its own.

    It seals the nodes that it is given, whatever an engine has made of them before, and packs them by
    the model's own tokens. Pass it as ``response_synthesizer`` where an engine takes one; elsewhere a
    :class:`~llamaindex_dpfusion.DPFusionNodePostprocessor` does.

    Args:
        response_mode: Any of LlamaIndex's modes that ask a model.
        llm: The LLM; ``Settings.llm`` by default.
        sealing: How nodes are sealed.
        retrieval: ``"covered"`` with a consensus and a :class:`~llamaindex_dpfusion.DPThresholdRetriever`: which
            documents took part, and how many, is hidden too. So the response comes without source nodes.
        **options: Further arguments of LlamaIndex's ``get_response_synthesizer``.

    Raises:
        PrivacyParameterError: If an argument is unknown, or of another kind.
    """

    def __init__(
        self,
        response_mode: ResponseMode | str = ResponseMode.COMPACT,
        *,
        llm: LLM | None = None,
        sealing: DPFusionNodePostprocessor | None = None,
        retrieval: Retrieval | None = None,
        **options: Any,
    ) -> None:
        options = named_as(get_response_synthesizer, options, type(self).__name__)
        llm = check_type(llm or Settings.llm, LLM, "llm")
        if retrieval not in (None, "covered", "not covered"):
            raise PrivacyParameterError("Expected retrieval to be 'covered' or 'not covered'.")
        self._placeholder = None
        if retrieval == "covered":
            if not isinstance(llm, ConfiguredLLM) or llm.mechanism != "consensus":
                raise PrivacyParameterError(
                    "retrieval='covered' needs a consensus: a DPConsensusLLM, or DPFusionLLM(mechanism='consensus')."
                )
            llm = llm.with_covered_retrieval()
            self._placeholder = llm.engine.placeholder
        if response_mode not in [mode.value for mode in ResponseMode]:
            raise PrivacyParameterError(
                f"Expected response_mode to be one of {', '.join(mode.value for mode in ResponseMode)}."
            )
        helper = options.pop("prompt_helper", None) or DPFusionPromptHelper.from_llm(llm)
        self._inner = get_response_synthesizer(
            llm=llm, response_mode=ResponseMode(response_mode), prompt_helper=helper, **options
        )
        super().__init__(llm=llm, prompt_helper=helper, streaming=bool(options.get("streaming")))
        self._sealing = check_type(
            sealing or DPFusionNodePostprocessor(), DPFusionNodePostprocessor, "sealing"
        )

    def synthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """Answer a query from nodes; the response's source nodes are those that were given."""
        sealed, more = self._sealed(nodes), additional_source_nodes
        response = self._inner.synthesize(query, sealed, more, **response_kwargs)
        return self._with_sources(response, nodes, more)

    async def asynthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """Answer a query from nodes; see :meth:`synthesize`."""
        sealed, more = self._sealed(nodes), additional_source_nodes
        response = await self._inner.asynthesize(query, sealed, more, **response_kwargs)
        return self._with_sources(response, nodes, more)

    def _sealed(self, nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
        sealed = self._sealing.postprocess_nodes(list(nodes))
        return sealed if self._placeholder is None else covered(sealed, self._placeholder)

    def _with_sources(
        self, response: RESPONSE_TYPE, nodes: Sequence[NodeWithScore], more: Sequence[NodeWithScore] | None
    ) -> RESPONSE_TYPE:
        response.source_nodes = [*nodes, *(more or ())]
        if self._placeholder is not None:  # which they are, is covered
            response.source_nodes, response.metadata = [], None
        return response

    def get_response(
        self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        """Answer a query from texts; what is not sealed in them is one private unit."""
        return self._inner.get_response(query_str, text_chunks, **response_kwargs)

    async def aget_response(
        self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        """Answer a query from texts; see :meth:`get_response`."""
        return await self._inner.aget_response(query_str, text_chunks, **response_kwargs)

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        return None

    def _get_prompt_modules(self) -> PromptMixinType:
        return {"synthesizer": self._inner}
