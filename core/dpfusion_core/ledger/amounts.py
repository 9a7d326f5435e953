"""Amounts of Rényi loss and of probability as integers: sums are exact, and every rounding has a side.

The units are 1e-12 nats and 1e-18. Charges are rounded up and budgets down, so rounding never favours spending.
"""

import math
from fractions import Fraction

from dpfusion_core.errors import PrivacyParameterError

SCALE = 10**12  # amounts per nat
LARGEST = 10**18  # a million nats, beyond any budget; far from the end of a 64-bit integer
LARGEST_SUM = 4 * LARGEST
CERTAIN = 10**18  # amounts of probability in 1


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


def delta_charge(delta: float) -> int:
    """Return a probability as an amount, rounded up. It may be private: the error does not quote it.

    Raises:
        PrivacyParameterError: If it is none.
    """
    if not 0.0 <= delta <= 1.0:
        raise PrivacyParameterError("Expected 0 <= RenyiLoss.delta <= 1.")
    return math.ceil(Fraction(delta) * CERTAIN)


def split_delta(delta: float, release_share: float) -> tuple[float, int]:
    """Return delta's part for the conversion of Rényi loss, and the rest, which is for releases, as an amount.

    Both are rounded down.
    """
    releases = math.floor(Fraction(delta) * Fraction(release_share) * CERTAIN)
    return _rounded_down(Fraction(delta) - Fraction(releases, CERTAIN)), releases


def nats_at_most(amount: int) -> float:
    """Return an amount in nats, rounded down."""
    return _rounded_down(Fraction(amount, SCALE))


def nats_at_least(amount: int) -> float:
    """Return an amount in nats, rounded up."""
    return _rounded_up(Fraction(amount, SCALE))


def as_delta(amount: int) -> float:
    """Return an amount of probability as the nearest number, which is far nearer than one amount."""
    return float(Fraction(amount, CERTAIN))


def _rounded_down(exact: Fraction) -> float:
    value = float(exact)
    return math.nextafter(value, -math.inf) if Fraction(value) > exact else value


def _rounded_up(exact: Fraction) -> float:
    value = float(exact)
    return math.nextafter(value, math.inf) if Fraction(value) < exact else value
