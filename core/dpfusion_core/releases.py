"""From a request's options to what a release may cost the units that take part. Nothing is charged here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dpfusion_core._validate import SMALLEST_DELTA
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger import PrivacyLedger, amounts
from dpfusion_core.ledger.policy import conversion_delta
from dpfusion_core.options import Options
from dpfusion_core.planning import order_of_accounts
from dpfusion_core.privacy import (
    Limits,
    Neighbours,
    PrivacyBudget,
    PrivacyGuarantee,
    RenyiLoss,
    best_epsilon,
    calibrate_counts,
    calibrate_measure,
    calibrate_votes,
)
from dpfusion_core.privacy.budget import MAX_ORDER
from dpfusion_core.privacy.guarantee import Mechanism
from dpfusion_core.privacy.measures import Measure
from dpfusion_core.privacy.release_calibration import NoiseChoice
from dpfusion_core.tagging.naming import check_lasting


class ReleaseRule(Protocol):
    """What a plan needs to know of a rule: the losses that follow from it."""

    @property
    def neighbours(self) -> Neighbours:
        """The neighbour relation of its losses."""
        ...

    def loss(self, contributed: int | None = None) -> RenyiLoss:
        """Return what the release costs a unit that contributes so many items; the most by default."""
        ...


@dataclass(frozen=True)
class ReleasePlan:
    """What a release may cost its units. Everything in it is public.

    Attributes:
        options: What the request asks for.
        rule: What is released, with how much noise.
        units: The units that may take part.
        order: The order at which a new account of a unit is kept.
        mechanism: What the guarantee calls it.
        is_participation_private: Whether who takes part is private: then the guarantee names no number of units.
    """

    options: Options
    rule: ReleaseRule
    units: tuple[str, ...]
    order: float
    mechanism: Mechanism
    is_participation_private: bool = False

    @property
    def loss(self) -> RenyiLoss:
        """What the release costs each unit at most; public."""
        return self.rule.loss()

    @property
    def neighbours(self) -> Neighbours:
        """The neighbour relation of the loss."""
        return self.rule.neighbours

    @property
    def is_refundable(self) -> bool:
        """Whether a unit is charged what it contributed: not under replace, where another content may do so."""
        return self.options.accounting == "adaptive" and self.neighbours == "zero-out"

    @property
    def note(self) -> dict[str, Any]:
        """Public facts for the ledger's log."""
        return {"mechanism": self.mechanism, "units": len(self.units)}

    def guarantee(self, releases: int, exhausted: int = 0) -> PrivacyGuarantee:
        """Return what holds for the release, whether it has happened (``releases`` is 1) or not yet.

        A release that does not share its epsilon reports the epsilon that was asked for; one of several what it
        loses itself. Noise is drawn by OpenDP alone, so that no seed of a caller's is behind it.
        """
        options = self.options
        assert options.epsilon is not None  # _terms has seen to that
        epsilon, order = release_epsilon(self.loss, options.delta)
        if options.responses == 1:
            epsilon = options.epsilon
        is_fixed = not self.is_refundable
        return PrivacyGuarantee(
            epsilon=epsilon,
            delta=options.delta,
            order=order,
            neighbours=self.neighbours,
            accounting=options.accounting,
            tokens=releases,
            max_tokens=1,
            units=None if self.is_participation_private else len(self.units),
            loss_per_token=self.loss.at(math.inf if order is None else order) if is_fixed else None,
            alpha=order,
            beta=None,
            private=True,
            exhausted=exhausted,
            mechanism=self.mechanism,
        )


def release_epsilon(loss: RenyiLoss, delta: float) -> tuple[float, float | None]:
    """Return the smallest epsilon at ``delta`` of a release, and the order it comes from; None for none.

    The release's own delta comes off first. What bounds odds at every order (Laplace noise) needs no conversion.
    """
    pure, rest = loss.at(math.inf), delta - loss.delta
    if rest < SMALLEST_DELTA:
        return pure, None
    best = best_epsilon(loss.at, MAX_ORDER, rest)
    return (pure, None) if pure <= best.epsilon else (best.epsilon, best.order)


