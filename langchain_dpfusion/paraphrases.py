"""A corpus made private once, before it is indexed."""

from collections.abc import Collection, Sequence
from typing import Any

from langchain_core.documents import BaseDocumentTransformer, Document
from langchain_core.messages import BaseMessage, SystemMessage

from dpfusion_core.errors import PrivacyParameterError
from langchain_dpfusion.chat_models import ChatDPFusion
from langchain_dpfusion.documents import DocumentBlocks, IsPrivate, UnitOf
from langchain_dpfusion.messages import GUARANTEE_KEY, private_message, public_block
from langchain_dpfusion.options import named

_INSTRUCTION = "Paraphrase the document."


class DPDocumentTransformer(BaseDocumentTransformer):
    """Replaces private documents by differentially private paraphrases, which may be indexed and shown.

    What comes out is public under the guarantee in its metadata, ``dp_fusion``, however often it is
    retrieved. Public documents pass through.

    Args:
        llm: The model and what a paraphrase may cost: ``epsilon`` and ``max_tokens``. With a ledger,
            each document pays from its own account.
        private: Which documents are private; by default all whose metadata do not say
            ``is_private: False``.
        unit: Metadata key, or function of a document, that names its privacy unit; by default its
            ``source``, ``file_path`` or the like, for all its chunks.
        instruction: What is asked of the model; public.
        keep: Metadata keys that are kept; others might hold private text.

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
    ) -> None:
        if not isinstance(llm, ChatDPFusion) or isinstance(keep, str):
            raise PrivacyParameterError("Expected llm to be a ChatDPFusion and keep to be a list of names.")
        self._llm = llm
        self._blocks = DocumentBlocks(private, unit)
        self._instruction = instruction
        self._keep = tuple(keep)

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> list[Document]:
        """Return the documents, private ones paraphrased.

        Args:
            documents: The documents.
            **kwargs: Options of the model's calls, such as ``epsilon``.

        Raises:
            DPFusionError: See ``ChatDPFusion.invoke``.
        """
        private = [document for document in documents if self._blocks.is_private(document)]
        return self._replaced(documents, self._llm.batch([self._prompt(each) for each in private], **kwargs))

    async def atransform_documents(self, documents: Sequence[Document], **kwargs: Any) -> list[Document]:
        """Return the documents, private ones paraphrased; see :meth:`transform_documents`."""
        private = [document for document in documents if self._blocks.is_private(document)]
        return self._replaced(
            documents, await self._llm.abatch([self._prompt(each) for each in private], **kwargs)
        )

    def _prompt(self, document: Document) -> list[BaseMessage]:
        blocks = self._blocks([document])
        return [SystemMessage([public_block(self._instruction)]), private_message(blocks)]

    def _replaced(self, documents: Sequence[Document], answers: Sequence[BaseMessage]) -> list[Document]:
        rest = iter(answers)
        return [
            self._paraphrase(document, next(rest)) if self._blocks.is_private(document) else document
            for document in documents
        ]

    def _paraphrase(self, document: Document, answer: BaseMessage) -> Document:
        kept = {key: document.metadata[key] for key in self._keep if key in document.metadata}
        metadata = {**kept, "is_private": False, GUARANTEE_KEY: answer.response_metadata[GUARANTEE_KEY]}
        return Document(answer.text, id=document.id, metadata=metadata)
