"""One answer out of several public ones: a single turn of the decoding loop over whole choices."""

import logging
import random
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace

from torch import Tensor

from dpfusion_core.backends import Backend
from dpfusion_core.backends.guarded import GuardedSession, model_errors
from dpfusion_core.charging import charged
from dpfusion_core.choices import (
    ChoiceReport,
    ChoiceResult,
    Writings,
    check_choices,
    choice_log_probs,
    write_choices,
)
from dpfusion_core.decoding import Protection, Token, take
from dpfusion_core.engine.requests import check_length, check_sampling, read_messages
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.options import ALIASES, GenerationOptions, Options, of_parts, read_options
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.planning import Plan, make_plan
from dpfusion_core.privacy.guarantee import Tagging, nothing_private
from dpfusion_core.tagging.narrowing import Narrowing
from dpfusion_core.views import Views

log = logging.getLogger("dpfusion")

MANY_CHOICES = 200
"""Requests with more choices than this log what they will cost before they begin."""

CHOICE_OPTIONS = tuple(
    name
    for name in (*of_parts("budget", "accounting", "choice"), "temperature", "seed", "tools", "curator")
    if name != "spending"  # one turn spends all that it may
)
"""The names of the options that a choice reads; others are refused."""


@dataclass(frozen=True)
class ChoiceRequest:
    """A choice that has passed every check that needs no model."""

    choices: tuple[str, ...]
    writings: Writings
    views: Views
    plan: Plan | None  # None: no private text
    tagging: Tagging
    options: Options


def prepare_choice(
    messages: Sequence[Message] | Views,
    choices: Sequence[str],
    given: GenerationOptions,
    *,
    backend: Backend,
    ledger: PrivacyLedger | None,
    narrowing: Narrowing | None,
    placeholder: Placeholder,
) -> ChoiceRequest:
    """Check everything that can be checked before the model computes.

    Raises:
        DPFusionError: See :meth:`~dpfusion_core.FusionEngine.choose`.
    """
    choices = check_choices(choices)
    options = read_choice_options(given)
    views, tagging = read_messages(
        messages, options, backend=backend, ledger=ledger, narrowing=narrowing, placeholder=placeholder
    )
    writings = write_choices(choices, backend.tokenizer, views.public, backend.eos_token_ids)
    check_sampling(views, options)
    check_length(views, backend, writings.longest + 1, "the longest choice")
    _say_cost(len(choices), len(views.prompts))
    plan = make_plan(options, views.units, ledger, None, len(choices)) if views.units else None
    return ChoiceRequest(choices, writings, views, plan, tagging, options)


def read_choice_options(given: GenerationOptions, steps: int = 1) -> Options:
    """Return the options of choices; those that have a meaning for text alone are refused.

    Args:
        given: As the caller has named them.
        steps: How many choices are made under one guarantee.

    Raises:
        PrivacyParameterError: If an option is unknown, out of range, contradictory or without effect.
    """
    options = read_options(given, "a choice")
    idle = [name for name in given if ALIASES.get(name, name) not in CHOICE_OPTIONS]
    if idle:
        raise PrivacyParameterError(
            f"{', '.join(sorted(idle))} {'has' if len(idle) == 1 else 'have'} no effect on a choice: leave out."
        )
    return replace(options, max_tokens=steps)


def run_choice(request: ChoiceRequest, backend: Backend, ledger: PrivacyLedger | None) -> ChoiceResult:
    """Reserve, score the choices under every view, fuse, charge, draw, settle."""
    views, options, plan = request.views, request.options, request.plan
    rng = random.SystemRandom() if options.seed is None else random.Random(options.seed)
    is_private = options.seed is None
    with (
        charged(plan, ledger, mechanism="choice") if plan else nullcontext() as charge,
        closing(GuardedSession(backend, views.prompts)) as session,
    ):
        logits = session.logits()  # [rows, vocab]
        protection = None
        if plan is not None and charge is not None:
            protection = Protection(plan.rule(), charge.open(logits.device))
        token, log_probs = choose_in(session, request, logits, protection, rng, backend.eos_token_ids)
    if protection is None:
        guarantee = nothing_private(1, 1, private=is_private)
    else:
        guarantee = replace(protection.accountant.guarantee(private=is_private), tagging=request.tagging)
    return ChoiceResult(
        choice=request.choices[token.id],
        index=token.id,
        prompt_tokens=len(views.public),
        guarantee=replace(guarantee, mechanism="choice"),
        report=report_of(views, token, log_probs) if options.curator else None,
    )


def choose_in(
    session: GuardedSession,
    request: ChoiceRequest,
    logits: Tensor,
    protection: Protection | None,
    rng: random.Random,
    ends: frozenset[int],
) -> tuple[Token, Tensor]:
    """Return the choice as one turn of the loop, and the distributions that were fused, ``[rows, choices]``."""
    views, options = request.views, request.options
    with model_errors():
        written = request.writings.as_written(logits[0])
    scores = session.score(written, ends)  # [rows, choices]
    with model_errors():
        like_public = [ids == views.public for ids in views.private.values()]
        log_probs = choice_log_probs(scores, options.temperature, options.prior, like_public)
        token = take(log_probs, protection=protection, is_greedy=options.temperature == 0.0, rng=rng)
    return token, log_probs


def report_of(views: Views, token: Token, log_probs: Tensor) -> ChoiceReport:
    """Return the curator's report of a choice."""
    rows = [tuple(row) for row in log_probs.exp().tolist()]
    found = token.diagnostics
    nothing: list[float] = []
    lambdas = nothing if found is None else found.lambdas.tolist()
    divergences = nothing if found is None else found.divergences.tolist()
    return ChoiceReport(
        prior=rows[0],
        private=dict(zip(views.units, rows[1:], strict=True)),
        sampled=tuple(token.log_probs.exp().tolist()),
        lambdas=dict(zip(views.units, lambdas, strict=True)),
        divergences=dict(zip(views.units, divergences, strict=True)),
    )


def _say_cost(choices: int, prompts: int) -> None:
    """Warn of many choices; how many there are is public."""
    if choices > MANY_CHOICES:
        log.warning(
            "A choice out of %d scores each of them under %d prompts, in batches. Ask for a group first, then for "
            "the choice within it: two questions with few choices cost less time.",
            choices,
            prompts,
        )
