"""Calibration: the largest settings within epsilon, exactly and never above."""

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import (
    AdaptiveAccountant,
    FixedAccountant,
    Neighbours,
    PrivacyBudget,
    PrivacyParameters,
    calibrate_beta,
    smallest_epsilon,
)
from dpfusion_core.privacy.calibration import compare_orders
from tests.core.privacy import oracle
from tests.core.privacy.strategies import SETTINGS

RELATIONS: tuple[Neighbours, ...] = ("zero-out", "replace")


def fixed_epsilon(parameters: PrivacyParameters, units: int, tokens: int) -> float:
    return FixedAccountant(parameters, units, tokens).guarantee(private=True).epsilon


@settings(SETTINGS, max_examples=200)
@given(
    epsilon=st.floats(-1.5, 2).map(lambda e: 10.0**e),
    delta=st.floats(-9, -2).map(lambda e: 10.0**e),
    tokens=st.integers(1, 2000),
    units=st.integers(1, 60),
    order=st.none() | st.floats(1.05, 256.0),
    neighbours=st.sampled_from(RELATIONS),
)
def test_round_trip_is_exact_and_never_above(
    epsilon: float, delta: float, tokens: int, units: int, order: float | None, neighbours: Neighbours
) -> None:
    budget = PrivacyBudget(epsilon, delta)
    # Below this the loss is so small that delta alone covers it, and the round trip gives 0.
    assume(budget.loss_at(order or budget.best_order()) > 1e-6)
    parameters = calibrate_beta(epsilon, delta, tokens, units, order, neighbours)
    there = fixed_epsilon(parameters, units, tokens)
    assert there == pytest.approx(epsilon, abs=1e-9)
    assert there <= epsilon
    parameters = calibrate_beta(epsilon, delta, tokens, units, order, neighbours, accounting="adaptive")
    there = AdaptiveAccountant(parameters, units, tokens).guarantee(private=True).epsilon
    assert there == pytest.approx(epsilon, abs=1e-9)
    assert there <= epsilon


@pytest.mark.parametrize("neighbours", RELATIONS)
@pytest.mark.parametrize("units, tokens", [(1, 1), (1, 100), (4, 100), (50, 100)])
def test_nothing_larger_would_do(units: int, tokens: int, neighbours: Neighbours) -> None:
    """In 50 digits, over orders far denser than the accountant's."""
    parameters = calibrate_beta(8.0, 1e-5, tokens, units, neighbours=neighbours)

    def exact(factor: float) -> float:
        d = (parameters.bound + parameters.surcharge) * factor
        orders = (1 + (parameters.order - 1) * (step / 400) for step in range(40, 401))
        return min(
            float(oracle.rdp_to_epsilon(tokens * oracle.token_loss(d, units, a), a, 1e-5)) for a in orders
        )

    assert exact(1.0) <= 8.0 + 1e-6
    assert exact(1.001) > 8.0


def test_paper_cannot_certify_what_we_can() -> None:
    """The paper's formula at alpha=2 never goes below log(1/delta) = 11.5."""
    for epsilon in (0.1, 1.0, 8.0, 11.0):
        assert calibrate_beta(epsilon, 1e-5, 100).beta > 0


@pytest.mark.parametrize("neighbours", RELATIONS)
def test_the_split_adds_up_to_the_bound(neighbours: Neighbours) -> None:
    whole = calibrate_beta(8.0, 1e-5, 100)
    parameters = calibrate_beta(8.0, 1e-5, 100, neighbours=neighbours, mixing_share=0.25)
    assert parameters.bound + parameters.surcharge == pytest.approx(whole.bound, rel=1e-12)
    if neighbours == "replace":
        assert parameters.surcharge == pytest.approx(0.25 * whole.bound, rel=1e-12)


def test_order_that_cannot_meet_the_target_is_told_what_would() -> None:
    with pytest.raises(PrivacyParameterError) as caught:
        calibrate_beta(8.0, 1e-5, 100, order=2.0)
    assert "epsilon=10.1267" in str(caught.value)
    assert "order=3.87" in str(caught.value)
    calibrate_beta(10.1267, 1e-5, 100, order=2.0)
    calibrate_beta(8.0, 1e-5, 100, order=3.87)


def test_epsilon_below_every_order_is_told_the_smallest() -> None:
    smallest = smallest_epsilon(256.0, 1e-5)
    with pytest.raises(PrivacyParameterError, match=r"epsilon=0\.01949"):
        calibrate_beta(0.9 * smallest, 1e-5, 100)
    with pytest.raises(PrivacyParameterError, match=r"order=256: 0\.0195"):
        calibrate_beta(0.9 * smallest, 1e-5, 100, order=3.0)
    assert calibrate_beta(0.0196, 1e-5, 100).order == 256.0


@pytest.mark.parametrize("change", [
    {"epsilon": 0.0}, {"epsilon": -1.0}, {"delta": 0.0}, {"delta": 1.0}, {"max_tokens": 0}, {"max_tokens": 1.5},
    {"num_units": 0}, {"order": 1.0}, {"neighbours": "other"}, {"accounting": "other"},
    {"neighbours": "replace", "mixing_share": 0.0}, {"neighbours": "replace", "mixing_share": 1.0},
])  # fmt: skip
def test_bad_input_is_refused(change: dict[str, object]) -> None:
    arguments: dict[str, object] = {"epsilon": 8.0, "delta": 1e-5, "max_tokens": 10, **change}
    with pytest.raises(PrivacyParameterError):
        calibrate_beta(**arguments)  # type: ignore[arg-type]


def test_table_of_orders_marks_what_cannot_be_met() -> None:
    rows = compare_orders(PrivacyBudget(8.0, 1e-5), 100)
    assert [row.order for row in rows] == sorted(row.order for row in rows)
    assert PrivacyBudget(8.0, 1e-5).best_order() in [row.order for row in rows]
    for row in rows:
        assert (row.parameters is None) == (row.order < 2.4)
        if row.parameters:
            assert fixed_epsilon(row.parameters, 1, 100) == pytest.approx(8.0, abs=1e-9)
    bounds = [row.parameters.beta for row in rows if row.parameters]
    best = max(bounds)
    assert best == next(
        r.parameters.beta for r in rows if r.parameters and r.order == PrivacyBudget(8.0).best_order()
    )
    assert all(a != b for a, b in itertools.pairwise(bounds))
