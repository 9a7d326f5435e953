"""Budgets by unit and order; why several orders must share delta."""

import math
from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpfusion_core.errors import BudgetExhaustedError, PrivacyParameterError
from dpfusion_core.ledger import BudgetPolicy, PrivacyLedger, amounts
from dpfusion_core.ledger.policy import split
from dpfusion_core.privacy import rdp_to_epsilon
from dpfusion_core.privacy.budget import PrivacyBudget, RenyiLoss
from tests.core.ledger.helpers import converted

BUDGET = PrivacyBudget(20.0, 1e-5)
ORDERS = (2.0, 8.0)

# A mechanism with two outcomes: probability under the neighbour, and likelihood ratio.
Outcomes = tuple[tuple[float, float], tuple[float, float]]


def two_outcomes(probability: float, ratio: float) -> Outcomes:
    """One outcome of this probability under Q and this ratio P/Q; the other takes the rest."""
    return (probability, ratio), (1.0 - probability, (1.0 - probability * ratio) / (1.0 - probability))


def divergence(outcomes: Outcomes, order: float) -> float:
    """The Rényi divergence, the larger of both directions."""
    forward = math.fsum(q * ratio**order for q, ratio in outcomes)
    backward = math.fsum(q * ratio ** (1.0 - order) for q, ratio in outcomes)
    return math.log(max(forward, backward)) / (order - 1.0)


def as_loss(outcomes: Outcomes, less: float = 0.0) -> RenyiLoss:
    return RenyiLoss(max(ORDERS), lambda order: divergence(outcomes, order) - less)


def hungriest(order: float, allowed: float, threshold: float) -> Outcomes:
    """The mechanism of at most this divergence with the most mass above a ratio of ``threshold``."""
    ratio = threshold * order / (order - 1.0)
    low, high = 0.0, 1.0 / ratio
    for _ in range(200):
        middle = (low + high) / 2.0
        fits = divergence(two_outcomes(middle, ratio), order) <= allowed
        low, high = (middle, high) if fits else (low, middle)
    return two_outcomes(low, ratio)


# An answer that is rare without the secret and ten times as likely with it.
FIRST = two_outcomes(1e-3, 10.0)


def second(budgets: Mapping[float, float]) -> list[Outcomes]:
    """What an attacker asks after each answer: at order 8 after the rare one, else at order 2."""
    return [
        hungriest(order, budgets[order] - divergence(FIRST, order), math.exp(BUDGET.epsilon) / ratio)
        for order, (_, ratio) in zip((8.0, 2.0), FIRST, strict=True)
    ]


def delta_of(first: Outcomes, then: list[Outcomes]) -> float:
    """The exact delta of both answers together at the budget's epsilon."""
    return math.fsum(
        q * q_next * max(0.0, ratio * ratio_next - math.exp(BUDGET.epsilon))
        for (q, ratio), answers in zip(first, then, strict=True)
        for q_next, ratio_next in answers
    )


def test_going_on_while_some_order_holds_loses_more_than_delta_if_each_order_has_all_of_it() -> None:
    naive = {order: BUDGET.loss_at(order) for order in ORDERS}
    then = second(naive)
    for order, answers in zip((8.0, 2.0), then, strict=True):  # the naive rule lets both pass
        assert divergence(FIRST, order) + divergence(answers, order) <= naive[order]
    assert delta_of(FIRST, then) > 1.8 * BUDGET.delta
    # Asked at one order whatever the first answer was, the same budgets are sound.
    for order in ORDERS:
        alone = [
            hungriest(order, naive[order] - divergence(FIRST, order), math.exp(BUDGET.epsilon) / ratio)
            for _, ratio in FIRST
        ]
        assert 0.9 * BUDGET.delta < delta_of(FIRST, alone) <= BUDGET.delta


def test_the_same_strategy_stays_within_delta_if_the_orders_share_it() -> None:
    budgets = {order: amount / 1e12 for order, amount in split(BUDGET, ORDERS, 2, 0.0).items()}
    assert 0.9 * BUDGET.delta < delta_of(FIRST, second(budgets)) <= BUDGET.delta


def test_the_ledger_refuses_what_the_naive_rule_would_let_pass() -> None:
    shared = {order: amount / 1e12 for order, amount in split(BUDGET, ORDERS, 2, 0.0).items()}
    naive = {order: BUDGET.loss_at(order) for order in ORDERS}
    for budgets, is_refused in ((naive, True), (shared, False)):
        for answers in second(budgets):
            with PrivacyLedger(
                "sqlite://", budget=BudgetPolicy(BUDGET, orders=ORDERS, release_share=0.0)
            ) as ledger:
                ledger.reserve({"a": as_loss(FIRST)}, order=8.0)
                if is_refused:
                    with pytest.raises(BudgetExhaustedError):
                        ledger.reserve({"a": as_loss(answers)}, order=8.0)
                else:
                    # A hair less, for the charges are rounded up.
                    ledger.reserve({"a": as_loss(answers, less=1e-10)}, order=8.0)


