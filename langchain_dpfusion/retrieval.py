"""Retrieval within the guarantee of a consensus: documents by their own score, never the k best."""

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from pydantic import Field, ValidationError

from dpfusion_core.consensus import passing
from dpfusion_core.errors import PrivacyParameterError, errors_as
from dpfusion_core.options import canonical
from langchain_dpfusion.checks import problem_of

_FIRST = 64  # documents that a store is asked for before it is known how many pass


class DPThresholdRetriever(BaseRetriever):
    """Finds all documents of a vector store whose own score passes a public threshold, however many there are.

    The k best of a store tell of the others: one that joins displaces another. Here each document takes part by
    itself, so a consensus may say ``retrieval="covered"``: then it is private, too, which documents took part, and how
    many. Give its documents to ``PrivateDocumentFormatter(retrieval="covered")``.

    The score must be of the question and one document alone, as a distance of embeddings is, and the index exact: one
    that approximates, or normalises scores by the best, knows the others. Choose the threshold without looking at
    the documents. A store is asked for more and more of its best until one fails, so all that pass are found.

    Args:
        vectorstore: Its ``similarity_search_with_score`` gives the scores.
        threshold: What a score must reach; public.
        closer: Whether ``"higher"`` (default) or ``"lower"`` scores are closer; distances are lower.
        search_kwargs: Further arguments of the search, such as ``filter``; public.

    Raises:
        PrivacyParameterError: If the threshold is no finite number, or when the store's scores run the other way.

    Example:
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> from langchain_core.vectorstores import InMemoryVectorStore
        >>> store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
        >>> _ = store.add_texts([f"Letter {n}" for n in range(200)])
        >>> len(DPThresholdRetriever(vectorstore=store, threshold=-1.0).invoke("late"))
        200
    """

    vectorstore: VectorStore = Field(exclude=True, repr=False)
    threshold: float
    closer: Literal["higher", "lower"] = "higher"
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    if not TYPE_CHECKING:  # checkers take the fields as the arguments

        def __init__(self, **fields: Any) -> None:
            known = type(self).model_fields.keys() | {"metadata", "tags"}
            canonical(dict.fromkeys(fields), known, type(self).__name__)
            if "k" in fields.get("search_kwargs", {}):
                raise PrivacyParameterError("A threshold takes all documents that pass it: leave out k.")
            passing([], fields.get("threshold"), closer=fields.get("closer", "higher"))
            with errors_as(PrivacyParameterError, partial(problem_of, type(self)), only=ValidationError):
                super().__init__(**fields)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return self.passing(query)

    def passing(self, query: str) -> list[Document]:
        """Return the documents whose own score passes; callbacks are told nothing, as they are by ``invoke``.

        Raises:
            PrivacyParameterError: If the store's scores run the other way than ``closer`` says.
        """
        asked = _FIRST
        while True:
            found = self.vectorstore.similarity_search_with_score(query, k=asked, **self.search_kwargs)
            scores = [score for _, score in found]
            if scores != sorted(scores, reverse=self.closer == "higher"):
                raise PrivacyParameterError(
                    f"The store's scores do not run as closer={self.closer!r} says. Distances are closer='lower'."
                )
            taken = passing(found, self.threshold, closer=self.closer)
            if len(found) < asked or len(taken) < len(found):
                return taken
            asked *= 4
