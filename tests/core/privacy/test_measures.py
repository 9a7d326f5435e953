"""Releases of counts and numbers: their losses against exact distributions and OpenDP's maps; intervals; errors."""

import math
from collections import Counter
from typing import Any

import mpmath
import numpy as np
import pytest

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import PrivacyBudget, rdp_to_epsilon
from dpfusion_core.privacy.measures import Limits, NumberRelease, QuantileRelease
from dpfusion_core.privacy.measuring import quantile_draw, release_measure
from dpfusion_core.privacy.noise import NOISES, GaussianNoise, LaplaceNoise, half_width
from dpfusion_core.privacy.release import CountRelease
from dpfusion_core.privacy.release_calibration import calibrate_counts, calibrate_measure
from dpfusion_core.privacy.releasing import addition, release_counts
from tests.core.privacy.test_release import exact


@pytest.mark.parametrize("rule", [CountRelease("gaussian", 3.7), CountRelease("laplace", 3.7)], ids=str)
def test_counts_lose_what_the_privacy_map_says(rule: CountRelease) -> None:
    claimed = addition(rule.distribution).map(1)
    if rule.noise == "gaussian":
        assert rule.loss().at(6.0) == pytest.approx(6.0 * claimed, rel=1e-11)
    else:
        assert rule.loss().at(math.inf) == pytest.approx(claimed, rel=1e-11)
    assert rule.loss().delta == rule.delta == 0.0
    assert rule.loss(0).at(6.0) == 0.0


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
@pytest.mark.parametrize("neighbours", ["zero-out", "replace"])
def test_two_answers_are_never_told_apart_by_more_than_is_claimed(noise: Any, neighbours: Any) -> None:
    """Exact: of a unit that says yes to both questions, and one that says no or is not there."""
    rule = CountRelease(noise, 1.4, 2, neighbours)
    p = {k: float(each) for k, each in exact(rule.distribution).items() if abs(k) < 25}
    for order in (1.5, 2.0, 7.0):
        for sign in (1, -1):  # both directions
            moment = math.fsum(
                math.exp(order * math.log(each) + (1.0 - order) * math.log(p[k + sign]))
                for k, each in p.items()
                if k + sign in p
            )
            assert 2.0 * math.log(moment) / (order - 1.0) <= rule.loss().at(order) * (1 + 1e-9)
    if neighbours == "replace":
        assert rule.loss(0).at(2.0) == rule.loss().at(2.0)


@pytest.mark.parametrize("rule", [CountRelease("gaussian", 4.0), CountRelease("laplace", 4.0)], ids=str)
def test_counts_err_as_the_noise_does_and_their_intervals_hold(rule: CountRelease) -> None:
    found = [release_counts([[0]] * 100 + [[]] * 20, rule)[0] for _ in range(3000)]
    errors = np.array([each.value - 100.0 for each in found])
    rms = math.sqrt(float((errors**2).mean()))
    assert 0.85 * rule.distribution.deviation < rms < 1.2 * rule.distribution.deviation
    covered = sum(each.low <= 100 <= each.high for each in found) / 3000
    assert 0.93 < covered < 0.99
    assert half_width(rule.distribution) == found[0].high - found[0].value


def test_counts_and_their_intervals_are_possible_numbers() -> None:
    rule = CountRelease("gaussian", 50.0)
    for _ in range(200):
        [found] = release_counts([[0]] * 3, rule, most=5)
        assert 0 <= found.low <= found.value <= found.high <= 5
    free = [release_counts([], rule)[0] for _ in range(200)]
    assert max(each.value for each in free) > 50
    assert min(each.low for each in free) == 0


def test_a_unit_says_yes_once_and_to_the_questions_that_were_asked() -> None:
    rule = CountRelease("gaussian", 0.01, 2)
    assert [each.value for each in release_counts([[0, 0, 1, 7, -1]] * 4 + [[1]], rule)] == [4, 5]


@pytest.mark.parametrize("scale", [2e3, 5e6])
def test_tails_of_wide_noise_are_bounds_and_near(scale: float) -> None:
    noise = GaussianNoise(scale)
    for deviations in (-2.0, 0.0, 1.0, 5.0):
        least = round(deviations * scale)
        normal = float(mpmath.ncdf(-(least - mpmath.mpf("0.5")) / scale))
        assert normal <= noise.tail(least) <= normal * (1.0 + 4e-3)


