"""The weight of docs/theory.md, section 2: never beyond the bound, never lazy, checked in 50 digits."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import MixingWeightSearch, MixtureRule, largest_mixing_weight, mixing
from tests.core.privacy.oracle import ExactPair, mp
from tests.core.privacy.strategies import (
    KINDS,
    ORDERS,
    SETTINGS,
    betas,
    make_pair,
    orders,
    pairs,
    random_beta,
    random_pair,
    unit_rows,
)

SMALLEST = 1e-290  # below, float64 runs out of exponents: there only safety is asked for
INF = math.inf


def rows(*values: float) -> Tensor:
    """Return log-probabilities."""
    return torch.tensor(values, dtype=torch.float64).log()


def search_one(log_q: Tensor, log_p: Tensor, bound: float, order: float, cap: float = 1.0) -> float:
    """Return the weight of one unit."""
    bounds = torch.tensor([bound], dtype=torch.float64)
    return largest_mixing_weight(log_q, log_p[None], bounds, order, cap).item()


def search_of_two(log_q: Tensor, log_p: Tensor, other: Tensor, bounds: Tensor, order: float) -> float:
    """Return the weight of a unit beside another one."""
    return largest_mixing_weight(log_q, torch.stack([log_p, other]), bounds, order)[0].item()


def assert_safe_and_not_lazy(
    log_q: Tensor, log_p: Tensor, weight: float, bound: float, order: float, cap: float = 1.0
) -> None:
    """Check one weight against the specification, in 50 digits."""
    exact = ExactPair(log_q, log_p)
    assert 0.0 <= weight <= cap
    if exact.singular:
        assert weight == 0.0
        return
    assert exact.divergence(order, weight) <= bound, "beyond the bound"
    if weight < cap * (1.0 - 1e-6):
        larger = max(weight * (1.0 + 1e-6), SMALLEST)
        assert exact.forward(order, larger) > bound or exact.reverse(order, larger) > bound, "lazy"


@pytest.mark.parametrize("order", ORDERS)
def test_seeded_sweep_is_safe_and_not_lazy(order: float) -> None:
    """10,000 pairs, 1,250 for each order, five to a call."""
    rng = np.random.default_rng([20, int(100 * order)])
    search = MixingWeightSearch(order)
    for _ in range(250):
        log_q, log_p = random_pair(rng)
        others = rng.uniform(-1, 1, (4, len(log_q))) * 10.0 ** rng.uniform(-2, 2.5, (4, 1))
        rows_p = torch.cat([log_p[None], torch.from_numpy(others)]).masked_fill_(log_q == -INF, -INF)
        rows_p[0] = log_p
        rows_p = rows_p.log_softmax(dim=-1)
        bounds = order * torch.tensor([random_beta(rng) for _ in rows_p], dtype=torch.float64)
        weights, divergences = search(log_q, rows_p, bounds)
        assert bool((divergences <= bounds).all())
        for row, weight, bound in zip(rows_p, weights.tolist(), bounds.tolist(), strict=True):
            assert_safe_and_not_lazy(log_q, row, weight, bound, order)


@settings(SETTINGS, max_examples=500)
@given(pair=pairs(), order=orders, beta=betas)
def test_drawn_pairs_are_safe_and_not_lazy(pair: tuple[Tensor, Tensor], order: float, beta: float) -> None:
    """500 more, drawn by Hypothesis."""
    weight = search_one(*pair, order * beta, order)
    assert_safe_and_not_lazy(*pair, weight, order * beta, order)


HOSTILE = {
    "surprise": (rows(1e-20, 1 - 1e-20), rows(0.9, 0.1)),
    "tiny public": (rows(1e-300, 0.5, 0.5), rows(0.5, 0.25, 0.25)),
    "tiny public, tiny private": (rows(1e-300, 1.0), rows(1e-290, 1.0)),
    "smallest double": (rows(5e-324, 1.0), rows(0.5, 0.5)),
    "below the smallest double": (torch.tensor([-5000.0, 0.0]).double(), rows(0.5, 0.5)),
    "both below the smallest double": (
        torch.tensor([-5000.0, 0.0]).double(),
        torch.tensor([-4000.0, 0.0]).double(),
    ),
    "private tiny": (rows(0.5, 0.5), rows(1e-300, 1.0)),
    "private zero": (rows(0.5, 0.5), rows(0.0, 1.0)),
    "private zero where public is tiny": (rows(1e-300, 1.0), rows(0.0, 1.0)),
    "clamping at 1e-10 hides it": (rows(1e-14, 1 - 1e-14), rows(1e-10, 1 - 1e-10)),
    "certain against uniform": (rows(*[0.125] * 8), rows(1.0, *[0.0] * 7)),
    "swapped": (rows(0.999, 0.001), rows(0.001, 0.999)),
    "reverse is the larger": (rows(0.01, 0.99), rows(0.0, 1.0)),
    "a hair apart": (rows(0.5, 0.5), rows(0.5 + 1e-9, 0.5 - 1e-9)),
    "one bit apart": (rows(0.5, 0.5), rows(0.5 + 1.2e-16, 0.5)),
    "nothing shared but zero": (rows(0.0, 0.5, 0.5), rows(0.0, 0.9, 0.1)),
    "singular by 1e-300": (rows(0.0, 1.0), rows(1e-300, 1.0)),
    "disjoint": (rows(0.0, 1.0), rows(1.0, 0.0)),
    "one token": (rows(1.0), rows(1.0)),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("log_q, log_p", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pairs_are_safe_and_not_lazy(log_q: Tensor, log_p: Tensor, order: float) -> None:
    """760 more, by hand."""
    for beta in (1e-6, 1e-3, 0.02, 1.0, 10.0):
        weight = search_one(log_q, log_p, order * beta, order)
        assert_safe_and_not_lazy(log_q, log_p, weight, order * beta, order)


@settings(SETTINGS, max_examples=100)
@given(pair=pairs(), order=orders, beta=betas, cap=st.floats(1e-6, 0.999))
def test_cap_is_respected_and_reached(
    pair: tuple[Tensor, Tensor], order: float, beta: float, cap: float
) -> None:
    """Under a cap the optimum is the smaller of the two."""
    weight = search_one(*pair, order * beta, order, cap)
    assert_safe_and_not_lazy(*pair, weight, order * beta, order, cap)


@pytest.mark.parametrize("order", [1.5, 2.0, 32.0])
def test_weight_is_the_optimum_found_by_bisection(order: float) -> None:
    """An oracle that shares nothing with the code but the definition."""
    rng = np.random.default_rng(3)
    for kind in ("independent", "near", "private zeros", "surprise"):
        x, y = rng.uniform(-1, 1, (2, 5))
        log_q, log_p = make_pair(kind, x, y, scale=3.0, gap=0.1)
        optimum = ExactPair(log_q, log_p).largest_weight(0.01 * order, order)
        weight = search_one(log_q, log_p, 0.01 * order, order)
        assert optimum * (1 - mp.mpf(1e-6)) <= weight <= optimum * (1 + mp.mpf(1e-10))


@settings(SETTINGS, max_examples=150)
@given(pair=pairs(), order=orders, beta=betas)
def test_reported_divergence_is_the_realised_one_rounded_up(
    pair: tuple[Tensor, Tensor], order: float, beta: float
) -> None:
    """Adaptive accounting will charge it, so it may not fall short, nor cost much too much."""
    bounds = torch.tensor([order * beta], dtype=torch.float64)
    weights, divergences = MixingWeightSearch(order)(pair[0], pair[1][None], bounds)
    true = ExactPair(*pair).divergence(order, weights.item()) if weights.item() else mp.zero
    rounding = 1e-14 / (order - 1.0)
    assert divergences.item() >= true * (1 - mp.mpf(1e-11))
    assert divergences.item() <= true * (1 + mp.mpf(1e-6)) + rounding


def far_apart(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a pair of which a token's probabilities lie 30 to 700 nats apart, some of them 1e-300."""
    rest = torch.from_numpy(rng.uniform(-3, 3, (2, int(rng.integers(1, 4))))).log_softmax(dim=-1)
    gap, likelier = rng.uniform(30, 700), -(10.0 ** rng.uniform(-3, 2.84))
    first = torch.tensor([likelier, max(likelier - gap, -700.0)], dtype=torch.float64)  # of q and of p
    if rng.integers(4) == 0:
        first = first.flip(0)
    rest = rest + torch.log(-torch.expm1(first))[:, None]
    log_q, log_p = torch.cat([first[:, None], rest], dim=-1)
    return log_q, log_p


