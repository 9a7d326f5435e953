"""One answer out of several public ones: a single turn of the decoding loop over whole choices."""

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from torch import Tensor

from dpfusion_core.backends import Backend
from dpfusion_core.backends.guarded import GuardedSession, model_errors
from dpfusion_core.charging import Charge, charged
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
from dpfusion_core.privacy.guarantee import PrivacyGuarantee, Tagging, nothing_private
from dpfusion_core.privacy.steady import SteadyRule
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
class WrittenChoices:
    """Choices behind a conversation, in the tokens of the model."""

    choices: tuple[str, ...]
    writings: Writings
    views: Views


@dataclass(frozen=True)
class ChoiceRequest:
    """A choice that has passed every check that needs no model."""

    written: WrittenChoices
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
    check_sampling(views, options)
    written = write_behind(views, choices, backend)
    _say_cost(len(choices), len(views.prompts))
    plan = make_plan(options, views.units, ledger, None, len(choices)) if views.units else None
    return ChoiceRequest(written, plan, tagging, options)


def write_behind(views: Views, choices: tuple[str, ...], backend: Backend) -> WrittenChoices:
    """Return choices in tokens, or refuse those that the tokenizer cannot write or the model's context hold.

    Raises:
        PrivacyParameterError: If the tokenizer cannot write a choice.
        ViewError: If a view and a choice do not fit the model.
    """
    writings = write_choices(choices, backend.tokenizer, views.public, backend.eos_token_ids)
    check_length(views, backend, writings.longest + 1, "the longest choice")
    return WrittenChoices(choices, writings, views)


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


@dataclass(frozen=True)
class Turn:
    """One choice that has been made.

    Attributes:
        index: Its place among the choices.
        prompt_tokens: Length of the public view in tokens.
        weight: The weight that every unit would have had, where it is the same for all; public.
        report: The curator's report, if asked for.
    """

    index: int
    prompt_tokens: int
    weight: float | None = None
    report: ChoiceReport | None = field(default=None, repr=False)


class Turns:
    """Choices under one charge, each one turn of the loop.

    Args:
        plan: What all of them may cost; None without private text.
        charge: Their charge.
        options: The request's options.
        backend: The model.
    """

    def __init__(self, plan: Plan | None, charge: Charge | None, options: Options, backend: Backend) -> None:
        self._plan, self._charge, self._options, self._backend = plan, charge, options, backend
        self._rng = random.SystemRandom() if options.seed is None else random.Random(options.seed)
        self._protection: Protection | None = None
        self._count = 0

    def take(self, choices: WrittenChoices) -> Turn:
        """Score the choices under every view, fuse, charge, draw."""
        views, options = choices.views, self._options
        with closing(GuardedSession(self._backend, views.prompts)) as session:
            logits = session.logits()  # [rows, vocab]
            if self._plan is not None and self._charge is not None and self._protection is None:
                self._protection = Protection(self._plan.rule(), self._charge.open(logits.device))
            with model_errors():
                written = choices.writings.as_written(logits[0])
            scores = session.score(written, self._backend.eos_token_ids)  # [rows, choices]
        # Before the turn, which uses them up; public where they are looked at.
        bounds = None if self._protection is None else self._protection.accountant.bounds()
        with model_errors():
            like_public = [ids == views.public for ids in views.private.values()]
            log_probs = choice_log_probs(scores, options.temperature, options.prior, like_public)
            token = take(
                log_probs, protection=self._protection, is_greedy=options.temperature == 0.0, rng=self._rng
            )
        self._count += 1
        weight = self._weight(len(choices.choices), bounds)
        report = report_of(views, token, log_probs) if options.curator else None
        return Turn(token.id, len(views.public), weight, report)

    def _weight(self, choices: int, bounds: Tensor | None) -> float | None:
        rule = None if self._protection is None else self._protection.rule
        return (
            rule.weight(choices, float(bounds[0]))
            if isinstance(rule, SteadyRule) and bounds is not None
            else None
        )

    def guarantee(self, tagging: Tagging) -> PrivacyGuarantee:
        """Return what holds for the choices so far."""
        is_private = self._options.seed is None
        if self._protection is None:
            found = nothing_private(self._count, self._options.max_tokens, private=is_private)
        else:
            found = replace(self._protection.accountant.guarantee(private=is_private), tagging=tagging)
        return replace(found, mechanism="choice")


@contextmanager
def charged_turns(
    plan: Plan | None, options: Options, backend: Backend, ledger: PrivacyLedger | None
) -> Iterator[Turns]:
    """Reserve what choices may cost, and settle once they are made."""
    with charged(plan, ledger, mechanism="choice") if plan else nullcontext() as charge:
        yield Turns(plan, charge, options, backend)


def run_choice(request: ChoiceRequest, backend: Backend, ledger: PrivacyLedger | None) -> ChoiceResult:
    """Reserve, choose, settle."""
    with charged_turns(request.plan, request.options, backend, ledger) as turns:
        turn = turns.take(request.written)
    return ChoiceResult(
        choice=request.written.choices[turn.index],
        index=turn.index,
        prompt_tokens=turn.prompt_tokens,
        guarantee=turns.guarantee(request.tagging),
        report=turn.report,
    )


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
