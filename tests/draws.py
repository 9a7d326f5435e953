"""Draws that repeat, so that what a page, a notebook or the demonstration shows can be compared."""

import random
from collections.abc import Callable
from typing import Any

from dpfusion_core.privacy import releasing


def repeating(seed: int = 1) -> list[tuple[Any, str, Any]]:
    """Return what is to be replaced, as (module, name, value): the system's generator, and OpenDP's.

    The noise of releases has the same distribution, from a generator with a fixed start.
    """
    rng = random.Random(seed)

    def noise(rule: Any) -> int:
        reach, drawn = rule.distribution.tail, rng.random()
        return next(k for k in range(-int(40 * rule.scale) - 2, 10**9) if reach(k + 1) <= drawn)

    def threshold(rule: Any) -> Callable[[dict[int, int]], dict[int, int]]:
        return lambda counts: {key: count + noise(rule) for key, count in counts.items()}

    def addition(rule: Any) -> Callable[[int], int]:
        return lambda count: count + noise(rule)

    return [
        (random, "SystemRandom", lambda: random.Random(seed)),
        (releasing, "threshold", threshold),
        (releasing, "addition", addition),
    ]


def repeat(seed: int = 1) -> None:
    """Let this process draw the same each time it is started: for the kernel of a notebook."""
    for module, name, value in repeating(seed):
        setattr(module, name, value)