@pytest.mark.parametrize("order", ORDERS)
def test_weights_near_one_are_safe_and_not_lazy(order: float) -> None:
    """Bounds that are met at a weight 1 to 1e-15 below one, where ``1 + lambda (e^r - 1)`` has no digit."""
    rng = np.random.default_rng([36, int(100 * order)])
    for _ in range(150):
        log_q, log_p = far_apart(rng)
        at = 1.0 - 10.0 ** rng.uniform(-15, 0)
        bound = float(ExactPair(log_q, log_p).divergence(order, at))
        if not 1e-9 < bound < 1e6:
            continue
        for each in (bound, bound * (1.0 + 1e-3), bound * (1.0 - 1e-3)):
            weight = search_one(log_q, log_p, each, order)
            assert_safe_and_not_lazy(log_q, log_p, weight, each, order)


def test_36_nats_at_a_weight_of_one() -> None:
    """The full private row where it just fits: its smallest probability is all that counts."""
    for gap in (20.0, 36.0, 36.7, 40.0, 300.0):
        log_q = rows(0.5, 0.5)
        log_p = torch.tensor([-gap, 0.0], dtype=torch.float64).log_softmax(dim=-1)
        bound = float(ExactPair(log_q, log_p).divergence(2.0))
        for each, at_least in ((bound * (1 + 1e-6), 1.0), (bound * (1 - 1e-3), 1.0 - 1e-6)):
            weight = search_one(log_q, log_p, each, 2.0)
            assert weight >= at_least
            assert_safe_and_not_lazy(log_q, log_p, weight, each, 2.0)


