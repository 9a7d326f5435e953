"""docs/theory.md, section 7: the numbers that the paper and its library print, and ours beside them."""

import math
from typing import Any

import pytest

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import compute_dp_epsilon, compute_epsilon_single_group
from tests.core.privacy import oracle

T, BETA, DELTA = 100, 0.02, 1e-5


@pytest.mark.parametrize("alpha, single, group", [(2.0, 19.51, 27.51), (3.0, 13.76, 29.76)])
def test_paper_numbers(alpha: float, single: float, group: float) -> None:
    losses = [alpha * BETA] * T
    result = compute_epsilon_single_group(losses, alpha, DELTA, BETA, convention="paper")
    assert round(result["empirical"], 2) == single
    assert round(result["theoretical"], 2) == single
    assert round(compute_dp_epsilon({"a": losses}, alpha, DELTA, convention="paper"), 2) == group


def test_our_number() -> None:
    result = compute_epsilon_single_group([0.04] * T, 2.0, DELTA, BETA)
    assert round(result["theoretical"], 2) == 14.13
    assert round(result["empirical"], 2) == 14.13
    assert round(compute_dp_epsilon({"a": [0.04] * T}, 2.0, DELTA), 2) == 14.13


def test_keys() -> None:
    assert set(compute_epsilon_single_group([0.1], 2.0, DELTA)) == {"empirical", "T"}
    assert set(compute_epsilon_single_group([0.1], 2.0, DELTA, 0.1)) == {"empirical", "theoretical", "T"}
    assert compute_epsilon_single_group([0.1] * 7, 2.0, DELTA)["T"] == 7


@pytest.mark.parametrize("position", [0, 1, 2])
def test_every_token_counts_once_the_first_included(position: int) -> None:
    losses = [0.0, 0.0, 0.0]
    losses[position] = 0.5
    exact = float(oracle.rdp_to_epsilon(0.5, 2.0, DELTA))
    assert compute_epsilon_single_group(losses, 2.0, DELTA)["empirical"] == pytest.approx(exact, rel=1e-12)
    assert compute_dp_epsilon({"a": losses}, 2.0, DELTA) == pytest.approx(exact, rel=1e-12)


def test_theoretical_ignores_the_data_and_counts_every_token() -> None:
    result = compute_epsilon_single_group([0.0] * 3, 3.0, DELTA, 0.5)
    assert result["theoretical"] == pytest.approx(float(oracle.rdp_to_epsilon(4.5, 3.0, DELTA)), rel=1e-12)
    assert result["empirical"] == pytest.approx(float(oracle.rdp_to_epsilon(0.0, 3.0, DELTA)), rel=1e-12)


UNITS = {"a": [0.1, 0.0], "b": [0.0, 0.3], "PUBLIC": [9.0, 9.0, 9.0]}


@pytest.mark.parametrize("alpha", [2.0, 3.0])
def test_per_group_and_global(alpha: float) -> None:
    def exact(*row: float) -> Any:
        loss = sum(oracle.token_loss(d, 2, alpha) for d in row)
        return pytest.approx(float(oracle.rdp_to_epsilon(loss, alpha, DELTA)), rel=1e-12)

    per_group = compute_dp_epsilon(UNITS, alpha, DELTA, "per_group")
    assert per_group == {"a": exact(0.1, 0.0), "b": exact(0.0, 0.3)}
    assert compute_dp_epsilon(UNITS, alpha, DELTA) == exact(0.1, 0.3)


def test_group_formula_of_the_paper() -> None:
    loss = sum(oracle.token_loss(4 * d, 2, 3.0) for d in (0.1, 0.3))
    exact = float(loss + oracle.mp.log(1 / oracle.mp.mpf(DELTA)) / 2)
    assert compute_dp_epsilon(UNITS, 3.0, DELTA, convention="paper") == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    "arguments",
    [
        {"divergences": {"a": [0.1], "b": [0.1, 0.2]}},
        {"divergences": {}},
        {"divergences": {"PUBLIC": [0.1]}},
        {"divergences": {"a": [-0.1]}},
        {"divergences": {"a": [math.nan]}},
        {"divergences": {"a": [math.inf]}},
        {"alpha": 1.0},
        {"delta": 0.0},
        {"mode": "worst"},
        {"convention": "naive"},
    ],
)
def test_bad_input_is_refused_by_the_group_formula(arguments: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError):
        compute_dp_epsilon(**{**{"divergences": {"a": [0.1]}, "alpha": 2.0, "delta": DELTA}, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"divergences": [0.1, -0.1]},
        {"divergences": [math.nan]},
        {"alpha": 0.5},
        {"delta": 1.0},
        {"beta": -1.0},
        {"beta": math.nan},
        {"convention": "naive"},
    ],
)
def test_bad_input_is_refused_by_the_single_group_formula(arguments: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError):
        compute_epsilon_single_group(**{**{"divergences": [0.1], "alpha": 2.0, "delta": DELTA}, **arguments})
