"""The charge of a release: who can pay, the one draw, and what it has cost. ``charging.charged`` stands around it."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger import Reservation
from dpfusion_core.privacy import (
    Counted,
    CountRelease,
    Measured,
    NumberRelease,
    PrivacyGuarantee,
    QuantileRelease,
    Released,
    RenyiLoss,
    VoteRelease,
    release_counts,
    release_measure,
    release_votes,
)
from dpfusion_core.privacy.measuring import is_number
from dpfusion_core.releases import ReleasePlan


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
        rule = self._plan.rule
        if not isinstance(rule, VoteRelease):
            raise _another_kind(rule)
        first = ([*islice(dict.fromkeys(each), rule.max_items)] for each in contributions)
        return release_votes(self._counting(first), rule)

    def counts(self, contributions: Sequence[Collection[int]]) -> tuple[Counted, ...]:
        """Count the answers to yes/no questions, once; as :meth:`votes`.

        Args:
            contributions: Of each unit the numbers of the questions, from 0, that it says yes to.
        """
        rule = self._plan.rule
        if not isinstance(rule, CountRelease):
            raise _another_kind(rule)
        most = None if self._plan.is_participation_private else len(self._plan.units)
        asked = range(rule.max_items)
        return release_counts(self._counting({*each} & {*asked} for each in contributions), rule, most=most)

    def measure(self, values: Sequence[float | None]) -> Measured:
        """Release a mean, a sum or a quantile, once; as :meth:`votes`.

        Args:
            values: Of each unit its number; None, and what is no finite number, counts as none.
        """
        rule = self._plan.rule
        if not isinstance(rule, NumberRelease | QuantileRelease):
            raise _another_kind(rule)
        most = None if self._plan.is_participation_private else len(self._plan.units)
        said = self._counting((each,) if is_number(each) else () for each in values)
        return release_measure([value for each in said for value in each], rule, most=most)

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


def _another_kind(rule: object) -> PrivacyParameterError:
    return PrivacyParameterError(
        f"The plan is for a {type(rule).__name__}: plan_votes goes with votes, plan_counts with counts, plan_measure "
        "with measure."
    )
