"""From Rényi differential privacy to (epsilon, delta), with the order that gave the answer."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dpfusion_core import _validate

_GRID_STEPS = 100


@dataclass(frozen=True)
class ApproximateDP:
    """An (epsilon, delta) statement and where it came from.

    Attributes:
        epsilon: In nats.
        delta: Probability.
        order: Rényi order at which the conversion was made.
    """

    epsilon: float
    delta: float
    order: float


def rdp_to_epsilon(loss: float, order: float, delta: float) -> float:
    r"""Convert a Rényi loss at one order to epsilon at ``delta``.

    .. math:: \epsilon = r + \log(1 - 1/a) - \frac{\log(\delta a)}{a-1}

    floored at 0 (Canonne, Kamath and Steinke 2020, arXiv 2004.00010v4, Proposition 12; docs/theory.md,
    section 5, formula 4). It is 0 as well where the loss is so small that the total variation
    distance, at most ``sqrt(1 - e^-r)`` (Bretagnolle and Huber 1979), is below ``delta``.

    Args:
        loss: ``r``, bound on the Rényi divergence of order ``order``, in nats.
        order: Rényi order ``a > 1``.
        delta: Probability, from 1e-9 to below 1.

    Returns:
        Epsilon in nats.

    Raises:
        PrivacyParameterError: If a parameter is out of range.

    Example:
        >>> round(rdp_to_epsilon(4.0, order=2.0, delta=1e-5), 2)
        14.13
    """
    _validate.non_negative(loss, "loss")
    _validate.order(order, "order")
    _validate.delta(delta)
    if delta**2 + math.expm1(-loss) > 0.0:
        return 0.0
    return max(0.0, loss + math.log1p(-1.0 / order) - math.log(delta * order) / (order - 1.0))


def best_epsilon(loss_at: Callable[[float], float], max_order: float, delta: float) -> ApproximateDP:
    """Minimise the converted epsilon over the orders at which a loss is known.

    A bound on the divergence at ``max_order`` also bounds every lower order, since the divergence
    does not decrease with the order, and says nothing above.

    Args:
        loss_at: Rényi loss in nats as a function of the order, valid on ``(1, max_order]``.
        max_order: Largest order at which a loss is known.
        delta: Probability, from 1e-9 to below 1.

    Returns:
        The smallest epsilon and the order that gives it.

    Raises:
        PrivacyParameterError: If a parameter is out of range.

    Example:
        >>> best_epsilon(lambda order: 4.0, max_order=2.0, delta=1e-5).order
        2.0
    """
    candidates = (
        ApproximateDP(rdp_to_epsilon(loss_at(a), a, delta), delta, a) for a in orders_up_to(max_order)
    )
    return min(candidates, key=lambda candidate: candidate.epsilon)


def orders_up_to(max_order: float) -> Iterator[float]:
    """Yield the orders at which a bound at ``max_order`` is tried: ``max_order`` first, then lower ones.

    Raises:
        PrivacyParameterError: If the order is out of range.
    """
    _validate.order(max_order, "max_order")
    yield max_order  # exactly, and first, so that ties go to it
    for step in range(1, _GRID_STEPS + 1):  # geometric in order - 1
        yield 1.0 + (max_order - 1.0) * 1e-3 ** (step / _GRID_STEPS)
