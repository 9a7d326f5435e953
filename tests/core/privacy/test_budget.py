"""Budgets: formula (4) solved for the loss, and the order that makes most of it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import PrivacyBudget, RenyiLoss, rdp_to_epsilon, smallest_epsilon
from tests.core.privacy import oracle
from tests.core.privacy.strategies import ORDERS, SETTINGS, orders

epsilons = st.floats(-2, 2.5).map(lambda e: 10.0**e)
deltas = st.floats(-9, -1).map(lambda e: 10.0**e)


@settings(SETTINGS, max_examples=300)
@given(epsilon=epsilons, delta=deltas, order=orders)
def test_loss_converts_back_to_epsilon_and_never_above(epsilon: float, delta: float, order: float) -> None:
    loss = PrivacyBudget(epsilon, delta).loss_at(order)
    if loss <= 4 * delta**2:  # nothing fits, or so little that it is free
        return
    exact = oracle.rdp_to_epsilon(loss, order, delta)
    assert float(exact) == pytest.approx(epsilon, abs=1e-9)
    assert exact <= epsilon
    assert rdp_to_epsilon(loss, order, delta) <= epsilon


@pytest.mark.parametrize("order", ORDERS)
def test_orders_that_allow_nothing_are_those_whose_conversion_costs_more(order: float) -> None:
    smallest = smallest_epsilon(order, 1e-5)
    free = oracle.mp.log(1 - 1 / oracle.mp.mpf(order)) - oracle.mp.log(1e-5 * oracle.mp.mpf(order)) / (
        order - 1
    )
    assert smallest == pytest.approx(max(0.0, float(free)), rel=1e-9, abs=1e-9)
    if smallest > 0:
        assert PrivacyBudget(smallest * (1 - 1e-6), 1e-5).loss_at(order) < 0
        assert PrivacyBudget(smallest * (1 + 1e-6) + 1e-9, 1e-5).loss_at(order) > 0


@pytest.mark.parametrize("epsilon", [0.05, 1.0, 8.0, 30.0])
def test_best_order_allows_the_most_divergence_per_order(epsilon: float) -> None:
    budget = PrivacyBudget(epsilon, 1e-5)
    best = budget.best_order()
    most = budget.loss_at(best) / best
    for step in range(1, 400):
        order = 1 + 255 * (step / 400) ** 4
        assert budget.loss_at(order) / order <= most * (1 + 1e-4)


def test_default_order_of_a_common_budget() -> None:
    """Found by hand: the derivative of B(a)/a at epsilon 8 and delta 1e-5 vanishes near 3.87."""
    assert PrivacyBudget(8.0, 1e-5).best_order() == pytest.approx(3.87, abs=0.02)


@pytest.mark.parametrize("epsilon, delta", [
    (0.0, 1e-5), (-1.0, 1e-5), (math.inf, 1e-5), (math.nan, 1e-5), (8.0, 0.0), (8.0, 1.0), (8.0, -1e-5),
    ("8", 1e-5), (True, 1e-5),
])  # fmt: skip
def test_budget_out_of_range(epsilon: float, delta: float) -> None:
    with pytest.raises(PrivacyParameterError):
        PrivacyBudget(epsilon, delta)


def test_loss_function_is_not_shown() -> None:
    assert repr(RenyiLoss(2.0, lambda order: 0.123)) == "RenyiLoss(max_order=2.0)"
