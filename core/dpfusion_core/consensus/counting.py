"""Counts and measures: how many documents say yes, and what number they give, with noise and an interval."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Unpack, runtime_checkable

from dpfusion_core.charging import charged
from dpfusion_core.consensus import prompts
from dpfusion_core.consensus.answerers import Answerer
from dpfusion_core.consensus.asking import ask, ask_units, check_covered, guarantee_of
from dpfusion_core.consensus.counts import (
    COUNT_OPTIONS,
    CountOptions,
    CountResult,
    Documents,
    MeasureResult,
    Statistic,
    document_messages,
    is_yes,
    measure_of,
    question_message,
    read_number,
)
from dpfusion_core.consensus.views import asked, question_of, units_of, without_seams
from dpfusion_core.errors import DPFusionError, PrivacyParameterError, errors_as
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.options import ALIASES, Options, canonical, read_options
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.releases import plan_counts, plan_measure

_TOKENS = 24  # of a yes, a no or a number


@runtime_checkable
class YesNoAnswerer(Protocol):
    """An answerer that can say which of yes and no is likelier, without writing either."""

    def says_yes(self, conversations: Sequence[Sequence[Message]]) -> Sequence[bool | None]:
        """Answer conversations by yes (True) or no; None for one that cannot be answered."""
        ...


class AsksMany:
    """What an engine, and a consensus over any chat model, can ask many documents for besides a text."""

    ledger: PrivacyLedger | None
    placeholder: Placeholder

    def _answering(self) -> Answerer:
        raise NotImplementedError

    def count(self, question: str, documents: Documents, **options: Unpack[CountOptions]) -> CountResult:
        """Count the documents for which the answer to a question is yes.

        Each document alone is asked; the count gets noise. One document changes it by 1 at most, so small
        epsilons do: at 0.5 the count is within 6 with probability 0.95, whatever the number of documents. Documents
        are private as wholes; a tagger is not asked.

        Args:
            question: The question, to be answered by yes or no about one document; public.
            documents: Texts by their ids, or texts, or messages with private parts and no question.
            **options: ``epsilon`` and ``delta``, ``responses``, ``neighbours``, ``accounting``,
                ``on_exhausted``, ``retrieval``; see :class:`~dpfusion_core.Options`.

        Raises:
            PrivacyParameterError: If an option is missing, out of range or without effect, there are no
                documents, or a ledger is to charge documents without ids.
            ViewError: If there is no question.
            BudgetExhaustedError: If a document's budget in the ledger is spent; then none is asked.
            LedgerError: If the ledger cannot be reached or written; then none is asked.

        Example:
            >>> from dpfusion_core.consensus import Consensus, plain_text
            >>> letters = {f"letter-{n}": "It came late." if n < 70 else "All well." for n in range(100)}
            >>> asks = Consensus(lambda messages: "yes" if "late" in plain_text(messages[0]) else "no")
            >>> counted = asks.count("Does the letter complain about delay?", letters, epsilon=1.0)
            >>> 40 < counted.value < 100
            True
        """
        read, messages = self._read(question, documents, options)
        plan = plan_counts(
            read,
            units_of(messages),
            self.ledger,
            is_participation_private=_covered(read, self.ledger, messages),
        )
        answerer = self._answering()
        with charged(plan, self.ledger if plan.units else None) as charge:
            said = ask_units(
                messages,
                plan.units,
                charge.takes_part,
                self.placeholder,
                lambda views: _yeses(answerer, views),
            )
            [found] = charge.counts([(0,) if yes else () for yes in said])
        return CountResult(found.value, found.low, found.high, guarantee_of(plan, charge))

    def measure(
        self,
        question: str,
        documents: Documents,
        *,
        lower: float,
        upper: float,
        statistic: Statistic = "mean",
        quantile: float | None = None,
        read: Callable[[str], float | None] | None = None,
        **options: Unpack[CountOptions],
    ) -> MeasureResult:
        """Measure a number over the documents: their mean, sum, median or another quantile.

        Each document alone is asked for its number, which is clipped to the limits. A document that gives no
        number does not count.

        Args:
            question: The question, to be answered by a number about one document; public.
            documents: As for :meth:`count`.
            lower: Numbers below count as this one. Choose it without looking at the documents; the closer the
                limits, the less noise.
            upper: Numbers above count as this one.
            statistic: ``"mean"``, ``"sum"``, ``"median"`` or ``"quantile"``.
            quantile: Which quantile, between 0 and 1; with ``statistic="quantile"``.
            read: Reads a number from an answer, or None; by default the first number in it, with a point for
                decimals. What it raises counts as no number.
            **options: As for :meth:`count`.

        Raises:
            PrivacyParameterError: As for :meth:`count`, or if ``lower`` is not below ``upper``.
            ViewError: If there is no question.
            BudgetExhaustedError: If a document's budget in the ledger is spent; then none is asked.
            LedgerError: If the ledger cannot be reached or written; then none is asked.

        Example:
            >>> from dpfusion_core.consensus import Consensus, plain_text
            >>> bills = {f"bill-{n}": f"{n} euros" for n in range(100)}
            >>> asks = Consensus(lambda messages: plain_text(messages[0]))
            >>> found = asks.measure("How much?", bills, lower=0, upper=100, epsilon=2.0)
            >>> 35 < found.value < 65
            True
        """
        measure, part = measure_of(statistic, quantile)
        if read is not None and not callable(read):
            raise PrivacyParameterError("Expected read to be a function from an answer to a number.")
        options_read, messages = self._read(question, documents, options)
        plan = plan_measure(
            options_read,
            units_of(messages),
            self.ledger,
            measure=measure,
            lower=lower,
            upper=upper,
            quantile=part,
            is_participation_private=_covered(options_read, self.ledger, messages),
        )
        answerer = self._answering()
        with charged(plan, self.ledger if plan.units else None) as charge:
            said = ask_units(
                messages,
                plan.units,
                charge.takes_part,
                self.placeholder,
                lambda views: ask(
                    answerer, [asked(view, prompts.NUMBER) for view in views], max_tokens=_TOKENS
                ),
            )
            found = charge.measure([_number(answer, read or read_number) for answer in said])
        return MeasureResult(found.value, found.low, found.high, found.rank_error, guarantee_of(plan, charge))

    async def acount(
        self, question: str, documents: Documents, **options: Unpack[CountOptions]
    ) -> CountResult:
        """Count without blocking the event loop; see :meth:`count`."""
        return await asyncio.to_thread(lambda: self.count(question, documents, **options))

    async def ameasure(self, question: str, documents: Documents, **arguments: Any) -> MeasureResult:
        """Measure without blocking the event loop; see :meth:`measure`."""
        return await asyncio.to_thread(lambda: self.measure(question, documents, **arguments))

    def _read(
        self, question: str, documents: Documents, given: Mapping[str, Any]
    ) -> tuple[Options, tuple[Message, ...]]:
        known = COUNT_OPTIONS | {name for name in ALIASES if ALIASES[name] in COUNT_OPTIONS}
        named = canonical(given, known, "a count or measure")
        read = read_options({**named, "mechanism": "consensus"}, "a count or measure")
        messages = [*document_messages(documents, self.ledger), question_message(question)]
        question_of(messages)
        return read, without_seams(messages)


def _yeses(answerer: Answerer, views: Sequence[Sequence[Message]]) -> list[bool | None]:
    views = [asked(view, prompts.YES_OR_NO) for view in views]
    if isinstance(answerer, YesNoAnswerer):
        return list(answerer.says_yes(views))
    return [None if answer is None else is_yes(answer) for answer in ask(answerer, views, max_tokens=_TOKENS)]


def _number(answer: str | None, read: Callable[[str], float | None]) -> float | None:
    if answer is None:
        return None
    try:
        with errors_as(PrivacyParameterError, "The function that reads numbers failed ({error})."):
            return read(answer)
    except DPFusionError:  # an error would tell of this document
        return None


def _covered(options: Options, ledger: PrivacyLedger | None, messages: Sequence[Message]) -> bool:
    is_covered = check_covered(options, ledger)
    if not is_covered and not units_of(messages):
        raise PrivacyParameterError(
            "There are no documents to ask: give texts, or messages that are private."
        )
    return is_covered
