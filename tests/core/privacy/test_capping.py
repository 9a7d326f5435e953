"""Formulas (1c) and (3c): what capped weights cost, against the exact divergence of the means."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import MixtureRule, token_bound, token_loss
from dpfusion_core.privacy.capping import default_weight_cap, dilution, mixing_loss_of, weight_cap_of
from tests.core.privacy import oracle
from tests.core.privacy.oracle import ExactPair, mp
from tests.core.privacy.strategies import (
    ORDERS,
    SETTINGS,
    betas,
    orders,
    pairs,
    random_beta,
    random_pair,
    unit_rows,
)

CAPS = (0.9, 0.5, 0.25, 0.05)
caps = st.sampled_from([1.0 - 1e-9, *CAPS])


def rows(*values: float) -> Tensor:
    """Return log-probabilities."""
    return torch.tensor(values, dtype=torch.float64).log()


def bounds_of(log_p: Tensor, bound: float) -> Tensor:
    return torch.full((log_p.shape[0],), bound, dtype=torch.float64)


def mean(log_q: Tensor, log_p: Tensor, weights: Tensor) -> list[Any]:
    """Return the mean of the mixtures in 50 digits."""
    q, p = ([mp.exp(mp.mpf(value)) for value in row.tolist()] for row in (log_q, log_p.flatten()))
    q_sum, width = mp.fsum(q), len(q)
    total = [mp.zero] * width
    for i, weight in enumerate(map(mp.mpf, weights.tolist())):
        row = p[i * width : (i + 1) * width]
        row_sum = mp.fsum(row)
        mixed = [(1 - weight) * x / q_sum + weight * y / row_sum for x, y in zip(q, row, strict=True)]
        total = [t + m / len(weights) for t, m in zip(total, mixed, strict=True)]
    return total


def divergence(first: list[Any], second: list[Any], order: float) -> Any:
    """Return ``D_a`` between two exact distributions, in the larger direction."""
    found = []
    for p, q in ((first, second), (second, first)):
        terms = []
        for x, y in zip(p, q, strict=True):
            if y == 0 < x:
                return mp.inf
            terms.append(y * mp.power(x / y, order) if x else mp.zero)
        found.append(mp.log(mp.fsum(terms)) / (mp.mpf(order) - 1))
    return max(found)


@pytest.mark.parametrize(("units", "cap"), [(1, 0.3), (2, 0.5), (8, 0.5), (16, 0.25), (1000, 1.0 - 1e-13)])
def test_dilution_is_n_kappa(units: int, cap: float) -> None:
    exact = units * oracle.moved_share(units, cap)
    assert dilution(units, cap) == pytest.approx(float(exact), rel=1e-15, abs=0)


def test_numbers_of_the_specification() -> None:
    assert [dilution(4, 0.5), dilution(8, 0.5), dilution(16, 0.25)] == [2.5, 4.5, 12.25]
    assert mixing_loss_of(0.5, 8) == pytest.approx(0.118, abs=5e-4)
    assert mixing_loss_of(0.5, 1) == pytest.approx(0.693, abs=5e-4)


@pytest.mark.parametrize("units", [1, 2, 8, 1000])
@pytest.mark.parametrize("cap", [0.999, *CAPS, 1e-9])
def test_a_cap_and_what_it_costs_are_inverse(cap: float, units: int) -> None:
    assert weight_cap_of(mixing_loss_of(cap, units), units) == pytest.approx(cap, rel=1e-9)
    exact = -mp.log(1 - mp.mpf(cap) / (units * oracle.moved_share(units, cap)))
    assert mixing_loss_of(cap, units) == pytest.approx(float(exact), rel=1e-9)
    assert mixing_loss_of(1.0, units) == math.inf


@pytest.mark.parametrize("units", range(1, 60))
def test_the_default_is_a_cap_and_none_for_one_unit(units: int) -> None:
    assert 0.0 < default_weight_cap(units) <= 1.0
    assert (default_weight_cap(units) == 1.0) == (units == 1)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, None], ids=repr)
def test_bad_numbers_of_units_are_refused(bad: Any) -> None:
    for function in (
        lambda: dilution(bad, 0.5),
        lambda: weight_cap_of(0.1, bad),
        lambda: default_weight_cap(bad),
    ):
        with pytest.raises(PrivacyParameterError, match="num_units"):
            function()


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.1, math.nan, True, "0.5"], ids=repr)
def test_bad_caps_are_refused(bad: Any) -> None:
    for function in (
        lambda: dilution(2, bad),
        lambda: mixing_loss_of(bad, 2),
        lambda: MixtureRule(2.0, None, bad),
    ):
        with pytest.raises(PrivacyParameterError, match="weight_cap"):
            function()


@settings(SETTINGS, max_examples=100)
@given(log_rows=unit_rows(), order=orders, beta=betas)
def test_no_cap_and_one_unit_change_no_bit(
    log_rows: tuple[Tensor, Tensor], order: float, beta: float
) -> None:
    log_q, log_p = log_rows
    for row, cap in ((log_p, 1.0), (log_p[:1], 0.5)):
        fused, same = (rule.fuse(log_q, row, bounds_of(row, order * beta)) for rule in
                       (MixtureRule(order), MixtureRule(order, None, cap)))  # fmt: skip
        assert torch.equal(fused.log_probs, same.log_probs)
        assert torch.equal(fused.losses, same.losses)
        assert torch.equal(fused.diagnostics.lambdas, same.diagnostics.lambdas)


def assert_safe_and_not_lazy(
    pair: ExactPair, weight: float, bound: float, order: float, units: int, cap: float
) -> None:
    """Check ``n_u`` against the bound in 50 digits."""
    assert 0.0 <= weight <= cap
    if pair.singular:
        assert weight == 0.0
        return
    s = 1 / (units * oracle.moved_share(units, cap))
    assert pair.divergence(order, s * mp.mpf(weight)) <= bound, "beyond the bound"
    if weight < cap * (1.0 - 1e-6):
        larger = s * max(mp.mpf(weight) * (1 + mp.mpf(1e-6)), mp.mpf(1e-290))
        assert pair.divergence(order, larger) > bound, "lazy"


@pytest.mark.parametrize("order", ORDERS)
def test_seeded_sweep_of_weights_is_safe_and_not_lazy(order: float) -> None:
    """2,400 weights, 300 for each order."""
    rng = np.random.default_rng([21, int(100 * order)])
    for _ in range(60):
        units, cap = int(rng.integers(2, 40)), float(rng.choice([1.0 - 1e-9, *CAPS]))
        log_q, log_p = random_pair(rng)
        log_p = log_p.expand(units, -1)
        bounds = torch.tensor([order * random_beta(rng) for _ in range(units)], dtype=torch.float64)
        weights = MixtureRule(order, None, cap).fuse(log_q, log_p, bounds).diagnostics.lambdas
        pair = ExactPair(log_q, log_p[0])
        for weight, bound in list(zip(weights.tolist(), bounds.tolist(), strict=True))[:5]:
            assert_safe_and_not_lazy(pair, weight, bound, order, units, cap)


@pytest.mark.parametrize("order", [1.5, 2.0, 32.0])
@pytest.mark.parametrize("cap", [1.0 - 1e-9, 1.0 - 1e-12, 1.0 - 1e-15])
def test_weights_near_one_are_safe_and_not_lazy(cap: float, order: float) -> None:
    """The private row forbids a token: every digit of ``1 - s lambda`` counts."""
    rng = np.random.default_rng([22, int(order)])
    for _ in range(40):
        log_q, units = rows(0.5, 0.5), int(rng.integers(2, 30))
        log_p = torch.tensor([-rng.uniform(20, 700), 0.0], dtype=torch.float64).log_softmax(dim=-1)
        pair = ExactPair(log_q, log_p)
        top = float(mp.mpf(cap) / (units * oracle.moved_share(units, cap)))
        bound = float(pair.divergence(order, top * (1.0 - 10.0 ** rng.uniform(-15, -1))))
        fused = MixtureRule(order, None, cap).fuse(
            log_q, log_p.expand(units, -1), torch.full((units,), bound, dtype=torch.float64)
        )
        assert_safe_and_not_lazy(pair, fused.diagnostics.lambdas[0].item(), bound, order, units, cap)


@settings(SETTINGS, max_examples=150)
@given(pair=pairs(), order=orders, beta=betas, units=st.integers(2, 40), cap=caps)
def test_charged_divergence_is_that_of_the_part(
    pair: tuple[Tensor, Tensor], order: float, beta: float, units: int, cap: float
) -> None:
    log_q, log_p = pair[0], pair[1].expand(units, -1)
    fused = MixtureRule(order, None, cap).fuse(log_q, log_p, bounds_of(log_p, order * beta))
    weight = mp.mpf(fused.diagnostics.lambdas[0].item()) / (units * oracle.moved_share(units, cap))
    true = ExactPair(*pair).divergence(order, weight) if weight else mp.zero
    charged = fused.diagnostics.divergences[0].item()
    assert true * (1 - mp.mpf(1e-11)) <= charged <= true * (1 + mp.mpf(1e-6)) + 1e-14 / (order - 1.0)
    exact = oracle.token_loss(charged, units, order, cap)
    assert fused.losses[0].item() == pytest.approx(float(exact), rel=1e-10, abs=1e-300)


class Means:
    """The means that a rule makes of a request and of its neighbours, in 50 digits."""

    def __init__(self, rule: MixtureRule, log_q: Tensor, log_p: Tensor, bounds: Tensor) -> None:
        self._rule, self._q, self._p, self._bounds = rule, log_q, log_p, bounds
        self.fused = rule.fuse(log_q, log_p, bounds)
        self.mean = mean(log_q, log_p, self.fused.diagnostics.lambdas)

    def neighbour(self, unit: int, row: Tensor | None = None) -> list[Any]:
        """Return the mean with another text of one unit; without a row, with none."""
        changed = self._p.clone()
        changed[unit] = self._q if row is None else row
        weights = self._rule.fuse(self._q, changed, self._bounds).diagnostics.lambdas
        return mean(self._q, changed, weights)


def random_request(rng: np.random.Generator, order: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return a public row, rows of 2 to 6 units and a bound for each; the others often far from the public one."""
    log_q, first = random_pair(rng)
    others = rng.uniform(-1, 1, (int(rng.integers(1, 6)), len(log_q))) * 10.0 ** rng.uniform(-1, 2.3)
    log_p = torch.cat([first[None], torch.from_numpy(others)]).masked_fill_(log_q == -math.inf, -math.inf)
    log_p[0] = first
    bounds = [order * random_beta(rng) for _ in log_p]
    if rng.integers(2):  # the others as far as their cap allows
        bounds[1:] = [1e4] * (len(bounds) - 1)
    return log_q, log_p.log_softmax(dim=-1), torch.tensor(bounds, dtype=torch.float64)


