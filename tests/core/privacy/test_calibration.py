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
from dpfusion_core.privacy.capping import default_weight_cap, mixing_loss_of
from dpfusion_core.privacy.conversion import orders_up_to
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
    cap=st.sampled_from([None, None, 1.0, 0.5, 0.01]),
)
def test_round_trip_is_exact_and_never_above(
    epsilon: float,
    delta: float,
    tokens: int,
    units: int,
    order: float | None,
    neighbours: Neighbours,
    cap: float | None,
) -> None:
    budget = PrivacyBudget(epsilon, delta)
    # Below this the loss is so small that delta alone covers it, and the round trip gives 0.
    assume(budget.loss_at(order or budget.best_order()) > 1e-6)
    if neighbours == "replace" and cap is not None and units > 1:
        # What a token may diverge must pay for the cap.
        assume(
            calibrate_beta(epsilon, delta, tokens, units, order, weight_cap=cap).bound
            > mixing_loss_of(cap, units)
        )
    parameters = calibrate_beta(epsilon, delta, tokens, units, order, neighbours, weight_cap=cap)
    assert cap is None or parameters.weight_cap == (1.0 if units == 1 else cap)
    there = fixed_epsilon(parameters, units, tokens)
    assert there == pytest.approx(epsilon, abs=1e-9)
    assert there <= epsilon
    if cap is not None and neighbours == "replace":
        return  # at the one order of adaptive accounting there may be less room for the cap
    parameters = calibrate_beta(
        epsilon, delta, tokens, units, order, neighbours, accounting="adaptive", weight_cap=cap
    )
    there = AdaptiveAccountant(parameters, units, tokens).guarantee(private=True).epsilon
    assert there == pytest.approx(epsilon, abs=1e-9)
    assert there <= epsilon


@pytest.mark.parametrize("neighbours", RELATIONS)
@pytest.mark.parametrize("units, tokens", [(1, 1), (1, 100), (4, 100), (50, 100)])
def test_nothing_larger_would_do(units: int, tokens: int, neighbours: Neighbours) -> None:
    """In 50 digits, over orders far denser than the accountant's."""
    parameters = calibrate_beta(8.0, 1e-5, tokens, units, neighbours=neighbours)
    cap = parameters.weight_cap

    def exact(factor: float) -> float:
        d = (parameters.bound + parameters.surcharge) * factor
        orders = (1 + (parameters.order - 1) * (step / 400) for step in range(40, 401))
        return min(
            float(oracle.rdp_to_epsilon(tokens * oracle.token_loss(d, units, a, cap), a, 1e-5))
            for a in orders
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


def test_one_unit_is_calibrated_as_without_caps() -> None:
    """To the bit, whatever cap is asked for."""
    for neighbours in RELATIONS:
        plain = calibrate_beta(8.0, 1e-5, 100, neighbours=neighbours)
        assert plain == calibrate_beta(8.0, 1e-5, 100, neighbours=neighbours, weight_cap=0.25)
        assert plain.weight_cap == 1.0
    bound = max(
        (PrivacyBudget(8.0).loss_at(a) - 4e-12) / 100 for a in orders_up_to(PrivacyBudget(8.0).best_order())
    )
    assert calibrate_beta(8.0, 1e-5, 100).beta == bound / PrivacyBudget(8.0).best_order()


def test_several_units_have_the_default_cap() -> None:
    for units in (2, 8, 40):
        assert calibrate_beta(8.0, 1e-5, 100, units).weight_cap == default_weight_cap(units)


@pytest.mark.parametrize("units", [2, 8, 40])
@pytest.mark.parametrize("tokens", [1, 20, 500])
def test_under_replace_neighbours_cap_and_constant_go_together(units: int, tokens: int) -> None:
    """The cap is what the constant pays for, and the constant has its share of what a token may diverge."""
    parameters = calibrate_beta(8.0, 1e-5, tokens, units, neighbours="replace", mixing_share=0.4)
    assert parameters.surcharge == pytest.approx(mixing_loss_of(parameters.weight_cap, units), rel=1e-9)
    share = parameters.surcharge / (parameters.bound + parameters.surcharge)
    if parameters.weight_cap == default_weight_cap(units):  # what is more is better spent on the divergence
        assert share < 0.4
    else:
        assert parameters.weight_cap < default_weight_cap(units)
        assert share == pytest.approx(0.4, rel=1e-9)


def test_a_cap_that_replace_neighbours_cannot_pay_for_is_told_what_would_do() -> None:
    with pytest.raises(PrivacyParameterError, match=r"weight_cap=0\.9 costs 0\.754 nats") as caught:
        calibrate_beta(8.0, 1e-5, 100, 8, neighbours="replace", weight_cap=0.9)
    assert "epsilon" in str(caught.value)
    with pytest.raises(PrivacyParameterError, match="costs inf nats"):
        calibrate_beta(8.0, 1e-5, 100, 8, neighbours="replace", weight_cap=1.0)
    chosen = calibrate_beta(8.0, 1e-5, 100, 8, neighbours="replace").weight_cap
    assert f"{chosen:.3g}" in str(caught.value)
    parameters = calibrate_beta(8.0, 1e-5, 10, 8, neighbours="replace", weight_cap=0.5)
    assert parameters.surcharge == pytest.approx(0.1178, abs=1e-4)


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
    {"weight_cap": 0.0}, {"weight_cap": 1.5}, {"weight_cap": float("nan"), "num_units": 4}, {"weight_cap": True},
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
