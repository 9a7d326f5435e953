"""Releases by vote: what is claimed of them, against exact distributions and OpenDP's own privacy maps."""

import ast
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import mpmath
import numpy as np
import opendp.prelude as dp
import pytest

from dpfusion_core import privacy
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import PrivacyBudget, best_epsilon
from dpfusion_core.privacy.noise import GaussianNoise, LaplaceNoise, Noise, NoiseName, half_width
from dpfusion_core.privacy.release import VoteRelease, check_reach
from dpfusion_core.privacy.release_calibration import calibrate_votes
from dpfusion_core.privacy.releasing import release_votes, threshold

dp.enable_features("contrib")

NOISES = [GaussianNoise(0.4), GaussianNoise(1.0), GaussianNoise(7.3), LaplaceNoise(0.3), LaplaceNoise(6.0)]
RULES = [
    VoteRelease("gaussian", 1.3, 4, 1),
    VoteRelease("gaussian", 2.0, 5, 2),
    VoteRelease("gaussian", 2.0, 5, 1, "replace"),
    VoteRelease("laplace", 1.1, 4, 1),
    VoteRelease("laplace", 1.5, 5, 2),
    VoteRelease("laplace", 1.5, 5, 1, "replace"),
]


def weight(noise: Noise, k: int) -> mpmath.mpf:
    x = mpmath.mpf(k) / mpmath.mpf(noise.scale)
    return mpmath.exp(-abs(x) if isinstance(noise, LaplaceNoise) else -x * x / 2)


def exact(noise: Noise) -> dict[int, mpmath.mpf]:
    """The noise's distribution to 40 digits."""
    with mpmath.workdps(40):
        reach = range(-int(90 * noise.scale) - 30, int(90 * noise.scale) + 31)
        weights = {k: weight(noise, k) for k in reach}
        total = mpmath.fsum(weights.values())
        return {k: each / total for k, each in weights.items()}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("least", [-3, 0, 1, 2, 5, 30])
def test_tails_are_those_of_the_exact_distribution_and_never_below(noise: Noise, least: int) -> None:
    true = mpmath.fsum(p for k, p in exact(noise).items() if k >= least)
    assert float(true) * (1 - 1e-14) <= noise.tail(least) <= float(true) * (1 + 1e-11)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("order", [1.1, 2.0, 4.0, 30.0])
def test_losses_are_the_divergence_of_the_noise_moved_by_one_and_never_below(
    noise: Noise, order: float
) -> None:
    with mpmath.workdps(40):
        p, a = exact(noise), mpmath.mpf(order)
        inside = [k for k in p if k - 1 in p]
        true = mpmath.log(mpmath.fsum(p[k] ** a * p[k - 1] ** (1 - a) for k in inside)) / (a - 1)
    assert noise.loss(order) >= float(true) * (1 - 1e-12)
    is_gaussian = isinstance(noise, GaussianNoise)  # whose bound is exact at whole orders, and close between
    assert noise.loss(order) <= float(true) * (1.0 + 2e-9) or (is_gaussian and order % 1 > 0)


@pytest.mark.parametrize("noise", NOISES)
def test_deviation_and_interval_are_those_of_the_exact_distribution(noise: Noise) -> None:
    p = exact(noise)
    assert noise.deviation == pytest.approx(
        float(mpmath.sqrt(mpmath.fsum(k * k * each for k, each in p.items())))
    )
    width = half_width(noise)
    assert mpmath.fsum(p[k] for k in range(-width, width + 1)) >= 0.95
    assert width == 0 or mpmath.fsum(p[k] for k in range(-width + 1, width)) < 0.95


def released(noise: Noise, votes: int, tau: int) -> dict[int | None, float]:
    """The distribution of what becomes of one item: None, or its noisy count; high ones are told as one."""
    if votes == 0:
        return {None: 1.0}
    most = tau + 14
    found: dict[int | None, float] = {}
    for k, p in exact(noise).items():
        out = min(votes + k, most) if votes + k >= tau else None
        found[out] = found.get(out, 0.0) + float(p)
    return found


def joint(noise: Noise, histogram: tuple[int, ...], tau: int) -> dict[tuple[int | None, ...], float]:
    rows = [released(noise, votes, tau).items() for votes in histogram]
    return {tuple(out for out, _ in each): math.prod(p for _, p in each) for each in product(*rows)}


def stick(
    p: dict[tuple[int | None, ...], float], q: dict[tuple[int | None, ...], float], epsilon: float
) -> float:
    """The exact delta of a pair of distributions at an epsilon."""
    return math.fsum(max(0.0, each - math.exp(epsilon) * q.get(out, 0.0)) for out, each in p.items())


