"""The engine: from messages with private parts to a stream of text under a guarantee."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from functools import partial
from typing import Any, Literal, Unpack, overload

import torch

from dpfusion_core.backends import Backend, Opener, TransformersBackend
from dpfusion_core.consensus.counting import AsksMany
from dpfusion_core.consensus.mechanism import Question, run_question
from dpfusion_core.constraints import Grammars
from dpfusion_core.engine.answering import OwnModel
from dpfusion_core.engine.closed import ClosedAnswers
from dpfusion_core.engine.requests import Request, options_of_each, prepare, prepare_question
from dpfusion_core.engine.running import Start, run, run_together
from dpfusion_core.errors import DPFusionError
from dpfusion_core.generation import Chunk, GenerationResult, join_chunks
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.options import GenerationOptions
from dpfusion_core.placeholders import Placeholder, fixed_placeholder
from dpfusion_core.tagging import Tagger
from dpfusion_core.tagging.narrowing import Narrowing
from dpfusion_core.threads import in_threads
from dpfusion_core.views import Views


class FusionEngine(ClosedAnswers, AsksMany):
    """Differentially private generation with one model.

    Args:
        backend: The model.
        placeholder: What stands in the place of private text in the public view.
        ledger: Keeps what each privacy unit has lost over all responses. Without one, every response
            is accounted for on its own.
        tagger: Narrows private messages to the private phrases in them; a tagger, or a
            :class:`~dpfusion_core.tagging.Narrowing` that says how. Without one, what is marked as
            private is private as a whole.

    Example:
        >>> engine = FusionEngine.from_pretrained("dpfusion-tiny")
        >>> result = engine.generate(
        ...     [
        ...         Message("user", "The patient lives in Oslo.", is_private=True),
        ...         Message("user", "Where does the patient live?"),
        ...     ],
        ...     epsilon=2.0,
        ...     max_tokens=20,
        ... )
        >>> result.guarantee.epsilon, result.guarantee.neighbours
        (2.0, 'zero-out')
    """

    def __init__(
        self,
        backend: Backend,
        *,
        placeholder: str | Placeholder = "____",
        ledger: PrivacyLedger | None = None,
        tagger: Tagger | Narrowing | None = None,
    ) -> None:
        self.backend = backend
        self.ledger = ledger
        self.narrowing = tagger if tagger is None or isinstance(tagger, Narrowing) else Narrowing(tagger)
        self.placeholder = fixed_placeholder(placeholder) if isinstance(placeholder, str) else placeholder
        self._grammars = Grammars(backend.tokenizer, backend.vocab_size, backend.eos_token_ids)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        placeholder: str | Placeholder = "____",
        ledger: PrivacyLedger | None = None,
        tagger: Tagger | Narrowing | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        device_map: Any = None,
        **model_kwargs: Any,
    ) -> "FusionEngine":
        """Load a ``transformers`` model by name or path; ``"dpfusion-tiny"`` is embedded.

        For the arguments see :meth:`TransformersBackend.from_pretrained`.

        Raises:
            BackendError: If the model cannot be loaded.
        """
        backend = TransformersBackend.from_pretrained(
            name_or_path, device=device, dtype=dtype, device_map=device_map, **model_kwargs
        )
        return cls(backend, placeholder=placeholder, ledger=ledger, tagger=tagger)

    def __repr__(self) -> str:
        return f"FusionEngine({self.backend.fingerprint})"

    def generate(
        self, messages: Sequence[Message] | Views, **options: Unpack[GenerationOptions]
    ) -> GenerationResult:
        """Answer a conversation.

        Args:
            messages: The conversation, or ready views.
            **options: See :class:`~dpfusion_core.options.Options`. With ``mechanism="consensus"`` each privacy
                unit alone is asked, and the answer is written from what many say.

        Returns:
            The response and its guarantee.

        Raises:
            PrivacyParameterError: If an option is missing, out of range or contradictory.
            ViewError: If the messages cannot be made into prompts that fit the model.
            TaggerError: If the tagger fails and its narrowing says to raise.
            BudgetExhaustedError: If a unit's budget in the ledger is spent.
            LedgerError: If the ledger cannot be reached or written; then nothing is generated.
            BackendError: If the model fails.
        """
        request = self._prepare(messages, options)
        return join_chunks(list(self._chunks(request)))

    @overload
    def batch(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        *,
        each: Sequence[GenerationOptions] | None = None,
        return_exceptions: Literal[False] = False,
        **options: Unpack[GenerationOptions],
    ) -> list[GenerationResult]: ...
    @overload
    def batch(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        *,
        each: Sequence[GenerationOptions] | None = None,
        return_exceptions: bool,
        **options: Unpack[GenerationOptions],
    ) -> list[GenerationResult | DPFusionError]: ...
    def batch(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        *,
        each: Sequence[GenerationOptions] | None = None,
        return_exceptions: bool = False,
        **options: Unpack[GenerationOptions],
    ) -> list[Any]:
        """Answer several conversations at once, with one forward pass per token for all of them.

        Each has its own guarantee and its own charge, as if it were alone.

        Args:
            conversations: The conversations, or ready views.
            each: Options of each conversation, on top of the common ones.
            return_exceptions: Whether the error of a conversation takes the place of its response. By
                default the first one is raised, and the others are given up; what they have sampled
                stays charged.
            **options: Common options; see :class:`~dpfusion_core.options.Options`.

        Returns:
            The responses, in order.

        Raises:
            DPFusionError: See :meth:`generate`.
        """
        found: list[Any] = []
        requests = self._prepare_all(conversations, each, return_exceptions, options)
        for _ in run_together(requests, self.backend, found, return_exceptions=return_exceptions):
            pass
        return found

    def stream(
        self, messages: Sequence[Message] | Views, **options: Unpack[GenerationOptions]
    ) -> Generator[Chunk, None, None]:
        """Answer a conversation piece by piece; for arguments and errors see :meth:`generate`.

        The arguments are checked at once, before the first piece is asked for. Closing the
        iterator ends the generation and frees the model's memory.

        Returns:
            An iterator over the pieces; the last one holds the guarantee.
        """
        return self._chunks(self._prepare(messages, options))

    async def agenerate(
        self, messages: Sequence[Message] | Views, **options: Unpack[GenerationOptions]
    ) -> GenerationResult:
        """Answer a conversation without blocking the event loop; see :meth:`generate`."""
        request = await asyncio.to_thread(self._prepare, messages, options)
        async with aclosing(in_threads(self._chunks(request))) as chunks:
            return join_chunks([chunk async for chunk in chunks])

    @overload
    async def abatch(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        *,
        each: Sequence[GenerationOptions] | None = None,
        return_exceptions: Literal[False] = False,
        **options: Unpack[GenerationOptions],
    ) -> list[GenerationResult]: ...
    @overload
    async def abatch(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        *,
        each: Sequence[GenerationOptions] | None = None,
        return_exceptions: bool,
        **options: Unpack[GenerationOptions],
    ) -> list[GenerationResult | DPFusionError]: ...
    async def abatch(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        *,
        each: Sequence[GenerationOptions] | None = None,
        return_exceptions: bool = False,
        **options: Unpack[GenerationOptions],
    ) -> list[Any]:
        """Answer several conversations at once without blocking the event loop; see :meth:`batch`."""
        found: list[Any] = []
        requests = await asyncio.to_thread(self._prepare_all, conversations, each, return_exceptions, options)
        rounds = run_together(requests, self.backend, found, return_exceptions=return_exceptions)
        async with aclosing(in_threads(rounds)) as steps:
            async for _ in steps:
                pass
        return found

    async def astream(
        self, messages: Sequence[Message] | Views, **options: Unpack[GenerationOptions]
    ) -> AsyncGenerator[Chunk, None]:
        """Answer piece by piece without blocking the event loop; see :meth:`stream`.

        Cancelling the consumer ends the generation once the token in progress is done.

        Yields:
            The pieces; the last one holds the guarantee.
        """
        request = await asyncio.to_thread(self._prepare, messages, options)
        async with aclosing(in_threads(self._chunks(request))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _prepare(self, messages: Sequence[Message] | Views, options: GenerationOptions) -> Request | Question:
        if options.get("mechanism") == "consensus":
            return prepare_question(
                messages, options, ledger=self.ledger, narrowing=self.narrowing, placeholder=self.placeholder
            )
        return prepare(
            messages,
            options,
            backend=self.backend,
            grammars=self._grammars,
            ledger=self.ledger,
            narrowing=self.narrowing,
            placeholder=self.placeholder,
        )

    def _prepare_all(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        each: Sequence[GenerationOptions] | None,
        return_exceptions: bool,
        options: GenerationOptions,
    ) -> list[Start | DPFusionError]:
        own = options_of_each(conversations, each, options)
        found: list[Start | DPFusionError] = []
        for messages, said in zip(conversations, own, strict=True):
            try:
                found.append(partial(self._start, self._prepare(messages, said)))
            except DPFusionError as error:
                if not return_exceptions:
                    raise
                found.append(error)
        return found

    def _answering(self) -> OwnModel:
        return OwnModel(self.backend, self._grammars)

    def _start(self, request: Request | Question, opener: Opener) -> Generator[Chunk | None, None, None]:
        if isinstance(request, Question):
            own = self._answering()
            return run_question(request, own, lambda view: own.write(view, request.options), self.ledger)
        return run(request, self.backend, self.ledger, opener)

    def _chunks(self, request: Request | Question) -> Generator[Chunk, None, None]:
        with closing(self._start(request, self.backend)) as items:
            yield from (item for item in items if item is not None)
