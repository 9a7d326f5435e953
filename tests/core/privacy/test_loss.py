"""Formulas (1) and (2), and the inequality behind them."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import MixtureRule, token_bound, token_loss
from tests.core.privacy import oracle
from tests.core.privacy.strategies import ORDERS, SETTINGS, orders, unit_rows

SIZES = [1e-15, 1e-9, 1e-4, 0.02, 1.0, 14.9, 15.1, 29.9, 30.1, 100.0, 1e3]
sizes = st.floats(-15, 3).map(lambda exponent: 10.0**exponent)
counts = st.integers(1, 1000)
caps = st.sampled_from([1.0, 1.0 - 1e-9, 0.9, 0.5, 0.25, 1e-3])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("units", [1, 2, 3, 1000])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cap", [1.0, 1.0 - 1e-12, 0.5, 1e-9])
def test_formulas_1_and_2_to_twelve_digits(cap: float, size: float, units: int, order: float) -> None:
    loss, bound = oracle.token_loss(size, units, order, cap), oracle.token_bound(size, units, order, cap)
    assert token_loss(size, units, order, cap) == pytest.approx(float(loss), rel=1e-12, abs=0)
    assert token_bound(size, units, order, cap) == pytest.approx(float(bound), rel=1e-12, abs=0)


@settings(SETTINGS, max_examples=300)
@given(size=sizes, units=counts, order=orders, cap=caps)
def test_bound_and_loss_are_inverse(size: float, units: int, order: float, cap: float) -> None:
    there = token_bound(size, units, order, cap)
    assert token_loss(there, units, order, cap) == pytest.approx(size, rel=1e-12, abs=0)


@pytest.mark.parametrize("size", [0.0, *SIZES])
def test_one_unit_loses_the_divergence_itself(size: float) -> None:
    assert token_loss(size, 1, 2.0) == pytest.approx(size, rel=1e-14, abs=0)
    assert token_bound(size, 1, 2.0) == pytest.approx(size, rel=1e-14, abs=0)


@pytest.mark.parametrize("units", [1, 2, 7])
def test_no_divergence_is_no_loss_and_an_infinite_one_infinite(units: int) -> None:
    assert token_loss(0.0, units, 2.0) == 0.0
    assert token_bound(0.0, units, 2.0) == 0.0
    assert token_loss(math.inf, units, 2.0) == math.inf


@settings(SETTINGS, max_examples=200)
@given(size=sizes, units=st.integers(1, 100), order=orders, cap=caps)
def test_sharing_a_token_never_costs_more(size: float, units: int, order: float, cap: float) -> None:
    """At the same bound and cap: so a charge for the smallest company covers the others."""
    alone, shared = (token_loss(size, n, order, cap) for n in (units, units + 1))
    assert shared <= alone * (1 + 1e-14)
    assert shared < alone or cap < 1.0  # a small cap makes many nearly equal
    assert shared <= size * (1 + 1e-12)


@settings(SETTINGS, max_examples=100)
@given(size=sizes, units=st.integers(2, 100), order=orders)
def test_at_the_same_bound_a_smaller_cap_never_costs_less(size: float, units: int, order: float) -> None:
    """It pays by what a bound allows: the part that is bounded is diluted."""
    losses = [token_loss(size, units, order, cap) for cap in (1.0, 0.75, 0.5, 0.1)]
    assert all(small <= large * (1 + 1e-14) for small, large in itertools.pairwise(losses))


@settings(SETTINGS, max_examples=200)
@given(size=sizes, units=counts, order=orders, cap=caps)
def test_without_a_cap_and_for_one_unit_no_bit_has_changed(
    size: float, units: int, order: float, cap: float
) -> None:
    """What formulas (1) and (2) give as they stand."""
    a1 = order - 1.0
    if a1 * size < 30.0:
        loss = size if units == 1 else math.log1p(math.expm1(a1 * size) / units) / a1
        bound = size if units == 1 else math.log1p(units * math.expm1(a1 * size)) / a1
        assert (token_loss(size, units, order), token_bound(size, units, order)) == (loss, bound)
    assert (token_loss(size, 1, order, cap), token_bound(size, 1, order, cap)) == (size, size)


def test_tensors_give_tensors_and_numbers_numbers() -> None:
    values = torch.tensor([0.0, 0.02, 50.0], dtype=torch.float64)
    for function in (token_loss, token_bound):
        for cap in (1.0, 0.5):
            result = function(values, 3, 2.0, cap)
            assert isinstance(result, Tensor)
            assert result.tolist() == [function(value, 3, 2.0, cap) for value in values.tolist()]
        assert isinstance(function(0.02, 3, 2.0), float)


@settings(SETTINGS, max_examples=120)
@given(rows=unit_rows(), order=orders, beta=st.floats(-6, 0.5).map(lambda e: 10.0**e))
def test_averages_of_neighbours_diverge_by_no_more_than_the_loss(
    rows: tuple[Tensor, Tensor], order: float, beta: float
) -> None:
    """Joint convexity: the oracle sees the two averages, nothing of how they came about."""
    log_q, log_p = rows
    rule, bounds = MixtureRule(order), torch.full((len(log_p),), order * beta, dtype=torch.float64)
    whole = rule.fuse(log_q, log_p, bounds)
    limit = token_loss(order * beta, len(log_p), order)
    for unit in range(len(log_p)):
        without = log_p.clone()
        without[unit] = log_q
        other = rule.fuse(log_q, without, bounds).log_probs
        true = oracle.ExactPair(other, whole.log_probs).divergence(order)
        assert true <= limit * (1 + 1e-9)
        assert true <= whole.losses[unit].item() * (1 + 1e-9) + 1e-14 / (order - 1)


@pytest.mark.parametrize("function", [token_loss, token_bound])
@pytest.mark.parametrize(
    "units, order", [(0, 2.0), (-1, 2.0), (1.5, 2.0), (True, 2.0), (1, 1.0), (1, math.nan)]
)
def test_bad_numbers_are_refused(function: Callable[..., float], units: int, order: float) -> None:
    with pytest.raises(PrivacyParameterError):
        function(0.02, units, order)


@pytest.mark.parametrize("function", [token_loss, token_bound])
@pytest.mark.parametrize("cap", [0.0, -0.5, 1.0 + 1e-9, math.nan, True, "0.5", None], ids=repr)
def test_a_bad_cap_is_refused(function: Callable[..., float], cap: float) -> None:
    with pytest.raises(PrivacyParameterError, match="weight_cap"):
        function(0.02, 2, 2.0, cap)
