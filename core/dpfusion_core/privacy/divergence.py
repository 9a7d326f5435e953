r"""Rényi divergences of next-token distributions, exact where naive formulas lose every digit.

All functions take log-probabilities in float64 and return nats. A probability of zero is a
log-probability of ``-inf``; nothing is clamped.
"""

import torch
from torch import Tensor

from dpfusion_core import _validate


def renyi_divergence(log_p: Tensor, log_q: Tensor, order: float) -> Tensor:
    r"""Return :math:`D_a(P\|Q) = \frac{1}{a-1} \log \sum_y P(y)^a Q(y)^{1-a}`.

    Right to a relative 1e-6 from ``D = 1e-9`` up to thousands of nats.

    Args:
        log_p: Log-probabilities of P, float64, shape ``[..., vocab]``, each row normalised.
        log_q: Log-probabilities of Q, of a shape that broadcasts against ``log_p``.
        order: Rényi order ``a > 1``.

    Returns:
        The divergences in nats, shape ``[...]``; ``inf`` where Q is zero and P is not.

    Raises:
        PrivacyParameterError: If ``order`` is not above 1.

    Example:
        >>> log_p = torch.tensor([0.75, 0.25], dtype=torch.float64).log()
        >>> log_q = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
        >>> round(renyi_divergence(log_p, log_q, order=2.0).item(), 6)  # log(1.25)
        0.223144
    """
    _validate.order(order, "order")
    log_ratio, infinite = _log_ratio(log_p, log_q)
    divergence = _log_moment(log_q, log_ratio, order) / (order - 1.0)
    return torch.where(infinite, torch.inf, divergence)


def symmetric_divergence(log_p: Tensor, log_q: Tensor, order: float) -> Tensor:
    """Return the larger of ``D_a(P‖Q)`` and ``D_a(Q‖P)``, in nats.

    Args:
        log_p: Log-probabilities of P, float64, shape ``[..., vocab]``, each row normalised.
        log_q: Log-probabilities of Q, of a shape that broadcasts against ``log_p``.
        order: Rényi order ``a > 1``.

    Returns:
        The divergences in nats, shape ``[...]``.

    Raises:
        PrivacyParameterError: If ``order`` is not above 1.

    Example:
        >>> log_p = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
        >>> symmetric_divergence(log_p, log_p, order=2.0).item()
        0.0
    """
    _validate.order(order, "order")
    log_ratio, infinite = _log_ratio(log_p, log_q)  # [..., vocab], [...]
    # D_a(Q‖P) = 1/(a-1) log sum Q (P/Q)^(1-a): the same moment of the same ratio, another exponent.
    forward = _log_moment(log_q, log_ratio, order)
    reverse = _log_moment(log_q, log_ratio, 1.0 - order)
    return torch.where(infinite, torch.inf, torch.maximum(forward, reverse) / (order - 1.0))


def _log_ratio(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log(P/Q)`` ``[..., vocab]`` and where Q is zero on some token that P allows ``[...]``.

    Tokens with Q = 0 get the ratio 1, which makes them drop out of every sum.
    """
    absent = log_q == -torch.inf  # [..., vocab]
    infinite = (absent & (log_p > -torch.inf)).any(dim=-1)
    return torch.where(absent, 0.0, log_p - log_q), infinite


def _log_moment(log_q: Tensor, log_ratio: Tensor, exponent: float) -> Tensor:
    r"""Return :math:`\log \sum_y Q(y) (P(y)/Q(y))^e` for an exponent outside [0, 1].

    For moments near 1 the logarithm of the sum has no correct digit. There the sum is taken of
    ``q ((p/q)^e - 1 - e (p/q - 1))``, whose terms are all non-negative and whose subtracted part
    adds up to zero because both distributions are normalised (docs/theory.md, section 2, numerics).
    """
    scaled = exponent * log_ratio  # [..., vocab]
    log_sum = torch.logsumexp(log_q + scaled, dim=-1)  # [...]
    excess = _times_expm1(log_q, scaled) - exponent * _times_expm1(log_q, log_ratio)
    log1p_excess = torch.log1p(excess.sum(dim=-1).clamp(min=0.0))
    return torch.where(log_sum < 0.5, log1p_excess, log_sum)


def _times_expm1(log_q: Tensor, x: Tensor) -> Tensor:
    """Return ``q (e^x - 1)``, also where ``e^x`` overflows but ``q e^x`` does not."""
    return torch.where(x > 700.0, (log_q + x).exp(), log_q.exp() * torch.expm1(x))
