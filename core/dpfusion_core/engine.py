"""The engine: from messages with private parts to a stream of text under a guarantee."""

import asyncio
import random
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Unpack

import torch

from dpfusion_core import _validate
from dpfusion_core.backends import Backend, TransformersBackend
from dpfusion_core.charging import Plan, charged, make_plan
from dpfusion_core.decoding import Protection, decode
from dpfusion_core.errors import PrivacyParameterError, ViewError
from dpfusion_core.generation import Chunk, CuratorReport, FinishReason, GenerationOptions, GenerationResult
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.privacy.accounting import Tagging, nothing_private
from dpfusion_core.sampling import LogitsProcessor, Sampling
from dpfusion_core.tagging import Tagger
from dpfusion_core.tagging.narrowing import Narrowing
from dpfusion_core.tokenization import Detokenizer, check_stop
from dpfusion_core.views import Placeholder, Views, build_views, fixed_placeholder


@dataclass(frozen=True)
class _Request:
    """A request that has passed every check that needs no model."""

    views: Views
    plan: Plan | None  # None: no private text
    tagging: Tagging
    sampling: Sampling
    max_new_tokens: int
    stop: tuple[str, ...]
    seed: int | None
    processors: tuple[LogitsProcessor, ...]
    curator: bool


class FusionEngine:
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
        ...     alpha=2.0,
        ...     beta=0.01,
        ...     max_new_tokens=20,
        ... )
        >>> round(result.guarantee.epsilon, 2), result.guarantee.neighbours
        (10.53, 'zero-out')
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
            **options: See :class:`GenerationOptions`.

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
        return _collect(list(self._run(request)), request)

    def stream(
        self, messages: Sequence[Message] | Views, **options: Unpack[GenerationOptions]
    ) -> Generator[Chunk, None, None]:
        """Answer a conversation piece by piece; for arguments and errors see :meth:`generate`.

        The arguments are checked at once, before the first piece is asked for. Closing the
        iterator ends the generation and frees the model's memory.

        Returns:
            An iterator over the pieces; the last one holds the guarantee.
        """
        return self._run(self._prepare(messages, options))

    async def agenerate(
        self, messages: Sequence[Message] | Views, **options: Unpack[GenerationOptions]
    ) -> GenerationResult:
        """Answer a conversation without blocking the event loop; see :meth:`generate`."""
        request = await asyncio.to_thread(self._prepare, messages, options)
        async with aclosing(_in_threads(self._run(request))) as chunks:
            return _collect([chunk async for chunk in chunks], request)

    async def astream(
        self, messages: Sequence[Message] | Views, **options: Unpack[GenerationOptions]
    ) -> AsyncGenerator[Chunk, None]:
        """Answer piece by piece without blocking the event loop; see :meth:`stream`.

        Cancelling the consumer ends the generation once the token in progress is done.

        Yields:
            The pieces; the last one holds the guarantee.
        """
        request = await asyncio.to_thread(self._prepare, messages, options)
        async with aclosing(_in_threads(self._run(request))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _prepare(self, messages: Sequence[Message] | Views, options: GenerationOptions) -> _Request:
        """Check everything that can be checked before the model computes."""
        unknown = set(options) - GenerationOptions.__annotations__.keys()
        if unknown:
            raise PrivacyParameterError(f"Unknown option {sorted(unknown)[0]!r}.")
        sampling = Sampling(
            temperature=options.get("temperature", 1.0),
            top_k=options.get("top_k"),
            top_p=options.get("top_p"),
            min_p=options.get("min_p"),
        )
        max_new_tokens = _validate.count(options.get("max_new_tokens", 256), "max_new_tokens")
        stop = check_stop(options.get("stop", ()))
        seed = options.get("seed")
        if seed is not None:
            _validate.count(seed, "seed", minimum=0)
        tagging: Tagging = "none"
        if isinstance(messages, Views):
            views = messages
        else:
            if self.narrowing is not None:
                messages, whole = self.narrowing(messages)
                tagging = "whole message" if whole else "phrases"
            views = build_views(messages, self.backend.tokenizer, self.placeholder, options.get("tools"))
        plan = make_plan(options, views.units, max_new_tokens, self.ledger)
        if views.units and sampling.is_greedy:
            raise PrivacyParameterError(
                "temperature=0 (greedy decoding) cannot be private: which token is the most probable "
                "tells too much. Use a temperature above 0 for requests with private text."
            )
        limit = self.backend.context_length
        if limit is not None and max(map(len, views.prompts)) + max_new_tokens > limit:
            # The length of a private view is private; the public view's is not.
            raise ViewError(
                f"A view and max_new_tokens={max_new_tokens} together exceed the model's context of "
                f"{limit} tokens (the public view has {len(views.public)}). Shorten the messages or "
                "lower max_new_tokens."
            )
        return _Request(
            views=views,
            plan=plan,
            tagging=tagging,
            sampling=sampling,
            max_new_tokens=max_new_tokens,
            stop=stop,
            seed=seed,
            processors=tuple(options.get("logits_processors", ())),
            curator=options.get("curator", False),
        )

    def _run(self, request: _Request) -> Generator[Chunk, None, None]:
        """Open a session, drain the decoding loop into chunks, close the session."""
        views = request.views
        rng = random.SystemRandom() if request.seed is None else random.Random(request.seed)
        context = views.public[-4:] if views.is_continuation else ()
        text_stream = Detokenizer(self.backend.tokenizer, request.stop, context)
        report = CuratorReport() if request.curator else None
        pending: list[int] = []
        count = 0
        finish_reason: FinishReason = "length"
        plan = request.plan
        with (
            charged(plan, self.ledger) if plan else nullcontext() as charge,
            closing(self.backend.open(views.prompts)) as session,
        ):
            protection = None
            if plan is not None and charge is not None:
                protection = Protection(plan.rule(), charge.open(session.logits().device))
            tokens = decode(
                session,
                views.public,
                protection=protection,
                sampling=request.sampling,
                rng=rng,
                max_tokens=request.max_new_tokens,
                eos_token_ids=self.backend.eos_token_ids,
                processors=request.processors,
            )
            for token in tokens:
                count += 1
                pending.append(token.id)
                if report is not None and token.diagnostics is not None:
                    report.add(views.units, token.diagnostics)
                text = text_stream.push(token.id)
                if text_stream.is_stopped or token.id in self.backend.eos_token_ids:
                    finish_reason = "stop"
                    break
                if text:
                    yield Chunk(text, tuple(pending))
                    text = ""
                    pending.clear()
            else:
                text = ""
        text += text_stream.finish()
        if text_stream.is_stopped:  # what was held back may have completed a stop string
            finish_reason = "stop"
        is_private = request.seed is None
        if protection is None:
            guarantee = nothing_private(count, request.max_new_tokens, private=is_private)
        else:
            guarantee = protection.accountant.guarantee(private=is_private)
            guarantee = replace(guarantee, tagging=request.tagging)
        yield Chunk(text, tuple(pending), finish_reason, guarantee, report)


def _collect(chunks: Sequence[Chunk], request: _Request) -> GenerationResult:
    """Join a finished stream."""
    last = chunks[-1]
    if last.finish_reason is None or last.guarantee is None:
        raise RuntimeError("The stream ended without its last chunk.")
    return GenerationResult(
        text="".join(chunk.text for chunk in chunks),
        token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
        finish_reason=last.finish_reason,
        prompt_tokens=len(request.views.public),
        guarantee=last.guarantee,
        report=last.report,
    )


async def _in_threads(chunks: Generator[Chunk, None, None]) -> AsyncGenerator[Chunk, None]:
    """Advance an iterator in worker threads; close it when the consumer leaves, however it leaves."""
    step: asyncio.Future[Chunk | None] | None = None
    try:
        while True:
            step = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
            # Shielded: a cancelled consumer must not leave a thread inside the generator.
            chunk = await asyncio.shield(step)
            if chunk is None:
                return
            yield chunk
    finally:
        if step is not None and not step.done():
            await asyncio.wait({step})
            step.exception()  # looked at, so that asyncio does not log it
        chunks.close()
