"""Rényi loss of one token: from a divergence bound to what a privacy unit loses, and back."""

import math
from typing import overload

import torch
from torch import Tensor

from dpfusion_core import _validate


@overload
def token_loss(divergence: float, num_units: int, order: float) -> float: ...
@overload
def token_loss(divergence: Tensor, num_units: int, order: float) -> Tensor: ...
def token_loss(divergence: float | Tensor, num_units: int, order: float) -> float | Tensor:
    r"""Return what one unit loses by one token that is the mean of ``num_units`` contributions.

    .. math:: \frac{1}{a-1} \log\left( \frac{N-1}{N} + \frac{1}{N} e^{(a-1) d} \right)

    by joint convexity: only the unit's own contribution differs between neighbours (THEORY section
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
    d = torch.as_tensor(divergence, dtype=torch.float64)
    x = (order - 1.0) * d
    # log((N-1)/N + e^x/N): the first form keeps the digits of a small x, the second a large x.
    small = torch.log1p(torch.expm1(x.clamp(max=30.0)) / num_units)
    large = x + torch.log1p((num_units - 1) * torch.exp(-x)) - math.log(num_units)
    loss = torch.where(x < 30.0, small, large) / (order - 1.0)
    return loss if isinstance(divergence, Tensor) else float(loss)


@overload
def token_bound(loss: float, num_units: int, order: float) -> float: ...
@overload
def token_bound(loss: Tensor, num_units: int, order: float) -> Tensor: ...
def token_bound(loss: float | Tensor, num_units: int, order: float) -> float | Tensor:
    r"""Return the divergence that a loss budget of one token allows: the inverse of :func:`token_loss`.

    .. math:: b = \frac{1}{a-1} \log\left( 1 + N (e^{(a-1) c} - 1) \right)

    (THEORY section 3, formula 2).

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
    c = torch.as_tensor(loss, dtype=torch.float64)
    x = (order - 1.0) * c
    small = torch.log1p(num_units * torch.expm1(x.clamp(max=30.0)))
    large = x + math.log(num_units) + torch.log1p(-torch.exp(-x) * (num_units - 1) / num_units)
    bound = torch.where(x < 30.0, small, large) / (order - 1.0)
    return bound if isinstance(loss, Tensor) else float(bound)


def _check(num_units: int, order: float) -> None:
    _validate.count(num_units, "num_units")
    _validate.order(order, "order")