def test_one_order_has_all_of_the_part_for_it_and_several_share_it() -> None:
    for orders, share in ((None, 1), ((4.0,), 1), ((8.0, 2.0, 4.0), 3)):
        with PrivacyLedger("sqlite://", budget=BudgetPolicy(BUDGET, orders=orders)) as ledger:
            ledger.reserve({"a": RenyiLoss(8.0, lambda order: 0.0)}, order=4.0)
            account = ledger.account("a")
            assert account.shares == share
            for balance in account.balances:
                exact = converted(BUDGET, share).loss_at(balance.order)
                assert exact - 2e-12 <= balance.budget <= exact


def test_adaptive_accounts_have_the_order_of_the_first_request_alone() -> None:
    with PrivacyLedger("sqlite://", budget=BudgetPolicy(BUDGET, orders=(2.0, 8.0))) as ledger:
        account = ledger.curator.open("a", order=4.0, accounting="adaptive")
        assert [balance.order for balance in account.balances] == [4.0]
        assert account.shares == 1


@given(st.floats(0.5, 30.0), st.floats(1e-9, 0.1), st.integers(1, 4), st.floats(0.0, 0.99))
def test_no_budget_converts_to_more_than_epsilon(
    epsilon: float, delta: float, shares: int, release_share: float
) -> None:
    conversion, releases = amounts.split_delta(delta, release_share)
    unused = Fraction(delta) - Fraction(conversion) - Fraction(releases, amounts.CERTAIN)
    assert 0 <= unused < 1e-17 + 4e-16 * delta  # an amount and a rounding of a float
    assert releases <= Fraction(delta) * Fraction(release_share) * amounts.CERTAIN
    try:
        budgets = split(PrivacyBudget(epsilon, delta), (1.5, 2.0, 8.0, 64.0), shares, release_share)
    except PrivacyParameterError:
        return
    for order, amount in budgets.items():
        assert amount > 0
        assert rdp_to_epsilon(amount / 1e12, order, conversion / shares) <= epsilon


def test_orders_where_nothing_can_be_certified_are_dropped_but_keep_their_share() -> None:
    budget = PrivacyBudget(6.0, 1e-5)
    assert set(split(budget, (2.0, 4.0, 8.0), 3, 0.0)) == {4.0, 8.0}
    assert split(budget, (2.0, 4.0, 8.0), 3, 0.0)[8.0] == split(budget, (8.0,), 3, 0.0)[8.0]
    with pytest.raises(PrivacyParameterError, match=r"alone costs 10\.13"):
        split(budget, (2.0,), 1, 0.0)


def test_the_longest_prefix_wins() -> None:
    policy = BudgetPolicy(
        None, {"a": PrivacyBudget(1.0), "a/b/": PrivacyBudget(2.0), "a/": PrivacyBudget(3.0)}
    )
    epsilons = []
    for unit in ("a/b/c", "a/c", "abc", "b"):
        budget = policy.budget_for(unit)
        epsilons.append(None if budget is None else budget.epsilon)
    assert epsilons == [2.0, 3.0, 1.0, None]


def test_collections_hold_all_spellings_of_their_units() -> None:
    policy = BudgetPolicy(PrivacyBudget(1.0), {" .\\HR/": PrivacyBudget(2.0)})
    for unit, epsilon in (("hr/a", 2.0), ("./HR//b", 2.0), ("x/../hr/c", 2.0), ("hr/", 2.0), ("hr-old", 1.0)):
        budget = policy.budget_for(unit)
        assert budget is not None
        assert budget.epsilon == epsilon


@pytest.mark.parametrize(
    "arguments",
    [
        {"collections": {"hr/": BUDGET, "./HR/": BUDGET}},
        {"collections": {" ": BUDGET}},
        {"default": 8.0},
        {"collections": {"a": 8.0}},
        {"collections": {"": BUDGET}},
        {"orders": ()},
        {"orders": (1.0,)},
        {"orders": (2.0, math.inf)},
        {"release_share": -0.1},
        {"release_share": 1.0},
        {"release_share": math.nan},
        {"release_share": "a tenth"},
    ],
)
def test_policies_out_of_range_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(PrivacyParameterError):
        BudgetPolicy(**arguments)  # type: ignore[arg-type]


def test_a_policy_does_not_change_with_the_mapping_it_was_made_from() -> None:
    budgets = {"a": PrivacyBudget(1.0)}
    policy = BudgetPolicy(None, budgets)
    budgets["a"] = PrivacyBudget(99.0)
    assert policy.budget_for("a") == PrivacyBudget(1.0)