def pairs(rule: VoteRelease) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Neighbouring histograms over up to two items (four under replace: two of each content)."""
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    if rule.neighbours == "replace":
        for others in product((0, 1, rule.tau - 1), repeat=2):
            found.append(((others[0] + 1, others[1]), (others[0], others[1] + 1)))
        return found
    for others in product((0, 1, rule.tau - 1, rule.tau + 2), repeat=rule.max_items):
        found.append((tuple(votes + 1 for votes in others), others))
    return found


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_no_pair_of_small_histograms_is_told_apart_by_more_than_is_claimed(rule: VoteRelease) -> None:
    loss, worst = rule.loss(), 0.0
    for one, other in pairs(rule):
        p, q = joint(rule.distribution, one, rule.tau), joint(rule.distribution, other, rule.tau)
        for left, right in ((p, q), (q, p)):
            for conversion in (1e-3, 1e-6):
                claim = best_epsilon(loss.at, 256.0, conversion).epsilon
                assert stick(left, right, claim) <= rule.delta + conversion
            # What is claimed of the loss holds outside of the event that an item of the unit alone is released.
            mine = [key for key, votes in enumerate(zip(one, other, strict=True)) if min(votes) == 0]
            good = {out: each for out, each in left.items() if all(out[key] is None for key in mine)}
            lost = 1.0 - math.fsum(good.values())
            assert lost <= rule.delta
            worst = max(worst, lost / rule.delta)
            for order in (1.5, 2.0, 6.0):
                moment = math.fsum(
                    math.exp(order * math.log(each) + (1.0 - order) * math.log(right[out]))
                    for out, each in good.items()
                )
                assert math.log(moment) / (order - 1.0) <= loss.at(order) + 1e-12
    assert worst == pytest.approx(1.0, rel=1e-9)  # the claim is the exact probability of the worst pair


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_threshold_two_lower_would_break_the_claim(rule: VoteRelease) -> None:
    broken = released(rule.distribution, 1, rule.tau - 2)
    assert 1.0 - broken[None] ** rule.max_items > 2.0 * rule.delta


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
@pytest.mark.parametrize("others", [0, 2])
def test_releases_that_depend_on_earlier_ones_stay_within_what_was_charged(
    noise: NoiseName, others: int
) -> None:
    """Exact: three releases of one item each, of which the unit names the item in two at most, by what came out.

    Its account has the loss and the delta of two. Whether it names the third item depends on the first two releases.
    """
    rule = VoteRelease(noise, 1.2, 4, 1)
    with_it, without = (released(rule.distribution, others + here, rule.tau) for here in (1, 0))

    def walk(spent: int, path: tuple[int | None, ...]) -> Iterator[tuple[float, float]]:
        if len(path) == 3:
            yield 1.0, 1.0
            return
        skips = len(path) == 1 and (path[0] is None) == (others == 0)
        names = spent < 2 and not skips
        here = with_it if names else without
        for out, p in here.items():
            for p_rest, q_rest in walk(spent + names, (*path, out)):
                yield p * p_rest, without.get(out, 0.0) * q_rest

    paths = list(walk(0, ()))
    assert math.fsum(p for p, _ in paths) == pytest.approx(1.0)
    delta = 2.0 * rule.loss().delta
    worst = 0.0
    for conversion in (1e-2, 1e-4):
        claim = best_epsilon(lambda order: 2.0 * rule.loss().at(order), 256.0, conversion).epsilon
        for one, other in ((0, 1), (1, 0)):
            told = math.fsum(max(0.0, each[one] - math.exp(claim) * each[other]) for each in paths)
            assert told <= conversion + delta
            worst = max(worst, told)
    if others == 0:
        assert worst > 0.9 * delta  # the deltas of both are needed


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_contributions_cost_what_they_move(rule: VoteRelease) -> None:
    costs = [rule.loss(items) for items in range(rule.max_items + 1)]
    most = rule.loss()
    assert costs[-1].at(3.0) == most.at(3.0)
    assert costs[-1].delta == most.delta == rule.delta
    if rule.neighbours == "replace":  # the other content may have named as many as it likes
        assert {cost.at(3.0) for cost in costs} == {most.at(3.0)}
    else:
        assert costs[0].at(3.0) == costs[0].delta == 0.0
        assert costs[1].at(3.0) == pytest.approx(most.at(3.0) / rule.max_items)


@pytest.mark.parametrize("items", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("sigma", [1.7, 4.0])
def test_gaussian_losses_are_those_of_the_privacy_map(items: int, sigma: float) -> None:
    rule = VoteRelease("gaussian", sigma, 12, items)
    # A map over floats takes the exact distance, the root of the number of items.
    space = dp.map_domain(dp.atom_domain(T="u32"), dp.atom_domain(T="f64", nan=False))
    metric = dp.l02inf_distance(dp.absolute_distance(T="f64"))
    floats = dp.m.make_gaussian_threshold(space, metric, scale=sigma, threshold=12.0)
    rho, _ = floats.map((items, math.sqrt(items), 1.0))
    assert rule.loss().at(5.0) == pytest.approx(5.0 * rho, rel=1e-11)
    rho, delta = threshold(rule).map((items, math.isqrt(items - 1) + 1, 1))  # whole numbers: rounded up
    assert rule.loss().at(5.0) <= 5.0 * rho * (1 + 1e-11)
    assert rule.delta <= delta
    if math.isqrt(items) ** 2 == items:
        assert rule.loss().at(5.0) == pytest.approx(5.0 * rho, rel=1e-11)


@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize("scale", [0.7, 3.0])
def test_laplace_losses_and_deltas_are_those_of_the_privacy_map(items: int, scale: float) -> None:
    rule = VoteRelease("laplace", scale, 12, items)
    epsilon, delta = threshold(rule).map((items, items, 1))
    assert rule.loss().at(math.inf) == pytest.approx(epsilon, rel=1e-11)
    assert rule.delta == pytest.approx(delta, rel=1e-9)


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_the_privacy_map_of_opendp_is_right_one_vote_above_its_threshold(noise: NoiseName) -> None:
    """It releases a count at its threshold and reckons with one above it. If this fails, OpenDP has mended it:
    then the threshold is tau itself, and nothing need be left out."""
    at = threshold(VoteRelease(noise, 0.01, 9, 1))  # whose threshold is 8
    assert at({1: 7, 2: 8, 3: 9}).keys() == {2, 3}
    rule = VoteRelease(noise, 2.0, 11, 1)
    _, claimed = threshold(VoteRelease(noise, 2.0, 12, 1)).map((1, 1, 1))  # whose threshold is 11
    assert claimed < 0.9 * rule.distribution.tail(10)


@pytest.mark.parametrize(
    "rule", [VoteRelease("gaussian", 1.3, 4, 2), VoteRelease("laplace", 1.1, 4, 2)], ids=str
)
def test_items_that_one_unit_names_are_released_as_seldom_as_claimed(rule: VoteRelease) -> None:
    units = 40_000
    found = release_votes([(f"item {unit}",) for unit in range(units)], rule)
    expected = units * rule.distribution.tail(rule.tau - 1)  # .021 and .037 of them
    assert abs(len(found) - expected) < 7.0 * math.sqrt(expected)
    assert all(each.count >= rule.tau for each in found)
    sure = rule.tau + 1
    often = release_votes([("late", "cold")] * sure + [(f"x{i}",) for i in range(3)], rule)
    assert {each.item for each in often} <= {"late", "cold", "x0", "x1", "x2"}


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_noisy_counts_have_the_distribution_of_the_noise(noise: NoiseName) -> None:
    rule = VoteRelease(noise, 1.5, 2, 4000)
    votes = [tuple(f"item {i}" for i in range(4000))] * 25
    errors = np.array([each.count - 25 for each in release_votes(votes, rule)])
    p = exact(rule.distribution)
    chi = 0.0
    for k in range(-4, 5):
        expected = 4000 * float(p[k])
        chi += (int((errors == k).sum()) - expected) ** 2 / expected
    assert chi < 45.0  # 9 cells: exceeded once in a million
    assert len(errors) == 4000


def still(tau: int = 3, max_items: int = 2) -> VoteRelease:
    """A rule whose noise is 0 but once in 10^2000."""
    return VoteRelease("gaussian", 0.01, tau, max_items)


def test_a_unit_has_one_vote_per_item_and_no_more_items_than_the_rule_allows() -> None:
    assert release_votes([("a", "a", "a")] * 2, still()) == ()
    [only] = release_votes([("a", "b", "a")] * 3 + [("b", "x", "b")], still(tau=4))
    assert (only.item, only.count) == ("b", 4)
    found = release_votes([("a", "b", "c")] * 5, still())
    assert [each.item for each in found] == ["a", "b"]


def test_what_is_released_lies_by_count_and_name_whatever_the_order_of_the_units() -> None:
    votes = [("pear", "fig")] * 4 + [("kiwi", "fig")] * 3 + [("apple",)] * 4
    expected = [("fig", 7), ("apple", 4), ("pear", 4), ("kiwi", 3)]
    for each in (votes, votes[::-1]):
        assert [(found.item, found.count) for found in release_votes(each, still())] == expected


def test_items_of_any_text_stay_apart() -> None:
    odd = ["a\0b", "a\0c", "a", "\ud800", "", "é", "e\u0301", "x" * 10_000]
    found = release_votes([(item,) for item in odd for _ in range(3)], still())
    assert sorted(each.item for each in found) == sorted(odd)
    assert release_votes([], still()) == release_votes([()], still()) == ()


@pytest.mark.parametrize("neighbours", ["zero-out", "replace"])
@pytest.mark.parametrize("responses", [1, 7])
@pytest.mark.parametrize("noise", ["gaussian", "laplace", "auto"])
@pytest.mark.parametrize("order", [None, 12.0])
def test_calibrated_releases_stay_within_epsilon_and_delta_and_just_so(
    noise: NoiseName, responses: int, neighbours: privacy.Neighbours, order: float | None
) -> None:
    given = 1e-6 if order else None
    rule = calibrate_votes(
        1.5,
        1e-5,
        3,
        noise=noise,
        neighbours=neighbours,
        responses=responses,
        order=order,
        release_delta=given,
    )
    spent = responses * rule.delta
    assert spent <= (given or 1e-5)
    conversion = 1e-5 - (given or spent)
    pure = responses * rule.loss().at(math.inf) if rule.noise == "laplace" else math.inf
    orders = PrivacyBudget(1.5, conversion).best_order() if order is None else order
    epsilon = privacy.rdp_to_epsilon(responses * rule.loss().at(orders), orders, conversion)
    best = pure if order is None and rule.noise == "laplace" else epsilon
    assert best <= 1.5 + 1e-9
    if order is not None or rule.noise == "laplace":
        assert best > 1.5 - 1e-6
    lower = VoteRelease(rule.noise, rule.scale, rule.tau - 1, 3, neighbours)
    if given:
        assert responses * lower.delta > given  # no smaller threshold would do


def test_fewer_units_must_agree_by_laplace_for_one_release_and_by_gauss_for_many() -> None:
    assert calibrate_votes(1.0, 1e-5).noise == "laplace"
    assert calibrate_votes(1.0, 1e-5, responses=100).noise == "gaussian"
    for responses in (1, 100):
        votes = {
            noise: calibrate_votes(1.0, 1e-5, responses=responses, noise=noise).fewest_votes()
            for noise in ("gaussian", "laplace", "auto")
        }
        assert votes["auto"] == min(votes.values())


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("chance", [0.2, 0.5, 0.95])
def test_the_fewest_votes_are_the_fewest(rule: VoteRelease, chance: float) -> None:
    votes = rule.fewest_votes(chance)
    assert 1.0 - released(rule.distribution, votes, rule.tau)[None] >= chance - 1e-12
    if votes > 1:
        assert 1.0 - released(rule.distribution, votes - 1, rule.tau)[None] < chance
    assert rule.chance(votes) >= chance


def test_too_few_documents_are_refused_before_anything_is_spent() -> None:
    rule = calibrate_votes(1.0, 1e-5)
    check_reach(rule, rule.fewest_votes())
    with pytest.raises(PrivacyParameterError, match="1 documents are too few"):
        check_reach(rule, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"delta": 0.0},
        {"delta": 1.0},
        {"max_items": 0},
        {"max_items": 2.5},
        {"responses": 0},
        {"noise": "normal"},
        {"neighbours": "add"},
        {"release_delta": 1e-5},
        {"release_delta": math.nan},
        {"epsilon": 1e-9},
        {"epsilon": 1e-3, "noise": "gaussian"},
    ],
)
def test_bad_calibrations_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(PrivacyParameterError):
        calibrate_votes(**{"epsilon": 1.0, "delta": 1e-5, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"noise": "none"},
        {"scale": 0.0},
        {"scale": math.nan},
        {"scale": 2e9},
        {"tau": 1},
        {"tau": 2.5},
        {"max_items": 0},
        {"neighbours": "x"},
    ],
)
def test_bad_rules_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(PrivacyParameterError):
        VoteRelease(**{"noise": "gaussian", "scale": 1.0, "tau": 5, "max_items": 1, **changed})  # type: ignore[arg-type]
    rule = VoteRelease("gaussian", 1.0, 5, 2)
    for items in (-1, 3):
        with pytest.raises(PrivacyParameterError):
            rule.loss(items)


def test_noise_has_no_other_source_than_opendp() -> None:
    folder = Path(privacy.__file__).parent
    for name in ("noise", "release", "release_calibration", "releasing", "measures", "measuring"):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            names = (
                [each.name for each in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [node.attr] if isinstance(node, ast.Attribute) else []
            drawn = {"random", "secrets", "torch", "os", "sampling", "default_rng", "generator"}
            assert not drawn & {part for each in names for part in each.split(".")}, name
