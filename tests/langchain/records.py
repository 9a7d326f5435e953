"""Documents and a retriever for tests: real retrieval, nothing to download."""

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore

from tests.langchain.leaks import SECRET


class Letters(Embeddings):
    """Embeds a text as how often each letter stands in it."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [float(text.lower().count(chr(code))) + 0.01 for code in range(97, 123)]


def documents() -> list[Document]:
    return [
        Document(
            f"{SECRET} was treated for gout.",
            id="doc-1",
            metadata={"source": "doc-1", "patient": "p-1", "note": SECRET},
        ),
        Document(f"{SECRET} owes 40 kroner.", metadata={"source": "debts.txt"}),
        Document("The clinic opens at eight.", id="doc-3", metadata={"is_private": False}),
    ]


def retriever(k: int = 3) -> BaseRetriever:
    store = InMemoryVectorStore(Letters())
    store.add_documents(documents()[1:2], ids=["doc-2"])
    store.add_documents([documents()[0], documents()[2]])
    return store.as_retriever(search_kwargs={"k": k})
