"""Numbers for people, rounded to the side on which what is said stays true.

A bound that is shown smaller than it is, is a false promise; so is a remaining budget that is shown
larger. Every number of these two kinds that a user sees goes through here.
"""

import decimal
import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

_EXACT = decimal.Context(prec=400)  # room for any double's digits before and after the point


def at_most(value: float, digits: int = 3) -> str:
    """Show a bound, such as an epsilon, a delta or a loss: rounded up.

    Args:
        value: The bound.
        digits: Significant digits below 1; from 1 on, one more than the number of decimals.

    Example:
        >>> at_most(0.0041267), at_most(7.999999999984846), at_most(14.1211), at_most(1e-5)
        ('0.00413', '8.0', '14.13', '1e-05')
    """
    return _shown(value, digits, ROUND_CEILING)


def at_least(value: float, digits: int = 3) -> str:
    """Show what is left of a budget, or an order up to which a bound holds: rounded down.

    Args:
        value: The number.
        digits: As of :func:`at_most`.

    Example:
        >>> at_least(0.0041267), at_least(3.6599)
        ('0.00412', '3.65')
    """
    return _shown(value, digits, ROUND_FLOOR)


def as_asked(value: float, asked: float | None) -> float:
    """Return the bound that was asked for, where a bound is below it by rounding alone.

    Example:
        >>> as_asked(7.999999999984846, 8.0), as_asked(5.0, 8.0), as_asked(5.0, None)
        (8.0, 5.0, 5.0)
    """
    if asked is not None and value <= asked <= value + _ROUNDING * max(1.0, value):
        return asked
    return value


_ROUNDING = 1e-9  # of calibration, see calibrate_beta


def _shown(value: float, digits: int, rounding: str) -> str:
    if not math.isfinite(value) or value == 0.0:
        return repr(abs(value))
    written = Decimal(repr(float(value)))  # which reads back as `value`, so that 1e-5 is 1e-5
    places = min(written.adjusted(), 0) - digits + 1
    rounded = written.quantize(Decimal((0, (1,), places)), rounding=rounding, context=_EXACT)
    return repr(float(rounded))
