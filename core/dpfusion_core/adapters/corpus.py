"""A confidential corpus that an agent asks: how many, how much, what do most say, within one budget."""

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dpfusion_core import _validate
from dpfusion_core.consensus import Consensus, documents_message
from dpfusion_core.consensus.counts import COUNT_OPTIONS
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import BudgetExhaustedError, PrivacyParameterError, ViewError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.options import GenerationOptions
from dpfusion_core.privacy import PrivacyBudget, PrivacyGuarantee

SPENT = "The privacy budget for questions to these documents is spent. No further question can be answered."
"""What an agent is told once the questions are used up."""

DESCRIPTIONS = {
    "count_documents": "Count how many documents answer a question by yes. Ask about one document: 'Does it mention a "
    "fall?'",
    "measure_documents": "Mean, sum or median of a number over the documents. Ask for the number in one document: 'How "
    "many days did it take?' lower and upper are limits that you choose beforehand.",
    "ask_documents": "What many of the documents say about a question. What only few say is never told.",
}
"""What an agent's model is told of each tool."""


@dataclass(frozen=True)
class Told:
    """What an agent is told; it is public under its guarantee.

    Attributes:
        text: The answer, or why there is none.
        guarantee: What it tells about each document; None if nothing was asked of any.
    """

    text: str
    guarantee: PrivacyGuarantee | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.text


class Corpus:
    """Documents, who reads them, and how many questions are left.

    Args:
        engine: Reads the documents. If it has a ledger, that is charged; else one of this corpus alone.
        texts: Returns the documents for a question: their units with their texts.
        options: The engine's options, of which a count reads its own.
        budget: What all questions together may cost each document.
        questions: For how many questions it lasts.
        is_covered: Whether ``texts`` takes each document by its own score, so that it is private which.

    Raises:
        PrivacyParameterError: If an argument is none of those.

    Example:
        >>> from dpfusion_core.consensus import plain_text
        >>> engine = Consensus(lambda messages: "yes" if "late" in plain_text(messages[0]) else "no")
        >>> letters = [(f"{n}.txt", "It came late.") for n in range(100)]
        >>> corpus = Corpus(engine, lambda question: letters, {}, PrivacyBudget(4.0), questions=1)
        >>> str(corpus.count("Does the letter complain about delay?"))[:6], str(corpus.count("Again?")) == SPENT
        ('About ', True)
    """

    def __init__(
        self,
        engine: FusionEngine | Consensus,
        texts: Callable[[str], Sequence[tuple[str, str]]],
        options: GenerationOptions,
        budget: PrivacyBudget,
        questions: int,
        *,
        is_covered: bool = False,
    ) -> None:
        if not isinstance(budget, PrivacyBudget):
            raise PrivacyParameterError("Expected budget to be a PrivacyBudget.")
        self._left = _validate.count(questions, "questions")
        self._engine: Any = _charging(engine, budget)
        self._texts = texts
        self._options: dict[str, Any] = {
            **{name: value for name, value in options.items() if name in COUNT_OPTIONS},
            "epsilon": budget.epsilon,
            "delta": budget.delta,
            "responses": questions,
            "retrieval": "covered" if is_covered else None,
        }
        if is_covered:  # an error about a document would tell that it took part
            self._options["on_exhausted"] = "zero-out"
        self._lock = threading.Lock()

    def count(self, question: str) -> Told:
        """Count the documents that answer a question by yes."""

        def ask() -> Told:
            found = self._engine.count(question, self._documents(question), **self._options)
            text = f"About {found.value} (with probability 0.95 between {found.low} and {found.high})."
            return Told(text, found.guarantee)

        return self._answered(ask)

    def measure(
        self,
        question: str,
        lower: float,
        upper: float,
        statistic: Literal["mean", "sum", "median"] = "mean",
    ) -> Told:
        """Measure a number over the documents."""

        def ask() -> Told:
            limits = {"lower": lower, "upper": upper, "statistic": statistic}
            found = self._engine.measure(question, self._documents(question), **limits, **self._options)
            text = f"About {found.value:.4g}"
            if found.low is not None and found.high is not None:
                text += f" (with probability 0.95 between {found.low:.4g} and {found.high:.4g})"
            return Told(f"{text}.", found.guarantee)

        return self._answered(ask)

    def ask(self, question: str) -> Told:
        """Tell what many of the documents say."""

        def ask() -> Told:
            messages = [*self._documents(question), Message("user", question)]
            found = self._engine.generate(messages, mechanism="consensus", **self._options)
            items = ", ".join(f"{each.item} (about {each.count} documents)" for each in found.items or ())
            return Told(f"{found.text}\nWhat many say: {items or 'nothing'}.", found.guarantee)

        return self._answered(ask)

    def _documents(self, question: str) -> list[Message]:
        return [documents_message(self._texts(question))]

    def _answered(self, ask: Callable[[], Told]) -> Told:
        with self._lock:  # how many questions there are is public
            if self._left == 0:
                return Told(SPENT)
            self._left -= 1
        try:
            return ask()
        except BudgetExhaustedError:
            return Told(SPENT)
        except (PrivacyParameterError, ViewError) as error:  # refused before a document was asked
            with self._lock:
                self._left += 1
            return Told(str(error))


def _charging(engine: FusionEngine | Consensus, budget: PrivacyBudget) -> FusionEngine | Consensus:
    """Return what answers, over the engine's ledger or one of its own."""
    if engine.ledger is not None:
        return engine
    ledger = PrivacyLedger("sqlite://", budget=budget, key=secrets.token_hex(32))
    if isinstance(engine, Consensus):
        return Consensus(engine.answerer, ledger=ledger, placeholder=engine.placeholder)
    return FusionEngine(engine.backend, placeholder=engine.placeholder, ledger=ledger)
