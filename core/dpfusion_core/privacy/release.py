"""Releases by vote: which items may be told, what that costs a unit, and how many votes it takes.

docs/theory.md, section 11. Formulas alone: ``privacy/releasing.py`` draws the noise.
"""

import math
from dataclasses import dataclass
from typing import get_args

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.numbers import at_most
from dpfusion_core.privacy.budget import RenyiLoss
from dpfusion_core.privacy.noise import NOISES, Noise, NoiseName, smallest_reach
from dpfusion_core.privacy.parameters import Neighbours

CHANCE = 0.95  # with which a release is called likely


@dataclass(frozen=True)
class VoteRelease:
    r"""The rule by which items are released: noisy counts of at least ``tau``.

    Each unit names at most ``max_items`` items. An item that only one unit names is released with
    probability ``P(noise >= tau - 1)``; outside of that event the counts move by 1 for each item of the unit.

    Attributes:
        noise: ``"gaussian"`` or ``"laplace"``, discrete.
        scale: Sigma or b, in votes.
        tau: The threshold, in votes; 2 at least.
        max_items: How many items a unit can name.
        neighbours: The neighbour relation. Under replace, the items of two contents differ.

    Raises:
        PrivacyParameterError: If a value is out of range.

    Example:
        >>> rule = VoteRelease("gaussian", scale=2.0, tau=12, max_items=3)
        >>> round(rule.loss().at(4.0), 6), round(rule.delta, 9)
        (1.5, 1.71e-07)
        >>> rule.fewest_votes()
        15
    """

    noise: NoiseName
    scale: float
    tau: int
    max_items: int
    neighbours: Neighbours = "zero-out"

    def __post_init__(self) -> None:
        _validate.choice(self.noise, get_args(NoiseName), "noise")
        _validate.count(self.tau, "tau", minimum=2)
        _validate.count(self.max_items, "max_items")
        _validate.choice(self.neighbours, get_args(Neighbours), "neighbours")
        _ = self.distribution  # checks the scale

    @property
    def distribution(self) -> Noise:
        """The noise of one count."""
        return NOISES[self.noise](self.scale)

    @property
    def delta(self) -> float:
        """Probability that some item of a unit that names ``max_items`` alone is released."""
        return self._delta(self.max_items)

    def loss(self, contributed: int | None = None) -> RenyiLoss:
        """Return what the release costs a unit, in nats at every order, with its delta.

        Args:
            contributed: How many items the unit has named; private. None for the most it may name. Under
                replace neighbours it is the most in any case, because the other content may name as many.

        Raises:
            PrivacyParameterError: If the number is out of range.
        """
        items = counts = checked_items(self.max_items, contributed)
        if self.neighbours == "replace":
            items, counts = self.max_items, 2 * self.max_items
        noise = self.distribution
        return RenyiLoss(math.inf, lambda order: counts * noise.loss(order), self._delta(items))

    def chance(self, votes: int) -> float:
        """Return the probability that an item with this many votes is released; from public numbers alone."""
        return self.distribution.tail(self.tau - votes)

    def fewest_votes(self, chance: float = CHANCE) -> int:
        """Return how many units must name an item that it is released with at least this probability.

        Raises:
            PrivacyParameterError: If ``chance`` is no probability.
        """
        _validate.probability(chance, "chance")
        # P(noise >= tau - n) >= chance, and the noise is symmetric.
        if chance <= 0.5:
            return max(1, self.tau - smallest_reach(self.distribution, chance) + 1)
        return self.tau + smallest_reach(self.distribution, 1.0 - chance) - 1

    def _delta(self, items: int) -> float:
        alone = self.distribution.tail(self.tau - 1)
        # 1 - (1 - alone)^items, rounded up.
        return min(1.0, -math.expm1(items * math.log1p(-alone)) * (1.0 + 1e-12)) if alone < 1.0 else 1.0


@dataclass(frozen=True)
class CountRelease:
    """The rule by which answers to public questions are counted: no threshold, so no delta.

    Each unit says yes or nothing to each of ``max_items`` questions.

    Attributes:
        noise: ``"gaussian"`` or ``"laplace"``, discrete.
        scale: Sigma or b, in votes.
        max_items: To how many questions a unit can say yes.
        neighbours: The neighbour relation. It costs the same under both, but under replace a unit that says
            nothing loses no less.

    Raises:
        PrivacyParameterError: If a value is out of range.

    Example:
        >>> CountRelease("gaussian", scale=2.0).loss().at(4.0) <= 0.5000001
        True
    """

    noise: NoiseName
    scale: float
    max_items: int = 1
    neighbours: Neighbours = "zero-out"

    def __post_init__(self) -> None:
        _validate.choice(self.noise, get_args(NoiseName), "noise")
        _validate.count(self.max_items, "max_items")
        _validate.choice(self.neighbours, get_args(Neighbours), "neighbours")
        _ = self.distribution  # checks the scale

    @property
    def distribution(self) -> Noise:
        """The noise of one count."""
        return NOISES[self.noise](self.scale)

    @property
    def delta(self) -> float:
        """No probability is needed beside that of the conversion."""
        return 0.0

    def loss(self, contributed: int | None = None) -> RenyiLoss:
        """Return what the release costs a unit, as :meth:`VoteRelease.loss` does."""
        items = checked_items(self.max_items, contributed)
        counts = self.max_items if self.neighbours == "replace" else items
        noise = self.distribution
        return RenyiLoss(math.inf, lambda order: counts * noise.loss(order))


def checked_items(most: int, contributed: int | None) -> int:
    """Return how many items a unit contributes, the most by default, or raise; no number is quoted."""
    items = most if contributed is None else contributed
    if not 0 <= items <= most:
        raise PrivacyParameterError(f"Expected from 0 to max_items={most} items of a unit.")
    return items


def check_reach(rule: VoteRelease, units: int) -> None:
    """Check from public numbers that some item could be released, all units agreeing.

    Args:
        rule: The rule of the release.
        units: How many units there are at most.

    Raises:
        PrivacyParameterError: If even what all of them name would be released with a chance below 1/2.
    """
    if rule.chance(units) < 0.5:
        raise PrivacyParameterError(
            f"{units} documents are too few for a consensus: at least {rule.fewest_votes()} must say the same "
            f"that it is released, with tau={rule.tau} and {rule.noise} noise of scale {at_most(rule.scale)}. Use "
            "more documents, a larger epsilon, fewer items per document, or engine.choose for one document."
        )
