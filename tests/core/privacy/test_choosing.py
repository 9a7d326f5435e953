"""With which order and cap a choice is made: those that a sure model gains most by."""

import math

import pytest
import torch

from dpfusion_core.privacy import MixtureRule, PrivacyBudget, calibrate_beta
from dpfusion_core.privacy.choosing import best_choice_settings


def said(
    epsilon: float, units: int, order: float, cap: float | None, knowing: int, choices: int = 5
) -> float:
    """Return how often the choice of the units that know is said; the others' views say nothing."""
    chosen = calibrate_beta(epsilon, 1e-5, 1, units, order, weight_cap=cap)
    public = torch.full((choices,), -math.log(choices), dtype=torch.float64)
    views = public.repeat(units, 1)
    views[:knowing] = -torch.inf
    views[:knowing, 0] = 0.0
    bounds = torch.full((units,), chosen.bound, dtype=torch.float64)
    return float(MixtureRule(order, None, chosen.weight_cap).fuse(public, views, bounds).log_probs.exp()[0])


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("units", [1, 2, 8])
def test_no_other_order_or_cap_says_it_noticeably_more_often(units: int, epsilon: float) -> None:
    order, cap = best_choice_settings(PrivacyBudget(epsilon), 5, num_units=units)

    def mean(order: float, cap: float | None) -> float:
        return sum(said(epsilon, units, order, cap, knowing) for knowing in (1, units)) / 2

    others = [(a, c) for a in (256.0, 128.0, 32.0) for c in (1.0, 0.8, 0.55, 0.3)]
    feasible = [(a, c) for a, c in others if PrivacyBudget(epsilon).loss_at(a) > 0]
    assert mean(order, cap) >= max(mean(a, c) for a, c in feasible) - 0.02


def test_a_cap_for_many_small_steps_is_not_in_the_way_of_a_large_one() -> None:
    """With the default of text, 1/2, eight units that all know would be held at .60."""
    order, cap = best_choice_settings(PrivacyBudget(2.0), 5, num_units=8)
    assert said(2.0, 8, order, cap, knowing=8) > 0.85
    assert said(2.0, 8, order, None, knowing=8) < 0.62


def test_what_is_given_is_kept() -> None:
    assert best_choice_settings(PrivacyBudget(4.0), 5, num_units=3, order=8.0).order == 8.0
    assert best_choice_settings(PrivacyBudget(4.0), 5, num_units=3, weight_cap=0.3).weight_cap == 0.3
