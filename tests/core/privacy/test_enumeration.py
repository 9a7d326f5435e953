"""docs/theory.md, section 9.1: every response of a toy model is enumerated, and no pair of neighbours diverges by
more than the accountant says."""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from dpfusion_core.options import Options
from dpfusion_core.planning import make_plan
from dpfusion_core.privacy import (
    SPENDING_RULES,
    Accountant,
    AdaptiveAccountant,
    FixedAccountant,
    MixtureRule,
    Neighbours,
    PrivacyParameters,
    Spending,
    rdp_to_epsilon,
    response_loss,
    token_loss,
)
from dpfusion_core.privacy.capping import mixing_loss_of
from dpfusion_core.privacy.shares import ShareAccountant
from tests.core.privacy import oracle
from tests.core.privacy.oracle import (
    NextToken,
    Prefix,
    Responses,
    exact_delta,
    response_divergence,
    responses,
)

ROUNDING = 1 + 1e-9


def constant(*probabilities: float) -> NextToken:
    """Return a view whose next token does not depend on the prefix."""
    row = torch.tensor(probabilities, dtype=torch.float64).log()
    return lambda prefix: row


def table(
    seed: int, vocab: int, scale: float, base: NextToken | None = None, zeros: bool = False
) -> NextToken:
    """Return a view with random rows, near ``base`` if given; with ``zeros`` one token is impossible."""

    @functools.cache
    def next_token(prefix: Prefix) -> Tensor:
        rng = np.random.default_rng([seed, len(prefix), *prefix])
        logits = torch.from_numpy(scale * rng.normal(size=vocab))
        logits = logits if base is None else logits + base(prefix)
        if zeros:
            logits[int(rng.integers(vocab))] = -math.inf
        return logits.log_softmax(dim=-1)

    return next_token


class Setting:
    """Parameters, their accountant, and the responses of the toy model under them."""

    def __init__(
        self,
        parameters: PrivacyParameters,
        units: int,
        max_tokens: int,
        eos: int | None = 0,
        spending: Spending | None = None,
    ) -> None:
        self.parameters, self.max_tokens, self._eos = parameters, max_tokens, eos
        self.accountant: Accountant = FixedAccountant(parameters, units, max_tokens)
        if spending is not None:
            self.accountant = AdaptiveAccountant(parameters, units, max_tokens, spending=spending)
            self.budget = response_loss(parameters, units, max_tokens).at(parameters.order)
        self.worst = response_loss(parameters, units, max_tokens)

    def responses(self, public: NextToken, private: list[NextToken]) -> Responses:
        rule = MixtureRule.of(self.parameters)
        return responses(public, private, rule, self.accountant, self.max_tokens, self._eos)

    def limit(self, order: float) -> float:
        """Adaptive accounting: the filter is at alpha, and what holds there holds below."""
        return self.worst.at(order) if isinstance(self.accountant, FixedAccountant) else self.budget

    def assert_covers(self, first: Responses, second: Responses) -> None:
        """Check the loss at several orders and the printed epsilon."""
        alpha = self.parameters.order
        for order in (1 + (alpha - 1) / 16, 1 + (alpha - 1) / 2, alpha):
            assert response_divergence(first, second, order) <= self.limit(order) * ROUNDING
        guarantee = self.accountant.guarantee(private=True)
        assert exact_delta(first, second, guarantee.epsilon) <= guarantee.delta


def neighbours_of(
    public: NextToken, private: list[NextToken], unit: int, relation: Neighbours, vocab: int
) -> list[list[NextToken]]:
    """Return the private views after a change of one unit."""
    others = [public]
    if relation == "replace":
        others += [table(90 + unit, vocab, 3.0), table(91 + unit, vocab, 1.0, public, zeros=True)]
    return [[*private[:unit], other, *private[unit + 1 :]] for other in others]


SIZES = [(1, 1.0), *itertools.product((2, 3), (1.0, 0.5, 0.2))]  # units, and the cap of their weights


