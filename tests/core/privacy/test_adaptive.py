"""Adaptive accounting: the sum of realised losses never exceeds the budget, and nothing of it is shown."""

import logging
import math
import traceback

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import (
    SPENDING_RULES,
    AdaptiveAccountant,
    FixedAccountant,
    Neighbours,
    PrivacyParameters,
    Spending,
    response_loss,
    token_loss,
)
from dpfusion_core.privacy.adaptive import adaptive_loss
from tests.core.privacy.strategies import SETTINGS

RULES = sorted(SPENDING_RULES)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_budget_is_the_worst_case_of_fixed_accounting() -> None:
    parameters = PrivacyParameters(2.0, 0.02)
    fixed = FixedAccountant(parameters, 1, 100).guarantee(private=True)
    adaptive = AdaptiveAccountant(parameters, 1, 100).guarantee(private=True)
    assert adaptive.epsilon == pytest.approx(fixed.epsilon, rel=1e-12)
    assert (adaptive.accounting, adaptive.order, adaptive.beta) == ("adaptive", 2.0, None)
    assert "adaptive accounting" in str(adaptive)


@settings(SETTINGS, max_examples=200)
@given(
    spending=st.sampled_from(RULES),
    order=st.floats(1.05, 64.0),
    beta=st.floats(-5, 0).map(lambda e: 10.0**e),
    units=st.integers(1, 4),
    tokens=st.integers(1, 30),
    neighbours=st.sampled_from(["zero-out", "replace"]),
    shares=st.lists(st.sampled_from([0.0, 1e-9, 0.3, 1.0]), min_size=1, max_size=8),
    cap=st.sampled_from([1.0, 0.5, 0.1]),
)
def test_losses_never_sum_to_more_than_the_budget(
    spending: Spending,
    order: float,
    beta: float,
    units: int,
    tokens: int,
    neighbours: Neighbours,
    shares: list[float],
    cap: float,
) -> None:
    """Whatever share of its bound each token uses."""
    parameters = PrivacyParameters(order, beta, neighbours=neighbours, weight_cap=cap)
    accountant = AdaptiveAccountant(parameters, units, tokens, spending=spending)
    total = 0.0
    for step in range(tokens):
        bounds = accountant.bounds()
        assert (bounds >= 0).all()
        losses = token_loss(bounds * shares[step % len(shares)] + parameters.surcharge, units, order, cap)
        accountant.charge(losses)
        total += losses[0].item()
    assert total <= response_loss(parameters, units, tokens).at(order) * (1 + 1e-12)


@pytest.mark.parametrize("spending", RULES)
def test_a_token_that_takes_all_leaves_nothing(spending: Spending) -> None:
    accountant = AdaptiveAccountant(PrivacyParameters(2.0, 0.5), 2, 10, spending=spending)
    budget = response_loss(PrivacyParameters(2.0, 0.5), 2, 10).at(2.0)
    accountant.charge(tensor(budget, 0.0))
    bounds = accountant.bounds()
    assert bounds[0] == 0.0
    assert bounds[1] > 0.0


@pytest.mark.parametrize("spending, expected", [
    ("accrued", [0.1, 0.2, 0.25]),
    ("capped", [0.4, 0.4, 0.4]),
    ("growing", [0.1, 1.3 / 9, 0.95 * 1.6 / 8]),
])  # fmt: skip
def test_what_each_rule_allows(spending: Spending, expected: list[float]) -> None:
    """Budget 1 for 10 tokens; the first two use 0 and 0.05."""
    accountant = AdaptiveAccountant(PrivacyParameters(2.0, 0.05), 1, 10, spending=spending)
    seen = []
    for loss in (0.0, 0.05, 0.0):
        seen.append(accountant.bounds().item())
        accountant.charge(tensor(loss))
    assert seen == pytest.approx(expected, rel=1e-9)


def test_capped_rule_ends_with_what_is_left() -> None:
    accountant = AdaptiveAccountant(PrivacyParameters(2.0, 0.05), 1, 10, spending="capped")
    seen = []
    for _ in range(4):
        seen.append(accountant.bounds().item())
        accountant.charge(accountant.bounds())
    assert seen == pytest.approx([0.4, 0.4, 0.2, 0.0], abs=1e-9)


