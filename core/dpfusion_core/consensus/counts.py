"""What is counted and measured over documents, and what comes out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from dpfusion_core.errors import PrivacyParameterError, ViewError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message, Segment
from dpfusion_core.options import OnExhausted
from dpfusion_core.privacy import PrivacyGuarantee
from dpfusion_core.privacy.guarantee import Retrieval
from dpfusion_core.privacy.measures import Measure
from dpfusion_core.privacy.parameters import Accounting, Neighbours

Documents = Mapping[str, str] | Sequence[str] | Sequence[Message]
"""Texts by their ids, texts, or messages with private parts."""

Statistic = Literal["mean", "sum", "median", "quantile"]

COUNT_OPTIONS = frozenset(
    {"epsilon", "delta", "responses", "neighbours", "accounting", "on_exhausted", "retrieval"}
)
"""The options that a count and a measure read."""

_YES = frozenset({"yes", "true"})
_NUMBER = re.compile(r"[-\u2212]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[-\u2212]?\d+(?:\.\d+)?")


class CountOptions(TypedDict, total=False):
    """The options of a count as keyword arguments; see :class:`~dpfusion_core.Options`."""

    epsilon: float | None
    delta: float
    responses: int
    neighbours: Neighbours
    accounting: Accounting
    on_exhausted: OnExhausted
    retrieval: Retrieval | None


@dataclass(frozen=True)
class CountResult:
    """How many documents say yes.

    Attributes:
        value: The noisy count.
        low: Lower end of an interval that holds the true count of yeses with probability 0.95. The model's own
            mistakes are not in it.
        high: Its upper end.
        guarantee: What the count can tell about each document.
    """

    value: int
    low: int
    high: int
    guarantee: PrivacyGuarantee


@dataclass(frozen=True)
class MeasureResult:
    """A number about many documents.

    Attributes:
        value: The number with noise, within what is possible.
        low: Lower end of an interval that holds the true number with probability 0.95; None for a quantile.
        high: Its upper end.
        rank_error: Of a quantile: with probability 0.95 it parts the documents' numbers by at most so many
            documents worse than the best candidate does. None for others.
        guarantee: What the number can tell about each document.
    """

    value: float
    low: float | None
    high: float | None
    rank_error: float | None
    guarantee: PrivacyGuarantee


def read_number(answer: str) -> float | None:
    """Return the first number in an answer; commas part thousands, a point begins decimals.

    Example:
        >>> read_number("It was 1,250.50 dollars."), read_number("none")
        (1250.5, None)
    """
    found = _NUMBER.search(answer)
    return None if found is None else float(found[0].replace(",", "").replace("\u2212", "-"))


def is_yes(answer: str) -> bool:
    """Return whether an answer begins with yes.

    Example:
        >>> is_yes("Yes, it does."), is_yes("No."), is_yes("Yesterday")
        (True, False, False)
    """
    words = re.findall(r"\w+", answer[:200].casefold())
    return bool(words) and words[0] in _YES


def measure_of(statistic: str, quantile: float | None) -> tuple[Measure, float]:
    """Return what is released for a statistic, and which quantile.

    Raises:
        PrivacyParameterError: If it is none, or a quantile is given for another, or missing.
    """
    if (statistic == "quantile") != (quantile is not None):
        raise PrivacyParameterError(
            "quantile goes with statistic='quantile', and that with it: quantile=0.9."
        )
    found: dict[str, Measure] = {"mean": "mean", "sum": "sum", "median": "quantile", "quantile": "quantile"}
    if not isinstance(statistic, str) or statistic not in found:
        raise PrivacyParameterError(f"Expected statistic one of {', '.join(found)}.")
    return found[statistic], 0.5 if quantile is None else quantile


def question_message(question: str) -> Message:
    """Return a question as a message.

    Raises:
        ViewError: If it is none.
    """
    if not isinstance(question, str) or not question.strip():
        raise ViewError("Expected a question: a text that asks about one document.")
    return Message("user", question)


def document_messages(documents: Documents, ledger: PrivacyLedger | None) -> list[Message]:
    """Return documents as messages, each a privacy unit of its own.

    Raises:
        ViewError: If they are none.
        PrivacyParameterError: If a ledger is to charge documents without ids.
    """
    if isinstance(documents, Mapping):
        named = list(documents.items())
    elif isinstance(documents, str) or not isinstance(documents, Sequence):
        raise ViewError("Expected documents: texts by their ids, a list of texts, or a list of Message.")
    elif documents and all(isinstance(each, Message) for each in documents):
        return [each for each in documents if isinstance(each, Message)]
    else:
        named = [(f"document-{number}", text) for number, text in enumerate(documents, 1)]  # type: ignore[misc]
        if ledger is not None and named:
            raise PrivacyParameterError(
                "A ledger keeps an account for each document: give the documents by ids that stay the same, as "
                "{'hr/cv-3': text}, or as messages with units."
            )
    if not all(isinstance(text, str) for _, text in named):
        raise ViewError("Expected the text of each document to be a string.")
    # A blank text says nothing, and no segment is empty.
    return [Message("user", [Segment(text or " ", True, unit)]) for unit, text in named]
