"""Fusion with a weight that is the same whatever the private distribution is: then totals can be corrected."""

import math

import torch
from torch import Tensor

from dpfusion_core.privacy.fusion import Diagnostics, Fused, MixtureRule


class SteadyRule:
    """Mixes a unit that is alone with a uniform prior, by the weight that a sure unit would get.

    The divergence of a mixture with a uniform ``q`` is convex in ``p`` and the same at all corners, so a unit that
    is sure of one choice, whichever, gets the smallest weight of all. This weight keeps every unit's bound, and it
    is a function of public numbers alone: the bias of an answer is then known, and a total over many answers can be
    corrected without an assumption (docs/theory.md, section 10).

    Args:
        rule: Finds the weights.

    Example:
        >>> rule = SteadyRule(MixtureRule(order=256.0))
        >>> round(rule.weight(5, 2.0), 4)
        0.8648
    """

    def __init__(self, rule: MixtureRule) -> None:
        self._rule = rule

    def weight(self, choices: int, bound: float) -> float:
        """Return the weight of every unit, whatever it says.

        Args:
            choices: Number of choices.
            bound: What the unit's contribution may diverge, in nats at the rule's order.
        """
        public = torch.full((choices,), -math.log(choices), dtype=torch.float64)  # [choices]
        sure = torch.full_like(public, -torch.inf)
        sure[0] = 0.0
        bounds = torch.tensor([bound], dtype=torch.float64)
        return float(self._rule.fuse(public, sure[None], bounds).diagnostics.lambdas)

    def fuse(self, public: Tensor, private: Tensor, bounds: Tensor) -> Fused:
        """Fuse one choice of one unit; see :meth:`FusionRule.fuse`. ``public`` is uniform."""
        found = self._rule.fuse(public, private, bounds)
        steady = self.weight(public.shape[0], float(bounds[0]))
        weights = found.diagnostics.lambdas.clamp(max=steady)  # [1]
        mixed = torch.logaddexp(public + torch.log1p(-weights), private[0] + weights.log())
        # What a larger weight would lose bounds what this one loses.
        return Fused(mixed, found.losses, Diagnostics(weights, found.diagnostics.divergences))
