"""Draws releases. Noise comes from OpenDP's samplers, exact on the integers, and from nowhere else."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dpfusion_core.errors import BackendError, errors_as
from dpfusion_core.privacy.release import VoteRelease


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
