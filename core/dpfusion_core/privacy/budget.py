"""What a privacy unit may lose in all, and what a response costs it: the currency of budgets."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from dpfusion_core import _validate
from dpfusion_core.privacy.conversion import rdp_to_epsilon

MAX_ORDER = 256.0  # the search for mixing weights is exact up to here
_ORDERS = tuple(1.0 + (MAX_ORDER - 1.0) * math.pow(1e-4, step / 1000) for step in range(1001))


@dataclass(frozen=True)
class PrivacyBudget:
    """The largest (epsilon, delta) that a privacy unit may lose.

    Attributes:
        epsilon: In nats, above 0.
        delta: Probability, from 1e-9 to below 1.

    Raises:
        PrivacyParameterError: If a value is out of range.

    Example:
        >>> budget = PrivacyBudget(epsilon=8.0, delta=1e-5)
        >>> round(budget.loss_at(4.0), 3), round(budget.best_order(), 1)
        (4.912, 3.9)
    """

    epsilon: float
    delta: float = 1e-5

    def __post_init__(self) -> None:
        _validate.positive(self.epsilon, "epsilon")
        _validate.delta(self.delta)

    def loss_at(self, order: float) -> float:
        r"""Return the largest Rényi loss at ``order`` that this budget admits.

        .. math:: B(a) = \epsilon - \log(1 - 1/a) + \frac{\log(\delta a)}{a-1}

        (docs/theory.md, section 5, formula 4 solved for the loss; Canonne, Kamath and Steinke 2020,
        arXiv 2004.00010v4, Proposition 12), rounded down by so little that converting it back never
        gives more than ``epsilon``.

        Args:
            order: Rényi order ``a > 1``.

        Returns:
            Nats; negative if no loss at this order, however small, can be shown to be within the budget.

        Raises:
            PrivacyParameterError: If ``order`` is out of range.
        """
        _validate.order(order, "order")
        loss = self.epsilon - math.log1p(-1.0 / order) + math.log(self.delta * order) / (order - 1.0)
        return loss - 1e-11 - 1e-13 * (self.epsilon + abs(math.log(self.delta * order)) / (order - 1.0))

    def best_order(self) -> float:
        """Return the order that allows the most divergence: ``argmax B(a)/a`` (docs/theory.md, section 5).

        For small losses the divergence of order ``a`` grows like ``a``, hence the quotient.
        """
        return max(_ORDERS, key=lambda order: self.loss_at(order) / order)


def smallest_epsilon(order: float, delta: float) -> float:
    """Return what the conversion alone costs at ``order``: no smaller epsilon can be certified there.

    Args:
        order: Rényi order ``a > 1``.
        delta: Probability, from 1e-9 to below 1.

    Returns:
        Epsilon in nats of a vanishing loss.

    Raises:
        PrivacyParameterError: If a parameter is out of range.

    Example:
        >>> round(smallest_epsilon(2.0, 1e-5), 2)
        10.13
    """
    tiny = 4.0 * delta**2  # large enough not to be free
    return max(0.0, rdp_to_epsilon(tiny, order, delta) - tiny)


@dataclass(frozen=True)
class RenyiLoss:
    """A loss in nats as a function of the order, known up to an order, and how often it does not hold.

    Attributes:
        max_order: Largest order at which the loss is known; above it nothing is known.
        at: The loss in nats at an order of at most ``max_order``. Not shown by ``repr``: it may be a
            realised loss, which is private.
        delta: Probability of the event outside of which the loss holds: 0 for what fuses distributions,
            more for a release among unknown items (docs/theory.md, section 11). Private like the loss.
    """

    max_order: float
    at: Callable[[float], float] = field(repr=False)
    delta: float = field(default=0.0, repr=False)
