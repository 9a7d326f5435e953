"""Amounts of Rényi loss as integers: sums are exact, and every rounding has a side.

The unit is 1e-12 nats. Charges are rounded up and budgets down, so rounding never favours spending.
"""

import math
from fractions import Fraction

from dpfusion_core.errors import PrivacyParameterError

SCALE = 10**12  # amounts per nat
LARGEST = 10**18  # a million nats, beyond any budget; far from the end of a 64-bit integer
LARGEST_SUM = 4 * LARGEST


def charge(loss: float) -> int | None:
    """Return a loss in nats as an amount, rounded up; None if it is beyond any budget.

    The value is not quoted by the error: it may be a realised loss, which is private.

    Raises:
        PrivacyParameterError: If the loss is negative or not a number.
    """
    value = float(loss)
    if not value >= 0.0:
        raise PrivacyParameterError("Expected a loss of at least 0 nats from RenyiLoss.at.")
    if value > LARGEST / SCALE:
        return None
    numerator, denominator = value.as_integer_ratio()
    return -(-numerator * SCALE // denominator)


def budget(loss: float) -> int:
    """Return a budget in nats as an amount, rounded down, at least 0 and at most ``LARGEST``."""
    numerator, denominator = min(max(float(loss), 0.0), LARGEST / SCALE).as_integer_ratio()
    return numerator * SCALE // denominator


def nats_at_most(amount: int) -> float:
    """Return an amount in nats, rounded down."""
    value = amount / SCALE
    return math.nextafter(value, 0.0) if Fraction(value) * SCALE > amount else value


def nats_at_least(amount: int) -> float:
    """Return an amount in nats, rounded up."""
    value = amount / SCALE
    return math.nextafter(value, math.inf) if Fraction(value) * SCALE < amount else value
