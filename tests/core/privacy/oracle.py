"""Slow and certain answers: 50-digit arithmetic and enumeration of every response of a toy model."""

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

from dpfusion_core.privacy import Accountant, FusionRule

mp = mpmath.MPContext()
mp.dps = 50

Prefix = tuple[int, ...]
NextToken = Callable[[Prefix], Tensor]
Responses = Mapping[Prefix, float]


class ExactPair:
    """A public and a private row, normalised in 50 digits; equal tokens are counted, not repeated."""

    def __init__(self, log_q: Tensor, log_p: Tensor) -> None:
        rows, counts = np.unique(torch.stack([log_q, log_p], dim=-1).numpy(), axis=0, return_counts=True)
        weights = [
            (int(n), mp.exp(float(q)), mp.exp(float(p))) for (q, p), n in zip(rows, counts, strict=True)
        ]
        q_sum = mp.fsum(n * q for n, q, _ in weights)
        p_sum = mp.fsum(n * p for n, _, p in weights)
        self._tokens = [(n, q / q_sum, p / p_sum) for n, q, p in weights if q or p]

    @property
    def singular(self) -> bool:
        """Whether the private row allows a token that the public row does not."""
        return any(q == 0 < p for _, q, p in self._tokens)

    def divergence(self, order: float, weight: float = 1.0) -> Any:
        """Return ``D_a`` of the mixture of ``weight`` from the public row, in the larger direction."""
        return max(self.forward(order, weight), self.reverse(order, weight))

    def forward(self, order: float, weight: float = 1.0) -> Any:
        """Return ``D_a(m ‖ q)``."""
        return self._moment(mp.mpf(order), weight) / (mp.mpf(order) - 1)

    def reverse(self, order: float, weight: float = 1.0) -> Any:
        """Return ``D_a(q ‖ m)``."""
        return self._moment(1 - mp.mpf(order), weight) / (mp.mpf(order) - 1)

    def public_surprise(self, weight: float) -> Any:
        """Return ``D_inf(q ‖ m)``."""
        w = mp.mpf(weight)
        return max(mp.log(q / ((1 - w) * q + w * p)) if w < 1 or p else mp.inf for _, q, p in self._tokens)

    def _moment(self, exponent: Any, weight: float) -> Any:
        total, w = mp.zero, mp.mpf(weight)
        for n, q, p in self._tokens:
            m = (1 - w) * q + w * p
            if q == 0:
                if m > 0 and exponent > 0:
                    return mp.inf
            elif m > 0:
                total += n * q * mp.exp(exponent * mp.log(m / q))
            elif exponent < 0:
                return mp.inf
        return mp.log(total) if total > 0 else mp.inf

    def largest_weight(self, bound: float, order: float, lambda_max: float = 1.0) -> Any:
        """Return the largest feasible weight by bisection of its logarithm, at best 1e-290."""
        if self.divergence(order, lambda_max) <= bound:
            return mp.mpf(lambda_max)
        low, high = mp.mpf(-290), mp.log10(lambda_max)
        while high - low > 1e-12:
            middle = (low + high) / 2
            low, high = (
                (middle, high) if self.divergence(order, mp.power(10, middle)) <= bound else (low, middle)
            )
        return mp.power(10, low)


def moved_share(num_units: int, weight_cap: float = 1.0) -> Any:
    """Return ``kappa``, the share of the mean that a unit moves."""
    n = mp.mpf(num_units)
    return 1 - mp.mpf(weight_cap) * (n - 1) / n


def token_loss(divergence: float, num_units: int, order: float, weight_cap: float = 1.0) -> Any:
    """Return formula (1c); without a cap it is (1)."""
    kappa, a1 = moved_share(num_units, weight_cap), mp.mpf(order) - 1
    return mp.log(1 - kappa + kappa * mp.exp(a1 * divergence)) / a1


def token_bound(loss: float, num_units: int, order: float, weight_cap: float = 1.0) -> Any:
    """Return formula (2)."""
    a1 = mp.mpf(order) - 1
    return mp.log(1 + mp.expm1(a1 * loss) / moved_share(num_units, weight_cap)) / a1


def rdp_to_epsilon(loss: float, order: float, delta: float) -> Any:
    """Return formula (4), or 0 where the total variation distance itself is below delta."""
    a = mp.mpf(order)
    if mp.mpf(delta) ** 2 > -mp.expm1(-loss):
        return mp.zero
    return max(mp.zero, loss + mp.log(1 - 1 / a) - mp.log(delta * a) / (a - 1))


def responses(
    public: NextToken,
    private: Sequence[NextToken],
    rule: FusionRule,
    accountant: Accountant,
    max_tokens: int,
    eos: int | None = None,
) -> Responses:
    """Return the probability of every response of a toy model, each token fused and charged."""
    return {
        path: probability
        for path, probability, _ in accounted_responses(public, private, rule, accountant, max_tokens, eos)
    }


def accounted_responses(
    public: NextToken,
    private: Sequence[NextToken],
    rule: FusionRule,
    accountant: Accountant,
    max_tokens: int,
    eos: int | None = None,
) -> list[tuple[Prefix, float, Accountant]]:
    """Return every response of a toy model, its probability and its accountant at the end."""
    result: list[tuple[Prefix, float, Accountant]] = []
    growing: list[tuple[Prefix, float, Accountant]] = [((), 0.0, accountant)]
    for length in range(1, max_tokens + 1):
        longer: list[tuple[Prefix, float, Accountant]] = []
        for prefix, log_probability, before in growing:
            after = copy.deepcopy(before)
            rows = torch.stack([row(prefix) for row in private])
            fused = rule.fuse(public(prefix), rows, after.bounds())
            after.charge(fused.losses)
            for token, log_next in enumerate(fused.log_probs.tolist()):
                ended = token == eos or length == max_tokens
                child = ((*prefix, token), log_probability + log_next, after)
                (result if ended else longer).append(child)
        growing = longer
    return [(path, math.exp(value), last) for path, value, last in result]


def response_divergence(first: Responses, second: Responses, order: float) -> float:
    """Return ``D_a`` between two response distributions, in the larger direction."""
    keys = sorted(first)
    rows = (torch.tensor([row[key] for key in keys], dtype=torch.float64).log() for row in (first, second))
    return float(ExactPair(*rows).divergence(order))


def exact_delta(first: Responses, second: Responses, epsilon: float) -> float:
    """Return the smallest delta for which ``epsilon`` holds between two response distributions."""
    factor = math.exp(epsilon)
    return max(
        math.fsum(max(0.0, p[key] - factor * q[key]) for key in p)
        for p, q in itertools.permutations((first, second))
    )
