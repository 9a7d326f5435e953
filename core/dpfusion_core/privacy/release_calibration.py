"""From a budget to the rule of a release: the least noise and the lowest threshold that stay within epsilon."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy.budget import PrivacyBudget
from dpfusion_core.privacy.measures import Limits, Measure, NumberRelease, QuantileRelease, moves_of
from dpfusion_core.privacy.noise import NOISES, NoiseName, half_width, smallest_reach
from dpfusion_core.privacy.parameters import Neighbours
from dpfusion_core.privacy.release import CountRelease, VoteRelease

NoiseChoice = Literal["auto", "gaussian", "laplace"]

# The parts of delta that are tried for the conversion; the rest is the threshold's.
_PARTS = (0.01, 0.03, *(step / 20 for step in range(2, 19)), 0.95, 0.98)
_SLACK = 4e-12  # a ledger rounds up the charge of each response, and its budgets down
_ROUNDING = 1e-12
_DELTA_ROUNDING = 2e-18  # likewise of probability


def calibrate_votes(
    epsilon: float,
    delta: float,
    max_items: int = 1,
    *,
    noise: NoiseChoice = "auto",
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
    _check(epsilon, delta, max_items, noise, neighbours, responses, release_delta)
    parts = [part * delta for part in _PARTS] if release_delta is None else [delta - release_delta]
    moves = max_items * (2 if neighbours == "replace" else 1)
    found = []
    for name, scale, part in _scales(epsilon, parts, moves, responses, order):
        thresholds = delta - part if release_delta is None else release_delta
        if noise in ("auto", name):
            rule = _with_threshold(name, scale, thresholds / responses, max_items, neighbours)
            found += [] if rule is None else [rule]
    if not found:
        raise _too_small(epsilon, delta, responses, max_items)
    return min(found, key=lambda rule: (rule.fewest_votes(), rule.tau, rule.scale))


def calibrate_counts(
    epsilon: float,
    delta: float,
    max_items: int = 1,
    *,
    noise: NoiseChoice = "auto",
    neighbours: Neighbours = "zero-out",
    responses: int = 1,
    order: float | None = None,
    release_delta: float | None = None,
) -> CountRelease:
    """Return the rule with the least noise that lets ``responses`` counts lose (epsilon, delta) together.

    Counting needs no threshold, so all of delta is for the conversion; but ``release_delta`` is left for others
    where a ledger has split it in advance. The arguments are those of :func:`calibrate_votes`.

    Raises:
        PrivacyParameterError: If a value is out of range, or epsilon is too small for any release.

    Example:
        >>> rule = calibrate_counts(1.0, 1e-5)
        >>> rule.noise, round(rule.scale, 6)
        ('laplace', 1.0)
    """
    _check(epsilon, delta, max_items, noise, neighbours, responses, release_delta)
    part = delta - (release_delta or 0.0)
    found = [
        CountRelease(name, scale, max_items, neighbours)
        for name, scale, _ in _scales(epsilon, [part], max_items, responses, order)
        if noise in ("auto", name)
    ]
    if not found:
        raise _too_small(epsilon, delta, responses, max_items)
    return min(found, key=lambda rule: (half_width(rule.distribution), rule.distribution.deviation))


def calibrate_measure(
    epsilon: float,
    delta: float,
    measure: Measure,
    limits: Limits,
    *,
    quantile: float = 0.5,
    noise: NoiseChoice = "auto",
    neighbours: Neighbours = "zero-out",
    responses: int = 1,
    order: float | None = None,
    release_delta: float | None = None,
) -> NumberRelease | QuantileRelease:
    """Return the rule with the least noise that lets ``responses`` measures lose (epsilon, delta) together.

    Args:
        epsilon: As for :func:`calibrate_votes`, like what is not said here.
        delta: Probability.
        measure: ``"mean"``, ``"sum"`` or ``"quantile"``.
        limits: Between what each unit's number is clipped.
        quantile: Which quantile.
        noise: Of a sum or a mean. Laplace noise is used only where losses are not converted at an order.
        neighbours: The neighbour relation.
        responses: How many releases share epsilon and delta.
        order: Rényi order at which the losses are converted.
        release_delta: The thresholds' part of delta where a ledger has split it in advance.

    Raises:
        PrivacyParameterError: If a value is out of range, or epsilon is too small for any release.

    Example:
        >>> calibrate_measure(1.0, 1e-5, "sum", Limits(0.0, 10.0)).noise
        'laplace'
    """
    _check(epsilon, delta, 1, noise, neighbours, responses, release_delta)
    _validate.choice(measure, get_args(Measure), "measure")
    losses = _losses(epsilon, delta - (release_delta or 0.0), responses, order)
    if measure == "quantile":
        _validate.probability(quantile, "quantile")
        # The most that one release may lose at every order, by either of the mechanism's two bounds.
        single = max(
            each if at is None else max(each, math.sqrt(8.0 * each / at))
            for each, at in losses or [(1e-99, None)]
        )
        moves = 2.0 if neighbours == "replace" else 1.0
        scale = moves * 2.0 * max(quantile, 1.0 - quantile) / single * (1.0 + 1e-11)
        if not losses or not _is_usable(scale):
            raise _too_small(epsilon, delta, responses, 1)
        return QuantileRelease(limits, quantile, scale, neighbours)
    moved = moves_of(measure, neighbours)
    found: list[NumberRelease] = []
    for loss, at in losses:
        name: NoiseName = "laplace" if at is None else "gaussian"
        scale = (
            sum(moved) / loss if at is None else math.sqrt(at * sum(each**2 for each in moved) / (2.0 * loss))
        )
        scale = _at_least_smallest(scale * (1.0 + 1e-11))
        if noise in ("auto", name) and _is_usable(scale):
            found.append(NumberRelease(measure, limits, name, scale, neighbours))
    if not found:
        raise _too_small(epsilon, delta, responses, 1)
    return min(found, key=lambda rule: half_width(NOISES[rule.noise](rule.scale * 1e4)))


def _losses(
    epsilon: float, part: float, responses: int, order: float | None
) -> list[tuple[float, float | None]]:
    """Return what one of the responses may lose, in nats, by the order at which that is converted.

    Without an order in advance, also by what holds at all of them.
    """
    budget = PrivacyBudget(epsilon, part)
    at = budget.best_order() if order is None else _validate.order(order)
    loss = (budget.loss_at(at) - _SLACK) / responses - _ROUNDING
    found: list[tuple[float, float | None]] = [(epsilon / responses, None)] if order is None else []
    return [*found, *([(loss, at)] if loss > 0.0 else [])]


def _check(
    epsilon: float,
    delta: float,
    max_items: int,
    noise: str,
    neighbours: str,
    responses: int,
    release_delta: float | None,
) -> None:
    PrivacyBudget(epsilon, delta)
    _validate.count(max_items, "max_items")
    _validate.count(responses, "responses")
    _validate.choice(noise, get_args(NoiseChoice), "noise")
    _validate.choice(neighbours, get_args(Neighbours), "neighbours")
    if release_delta is not None and not _validate.probability(release_delta, "release_delta") < delta:
        raise PrivacyParameterError(f"Expected release_delta below delta={delta!r}, got {release_delta!r}.")


def _scales(
    epsilon: float, parts: Sequence[float], moves: int, responses: int, order: float | None
) -> Iterator[tuple[NoiseName, float, float]]:
    """Yield kinds and scales of noise by which ``moves`` counts may move by 1 in each of the responses.

    Each comes with the part of delta that its conversion takes.
    """
    moves *= responses
    if order is None and _is_usable(moves / epsilon):
        yield "laplace", _at_least_smallest(moves / epsilon * (1.0 + 1e-12)), 0.0
    for part in parts:
        if part < _validate.SMALLEST_DELTA:
            continue
        budget = PrivacyBudget(epsilon, part)
        at = budget.best_order() if order is None else _validate.order(order)
        loss = budget.loss_at(at) - _SLACK - (responses - 1) * _ROUNDING
        if loss <= 0.0:
            continue
        sigma = math.sqrt(moves * at / (2.0 * loss)) * (1.0 + 1e-12)
        if _is_usable(sigma):
            yield "gaussian", _at_least_smallest(sigma), part
        if order is not None and _is_usable(moves / loss):
            yield "laplace", _laplace_scale(loss / moves, at), part


def _is_usable(scale: float) -> bool:
    return scale < 0.99e5


def _at_least_smallest(scale: float) -> float:
    return max(scale, 1e-2)


def _laplace_scale(loss: float, order: float) -> float:
    """Return the smallest b of which a move by 1 loses at most ``loss`` at ``order``."""
    low, high = 1e-2, max(1.0 / loss, 2e-2)  # at which it holds at every order
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if NOISES["laplace"](middle).loss(order) <= loss else (middle, high)
    return high


def _with_threshold(
    noise: NoiseName, scale: float, delta: float, max_items: int, neighbours: Neighbours
) -> VoteRelease | None:
    """Return the rule with the smallest threshold that keeps ``delta``; None if there is none."""
    alone = -math.expm1(math.log1p(-(delta - _DELTA_ROUNDING)) / max_items) * (1.0 - 1e-11)
    if alone <= 0.0:
        return None
    rule = VoteRelease(noise, scale, smallest_reach(NOISES[noise](scale), alone) + 1, max_items, neighbours)
    return rule if rule.delta <= delta - _DELTA_ROUNDING else None


def _too_small(epsilon: float, delta: float, responses: int, max_items: int) -> PrivacyParameterError:
    return PrivacyParameterError(
        f"epsilon={epsilon} at delta={delta} is too small for {responses} release{'s' if responses > 1 else ''} "
        f"of {max_items} item{'s' if max_items > 1 else ''} per unit: the noise would hide every vote. Ask for a "
        "larger epsilon, fewer releases or fewer items."
    )