RULES = [
    NumberRelease(measure, Limits(-2.0, 10.0), noise, 2.5, neighbours)
    for measure in ("mean", "sum")
    for noise in ("gaussian", "laplace")
    for neighbours in ("zero-out", "replace")
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_numbers_lose_what_the_privacy_map_says(rule: NumberRelease) -> None:
    steps = 2**16
    claimed = 0.0
    draw = addition(NOISES[rule.noise](rule.scale * steps))
    moved = [2 * steps if rule.neighbours == "replace" else steps]
    claimed += draw.map(moved[0])
    if rule.measure == "mean":
        claimed += addition(NOISES[rule.noise](rule.scale)).map(1)
    if rule.noise == "gaussian":
        assert rule.loss().at(6.0) == pytest.approx(6.0 * claimed, rel=1e-11)
    else:
        assert rule.loss().at(1e9) == pytest.approx(claimed, rel=1e-11)
        assert rule.loss().at(1.01) <= claimed
    assert rule.loss(0).at(6.0) == (rule.loss().at(6.0) if rule.neighbours == "replace" else 0.0)


@pytest.mark.parametrize("order", [1.2, 2.0, 5.0, 40.0])
def test_laplace_noise_on_a_fine_grid_is_within_its_bound(order: float) -> None:
    rule, steps = NumberRelease("sum", Limits(0.0, 1.0), "laplace", 1.7), 64
    p = exact(LaplaceNoise(1.7 * steps))
    with mpmath.workdps(30):
        a = mpmath.mpf(order)
        moment = mpmath.fsum(each**a * p[k - steps] ** (1 - a) for k, each in p.items() if k - steps in p)
        assert mpmath.log(moment) / (a - 1) <= rule.loss().at(order)


@pytest.mark.parametrize("measure", ["mean", "sum"])
@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
@pytest.mark.parametrize("limits", [Limits(0.0, 10.0), Limits(-3.0, 1.0), Limits(-5.0, -1.0)])
def test_numbers_err_as_their_intervals_say(measure: Any, noise: Any, limits: Limits) -> None:
    rule = NumberRelease(measure, limits, noise, 3.0)
    values = [limits.lower + (limits.upper - limits.lower) * (step % 17) / 16 for step in range(500)]
    true = math.fsum(values) / (500 if measure == "mean" else 1)
    found = [release_measure(values, rule) for _ in range(600)]
    covered = sum((each.low or 0.0) <= true <= (each.high or 0.0) for each in found) / 600
    assert covered > 0.9  # .95, and five and a half deviations below
    assert all((each.low or 0.0) <= each.value <= (each.high or 0.0) for each in found)
    errors = np.array([each.value - true for each in found])
    assert abs(errors.mean()) < 5.0 * errors.std() / math.sqrt(600) + 1e-3
    if measure == "sum":
        unit = max(abs(limits.lower), abs(limits.upper))
        assert errors.std() < 1.2 * unit * NOISES[rule.noise](3.0).deviation


def test_what_is_out_of_limits_counts_as_a_limit_and_what_is_no_number_not_at_all() -> None:
    rule = NumberRelease("mean", Limits(0.0, 10.0), "gaussian", 0.02)
    values: list[Any] = [5.0, 1e300, -1e300, math.nan, math.inf, None, "7", True, 5]
    assert release_measure(values, rule).value == pytest.approx(5.0, abs=0.3)
    empty = release_measure([None, math.nan], NumberRelease("mean", Limits(0.0, 10.0), "gaussian", 3.0))
    assert (empty.low, empty.high) == (0.0, 10.0)
    total = release_measure([1.0], NumberRelease("sum", Limits(0.0, 10.0), "gaussian", 90.0), most=3)
    assert 0.0 <= total.value <= 30.0


def scores(values: list[float], rule: QuantileRelease) -> list[float]:
    q = rule.quantile
    values = [min(rule.grid, key=lambda c: abs(c - value)) for value in values]
    return [abs((1 - q) * sum(v < c for v in values) - q * sum(v > c for v in values)) for c in rule.grid]


def chosen(values: list[float], rule: QuantileRelease) -> list[float]:
    """The exact distribution of the candidate that is released."""
    weights = [math.exp(-score / rule.scale) for score in scores(values, rule)]
    return [each / math.fsum(weights) for each in weights]


QUANTILES = [
    QuantileRelease(Limits(0.0, 4.0), q, 0.8, neighbours, candidates=5)
    for q in (0.1, 0.5, 0.75)
    for neighbours in ("zero-out", "replace")
]


@pytest.mark.parametrize("rule", QUANTILES, ids=str)
def test_quantiles_tell_no_two_neighbours_apart_by_more_than_is_claimed(rule: QuantileRelease) -> None:
    """Exact, over small sets of numbers."""
    loss = rule.loss()
    worst = 0.0
    for others in ([], [1.0], [0.5, 2.0], [1.0, 1.0, 3.5], [2.0] * 5):
        for value in (0.0, 0.5, 2.0, 4.0):
            with_it = chosen([*others, value], rule)
            for other in (0.2, 3.0, 4.0) if rule.neighbours == "replace" else (None,):
                without = chosen(others if other is None else [*others, other], rule)
                for p, q in ((with_it, without), (without, with_it)):
                    ratio = max(abs(math.log(a / b)) for a, b in zip(p, q, strict=True))
                    assert ratio <= loss.at(math.inf) + 1e-12
                    worst = max(worst, ratio / loss.at(math.inf))
                    for order in (1.5, 2.0, 8.0):
                        moment = math.fsum(a**order * b ** (1 - order) for a, b in zip(p, q, strict=True))
                        assert math.log(moment) / (order - 1) <= loss.at(order) + 1e-12
    assert worst > 0.25


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.75])
def test_quantiles_lose_what_the_privacy_map_says_and_are_drawn_so(quantile: float) -> None:
    rule = QuantileRelease(Limits(0.0, 4.0), quantile, 1.3, candidates=5)
    draw = quantile_draw(rule)
    assert rule.loss().at(1.5) == pytest.approx(1.5 * draw.map(1), rel=1e-9)
    values = [0.4, 1.6, 1.6, 3.4]
    found = Counter(release_measure(values, rule).value for _ in range(8000))
    for candidate, probability in zip(rule.grid, chosen(values, rule), strict=True):
        spread = math.sqrt(8000 * probability * (1 - probability))
        assert abs(found[candidate] - 8000 * probability) < 5.5 * spread


