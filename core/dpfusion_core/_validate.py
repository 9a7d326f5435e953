"""One-line checks with uniform messages for the numbers that callers give."""

import difflib
import math
from collections.abc import Collection, Mapping

from dpfusion_core.errors import PrivacyParameterError

SMALLEST_DELTA = 1e-9
"""A draw meets each probability to within 2^-53: over a million tokens 1e-10, and this is well above."""

COLDEST = 1e-6
"""Below, logits divided by the temperature leave the range of float64 too easily."""


def order(value: float, name: str = "order") -> float:
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


def delta(value: float, name: str = "delta") -> float:
    """Return a delta, or raise if it is not below 1, or smaller than what draws of 53 bits can keep."""
    if not (_is_number(value) and SMALLEST_DELTA <= value < 1.0):
        raise PrivacyParameterError(
            f"Expected {SMALLEST_DELTA:g} <= {name} < 1, got {value!r}. A token is drawn with 53 random bits: "
            "over a response, events of smaller probability are beyond what can be promised."
        )
    return float(value)


def unit_interval(value: float, name: str) -> float:
    """Return a number between 0 and 1, both included, or raise."""
    if not (_is_number(value) and 0.0 <= value <= 1.0):
        raise PrivacyParameterError(f"Expected 0 <= {name} <= 1, got {value!r}.")
    return float(value)


def share(value: float, name: str) -> float:
    """Return a number above 0 and at most 1, or raise."""
    if not (_is_number(value) and 0.0 < value <= 1.0):
        raise PrivacyParameterError(f"Expected 0 < {name} <= 1, got {value!r}.")
    return float(value)


def temperature(value: float, name: str = "temperature") -> float:
    """Return a temperature, 0 or not too close to it, or raise."""
    if 0.0 < non_negative(value, name) < COLDEST:
        raise PrivacyParameterError(f"Expected {name} 0 or >= {COLDEST}, got {value!r}.")
    return float(value)


def choice(value: str, choices: Collection[str], name: str) -> str:
    """Return one of the choices, or raise."""
    if not isinstance(value, str) or value not in choices:
        shown = [repr(each) for each in choices]
        raise PrivacyParameterError(f"Expected {name} {', '.join(shown[:-1])} or {shown[-1]}, got {value!r}.")
    return value


def count(value: int, name: str, minimum: int = 1) -> int:
    """Return an integer of at least ``minimum``, or raise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise PrivacyParameterError(f"Expected an integer {name} >= {minimum}, got {value!r}.")
    return value


def unknown_option(
    name: object,
    known: Collection[str],
    owner: str,
    advice: str = "",
    aliases: Mapping[str, str] | None = None,
) -> str:
    """Return what to say of an option that ``owner`` does not know: the nearest one that it does.

    Args:
        name: The option as the caller has named it.
        known: The names that ``owner`` knows.
        owner: What is configured.
        advice: What else to say.
        aliases: Other spellings, with their right names.
    """
    # A name that is no identifier may be text that slipped into the wrong place.
    shown = f" {name!r}" if isinstance(name, str) and name.isidentifier() and len(name) <= 40 else ""
    right = {each: each for each in known} | dict(aliases or {})
    near = difflib.get_close_matches(str(name)[:40], right, n=1, cutoff=0.6)
    hint = right[near[0]] if near else None
    help_ = f"Did you mean {hint!r}?" if hint in known else f"Known are {', '.join(sorted(known))}."
    return " ".join(filter(None, [f"Unknown option{shown} of {owner}.", help_, advice]))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
