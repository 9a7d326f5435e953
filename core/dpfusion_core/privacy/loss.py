"""Rényi loss of one token: from a divergence bound to what a privacy unit loses, and back."""

import math
from typing import overload

import torch
from torch import Tensor

from dpfusion_core import _validate

_LARGE = 30.0  # e^-30 is below the resolution of a double


@overload
def token_loss(divergence: float, num_units: int, order: float) -> float: ...
@overload
def token_loss(divergence: Tensor, num_units: int, order: float) -> Tensor: ...
def token_loss(divergence: float | Tensor, num_units: int, order: float) -> float | Tensor:
    r"""Return what one unit loses by one token that is the mean of ``num_units`` contributions.

    .. math:: \frac{1}{a-1} \log\left( \frac{N-1}{N} + \frac{1}{N} e^{(a-1) d} \right)

    by joint convexity: only the unit's own contribution differs between neighbours (docs/theory.md, section
    3, formula 1). For one unit this is ``d`` itself.

    Args:
        divergence: ``d``, bound on the unit's contribution in nats at ``order``; number or tensor.
        num_units: Number ``N`` of units of the request, those that were zeroed out included.
        order: Rényi order ``a > 1``.

    Returns:
        The loss in nats per token, of the same type and shape as ``divergence``.

    Raises:
        PrivacyParameterError: If ``num_units`` or ``order`` is out of range.

    Example:
        >>> round(token_loss(0.02, num_units=4, order=2.0), 6)
        0.005038
    """
    _check(num_units, order)
    if num_units == 1:
        return divergence
    # log((N-1)/N + e^x/N): the first form keeps the digits of a small x, the second a large x.
    if not isinstance(divergence, Tensor):
        y = (order - 1.0) * divergence
        if y < _LARGE:
            return math.log1p(math.expm1(y) / num_units) / (order - 1.0)
        return (y + math.log1p((num_units - 1) * math.exp(-y)) - math.log(num_units)) / (order - 1.0)
    x = (order - 1.0) * divergence
    small = torch.log1p(torch.expm1(x.clamp(max=_LARGE)) / num_units)
    large = x + torch.log1p((num_units - 1) * torch.exp(-x)) - math.log(num_units)
    return torch.where(x < _LARGE, small, large) / (order - 1.0)


@overload
def token_bound(loss: float, num_units: int, order: float) -> float: ...
@overload
def token_bound(loss: Tensor, num_units: int, order: float) -> Tensor: ...
def token_bound(loss: float | Tensor, num_units: int, order: float) -> float | Tensor:
    r"""Return the divergence that a loss budget of one token allows: the inverse of :func:`token_loss`.

    .. math:: b = \frac{1}{a-1} \log\left( 1 + N (e^{(a-1) c} - 1) \right)

    (docs/theory.md, section 3, formula 2).

    Args:
        loss: ``c``, budget of one token in nats at ``order``; number or tensor.
        num_units: Number ``N`` of units of the request.
        order: Rényi order ``a > 1``.

    Returns:
        The bound in nats, of the same type and shape as ``loss``.

    Raises:
        PrivacyParameterError: If ``num_units`` or ``order`` is out of range.

    Example:
        >>> round(token_bound(token_loss(0.02, 4, 2.0), 4, 2.0), 6)
        0.02
    """
    _check(num_units, order)
    if num_units == 1:
        return loss
    if not isinstance(loss, Tensor):
        y = (order - 1.0) * loss
        if y < _LARGE:
            return math.log1p(num_units * math.expm1(y)) / (order - 1.0)
        log_rest = math.log1p(-math.exp(-y) * (num_units - 1) / num_units)
        return (y + math.log(num_units) + log_rest) / (order - 1.0)
    x = (order - 1.0) * loss
    small = torch.log1p(num_units * torch.expm1(x.clamp(max=_LARGE)))
    large = x + math.log(num_units) + torch.log1p(-torch.exp(-x) * (num_units - 1) / num_units)
    return torch.where(x < _LARGE, small, large) / (order - 1.0)


def _check(num_units: int, order: float) -> None:
    _validate.count(num_units, "num_units")
    _validate.order(order, "order")
