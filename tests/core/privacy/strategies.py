"""Pairs of next-token distributions, hostile ones included, for Hypothesis and for seeded sweeps."""

import math

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

ORDERS = (1.01, 1.1, 1.5, 2.0, 3.0, 8.0, 32.0, 256.0)
KINDS = (
    "independent",
    "near",
    "identical",
    "shared zeros",
    "private zeros",
    "public zeros",
    "disjoint",
    "tiny public",
    "tiny private",
    "underflowing public",
    "surprise",
    "certain",
)
SETTINGS = settings(
    deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def make_pair(kind: str, x: Array, y: Array, scale: float, gap: float) -> tuple[Tensor, Tensor]:
    """Return normalised ``(log_q, log_p)`` of one of ``KINDS`` from numbers in [-1, 1].

    Args:
        kind: What is special about the pair.
        x: Shape of the public row, ``[vocab]``.
        y: Shape of the private row, ``[vocab]``.
        scale: Nats that a difference of 1 in ``x`` or ``y`` amounts to.
        gap: How far apart the rows of a "near" pair are, in nats.
    """
    q, p = scale * x, scale * y
    some = x < -0.3
    some[x.argmax()] = False
    if kind == "near":
        p = q + gap * y
    elif kind == "identical":
        p = q.copy()
    elif kind == "shared zeros":
        q[some] = p[some] = -np.inf
    elif kind == "private zeros":
        p[some] = -np.inf
    elif kind == "public zeros":
        q[some] = -np.inf
    elif kind == "disjoint" and len(x) > 1:
        q[::2] = p[1::2] = -np.inf
    log_q, log_p = (torch.from_numpy(row).log_softmax(dim=-1) for row in (q, p))
    if len(x) > 1:
        if kind == "tiny public":
            log_q = _with_first(log_q, math.log(1e-300))
        elif kind == "tiny private":
            log_p = _with_first(log_p, math.log(1e-300))
        elif kind == "underflowing public":
            log_q = _with_first(log_q, -2000.0)
        elif kind == "surprise":
            log_q, log_p = _with_first(log_q, math.log(1e-20)), _with_first(log_p, math.log(0.9))
        elif kind == "certain":
            log_p = _with_first(log_p, 0.0)
    return log_q, log_p


def random_pair(rng: np.random.Generator, vocab: int | None = None) -> tuple[Tensor, Tensor]:
    """Return one pair of a random kind, of 1 to 8 tokens unless told otherwise."""
    vocab = int(rng.integers(1, 9)) if vocab is None else vocab
    x, y = rng.uniform(-1.0, 1.0, (2, vocab))
    kind = KINDS[rng.integers(len(KINDS))]
    return make_pair(kind, x, y, scale=10.0 ** rng.uniform(-2, 2.5), gap=10.0 ** rng.uniform(-12, 0))


def random_beta(rng: np.random.Generator) -> float:
    """Return a beta from 1e-6 to 10, evenly in its logarithm."""
    return float(10.0 ** rng.uniform(-6, 1))


@st.composite
def pairs(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> tuple[Tensor, Tensor]:
    """Draw ``(log_q, log_p)``: mostly 1 to 8 tokens, sometimes more than 300."""
    small = st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=8)
    kind = draw(st.sampled_from(kinds))
    scale = draw(st.sampled_from([0.01, 1.0, 10.0, 100.0, 345.0]))
    gap = 10.0 ** draw(st.integers(-12, 0))
    if draw(st.integers(0, 19)) == 19:
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        x, y = rng.uniform(-1.0, 1.0, (2, draw(st.integers(300, 330))))
    else:
        x = np.array(draw(small))
        y = np.array(draw(st.lists(st.floats(-1.0, 1.0), min_size=len(x), max_size=len(x))))
    return make_pair(kind, x, y, scale, gap)


@st.composite
def unit_rows(draw: st.DrawFn, max_units: int = 4, kinds: tuple[str, ...] = KINDS) -> tuple[Tensor, Tensor]:
    """Draw ``(log_q, log_p)`` with ``log_p`` of ``[units, vocab]``; row 0 is of one of ``kinds``."""
    log_q, log_p = draw(pairs(kinds))
    rows = [log_p]
    for _ in range(draw(st.integers(0, max_units - 1))):
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        rows.append(torch.from_numpy(rng.normal(size=len(log_q)) * rng.choice([0.1, 3.0, 30.0])))
    return log_q, torch.stack(rows).log_softmax(dim=-1)


orders = st.sampled_from(ORDERS)
betas = st.floats(-6.0, 1.0).map(lambda exponent: 10.0**exponent)


def _with_first(log_row: Tensor, value: float) -> Tensor:
    """Return the row with log-probability ``value`` at token 0 and the rest scaled to fit."""
    rest = log_row[1:].log_softmax(dim=-1).nan_to_num(nan=-math.log(len(log_row) - 1), neginf=-math.inf)
    rest = rest + math.log1p(-math.exp(value)) if value < 0.0 else torch.full_like(rest, -math.inf)
    return torch.cat([torch.tensor([value], dtype=torch.float64), rest])
