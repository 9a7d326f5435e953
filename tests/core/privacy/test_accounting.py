"""Fixed accounting: every token counts with its bound, and nothing said depends on the data."""

import json
from dataclasses import replace

import pytest
import torch

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import FixedAccountant, PrivacyGuarantee, PrivacyParameters, response_loss
from tests.core.privacy import oracle


def guarantee(
    parameters: PrivacyParameters, units: int = 1, max_tokens: int = 100, *, private: bool = True
) -> PrivacyGuarantee:
    return FixedAccountant(parameters, units, max_tokens).guarantee(private=private)


def test_number_of_the_specification() -> None:
    result = guarantee(PrivacyParameters(2.0, 0.02, 1e-5))
    assert round(result.epsilon, 2) == 14.13
    assert (result.delta, result.order, result.neighbours, result.accounting) == (
        1e-5,
        2.0,
        "zero-out",
        "fixed",
    )
    assert (result.alpha, result.beta, result.units, result.max_tokens) == (2.0, 0.02, 1, 100)


@pytest.mark.parametrize("units", [1, 2, 5])
@pytest.mark.parametrize("mixing_loss", [None, 0.3])
@pytest.mark.parametrize("order", [1.5, 3.0, 8.0])
@pytest.mark.parametrize("cap", [1.0, 0.3])
def test_loss_of_a_token_is_formula_1_with_the_surcharge(
    cap: float, order: float, mixing_loss: float | None, units: int
) -> None:
    zero_out = response_loss(PrivacyParameters(8.0, 0.05, weight_cap=cap), units, 10)
    exact = oracle.token_loss(0.4, units, order, cap)
    assert zero_out.at(order) == pytest.approx(10 * float(exact), rel=1e-12)
    parameters = PrivacyParameters(8.0, 0.05, neighbours="replace", mixing_loss=mixing_loss, weight_cap=cap)
    exact = oracle.token_loss(0.4 + (0.4 if mixing_loss is None else mixing_loss), units, order, cap)
    assert response_loss(parameters, units, 10).at(order) == pytest.approx(10 * float(exact), rel=1e-12)


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("neighbours", ["zero-out", "replace"])
def test_epsilon_is_converted_from_all_tokens_at_the_reported_order(neighbours: str, units: int) -> None:
    parameters = PrivacyParameters(8.0, 0.05, 1e-6, neighbours)  # type: ignore[arg-type]
    result = guarantee(parameters, units, 30)
    assert result.order is not None
    assert 1.0 < result.order <= 8.0
    loss = 30 * oracle.token_loss(0.8 if neighbours == "replace" else 0.4, units, result.order)
    exact = oracle.rdp_to_epsilon(loss, result.order, 1e-6)
    assert result.epsilon == pytest.approx(float(exact), rel=1e-12)
    assert result.neighbours == neighbours


def test_first_token_is_counted_and_charged() -> None:
    accountant = FixedAccountant(PrivacyParameters(2.0, 0.02), num_units=1, max_tokens=3)
    seen = []
    for _ in range(3):
        result = accountant.guarantee(private=True)
        seen.append((result.tokens, result.charged))
        accountant.charge(torch.zeros(1).double())
    assert seen == [(0, 0.0), (1, 0.04), (2, 0.08)]


def test_one_token_costs_one_token() -> None:
    exact = oracle.rdp_to_epsilon(0.04, 2.0, 1e-5)
    assert guarantee(PrivacyParameters(2.0, 0.02), max_tokens=1).epsilon == pytest.approx(
        float(exact), rel=1e-12
    )


def test_nothing_said_depends_on_the_data() -> None:
    """Two responses of one length, one of a unit that lost nothing, one of a unit that lost all."""
    cheap, dear = (FixedAccountant(PrivacyParameters(2.0, 0.02), 2, 10) for _ in range(2))
    for _ in range(3):
        assert torch.equal(cheap.bounds(), dear.bounds())
        cheap.charge(torch.zeros(2).double())
        dear.charge(torch.full((2,), 0.02).double())
    assert cheap.guarantee(private=True) == dear.guarantee(private=True)


