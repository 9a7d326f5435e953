"""From a request's options to what it may cost, and the charge to the ledger around its generation."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from dpfusion_core import _validate
from dpfusion_core.errors import BudgetExhaustedError, DPFusionError, PrivacyParameterError, raise_bare
from dpfusion_core.generation import GenerationOptions
from dpfusion_core.ledger import PrivacyLedger, Reservation
from dpfusion_core.privacy import (
    Accountant,
    Accounting,
    AdaptiveAccountant,
    FixedAccountant,
    FusionRule,
    MixtureRule,
    PrivacyBudget,
    PrivacyParameters,
    RenyiLoss,
    Spending,
    best_epsilon,
    calibrate_beta,
    response_loss,
)
from dpfusion_core.privacy.adaptive import DEFAULT_SPENDING, adaptive_loss
from dpfusion_core.privacy.parameters import check_accounting
from dpfusion_core.privacy.spending import check_spending
from dpfusion_core.tagging.naming import check_lasting

log = logging.getLogger("dpfusion")

_HOW = (
    "Say what the answer may cost in one of two ways: epsilon and delta, for example epsilon=8.0, "
    "delta=1e-5 (the largest settings within it are chosen), or the paper's alpha and beta, for example "
    "alpha=2.0, beta=0.01 (smaller beta, more privacy)."
)


@dataclass(frozen=True)
class Plan:
    """What a request with private text may cost its units.

    Attributes:
        parameters: Per-token settings.
        accounting: How the tokens are added up.
        spending: The spending rule of adaptive accounting.
        on_exhausted: What to do, under fixed accounting, with units whose budget is spent.
        units: The units of the request.
        max_tokens: Largest number of tokens of the response.
        responses: How many responses epsilon is meant for; None if the request said alpha and beta.
        is_shared: Whether epsilon is shared with other responses, and so is kept at ``alpha`` alone.
        epsilon: What the request asked for, if it said epsilon.
    """

    parameters: PrivacyParameters
    accounting: Accounting
    spending: Spending
    on_exhausted: Literal["raise", "zero-out"]
    units: tuple[str, ...]
    max_tokens: int
    responses: int | None
    is_shared: bool = False
    epsilon: float | None = None

    @property
    def loss(self) -> RenyiLoss:
        """What the response costs each unit at most; public."""
        worst = adaptive_loss if self.accounting == "adaptive" else response_loss
        return worst(self.parameters, len(self.units), self.max_tokens)

    @property
    def order(self) -> float:
        """The order at which a new account of a unit is kept.

        Responses that share a budget are all charged at ``alpha``: losses add up at one order, and which
        order converts best depends on the number of units. One on its own takes the order at which it
        converts to the smallest epsilon.
        """
        if self.accounting == "adaptive" or self.is_shared:
            return self.parameters.alpha
        return best_epsilon(self.loss.at, self.parameters.alpha, self.parameters.delta).order

    def rule(self) -> FusionRule:
        """Return the rule that fuses the views' distributions."""
        has_cap = self.parameters.neighbours == "replace"
        return MixtureRule(self.parameters.alpha, self.parameters.surcharge if has_cap else None)

    @property
    def is_refundable(self) -> bool:
        """Whether what a unit did not lose is given back.

        Under replace neighbours the realised loss of an adaptive response is not: each token costs a
        constant whatever the unit itself loses.
        """
        return self.accounting == "adaptive" and self.parameters.neighbours == "zero-out"


def make_plan(
    options: GenerationOptions, units: Sequence[str], max_tokens: int, ledger: PrivacyLedger | None
) -> Plan | None:
    """Check the privacy options of a request and return what it may cost.

    Args:
        options: The request's options.
        units: Its privacy units.
        max_tokens: Largest number of tokens of the response.
        ledger: Accounts that it keeps already say from which order on a request can be charged.

    Returns:
        The plan; None if there is no unit, and so nothing to protect.

    Raises:
        PrivacyParameterError: If an option is missing, out of range or contradictory, or epsilon
            cannot be met.
    """
    accounting: Accounting = options.get("accounting", "fixed")
    check_accounting(accounting)
    spending = options.get("spending", DEFAULT_SPENDING)
    check_spending(spending)
    on_exhausted = options.get("on_exhausted", "raise")
    if on_exhausted not in ("raise", "zero-out"):
        raise PrivacyParameterError(f"Expected on_exhausted 'raise' or 'zero-out', got {on_exhausted!r}.")
    parameters = _parameters(options, units, max_tokens, ledger, accounting)
    if not units:
        return None
    if ledger is not None:
        check_lasting(units)
    if parameters is None:
        raise PrivacyParameterError(f"The request has private text but no privacy parameters. {_HOW}")
    responses = None if options.get("epsilon") is None else options.get("responses", 1)
    is_shared = responses is not None and (responses > 1 or ledger is not None)
    return Plan(
        parameters,
        accounting,
        spending,
        on_exhausted,
        tuple(units),
        max_tokens,
        responses,
        is_shared,
        options.get("epsilon"),
    )


