"""The fused distribution is the mean of the mixtures, and its losses are formula (1)."""

import math

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import MixtureRule
from tests.core.privacy.oracle import ExactPair, token_loss
from tests.core.privacy.strategies import SETTINGS, betas, orders, unit_rows

Rows = tuple[Tensor, Tensor]


def bounds_of(log_p: Tensor, bound: float) -> Tensor:
    return torch.full((log_p.shape[0],), bound, dtype=torch.float64)


@settings(SETTINGS, max_examples=100)
@given(rows=unit_rows(), order=orders, beta=betas)
def test_fused_is_the_mean_of_the_mixtures(rows: Rows, order: float, beta: float) -> None:
    log_q, log_p = rows
    fused = MixtureRule(order).fuse(log_q, log_p, bounds_of(log_p, order * beta))
    weights = fused.diagnostics.lambdas[:, None]
    mean = ((1 - weights) * log_q.exp() + weights * log_p.exp()).mean(dim=0)
    assert fused.log_probs.dtype == torch.float64
    assert fused.log_probs.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(fused.log_probs.exp(), mean, rtol=1e-10, atol=1e-290)


@settings(SETTINGS, max_examples=60)
@given(rows=unit_rows(), order=orders, beta=betas)
def test_losses_are_formula_1_of_the_realised_divergences(rows: Rows, order: float, beta: float) -> None:
    log_q, log_p = rows
    for mixing_loss in (None, 0.25):
        fused = MixtureRule(order, mixing_loss).fuse(log_q, log_p, bounds_of(log_p, order * beta))
        units = zip(
            log_p,
            fused.losses.tolist(),
            fused.diagnostics.divergences.tolist(),
            fused.diagnostics.lambdas.tolist(),
            strict=True,
        )
        for row, loss, divergence, weight in units:
            realised = ExactPair(log_q, row).divergence(order, weight) if weight else 0.0
            assert divergence == pytest.approx(float(realised), rel=1e-6, abs=1e-14 / (order - 1))
            exact = token_loss(divergence + (mixing_loss or 0.0), len(log_p), order)
            assert loss == pytest.approx(float(exact), rel=1e-10, abs=1e-300)


@settings(SETTINGS, max_examples=50)
@given(rows=unit_rows(kinds=("independent", "near", "private zeros", "tiny private")), order=orders)
def test_zero_bounds_give_the_public_row_exactly(rows: Rows, order: float) -> None:
    log_q, log_p = rows
    fused = MixtureRule(order).fuse(log_q, log_p, bounds_of(log_p, 0.0))
    torch.testing.assert_close(fused.log_probs, log_q, rtol=1e-14, atol=1e-15)
    assert fused.losses.tolist() == [0.0] * len(log_p)
    alone = MixtureRule(order).fuse(log_q, log_p[:1], bounds_of(log_p[:1], 0.0))
    assert torch.equal(alone.log_probs, log_q)


def test_one_unit_with_an_ample_bound_is_the_private_row() -> None:
    log_q = torch.tensor([0.2, 0.3, 0.5]).double().log()
    log_p = torch.tensor([[0.6, 0.3, 0.1]]).double().log()
    fused = MixtureRule(2.0).fuse(log_q, log_p, bounds_of(log_p, 5.0))
    assert torch.equal(fused.log_probs, log_p[0])


def test_weights_are_capped_for_replace_neighbours() -> None:
    log_q = torch.tensor([0.2, 0.3, 0.5]).double().log()
    log_p = torch.tensor([[0.6, 0.3, 0.1]]).double().log()
    fused = MixtureRule(2.0, mixing_loss=0.1).fuse(log_q, log_p, bounds_of(log_p, 5.0))
    assert fused.diagnostics.lambdas.item() == pytest.approx(-math.expm1(-0.1), rel=1e-12)


@pytest.mark.parametrize("mixing_loss", [1e-12, 1e-3, 0.02, 1.0, 30.0, 36.9, 40.0, 800.0])
def test_cap_keeps_the_public_distribution_within_mixing_loss(mixing_loss: float) -> None:
    """Formula (3): ``-log(1 - lambda) <= c_inf`` in exact arithmetic, also where 1 - e^-c rounds to 1."""
    log_q = torch.tensor([0.5, 0.5]).double().log()
    fused = MixtureRule(2.0, mixing_loss).fuse(log_q, log_q[None].clone(), bounds_of(log_q[None], 1.0))
    pair = ExactPair(log_q, torch.tensor([1.0, 0.0]).double().log())  # D_inf(q ‖ m) is reached at token 1
    weight = fused.diagnostics.lambdas.item()
    assert pair.public_surprise(weight) <= mixing_loss
    assert weight == pytest.approx(-math.expm1(-mixing_loss), rel=1e-12)


def test_units_may_be_bounded_differently() -> None:
    log_q = torch.tensor([0.5, 0.5]).double().log()
    log_p = torch.tensor([[0.9, 0.1]]).double().log().expand(2, 2)
    fused = MixtureRule(2.0).fuse(log_q, log_p, torch.tensor([0.02, 0.0], dtype=torch.float64))
    assert fused.diagnostics.lambdas[0] > 0.1
    assert fused.diagnostics.lambdas[1] == 0.0
    assert fused.losses.tolist() == [pytest.approx(float(token_loss(0.02, 2, 2.0)), rel=1e-6), 0.0]


@settings(SETTINGS, max_examples=40)
@given(rows=unit_rows(), order=orders, beta=betas)
def test_permuting_units_only_permutes(rows: Rows, order: float, beta: float) -> None:
    log_q, log_p = rows
    bounds = order * beta * torch.linspace(0.1, 1.0, len(log_p), dtype=torch.float64)
    rule = MixtureRule(order)
    there, back = rule.fuse(log_q, log_p, bounds), rule.fuse(log_q, log_p.flip(0), bounds.flip(0))
    torch.testing.assert_close(there.losses, back.losses.flip(0), rtol=1e-6, atol=1e-14)
    torch.testing.assert_close(there.diagnostics.lambdas, back.diagnostics.lambdas.flip(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(there.log_probs.exp(), back.log_probs.exp(), rtol=1e-6, atol=1e-300)


@pytest.mark.parametrize("show", [repr, str])
def test_representation_shows_no_numbers(show: type[str]) -> None:
    log_q = torch.tensor([0.5, 0.5]).double().log()
    fused = MixtureRule(2.0).fuse(log_q, log_q[None], bounds_of(log_q[None], 1.0))
    assert show(fused) == "Fused()"
    assert show(fused.diagnostics) == "Diagnostics()"


@pytest.mark.parametrize("arguments", [(1.0,), (math.nan,), (2.0, -0.1), (2.0, math.inf)])
def test_bad_parameters_are_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(PrivacyParameterError):
        MixtureRule(*arguments)
