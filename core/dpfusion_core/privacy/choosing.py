"""The Rényi order at which a choice out of few is made."""

import functools
import math

import torch

from dpfusion_core import _validate
from dpfusion_core.privacy.budget import MAX_ORDER, PrivacyBudget
from dpfusion_core.privacy.calibration import calibrate_beta
from dpfusion_core.privacy.fusion import MixtureRule
from dpfusion_core.privacy.parameters import Accounting, Neighbours

_STEPS = 24
_LOWEST = 1e-2  # of the range of orders above 1


@functools.lru_cache(maxsize=256)
def best_choice_order(
    budget: PrivacyBudget,
    choices: int,
    steps: int = 1,
    num_units: int = 1,
    neighbours: Neighbours = "zero-out",
    accounting: Accounting = "fixed",
    is_shared: bool = False,
    weight_cap: float | None = None,
) -> float:
    """Return the order at which a model that is sure of its choice says it most often.

    One step has no composition to gain from, so that is a high order (docs/theory.md, section 10). It depends on
    public numbers alone: the prior is taken as uniform, and one unit as the one that knows.

    Args:
        budget: What all steps may lose.
        choices: Number of choices.
        steps: How many choices share the budget.
        num_units: Number of privacy units of the request.
        neighbours: The neighbour relation.
        accounting: ``"fixed"`` or ``"adaptive"``.
        is_shared: As for :func:`~dpfusion_core.privacy.calibrate_beta`.
        weight_cap: The same.

    Raises:
        PrivacyParameterError: If a number is out of range, or no order can meet the budget.

    Example:
        >>> best_choice_order(PrivacyBudget(2.0), choices=5)
        256.0
    """
    _validate.count(choices, "choices", minimum=2)
    public = torch.full((choices,), -math.log(choices), dtype=torch.float64)  # [choices]
    views = public.repeat(num_units, 1)  # [units, choices]
    views[0] = -torch.inf
    views[0, 0] = 0.0

    def weight(order: float) -> float:
        chosen = calibrate_beta(
            budget.epsilon,
            budget.delta,
            steps,
            num_units,
            order,
            neighbours,
            accounting=accounting,
            is_shared=is_shared,
            weight_cap=weight_cap,
        )
        mixing_loss = chosen.surcharge if neighbours == "replace" else None
        rule = MixtureRule(order, mixing_loss, chosen.weight_cap)
        bounds = torch.full((num_units,), chosen.bound, dtype=torch.float64)
        return float(rule.fuse(public, views, bounds).diagnostics.lambdas[0])

    orders = (1.0 + (MAX_ORDER - 1.0) * _LOWEST ** (step / _STEPS) for step in range(_STEPS + 1))
    feasible = [order for order in orders if budget.loss_at(order) > 1e-9]
    return max(feasible, key=weight) if feasible else budget.best_order()
