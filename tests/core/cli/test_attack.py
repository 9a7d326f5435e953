"""The attacker's numbers are exact, and no mechanism of an epsilon gives more than the ceilings."""

import math
import random
from itertools import product

import pytest

from dpfusion_core.cli.attack import guess_of_choice, guess_of_presence, most_of_choice, most_of_presence
from dpfusion_core.privacy.noise import NOISES, NoiseName


def extreme(prior: list[float], truth: int, epsilon: float) -> list[float]:
    """Return the distribution that gives one answer the most that epsilon allows."""
    rest = 1.0 - prior[truth]
    most = min(math.exp(epsilon) * prior[truth], 1.0 - math.exp(-epsilon) * rest)
    return [most if k == truth else p / rest * (1.0 - most) for k, p in enumerate(prior)]


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("choices", [2, 5, 9])
def test_the_ceiling_of_a_choice_is_reached_and_never_passed(epsilon: float, choices: int) -> None:
    uniform = [1.0 / choices] * choices
    sure = [extreme(uniform, truth, epsilon) for truth in range(choices)]
    for row in sure:  # epsilon-DP in both directions
        assert all(abs(math.log(p / q)) <= epsilon + 1e-12 for p, q in zip(row, uniform, strict=True))
    assert guess_of_choice(sure) == pytest.approx(most_of_choice(epsilon, choices), abs=1e-12)
    rng = random.Random(0)
    for _ in range(50):  # whatever the prior
        weights = [rng.expovariate(1.0) for _ in range(choices)]
        prior = [weight / sum(weights) for weight in weights]
        rows = [extreme(prior, truth, epsilon) for truth in range(choices)]
        assert guess_of_choice(rows) <= most_of_choice(epsilon, choices) + 1e-12


def test_a_guess_is_the_best_of_all_rules() -> None:
    answers = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]
    rules = product(range(3), repeat=3)  # which truth is guessed, for each answer
    best = max(sum(answers[guess][answer] for answer, guess in enumerate(rule)) / 3 for rule in rules)
    assert guess_of_choice(answers) == pytest.approx(best)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_a_guess_whether_a_record_is_in_a_count_is_the_best_one(kind: NoiseName, scale: float) -> None:
    noise = NOISES[kind](scale)
    chance = {k: noise.tail(k) - noise.tail(k + 1) for k in range(-80, 81)}
    best = 0.5 * sum(max(chance.get(k, 0.0), chance.get(k - 1, 0.0)) for k in range(-80, 82))
    assert guess_of_presence(noise) == pytest.approx(best, abs=1e-9)


def test_pure_noise_reaches_the_ceiling_of_presence() -> None:
    for epsilon in (0.5, 1.0, 2.0):
        laplace = NOISES["laplace"](1.0 / epsilon)
        assert guess_of_presence(laplace) == pytest.approx(most_of_presence(epsilon), abs=1e-9)
