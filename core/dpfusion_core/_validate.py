"""One-line checks with uniform messages for the numbers that callers give."""

import math

from dpfusion_core.errors import PrivacyParameterError


def order(value: float, name: str = "alpha") -> float:
    """Return a Rényi order, or raise if it is not a finite number above 1."""
    if not (_is_number(value) and 1.0 < value < math.inf):
        raise PrivacyParameterError(f"Expected 1 < {name} < inf (a Rényi order), got {value!r}.")
    return float(value)


def non_negative(value: float, name: str) -> float:
    """Return a finite number >= 0, or raise."""
    if not (_is_number(value) and 0.0 <= value < math.inf):
        raise PrivacyParameterError(f"Expected 0 <= {name} < inf, got {value!r}.")
    return float(value)


def positive(value: float, name: str) -> float:
    """Return a finite number > 0, or raise."""
    if not (_is_number(value) and 0.0 < value < math.inf):
        raise PrivacyParameterError(f"Expected 0 < {name} < inf, got {value!r}.")
    return float(value)


def probability(value: float, name: str) -> float:
    """Return a number strictly between 0 and 1, or raise."""
    if not (_is_number(value) and 0.0 < value < 1.0):
        raise PrivacyParameterError(f"Expected 0 < {name} < 1, got {value!r}.")
    return float(value)


def unit_interval(value: float, name: str) -> float:
    """Return a number between 0 and 1, both included, or raise."""
    if not (_is_number(value) and 0.0 <= value <= 1.0):
        raise PrivacyParameterError(f"Expected 0 <= {name} <= 1, got {value!r}.")
    return float(value)


def count(value: int, name: str, minimum: int = 1) -> int:
    """Return an integer of at least ``minimum``, or raise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise PrivacyParameterError(f"Expected an integer {name} >= {minimum}, got {value!r}.")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
