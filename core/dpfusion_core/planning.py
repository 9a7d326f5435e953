"""From a request's options to what it may cost its privacy units. Nothing is charged here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.ledger.policy import conversion_delta
from dpfusion_core.options import HOW, Options
from dpfusion_core.privacy import (
    FusionRule,
    MixtureRule,
    Neighbours,
    PrivacyBudget,
    PrivacyParameters,
    RenyiLoss,
    best_epsilon,
    calibrate_beta,
    response_loss,
)
from dpfusion_core.privacy.adaptive import adaptive_loss
from dpfusion_core.privacy.capping import mixing_loss_of
from dpfusion_core.privacy.choosing import ChoiceSettings, best_choice_settings
from dpfusion_core.privacy.shares import token_budgets
from dpfusion_core.privacy.steady import SteadyRule
from dpfusion_core.tagging.naming import check_lasting


@dataclass(frozen=True)
class Plan:
    """What a request with private text may cost its units.

    Attributes:
        options: What the request asks for.
        parameters: Per-token settings.
        units: The units of the request.
        together: How many of them take part in a token at least. The more take part, the less one of them
            loses by it at the same bound and cap (docs/theory.md, section 3, formula 1c), so this number
            bounds the loss of each.
        is_shared: Whether epsilon is shared with other responses, and so is kept at one order alone.
        shares: How the tokens share what the response may cost; None for evenly.
        is_steady: Whether the weight of a unit that is alone is to be the same whatever it says.
    """

    options: Options
    parameters: PrivacyParameters
    units: tuple[str, ...]
    together: int
    is_shared: bool
    shares: tuple[float, ...] | None = None
    is_steady: bool = False

    @property
    def loss(self) -> RenyiLoss:
        """What the response costs each unit at most; public."""
        is_kept_at_one = self.options.accounting == "adaptive" or self.shares is not None
        worst = adaptive_loss if is_kept_at_one else response_loss
        return worst(self.parameters, self.together, self.options.max_tokens)

    @property
    def order(self) -> float:
        """The order at which a new account of a unit is kept.

        Responses that share a budget are all charged at the order of the bound: losses add up at one order,
        and which order converts best depends on the number of units. One on its own takes the order at which
        it converts to the smallest epsilon.
        """
        if self.options.accounting == "adaptive" or self.is_shared:
            return self.parameters.order
        return best_epsilon(self.loss.at, self.parameters.order, self.parameters.delta).order

    @property
    def neighbours(self) -> Neighbours:
        """The neighbour relation of the loss."""
        return self.parameters.neighbours

    @property
    def note(self) -> dict[str, int]:
        """Public facts for the ledger's log."""
        return {"max_tokens": self.options.max_tokens, "units": len(self.units)}

    @property
    def asked_delta(self) -> float:
        """The delta that was asked for; that of the parameters is its part for the conversion."""
        return self.options.delta

    def rule(self) -> FusionRule:
        """Return the rule that fuses the views' distributions."""
        rule = MixtureRule.of(self.parameters)
        return SteadyRule(rule) if self.is_steady else rule

    @property
    def is_refundable(self) -> bool:
        """Whether what a unit did not lose is given back.

        Under replace neighbours the realised loss of an adaptive response is not: each token costs a
        constant whatever the unit itself loses.
        """
        return self.options.accounting == "adaptive" and self.parameters.neighbours == "zero-out"


def make_plan(
    options: Options,
    units: Sequence[str],
    ledger: PrivacyLedger | None,
    together: int | None = None,
    choices: int | None = None,
    shares: tuple[float, ...] | None = None,
) -> Plan:
    """Return what a request with private text may cost.

    Args:
        options: The request's options.
        units: Its privacy units, one at least.
        ledger: Accounts that it keeps already say from which order on a request can be charged.
        together: How many units take part in a token at least; by default all of them.
        choices: Of how many choices one is taken in the place of a token; None for text.
        shares: How the tokens share what the response may cost; None for evenly. Fixed accounting only.

    Raises:
        PrivacyParameterError: If the options say no budget, epsilon cannot be met, or a ledger is to charge
            a unit whose id does not last.
    """
    if ledger is not None:
        check_lasting(units)
    together = len(units) if together is None else together
    is_shared = options.epsilon is not None and (
        options.responses > 1 or ledger is not None or shares is not None
    )
    if options.epsilon is not None:
        order, cap, delta = options.order, options.weight_cap, options.delta
        if ledger is not None:  # whose accounts hold a part of delta back for releases
            delta = conversion_delta(delta, ledger.release_share)
        best = (
            None
            if choices is None
            else partial(_choice_settings, options, delta, choices, together, is_shared)
        )
        if order is None:
            order = order_of_accounts(
                PrivacyBudget(options.epsilon, delta),
                None if ledger is None else ledger.orders(units),
                None if best is None else lambda: best(None).order,
            )
        if best is not None:
            cap = best(order).weight_cap
        parameters = calibrate_beta(
            options.epsilon,
            delta,
            options.max_tokens * options.responses,
            together,
            order,
            options.neighbours,
            accounting=options.accounting,
            is_shared=is_shared,
            responses=options.responses,
            weight_cap=cap,
        )
    else:
        parameters = stated_parameters(options, together)
    if shares is not None:
        if options.accounting != "fixed":
            raise PrivacyParameterError(
                "shares go with accounting='fixed': adaptive accounting shares by itself."
            )
        token_budgets(parameters, together, shares)
    return Plan(options, parameters, tuple(units), together, is_shared, shares)


def stated_parameters(options: Options, together: int) -> PrivacyParameters:
    """Return the per-token settings that a request says itself, by order and beta.

    Args:
        options: The request's options. Without a weight cap there is none; under replace neighbours a cap
            says what ``mixing_loss`` is, if that is not said.
        together: How many units take part in a token at least.

    Raises:
        PrivacyParameterError: If they are not said.
    """
    if options.order is None or options.beta is None:
        raise PrivacyParameterError(f"The request has private text but no privacy parameters. {HOW}")
    cap = 1.0 if options.weight_cap is None or together == 1 else options.weight_cap
    mixing_loss = options.mixing_loss
    if options.neighbours == "replace" and mixing_loss is None and cap < 1.0:
        mixing_loss = mixing_loss_of(cap, together)
    return PrivacyParameters(options.order, options.beta, options.delta, options.neighbours, mixing_loss, cap)


def order_of_accounts(
    budget: PrivacyBudget, kept: float | None, best: Callable[[], float] | None
) -> float | None:
    """Return the order at which accounts are kept already, if a response within ``budget`` can be.

    An account can be charged for bounds at its own order or above: where the budget allows nothing at
    that order, it is the best one above. Without accounts it is the best one; None leaves it to the calibration.
    """
    if kept is None:
        return None if best is None else best()
    if budget.loss_at(kept) > 0.0:
        return kept
    return max(kept, budget.best_order() if best is None else best())


def _choice_settings(
    options: Options, delta: float, choices: int, together: int, is_shared: bool, order: float | None
) -> ChoiceSettings:
    assert options.epsilon is not None
    return best_choice_settings(
        PrivacyBudget(options.epsilon, delta),
        choices,
        options.max_tokens * options.responses,
        together,
        options.neighbours,
        options.accounting,
        is_shared,
        order,
        options.weight_cap,
    )
