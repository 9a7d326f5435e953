"""A corpus made private once, before it is indexed."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langchain_core.documents import BaseDocumentTransformer, Document

from dpfusion_core.adapters import DocumentUnit, Paraphrase, Paraphraser
from dpfusion_core.adapters.paraphrases import TOGETHER
from dpfusion_core.closed import closed_fields
from dpfusion_core.engine.filling import refuse_open
from dpfusion_core.errors import PrivacyParameterError
from langchain_dpfusion.chat_models import ChatDPFusion
from langchain_dpfusion.conversation import STABLE_MEND
from langchain_dpfusion.documents import DocumentBlocks, IsPrivate, UnitOf
from langchain_dpfusion.marked_messages import GUARANTEE_KEY
from langchain_dpfusion.options import check_call, engine_options, named, pick

_INSTRUCTION = "Paraphrase the document."


class DPDocumentTransformer(BaseDocumentTransformer):
    """Replaces private documents by differentially private paraphrases, which may be indexed and shown.

    What comes out is public under the guarantee in its metadata, ``dp_fusion``, however often it is
    retrieved. All chunks of a privacy unit that are given together share one guarantee. Public documents
    pass through. Accounting is fixed.

    Args:
        llm: The model and what a document may cost: ``epsilon``, and ``max_tokens`` for each chunk. With a
            ledger, each document pays from its own account.
        private: Which documents are private; by default all whose metadata do not say
            ``is_private: False``.
        unit: Metadata key, or function of a document, that names its privacy unit; by default its
            ``source``, ``file_path`` or the like, for all its chunks.
        instruction: What is asked of the model; public.
        keep: Metadata keys that are kept; others might hold private text.
        schema: Facts to keep, as closed fields: a Pydantic class, a ``TypedDict`` or a JSON schema of enums, booleans
            and small ranges. They are chosen within epsilon, stand in the metadata as ``facts``, and the text is
            written from them and what is redacted, at no further cost.
        shares: How these fields share epsilon; evenly by default.

    Raises:
        PrivacyParameterError: If an argument is unknown, or none of those.

    Example:
        >>> llm = ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, max_tokens=20)
        >>> documents = [Document("Ann Roe lives in Oslo.", id="doc-1", metadata={"source": "a.txt"})]
        >>> (paraphrase,) = DPDocumentTransformer(llm).transform_documents(documents)
        >>> paraphrase.metadata["is_private"], round(paraphrase.metadata["dp_fusion"]["epsilon"], 3)
        (False, 8.0)
    """

    @named("DPDocumentTransformer")
    def __init__(
        self,
        llm: ChatDPFusion,
        *,
        private: IsPrivate = None,
        unit: UnitOf = None,
        instruction: str = _INSTRUCTION,
        keep: Collection[str] = ("source",),
        schema: Any = None,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        if not isinstance(llm, ChatDPFusion) or isinstance(keep, str):
            raise PrivacyParameterError("Expected llm to be a ChatDPFusion and keep to be a list of names.")
        self._llm = llm
        self._blocks = DocumentBlocks(private, unit)
        self._instruction = instruction
        self._keep = tuple(keep)
        if schema is not None:
            refuse_open(closed_fields(schema))
        elif shares is not None:
            raise PrivacyParameterError("shares are those of the fields of a schema: give schema, too.")
        self._facts = schema, shares

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> list[Document]:
        """Return the documents, private ones paraphrased.

        Args:
            documents: The documents.
            **kwargs: Options of the model's calls, such as ``epsilon``.

        Raises:
            DPFusionError: See ``ChatDPFusion.invoke``.
        """
        return self._replaced(documents, self._paraphraser(kwargs)(self._chunks(documents)))

    async def atransform_documents(self, documents: Sequence[Document], **kwargs: Any) -> list[Document]:
        """Return the documents, private ones paraphrased; see :meth:`transform_documents`."""
        paraphraser = await asyncio.to_thread(self._paraphraser, kwargs)
        return self._replaced(documents, await paraphraser.arun(self._chunks(documents)))

    def _paraphraser(self, call: Mapping[str, Any]) -> Paraphraser:
        llm, call = self._llm, check_call(call)
        options = engine_options(llm, call, call.get("stop"))
        if self._facts[0] is not None and (prior := pick("prior", call, llm)) is not None:
            options["prior"] = prior
        engine, timeout = llm.engine_for(call.get("model")), pick("timeout", call, llm)
        ways = timeout, llm.max_retries, TOGETHER, *self._facts
        return Paraphraser(engine, options, self._instruction, STABLE_MEND, *ways)

    def _chunks(self, documents: Sequence[Document]) -> list[tuple[str, DocumentUnit]]:
        private = [document for document in documents if self._blocks.is_private(document)]
        return [(document.page_content, self._blocks.unit_of(document)) for document in private]

    def _replaced(self, documents: Sequence[Document], paraphrases: Sequence[Paraphrase]) -> list[Document]:
        rest = iter(paraphrases)
        return [
            self._paraphrased(document, next(rest)) if self._blocks.is_private(document) else document
            for document in documents
        ]

    def _paraphrased(self, document: Document, paraphrase: Paraphrase) -> Document:
        kept = {key: document.metadata[key] for key in self._keep if key in document.metadata}
        facts = {} if paraphrase.facts is None else {"facts": dict(paraphrase.facts)}
        metadata = {**kept, **facts, "is_private": False, GUARANTEE_KEY: paraphrase.guarantee.as_dict()}
        return Document(paraphrase.text, id=document.id, metadata=metadata)
