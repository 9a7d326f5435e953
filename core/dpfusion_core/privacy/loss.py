"""Rényi loss of one token: from a divergence bound to what a privacy unit loses, and back."""

import math
from typing import overload

import torch
from torch import Tensor

from dpfusion_core import _validate
from dpfusion_core.privacy.capping import dilution
from dpfusion_core.privacy.parameters import PrivacyParameters

_LARGE = 30.0  # e^-30 is below the resolution of a double


@overload
def token_loss(divergence: float, num_units: int, order: float, weight_cap: float = 1.0) -> float: ...
@overload
def token_loss(divergence: Tensor, num_units: int, order: float, weight_cap: float = 1.0) -> Tensor: ...
def token_loss(
    divergence: float | Tensor, num_units: int, order: float, weight_cap: float = 1.0
) -> float | Tensor:
    r"""Return what one unit loses by one token that is the mean of ``num_units`` contributions.

    .. math:: \frac{1}{a-1} \log\left( 1 + \kappa (e^{(a-1) d} - 1) \right), \qquad \kappa = 1 - L \frac{N-1}{N}

    by joint convexity: neighbours differ in a part of the mean, of share ``kappa``, in which the unit's text
    is diluted (docs/theory.md, section 3, formula 1c). Without a cap that part is the unit's own
    contribution (formula 1). For one unit the loss is ``d`` itself.

    Args:
        divergence: ``d``, bound on the unit's part of the mean in nats at ``order``; number or tensor.
        num_units: Number ``N`` of units of the request, those that were zeroed out included.
        order: Rényi order ``a > 1``.
        weight_cap: ``L``, the largest weight of any unit; 1 is no cap.

    Returns:
        The loss in nats per token, of the same type and shape as ``divergence``.

    Raises:
        PrivacyParameterError: If ``num_units``, ``order`` or ``weight_cap`` is out of range.

    Example:
        >>> round(token_loss(0.02, num_units=4, order=2.0), 6)
        0.005038
    """
    _validate.order(order, "order")
    company = num_units / dilution(num_units, weight_cap)  # 1 / kappa: N without a cap
    if company == 1.0:
        return divergence
    # log(1 + kappa (e^x - 1)): the first form keeps the digits of a small x, the second a large x.
    if not isinstance(divergence, Tensor):
        y = (order - 1.0) * divergence
        if y < _LARGE:
            return math.log1p(math.expm1(y) / company) / (order - 1.0)
        return (y + math.log1p((company - 1.0) * math.exp(-y)) - math.log(company)) / (order - 1.0)
    x = (order - 1.0) * divergence
    small = torch.log1p(torch.expm1(x.clamp(max=_LARGE)) / company)
    large = x + torch.log1p((company - 1.0) * torch.exp(-x)) - math.log(company)
    return torch.where(x < _LARGE, small, large) / (order - 1.0)


@overload
def token_bound(loss: float, num_units: int, order: float, weight_cap: float = 1.0) -> float: ...
@overload
def token_bound(loss: Tensor, num_units: int, order: float, weight_cap: float = 1.0) -> Tensor: ...
def token_bound(
    loss: float | Tensor, num_units: int, order: float, weight_cap: float = 1.0
) -> float | Tensor:
    r"""Return the divergence that a loss budget of one token allows: the inverse of :func:`token_loss`.

    .. math:: b = \frac{1}{a-1} \log\left( 1 + \frac{1}{\kappa} (e^{(a-1) c} - 1) \right)

    (docs/theory.md, section 3, formula 2).

    Args:
        loss: ``c``, budget of one token in nats at ``order``; number or tensor.
        num_units: Number ``N`` of units of the request.
        order: Rényi order ``a > 1``.
        weight_cap: ``L``, the largest weight of any unit; 1 is no cap.

    Returns:
        The bound in nats, of the same type and shape as ``loss``.

    Raises:
        PrivacyParameterError: If ``num_units``, ``order`` or ``weight_cap`` is out of range.

    Example:
        >>> round(token_bound(token_loss(0.02, 4, 2.0), 4, 2.0), 6)
        0.02
    """
    _validate.order(order, "order")
    company = num_units / dilution(num_units, weight_cap)  # 1 / kappa: N without a cap
    if company == 1.0:
        return loss
    if not isinstance(loss, Tensor):
        y = (order - 1.0) * loss
        if y < _LARGE:
            return math.log1p(company * math.expm1(y)) / (order - 1.0)
        log_rest = math.log1p(-math.exp(-y) * (company - 1.0) / company)
        return (y + math.log(company) + log_rest) / (order - 1.0)
    x = (order - 1.0) * loss
    small = torch.log1p(company * torch.expm1(x.clamp(max=_LARGE)))
    large = x + math.log(company) + torch.log1p(-torch.exp(-x) * (company - 1.0) / company)
    return torch.where(x < _LARGE, small, large) / (order - 1.0)


class TokenCosts:
    """What a token may diverge and what it costs, under per-token settings: all that depends on them, in one place.

    Args:
        parameters: Per-token settings.
        num_units: Number ``N`` of units of the request, those that were zeroed out included.

    Raises:
        PrivacyParameterError: If ``num_units`` is out of range.

    Example:
        >>> costs = TokenCosts(PrivacyParameters(2.0, 0.02, weight_cap=0.5), num_units=8)
        >>> round(costs.loss(0.04), 6), round(costs.bound(costs.loss(0.04)), 6)
        (0.022697, 0.04)
    """

    def __init__(self, parameters: PrivacyParameters, num_units: int) -> None:
        self._parameters = parameters
        self._num_units = _validate.count(num_units, "num_units")

    @property
    def floor(self) -> float:
        """What a token costs a unit at least, whatever it tells, in nats: 0 but for replace neighbours."""
        return self.loss(0.0)

    @overload
    def loss(self, divergence: float, order: float | None = None) -> float: ...
    @overload
    def loss(self, divergence: Tensor, order: float | None = None) -> Tensor: ...
    def loss(self, divergence: float | Tensor, order: float | None = None) -> float | Tensor:
        """Return what a divergence costs, in nats at an order: by default that of the settings."""
        chosen = self._parameters
        size = self._num_units, chosen.order if order is None else order, chosen.weight_cap
        return token_loss(divergence + chosen.surcharge, *size)

    @overload
    def bound(self, loss: float) -> float: ...
    @overload
    def bound(self, loss: Tensor) -> Tensor: ...
    def bound(self, loss: float | Tensor) -> float | Tensor:
        """Return the divergence that a loss allows, in nats at the order of the settings; below 0 if it allows none."""
        chosen = self._parameters
        return token_bound(loss, self._num_units, chosen.order, chosen.weight_cap) - chosen.surcharge