def test_a_unit_is_held_to_what_its_ledger_granted() -> None:
    parameters = PrivacyParameters(2.0, 0.05)
    accountant = AdaptiveAccountant(parameters, 3, 10, spending="growing", granted=[0.0, 1e-3, math.inf])
    whole = response_loss(parameters, 3, 10).at(2.0)
    bounds = token_loss(accountant.bounds(), 3, 2.0)
    assert bounds.tolist() == pytest.approx([0.0, 1e-4, whole / 10], rel=1e-9)


def test_replace_neighbours_cannot_be_granted_less() -> None:
    with pytest.raises(PrivacyParameterError, match="zero-out"):
        AdaptiveAccountant(PrivacyParameters(2.0, 0.05, neighbours="replace"), 1, 10, granted=[0.1])


def test_under_replace_neighbours_every_token_to_come_is_paid_for() -> None:
    """An exhausted unit still costs the constant part: its other content may not be exhausted."""
    parameters = PrivacyParameters(2.0, 0.05, neighbours="replace", mixing_loss=0.05)
    accountant = AdaptiveAccountant(parameters, 1, 10, spending="capped")
    for _ in range(10):
        accountant.charge(accountant.bounds() + 0.05)
    assert accountant.used()[0].at(2.0) == pytest.approx(1.5)
    spent = AdaptiveAccountant(parameters, 1, 3, spending="capped")
    seen = []
    for _ in range(3):
        seen.append(spent.bounds().item())
        spent.charge(spent.bounds() + 0.05)
    assert seen == pytest.approx([0.3, 0.0, 0.0], abs=1e-9)


def test_what_is_used_is_the_realised_loss_and_under_replace_neighbours_all() -> None:
    accountant = AdaptiveAccountant(PrivacyParameters(2.0, 0.05), 2, 10)
    for _ in range(2):
        accountant.charge(tensor(0.0, 0.01))
    assert [loss.at(1.5) for loss in accountant.used()] == [0.0, 0.02]
    replace = AdaptiveAccountant(PrivacyParameters(2.0, 0.05, neighbours="replace"), 1, 10)
    replace.charge(tensor(0.1))
    assert replace.used()[0].at(2.0) == pytest.approx(2.0)


@pytest.mark.parametrize("spending", RULES)
def test_nothing_shown_depends_on_what_was_used(spending: Spending, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    quiet, loud = (
        AdaptiveAccountant(PrivacyParameters(2.0, 0.02), 2, 5, spending=spending) for _ in range(2)
    )
    for step in range(5):
        quiet.charge(tensor(0.0, 0.0))
        loud.charge(token_loss(loud.bounds(), 2, 2.0))
        assert quiet.guarantee(private=True) == loud.guarantee(private=True)
        assert repr(quiet) == repr(loud)
        assert quiet.guarantee(private=True).tokens == step + 1
    guarantee = loud.guarantee(private=True)
    assert (guarantee.loss_per_token, guarantee.charged, guarantee.exhausted) == (None, None, 0)
    assert repr(quiet.used()) == repr(loud.used())
    assert not caplog.records


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(PrivacyParameterError, match="accrued") as caught:
        AdaptiveAccountant(PrivacyParameters(2.0, 0.02), 1, 5, spending="all")  # type: ignore[arg-type]
    assert "all" in "".join(traceback.format_exception(caught.value))


def test_what_is_said_of_a_lower_order_covers_a_response_that_loses_all_by_one_token() -> None:
    """A filter at order 16: even shares would be less at order 1.5 than what the last token may lose."""
    parameters, units, tokens = PrivacyParameters(16.0, 0.04, neighbours="replace", mixing_loss=0.01), 4, 10
    accountant = AdaptiveAccountant(parameters, units, tokens, spending="accrued")
    lost = 0.0
    for step in range(tokens):
        divergences = accountant.bounds() if step == tokens - 1 else torch.zeros(units, dtype=torch.float64)
        accountant.charge(token_loss(divergences + parameters.surcharge, units, 16.0))
        lost += token_loss(float(divergences[0]) + parameters.surcharge, units, 1.5)
    for said in (adaptive_loss(parameters, units, tokens), *accountant.used()):
        assert said.at(1.5) >= lost
    assert response_loss(parameters, units, tokens).at(1.5) < lost
