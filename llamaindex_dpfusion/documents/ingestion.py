"""``DPFusionTransform``: private paraphrases of documents, made before they are indexed."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from llama_index.core.bridge.pydantic import Field
from llama_index.core.schema import BaseNode, Document, MetadataMode, TransformComponent

from dpfusion_core.adapters import DocumentUnit, Paraphrase, Paraphraser
from dpfusion_core.closed import closed_fields
from dpfusion_core.engine.filling import refuse_open
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError
from dpfusion_core.options import GenerationOptions, canonical
from llamaindex_dpfusion.documents.units import STABLE_MEND, UnitOf, check_unit, unit_of_node
from llamaindex_dpfusion.llm import DPFusionLLM
from llamaindex_dpfusion.options import checked_fields

_VERSION = 2
"""Goes into cache keys; raised whenever the same settings would give texts of another kind."""


class DPFusionTransform(TransformComponent):
    """Replaces documents by private paraphrases: what is indexed then needs no further protection.

    Run it first, in a pipeline of its own, without ``docstore``: a pipeline's document store keeps the raw
    input. What comes out are new documents with nothing of the old ones but what is named here; no
    relationships, which would hold the raw metadata.

        documents = IngestionPipeline(transformations=[DPFusionTransform(llm)]).run(documents=raw)

    Each document is one privacy unit, named by where it came from; its nodes that are given together share one
    guarantee and one charge. A pipeline's cache gives the same
    paraphrase again at no cost; its keys say the model and every privacy setting.

    Args:
        llm: Model and privacy settings.
        instruction: What the model is asked to do; public.
        metadata_keys: Keys of metadata that are public and kept.
        keep_ids: Whether ids are public and kept. By default documents get new ones.
        output_schema: Facts to keep, as closed fields: a pydantic model, a TypedDict or a JSON schema of enums,
            booleans and small ranges. They are chosen within epsilon, stand in the metadata by name, and
            the text is written from them and what is redacted, at no further cost.
        shares: How these fields share epsilon; evenly by default.
        batch_size: How many nodes go through the model at once.
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
    output_schema: Any = Field(default=None, exclude=True)
    shares: dict[str, float] | None = None
    batch_size: int = Field(default=8, gt=0, strict=True)
    unit: UnitOf = Field(default="document", exclude=True)

    def __init__(self, llm: DPFusionLLM, **kwargs: Any) -> None:
        options = canonical(kwargs, type(self).model_fields.keys() - {"llm"}, type(self).__name__)
        if isinstance(llm, DPFusionLLM) and (llm.choices is not None or llm.backend is None):
            raise PrivacyParameterError(
                "DPFusionTransform writes text from one document: it needs a model of our own, without choices."
            )
        if options.get("output_schema") is not None:
            refuse_open(closed_fields(options["output_schema"]))
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
            "model": "" if llm.backend is None else llm.backend.fingerprint,
            "options": {name: str(value) for name, value in sorted(self.llm.engine_options().items())},
            **settings,
            "schema": None if self.output_schema is None else closed_fields(self.output_schema).schema,
            "prior": llm.prior,
        }

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Return the paraphrase of each node; empty ones are left out.

        Raises:
            DPFusionError: See :meth:`dpfusion_core.FusionEngine.generate`. Documents that are too long for the
                model's context must be split first.
        """
        filled, chunks = self._read(nodes)
        return list(map(self._document, filled, self._paraphraser()(chunks)))

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Return the paraphrase of each node without blocking the event loop; see :meth:`__call__`."""
        filled, chunks = self._read(nodes)
        paraphraser = await asyncio.to_thread(self._paraphraser)
        return list(map(self._document, filled, await paraphraser.arun(chunks)))

    def __getstate__(self) -> NoReturn:
        raise UnsupportedError(
            "DPFusionTransform cannot go to other processes: each would load the model again. Run the pipeline "
            "without num_workers; documents go through the model in batches."
        )

    def _read(self, nodes: Sequence[BaseNode]) -> tuple[list[BaseNode], list[tuple[str, DocumentUnit]]]:
        if not isinstance(nodes, Sequence) or not all(isinstance(node, BaseNode) for node in nodes):
            raise PrivacyParameterError("Expected a list of documents or nodes.")
        filled = [node for node in nodes if node.get_content(MetadataMode.NONE).strip()]
        return filled, [
            (node.get_content(MetadataMode.NONE), unit_of_node(node, self.unit)) for node in filled
        ]

    def _paraphraser(self) -> Paraphraser:
        llm = self.llm
        prior: GenerationOptions = {} if llm.prior is None else {"prior": llm.prior}
        return Paraphraser(
            llm.engine,
            llm.engine_options() if self.output_schema is None else {**llm.engine_options(), **prior},
            "\n\n".join(filter(None, [llm.system_prompt, self.instruction])),
            STABLE_MEND.replace("DPFusionNodePostprocessor", "DPFusionTransform"),
            llm.timeout,
            llm.max_retries,
            self.batch_size,
            self.output_schema,
            self.shares,
        )

    def _document(self, node: BaseNode, paraphrase: Paraphrase) -> Document:
        found = paraphrase.guarantee
        guarantee = {"dp_fusion_epsilon": found.epsilon, "dp_fusion_delta": found.delta}
        facts = {name: _flat(value) for name, value in (paraphrase.facts or {}).items()}
        kept = {key: node.metadata[key] for key in self.metadata_keys if key in node.metadata}
        ids = {"id_": node.node_id} if self.keep_ids else {}
        return Document(
            text=paraphrase.text.strip(),
            metadata={**kept, **facts, **guarantee},
            # The text says the facts already.
            excluded_embed_metadata_keys=[*facts, *guarantee],
            excluded_llm_metadata_keys=[*facts, *guarantee],
            **ids,
        )


def _flat(value: Any) -> Any:
    """Return a fact as stores of vectors take it."""
    return json.dumps(value) if isinstance(value, dict | list) else value