def test_equal_numbers_have_their_quantile_where_they_are_whatever_the_candidates() -> None:
    rule = QuantileRelease(Limits(0.0, 10.0), 0.5, 4.0)
    for value in (4.0, 7.77, 0.0, 10.0):
        found = [release_measure([value] * 400, rule).value for _ in range(20)]
        assert all(abs(each - value) <= 5.0 / 256 for each in found)


def test_a_quantile_parts_the_numbers_as_well_as_it_says() -> None:
    rule = QuantileRelease(Limits(0.0, 100.0), 0.5, 4.0)
    values = [float(step) for step in range(101)] * 4
    best = min(scores(values, rule))
    grid = dict(zip(rule.grid, scores(values, rule), strict=True))
    worse = [grid[release_measure(values, rule).value] - best for _ in range(400)]
    assert sum(each <= rule.rank_error for each in worse) >= 0.95 * 400


@pytest.mark.parametrize("measure", ["mean", "sum", "quantile"])
@pytest.mark.parametrize("neighbours", ["zero-out", "replace"])
@pytest.mark.parametrize(("responses", "order"), [(1, None), (1, 12.0), (30, None), (30, 12.0)])
def test_calibrated_measures_stay_within_epsilon_and_just_so(
    measure: Any, neighbours: Any, responses: int, order: float | None
) -> None:
    given = 1e-6 if order else None
    limits = Limits(0.0, 5.0)
    terms: dict[str, Any] = {"neighbours": neighbours, "responses": responses, "order": order}
    terms |= {"release_delta": given}
    part = 1e-5 - (given or 0.0)
    for rule in (
        calibrate_measure(1.5, 1e-5, measure, limits, quantile=0.9, **terms),
        calibrate_counts(1.5, 1e-5, 2, **terms),
    ):
        at = order or PrivacyBudget(1.5, part).best_order()
        epsilon = rdp_to_epsilon(responses * rule.loss().at(at), at, part)
        best = epsilon if order else min(epsilon, responses * rule.loss().at(1e12))
        assert 1.5 - 1e-6 < best <= 1.5 + 1e-9


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (1.0, 1.0),
        (2.0, 1.0),
        (math.nan, 1.0),
        (0.0, math.inf),
        ("0", 1.0),
        (False, True),
        (0.0, 1e-200),
        (0.0, 1e300),
    ],
)
def test_limits_out_of_order_are_refused(lower: Any, upper: Any) -> None:
    with pytest.raises(PrivacyParameterError, match="Expected"):
        Limits(lower, upper)


@pytest.mark.parametrize(
    "changed",
    [
        {"measure": "median"},
        {"measure": "quantile", "quantile": 0.0},
        {"measure": "quantile", "quantile": math.nan},
        {"noise": "uniform"},
        {"epsilon": 1e-12},
        {"epsilon": 1e-12, "measure": "quantile"},
        {"epsilon": 1e-3, "noise": "gaussian"},
        {"responses": 0},
    ],
)
def test_bad_measures_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError):
        calibrate_measure(
            **{"epsilon": 1.0, "delta": 1e-5, "measure": "mean", "limits": Limits(0.0, 1.0), **changed}
        )
