"""The largest mixing weight that keeps a mixture within a Rényi ball around the public distribution."""

from typing import Any

import torch
from torch import Tensor

from dpfusion_core import _validate

_MAX_STEPS = 40  # Newton converges quadratically: two steps on the full vocabulary are the rule.
# Rounding error of the moments below relative to 1, with a factor to spare: they are sums of terms
# whose logarithms are formed in float64.
_ROUNDING = 3e-15
_RESOLUTION = 1e-9  # relative, of the weight and of the moments
_CELLS = 4096
_SPAN = 50.0  # nats
# Up to this weight, 1 + lambda (e^r - 1) is at least 1e-3 and right to 1e-13, which at order 256 is 3e-11 of a
# moment. Above, what is left of q and what comes from p are added up instead of being subtracted from 1.
_NEAR_ONE = 1.0 - 1e-3


def largest_mixing_weight(
    log_q: Tensor, log_p: Tensor, bounds: Tensor, order: float, lambda_max: float = 1.0
) -> Tensor:
    r"""Return the largest ``lambda`` with :math:`D^\leftrightarrow_a((1-\lambda) q + \lambda p \| q) \le b`.

    Args:
        log_q: Public log-probabilities, float64, shape ``[vocab]``.
        log_p: Private log-probabilities, float64, shape ``[units, vocab]``.
        bounds: Bounds on the divergence in nats, float64, shape ``[units]``; 0 gives weight 0.
        order: Rényi order ``a > 1``.
        lambda_max: Upper limit of the weights, in [0, 1].

    Returns:
        The weights, float64, shape ``[units]``: never above the optimum, and within a relative
        1e-6 of it for bounds from 1e-6 nats.

    Raises:
        PrivacyParameterError: If ``order`` is not above 1 or ``lambda_max`` is not in [0, 1].

    Example:
        >>> log_q = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
        >>> log_p = torch.tensor([[1.0, 0.0]], dtype=torch.float64).log()
        >>> bound = torch.tensor([1.04], dtype=torch.float64).log()
        >>> largest_mixing_weight(log_q, log_p, bound, order=2.0)  # 1 / (1 - lambda^2) = 1.04
        tensor([0.1961], dtype=torch.float64)
    """
    return MixingWeightSearch(order, lambda_max)(log_q, log_p, bounds)[0]


