"""What an attacker gets right who knows the model and the mechanism, and the most that epsilon allows."""

import math
from collections.abc import Sequence

from dpfusion_core.privacy.noise import Noise


def most_of_choice(epsilon: float, choices: int) -> float:
    r"""Return how often a choice, or who guesses from it, can be right at most, all answers being equally likely.

    :math:`\min(e^\epsilon / K, 1 - (1 - 1/K) e^{-\epsilon})` for zero-out neighbours, delta aside.

    Example:
        >>> round(most_of_choice(1.0, 5), 3), round(most_of_choice(2.0, 5), 3)
        (0.544, 0.892)
    """
    return min(math.exp(epsilon) / choices, 1.0 - (1.0 - 1.0 / choices) * math.exp(-epsilon))


def most_of_presence(epsilon: float) -> float:
    r"""Return how often a guess whether a record was there can be right at most, if even odds are known.

    :math:`e^\epsilon / (1 + e^\epsilon)`, delta aside.

    Example:
        >>> round(most_of_presence(1.0), 3), round(most_of_presence(2.0), 3)
        (0.731, 0.881)
    """
    return 1.0 / (1.0 + math.exp(-epsilon))


def guess_of_choice(answers: Sequence[Sequence[float]]) -> float:
    """Return how often the best guess of the truth is right that can be made from one answer.

    Args:
        answers: For each truth, all equally likely, the probability of each answer. Who knows the model, the
            mechanism and all of the record but the truth can compute it.

    Example:
        >>> guess_of_choice([[0.75, 0.25], [0.5, 0.5]])
        0.625
    """
    return math.fsum(max(likely) for likely in zip(*answers, strict=True)) / len(answers)


def guess_of_presence(noise: Noise) -> float:
    """Return how often the best guess is right whether a record is in a noisy count, all others being known.

    It says "there" where the count is nearer to that: half of the distance between the two distributions.
    """
    return 1.0 - noise.tail(1)
