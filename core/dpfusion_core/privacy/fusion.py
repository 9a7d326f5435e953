"""Fusion of one token: from one public and several private distributions to the one that is sampled."""

import math
from dataclasses import dataclass, field
from typing import Protocol, Self

import torch
from torch import Tensor

from dpfusion_core import _validate
from dpfusion_core.privacy.capping import dilution
from dpfusion_core.privacy.loss import token_loss
from dpfusion_core.privacy.mixing import MixingWeightSearch
from dpfusion_core.privacy.parameters import PrivacyParameters

_DOWN = 1.0 - 2e-15  # more than the rounding error of a few multiplications


@dataclass(frozen=True)
class Diagnostics:
    """What the fusion of one token did with the private distributions: for the data curator only.

    Functions of private data. They must not reach a response, a log, a metric or an exception; the
    representation shows none of them.

    Attributes:
        lambdas: Mixing weight of each unit, ``[units]``.
        divergences: Realised divergence of each unit's mixture from the public distribution, in
            nats, at the rule's order and in the larger direction, ``[units]``. With a weight cap, that
            of its part of the mean.
    """

    lambdas: Tensor = field(repr=False)
    divergences: Tensor = field(repr=False)


@dataclass(frozen=True)
class Fused:
    """The fusion of one token.

    Attributes:
        log_probs: Log-probabilities of the distribution to sample from, float64, ``[vocab]``.
        losses: Realised Rényi loss of each unit in nats at the rule's order, ``[units]``. A
            function of private data: only an accountant reads it.
        diagnostics: See :class:`Diagnostics`.
    """

    log_probs: Tensor = field(repr=False)
    losses: Tensor = field(repr=False)
    diagnostics: Diagnostics = field(repr=False)


class FusionRule(Protocol):
    """A rule that fuses one token.

    An instance may keep memory from token to token, so it serves one stream at a time.
    """

    def fuse(self, public: Tensor, private: Tensor, bounds: Tensor) -> Fused:
        """Fuse the next-token distributions of one public and ``units`` private views.

        Args:
            public: Log-probabilities given the public view, float64, ``[vocab]``.
            private: Log-probabilities given each unit's private view, float64, ``[units, vocab]``.
            bounds: What each unit's contribution may diverge from ``public``, in nats at the
                rule's order, float64, ``[units]``. A unit with bound 0 contributes ``public``.

        Returns:
            The fused token.
        """
        ...


class MixtureRule:
    r"""The rule of DP-Fusion (Thareja et al. 2025, Algorithm 1).

    Each unit contributes ``m_u = (1 - lambda_u) q + lambda_u p_u`` with the largest ``lambda_u``
    that keeps the Rényi divergence of order ``a`` between ``m_u`` and ``q``, in both directions,
    within the unit's bound. The fused distribution is the mean of the contributions.

    With a weight cap ``L`` the mean is also ``kappa n_u`` and what does not depend on the unit, where
    ``n_u = (1 - s lambda_u) q + s lambda_u p_u`` with ``s = 1/(N kappa)`` is the unit's part of the mean. It is
    the divergence of ``n_u`` that the bound is for, and a larger ``lambda_u`` meets it (docs/theory.md,
    section 3, formula 1c). A unit that is alone has no cap: nothing would be gained by it.

    Args:
        order: Rényi order ``a > 1``.
        mixing_loss: For replace neighbours, the constant ``c_inf`` in nats: ``s lambda_u`` is capped at
            ``1 - e^(-c_inf)`` and ``c_inf`` is added to every divergence that is charged (docs/theory.md,
            section 3, formula 3). None for zero-out neighbours.
        weight_cap: ``L``, the largest weight of any unit where there are several; 1 is no cap.

    Raises:
        PrivacyParameterError: If a parameter is out of range.

    Example:
        >>> q = torch.tensor([0.5, 0.5], dtype=torch.float64)
        >>> p = torch.tensor([[0.9, 0.1]], dtype=torch.float64)
        >>> bound = torch.tensor([0.02], dtype=torch.float64)
        >>> MixtureRule(order=2.0).fuse(q.log(), p.log(), bound).log_probs.exp()
        tensor([0.5704, 0.4296], dtype=torch.float64)
    """

    def __init__(self, order: float, mixing_loss: float | None = None, weight_cap: float = 1.0) -> None:
        self.order = _validate.order(order)
        self._weight_cap = _validate.share(weight_cap, "weight_cap")
        self._largest = 1.0  # of s lambda
        self._surcharge = 0.0
        if mixing_loss is not None:
            self._surcharge = _validate.non_negative(mixing_loss, "mixing_loss")
            self._largest = math.nextafter(-math.expm1(-self._surcharge), 0.0)  # rounded down
        self._searches: dict[int, MixingWeightSearch] = {}

    @classmethod
    def of(cls, parameters: PrivacyParameters) -> Self:
        """Return the rule for per-token settings."""
        mixing_loss = parameters.surcharge if parameters.neighbours == "replace" else None
        return cls(parameters.order, mixing_loss, parameters.weight_cap)

    def fuse(self, public: Tensor, private: Tensor, bounds: Tensor) -> Fused:
        """Fuse one token; see :meth:`FusionRule.fuse`."""
        units = private.shape[0]
        cap = 1.0 if units == 1 else self._weight_cap
        diluted = dilution(units, cap)  # 1 / s
        if units not in self._searches:
            self._searches = {units: MixingWeightSearch(self.order, min(self._largest, cap / diluted))}
        weights, divergences = self._searches[units](public, private, bounds)  # s lambda [units]
        lambdas = weights
        if cap < 1.0:  # rounded down, so that s lambda is not above what was found
            lambdas = (weights * (diluted * _DOWN)).clamp(max=cap)
        mixtures = public + torch.log1p(-lambdas)[:, None]  # [units, vocab]
        torch.logaddexp(mixtures, private + lambdas.log()[:, None], out=mixtures)
        losses = token_loss(divergences + self._surcharge, units, self.order, cap)
        log_probs = mixtures[0] if units == 1 else torch.logsumexp(mixtures, dim=0) - math.log(units)
        return Fused(log_probs, losses, Diagnostics(lambdas, divergences))