def plan_votes(
    options: Options,
    units: Sequence[str],
    ledger: PrivacyLedger | None,
    *,
    max_items: int,
    noise: NoiseChoice = "auto",
    is_participation_private: bool = False,
) -> ReleasePlan:
    """Return what a release by vote may cost.

    Args:
        options: The request's options; ``epsilon`` must be among them.
        units: The units that may take part.
        ledger: Its accounts already say how delta is split, and at which order losses are kept.
        max_items: How many items a unit can name.
        noise: As for :func:`~dpfusion_core.privacy.calibrate_votes`.
        is_participation_private: Whether who takes part is private.

    Raises:
        PrivacyParameterError: If there is no epsilon, it is too small, the ledger has no delta for releases, or
            it is to charge a unit whose id does not last.
    """
    terms, order = _terms(options, units, ledger)
    rule = calibrate_votes(max_items=max_items, noise=noise, **terms)
    return ReleasePlan(options, rule, tuple(units), order, "consensus", is_participation_private)


def plan_counts(
    options: Options,
    units: Sequence[str],
    ledger: PrivacyLedger | None,
    *,
    questions: int = 1,
    noise: NoiseChoice = "auto",
    is_participation_private: bool = False,
) -> ReleasePlan:
    """Return what counting the answers to public yes/no questions may cost; as :func:`plan_votes` does."""
    terms, order = _terms(options, units, ledger)
    rule = calibrate_counts(max_items=questions, noise=noise, **terms)
    return ReleasePlan(options, rule, tuple(units), order, "count", is_participation_private)


def plan_measure(
    options: Options,
    units: Sequence[str],
    ledger: PrivacyLedger | None,
    *,
    measure: Measure,
    lower: float,
    upper: float,
    quantile: float = 0.5,
    noise: NoiseChoice = "auto",
    is_participation_private: bool = False,
) -> ReleasePlan:
    """Return what the mean, sum or quantile of one number per unit may cost; as :func:`plan_votes` does.

    Args:
        options: The request's options; ``epsilon`` must be among them.
        units: The units that may take part.
        ledger: The accounts.
        measure: ``"mean"``, ``"sum"`` or ``"quantile"``.
        lower: Numbers below count as this one; public, like ``upper``.
        upper: Numbers above count as this one.
        quantile: Which quantile: 0.5 is the median.
        noise: Of a sum or a mean.
        is_participation_private: Whether who takes part is private.

    Raises:
        PrivacyParameterError: As for :func:`plan_votes`, or if ``lower`` is not below ``upper``.
    """
    limits = Limits(lower, upper)
    terms, order = _terms(options, units, ledger)
    rule = calibrate_measure(measure=measure, limits=limits, quantile=quantile, noise=noise, **terms)
    return ReleasePlan(options, rule, tuple(units), order, "measure", is_participation_private)


def _terms(
    options: Options, units: Sequence[str], ledger: PrivacyLedger | None
) -> tuple[dict[str, Any], float]:
    """Return the arguments of a calibration, and the order at which an account is kept."""
    if options.epsilon is None:
        raise PrivacyParameterError(
            "A release needs epsilon and delta, for example epsilon=1.0, delta=1e-5: order and beta are settings "
            "of tokens."
        )
    terms: dict[str, Any] = {"epsilon": options.epsilon, "delta": options.delta}
    terms |= {"neighbours": options.neighbours, "responses": options.responses}
    if ledger is None:
        order = options.order or PrivacyBudget(options.epsilon, options.delta).best_order()
        return terms | {"order": options.order}, order
    check_lasting(units)
    share = ledger.release_share
    if share == 0.0:
        raise PrivacyParameterError(
            "This ledger keeps no part of delta for releases: give its BudgetPolicy a release_share above 0."
        )
    part = PrivacyBudget(options.epsilon, conversion_delta(options.delta, share))
    order = options.order or order_of_accounts(part, ledger.orders(units), None) or part.best_order()
    releases = amounts.as_delta(amounts.split_delta(options.delta, share)[1])
    return terms | {"order": order, "release_delta": releases}, order
