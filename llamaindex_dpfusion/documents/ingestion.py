"""``DPFusionTransform``: private paraphrases of documents, made before they are indexed."""

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from llama_index.core.bridge.pydantic import Field
from llama_index.core.schema import BaseNode, Document, MetadataMode, TransformComponent

from dpfusion_core.adapters import warn_unstable
from dpfusion_core.errors import PrivacyParameterError, RefusedError, UnsupportedError
from dpfusion_core.generation import GenerationResult
from dpfusion_core.messages import DEFAULT_UNIT, Message, Segment
from dpfusion_core.options import canonical
from llamaindex_dpfusion.documents.units import STABLE_MEND, UnitOf, check_unit, unit_of_node
from llamaindex_dpfusion.llm import DPFusionLLM
from llamaindex_dpfusion.options import checked_fields

_VERSION = 1
"""Goes into cache keys; raised whenever the same settings would give texts of another kind."""


class DPFusionTransform(TransformComponent):
    """Replaces documents by private paraphrases: what is indexed then needs no further protection.

    Run it first, in a pipeline of its own, without ``docstore``: a pipeline's document store keeps the raw
    input. What comes out are new documents with nothing of the old ones but what is named here; no
    relationships, which would hold the raw metadata.

        documents = IngestionPipeline(transformations=[DPFusionTransform(llm)]).run(documents=raw)

    Each document is one privacy unit, named by where it came from. A pipeline's cache gives the same
    paraphrase again at no cost; its keys say the model and every privacy setting.

    Args:
        llm: Model and privacy settings.
        instruction: What the model is asked to do; public.
        metadata_keys: Keys of metadata that are public and kept.
        keep_ids: Whether ids are public and kept. By default documents get new ones.
        batch_size: How many documents go through the model at once.
        unit: What names a document's unit; see :class:`~llamaindex_dpfusion.DPFusionNodePostprocessor`.

    Raises:
        PrivacyParameterError: If an option is unknown or has no meaning.

    Example:
        >>> transform = DPFusionTransform(DPFusionLLM(epsilon=8.0, max_tokens=10))
        >>> [private] = transform([Document(text="Ann lives in Oslo.", doc_id="ann", metadata={"ward": "3"})])
        >>> sorted(private.metadata)
        ['dp_fusion_delta', 'dp_fusion_epsilon']
    """

    llm: DPFusionLLM = Field(exclude=True)
    instruction: str = Field(default="Paraphrase the document.", min_length=1)
    metadata_keys: tuple[str, ...] = ()
    keep_ids: bool = False
    batch_size: int = Field(default=8, gt=0, strict=True)
    unit: UnitOf = Field(default="document", exclude=True)

    def __init__(self, llm: DPFusionLLM, **kwargs: Any) -> None:
        options = canonical(kwargs, type(self).model_fields.keys() - {"llm"}, type(self).__name__)
        if isinstance(llm, DPFusionLLM) and llm.choices is not None:
            raise PrivacyParameterError("DPFusionTransform writes text: leave out the choices of its llm.")
        check_unit(options.get("unit", "document"))
        with checked_fields(type(self).__name__):
            super().__init__(**{"llm": llm, **options})

    @classmethod
    def class_name(cls) -> str:
        """Name of the class in cache keys."""
        return "DPFusionTransform"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return all that a paraphrase depends on but the document, for cache keys."""
        llm = self.llm
        settings = {name: str(getattr(llm, name)) for name in ("placeholder", "system_prompt")}
        return {
            **super().to_dict(**kwargs),
            "version": _VERSION,
            "model": llm.engine.backend.fingerprint,
            "options": {name: str(value) for name, value in sorted(self.llm.engine_options().items())},
            **settings,
        }

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Return the paraphrase of each node.

        Raises:
            DPFusionError: See :meth:`dpfusion_core.FusionEngine.generate`. Documents that are too long for the
                model's context must be split first.
        """
        made: list[BaseNode] = []
        for batch in self._batches(nodes):
            results = self.llm.engine.batch(
                [self._messages(node) for node in batch], **self.llm.engine_options()
            )
            made += map(self._document, batch, results)
        return made

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Return the paraphrase of each node without blocking the event loop."""
        made: list[BaseNode] = []
        for batch in self._batches(nodes):
            results = await self.llm.engine.abatch(
                [self._messages(node) for node in batch], **self.llm.engine_options()
            )
            made += map(self._document, batch, results)
        return made

    def __getstate__(self) -> NoReturn:
        raise UnsupportedError(
            "DPFusionTransform cannot go to other processes: each would load the model again. Run the pipeline "
            "without num_workers; documents go through the model in batches."
        )

    def _batches(self, nodes: Sequence[BaseNode]) -> Iterator[list[BaseNode]]:
        if not isinstance(nodes, Sequence) or not all(isinstance(node, BaseNode) for node in nodes):
            raise PrivacyParameterError("Expected a list of documents or nodes.")
        filled = [node for node in nodes if node.get_content(MetadataMode.NONE).strip()]
        for start in range(0, len(filled), self.batch_size):
            yield filled[start : start + self.batch_size]

    def _messages(self, node: BaseNode) -> list[Message]:
        unit = unit_of_node(node, self.unit)
        if not unit.is_stable and self.llm.engine.ledger is not None:
            raise RefusedError(
                "A document is named by an id that may change when it is read again, so its budget in the ledger "
                f"would start anew. {STABLE_MEND.replace('DPFusionNodePostprocessor', 'DPFusionTransform')}"
            )
        if not unit.is_stable:
            warn_unstable(STABLE_MEND.replace("DPFusionNodePostprocessor", "DPFusionTransform"))
        text = Segment(node.get_content(MetadataMode.NONE), is_private=True, unit=unit.name or DEFAULT_UNIT)
        system = [Message("system", self.llm.system_prompt)] if self.llm.system_prompt else []
        return [*system, Message("user", [text, Segment(f"\n\n{self.instruction}")])]

    def _document(self, node: BaseNode, result: GenerationResult) -> Document:
        guarantee = {
            "dp_fusion_epsilon": result.guarantee.epsilon,
            "dp_fusion_delta": result.guarantee.delta,
        }
        kept = {key: node.metadata[key] for key in self.metadata_keys if key in node.metadata}
        ids = {"id_": node.node_id} if self.keep_ids else {}
        return Document(
            text=result.text.strip(),
            metadata={**kept, **guarantee},
            excluded_embed_metadata_keys=list(guarantee),
            excluded_llm_metadata_keys=list(guarantee),
            **ids,
        )
