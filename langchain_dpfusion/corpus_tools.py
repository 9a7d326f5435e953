"""Tools for agents that ask a confidential corpus: how many, how much, what do most say."""

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from langchain_core.documents import Document
from langchain_core.tools import StructuredTool

from dpfusion_core import _validate
from dpfusion_core.consensus import Consensus, CountResult, MeasureResult, documents_message
from dpfusion_core.consensus.counts import COUNT_OPTIONS
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import BudgetExhaustedError, PrivacyParameterError, ViewError
from dpfusion_core.generation import GenerationResult
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.privacy import PrivacyBudget
from langchain_dpfusion.documents import DocumentBlocks, UnitOf
from langchain_dpfusion.marked_messages import GUARANTEE_KEY, public_block
from langchain_dpfusion.options import engine_options, named
from langchain_dpfusion.retrieval import DPThresholdRetriever
from langchain_dpfusion.sealed_models import SealedChatModel

SPENT = "The privacy budget for questions to these documents is spent. No further question can be answered."
"""What a tool answers once its questions are used up."""

_R = TypeVar("_R")


@named("create_corpus_tools")
def create_corpus_tools(
    llm: SealedChatModel,
    documents: Sequence[Document] | DPThresholdRetriever,
    *,
    budget: PrivacyBudget,
    questions: int = 10,
    description: str = "confidential documents",
    unit: UnitOf = None,
) -> list[StructuredTool]:
    """Return tools with which an agent asks many confidential documents: a count, a measure, and what most say.

    Each document is asked alone, and only what many say comes out, with noise. What a tool returns is public under
    the guarantee in the message's ``artifact``; an agent's model may be any, it sees no document.

    Args:
        llm: Reads the documents: a ``ChatDPConsensus`` or a ``ChatDPFusion``. If it has a ledger, that is charged;
            else one of these tools alone, which lasts as long as they do.
        documents: The corpus, or a retriever that takes all documents whose own score passes a threshold: then it is
            private which and how many answer a question. All are private, whatever their metadata say.
        budget: What all questions together may cost each document.
        questions: For how many questions it lasts. After them the tools say that it is spent.
        description: What the documents are, for the agent's model; public.
        unit: Metadata key, or function of a document, that names its privacy unit; by default its ``source``,
            ``file_path`` or the like, for all its chunks.

    Returns:
        The tools ``count_documents``, ``measure_documents`` and ``ask_documents``.

    Raises:
        PrivacyParameterError: If an argument is none of those.

    Example:
        >>> from langchain_core.language_models import GenericFakeChatModel
        >>> from langchain_dpfusion import ChatDPConsensus
        >>> llm = ChatDPConsensus(llm=GenericFakeChatModel(messages=iter(["yes"] * 100)))
        >>> letters = [Document("It came late.", metadata={"source": f"{n}.txt"}) for n in range(100)]
        >>> tools = create_corpus_tools(llm, letters, budget=PrivacyBudget(epsilon=4.0), questions=2)
        >>> [tool.name for tool in tools]
        ['count_documents', 'measure_documents', 'ask_documents']
        >>> tools[0].invoke({"question": "Does the letter complain about delay?"})[0]["text"][:6]
        'About '
    """
    if not isinstance(llm, SealedChatModel) or not isinstance(budget, PrivacyBudget):
        raise PrivacyParameterError(
            "Expected llm to be a ChatDPConsensus or a ChatDPFusion, and budget to be a PrivacyBudget."
        )
    corpus = _Corpus(
        llm, documents, budget, _validate.count(questions, "questions"), DocumentBlocks(unit=unit)
    )

    def tool(name: str, work: Callable[..., Any], says: str) -> StructuredTool:
        return StructuredTool.from_function(
            func=work,
            name=name,
            description=f"{says} The documents: {description}.",
            response_format="content_and_artifact",
        )

    return [
        tool(
            "count_documents",
            corpus.count,
            "Count how many documents answer a question by yes. Ask about one document: 'Does it mention a fall?'",
        ),
        tool(
            "measure_documents",
            corpus.measure,
            "Mean, sum or median of a number over the documents. Ask for the number in one document: 'How many "
            "days did it take?' lower and upper are limits that you choose beforehand.",
        ),
        tool(
            "ask_documents",
            corpus.ask,
            "What many of the documents say about a question. What only few say is never told.",
        ),
    ]