def test_epsilon_does_not_depend_on_when_the_response_stopped() -> None:
    accountant = FixedAccountant(PrivacyParameters(2.0, 0.02), 1, 10)
    before = accountant.guarantee(private=True)
    accountant.charge(torch.zeros(1).double())
    assert accountant.guarantee(private=True) == replace(before, tokens=1)


def test_bounds_are_alpha_beta_for_each_unit() -> None:
    bounds = FixedAccountant(PrivacyParameters(3.0, 0.1), 4, 10).bounds()
    assert bounds.dtype == torch.float64
    assert bounds.tolist() == [3.0 * 0.1] * 4


@pytest.mark.parametrize("field", ["beta", "max_tokens"])
def test_epsilon_grows_with(field: str) -> None:
    less = guarantee(PrivacyParameters(2.0, 0.02), 2, 10)
    more = guarantee(
        PrivacyParameters(2.0, 0.03 if field == "beta" else 0.02), 2, 11 if field == "max_tokens" else 10
    )
    assert less.epsilon < more.epsilon


@pytest.mark.parametrize("neighbours", ["zero-out", "replace"])
def test_sentence_says_relation_delta_order_and_accounting(neighbours: str) -> None:
    text = str(guarantee(PrivacyParameters(2.0, 0.02, 1e-6, neighbours)))  # type: ignore[arg-type]
    for part in (neighbours, "1e-06", "order 2", "fixed", "100 tokens", "1 unit)", "epsilon = "):
        assert part in text
    assert "2 units)" in str(guarantee(PrivacyParameters(2.0, 0.02), 2))


def test_sentence_says_when_the_seed_was_the_callers() -> None:
    parameters = PrivacyParameters(2.0, 0.02)
    assert "NOT private" in str(guarantee(parameters, private=False))
    assert "NOT private" not in str(guarantee(parameters, private=True))
    assert guarantee(parameters, private=False).as_dict()["private"] is False


def test_request_without_units_claims_no_protection() -> None:
    text = str(replace(guarantee(PrivacyParameters(2.0, 0.02)), units=0))
    assert "nothing to protect" in text
    assert "epsilon" not in text


def test_dict_survives_json() -> None:
    result = guarantee(PrivacyParameters(2.0, 0.02, neighbours="replace"), 3)
    assert PrivacyGuarantee(**json.loads(json.dumps(result.as_dict(), allow_nan=False))) == result


def test_nothing_is_said_above_the_order_of_the_bound() -> None:
    with pytest.raises(PrivacyParameterError, match="above order 2"):
        response_loss(PrivacyParameters(2.0, 0.02), 1, 10).at(2.1)


def test_what_is_used_is_the_bound_of_each_token_whatever_the_realised_loss() -> None:
    accountant = FixedAccountant(PrivacyParameters(2.0, 0.02), 2, 10, active=[True, False])
    for realised in (0.0, 0.01):
        accountant.charge(torch.full((2,), realised).double())
    active, inactive = accountant.used()
    assert active.at(2.0) == pytest.approx(2 * float(oracle.token_loss(0.04, 2, 2.0)), rel=1e-12)
    assert inactive.at(2.0) == 0.0


def test_units_without_budget_take_no_part_but_count_as_units() -> None:
    accountant = FixedAccountant(PrivacyParameters(2.0, 0.02), 3, 10, active=[True, False, True])
    assert accountant.bounds().tolist() == [0.04, 0.0, 0.04]
    result = accountant.guarantee(private=True)
    assert (result.units, result.exhausted) == (3, 1)
    assert "1 of the units had no budget left" in str(result)
    with pytest.raises(PrivacyParameterError, match="3 entries"):
        FixedAccountant(PrivacyParameters(2.0, 0.02), 3, 10, active=[True])
