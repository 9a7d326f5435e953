"""Reserve, run, settle: the one charge to the ledger around whatever costs a budget."""

import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, overload

import torch

from dpfusion_core.errors import BudgetExhaustedError, DPFusionError, raise_bare
from dpfusion_core.ledger import PrivacyLedger, Reservation
from dpfusion_core.planning import Plan
from dpfusion_core.privacy import (
    Accountant,
    AdaptiveAccountant,
    FixedAccountant,
    PrivacyGuarantee,
    RenyiLoss,
)
from dpfusion_core.privacy.shares import ShareAccountant
from dpfusion_core.release_charging import ReleaseCharge
from dpfusion_core.releases import ReleasePlan

log = logging.getLogger("dpfusion")

_WORTHWHILE = 1e-3  # of what was asked for; the ledger calls less than that nothing


class Charge:
    """The charge of one response or document: what has been reserved for it, and its accountant.

    Args:
        plan: What it may cost.
        reservation: What the ledger has set aside; None without a ledger.
    """

    def __init__(self, plan: Plan, reservation: Reservation | None) -> None:
        self._plan = plan
        self._reservation = reservation
        self._accountant: Accountant | None = None

    def open(self, device: torch.device | str = "cpu") -> Accountant:
        """Return the accountant. From here on tokens are counted."""
        plan, options, reservation = self._plan, self._plan.options, self._reservation
        size = plan.together, options.max_tokens
        # A unit that the ledger has not charged takes no part, whatever the accounting.
        exhausted = () if reservation is None else reservation.exhausted
        active = [unit not in exhausted for unit in plan.units][: plan.together]
        if options.accounting == "adaptive":
            granted = None
            if reservation is not None and plan.is_refundable:
                granted = [reservation.granted[unit] for unit in plan.units]
            self._accountant = AdaptiveAccountant(
                plan.parameters,
                *size,
                spending=options.spending,
                granted=granted,
                active=active,
                asked=options.epsilon,
                asked_delta=plan.asked_delta,
                device=device,
            )
        elif plan.shares is not None:
            self._accountant = ShareAccountant(
                plan.parameters,
                plan.together,
                plan.shares,
                active=active,
                asked=options.epsilon,
                device=device,
            )
        else:
            self._accountant = FixedAccountant(
                plan.parameters,
                *size,
                active=active,
                asked=options.epsilon,
                asked_delta=plan.asked_delta,
                device=device,
            )
        return self._accountant

    def used(self) -> dict[str, RenyiLoss]:
        """Return each unit's loss so far; may be private."""
        units = self._plan.units
        if self._accountant is None:  # no token was sampled
            return dict.fromkeys(units, RenyiLoss(self._plan.loss.max_order, lambda order: 0.0))
        losses = self._accountant.used()
        if len(losses) < len(units):  # a document: each unit counts as in its smallest company
            return dict.fromkeys(units, losses[0])
        return dict(zip(units, losses, strict=True))


class DocumentCharge:
    """What the chunks of a document have cost its units; each chunk is generated on its own.

    Args:
        plan: What the whole document may cost.
        charge: Its charge.
    """

    def __init__(self, plan: Plan, charge: Charge) -> None:
        self._plan = plan
        self._accountant = charge.open()

    def count(self, tokens: int) -> None:
        """Charge the tokens of a chunk."""
        nothing = torch.zeros(self._plan.together, dtype=torch.float64)  # the bound is charged
        for _ in range(tokens):
            self._accountant.charge(nothing)

    def guarantee(self, *, private: bool) -> PrivacyGuarantee:
        """Return the guarantee of the whole document."""
        return replace(self._accountant.guarantee(private=private), units=len(self._plan.units))


@overload
def charged(plan: Plan, ledger: PrivacyLedger | None, **note: object) -> AbstractContextManager[Charge]: ...
@overload
def charged(
    plan: ReleasePlan, ledger: PrivacyLedger | None, **note: object
) -> AbstractContextManager[ReleaseCharge]: ...
@contextmanager
def charged(plan: Plan | ReleasePlan, ledger: PrivacyLedger | None, **note: object) -> Iterator[Any]:
    """Reserve what a response or a release may cost, and give back what it did not use once it has ended.

    Whatever happens in between, the units have been charged at least what was released.

    Args:
        plan: What it may cost.
        ledger: The ledger; None charges nobody.
        **note: Further public facts for the ledger's log.

    Yields:
        The charge.

    Raises:
        BudgetExhaustedError: If a unit cannot pay (fixed accounting, ``on_exhausted="raise"``).
        LedgerError: If the ledger cannot be reached or written: then nothing is generated.
        PrivacyParameterError: If a unit's account is kept in a way that does not fit the request.
    """
    if ledger is None:
        yield _charge(plan, None)
        return
    try:
        reservation = ledger.reserve(
            dict.fromkeys(plan.units, plan.loss),
            order=plan.order,
            accounting="adaptive" if plan.is_refundable else "fixed",
            neighbours=plan.neighbours,
            on_exhausted=plan.options.on_exhausted,
            note={**plan.note, **note},
        )
    except BudgetExhaustedError as error:
        raise_bare(_with_advice(error, plan))
    charge = _charge(plan, reservation)
    try:
        yield charge
    finally:
        try:
            ledger.settle(reservation, charge.used())
        except DPFusionError as error:
            # The answer is paid for; only a refund is lost. The user must not lose the answer too.
            log.warning("What a request did not use could not be given back: %s", error)


def _charge(plan: Plan | ReleasePlan, reservation: Reservation | None) -> Charge | ReleaseCharge:
    return Charge(plan, reservation) if isinstance(plan, Plan) else ReleaseCharge(plan, reservation)


def _with_advice(error: BudgetExhaustedError, plan: Plan | ReleasePlan) -> BudgetExhaustedError:
    """Say what would fit in the terms of the request."""
    share, options = error.largest_share or 0.0, plan.options
    tokens = int(share * options.max_tokens)
    if share < _WORTHWHILE:
        return error
    if options.epsilon is not None:
        advice = f"epsilon spread over responses={math.ceil(options.responses / share)} would fit."
    elif tokens > 0:
        advice = f"max_tokens={tokens} would fit."
    else:
        return error
    return BudgetExhaustedError(f"{error} Here, {advice}", units=error.units, largest_share=share)
