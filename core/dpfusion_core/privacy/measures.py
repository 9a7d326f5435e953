"""Releases of numbers: a sum, a mean or a quantile of one number per unit. Formulas alone.

``privacy/measuring.py`` draws. Numbers are clipped to public limits; how many units give one is private.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy.budget import RenyiLoss
from dpfusion_core.privacy.noise import NoiseName
from dpfusion_core.privacy.parameters import Neighbours
from dpfusion_core.privacy.release import checked_items

Measure = Literal["mean", "sum", "quantile"]


@dataclass(frozen=True)
class Limits:
    """Between what every number is clipped; public.

    Attributes:
        lower: In the unit of the numbers.
        upper: Likewise, above ``lower``.

    Raises:
        PrivacyParameterError: If they are no finite numbers in this order.
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        for name, value in (("lower", self.lower), ("upper", self.upper)):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or abs(value) > 1e100:
                raise PrivacyParameterError(f"Expected a finite number {name}, got {value!r}.")
        if not self.lower < self.upper or not self.upper - self.lower > 1e-100:
            raise PrivacyParameterError(f"Expected lower < upper, got {self.lower!r} and {self.upper!r}.")

    def clip(self, value: float) -> float:
        """Return the nearest number within."""
        return min(max(value, self.lower), self.upper)


@dataclass(frozen=True)
class NumberRelease:
    r"""The rule by which a sum or a mean is released.

    A sum moves by :math:`\max(|lower|, |upper|)` at most with a unit. A mean is the sum of the numbers' distances
    from the middle, which moves by half of the range, over how many there are, which moves by 1; both get noise.

    Attributes:
        measure: ``"sum"`` or ``"mean"``.
        limits: Between what each number is clipped.
        noise: ``"gaussian"`` or ``"laplace"``.
        scale: Sigma or b, relative to what a unit moves.
        neighbours: The neighbour relation. Under replace the sums move by twice as much.

    Raises:
        PrivacyParameterError: If a value is out of range.

    Example:
        >>> rule = NumberRelease("mean", Limits(0.0, 100.0), "gaussian", scale=5.0)
        >>> round(rule.loss().at(2.0), 6)  # of the sum and of the number
        0.08
    """

    measure: Literal["mean", "sum"]
    limits: Limits
    noise: NoiseName
    scale: float
    neighbours: Neighbours = "zero-out"

    def __post_init__(self) -> None:
        _validate.choice(self.measure, ("mean", "sum"), "measure")
        _validate.choice(self.noise, get_args(NoiseName), "noise")
        _validate.choice(self.neighbours, get_args(Neighbours), "neighbours")
        _validate.positive(self.scale, "scale")

    @property
    def moves(self) -> tuple[float, ...]:
        """By how much a unit moves each thing that gets noise, relative to the noise's unit."""
        return moves_of(self.measure, self.neighbours)

    def loss(self, contributed: int | None = None) -> RenyiLoss:
        """Return what the release costs a unit that gives a number (1, the default) or none (0).

        Noise on a fine grid is bounded as continuous noise is: ``a / 2 sigma^2``; for Laplace by ``1 / b`` and,
        as everything with that bound is, by ``a / 2 b^2`` (Bun and Steinke 2016, arXiv 1605.02065).
        """
        items = 1 if self.neighbours == "replace" else checked_items(1, contributed)
        pure = sum(self.moves) / self.scale if self.noise == "laplace" else math.inf
        rho = sum(each**2 for each in self.moves) / (2.0 * self.scale**2) * (1.0 + 1e-12)
        return RenyiLoss(math.inf, lambda order: items * min(pure, order * rho) if items else 0.0)


@dataclass(frozen=True)
class QuantileRelease:
    r"""The rule by which a quantile is released: OpenDP's, an exponential mechanism over public candidates.

    A candidate is the likelier the better it parts the numbers; moving one number moves its score by
    :math:`\Delta = \max(q, 1 - q)` at most.

    Attributes:
        limits: Between what each number is clipped, and the candidates lie. A number counts as the nearest one.
        quantile: Which one, between 0 and 1: 0.5 for the median.
        scale: Of the noise of a score, in units.
        neighbours: The neighbour relation. Replacing a number moves a score twice as far.
        candidates: How many there are, evenly spaced.

    Raises:
        PrivacyParameterError: If a value is out of range.

    Example:
        >>> round(QuantileRelease(Limits(0.0, 10.0), 0.5, scale=2.0).loss().at(4.0), 6)
        0.125
    """

    limits: Limits
    quantile: float
    scale: float
    neighbours: Neighbours = "zero-out"
    candidates: int = 257

    def __post_init__(self) -> None:
        _validate.probability(self.quantile, "quantile")
        _validate.positive(self.scale, "scale")
        _validate.choice(self.neighbours, get_args(Neighbours), "neighbours")
        _validate.count(self.candidates, "candidates", minimum=2)

    @property
    def grid(self) -> tuple[float, ...]:
        """The candidates."""
        low, high, last = self.limits.lower, self.limits.upper, self.candidates - 1
        return (*(low + (high - low) * (step / last) for step in range(last)), high)

    @property
    def rank_error(self) -> float:
        """By how many units, with probability 0.95, the candidate parts the numbers worse than the best one."""
        return self.scale * math.log(self.candidates / 0.05)

    def loss(self, contributed: int | None = None) -> RenyiLoss:
        r"""Return what the release costs a unit that gives a number (1, the default) or none (0).

        With :math:`\epsilon = 2 \Delta / scale`: at most that, and :math:`a \epsilon^2 / 8`, because the mechanism
        has a bounded range (Cesar and Rogers 2021, arXiv 2004.07223).
        """
        items = 1 if self.neighbours == "replace" else checked_items(1, contributed)
        moves = 2 if self.neighbours == "replace" else 1
        pure = moves * 2.0 * max(self.quantile, 1.0 - self.quantile) / self.scale * (1.0 + 1e-12)
        return RenyiLoss(math.inf, lambda order: min(pure, order * pure**2 / 8.0) if items else 0.0)


def moves_of(measure: str, neighbours: Neighbours) -> tuple[float, ...]:
    """Return by how much a unit moves what gets noise for a measure, relative to the noise's unit.

    Under replace a number may become any other: sums move twice as far, and counts as before.
    """
    factor = 2.0 if neighbours == "replace" else 1.0
    return (factor, 1.0) if measure == "mean" else (factor,)
