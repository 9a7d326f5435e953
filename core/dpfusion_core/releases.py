"""What a release may cost the units that take part, and the one charge around it. See ``planning``, ``charging``."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger import PrivacyLedger, Reservation, amounts
from dpfusion_core.ledger.policy import conversion_delta
from dpfusion_core.options import Options
from dpfusion_core.planning import order_of_accounts
from dpfusion_core.privacy import (
    Counted,
    CountRelease,
    Neighbours,
    PrivacyBudget,
    PrivacyGuarantee,
    Released,
    RenyiLoss,
    VoteRelease,
    best_epsilon,
    calibrate_counts,
    calibrate_votes,
    release_counts,
    release_votes,
)
from dpfusion_core.privacy.budget import MAX_ORDER
from dpfusion_core.privacy.guarantee import Mechanism
from dpfusion_core.privacy.release_calibration import NoiseChoice
from dpfusion_core.tagging.naming import check_lasting

_Rule = TypeVar("_Rule")


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
        epsilon, order = options.epsilon, self.order
        if options.responses > 1:
            epsilon, found = release_epsilon(self.loss, options.delta)
            order = self.order if found is None else found
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
            loss_per_token=self.loss.at(order) if is_fixed else None,
            alpha=order,
            beta=None,
            private=True,
            exhausted=exhausted,
            mechanism=self.mechanism,
        )


def release_epsilon(loss: RenyiLoss, delta: float) -> tuple[float, float | None]:
    """Return the smallest epsilon at ``delta`` of a release, and the order it comes from; None for none.

    The release's own delta comes off first. What bounds odds at every order (Laplace noise) needs no conversion.

    Raises:
        PrivacyParameterError: If the release's own delta leaves nothing.
    """
    pure = loss.at(math.inf)
    best = best_epsilon(loss.at, MAX_ORDER, delta - loss.delta)
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


class ReleaseCharge:
    """The charge of one release: who can pay, the draw, and what it has cost.

    Args:
        plan: What it may cost.
        reservation: What the ledger has set aside; None without a ledger.
    """

    def __init__(self, plan: ReleasePlan, reservation: Reservation | None) -> None:
        self._plan = plan
        self._exhausted = 0 if reservation is None else len(reservation.exhausted)
        whole = plan.units if reservation is None else reservation.whole
        self._paid = tuple(unit in whole for unit in plan.units)
        self._contributed: tuple[int, ...] | None = None

    @property
    def takes_part(self) -> tuple[bool, ...]:
        """Whether each unit can pay, in the order of the plan's units. Private under adaptive accounting.

        Others need not be asked; whatever they contribute is left out.
        """
        return self._paid

    def votes(self, contributions: Sequence[Collection[str]]) -> tuple[Released, ...]:
        """Release by vote, once.

        Args:
            contributions: The items of each unit, in the order of the plan's units.

        Raises:
            PrivacyParameterError: If there are not as many as units, something was released already, or the plan
                is for another kind of release.
            BackendError: If OpenDP failed.
        """
        rule = self._rule(VoteRelease)
        first = ([*islice(dict.fromkeys(each), rule.max_items)] for each in contributions)
        return release_votes(self._counting(first), rule)

    def counts(self, contributions: Sequence[Collection[int]]) -> tuple[Counted, ...]:
        """Count the answers to yes/no questions, once; as :meth:`votes`.

        Args:
            contributions: Of each unit the numbers of the questions, from 0, that it says yes to.
        """
        rule = self._rule(CountRelease)
        most = None if self._plan.is_participation_private else len(self._plan.units)
        asked = range(rule.max_items)
        return release_counts(self._counting({*each} & {*asked} for each in contributions), rule, most=most)

    def used(self) -> Mapping[str, RenyiLoss]:
        """Return each unit's loss so far; private under adaptive accounting."""
        plan = self._plan
        if self._contributed is None:  # nothing was released, which everyone may know
            return dict.fromkeys(plan.units, RenyiLoss(math.inf, lambda order: 0.0))
        losses = {items: plan.rule.loss(items) for items in {*self._contributed}}
        most = plan.loss
        return {
            unit: losses[items] if plan.is_refundable else most
            for unit, items in zip(plan.units, self._contributed, strict=True)
        }

    def guarantee(self) -> PrivacyGuarantee:
        """Return what holds for the release."""
        return self._plan.guarantee(0 if self._contributed is None else 1, self._exhausted)

    def _rule(self, kind: type[_Rule]) -> _Rule:
        rule = self._plan.rule
        if not isinstance(rule, kind):
            raise PrivacyParameterError(
                f"The plan is for a {type(rule).__name__}, not for a {kind.__name__}."
            )
        return rule

    def _counting(self, contributions: Iterable[Collection[Any]]) -> list[Collection[Any]]:
        """Leave out who cannot pay, and take note of how much each contributes, before anything is drawn."""
        found = list(contributions)
        if len(found) != len(self._paid):
            raise PrivacyParameterError(
                f"Expected the contributions of {len(self._paid)} units, in their order."
            )
        if self._contributed is not None:
            raise PrivacyParameterError("A charge is for one release. Reserve anew for another.")
        found = [each if paid else () for each, paid in zip(found, self._paid, strict=True)]
        self._contributed = tuple(map(len, found))
        return found
