"""Consensus over any chat model: the mechanism without an engine, a tokenizer or logits."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing
from typing import Any, TypedDict, Unpack

from dpfusion_core.consensus.answerers import Answerer, FunctionAnswerer, StreamingAnswerer
from dpfusion_core.consensus.counting import AsksMany
from dpfusion_core.consensus.mechanism import Question, make_question, run_question
from dpfusion_core.errors import BackendError, PrivacyParameterError, errors_as
from dpfusion_core.generation import Chunk, GenerationResult, join_chunks
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.options import ALIASES, Items, OnExhausted, canonical, of_parts, read_options
from dpfusion_core.placeholders import Placeholder, fixed_placeholder
from dpfusion_core.privacy.guarantee import Retrieval, nothing_private
from dpfusion_core.privacy.parameters import Accounting, Neighbours
from dpfusion_core.threads import in_threads

NAMES = frozenset(
    {"epsilon", "delta", "responses", "neighbours", "accounting", "on_exhausted", "max_tokens", "retrieval"}
) | frozenset(of_parts("consensus"))
"""The options that a consensus reads over a chat model that is not the engine's; how it samples is its own."""


class ConsensusOptions(TypedDict, total=False):
    """The options of a consensus as keyword arguments; see :class:`~dpfusion_core.Options`."""

    epsilon: float | None
    delta: float
    responses: int
    neighbours: Neighbours
    accounting: Accounting
    on_exhausted: OnExhausted
    max_tokens: int
    max_items: int
    items: Items
    retrieval: Retrieval | None


class Consensus(AsksMany):
    """Answers questions over many private documents with any chat model.

    Each document alone is asked, then the documents vote under differential privacy, then the same model
    writes the answer from the public messages and what won. The model must run inside the trust boundary:
    it reads the private text.

    Args:
        answerer: The chat model, or a function from a conversation to its answer.
        ledger: Keeps what each privacy unit has lost over all responses.
        placeholder: What stands in the place of private text in the public view.

    Raises:
        PrivacyParameterError: If ``answerer`` cannot answer.

    Example:
        >>> from dpfusion_core import Message, Segment
        >>> from dpfusion_core.consensus import Consensus, plain_text
        >>> def answer(messages):
        ...     asked = " ".join(map(plain_text, messages))
        ...     return "the parcel was late" if "late" in asked else "nothing"
        >>> letters = [Segment(f"Order {n} came late.", is_private=True, unit=f"order-{n}") for n in range(30)]
        >>> chat = [Message("user", letters), Message("user", "What went wrong?")]
        >>> result = Consensus(answer).generate(chat, epsilon=1.0)
        >>> [each.item for each in result.items]
        ['parcel was late']
    """

    def __init__(
        self,
        answerer: Answerer | Callable[[Sequence[Message]], str],
        *,
        ledger: PrivacyLedger | None = None,
        placeholder: str | Placeholder = "____",
    ) -> None:
        if not hasattr(answerer, "answer"):
            if not callable(answerer):
                raise PrivacyParameterError(
                    "Expected an answerer, with a method answer(conversations, *, max_tokens, json_schema=None), or "
                    "a function from a conversation to its answer."
                )
            answerer = FunctionAnswerer(answerer)
        self.answerer: Answerer = answerer
        self.ledger = ledger
        self.placeholder = fixed_placeholder(placeholder) if isinstance(placeholder, str) else placeholder

    def __repr__(self) -> str:
        return f"Consensus({type(self.answerer).__name__})"

    def generate(self, messages: Sequence[Message], **options: Unpack[ConsensusOptions]) -> GenerationResult:
        """Answer a question over the private documents of a conversation.

        Args:
            messages: The conversation; it ends with the question.
            **options: See :class:`~dpfusion_core.Options`.

        Returns:
            The answer, its guarantee and what was released. If nothing was, the answer is the public one.

        Raises:
            PrivacyParameterError: If an option is missing, out of range or has no effect here, or there are
                too few documents.
            ViewError: If the conversation does not end with a question.
            BudgetExhaustedError: If a unit's budget in the ledger is spent.
            LedgerError: If the ledger cannot be reached or written; then no document is asked.
            BackendError: If the model does not answer the public question, or cannot write the answer.
        """
        return join_chunks(list(self.stream(messages, **options)))

    def stream(
        self, messages: Sequence[Message], **options: Unpack[ConsensusOptions]
    ) -> Generator[Chunk, None, None]:
        """Answer piece by piece, as the answer is written; for arguments and errors see :meth:`generate`.

        The arguments are checked at once.

        Returns:
            An iterator over the pieces; the last one holds the guarantee and the items.
        """
        return self._chunks(self._prepare(messages, options))

    async def agenerate(
        self, messages: Sequence[Message], **options: Unpack[ConsensusOptions]
    ) -> GenerationResult:
        """Answer without blocking the event loop; see :meth:`generate`."""
        return join_chunks([chunk async for chunk in self.astream(messages, **options)])

    async def astream(
        self, messages: Sequence[Message], **options: Unpack[ConsensusOptions]
    ) -> AsyncGenerator[Chunk, None]:
        """Answer piece by piece without blocking the event loop; see :meth:`stream`.

        Yields:
            The pieces; the last one holds the guarantee and the items.
        """
        question = await asyncio.to_thread(self._prepare, messages, options)
        async with aclosing(in_threads(self._chunks(question))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _answering(self) -> Answerer:
        return self.answerer

    def _prepare(self, messages: Sequence[Message], given: Any) -> Question:
        known = NAMES | {name for name in ALIASES if ALIASES[name] in NAMES}
        named = canonical(given, known, "Consensus", "How the model samples is set on the model.")
        if named.setdefault("mechanism", "consensus") != "consensus":
            raise PrivacyParameterError(
                "A Consensus has one mechanism: leave out mechanism, or say 'consensus'."
            )
        options = read_options(named, "Consensus")
        return make_question(messages, options, self.placeholder, self.ledger)

    def _chunks(self, question: Question) -> Generator[Chunk, None, None]:
        def write(messages: Sequence[Message]) -> Generator[Chunk, None, None]:
            return self._write(messages, question.options.max_tokens)

        for chunk in run_question(question, self.answerer, write, self.ledger):
            if chunk is not None:
                yield chunk

    def _write(self, messages: Sequence[Message], max_tokens: int) -> Generator[Chunk, None, None]:
        if isinstance(self.answerer, StreamingAnswerer):
            with errors_as(BackendError, "The model that writes the answer failed ({error})."):
                pieces = iter(self.answerer.stream(messages, max_tokens=max_tokens))
            while True:
                with errors_as(BackendError, "The model that writes the answer failed ({error})."):
                    piece = next(pieces, None)
                if piece is None:
                    break
                yield Chunk(piece)
            text = ""
        else:
            with errors_as(BackendError, "The model that writes the answer failed ({error})."):
                [answer] = self.answerer.answer([messages], max_tokens=max_tokens)
            if answer is None:
                raise BackendError("The model did not write the answer.")
            text = answer
        guarantee = nothing_private(0, max_tokens, private=True)  # run_question puts its own in the place
        yield Chunk(text, (), "stop", guarantee, None, 0)