@pytest.mark.parametrize("order", ORDERS)
def test_random_neighbours_stay_within_the_charge(order: float) -> None:
    """Zero-out and replace, both directions: formulas (1c) and (3c)."""
    rng = np.random.default_rng([23, int(100 * order)])
    for _ in range(60):
        log_q, log_p, bounds = random_request(rng, order)
        units, cap = len(log_p), float(rng.choice(CAPS))
        made = Means(MixtureRule(order, None, cap), log_q, log_p, bounds)
        assert float(made.fused.diagnostics.lambdas.max()) <= cap
        exact = divergence(made.mean, made.neighbour(0), order)
        assert exact <= made.fused.losses[0].item() * (1 + 1e-9) + 1e-14 / (order - 1)
        c_inf = mixing_loss_of(cap, units)
        made = Means(MixtureRule(order, c_inf, cap), log_q, log_p, bounds)
        for other in (random_pair(rng, len(log_q))[1], log_p[-1], log_q):
            exact = divergence(made.mean, made.neighbour(0, other), order)
            limit = max(token_loss(bounds[0].item() + c_inf, units, order, cap), made.fused.losses[0].item())
            assert exact <= limit * (1 + 1e-9)


# A token that the others alone can say, and that is nearly impossible without them; a token that the unit calls for.
TINY = 1e-40
ADVERSE_Q = (1e-3, 1.0 - 1e-3 - TINY, TINY)
CALLS, FORBIDS, AWAY = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


