"""The Rényi order and the weight cap with which a choice out of few is made."""

import functools
import math
from typing import NamedTuple

import torch

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy.budget import MAX_ORDER, PrivacyBudget
from dpfusion_core.privacy.calibration import calibrate_beta
from dpfusion_core.privacy.fusion import MixtureRule
from dpfusion_core.privacy.parameters import Accounting, Neighbours

# From the highest one down to a hundredth of the range above 1.
_ORDERS = tuple(1.0 + (MAX_ORDER - 1.0) * 1e-2 ** (step / 24) for step in range(25))
_CAP_STEPS = 10
_LEAST = 1e-9  # nats: an order that leaves less cannot meet the budget


class ChoiceSettings(NamedTuple):
    """With what a choice is made.

    Attributes:
        order: Rényi order.
        weight_cap: Largest weight of any unit; None leaves it to the calibration.
    """

    order: float
    weight_cap: float | None


@functools.lru_cache(maxsize=256)
def best_choice_settings(
    budget: PrivacyBudget,
    choices: int,
    steps: int = 1,
    num_units: int = 1,
    neighbours: Neighbours = "zero-out",
    accounting: Accounting = "fixed",
    is_shared: bool = False,
    order: float | None = None,
    weight_cap: float | None = None,
) -> ChoiceSettings:
    """Return the order and the weight cap with which a model that is sure says its choice most often.

    One step has no composition to gain from, so the order is a high one (docs/theory.md, section 10). A weight cap
    that is good for many small steps can be in the way of a single large one. Both depend on public numbers alone:
    the prior is taken as uniform, and a unit that knows as sure.

    Args:
        budget: What all steps may lose.
        choices: Number of choices.
        steps: How many choices share the budget.
        num_units: Number of privacy units of the request.
        neighbours: The neighbour relation.
        accounting: ``"fixed"`` or ``"adaptive"``.
        is_shared: As for :func:`~dpfusion_core.privacy.calibrate_beta`.
        order: The order, if it is given.
        weight_cap: The cap, if it is given.

    Raises:
        PrivacyParameterError: If a number is out of range, or no order can meet the budget.

    Example:
        >>> best_choice_settings(PrivacyBudget(2.0), choices=5)
        ChoiceSettings(order=256.0, weight_cap=None)
        >>> round(best_choice_settings(PrivacyBudget(2.0), choices=5, num_units=4).weight_cap, 2)
        0.96
    """
    _validate.count(choices, "choices", minimum=2)
    public = torch.full((choices,), -math.log(choices), dtype=torch.float64)  # [choices]
    sure = torch.full_like(public, -torch.inf)
    sure[0] = 0.0

    @functools.cache
    def weight(order: float, cap: float | None) -> float:
        """Return the weight of a unit that is sure; units do not touch, so the others' texts do not matter."""
        try:
            chosen = calibrate_beta(
                budget.epsilon,
                budget.delta,
                steps,
                num_units,
                order,
                neighbours,
                accounting=accounting,
                is_shared=is_shared,
                weight_cap=cap,
            )
        except PrivacyParameterError:
            if cap is None or neighbours != "replace":
                raise
            return 0.0  # the cap costs more than there is
        views = torch.stack([sure, *[public] * (num_units - 1)])  # [units, choices]
        bounds = torch.full((num_units,), chosen.bound, dtype=torch.float64)
        return float(MixtureRule.of(chosen).fuse(public, views, bounds).diagnostics.lambdas[0])

    def best_cap(order: float) -> float:
        """Return the largest cap that is reached: beyond it, the weight falls as the cap grows."""
        low, high = 0.0, 1.0
        for _ in range(_CAP_STEPS):
            middle = (low + high) / 2.0
            low, high = (middle, high) if weight(order, middle) > middle * (1.0 - 1e-6) else (low, middle)
        return low or high

    def best_order(cap: float | None) -> float:
        return max(feasible, key=lambda each: weight(each, cap))

    may_cap = weight_cap is None and num_units > 1
    feasible = [order] if order is not None else [each for each in _ORDERS if budget.loss_at(each) > _LEAST]
    if not feasible or budget.loss_at(feasible[0]) <= _LEAST:
        return ChoiceSettings(order or budget.best_order(), weight_cap)
    if not may_cap:
        return ChoiceSettings(best_order(weight_cap), weight_cap)
    cap = best_cap(best_order(None))
    best = best_order(cap)  # with the cap another order may be the best, and at that order another cap
    return ChoiceSettings(best, best_cap(best))