class MixingWeightSearch:
    """The search of :func:`largest_mixing_weight`, with memory that is kept from token to token.

    ``exp((a-1) D)`` is convex in ``lambda`` with its minimum at 0, in both directions (Thareja et
    al. 2025, Theorem 3), so the feasible set is an interval. Its end is found by Newton steps on
    the logarithm of the excess moment ``exp((a-1) D) - 1``, kept inside a bracket. The answer is
    always the feasible end of the bracket, so rounding goes towards a smaller weight. A coarse
    version of the problem, thousands of times smaller than a vocabulary, gives the first guess.

    One instance serves one stream of tokens; it is not safe to share between threads.

    Args:
        order: Rényi order ``a > 1``.
        lambda_max: Upper limit of the weights, in [0, 1].
    """

    def __init__(self, order: float, lambda_max: float = 1.0) -> None:
        self._order = _validate.order(order, "order")
        self._lambda_max = _validate.unit_interval(lambda_max, "lambda_max")
        self._coarse = _Moments(order)
        self._fine = _Moments(order)

    def __call__(self, log_q: Tensor, log_p: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights and the divergences that they give, in nats, both ``[units]``.

        For the arguments see :func:`largest_mixing_weight`.
        """
        log_target = _log_expm1((self._order - 1.0) * bounds)  # of exp((a-1) D) - 1 [units]
        # A point counts as feasible only if it stays below the bound by more than its rounding error.
        tolerance = _RESOLUTION + _ROUNDING * torch.exp(-log_target)
        log_ratio = torch.sub(log_p, log_q, out=self._fine.reserve(log_p))  # [units, vocab]
        singular = (log_p > -torch.inf).logical_and_(log_q == -torch.inf).any(dim=-1)  # q = 0 < p
        # Tokens outside both supports, and those of a singular row, get the ratio 1 and drop out.
        log_ratio.nan_to_num_(nan=0.0, posinf=0.0, neginf=-torch.inf)
        q, p = log_q.exp(), torch.exp(log_p, out=self._fine.scratch[0])
        start = torch.full_like(bounds, self._lambda_max)
        # Log-softmax of a long row leaves a sum that is off 1 by up to 1e-12.
        drift = p.sum(dim=-1) - q.sum(dim=-1)  # [units]
        if log_ratio.shape[-1] > 2 * _CELLS:
            cells = _cells(q, p, log_ratio, self._fine.scratch[1])
            self._coarse.load(*cells, torch.zeros_like(drift))
            start, _ = self._search(self._coarse, start, log_target, tolerance)
        self._fine.load(log_q, q, log_ratio, drift)
        found, log_excess = self._search(self._fine, start, log_target, tolerance)
        # D = log(1 + excess) / (a-1), the rounding error of the excess counted as a loss.
        excess = torch.logaddexp(log_excess, torch.full_like(log_excess, _ROUNDING).log())
        divergences = torch.minimum(_softplus(excess) / (self._order - 1.0), bounds)
        public = singular | (found <= 0.0) | (bounds <= 0.0)
        return torch.where(public, 0.0, found), torch.where(public, 0.0, divergences)

    def _search(
        self, moments: "_Moments", start: Tensor, log_target: Tensor, tolerance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the largest feasible weight found from ``start`` on and its log excess, ``[units]``."""
        low = torch.zeros_like(start)  # feasible
        low_excess = torch.full_like(start, -torch.inf)
        high = torch.full_like(start, torch.inf)  # infeasible, or not yet known
        value = start
        done = torch.zeros_like(start, dtype=torch.bool)
        for _ in range(_MAX_STEPS):
            log_excess, slope = moments.log_excess(value)
            feasible = log_excess <= log_target - tolerance
            low = torch.where(feasible & ~done, value, low)
            low_excess = torch.where(feasible & ~done, log_excess, low_excess)
            high = torch.where(feasible | done, high, value)
            close = log_excess >= log_target - 2.0 * tolerance
            narrow = high <= low * (1.0 + _RESOLUTION)
            done = done | narrow | (feasible & (close | (value >= self._lambda_max)))
            # Stopping early reads a tensor's value: free on the CPU, a stall on an accelerator.
            if value.device.type == "cpu" and bool(done.all()):
                break
            step = _newton_step(value, log_excess - (log_target - 1.5 * tolerance), slope)
            step = torch.where(step > self._lambda_max, self._lambda_max, step)
            middle = _middle(low, high.clamp(max=self._lambda_max))
            value = torch.where((step > low) & (step < high), step, middle)  # NaN: the middle
        return low, low_excess


def _newton_step(value: Tensor, error: Tensor, slope: Tensor) -> Tensor:
    """Return the weight at which the tangent of the log excess meets the target.

    Towards 0 the log excess is linear in ``log lambda``, towards 1 in ``log(1 - lambda)``: in the
    logit it is nearly linear at both ends. At 1 itself, where the logit is infinite, the step is
    taken in ``log lambda``.
    """
    in_log = (value.log() - error / slope).exp()
    in_logit = torch.sigmoid(torch.logit(value) - error / (slope * (1.0 - value)))
    return torch.where(value < 1.0, in_logit, in_log)


def _middle(low: Tensor, high: Tensor) -> Tensor:
    """Return a point between: geometric where the bracket spans decades from 0, else the mean."""
    geometric = (torch.where(low > 0.0, low, high * 1e-12) * high).sqrt()
    return torch.where(high > 0.5, 0.5 * (low + high), geometric)


class _Moments:
    """Excess moments of the mixtures of one token, as functions of the mixing weights.

    Works in buffers that are kept from token to token: fresh memory for every intermediate result
    of the size of a vocabulary costs more than the arithmetic does.
    """

    def __init__(self, order: float) -> None:
        self._exponents = (order, 1.0 - order)
        self._buffers: tuple[Tensor, ...] = ()

    @property
    def scratch(self) -> tuple[Tensor, Tensor]:
        """Two buffers ``[units, vocab]`` that the next evaluation overwrites."""
        return self._buffers[3], self._buffers[4]

    def reserve(self, like: Tensor) -> Tensor:
        """Return a buffer for the log-ratios of shape ``[units, vocab]``, kept if the shape is kept."""
        if (
            not self._buffers
            or self._buffers[0].shape != like.shape
            or self._buffers[0].device != like.device
        ):
            self._buffers = tuple(torch.empty_like(like) for _ in range(6))
        return self._buffers[0]

    def load(self, log_q: Tensor, q: Tensor, log_ratio: Tensor, drift: Tensor) -> None:
        """Take ``q``, ``[vocab]`` or ``[units, vocab]``, and ``log p/q``, which is overwritten.

        ``drift`` is the rounding error ``sum p - sum q``; its first-order effect is taken out again.
        """
        self.reserve(log_ratio)
        self._log_ratio = self._buffers[5].copy_(log_ratio)
        # e^700 is the largest ratio kept as a number; what lies above is added to its logarithm.
        surplus = torch.sub(log_ratio, 700.0, out=self._buffers[1])
        self._surplus = surplus.clamp_(min=0.0)
        self._change = torch.expm1(log_ratio.clamp_(max=700.0), out=self._buffers[0])  # p/q - 1
        self._log_q = log_q
        self._q_sum = q.sum(dim=-1)  # 1 but for rounding
        self._drift = drift

    def log_excess(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``log(exp((a-1) D) - 1)`` of the larger direction and its slope in ``log lambda``.

        NaN if that of either direction is not a number.
        """
        _, _, share, log_ratio, scratch, _ = self._buffers
        torch.mul(self._change, value[:, None], out=share)  # m/q - 1 [units, vocab]
        # Looking at a tensor's value is free on the CPU, a stall on an accelerator. What a row gets must not
        # depend on the others, so that both shortcuts give the same bits as the long way.
        is_cpu = value.device.type == "cpu"
        if is_cpu and bool((value == 1.0).all()):
            log_ratio.copy_(self._log_ratio)  # log m/q
            share.div_(torch.add(share, 1.0, out=scratch))  # d log(m/q) / d log lambda
        elif is_cpu and bool((value <= _NEAR_ONE).all()):
            torch.log1p(share, out=log_ratio).add_(self._surplus)
            share.div_(torch.add(share, 1.0, out=scratch))
        else:
            is_low = ((value > _NEAR_ONE)[:, None] & (share < -_NEAR_ONE)) | (value == 1.0)[:, None]
            torch.log1p(share, out=log_ratio).add_(self._surplus)
            # The slope need not be as exact: what is left of q bounds m/q from below.
            share.div_(torch.add(share, 1.0, out=scratch).clamp_(min=(1.0 - value)[:, None]))
            at: Any = is_low.nonzero(as_tuple=True) if is_cpu else ...  # few, or all rather than a stall
            log_kept, log_left = (x.log()[:, None].expand_as(share)[at] for x in (value, 1.0 - value))
            exact = torch.logaddexp(self._log_ratio[at] + log_kept, log_left)
            log_ratio[at] = torch.where(is_low[at], exact, log_ratio[at])
        share.clamp_(min=-1e300)  # p = 0 at lambda = 1: the term is 0, and 0 times this is 0
        drift = value * self._drift  # of the mixture [units]
        forward = self._one_direction(log_ratio, share, scratch, drift, self._exponents[0])
        reverse = self._one_direction(log_ratio, share, scratch, drift, self._exponents[1])
        # The maximum of a number and NaN is NaN, and NaN is not feasible.
        slope = torch.where(forward[0] >= reverse[0], forward[1], reverse[1])
        return torch.maximum(forward[0], reverse[0]), slope

    def _one_direction(
        self, log_ratio: Tensor, share: Tensor, scratch: Tensor, drift: Tensor, exponent: float
    ) -> tuple[Tensor, Tensor]:
        terms = torch.mul(log_ratio, exponent, out=scratch).add_(self._log_q)  # [units, vocab]
        peak = terms.amax(dim=-1).clamp(min=0.0)  # [units]
        terms.sub_(peak[:, None]).exp_()
        scaled_sum = terms.sum(dim=-1)
        scaled_slope = exponent * _dot(terms, share)
        log_sum = peak + scaled_sum.log()
        one = self._q_sum + exponent * drift  # 1 but for rounding: what identical rows would give
        excess = (peak.exp() * scaled_sum - one).clamp(min=1e-300)
        small_slope = peak.exp() * scaled_slope / excess
        # Below the rounding error the slope is noise; NaN makes the search halve its bracket.
        small_slope = torch.where(excess > _ROUNDING, small_slope, torch.nan)
        large_slope = scaled_slope / (scaled_sum * -torch.expm1(-log_sum))
        large = log_sum > 1.0
        return (
            torch.where(large, _log_expm1(log_sum), excess.log()),
            torch.where(large, large_slope, small_slope),
        )


def _dot(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the inner products of rows ``[units, vocab]``, without a buffer for the products."""
    return torch.bmm(rows[:, None, :], weights.expand_as(rows)[:, :, None]).flatten()  # [units]


def _cells(q: Tensor, p: Tensor, log_ratio: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gather tokens of nearly equal ratio ``p/q`` into ``_CELLS`` cells: a smaller, similar problem.

    Merging tokens can only lower a divergence, and by little here, so the answer for the cells is
    a little too large: a good place to begin, never an answer. Returns ``log q``, ``q`` and the
    log-ratio of the cells, ``[units, cells]``.
    """
    position = torch.clamp(log_ratio, -_SPAN, _SPAN, out=scratch)  # [units, vocab]
    lowest = position.amin(dim=-1, keepdim=True)
    width = (position.amax(dim=-1, keepdim=True) - lowest).clamp_(min=1e-9) / (_CELLS - 1)
    cell = position.sub_(lowest).div_(width).long()
    empty = log_ratio.new_zeros(log_ratio.shape[0], _CELLS)
    cell_q, cell_p = empty.scatter_add(1, cell, q.expand_as(p)), empty.scatter_add(1, cell, p)
    log_cell_q = cell_q.log()
    ratio = (cell_p.log() - log_cell_q).nan_to_num_(nan=0.0, posinf=0.0, neginf=-torch.inf)
    return log_cell_q, cell_q, ratio


def _log_expm1(x: Tensor) -> Tensor:
    """Return ``log(e^x - 1)`` without overflow, ``-inf`` at 0."""
    return torch.where(x > 30.0, x, torch.expm1(x.clamp(max=30.0)).log())


def _softplus(x: Tensor) -> Tensor:
    """Return ``log(1 + e^x)`` without loss of digits at either end."""
    return torch.where(x > 30.0, x + torch.exp(-x), torch.log1p(x.clamp(max=30.0).exp()))
