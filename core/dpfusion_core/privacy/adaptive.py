"""Adaptive accounting: what one token does not use is left for later ones (a Rényi filter)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.numbers import as_asked
from dpfusion_core.privacy.accounting import TokenCount, check_active, response_loss
from dpfusion_core.privacy.budget import RenyiLoss
from dpfusion_core.privacy.conversion import rdp_to_epsilon
from dpfusion_core.privacy.guarantee import PrivacyGuarantee
from dpfusion_core.privacy.loss import TokenCosts
from dpfusion_core.privacy.parameters import PrivacyParameters, Spending
from dpfusion_core.privacy.spending import SPENDING_RULES

_ROUNDING = 1e-9  # of what may be spent: more than it is no rounding error
_SAFETY = 1.0 - 1e-12  # of what is left: rounding in formulas (1) and (2) must not exceed it


class AdaptiveAccountant:
    """A Rényi filter per unit (docs/theory.md, section 4; Feldman and Zrnic 2021, arXiv 2008.11193).

    The budget of a response is fixed before its first token: what ``max_tokens`` tokens would lose at
    most with the given parameters. Before each token a spending rule allows part of what is left;
    after it the realised loss is charged. On no path of tokens do the losses exceed the budget, so
    the budget is the guarantee. A unit with nothing left contributes its public distribution from
    then on: nothing is raised, since that would tell.

    Realised losses and what is left of the budget are functions of private data. ``repr`` does not
    show them; :meth:`used` is for the ledger.

    Args:
        parameters: Per-token settings; their worst case is the budget.
        num_units: Number of privacy units of the request.
        max_tokens: Largest number of tokens of the response.
        spending: Name of the spending rule.
        granted: What each unit may lose, in nats at the order, if that is less than the budget: its
            ledger may have less left. Private. Zero-out neighbours only.
        active: Whether each unit takes part; all do by default. The others still count as units, lose
            nothing and are charged nothing.
        asked: As for :class:`FixedAccountant`.
        asked_delta: As for :class:`FixedAccountant`.
        device: Where the bounds are needed.

    Raises:
        PrivacyParameterError: If a value is out of range.

    Example:
        >>> accountant = AdaptiveAccountant(PrivacyParameters(2.0, 0.02), num_units=1, max_tokens=100)
        >>> round(accountant.guarantee(private=True).epsilon, 2)
        14.13
        >>> accountant.charge(torch.tensor([0.0]).double())  # the token took nothing
        >>> round(accountant.bounds().item(), 6)  # what it left is for the others
        0.041616
    """

    def __init__(
        self,
        parameters: PrivacyParameters,
        num_units: int,
        max_tokens: int,
        *,
        spending: Spending = "growing",
        granted: Sequence[float] | None = None,
        active: Sequence[bool] | None = None,
        asked: float | None = None,
        asked_delta: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        _validate.choice(spending, SPENDING_RULES, "spending")
        if granted is not None and parameters.neighbours == "replace":
            # Under replace neighbours each token costs c_inf even if this unit is exhausted, because
            # the other content may not be: the budget must be granted whole or not at all.
            raise PrivacyParameterError("granted only has a meaning with neighbours='zero-out'.")
        self._parameters = parameters
        self._count = TokenCount(num_units, max_tokens)
        self._num_units, self._max_tokens = num_units, max_tokens
        self._active = check_active(active, num_units)
        self._rule = SPENDING_RULES[spending]
        self._worst = adaptive_loss(parameters, num_units, max_tokens)
        self._budget = self._worst.at(parameters.order)
        self._epsilon = as_asked(rdp_to_epsilon(self._budget, parameters.order, parameters.delta), asked)
        self._delta = max(parameters.delta, asked_delta or 0.0)
        whole = torch.full((num_units,), self._budget, dtype=torch.float64, device=device)
        if granted is not None:
            whole = torch.minimum(whole, _granted(granted, num_units).to(device))
        self._total = whole  # [units]
        self._spent = torch.zeros_like(whole)  # [units]
        self._taking_part = torch.tensor(self._active, device=device)  # [units]
        self._costs = TokenCosts(parameters, num_units)

    def __repr__(self) -> str:
        return f"AdaptiveAccountant({self._parameters}, units={self._num_units}, tokens={self._count.tokens})"

    def bounds(self) -> Tensor:
        """Return what each contribution may diverge at the next token, nats, ``[units]``. Private."""
        to_come = self._count.to_come()
        left = (self._total - self._spent).clamp(min=0.0) * _SAFETY
        share = self._rule(self._total, left, self._count.tokens, self._max_tokens)
        # Every token to come costs at least the floor, 0 but for replace neighbours.
        share = torch.minimum(share, left - (to_come - 1) * self._costs.floor).clamp(min=0.0)
        return self._costs.bound(share).clamp(min=0.0) * self._taking_part

    def charge(self, losses: Tensor) -> None:
        """Add one token's realised losses, nats, ``[units]``.

        Raises:
            PrivacyParameterError: If they are malformed, or more than was allowed. No number is quoted.
        """
        spent = self._spent + self._count.checked(losses)
        too_much = (spent > self._total * (1.0 + _ROUNDING) + _ROUNDING) & self._taking_part
        if bool(too_much.any()):
            raise PrivacyParameterError(
                "The losses of a token exceed what was allowed. Mend the fusion rule."
            )
        self._spent = spent
        self._count.add()

    def used(self) -> tuple[RenyiLoss, ...]:
        """Return each unit's realised loss so far; private, for the ledger."""
        order, is_replace = self._parameters.order, self._parameters.neighbours == "replace"
        # Under replace neighbours a refund would tell the realised part.
        spent = [self._budget] * self._num_units if is_replace else self._spent.tolist()
        rows = zip(spent, self._active, strict=True)
        return tuple(_constant_loss(order, value if active else 0.0) for value, active in rows)

    def guarantee(self, *, private: bool) -> PrivacyGuarantee:
        """Return the guarantee, which follows from the budget alone, never from what was used."""
        parameters = self._parameters
        return PrivacyGuarantee(
            epsilon=self._epsilon,
            delta=self._delta,
            order=parameters.order,
            neighbours=parameters.neighbours,
            accounting="adaptive",
            tokens=self._count.tokens,
            max_tokens=self._max_tokens,
            units=self._num_units,
            loss_per_token=None,
            alpha=parameters.order,
            beta=None,
            private=private,
            exhausted=self._num_units - sum(self._active),
            weight_cap=None if parameters.weight_cap == 1.0 else parameters.weight_cap,
        )


def adaptive_loss(parameters: PrivacyParameters, num_units: int, max_tokens: int) -> RenyiLoss:
    """Return what a response costs one unit at most, in nats, at orders up to that of the parameters.

    The filter keeps its sum at that order. A path may lose all of it by one token, so that at a lower
    order no less than the sum there is certain.

    Raises:
        PrivacyParameterError: If a number is out of range.
    """
    budget = response_loss(parameters, num_units, max_tokens).at(parameters.order)
    return _constant_loss(parameters.order, budget)


def _granted(granted: Sequence[float], num_units: int) -> Tensor:
    amounts = torch.tensor(list(granted), dtype=torch.float64)  # [units]
    if amounts.shape != (num_units,) or not bool((amounts >= 0.0).all()):  # not quoted: they are private
        raise PrivacyParameterError(f"Expected {num_units} entries of granted, none of them negative or NaN.")
    return amounts


def _constant_loss(max_order: float, value: float) -> RenyiLoss:
    """A loss at ``max_order`` bounds the loss at every lower order."""
    return RenyiLoss(max_order, lambda order: value)
