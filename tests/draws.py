"""Draws that repeat, so that what a page, a notebook or the demonstration shows can be compared."""

import bisect
import random
from collections.abc import Callable
from typing import Any

from dpfusion_core.privacy import measuring, releasing
from dpfusion_core.privacy.noise import Noise


def repeating(seed: int = 1, *, in_turn: bool = False) -> list[tuple[Any, str, Any]]:
    """Return what is to be replaced, as (module, name, value): the system's generator, and OpenDP's.

    The noise of releases has the same distribution, from a generator with a fixed start.

    Args:
        seed: Where the draws start.
        in_turn: Whether every answer has draws of its own, which depend on how many were asked for before. By
            default all begin with the same draw, so that one answer does not change with what stands before it.
    """
    rng, starts = random.Random(seed), random.Random(seed)

    def noise(distribution: Noise) -> int:
        drawn, most = rng.random(), int(60 * distribution.scale) + 60
        places = range(-most, most)
        return places[bisect.bisect_left(places, True, key=lambda k: distribution.tail(k + 1) <= drawn)]

    def threshold(rule: Any) -> Callable[[dict[int, int]], dict[int, int]]:
        return lambda counts: {key: count + noise(rule.distribution) for key, count in counts.items()}

    def addition(distribution: Noise) -> Callable[[int], int]:
        return lambda count: count + noise(distribution)

    return [
        (random, "SystemRandom", lambda: random.Random(starts.random() if in_turn else seed)),
        (releasing, "threshold", threshold),
        (releasing, "addition", addition),
        (measuring, "addition", addition),
    ]


def repeat(seed: int = 1, *, in_turn: bool = False) -> None:
    """Let this process draw the same each time it is started: for the kernel of a notebook."""
    for module, name, value in repeating(seed, in_turn=in_turn):
        setattr(module, name, value)
