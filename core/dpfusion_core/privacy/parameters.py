"""What a caller asks of the privacy core, checked at the moment it is said."""

from dataclasses import dataclass
from typing import Literal, get_args

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError

Neighbours = Literal["zero-out", "replace"]
Accounting = Literal["fixed", "adaptive"]
Spending = Literal["growing", "accrued", "capped"]


@dataclass(frozen=True)
class PrivacyParameters:
    """Per-token privacy settings in the terms of the DP-Fusion paper.

    Attributes:
        order: Rényi order, above 1.
        beta: The per-token bound on the divergence of one unit's contribution is ``order * beta``
            nats at order ``order``. 0 makes the output independent of private text. With a weight cap
            the bound is on the unit's part of the mean (docs/theory.md, section 3, formula 1c).
        delta: Probability for the conversion to (epsilon, delta), from 1e-9 to below 1.
        neighbours: ``"zero-out"``: what is hidden is whether a unit's private text was there or
            the placeholder stood in its place. ``"replace"``: what is hidden is which of all
            texts with the same public view it was.
        mixing_loss: Only for replace neighbours: the constant ``c_inf`` in nats per token that
            caps what is bounded at weight ``1 - e^(-c_inf)``. None takes ``order * beta``.
        weight_cap: Largest weight of any unit where there are several, above 0; 1 is no cap. Fixed in
            advance, and the same for all units.

    Raises:
        PrivacyParameterError: If a value is out of range, or ``mixing_loss`` is given for
            zero-out neighbours.

    Example:
        >>> PrivacyParameters(order=2.0, beta=0.01).bound
        0.02
    """

    order: float
    beta: float
    delta: float = 1e-5
    neighbours: Neighbours = "zero-out"
    mixing_loss: float | None = None
    weight_cap: float = 1.0

    def __post_init__(self) -> None:
        _validate.order(self.order)
        _validate.non_negative(self.beta, "beta")
        _validate.delta(self.delta)
        _validate.choice(self.neighbours, get_args(Neighbours), "neighbours")
        _validate.share(self.weight_cap, "weight_cap")
        if self.mixing_loss is not None:
            if self.neighbours != "replace":
                raise PrivacyParameterError("mixing_loss only has a meaning with neighbours='replace'.")
            _validate.positive(self.mixing_loss, "mixing_loss")

    @property
    def bound(self) -> float:
        """``order * beta``: bound on the divergence of each unit's part, in nats per token."""
        return self.order * self.beta

    @property
    def surcharge(self) -> float:
        """``c_inf``: what every token costs on top of the divergence, in nats; 0 for zero-out."""
        if self.neighbours == "zero-out":
            return 0.0
        return self.bound if self.mixing_loss is None else self.mixing_loss