class Charge:
    """The charge of one response: what has been reserved for it, and its accountant.

    Args:
        plan: What the response may cost.
        reservation: What the ledger has set aside; None without a ledger.
    """

    def __init__(self, plan: Plan, reservation: Reservation | None) -> None:
        self._plan = plan
        self._reservation = reservation
        self._accountant: Accountant | None = None

    def open(self, device: torch.device | str = "cpu") -> Accountant:
        """Return the response's accountant. From here on tokens are counted."""
        plan, reservation = self._plan, self._reservation
        size = len(plan.units), plan.max_tokens
        # A unit that the ledger has not charged takes no part, whatever the accounting.
        exhausted = () if reservation is None else reservation.exhausted
        active = [unit not in exhausted for unit in plan.units]
        if plan.accounting == "adaptive":
            granted = None
            if reservation is not None and plan.is_refundable:
                granted = [reservation.granted[unit] for unit in plan.units]
            self._accountant = AdaptiveAccountant(
                plan.parameters,
                *size,
                spending=plan.spending,
                granted=granted,
                active=active,
                asked=plan.epsilon,
                device=device,
            )
        else:
            self._accountant = FixedAccountant(
                plan.parameters, *size, active=active, asked=plan.epsilon, device=device
            )
        return self._accountant

    def used(self) -> dict[str, RenyiLoss]:
        """Return each unit's loss so far; may be private."""
        if self._accountant is None:  # no token was sampled
            return dict.fromkeys(self._plan.units, RenyiLoss(self._plan.loss.max_order, lambda order: 0.0))
        return dict(zip(self._plan.units, self._accountant.used(), strict=True))


@contextmanager
def charged(plan: Plan, ledger: PrivacyLedger | None) -> Iterator[Charge]:
    """Reserve what a response may cost, and give back what it did not use once it has ended.

    Whatever happens in between, the units have been charged at least what was released.

    Args:
        plan: What the response may cost.
        ledger: The ledger; None charges nobody.

    Yields:
        The charge.

    Raises:
        BudgetExhaustedError: If a unit cannot pay (fixed accounting, ``on_exhausted="raise"``).
        LedgerError: If the ledger cannot be reached or written: then nothing is generated.
        PrivacyParameterError: If a unit's account is kept in a way that does not fit the request.
    """
    if ledger is None:
        yield Charge(plan, None)
        return
    try:
        reservation = ledger.reserve(
            dict.fromkeys(plan.units, plan.loss),
            order=plan.order,
            accounting="adaptive" if plan.is_refundable else "fixed",
            neighbours=plan.parameters.neighbours,
            on_exhausted=plan.on_exhausted,
            note={"max_tokens": plan.max_tokens, "units": len(plan.units)},
        )
    except BudgetExhaustedError as error:
        raise_bare(_with_advice(error, plan))
    charge = Charge(plan, reservation)
    try:
        yield charge
    finally:
        try:
            ledger.settle(reservation, charge.used())
        except DPFusionError as error:
            # The answer is paid for; only a refund is lost. The user must not lose the answer too.
            log.warning("What a response did not use could not be given back: %s", error)


def _with_advice(error: BudgetExhaustedError, plan: Plan) -> BudgetExhaustedError:
    """Say what would fit in the terms of the request."""
    share = error.largest_share or 0.0
    tokens = int(share * plan.max_tokens)
    if plan.responses is not None and share > 0.0:
        advice = f"epsilon spread over responses={math.ceil(plan.responses / share)} would fit."
    elif plan.responses is None and tokens > 0:
        advice = f"max_new_tokens={tokens} would fit."
    else:
        return error
    return BudgetExhaustedError(f"{error} Here, {advice}", units=error.units, largest_share=share)


def _parameters(
    options: GenerationOptions,
    units: Sequence[str],
    max_tokens: int,
    ledger: PrivacyLedger | None,
    accounting: Accounting,
) -> PrivacyParameters | None:
    """Return the per-token settings that the options ask for; None if they ask for none."""
    epsilon, alpha, beta = options.get("epsilon"), options.get("alpha"), options.get("beta")
    order, responses = options.get("order"), _validate.count(options.get("responses", 1), "responses")
    delta, neighbours = options.get("delta", 1e-5), options.get("neighbours", "zero-out")
    mixing_loss = options.get("mixing_loss")
    if epsilon is not None:
        if alpha is not None or beta is not None:
            raise PrivacyParameterError(f"Give epsilon, or alpha and beta, not both. {_HOW}")
        if mixing_loss is not None:
            raise PrivacyParameterError("mixing_loss goes with alpha and beta; with epsilon it is chosen.")
        if order is None and ledger is not None and units:
            order = _order_of_accounts(PrivacyBudget(epsilon, delta), ledger.orders(units))
        return calibrate_beta(
            epsilon,
            delta,
            max_tokens * responses,
            max(1, len(units)),
            order,
            neighbours,
            accounting=accounting,
            is_shared=responses > 1 or ledger is not None,
        )
    if order is not None or responses != 1:
        raise PrivacyParameterError("order and responses go with epsilon, not with alpha and beta.")
    if alpha is None and beta is None:
        return None
    if alpha is None or beta is None:
        raise PrivacyParameterError(f"alpha and beta go together: give both. {_HOW}")
    return PrivacyParameters(alpha, beta, delta, neighbours, mixing_loss)


def _order_of_accounts(budget: PrivacyBudget, kept: float | None) -> float | None:
    """Return the order at which accounts are kept already, if a response within ``budget`` can be.

    An account can be charged for bounds at its own order or above: where the budget allows nothing at
    that order, it is the best one above.
    """
    if kept is None or budget.loss_at(kept) > 0.0:
        return kept
    return max(kept, budget.best_order())
