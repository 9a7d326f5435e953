"""Rényi divergences against 50-digit arithmetic."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import renyi_divergence, symmetric_divergence
from tests.core.privacy.oracle import ExactPair
from tests.core.privacy.strategies import KINDS, ORDERS, SETTINGS, make_pair, orders, pairs

SUPPORTED = tuple(kind for kind in KINDS if kind not in ("public zeros", "disjoint"))


def close(got: Tensor, exact: Any) -> bool:
    """Compare to a relative 1e-6 from 1e-9 nats on, and below to 1e-15."""
    return got.item() == pytest.approx(float(exact), rel=1e-6, abs=1e-15)


def log(*values: float) -> Tensor:
    """Return log-probabilities."""
    return torch.tensor(values, dtype=torch.float64).log()


@settings(SETTINGS, max_examples=300)
@given(pair=pairs(), order=orders)
def test_both_directions_equal_the_definition(pair: tuple[Tensor, Tensor], order: float) -> None:
    log_q, log_p = pair
    exact = ExactPair(log_q, log_p)
    assert close(renyi_divergence(log_p, log_q, order), exact.forward(order))
    assert close(renyi_divergence(log_q, log_p, order), exact.reverse(order))
    assert close(symmetric_divergence(log_p, log_q, order), exact.divergence(order))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [1e-9, 1e-6, 1e-3, 1.0, 30.0, 1e3, 4e3])
def test_right_at_every_size(size: float, order: float) -> None:
    """From a billionth of a nat to thousands; two shapes of each size."""
    root = math.sqrt(2 * size / order)
    if size < 1:
        near = torch.tensor([0.0, -1.0, -2.0, -7.0]).double().log_softmax(-1)
        cases = [(near, (near + root * torch.tensor([1.0, -1.0, 0.3, 2.0])).log_softmax(-1))]
        cases += [(log(0.3, 0.7), log(0.3 * (1 + root), 0.7 - 0.3 * root))]
    else:
        cases = [(torch.tensor([-size, math.log1p(-math.exp(-size))]).double(), log(0.5, 0.5))]
        cases += [(cases[0][1], cases[0][0])]
    for log_q, log_p in cases:
        exact = ExactPair(log_q, log_p)
        assert exact.divergence(order) > size / 100
        for got, want in (
            (renyi_divergence(log_p, log_q, order), exact.forward(order)),
            (renyi_divergence(log_q, log_p, order), exact.reverse(order)),
        ):
            assert got.item() == pytest.approx(float(want), rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("order", ORDERS)
def test_zeros_and_infinities(order: float) -> None:
    full, part, other = log(0.5, 0.5), log(0.0, 1.0), log(1.0, 0.0)
    assert renyi_divergence(full, part, order).item() == math.inf
    assert renyi_divergence(part, full, order).item() == pytest.approx(math.log(2), rel=1e-12)
    assert renyi_divergence(part, other, order).item() == math.inf
    assert renyi_divergence(part, part, order).item() == 0.0
    assert symmetric_divergence(part, full, order).item() == math.inf
    assert symmetric_divergence(full, part, order).item() == math.inf


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_is_clamped(order: float) -> None:
    """At 1e-10, where the published library clamps, the divergence would come out as about 0."""
    log_p, log_q = log(1e-12, 1 - 1e-12), log(1e-300, 1.0)
    exact = ExactPair(log_q, log_p).forward(order)
    assert renyi_divergence(log_p, log_q, order).item() == pytest.approx(float(exact), rel=1e-9)


def test_symmetric_is_the_larger_direction_whichever_it_is() -> None:
    log_a, log_b = log(0.5, 0.5), log(0.01, 0.99)
    there, back = renyi_divergence(log_a, log_b, 2.0), renyi_divergence(log_b, log_a, 2.0)
    assert there > 2 * back
    assert symmetric_divergence(log_a, log_b, 2.0) == there
    assert symmetric_divergence(log_b, log_a, 2.0) == there


@settings(SETTINGS, max_examples=200)
@given(pair=pairs(SUPPORTED))
def test_grows_with_the_order(pair: tuple[Tensor, Tensor]) -> None:
    values = [symmetric_divergence(*pair, order).item() for order in ORDERS]
    assert all(low <= high * (1 + 1e-9) + 1e-14 for low, high in itertools.pairwise(values))


@settings(SETTINGS, max_examples=50)
@given(pair=pairs(), order=orders)
def test_identical_rows_give_exactly_zero(pair: tuple[Tensor, Tensor], order: float) -> None:
    for row in pair:
        assert renyi_divergence(row, row.clone(), order).item() == 0.0


def test_batches_broadcast_and_equal_single_rows() -> None:
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 6))
    made = [make_pair(kind, x, y, 2.0, 1e-3) for kind in KINDS]
    log_p = torch.stack([p for _, p in made])
    log_q = made[0][0]
    together = symmetric_divergence(log_p[:, None], log_q, 2.0)
    assert together.shape == (len(KINDS), 1)
    alone = torch.stack([symmetric_divergence(p, log_q, 2.0) for p in log_p])
    torch.testing.assert_close(together[:, 0], alone, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("function", [renyi_divergence, symmetric_divergence])
@pytest.mark.parametrize("order", [1.0, 0.5, 0.0, -2.0, math.inf, math.nan, True, "2"])
def test_order_that_is_not_above_one_is_refused(function: Callable[..., Tensor], order: float) -> None:
    with pytest.raises(PrivacyParameterError, match="order"):
        function(log(0.5, 0.5), log(0.5, 0.5), order)
