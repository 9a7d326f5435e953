"""Releases by vote: which items may be told, what that costs a unit, and how many votes it takes.

docs/theory.md, section 11. Formulas alone: ``privacy/releasing.py`` draws the noise.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.numbers import at_most
from dpfusion_core.privacy.budget import PrivacyBudget, RenyiLoss
from dpfusion_core.privacy.noise import NOISES, Noise, NoiseName, smallest_reach
from dpfusion_core.privacy.parameters import Neighbours

NOISE_CHOICES = ("auto", *get_args(NoiseName))
CHANCE = 0.95  # with which a release is called likely

# The parts of delta that are tried for the conversion; the rest is the threshold's.
_PARTS = (0.01, 0.03, *(step / 20 for step in range(2, 19)), 0.95, 0.98)
_SLACK = 4e-12  # a ledger rounds up the charge of each response, and its budgets down
_ROUNDING = 1e-12


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
        items = self.max_items if contributed is None else contributed
        if not 0 <= items <= self.max_items:  # not quoted: it is private
            raise PrivacyParameterError(f"Expected from 0 to max_items={self.max_items} items of a unit.")
        counts = items
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


def calibrate_votes(
    epsilon: float,
    delta: float,
    max_items: int = 1,
    *,
    noise: Literal["auto", "gaussian", "laplace"] = "auto",
    neighbours: Neighbours = "zero-out",
    responses: int = 1,
    order: float | None = None,
    release_delta: float | None = None,
) -> VoteRelease:
    r"""Return the rule that releases most and lets ``responses`` releases lose (epsilon, delta) together.

    One part of delta is for the conversion of Rényi loss (docs/theory.md, section 5), the other for the
    thresholds: :math:`\delta = \delta_{conv} + \sum \delta_\tau`. Of the splits that are tried the one is taken
    by which the fewest units must agree. It depends on public numbers alone.

    Args:
        epsilon: What the releases may lose together, in nats.
        delta: Probability.
        max_items: How many items a unit can name.
        noise: ``"auto"`` takes the one by which fewer units must agree. Laplace for few releases, Gaussian
            for many.
        neighbours: The neighbour relation.
        responses: How many releases share epsilon and delta.
        order: Rényi order at which the losses are converted; by default the best one. Laplace noise alone also
            has a bound without any order, which is taken where it is better.
        release_delta: The thresholds' part of delta where a ledger has split it in advance.

    Raises:
        PrivacyParameterError: If a value is out of range, or epsilon is too small for any release.

    Example:
        >>> rule = calibrate_votes(1.0, 1e-5)
        >>> rule.noise, round(rule.scale, 6), rule.tau, rule.fewest_votes()
        ('laplace', 1.0, 13, 15)
        >>> calibrate_votes(1.0, 1e-5, responses=100).noise
        'gaussian'
    """
    PrivacyBudget(epsilon, delta)
    _validate.count(max_items, "max_items")
    _validate.count(responses, "responses")
    _validate.choice(noise, NOISE_CHOICES, "noise")
    _validate.choice(neighbours, get_args(Neighbours), "neighbours")
    if release_delta is not None and not 0.0 < _validate.probability(release_delta, "release_delta") < delta:
        raise PrivacyParameterError(f"Expected release_delta below delta={delta!r}, got {release_delta!r}.")
    counts = max_items * (2 if neighbours == "replace" else 1)
    found = []
    for name, scale, thresholds in _scales(
        epsilon, delta, counts * responses, responses, order, release_delta
    ):
        if noise in ("auto", name):
            rule = _with_threshold(name, scale, thresholds / responses, max_items, neighbours)
            found += [] if rule is None else [rule]
    if not found:
        raise PrivacyParameterError(
            f"epsilon={epsilon} at delta={delta} is too small for {responses} release"
            f"{'s' if responses > 1 else ''} of {max_items} items per unit: the noise would hide every vote. "
            "Ask for a larger epsilon, fewer releases or fewer items."
        )
    return min(found, key=lambda rule: (rule.fewest_votes(), rule.tau, rule.scale))


def _scales(
    epsilon: float, delta: float, moves: int, responses: int, order: float | None, thresholds: float | None
) -> Iterator[tuple[NoiseName, float, float]]:
    """Yield kinds and scales of noise by which ``moves`` counts may move by 1, and what is left of delta."""
    if order is None:  # pure, and all of delta is for the thresholds
        yield "laplace", moves / epsilon * (1.0 + 1e-12), delta if thresholds is None else thresholds
    parts = [part * delta for part in _PARTS] if thresholds is None else [delta - thresholds]
    slack = _SLACK + (responses - 1) * _ROUNDING
    for part in parts:
        if part < _validate.SMALLEST_DELTA:
            continue
        budget = PrivacyBudget(epsilon, part)
        at = budget.best_order() if order is None else order
        loss = budget.loss_at(at) - slack
        if loss <= 0.0:
            continue
        yield "gaussian", math.sqrt(moves * at / (2.0 * loss)) * (1.0 + 1e-12), delta - part
        if order is not None:
            yield "laplace", _laplace_scale(loss / moves, at), delta - part


def _laplace_scale(loss: float, order: float) -> float:
    """Return the smallest b of which a move by 1 loses at most ``loss`` at ``order``."""
    low, high = 0.0, 1.0 / loss  # at which it holds at every order
    for _ in range(60):
        middle = 0.5 * (low + high)
        is_enough = middle > 1e-3 and NOISES["laplace"](min(middle, 1e5)).loss(order) <= loss
        low, high = (low, middle) if is_enough else (middle, high)
    return high


def _with_threshold(
    noise: NoiseName, scale: float, delta: float, max_items: int, neighbours: Neighbours
) -> VoteRelease | None:
    """Return the rule with the smallest threshold that keeps ``delta``; None if the noise hides every vote."""
    if not scale <= 1e5:
        return None
    scale = max(scale, 1e-2)
    alone = -math.expm1(math.log1p(-delta) / max_items) * (1.0 - 1e-11)
    rule = VoteRelease(noise, scale, smallest_reach(NOISES[noise](scale), alone) + 1, max_items, neighbours)
    return rule if rule.delta <= delta else None
