"""Draws releases. Noise comes from OpenDP's samplers, exact on the integers, and from nowhere else."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dpfusion_core.errors import BackendError, errors_as
from dpfusion_core.privacy.noise import GaussianNoise, Noise, half_width
from dpfusion_core.privacy.release import CountRelease, VoteRelease


@dataclass(frozen=True)
class Released:
    """An item that was released.

    Attributes:
        item: The item.
        count: How many units named it, with noise; at least the threshold of the rule.
    """

    item: str
    count: int


def release_votes(contributions: Sequence[Collection[str]], rule: VoteRelease) -> tuple[Released, ...]:
    """Release the items that many units name, with noisy counts.

    Args:
        contributions: The items of each unit that takes part. A unit has one vote per item, and of more than
            ``rule.max_items`` items the first ones count.
        rule: What is released.

    Returns:
        The items by falling noisy count, then by name, which tells nothing of the units' order.

    Raises:
        BackendError: If OpenDP failed. Nothing has been released.

    Example:
        >>> rule = VoteRelease("laplace", scale=1.0, tau=12, max_items=2)
        >>> votes = [("late delivery", f"order {number}") for number in range(100)]
        >>> [each.item for each in release_votes(votes, rule)]
        ['late delivery']
    """
    votes = Counter[str]()
    for items in contributions:
        votes.update(islice(dict.fromkeys(items), rule.max_items))
    # OpenDP gets numbers for keys. Text would be cut at a NUL, and might stand in its errors.
    items = sorted(votes)
    with errors_as(BackendError, "OpenDP could not draw the noise of a release ({error})."):
        noisy = threshold(rule)({key: votes[item] for key, item in enumerate(items)})
    released = (Released(items[key], count) for key, count in noisy.items() if count >= rule.tau)
    return tuple(sorted(released, key=lambda each: (-each.count, each.item)))


@dataclass(frozen=True)
class Counted:
    """How many units say yes, with noise.

    Attributes:
        value: The noisy count; not below 0, nor above what is possible.
        low: Lower end of an interval that holds the true count with probability 0.95.
        high: Its upper end.
    """

    value: int
    low: int
    high: int


def release_counts(
    contributions: Sequence[Collection[int]], rule: CountRelease, *, most: int | None = None
) -> tuple[Counted, ...]:
    """Count, with noise, the units that say yes to each of ``rule.max_items`` public questions.

    Args:
        contributions: Of each unit the numbers of the questions, from 0, that it says yes to.
        rule: What noise is added.
        most: How many units there are, if that is public.

    Returns:
        A count for each question.

    Raises:
        BackendError: If OpenDP failed. Nothing has been released.

    Example:
        >>> [counted] = release_counts([[0]] * 70 + [[]] * 30, CountRelease("laplace", scale=1.0), most=100)
        >>> 40 < counted.low <= counted.value <= counted.high <= 100
        True
    """
    questions = range(rule.max_items)
    yes = Counter(number for each in contributions for number in {*each} & {*questions})
    width = half_width(rule.distribution)
    with errors_as(BackendError, "OpenDP could not draw the noise of a count ({error})."):
        draw = addition(rule.distribution)
        noisy = [draw(yes[number]) for number in questions]
    return tuple(_counted(value, width, most) for value in noisy)


def _counted(value: int, width: int, most: int | None) -> Counted:
    def possible(number: int) -> int:
        return max(0, number if most is None else min(number, most))

    return Counted(possible(value), possible(value - width), possible(value + width))


def addition(noise: Noise) -> Any:
    """Return OpenDP's measurement that adds noise to a whole number."""
    import opendp.prelude as dp

    dp.enable_features("contrib")
    make = dp.m.make_gaussian if isinstance(noise, GaussianNoise) else dp.m.make_laplace
    return make(dp.atom_domain(T="i64"), dp.absolute_distance(T="i64"), scale=noise.scale)


def threshold(rule: VoteRelease) -> Any:
    """Return OpenDP's measurement behind a rule: noisy counts of at least ``tau - 1`` of the keys it is given.

    One less than ``tau``: OpenDP 0.16 releases a count that is its threshold, and its privacy map takes the
    delta of a release above it. Of what comes out, counts of ``tau - 1`` are left out; then the map is right.
    """
    import opendp.prelude as dp

    dp.enable_features("contrib")
    counts = dp.map_domain(dp.atom_domain(T="u32"), dp.atom_domain(T="u32"))
    is_gaussian = rule.noise == "gaussian"
    distance = dp.l02inf_distance if is_gaussian else dp.l01inf_distance
    make = dp.m.make_gaussian_threshold if is_gaussian else dp.m.make_laplace_threshold
    return make(counts, distance(dp.absolute_distance(T="u32")), scale=rule.scale, threshold=rule.tau - 1)
