"""The Rényi order and the weight cap with which a choice out of few is made."""

import functools
import math
from typing import NamedTuple

import torch

from dpfusion_core import _validate
from dpfusion_core.privacy.budget import MAX_ORDER, PrivacyBudget
from dpfusion_core.privacy.calibration import calibrate_beta
from dpfusion_core.privacy.fusion import MixtureRule
from dpfusion_core.privacy.parameters import Accounting, Neighbours

_STEPS = 24
_LOWEST = 1e-2  # of the range of orders above 1
_CAPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


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
    the prior is taken as uniform, and one unit or all of them as those that know, one as likely as the other.

    Args:
        budget: What all steps may lose.
        choices: Number of choices.
        steps: How many choices share the budget.
        num_units: Number of privacy units of the request.
        neighbours: The neighbour relation; under replace neighbours the calibration finds the cap.
        accounting: ``"fixed"`` or ``"adaptive"``.
        is_shared: As for :func:`~dpfusion_core.privacy.calibrate_beta`.
        order: The order, if it is given.
        weight_cap: The cap, if it is given.

    Raises:
        PrivacyParameterError: If a number is out of range, or no order can meet the budget.

    Example:
        >>> best_choice_settings(PrivacyBudget(2.0), choices=5)
        ChoiceSettings(order=256.0, weight_cap=None)
        >>> best_choice_settings(PrivacyBudget(2.0), choices=5, num_units=4).weight_cap
        1.0
    """
    _validate.count(choices, "choices", minimum=2)
    public = torch.full((choices,), -math.log(choices), dtype=torch.float64)  # [choices]
    sure = torch.full_like(public, -torch.inf)
    sure[0] = 0.0

    def success(order: float, cap: float | None) -> float:
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
        mixing_loss = chosen.surcharge if neighbours == "replace" else None
        rule = MixtureRule(order, mixing_loss, chosen.weight_cap)
        bound = torch.tensor([chosen.bound], dtype=torch.float64)
        # Units do not touch: the weight of one that knows is the same, however many there are.
        views = torch.stack([sure, *[public] * (num_units - 1)])  # [units, choices]
        weight = float(rule.fuse(public, views, bound.expand(num_units)).diagnostics.lambdas[0])
        return weight * (1.0 + 1.0 / num_units) / 2.0

    may_cap = weight_cap is None and num_units > 1 and neighbours == "zero-out"
    first = 1.0 if may_cap else weight_cap
    if order is None:
        orders = (1.0 + (MAX_ORDER - 1.0) * _LOWEST ** (step / _STEPS) for step in range(_STEPS + 1))
        feasible = [each for each in orders if budget.loss_at(each) > 1e-9]
        if not feasible:
            return ChoiceSettings(budget.best_order(), weight_cap)
        order = max(feasible, key=lambda each: success(each, first))
    if may_cap and budget.loss_at(order) > 1e-9:
        return ChoiceSettings(order, max(_CAPS, key=lambda cap: success(order, cap)))
    return ChoiceSettings(order, weight_cap)
