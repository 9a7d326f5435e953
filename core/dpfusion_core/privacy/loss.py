"""Rényi loss of one token: from a divergence bound to what a privacy unit loses, and back."""

import math
from typing import overload

import torch
from torch import Tensor

from dpfusion_core import _validate
from dpfusion_core.privacy.capping import dilution

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