@pytest.mark.parametrize("relation", ["zero-out", "replace"])
@pytest.mark.parametrize("units, cap", SIZES)
@pytest.mark.parametrize(
    "alpha, beta, delta", [(1.5, 0.3, 0.2), (2.0, 0.02, 1e-5), (2.0, 1e-4, 0.05), (8.0, 0.05, 0.01)]
)
def test_no_neighbours_diverge_by_more_than_reported(
    alpha: float, beta: float, delta: float, units: int, cap: float, relation: Neighbours
) -> None:
    """Random tables of 3 tokens, one of them the end; views with impossible tokens among them."""
    parameters = PrivacyParameters(alpha, beta, delta, relation, weight_cap=cap)
    setting = Setting(parameters, units, max_tokens=3)
    public = table(1, 3, 1.0)
    private = [table(10, 3, 2.0), table(11, 3, 3.0, public, zeros=True), table(12, 3, 0.1, public)][:units]
    whole = setting.responses(public, private)
    assert math.fsum(whole.values()) == pytest.approx(1.0, abs=1e-12)
    assert len(whole) == 1 + 2 + 4 * 3
    for unit in range(units):
        for changed in neighbours_of(public, private, unit, relation, 3):
            setting.assert_covers(whole, setting.responses(public, changed))


@pytest.mark.parametrize("units, cap", [(2, 0.5), (3, 0.5), (3, 0.2)])
@pytest.mark.parametrize("text", [constant(1.0, 0.0), constant(0.0, 1.0)], ids=["forward", "reverse"])
def test_report_is_nearly_reached_with_capped_weights(text: NextToken, units: int, cap: float) -> None:
    """Two-sided: where losses are small and the others are silent, all that is missing is ``kappa``."""
    setting = Setting(PrivacyParameters(2.0, 1e-4, weight_cap=cap), units, max_tokens=3, eos=None)
    public = constant(0.1, 0.9) if text((0,))[0] == 0.0 else constant(0.9, 0.1)
    silent = [public] * (units - 1)
    whole, without = (setting.responses(public, [each, *silent]) for each in (text, public))
    kappa = float(oracle.moved_share(units, cap))
    assert response_divergence(whole, without, 2.0) == pytest.approx(kappa * setting.limit(2.0), rel=0.02)
    setting.assert_covers(whole, without)


@pytest.mark.parametrize("units, cap", [(2, 0.5), (3, 0.2)])
@pytest.mark.parametrize("spending", [None, *sorted(SPENDING_RULES)])
@pytest.mark.parametrize("beta", [0.002, 1.5])
def test_two_contents_of_a_capped_unit_stay_within_the_report(
    beta: float, spending: Spending | None, units: int, cap: float
) -> None:
    """The others say what is rare without them; one content calls for a rare token, the other forbids it."""
    parameters = PrivacyParameters(2.0, beta, 1e-5, "replace", mixing_loss_of(cap, units), cap)
    setting = Setting(parameters, units, max_tokens=3, eos=None, spending=spending)
    public = constant(0.02, 0.96, 0.02)
    others = [constant(0.0, 0.0, 1.0)] * (units - 1)
    texts = [public, constant(1.0, 0.0, 0.0), constant(0.0, 1.0, 0.0), constant(0.0, 0.0, 1.0)]
    made = [setting.responses(public, [each, *others]) for each in texts]
    for first, second in itertools.combinations(made, 2):
        setting.assert_covers(first, second)
    if beta == 0.002 and spending is None:  # the constant is needed
        assert response_divergence(made[1], made[2], 2.0) > 3 * token_loss(0.004, units, 2.0, cap)


@pytest.mark.parametrize("tokens", [1, 2, 4])
@pytest.mark.parametrize("alpha, beta", [(1.5, 0.3), (2.0, 0.02), (8.0, 0.05), (2.0, 1e-4)])
@pytest.mark.parametrize(
    "public, private",
    [
        (constant(1e-3, 0.999), constant(1.0, 0.0)),  # D(m ‖ q) is the larger
        (constant(0.3, 0.7), constant(0.0, 1.0)),  # D(q ‖ m) is the larger
        (constant(0.5, 0.2, 0.3), constant(0.0, 0.9, 0.1)),
    ],
    ids=["forward", "reverse", "mixed"],
)
def test_report_is_reached_for_one_unit(
    public: NextToken, private: NextToken, alpha: float, beta: float, tokens: int
) -> None:
    """Two-sided: with one unit and nothing that ends early, the reported loss is the true one."""
    setting = Setting(PrivacyParameters(alpha, beta), 1, tokens, eos=None)
    whole, without = (setting.responses(public, [row]) for row in (private, public))
    limit = setting.limit(alpha)
    assert limit * (1 - 1e-5) <= response_divergence(whole, without, alpha) <= limit * ROUNDING
    setting.assert_covers(whole, without)


