"""Fixed accounting where the tokens of a response get different shares of what it may cost."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.numbers import as_asked
from dpfusion_core.privacy.accounting import TokenCount, check_active
from dpfusion_core.privacy.adaptive import adaptive_loss
from dpfusion_core.privacy.budget import RenyiLoss
from dpfusion_core.privacy.conversion import rdp_to_epsilon
from dpfusion_core.privacy.guarantee import PrivacyGuarantee
from dpfusion_core.privacy.loss import TokenCosts
from dpfusion_core.privacy.parameters import PrivacyParameters

_SAFETY = 1.0 - 1e-12  # rounding in formulas (1) and (2) must not exceed the budget


def token_budgets(parameters: PrivacyParameters, num_units: int, shares: Sequence[float]) -> list[float]:
    """Return what each token may lose, in nats at the order: the response's budget by shares.

    Args:
        parameters: Per-token settings; what as many tokens as shares lose with them is the budget.
        num_units: Number of privacy units of the request.
        shares: Weights of the tokens, above 0.

    Raises:
        PrivacyParameterError: If a share is out of range, or so small that it does not pay for what a token
            costs at least (replace neighbours).

    Example:
        >>> [round(each, 3) for each in token_budgets(PrivacyParameters(2.0, 0.02), 1, [1.0, 3.0])]
        [0.02, 0.06]
    """
    budget = adaptive_loss(parameters, num_units, len(shares)).at(parameters.order)
    whole = math.fsum(_validate.positive(share, "share") for share in shares)
    budgets = [budget * share / whole * _SAFETY for share in shares]
    if min(budgets) < TokenCosts(parameters, num_units).floor:
        raise PrivacyParameterError(
            "A share is too small: with neighbours='replace' a token costs a constant whatever it tells. Give "
            "shares that differ less."
        )
    return budgets


class ShareAccountant:
    """Charges each token its share of a budget that is fixed in advance, whatever the token tells.

    The sum is kept at the order of the bounds alone; it bounds the loss at every lower order. What it says is
    independent of the data.

    Args:
        parameters: Per-token settings; see :func:`token_budgets`.
        num_units: Number of privacy units of the request.
        shares: One for each token.
        active: Whether each unit takes part; all do by default. The others still count as units.
        asked: As for :class:`FixedAccountant`.
        device: Where the bounds are needed.

    Raises:
        PrivacyParameterError: If a value is out of range.

    Example:
        >>> accountant = ShareAccountant(PrivacyParameters(2.0, 0.02), num_units=1, shares=[1.0, 3.0])
        >>> round(accountant.bounds().item(), 6)
        0.02
    """

    def __init__(
        self,
        parameters: PrivacyParameters,
        num_units: int,
        shares: Sequence[float],
        *,
        active: Sequence[bool] | None = None,
        asked: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._parameters, self._num_units = parameters, num_units
        self._count = TokenCount(num_units, len(shares))
        self._budgets = token_budgets(parameters, num_units, shares)
        self._costs = TokenCosts(parameters, num_units)
        self._active = check_active(active, num_units)
        self._taking_part = torch.tensor(self._active, dtype=torch.float64, device=device)  # [units]
        worst = adaptive_loss(parameters, num_units, len(shares)).at(parameters.order)
        self._epsilon = as_asked(rdp_to_epsilon(worst, parameters.order, parameters.delta), asked)
        self._worst, self._mean = worst, worst / len(shares)

    def bounds(self) -> Tensor:
        """Return what each contribution may diverge at the next token, nats, ``[units]``."""
        self._count.to_come()
        bound = self._costs.bound(self._budgets[self._count.tokens])
        return max(0.0, bound) * self._taking_part

    def charge(self, losses: Tensor) -> None:
        """Count one token; its share is charged, not the realised ``losses``."""
        self._count.checked(losses)
        self._count.add()

    def used(self) -> tuple[RenyiLoss, ...]:
        """Return each unit's loss so far; public."""
        spent = min(self._worst, math.fsum(self._budgets[: self._count.tokens]) / _SAFETY)
        order = self._parameters.order
        loss, nothing = RenyiLoss(order, lambda at: spent), RenyiLoss(order, lambda at: 0.0)
        return tuple(loss if active else nothing for active in self._active)

    def guarantee(self, *, private: bool) -> PrivacyGuarantee:
        """Return the a-priori guarantee for all tokens and the count so far; losses per token are the mean."""
        parameters = self._parameters
        return PrivacyGuarantee(
            epsilon=self._epsilon,
            delta=parameters.delta,
            order=parameters.order,
            neighbours=parameters.neighbours,
            accounting="fixed",
            tokens=self._count.tokens,
            max_tokens=len(self._budgets),
            units=self._num_units,
            loss_per_token=self._mean,
            alpha=parameters.order,
            beta=None,
            private=private,
            exhausted=self._num_units - sum(self._active),
            weight_cap=None if parameters.weight_cap == 1.0 else parameters.weight_cap,
        )