@pytest.mark.parametrize("order", [1.5, 2.0, 8.0])
@pytest.mark.parametrize("units", [2, 3, 8])
@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("text", [CALLS, FORBIDS], ids=["forward", "reverse"])
@pytest.mark.parametrize("bound", [1e-6, 0.01])
def test_the_charge_is_reached_where_the_others_have_moved_away(
    text: tuple[float, ...], bound: float, cap: float, units: int, order: float
) -> None:
    """Two-sided: with a part less, or another number of units, or others beyond the cap, this is passed or missed."""
    log_q, log_p = rows(*ADVERSE_Q), torch.stack([rows(*text), *[rows(*AWAY)] * (units - 1)])
    bounds = torch.tensor([bound, *[1e4] * (units - 1)], dtype=torch.float64)
    made = Means(MixtureRule(order, None, cap), log_q, log_p, bounds)
    assert made.fused.diagnostics.lambdas[1:].tolist() == pytest.approx([cap] * (units - 1), rel=1e-12)
    exact = float(divergence(made.mean, made.neighbour(0), order))
    charged = made.fused.losses[0].item()
    assert exact <= charged * (1 + 1e-9)
    assert exact >= charged * (1 - 1e-5)
    if made.fused.diagnostics.lambdas[0].item() < cap * (1 - 1e-6):
        assert charged == pytest.approx(token_loss(bound, units, order, cap), rel=1e-6)


