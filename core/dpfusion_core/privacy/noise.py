"""The noise of releases: discrete Gaussian and discrete Laplace, as formulas. Nothing is drawn here.

OpenDP draws (``privacy/releasing.py``). What follows from a distribution is worked out here from its exact
definition on the integers: the continuous formulas are not bounds for it. For a standard deviation of 2, the
noise is 9 or more with probability 8.8e-6, where the normal distribution says 3.4e-6.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError

NoiseName = Literal["gaussian", "laplace"]

_SCALES = 1e-3, 1e9  # less noise hides nothing, and of more nothing is left that anybody could use
_WIDE = 1000.0  # from here on, sums over the Gaussian's values would be long, and integrals are as near

_UP = 1.0 + 1e-12  # upper bounds are inflated by more than the rounding of the sums behind them


class Noise(Protocol):
    """A symmetric distribution on the integers."""

    @property
    def scale(self) -> float:
        """Its parameter."""
        ...

    @property
    def deviation(self) -> float:
        """Its standard deviation, in units of the count."""
        ...

    def tail(self, least: int) -> float:
        """Return the probability that the noise is ``least`` or more, rounded up."""
        ...

    def loss(self, order: float) -> float:
        """Return the Rényi divergence in nats between the noise and itself moved by 1, rounded up."""
        ...


@dataclass(frozen=True)
class GaussianNoise:
    r"""Discrete Gaussian: :math:`P(k) \propto e^{-k^2 / 2 \sigma^2}` on the integers.

    Attributes:
        scale: Sigma, which the standard deviation does not exceed.

    Raises:
        PrivacyParameterError: If ``scale`` is out of range.

    Example:
        >>> noise = GaussianNoise(2.0)
        >>> round(noise.tail(9), 8), round(noise.loss(order=4.0), 6)
        (8.79e-06, 0.5)
    """

    scale: float

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    @property
    def deviation(self) -> float:
        """Its standard deviation; sigma to within rounding from 1 on."""
        if self.scale >= 1.0:
            return self.scale
        k = np.arange(1, 12)
        return math.sqrt(2.0 * float((k**2 * np.exp(-0.5 * (k / self.scale) ** 2)).sum()) / self._mass)

    @property
    def _mass(self) -> float:
        """The sum of the weights ``exp(-k^2 / 2 sigma^2)`` over the integers."""
        if self.scale < 1.0:
            return 1.0 + 2.0 * math.fsum(math.exp(-0.5 * (k / self.scale) ** 2) for k in range(1, 12))
        # Poisson's formula: the same sum, and one term of it is enough.
        folded = 1.0 + 2.0 * math.exp(-2.0 * (math.pi * self.scale) ** 2)
        return self.scale * math.sqrt(2.0 * math.pi) * folded

    def tail(self, least: int) -> float:
        """Return the probability that the noise is ``least`` or more, rounded up."""
        if self.scale >= _WIDE:
            # The integral of the weights from one below bounds the sum of those from ``least`` on, as they fall;
            # below 0, where they rise, that of those up to ``least - 1`` bounds the rest.
            return min(1.0, 0.5 * math.erfc((least - 1) / (self.scale * math.sqrt(2.0))) * _UP)
        if least <= 0:
            return min(1.0, 1.0 - self._tail(1 - least) / _UP)
        return min(1.0, self._tail(least) * _UP)

    def _tail(self, least: int) -> float:
        steps = np.arange(math.ceil(10.0 * self.scale) + 2, dtype=np.float64)
        # Relative to the first weight, so that tails below 1e-300 are the only ones that vanish.
        rest = float(np.exp(-steps * (2.0 * least + steps) / (2.0 * self.scale**2)).sum())
        return math.exp(-0.5 * (least / self.scale) ** 2) * rest / self._mass

    def loss(self, order: float) -> float:
        """Return ``order / (2 sigma^2)`` (Canonne, Kamath and Steinke 2020, arXiv 2004.00010)."""
        return order / (2.0 * self.scale**2) * _UP


@dataclass(frozen=True)
class LaplaceNoise:
    r"""Discrete Laplace: :math:`P(k) \propto e^{-|k| / b}` on the integers.

    Attributes:
        scale: b. Moving the noise by 1 shifts odds by ``1 / b`` nats at most.

    Raises:
        PrivacyParameterError: If ``scale`` is out of range.

    Example:
        >>> noise = LaplaceNoise(2.0)
        >>> round(noise.tail(9), 6), round(noise.loss(order=4.0), 4), noise.loss(order=math.inf)
        (0.006915, 0.3519, 0.5)
    """

    scale: float

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    @property
    def deviation(self) -> float:
        """Its standard deviation."""
        ratio = math.exp(-1.0 / self.scale)
        return math.sqrt(2.0 * ratio) / -math.expm1(-1.0 / self.scale)

    def tail(self, least: int) -> float:
        """Return the probability that the noise is ``least`` or more, rounded up."""
        if least <= 0:
            return min(1.0, 1.0 - self._tail(1 - least) / _UP)
        return min(1.0, self._tail(least) * _UP)

    def _tail(self, least: int) -> float:
        return math.exp(-least / self.scale) / (1.0 + math.exp(-1.0 / self.scale))

    def loss(self, order: float) -> float:
        r"""Return :math:`\frac{1}{a-1} \log \frac{e^{(a-1)/b} + e^{-a/b}}{1 + e^{-1/b}}`, ``1 / b`` at most."""
        step = 1.0 / self.scale
        if order == math.inf:
            return step
        # The mean of e^((a-1)/b) and its inverse by the weights 1 and e^(-1/b), as a difference from 1, which
        # keeps the digits of a wide noise.
        weight, power = math.exp(-step), (order - 1.0) * step
        if power > 30.0:
            log_mean = power + math.log1p(weight * math.exp(-2.0 * power)) - math.log1p(weight)
        else:
            log_mean = math.log1p((math.expm1(power) + weight * math.expm1(-power)) / (1.0 + weight))
        return min(step, log_mean / (order - 1.0) * (1.0 + 1e-9))


NOISES: dict[NoiseName, type[GaussianNoise] | type[LaplaceNoise]] = {
    "gaussian": GaussianNoise,
    "laplace": LaplaceNoise,
}


def smallest_reach(noise: Noise, probability: float) -> int:
    """Return the smallest number, 1 at least, that the noise reaches with at most a probability.

    Raises:
        PrivacyParameterError: If the noise is so wide that no number of use does.
    """
    low, high = 0, 1
    while noise.tail(high) > probability:
        low, high = high, 2 * high
        if high > 1e12:
            raise PrivacyParameterError(f"Noise of scale {noise.scale:g} hides every count.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if noise.tail(middle) <= probability else (middle, high)
    return high


def half_width(noise: Noise, confidence: float = 0.95) -> int:
    """Return the smallest number that the noise does not exceed in size, with a probability.

    Example:
        >>> half_width(GaussianNoise(2.0)), half_width(LaplaceNoise(2.0))
        (4, 6)
    """
    return smallest_reach(noise, (1.0 - confidence) / 2.0) - 1


def _check_scale(scale: float) -> None:
    least, most = _SCALES
    if not least <= _validate.positive(scale, "scale") <= most:
        raise PrivacyParameterError(f"Expected {least:g} <= scale <= {most:g}, got {scale!r}.")