@dataclass
class _Corpus:
    """The documents, who reads them, and how many questions are left."""

    llm: SealedChatModel
    documents: Sequence[Document] | DPThresholdRetriever
    budget: PrivacyBudget
    questions: int
    blocks: DocumentBlocks
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self._engine = _engine_of(self.llm, self.budget)
        self._left = self.questions
        if not isinstance(self.documents, DPThresholdRetriever):
            self._texts(self.documents)  # what is no document is refused before any question

    @property
    def is_covered(self) -> bool:
        return isinstance(self.documents, DPThresholdRetriever)

    def count(self, question: str) -> tuple[Any, Any]:
        """Count the documents that answer a question by yes."""

        def ask() -> tuple[str, CountResult]:
            found = self._engine.count(question, self._messages(question), **self._options())
            return f"About {found.value} (with probability 0.95 between {found.low} and {found.high}).", found

        return self._answered(ask)

    def measure(
        self,
        question: str,
        lower: float,
        upper: float,
        statistic: Literal["mean", "sum", "median"] = "mean",
    ) -> tuple[Any, Any]:
        """Measure a number over the documents."""

        def ask() -> tuple[str, MeasureResult]:
            messages = self._messages(question)
            limits: Any = {"lower": lower, "upper": upper, "statistic": statistic}
            found = self._engine.measure(question, messages, **limits, **self._options())
            said = f"About {found.value:.4g}"
            if found.low is None or found.high is None:
                return f"{said}.", found
            return f"{said} (with probability 0.95 between {found.low:.4g} and {found.high:.4g}).", found

        return self._answered(ask)

    def ask(self, question: str) -> tuple[Any, Any]:
        """Tell what many of the documents say."""

        def ask() -> tuple[str, GenerationResult]:
            messages = [*self._messages(question), Message("user", question)]
            engine: Any = self._engine
            found = engine.generate(messages, mechanism="consensus", **self._options())
            items = ", ".join(f"{each.item} (about {each.count} documents)" for each in found.items or ())
            return f"{found.text}\nWhat many say: {items or 'nothing'}.", found

        return self._answered(ask)

    def _answered(self, ask: Callable[[], tuple[str, Any]]) -> tuple[Any, Any]:
        with self._lock:  # how many questions there are is public
            is_spent = self._left == 0
            self._left -= not is_spent
        if is_spent:
            return [public_block(SPENT)], None
        try:
            text, found = ask()
        except BudgetExhaustedError:
            return [public_block(SPENT)], None
        except (PrivacyParameterError, ViewError) as error:  # refused before a document was asked
            with self._lock:
                self._left += 1
            return [public_block(str(error))], None
        return [public_block(text)], {GUARANTEE_KEY: found.guarantee.as_dict()}

    def _options(self) -> Any:
        own = engine_options(self.llm, {}, None)
        kept = {name: value for name, value in own.items() if name in COUNT_OPTIONS}
        return kept | {
            "epsilon": self.budget.epsilon,
            "delta": self.budget.delta,
            "responses": self.questions,
            **(
                {"retrieval": "covered", "on_exhausted": "zero-out"}
                if self.is_covered
                else {"retrieval": None}
            ),
        }

    def _messages(self, question: str) -> list[Message]:
        documents = self.documents
        # Not by invoke, whose callbacks would be told the documents.
        found = documents.passing(question) if isinstance(documents, DPThresholdRetriever) else documents
        return [documents_message(self._texts(found))]

    def _texts(self, documents: Sequence[Any]) -> list[tuple[str, str]]:
        """Return the documents' texts by their units."""
        found = []
        for number, document in enumerate(documents):
            if not isinstance(document, Document):
                raise PrivacyParameterError(
                    "Expected documents: a list of documents, or a DPThresholdRetriever."
                )
            unit = self.blocks.unit_of(document)
            if not unit.is_stable and self.llm.charged_ledger is not None:
                raise PrivacyParameterError(
                    "A ledger keeps an account for each document: name them by something that stays, with unit=."
                )
            found.append((unit.name or f"document-{number}", document.page_content))
        return found


def _engine_of(llm: SealedChatModel, budget: PrivacyBudget) -> FusionEngine | Consensus:
    """Return what answers, over the model's ledger or one of these tools alone."""
    engine = llm.engine_for()
    if engine.ledger is not None:
        return engine
    ledger = PrivacyLedger("sqlite://", budget=budget, key=secrets.token_hex(32))
    if isinstance(engine, Consensus):
        return Consensus(engine.answerer, ledger=ledger, placeholder=engine.placeholder)
    return FusionEngine(engine.backend, placeholder=engine.placeholder, ledger=ledger)