@pytest.mark.parametrize("direction", [0, 1])
def test_a_direction_that_is_not_a_number_makes_a_weight_infeasible(
    direction: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_q, log_p = rows(0.5, 0.5), rows(0.9, 0.1)
    whole = mixing._Moments._one_direction

    def broken(self: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        value, slope = whole(self, *arguments)
        is_broken = (arguments[-1] < 0.0) == bool(direction)
        return (torch.full_like(value, math.nan), slope) if is_broken else (value, slope)

    monkeypatch.setattr(mixing._Moments, "_one_direction", broken)
    weights, divergences = MixingWeightSearch(2.0)(log_q, log_p[None], torch.ones(1).double())
    assert (weights.item(), divergences.item()) == (0.0, 0.0)


@pytest.mark.parametrize("order", ORDERS)
def test_token_that_the_public_row_forbids_forces_zero(order: float) -> None:
    """And only in the row of the unit that has it."""
    log_q, log_p = rows(0.0, 0.5, 0.5), torch.stack([rows(1e-300, 0.5, 0.5), rows(0.0, 0.6, 0.4)])
    weights = largest_mixing_weight(log_q, log_p, torch.full((2,), 10.0).double(), order)
    assert weights[0] == 0.0
    assert weights[1] == 1.0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("vocab", [1, 3, 1000])
def test_identical_rows_give_exactly_one(vocab: int, order: float) -> None:
    """A private view that changes nothing is used in full."""
    log_q = torch.linspace(-3, 3, vocab, dtype=torch.float64).log_softmax(dim=-1)
    assert search_one(log_q, log_q.clone(), 1e-6 * order, order) == 1.0
    assert search_one(log_q, log_q.clone(), 1e-6 * order, order, cap=0.25) == 0.25


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("log_q, log_p", HOSTILE.values(), ids=HOSTILE)
def test_bound_zero_gives_exactly_zero(log_q: Tensor, log_p: Tensor, order: float) -> None:
    """Beta = 0 is the public model."""
    weights, divergences = MixingWeightSearch(order)(log_q, log_p[None], torch.zeros(1).double())
    assert weights.item() == 0.0
    assert divergences.item() == 0.0


@settings(SETTINGS, max_examples=60)
@given(log_rows=unit_rows(), order=orders, beta=betas, data=st.data())
def test_batched_units_equal_single_ones(
    log_rows: tuple[Tensor, Tensor], order: float, beta: float, data: st.DataObject
) -> None:
    """One unit's text has no influence on another unit's weight."""
    log_q, log_p = log_rows
    factors = data.draw(st.lists(st.sampled_from([0.1, 1.0]), min_size=len(log_p), max_size=len(log_p)))
    bounds = order * beta * torch.tensor(factors, dtype=torch.float64)
    together = largest_mixing_weight(log_q, log_p, bounds, order)
    alone = [search_one(log_q, row, bound.item(), order) for row, bound in zip(log_p, bounds, strict=True)]
    torch.testing.assert_close(together, torch.tensor(alone, dtype=torch.float64), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("order", [1.01, 2.0, 256.0])
def test_a_weight_does_not_depend_on_the_other_units_text(order: float) -> None:
    """To the bit: shortcuts are taken or not by what all rows are like."""
    rng = np.random.default_rng(6)
    for _ in range(40):
        log_q, log_p = far_apart(rng)
        others = [
            log_q,
            log_p,
            (0.5 * (log_q + log_p)).log_softmax(dim=-1),
            torch.zeros_like(log_q).log_softmax(-1),
        ]
        bounds = torch.tensor([10.0 ** rng.uniform(-3, 3)] * 2, dtype=torch.float64)
        found = {search_of_two(log_q, log_p, other, bounds, order) for other in others}
        assert len(found) == 1


@pytest.mark.parametrize("order", [1.01, 2.0, 256.0])
@pytest.mark.parametrize("beta", [1e-6, 0.02, 1.0])
@pytest.mark.parametrize("shape", ["uniform", "two levels", "many levels", "one certain"])
def test_vocabulary_of_300_000(shape: str, beta: float, order: float) -> None:
    """Rounding errors of long sums do not pass the bound."""
    rng = np.random.default_rng(1)
    q, p = np.zeros((2, 300_000))
    if shape == "two levels":
        p[:7] = 1.0
    elif shape == "many levels":
        q, p = rng.integers(-24, 1, (2, 300_000)) / 2.0
    elif shape == "one certain":
        p[0] = 40.0
    log_q, log_p = (torch.from_numpy(row).log_softmax(dim=-1) for row in (q, p))
    weight = search_one(log_q, log_p, order * beta, order)
    assert_safe_and_not_lazy(log_q, log_p, weight, order * beta, order)


def test_instance_gives_the_same_answer_whatever_it_did_before() -> None:
    """Kept buffers and changing shapes leave no trace, in answers, inputs or earlier results."""
    rng = np.random.default_rng(7)
    old, kept = MixingWeightSearch(2.0), []
    for vocab, units in [
        (5, 1),
        (5, 1),
        (5, 3),
        (400, 3),
        (400, 3),
        (1, 2),
        (5, 3),
        (9000, 2),
        (5, 1),
        (9000, 2),
    ]:
        log_q = random_pair(rng, vocab)[0]
        log_p = torch.stack([random_pair(rng, vocab)[1] for _ in range(units)])
        bounds = torch.full((units,), 0.04, dtype=torch.float64)
        inputs = log_q.clone(), log_p.clone(), bounds.clone()
        results = old(log_q, log_p, bounds)
        assert all(map(torch.equal, results, MixingWeightSearch(2.0)(log_q, log_p, bounds)))
        assert all(map(torch.equal, inputs, (log_q, log_p, bounds)))
        kept.append((results, [result.clone() for result in results]))
    assert all(torch.equal(a, b) for now, then in kept for a, b in zip(now, then, strict=True))


def test_no_value_is_read_on_an_accelerator() -> None:
    """Meta tensors have no values: reading one, which would stall an accelerator, raises."""
    log_q, log_p = torch.zeros(50, device="meta").double(), torch.zeros(3, 50, device="meta").double()
    bounds = torch.zeros(3, device="meta").double()
    with pytest.raises(RuntimeError, match="meta"):
        bool(bounds.all())
    assert MixtureRule(2.0, mixing_loss=0.1).fuse(log_q, log_p, bounds).log_probs.shape == (50,)


@pytest.mark.parametrize("order", [1.01, 2.0, 256.0])
def test_answer_without_early_stop_is_the_same(order: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """An accelerator runs every step of the search; those after the last needed one change nothing."""
    rng = np.random.default_rng(5)
    cases = [(*random_pair(rng), order * random_beta(rng)) for _ in range(20)]
    cases += [(*far_apart(rng), bound) for bound in (0.1, 1.0, 10.0, 100.0, 1e3, 1e5)]  # weights near one
    stopped = [search_one(log_q, log_p, bound, order) for log_q, log_p, bound in cases]
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda _: False)
    assert [search_one(log_q, log_p, bound, order) for log_q, log_p, bound in cases] == stopped


def test_kinds_of_pairs_are_what_they_say() -> None:
    """The sweeps above mean nothing if their hostile pairs are tame."""
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 8))
    made = {kind: ExactPair(*make_pair(kind, x, y, 1.0, 1e-6)) for kind in KINDS}
    assert {kind for kind, pair in made.items() if pair.singular} == {"public zeros", "disjoint"}
    assert made["identical"].divergence(2.0) == 0
    assert 0 < made["near"].divergence(2.0) < 1e-11
    assert made["private zeros"].reverse(2.0) == INF
    assert made["tiny public"].forward(2.0) > 600
    assert made["underflowing public"].forward(2.0) > 1900


@pytest.mark.parametrize("order", [1.0, 0.5, -1.0, INF, math.nan, True, "2"])
def test_bad_order_is_refused(order: float) -> None:
    """Orders end above 1."""
    with pytest.raises(PrivacyParameterError, match="order"):
        MixingWeightSearch(order)


@pytest.mark.parametrize("cap", [-0.1, 1.1, math.nan])
def test_bad_cap_is_refused(cap: float) -> None:
    """A cap is a weight."""
    with pytest.raises(PrivacyParameterError, match="lambda_max"):
        MixingWeightSearch(2.0, cap)
