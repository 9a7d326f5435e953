"""Formula (4) against dp_accounting and 50-digit arithmetic."""

import math
from collections.abc import Callable

import pytest
from dp_accounting import rdp
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import best_epsilon, rdp_to_epsilon, token_loss
from tests.core.privacy import oracle
from tests.core.privacy.strategies import ORDERS, SETTINGS, orders

losses = st.floats(-9, 3).map(lambda exponent: 10.0**exponent)
deltas = st.floats(-9, -0.05).map(lambda exponent: 10.0**exponent)


@settings(SETTINGS, max_examples=300)
@given(loss=losses, order=orders, delta=deltas)
def test_formula_4(loss: float, order: float, delta: float) -> None:
    exact = oracle.rdp_to_epsilon(loss, order, delta)
    assert rdp_to_epsilon(loss, order, delta) == pytest.approx(float(exact), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1e-2])
@pytest.mark.parametrize("loss", [1.0, 4.0, 100.0])
@pytest.mark.parametrize("order", ORDERS[1:])  # theirs refuses orders up to 1.01
def test_equals_dp_accounting(order: float, loss: float, delta: float) -> None:
    theirs, _ = rdp.compute_epsilon([order], [loss], delta)
    assert rdp_to_epsilon(loss, order, delta) == pytest.approx(theirs, rel=1e-12)


def test_floored_at_zero() -> None:
    assert oracle.mp.log(1 - 1 / 2.0) - oracle.mp.log(0.9 * 2.0) < 0
    assert rdp_to_epsilon(0.0, 2.0, 0.9) == 0.0


CURVES: dict[str, Callable[[float], float]] = {
    "constant": lambda order: 4.0,
    "zero": lambda order: 0.0,
    "zero-concentrated": lambda order: 0.05 * order,
    "five units": lambda order: 100 * token_loss(0.5, 5, order),
}


@pytest.mark.parametrize("max_order", [1.01, 2.0, 32.0, 256.0])
@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_best_epsilon_is_minimal_and_says_its_order(
    curve: Callable[[float], float], max_order: float
) -> None:
    seen: list[float] = []

    def watched(order: float) -> float:
        seen.append(order)
        return curve(order)

    best = best_epsilon(watched, max_order, 1e-5)
    assert max(seen) == max_order, "nothing is known above the largest order"
    assert min(seen) > 1.0
    assert best.epsilon == rdp_to_epsilon(curve(best.order), best.order, 1e-5)
    assert best.epsilon == min(rdp_to_epsilon(curve(order), order, 1e-5) for order in seen)
    fine = (1 + (max_order - 1) * step / 5000 for step in range(5, 5001))
    optimum = min(rdp_to_epsilon(curve(order), order, 1e-5) for order in fine)
    assert best.epsilon <= optimum * (1 + 1e-3)
    assert best.delta == 1e-5


def test_best_order_may_lie_inside() -> None:
    best = best_epsilon(CURVES["zero-concentrated"], 256.0, 1e-5)
    assert 10 < best.order < 20
    theirs, _ = rdp.compute_epsilon([best.order], [0.05 * best.order], 1e-5)
    assert best.epsilon == pytest.approx(theirs, rel=1e-12)


def test_ties_go_to_the_largest_order() -> None:
    assert best_epsilon(CURVES["zero"], 256.0, 0.5).epsilon == 0.0
    assert best_epsilon(CURVES["zero"], 256.0, 0.5).order == 256.0


@pytest.mark.parametrize(
    "loss, order, delta",
    [
        (-1.0, 2.0, 1e-5),
        (math.nan, 2.0, 1e-5),
        (math.inf, 2.0, 1e-5),
        (1.0, 1.0, 1e-5),
        (1.0, math.inf, 1e-5),
        (1.0, 2.0, 0.0),
        (1.0, 2.0, 1.0),
        (1.0, 2.0, math.nan),
    ],
)
def test_bad_numbers_are_refused(loss: float, order: float, delta: float) -> None:
    with pytest.raises(PrivacyParameterError):
        rdp_to_epsilon(loss, order, delta)
    with pytest.raises(PrivacyParameterError):
        best_epsilon(lambda _: loss, order, delta)
