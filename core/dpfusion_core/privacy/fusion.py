"""Fusion of one token: from one public and several private distributions to the one that is sampled."""

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from dpfusion_core import _validate
from dpfusion_core.privacy.loss import token_loss
from dpfusion_core.privacy.mixing import MixingWeightSearch


@dataclass(frozen=True)
class Diagnostics:
    """What the fusion of one token did with the private distributions: for the data curator only.

    Functions of private data. They must not reach a response, a log, a metric or an exception; the
    representation shows none of them.

    Attributes:
        lambdas: Mixing weight of each unit, ``[units]``.
        divergences: Realised divergence of each unit's mixture from the public distribution, in
            nats, at the rule's order and in the larger direction, ``[units]``.
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

    Args:
        order: Rényi order ``a > 1``.
        mixing_loss: For replace neighbours, the constant ``c_inf`` in nats: weights are capped at
            ``1 - e^(-c_inf)`` and ``c_inf`` is added to every divergence that is charged (docs/theory.md,
            section 3, formula 3). None for zero-out neighbours.

    Raises:
        PrivacyParameterError: If a parameter is out of range.

    Example:
        >>> q = torch.tensor([0.5, 0.5], dtype=torch.float64)
        >>> p = torch.tensor([[0.9, 0.1]], dtype=torch.float64)
        >>> bound = torch.tensor([0.02], dtype=torch.float64)
        >>> MixtureRule(order=2.0).fuse(q.log(), p.log(), bound).log_probs.exp()
        tensor([0.5704, 0.4296], dtype=torch.float64)
    """

    def __init__(self, order: float, mixing_loss: float | None = None) -> None:
        self.order = _validate.order(order)
        lambda_max = 1.0
        self._surcharge = 0.0
        if mixing_loss is not None:
            self._surcharge = _validate.non_negative(mixing_loss, "mixing_loss")
            lambda_max = math.nextafter(-math.expm1(-self._surcharge), 0.0)  # rounded down
        self._search = MixingWeightSearch(order, lambda_max)

    def fuse(self, public: Tensor, private: Tensor, bounds: Tensor) -> Fused:
        """Fuse one token; see :meth:`FusionRule.fuse`."""
        lambdas, divergences = self._search(public, private, bounds)  # [units]
        mixtures = public + torch.log1p(-lambdas)[:, None]  # [units, vocab]
        torch.logaddexp(mixtures, private + lambdas.log()[:, None], out=mixtures)
        units = private.shape[0]
        losses = token_loss(divergences + self._surcharge, units, self.order)
        log_probs = mixtures[0] if units == 1 else torch.logsumexp(mixtures, dim=0) - math.log(units)
        return Fused(log_probs, losses, Diagnostics(lambdas, divergences))