@pytest.mark.parametrize("order", [2.0, 8.0])
@pytest.mark.parametrize("units", [2, 8])
@pytest.mark.parametrize("cap", [0.9, 0.5])
def test_the_charge_of_replace_neighbours_is_reached(cap: float, units: int, order: float) -> None:
    """One text calls for a rare token, the other forbids it; without the constant the charge is passed."""
    log_q, c_inf = rows(1e-9, 1.0 - 1e-9 - TINY, TINY), mixing_loss_of(cap, units)
    log_p = torch.stack([rows(*CALLS), *[rows(*AWAY)] * (units - 1)])
    made = Means(MixtureRule(order, c_inf, cap), log_q, log_p, bounds_of(log_p, 1e4))
    exact = float(divergence(made.mean, made.neighbour(0, rows(*FORBIDS)), order))
    charged = made.fused.losses[0].item()
    realised = made.fused.diagnostics.divergences[0].item()
    assert exact <= charged * (1 + 1e-9)
    assert exact >= charged * (1 - 1e-3)
    assert exact > 1.005 * token_loss(realised, units, order, cap)


@settings(SETTINGS, max_examples=150)
@given(exponent=st.floats(-6, 1), order=orders, units=st.integers(2, 60), cap=caps)
def test_the_constant_costs_less_within_the_mean_than_outside(
    exponent: float, order: float, units: int, cap: float
) -> None:
    """And less than a cap on each mixture alone: so there is nothing to choose between."""
    c_inf, realised = mixing_loss_of(cap, units), 10.0**exponent
    within = oracle.token_loss(realised + c_inf, units, order, cap)
    outside = oracle.token_loss(realised, units, order, cap) + c_inf
    assert within <= outside * (1 + 1e-12)


