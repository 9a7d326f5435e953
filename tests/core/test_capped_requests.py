"""Capped weights from the options of a request to its weights, its charge and what is said of it."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from dpfusion_core import FusionEngine, Message, PrivacyBudget, PrivacyLedger
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.options import Options
from dpfusion_core.planning import make_plan
from dpfusion_core.privacy import FixedAccountant
from dpfusion_core.privacy.capping import mixing_loss_of
from dpfusion_core.privacy.shares import ShareAccountant
from tests.core.privacy import oracle
from tests.core.privacy.oracle import NextToken, response_divergence, responses
from tests.core.privacy.test_enumeration import constant
from tests.core.toys import SECRET, secretive_backend


def documents(count: int) -> list[Message]:
    """Return a question about documents, each a unit that says the secret."""
    found = [Message("user", SECRET, True, f"document {i}") for i in range(count)]
    return [*found, Message("user", "what?")]


@pytest.mark.parametrize(("count", "cap"), [(1, None), (2, 0.5), (8, 0.5)])
def test_an_epsilon_is_spent_with_the_default_cap(count: int, cap: float | None) -> None:
    engine = FusionEngine(secretive_backend())
    result = engine.generate(documents(count), epsilon=30.0, max_tokens=5, curator=True)
    assert result.guarantee.weight_cap == cap
    assert result.guarantee.as_dict()["weight_cap"] == cap
    assert result.report is not None
    weights = [weight for row in result.report.lambdas.values() for weight in row]
    assert max(weights) == pytest.approx(cap or 1.0, rel=1e-9)
    assert max(weights) <= (cap or 1.0)


def test_order_and_beta_have_no_cap_unless_it_is_said() -> None:
    engine = FusionEngine(secretive_backend())
    settings: dict[str, Any] = {"order": 2.0, "beta": 5.0, "max_tokens": 3, "curator": True}
    plain = engine.generate(documents(3), **settings)
    capped = engine.generate(documents(3), weight_cap=0.25, **settings)
    assert (plain.guarantee.weight_cap, capped.guarantee.weight_cap) == (None, 0.25)
    assert plain.report is not None
    assert capped.report is not None
    assert plain.report.lambdas["document 0"] == [1.0] * 3
    assert capped.report.lambdas["document 0"] == pytest.approx([0.25] * 3)
    alone = engine.generate(documents(1), weight_cap=0.25, **settings)
    assert alone.guarantee.weight_cap is None  # nothing is gained by it


def test_under_replace_neighbours_a_cap_says_what_the_constant_is() -> None:
    options = Options(order=2.0, beta=0.01, neighbours="replace", weight_cap=0.5)
    assert make_plan(options, [str(i) for i in range(8)], None).parameters.surcharge == mixing_loss_of(0.5, 8)
    alone = make_plan(options, ["alone"], None).parameters
    assert (alone.surcharge, alone.weight_cap) == (0.02, 1.0)  # as without it


@pytest.mark.parametrize("bad", [0.0, 1.5, -1.0, True, "0.5", float("nan")], ids=repr)
def test_a_bad_cap_is_refused_before_anything_else(bad: Any) -> None:
    engine = FusionEngine(secretive_backend())
    with pytest.raises(PrivacyParameterError, match="weight_cap"):
        engine.generate(documents(2), epsilon=8.0, weight_cap=bad)


@pytest.fixture
def ledger() -> Iterator[PrivacyLedger]:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(60.0)) as found:
        yield found


def spent(ledger: PrivacyLedger, unit: str) -> float:
    return ledger.account(unit).balances[0].spent


def test_a_cap_that_costs_too_much_is_refused_before_a_charge(ledger: PrivacyLedger) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    with pytest.raises(PrivacyParameterError, match="Leave weight_cap out"):
        engine.generate(documents(8), epsilon=2.0, neighbours="replace", weight_cap=0.9, max_tokens=100)
    assert list(ledger.curator.accounts()) == []


@pytest.mark.parametrize("neighbours", ["zero-out", "replace"])
def test_the_ledger_is_charged_what_the_formula_says(ledger: PrivacyLedger, neighbours: Any) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    settings: dict[str, Any] = {"order": 2.0, "beta": 0.02, "weight_cap": 0.5, "neighbours": neighbours}
    result = engine.generate(documents(4), max_tokens=6, **settings)
    c_inf = mixing_loss_of(0.5, 4) if neighbours == "replace" else 0.0
    order = ledger.account("document 0").balances[0].order
    exact = result.guarantee.tokens * float(oracle.token_loss(0.04 + c_inf, 4, order, 0.5))
    assert [spent(ledger, f"document {i}") for i in range(4)] == pytest.approx([exact] * 4, abs=1e-10)


def test_adaptive_accounting_charges_what_was_realised_of_the_part(ledger: PrivacyLedger) -> None:
    engine = FusionEngine(secretive_backend(), ledger=ledger)
    settings: dict[str, Any] = {"order": 2.0, "beta": 0.02, "weight_cap": 0.5, "accounting": "adaptive"}
    result = engine.generate(documents(4), max_tokens=6, curator=True, **settings)
    assert result.report is not None
    for unit, row in result.report.divergences.items():
        exact = sum(float(oracle.token_loss(d, 4, 2.0, 0.5)) for d in row)
        assert spent(ledger, unit) == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("neighbours", ["zero-out", "replace"])
@pytest.mark.parametrize("cap", [None, 0.3])
def test_a_document_is_charged_for_its_smallest_company(cap: float | None, neighbours: Any) -> None:
    """Exact: chunks of two, three and four units under settings for two, by enumeration."""
    options = Options(epsilon=20.0, max_tokens=2, neighbours=neighbours, weight_cap=cap)
    plan = make_plan(options, ["a", "b", "c", "d"], None, together=2)
    public, loud = constant(1e-3, 0.998, 1e-3), constant(1.0, 0.0, 0.0)
    changes = [public, constant(0.0, 1.0, 0.0)] if neighbours == "replace" else [public]
    found = []
    for units in (2, 3, 4):
        others: list[NextToken] = [constant(0.0, 0.0, 1.0)] * (units - 1)
        accountant = FixedAccountant(plan.parameters, units, 2)  # as a chunk is generated
        made = [responses(public, [text, *others], plan.rule(), accountant, 2) for text in (loud, *changes)]
        found += [
            response_divergence(a, b, plan.parameters.order) for a, b in itertools.combinations(made, 2)
        ]
    limit = plan.loss.at(plan.parameters.order)
    assert max(found) <= limit * (1 + 1e-9)
    assert max(found) > 0.1 * limit


def test_an_exhausted_unit_still_counts() -> None:
    """Who pays for nothing says nothing, and the others are not diluted less for it."""
    plan = make_plan(Options(order=2.0, beta=0.02, weight_cap=0.5, max_tokens=2), ["a", "b", "c"], None)
    public, loud = constant(0.1, 0.9), constant(1.0, 0.0)
    accountant = FixedAccountant(plan.parameters, 3, 2, active=[True, False, True])
    whole, without = (
        responses(public, [text, loud, public], plan.rule(), accountant, 2) for text in (loud, public)
    )
    exact = response_divergence(whole, without, 2.0)
    assert exact <= plan.loss.at(2.0)
    assert without == pytest.approx(responses(public, [public] * 3, plan.rule(), accountant, 2))


@pytest.mark.parametrize("count", [1, 8, 100])
def test_shares_among_many_units_stay_within_epsilon(count: int) -> None:
    """Their sum is kept at one order, so that the settings may not come from another."""
    shares = (1.0, 2.0, 1.0)
    units = [str(i) for i in range(count)]
    for epsilon in (2.0, 8.0):
        options = Options(epsilon=epsilon, max_tokens=3, order=256.0, weight_cap=1.0)
        plan = make_plan(options, units, None, shares=shares)
        said = ShareAccountant(plan.parameters, count, shares).guarantee(private=True).epsilon
        assert epsilon * (1 - 1e-6) < said <= epsilon
