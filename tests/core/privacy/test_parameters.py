"""Bad input is refused at the moment it is given, with the value quoted."""

import math
from typing import Any

import pytest

from dpfusion_core.errors import DPFusionError, PrivacyParameterError
from dpfusion_core.options import Options
from dpfusion_core.privacy import (
    FixedAccountant,
    PrivacyBudget,
    PrivacyParameters,
    best_epsilon,
    calibrate_beta,
    compute_dp_epsilon,
    compute_epsilon_single_group,
    rdp_to_epsilon,
    smallest_epsilon,
)

GOOD: dict[str, Any] = {"order": 2.0, "beta": 0.02}

BAD: list[tuple[str, Any]] = [
    *(("order", value) for value in (1.0, 1, 0.99, 0.0, -2.0, math.inf, math.nan, True, "2", None)),
    *(("beta", value) for value in (-1e-300, -1.0, math.inf, math.nan, True, "0.1", None)),
    *(("delta", value) for value in (0.0, 0, 1.0, 1, -1e-5, 1.5, math.inf, math.nan, True, "1e-5", None)),
    *(("neighbours", value) for value in ("add-remove", "", None, "Replace")),
    *(("weight_cap", value) for value in (0.0, -0.1, 1.1, math.inf, math.nan, True, "0.5", None)),
    *(("mixing_loss", value) for value in (0.0, -0.1, math.inf, math.nan, True, "0.1")),
]


@pytest.mark.parametrize("name, value", BAD)
def test_bad_value_is_refused_and_quoted(name: str, value: Any) -> None:
    arguments = GOOD | ({"neighbours": "replace"} if name == "mixing_loss" else {}) | {name: value}
    with pytest.raises(PrivacyParameterError) as error:
        PrivacyParameters(**arguments)
    assert name in str(error.value)
    assert repr(value) in str(error.value)
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, DPFusionError)


@pytest.mark.parametrize("name", ["num_units", "max_tokens"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", None])
def test_bad_count_is_refused_and_quoted(name: str, value: Any) -> None:
    with pytest.raises(PrivacyParameterError, match=name) as error:
        FixedAccountant(PrivacyParameters(**GOOD), **({"num_units": 1, "max_tokens": 1} | {name: value}))
    assert repr(value) in str(error.value)


def test_mixing_loss_needs_replace_neighbours() -> None:
    with pytest.raises(PrivacyParameterError, match="replace"):
        PrivacyParameters(2.0, 0.02, mixing_loss=0.1)


@pytest.mark.parametrize("alpha, beta", [(1.01, 1e-6), (2.0, 0.0), (3, 1), (256.0, 10.0)])
def test_bound_is_alpha_times_beta(alpha: float, beta: float) -> None:
    assert PrivacyParameters(alpha, beta).bound == alpha * beta


def test_zero_out_needs_no_surcharge() -> None:
    parameters = PrivacyParameters(**GOOD)
    assert (parameters.neighbours, parameters.delta) == ("zero-out", 1e-5)
    assert parameters.surcharge == 0.0


@pytest.mark.parametrize("mixing_loss", [1e-9, 0.02, 40.0, None])
def test_replace_is_surcharged_with_the_mixing_loss(mixing_loss: float | None) -> None:
    parameters = PrivacyParameters(**GOOD, neighbours="replace", mixing_loss=mixing_loss)
    assert parameters.surcharge == (0.04 if mixing_loss is None else mixing_loss)


def test_parameters_cannot_be_changed_after_the_check() -> None:
    with pytest.raises(AttributeError):
        PrivacyParameters(**GOOD).beta = 9.0  # type: ignore[misc]


@pytest.mark.parametrize("delta", [9.9e-10, 1e-12, 1e-300])
@pytest.mark.parametrize(
    "enter",
    [
        lambda delta: PrivacyParameters(2.0, 0.01, delta),
        lambda delta: PrivacyBudget(8.0, delta),
        lambda delta: calibrate_beta(8.0, delta, 100),
        lambda delta: rdp_to_epsilon(1.0, 2.0, delta),
        lambda delta: best_epsilon(lambda order: 1.0, 2.0, delta),
        lambda delta: smallest_epsilon(2.0, delta),
        lambda delta: compute_epsilon_single_group([0.1], 2.0, delta),
        lambda delta: compute_dp_epsilon({"a": [0.1]}, 2.0, delta),
        lambda delta: Options(epsilon=8.0, delta=delta),
        lambda delta: Options(order=2.0, beta=0.01, delta=delta),
    ],
)
def test_a_delta_that_draws_cannot_keep_is_refused_wherever_it_enters(enter: Any, delta: float) -> None:
    with pytest.raises(PrivacyParameterError, match=r"1e-09 <= delta < 1.*53 random bits"):
        enter(delta)
    enter(1e-9)


def test_the_formulas_of_the_paper_only_compute_its_numbers() -> None:
    result = compute_epsilon_single_group([0.0], 2.0, 1e-12, convention="paper")
    assert result["empirical"] == pytest.approx(27.631, abs=1e-3)
