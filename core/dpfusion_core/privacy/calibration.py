"""From a budget to per-token settings: the largest ``beta`` that stays within epsilon."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.numbers import at_most
from dpfusion_core.privacy.budget import MAX_ORDER, PrivacyBudget, smallest_epsilon
from dpfusion_core.privacy.capping import default_weight_cap, mixing_loss_of, weight_cap_of
from dpfusion_core.privacy.conversion import orders_up_to
from dpfusion_core.privacy.loss import token_bound
from dpfusion_core.privacy.parameters import Accounting, Neighbours, PrivacyParameters

# Replace neighbours: the share of a token's bound that goes to the cap of the mixing weight, the rest
# to the divergence. `make bench BENCH_ARGS=utility` prints the experiment behind the number.
MIXING_SHARE = 0.7

# A ledger rounds each charge up to 1e-12 nats: responses that may spend a whole budget must fit it.
_SLACK = 4e-12
_ROUNDING = 1e-12

_CAP_STEPS = 60  # of a contraction; any end of it is sound

_COMMON_ORDERS = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0, 256.0)


def calibrate_beta(
    epsilon: float,
    delta: float,
    max_tokens: int,
    num_units: int = 1,
    order: float | None = None,
    neighbours: Neighbours = "zero-out",
    *,
    accounting: Accounting = "fixed",
    is_shared: bool = False,
    responses: int = 1,
    mixing_share: float = MIXING_SHARE,
    weight_cap: float | None = None,
) -> PrivacyParameters:
    r"""Return the per-token settings with the largest ``beta`` that stay within ``epsilon``.

    The loss budget of the response at an order, ``B(a)`` by formula (4), is divided by the number of
    tokens and turned into a bound on the divergence by formula (2). A bound at ``order`` also holds
    at every lower order; the order that allows most is taken. Under adaptive accounting the filter
    keeps its sum at ``order`` alone, so there it is that order. Losses of several responses add up at a
    common order, and which one is best depends on the number of units: a response that shares its budget
    with others is calibrated at ``order`` alone too (docs/theory.md, section 6).

    Args:
        epsilon: What a response of ``max_tokens`` tokens may lose, in nats.
        delta: Probability, from 1e-9 to below 1.
        max_tokens: Largest number of tokens of the response.
        num_units: Number of privacy units of the request.
        order: Rényi order of the per-token bound; by default the one that allows the most divergence
            per order, ``argmax B(a)/a`` (docs/theory.md, section 5).
        neighbours: The neighbour relation.
        accounting: ``"fixed"`` or ``"adaptive"``.
        is_shared: Whether other responses, perhaps with other numbers of units, share the budget.
        responses: How many responses have these tokens together: a ledger rounds up the charge of each.
        mixing_share: For replace neighbours, the share of a token's bound that goes to ``c_inf``.
        weight_cap: Largest weight of any unit where there are several. By default a good one: for zero-out
            neighbours that of the number of units, for replace neighbours the one that costs ``c_inf`` if it is less.

    Returns:
        The settings. Their guarantee is ``epsilon`` to 1e-9, and never above it; below it if
        ``is_shared``, where the sum at ``order`` is what converts to ``epsilon``.

    Raises:
        PrivacyParameterError: If a number is out of range, or epsilon is below what the conversion
            costs at ``order``, or than ``weight_cap`` costs under replace neighbours; the message says
            what would do.

    Example:
        >>> parameters = calibrate_beta(epsilon=8.0, delta=1e-5, max_tokens=100, order=4.0)
        >>> round(parameters.beta, 4), parameters.order
        (0.0123, 4.0)
    """
    budget = PrivacyBudget(epsilon, delta)
    _validate.count(max_tokens, "max_tokens")
    _validate.count(num_units, "num_units")
    if weight_cap is not None:
        _validate.share(weight_cap, "weight_cap")
    _validate.choice(accounting, get_args(Accounting), "accounting")
    order = feasible_order(budget, order)
    orders = orders_up_to(order) if accounting == "fixed" and not is_shared else (order,)
    slack = _SLACK + (_validate.count(responses, "responses") - 1) * _ROUNDING
    losses = [(a, budget.loss_at(a) - slack) for a in orders]
    losses = [(a, loss / max_tokens) for a, loss in losses if loss > 0.0]

    def bound_at(cap: float) -> float:
        return max(token_bound(loss, num_units, a, cap) for a, loss in losses)

    cap = 1.0 if num_units == 1 else weight_cap
    mixing_loss = None
    if neighbours == "replace":
        cap, mixing_loss = _replace_cap(bound_at, num_units, mixing_share, cap)
    elif cap is None:
        cap = default_weight_cap(num_units)
    bound = bound_at(cap) - (mixing_loss or 0.0)
    return PrivacyParameters(order, bound / order, delta, neighbours, mixing_loss, cap)


def _replace_cap(
    bound_at: Callable[[float], float], num_units: int, share: float, cap: float | None
) -> tuple[float, float]:
    """Return a cap that a bound can pay for under replace neighbours, and ``c_inf``, what it costs.

    By default it is the one that a share of the bound pays for, or that of zero-out neighbours if that is less.

    Args:
        bound_at: What a token may diverge, ``c_inf`` included, at a cap.
        num_units: Number of privacy units of the request.
        share: The share of it for ``c_inf``.
        cap: The cap that is asked for; 1 for a unit that is alone, whose weight ``c_inf`` caps.

    Raises:
        PrivacyParameterError: If the cap that is asked for costs more than there is.
    """
    _validate.probability(share, "mixing_share")
    best, mixing_loss = 1.0, share * bound_at(1.0)
    for _ in range(_CAP_STEPS if num_units > 1 else 0):  # the smaller the cap, the less is there to share
        best = weight_cap_of(mixing_loss, num_units)
        mixing_loss = share * bound_at(best)
    if num_units > 1 and best > default_weight_cap(num_units):
        best = default_weight_cap(num_units)
        mixing_loss = mixing_loss_of(best, num_units)
    if num_units == 1 or cap is None:
        return best, mixing_loss
    cost, room = mixing_loss_of(cap, num_units), bound_at(cap)
    if cost >= room:
        raise PrivacyParameterError(
            f"Under replace neighbours weight_cap={cap:g} costs {at_most(cost)} nats per token, and a token may "
            f"lose {at_most(room)} here. Leave weight_cap out for the best one, {best:.3g}, or ask for more epsilon "
            "or fewer tokens."
        )
    return cap, cost


@dataclass(frozen=True)
class OrderChoice:
    """What one order makes of a budget; a row of the table of ``dpfusion calibrate``.

    Attributes:
        order: Rényi order.
        loss: Loss budget of the response in nats at this order; not positive if the order cannot meet
            the target.
        parameters: The per-token settings; None if the order cannot meet the target.
    """

    order: float
    loss: float
    parameters: PrivacyParameters | None


def compare_orders(
    budget: PrivacyBudget,
    max_tokens: int,
    num_units: int = 1,
    neighbours: Neighbours = "zero-out",
    accounting: Accounting = "fixed",
    *more: float,
    weight_cap: float | None = None,
) -> list[OrderChoice]:
    """Return what each of some common orders makes of a budget, and ``more``: by default the one of most room.

    Returns:
        In ascending order. For the other arguments and the errors see :func:`calibrate_beta`.
    """
    rows = []
    for order in sorted({*_COMMON_ORDERS, *(more or (budget.best_order(),))}):
        loss, parameters = budget.loss_at(order), None
        if loss > _SLACK:
            parameters = calibrate_beta(
                budget.epsilon,
                budget.delta,
                max_tokens,
                num_units,
                order,
                neighbours,
                accounting=accounting,
                weight_cap=weight_cap,
            )
        rows.append(OrderChoice(order, loss, parameters))
    return rows


def feasible_order(budget: PrivacyBudget, order: float | None = None) -> float:
    """Return the order to use: ``order``, or the one of most room.

    Raises:
        PrivacyParameterError: If the budget allows nothing there; the message says what could be met.
    """
    best = budget.best_order()
    if order is None:
        order = best
    if budget.loss_at(order) > _SLACK:
        return order
    smallest = smallest_epsilon(order, budget.delta)
    advice = f"ask for more than epsilon={at_most(smallest, 5)}"
    if budget.loss_at(best) > _SLACK:
        advice += f", or take order={best:.3g}"
    elif order < MAX_ORDER:
        advice += f" (at order={MAX_ORDER:g}: {at_most(smallest_epsilon(MAX_ORDER, budget.delta))})"
    raise PrivacyParameterError(
        f"epsilon={budget.epsilon} at delta={budget.delta} cannot be certified at order {order:g}, "
        f"however little the response tells: {advice}."
    )
