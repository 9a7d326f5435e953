"""Running prepared requests: one, several together, and either without blocking an event loop."""

import itertools
import random
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace

from dpfusion_core.backends import Backend, Opener
from dpfusion_core.backends.guarded import GuardedSession, model_errors
from dpfusion_core.charging import charged
from dpfusion_core.decoding import Protection, decode
from dpfusion_core.engine.requests import Request
from dpfusion_core.errors import DPFusionError
from dpfusion_core.generation import Chunk, CuratorReport, FinishReason, GenerationResult, join_chunks
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.privacy.guarantee import nothing_private
from dpfusion_core.tokenization import Detokenizer

Start = Callable[[Opener], Generator[Chunk | None, None, None]]
"""Begins a request with what begins requests that advance together."""


def run(
    request: Request, backend: Backend, ledger: PrivacyLedger | None, opener: Opener
) -> Generator[Chunk | None, None, None]:
    """Open a session, drain the decoding loop into chunks, close the session.

    Args:
        request: The request.
        backend: The model.
        ledger: The accounts of privacy units.
        opener: What begins the request: the backend, or what begins requests that advance together.

    Yields:
        One item per token: a chunk, or None while its text is held back.
    """
    views, options = request.views, request.options
    rng = random.SystemRandom() if options.seed is None else random.Random(options.seed)
    context = views.public[-4:] if views.is_continuation else ()
    text_stream = Detokenizer(backend.tokenizer, options.stop, context)
    report = CuratorReport() if options.curator else None
    pending: list[int] = []
    count = 0
    finish_reason: FinishReason = "length"
    plan = request.plan
    with (
        charged(plan, ledger) if plan else nullcontext() as charge,
        closing(GuardedSession(opener, views.prompts)) as session,
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
            max_tokens=options.max_tokens,
            eos_token_ids=backend.eos_token_ids,
            processors=request.processors,
        )
        for token in tokens:
            count += 1
            pending.append(token.id)
            if report is not None and token.diagnostics is not None:
                report.add(views.units, token.diagnostics)
            text = text_stream.push(token.id)
            if text_stream.is_stopped or token.id in backend.eos_token_ids:
                finish_reason = "stop"
                break
            chunk = Chunk(text, tuple(pending)) if text else None
            if chunk:
                pending.clear()
            text = ""
            yield chunk
        else:
            text = ""
    text += text_stream.finish()
    if text_stream.is_stopped:  # what was held back may have completed a stop string
        finish_reason = "stop"
    is_private = options.seed is None
    if protection is None:
        guarantee = nothing_private(count, options.max_tokens, private=is_private)
    else:
        guarantee = protection.accountant.guarantee(private=is_private)
        guarantee = replace(guarantee, tagging=request.tagging, retrieval=options.retrieval)
    yield Chunk(text, tuple(pending), finish_reason, guarantee, report, len(views.public))


def run_together(
    requests: Sequence[Start | DPFusionError],
    backend: Backend,
    found: list[GenerationResult | DPFusionError],
    *,
    return_exceptions: bool,
) -> Generator[int, None, None]:
    """Advance several requests by a token per round.

    Args:
        requests: What begins each; an error stands for one that is not to be run.
        backend: The model.
        found: At the end: the responses, or the errors in their places.
        return_exceptions: Whether an error ends only its own request.

    Yields:
        The number of each round.
    """
    with model_errors():
        opener = backend.together()
    errors: dict[int, DPFusionError] = {}
    chunks: list[list[Chunk]] = [[] for _ in requests]
    with ExitStack() as stack:
        runs: dict[int, Generator[Chunk | None, None, None]] = {}
        for i, request in enumerate(requests):
            if isinstance(request, DPFusionError):
                errors[i] = request
            else:
                runs[i] = stack.enter_context(closing(request(opener)))
        for count in itertools.count(1):
            for i, each in list(runs.items()):
                try:
                    chunks[i] += filter(None, [next(each)])
                except StopIteration:
                    del runs[i]
                except DPFusionError as error:
                    if not return_exceptions:
                        raise
                    errors[i] = error
                    del runs[i]
            if not runs:
                break
            yield count
    found += [errors[i] if i in errors else join_chunks(each) for i, each in enumerate(chunks)]
