"""Draws releases of numbers. Noise comes from OpenDP's samplers, and from nowhere else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from dpfusion_core.errors import BackendError, errors_as
from dpfusion_core.privacy.measures import NumberRelease, QuantileRelease
from dpfusion_core.privacy.noise import NOISES, half_width
from dpfusion_core.privacy.releasing import addition

_GRID = 2**16  # steps of the largest number: noise is drawn on whole numbers, exactly


@dataclass(frozen=True)
class Measured:
    """A number about many units, with noise.

    Attributes:
        value: The number, within what is possible.
        low: Lower end of an interval that holds the true number with probability 0.95; None for a quantile.
        high: Its upper end.
        rank_error: For a quantile: with probability 0.95 it parts the units' numbers by at most so many units
            worse than the best candidate does.
    """

    value: float
    low: float | None = None
    high: float | None = None
    rank_error: float | None = None


def release_measure(
    values: Sequence[float | None], rule: NumberRelease | QuantileRelease, *, most: int | None = None
) -> Measured:
    """Release a sum, a mean or a quantile of the units' numbers.

    Args:
        values: Of each unit its number, clipped to the rule's limits. None, and what is no finite number, counts
            as none.
        rule: What is released.
        most: How many units there are, if that is public.

    Raises:
        BackendError: If OpenDP failed. Nothing has been released.

    Example:
        >>> from dpfusion_core.privacy.measures import Limits
        >>> rule = NumberRelease("mean", Limits(0.0, 100.0), "laplace", scale=2.0)
        >>> found = release_measure([30.0, 50.0] * 500, rule)
        >>> 30.0 < found.low <= found.value <= found.high < 50.0
        True
    """
    numbers = [rule.limits.clip(each) for each in filter(is_number, values)]
    with errors_as(BackendError, "OpenDP could not draw the noise of a measure ({error})."):
        if isinstance(rule, QuantileRelease):
            return Measured(_quantile(numbers, rule), rank_error=rule.rank_error)
        return _sum(numbers, rule, most) if rule.measure == "sum" else _mean(numbers, rule)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a unit's answer is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _noisy(total: int, rule: NumberRelease, steps: int, confidence: float) -> tuple[int, int]:
    """Return a whole number with noise, of which a unit moves ``steps``, and the half width of its interval."""
    noise = NOISES[rule.noise](rule.scale * steps)
    return addition(noise)(total), half_width(noise, confidence)


def _sum(numbers: Sequence[float], rule: NumberRelease, most: int | None) -> Measured:
    low, high = rule.limits.lower, rule.limits.upper
    unit = max(abs(low), abs(high)) / _GRID
    total, width = _noisy(sum(round(each / unit) for each in numbers), rule, _GRID, 0.95)
    units = math.inf if most is None else most
    lowest, highest = (units * low if low < 0.0 else 0.0), (units * high if high > 0.0 else 0.0)
    value, least, greatest = (
        min(max(each * unit, lowest), highest) for each in (total, total - width, total + width)
    )
    return Measured(value, least, greatest)


def _mean(numbers: Sequence[float], rule: NumberRelease) -> Measured:
    middle = 0.5 * (rule.limits.lower + rule.limits.upper)
    unit = 0.5 * (rule.limits.upper - rule.limits.lower) / _GRID
    # Both ends hold with probability 0.975, so together with 0.95.
    total, width = _noisy(sum(round((each - middle) / unit) for each in numbers), rule, _GRID, 0.975)
    number, spread = _noisy(len(numbers), rule, 1, 0.975)
    ends = [
        middle + unit * sum_ / max(1, count)
        for sum_ in (total - width, total + width)
        for count in (number - spread, number + spread)
    ]
    clip = rule.limits.clip
    return Measured(clip(middle + unit * total / max(1, number)), clip(min(ends)), clip(max(ends)))


def _quantile(numbers: Sequence[float], rule: QuantileRelease) -> float:
    # By the numbers of the nearest candidates: equal numbers between two candidates would part nothing.
    limits, last = rule.limits, rule.candidates - 1
    nearest = [round((each - limits.lower) / (limits.upper - limits.lower) * last) for each in numbers]
    drawn: int = quantile_draw(rule)(nearest)
    return rule.grid[drawn]


def quantile_draw(rule: QuantileRelease) -> Any:
    """Return OpenDP's measurement behind a rule: which candidate, of numbers of candidates."""
    import opendp.prelude as dp

    dp.enable_features("contrib")
    return dp.m.make_private_quantile(
        dp.vector_domain(dp.atom_domain(T="i64")),
        dp.symmetric_distance(),
        dp.zero_concentrated_divergence(),
        candidates=list(range(rule.candidates)),
        alpha=rule.quantile,
        scale=rule.scale,
    )