def test_end_of_sequence_on_the_first_token_is_paid_for() -> None:
    """Whether the response is empty tells as much as any other token."""
    setting = Setting(PrivacyParameters(2.0, 0.02), 1, max_tokens=1)
    public = constant(1e-3, 0.999)
    whole, without = setting.responses(public, [constant(1.0, 0.0)]), setting.responses(public, [public])
    assert response_divergence(whole, without, 2.0) == pytest.approx(0.04, rel=1e-5)
    setting.assert_covers(whole, without)


RARE, COMMON = constant(1e-3, 0.999), constant(0.1, 0.9)


@pytest.mark.parametrize("units", [1, 2, 3])
@pytest.mark.parametrize("public", [RARE, COMMON], ids=["rare", "common"])
@pytest.mark.parametrize("mixing_loss", [None, 0.005, 0.5])
@pytest.mark.parametrize("alpha, beta", [(2.0, 0.01), (8.0, 0.05)])
def test_two_contents_with_the_same_public_view_stay_within_the_report(
    alpha: float, beta: float, mixing_loss: float | None, public: NextToken, units: int
) -> None:
    """One content calls for the rare token, the other forbids it."""
    parameters = PrivacyParameters(alpha, beta, neighbours="replace", mixing_loss=mixing_loss)
    setting = Setting(parameters, units, max_tokens=3, eos=None)
    calls, forbids = constant(1.0, 0.0), constant(0.0, 1.0)
    rest = [table(30 + unit, 2, 1.0) for unit in range(units - 1)]
    made = [setting.responses(public, [first, *rest]) for first in (calls, forbids, public)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        setting.assert_covers(made[first], made[second])


def test_without_the_cap_replace_neighbours_are_far_apart() -> None:
    """The example of docs/theory.md, section 3: both contents obey the bound 0.02, and D_2 is 0.5."""
    parameters = PrivacyParameters(2.0, 0.01, neighbours="replace")
    accountant = FixedAccountant(parameters, 1, 1)
    contents = constant(1.0, 0.0), constant(0.0, 1.0)
    for mixing_loss, low, high in ((None, 0.3, 10.0), (parameters.surcharge, 0.02, 0.04)):
        rule = MixtureRule(2.0, mixing_loss)
        first, second = (responses(RARE, [row], rule, accountant, 1) for row in contents)
        assert low < response_divergence(first, second, 2.0) <= high


def test_replace_neighbours_diverge_by_more_than_the_bound_alone() -> None:
    """So the surcharge is needed: without it the report would be wrong by a factor of 4."""
    setting = Setting(PrivacyParameters(2.0, 0.01, neighbours="replace", mixing_loss=0.5), 1, 3, eos=None)
    whole, other = (setting.responses(COMMON, [row]) for row in (constant(1.0, 0.0), constant(0.0, 1.0)))
    assert 4 * (3 * 0.02) < response_divergence(whole, other, 2.0) <= setting.limit(2.0)


@pytest.mark.parametrize("alpha, beta, delta", [(8.0, 0.05, 0.05), (4.0, 0.1, 0.1), (32.0, 0.01, 0.02)])
def test_printed_epsilon_covers_the_exact_delta(alpha: float, beta: float, delta: float) -> None:
    """Two-sided: at a third of the printed epsilon the exact delta is beyond the promised one."""
    setting = Setting(PrivacyParameters(alpha, beta, delta), 1, max_tokens=4, eos=None)
    whole = setting.responses(constant(0.3, 0.7), [constant(0.0, 1.0)])
    without = setting.responses(constant(0.3, 0.7), [constant(0.3, 0.7)])
    epsilon = setting.accountant.guarantee(private=True).epsilon
    assert epsilon > 0
    assert exact_delta(whole, without, epsilon) <= delta < exact_delta(whole, without, epsilon / 3)


@pytest.mark.parametrize("relation", ["zero-out", "replace"])
@pytest.mark.parametrize("units, cap", [(1, 1.0), (3, 1.0), (3, 0.5)])
@pytest.mark.parametrize("alpha, beta, delta", [(2.0, 0.02, 1e-5), (8.0, 0.05, 0.01)])
def test_no_neighbours_diverge_by_more_than_the_shares_add_up_to(
    alpha: float, beta: float, delta: float, units: int, cap: float, relation: Neighbours
) -> None:
    parameters = PrivacyParameters(alpha, beta, delta, relation, weight_cap=cap)
    setting = Setting(parameters, units, 3, spending="growing")  # at one order, as shares are
    setting.accountant = ShareAccountant(parameters, units, [0.8, 1.5, 0.7])
    public = table(1, 3, 1.0)
    private = [table(10, 3, 2.0), table(11, 3, 3.0, public, zeros=True), table(12, 3, 0.1, public)][:units]
    whole = setting.responses(public, private)
    for unit in range(units):
        for changed in neighbours_of(public, private, unit, relation, 3):
            setting.assert_covers(whole, setting.responses(public, changed))


@pytest.mark.parametrize("units, cap", [(2, 1.0), (2, 0.5), (3, 0.2)])
def test_shares_are_reached_but_for_kappa(units: int, cap: float) -> None:
    """Two-sided, as for even tokens: a share that forgets the cap is beyond it."""
    parameters = PrivacyParameters(2.0, 1e-4, weight_cap=cap)
    setting = Setting(parameters, units, 3, eos=None, spending="growing")
    setting.accountant = ShareAccountant(parameters, units, [0.8, 1.5, 0.7])
    public, text = constant(0.9, 0.1), constant(1.0, 0.0)
    whole, without = (setting.responses(public, [each, *[public] * (units - 1)]) for each in (text, public))
    kappa = float(oracle.moved_share(units, cap))
    assert response_divergence(whole, without, 2.0) == pytest.approx(kappa * setting.budget, rel=0.03)


RULES = sorted(SPENDING_RULES)


@pytest.mark.parametrize("relation", ["zero-out", "replace"])
@pytest.mark.parametrize("units, cap", [size for size in SIZES if size[1] > 0.2])
@pytest.mark.parametrize("spending", RULES)
@pytest.mark.parametrize("alpha, beta, delta", [(1.5, 0.3, 0.2), (2.0, 0.02, 1e-5), (8.0, 0.05, 0.01)])
def test_no_neighbours_diverge_by_more_than_the_budget(
    alpha: float, beta: float, delta: float, spending: Spending, units: int, cap: float, relation: Neighbours
) -> None:
    parameters = PrivacyParameters(alpha, beta, delta, relation, weight_cap=cap)
    setting = Setting(parameters, units, 3, spending=spending)
    public = table(1, 3, 1.0)
    private = [table(10, 3, 2.0), table(11, 3, 3.0, public, zeros=True), table(12, 3, 0.1, public)][:units]
    whole = setting.responses(public, private)
    assert math.fsum(whole.values()) == pytest.approx(1.0, abs=1e-12)
    for unit in range(units):
        for changed in neighbours_of(public, private, unit, relation, 3):
            setting.assert_covers(whole, setting.responses(public, changed))


def late(first: NextToken, then: NextToken, step: int) -> NextToken:
    """Return a view that changes at a step: quiet tokens before loud ones, or the other way round."""
    return lambda prefix: (first if len(prefix) < step else then)(prefix)


@pytest.mark.parametrize("spending", RULES)
@pytest.mark.parametrize("step", [0, 1, 3])
def test_adaptive_budget_is_never_exceeded_and_saved_budget_is_used(spending: Spending, step: int) -> None:
    """Two-sided: after quiet tokens the rules that carry over reach the whole budget, the constant one
    only its share."""
    setting = Setting(PrivacyParameters(2.0, 0.02), 1, 4, eos=None, spending=spending)
    public = constant(1e-3, 0.999)
    whole = setting.responses(public, [late(public, constant(1.0, 0.0), step)])
    divergence = response_divergence(whole, setting.responses(public, [public]), 2.0)
    used = divergence / setting.budget
    assert used <= ROUNDING
    assert used > 0.95 * (1.0 if spending != "capped" or step < 4 else 0.0)


@pytest.mark.parametrize("spending", RULES)
@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize("public", [RARE, COMMON], ids=["rare", "common"])
@pytest.mark.parametrize("mixing_loss", [0.005, 0.02, 0.5])
def test_two_contents_stay_within_the_budget_also_where_one_of_them_is_exhausted(
    mixing_loss: float, public: NextToken, units: int, spending: Spending
) -> None:
    """One content is loud at first, the other at last: they run out of budget at different tokens."""
    parameters = PrivacyParameters(2.0, 0.01, neighbours="replace", mixing_loss=mixing_loss)
    setting = Setting(parameters, units, max_tokens=4, eos=None, spending=spending)
    calls, forbids = constant(1.0, 0.0), constant(0.0, 1.0)
    contents = [late(calls, public, 2), late(public, forbids, 2), calls, forbids, late(forbids, calls, 2)]
    rest = [table(30 + unit, 2, 1.0) for unit in range(units - 1)]
    made = [setting.responses(public, [content, *rest]) for content in contents]
    for first, second in itertools.combinations(made, 2):
        setting.assert_covers(first, second)


def certified(losses: Sequence[float], order: float, delta: float) -> float:
    return rdp_to_epsilon(math.fsum(losses), order, delta)


@pytest.mark.parametrize("relation", ["zero-out", "replace"])
@pytest.mark.parametrize("calls", [(1, 60, 1, 60), (60, 60, 1), (1, 2, 3, 30)], ids=str)
def test_calls_with_different_numbers_of_units_share_one_budget(
    calls: tuple[int, ...], relation: Neighbours
) -> None:
    """Exact: each call's loss by enumeration, added up at every order; some order gives epsilon."""
    epsilon, delta, tokens = 16.0, 1e-5, 2
    public, loud, other = constant(1e-3, 0.999), constant(1.0, 0.0), constant(0.5, 0.5)
    ends = []
    for units in calls:
        plan = make_plan(
            Options(
                epsilon=epsilon, delta=delta, responses=len(calls), neighbours=relation, max_tokens=tokens
            ),
            [str(i) for i in range(units)],
            None,
        )
        assert plan is not None
        setting = Setting(plan.parameters, units, tokens, eos=None)
        rest = [other] * (units - 1)
        changed = constant(0.0, 1.0) if relation == "replace" else public
        pair = [setting.responses(public, [first, *rest]) for first in (loud, changed)]
        ends.append((setting, pair[0], pair[1]))
    alpha = min(setting.parameters.order for setting, _, _ in ends)
    exact = [response_divergence(first, second, alpha) for _, first, second in ends]
    stated = [setting.worst.at(alpha) for setting, _, _ in ends]
    assert all(a <= b * ROUNDING for a, b in zip(exact, stated, strict=True))
    orders = [1 + (alpha - 1) * step / 50 for step in range(1, 51)]
    best = min(certified([setting.worst.at(a) for setting, _, _ in ends], a, delta) for a in orders)
    assert best <= epsilon
    assert best > 0.95 * epsilon  # nothing is thrown away


def test_calls_of_one_and_of_a_hundred_units_certify_what_was_asked() -> None:
    """Four calls of 100 tokens; each alone would convert best at an order of its own."""
    plans = [
        make_plan(Options(epsilon=16.0, responses=4, max_tokens=100), [str(i) for i in range(n)], None)
        for n in (1, 100)
    ]
    alpha = plans[0].parameters.order
    assert {plan.parameters.order for plan in plans} == {plan.order for plan in plans} == {alpha}
    orders = [1 + (alpha - 1) * step / 200 for step in range(1, 201)]
    for mix in itertools.combinations_with_replacement(plans, 4):
        best = min(certified([plan.loss.at(a) for plan in mix], a, 1e-5) for a in orders)
        assert best <= 16.0