def test_a_replaced_document_of_eight_costs_a_sixth() -> None:
    """``c_inf`` is 0.118 nats in place of 0.693, and its mean is taken."""
    alone, together = mixing_loss_of(0.5, 1), mixing_loss_of(0.5, 8)
    assert together < alone / 5.8
    assert token_loss(together, 8, 2.0, 0.5) < 0.069


@pytest.mark.parametrize("order", [2.0, 4.0])
@pytest.mark.parametrize(("units", "gain"), [(8, 2.0), (16, 2.8)])
def test_many_units_gain_where_losses_are_small(units: int, gain: float, order: float) -> None:
    """The same loss per token; the weights with and without the default cap."""
    rng = np.random.default_rng(24)
    for _ in range(20):
        log_q, row = (torch.from_numpy(rng.normal(size=6)).log_softmax(dim=-1) for _ in range(2))
        log_p, weights = row.expand(units, -1), []
        for cap in (1.0, default_weight_cap(units)):
            bound = token_bound(1e-5, units, order, cap)
            fused = MixtureRule(order, None, cap).fuse(log_q, log_p, bounds_of(log_p, bound))
            weights.append(fused.diagnostics.lambdas[0].item())
        assert weights[1] >= gain * weights[0]


@pytest.mark.parametrize("units", [2, 5])
def test_a_rule_serves_other_numbers_of_units(units: int) -> None:
    """A rule may be used for chunks with other numbers of units: nothing is kept of an earlier one."""
    rule = MixtureRule(2.0, 0.2, 0.5)
    log_q, log_p = rows(0.2, 0.3, 0.5), rows(0.7, 0.2, 0.1)
    for n in (1, units, 3, units, 1):
        fresh, used = (each.fuse(log_q, log_p.expand(n, -1), torch.full((n,), 0.3, dtype=torch.float64))
                       for each in (MixtureRule(2.0, 0.2, 0.5), rule))  # fmt: skip
        assert torch.equal(fresh.log_probs, used.log_probs)
        assert torch.equal(fresh.losses, used.losses)


@pytest.mark.parametrize("order", [2.0, 8.0])
def test_the_mean_parts_as_the_proof_says(order: float) -> None:
    """``o = kappa n_u + (1 - kappa) r`` with an ``r`` that is a distribution and does not know the unit."""
    rng = np.random.default_rng(25)
    for cap, units in itertools.product(CAPS, (2, 3, 7)):
        log_q = torch.from_numpy(rng.normal(size=5)).log_softmax(dim=-1)
        log_p = torch.from_numpy(rng.normal(size=(units, 5)) * 5).log_softmax(dim=-1)
        made = Means(MixtureRule(order, None, cap), log_q, log_p, bounds_of(log_p, 0.5))
        kappa, q = oracle.moved_share(units, cap), [mp.exp(value) for value in log_q.tolist()]
        parts = []
        for mean_of, unit_row, weight in (
            (made.mean, log_p[0], made.fused.diagnostics.lambdas[0].item()),
            (made.neighbour(0), log_q, 0.0),
        ):
            s = mp.mpf(weight) / (units * kappa)
            p = [mp.exp(value) for value in unit_row.tolist()]
            part = [(1 - s) * x / mp.fsum(q) + s * y / mp.fsum(p) for x, y in zip(q, p, strict=True)]
            parts.append([(o - kappa * n) / (1 - kappa) for o, n in zip(mean_of, part, strict=True)])
        assert all(r >= -mp.mpf(1e-40) for r in parts[0])
        assert mp.fsum(parts[0]) == pytest.approx(1.0, abs=1e-30)
        assert all(abs(a - b) < mp.mpf(1e-14) for a, b in zip(*parts, strict=True))
