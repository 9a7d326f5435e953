"""Whether a request fits an account, and what it is charged there."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from dpfusion_core.errors import BudgetExhaustedError, PrivacyParameterError
from dpfusion_core.ledger import amounts
from dpfusion_core.ledger.chain import AccountState
from dpfusion_core.privacy.budget import PrivacyBudget, RenyiLoss

_NAMED = 5  # units that an error names; the attribute has them all


@dataclass(frozen=True)
class Charge:
    """What a request is granted by an account.

    Attributes:
        granted: An amount at an order of at most the request's ``max_order``.
        charges: What is charged, by order.
        delta: What is charged of the account's delta for releases, in 1e-18.
        closed: Orders that close, because nothing is known of the loss there.
        share: The part of the asked loss that the account could pay, at most 1.
        is_whole: Whether all that was asked has been granted; private under adaptive accounting.
    """

    granted: int
    charges: Mapping[float, int]
    delta: int
    closed: tuple[float, ...]
    share: Fraction
    is_whole: bool

    @property
    def fits(self) -> bool:
        """Whether the whole asked loss can be paid."""
        return self.share == 1


def weigh(account: AccountState, loss: RenyiLoss, unit: str) -> Charge:
    """Return what ``account`` grants of ``loss``.

    Fixed accounting: the loss fits if it does at some open order at which it is known; it is charged
    at all of these, at those where it does not fit too. Adaptive accounting, which has one order:
    what is left, and no more than asked. The loss's delta is weighed likewise, against what is left of the
    account's delta for releases. Where that is below 0, because the budget was lowered, nothing fits.

    Raises:
        PrivacyParameterError: If nothing is known of the loss at any open order.
    """
    usable = [order for order, each in account.balances.items() if each.is_open and order <= loss.max_order]
    if not usable:
        kept = min(order for order, each in account.balances.items() if each.is_open)
        raise PrivacyParameterError(
            f"The account of unit {unit!r} is kept at order {kept:g}, and this request's loss is known "
            f"up to order {loss.max_order:g} only. Use order >= {kept:g}."
        )
    asked = {order: amounts.charge(loss.at(order)) for order in usable}
    left = {order: account.balances[order].budget - account.balances[order].spent for order in usable}
    delta, delta_left = amounts.delta_charge(loss.delta), account.release_left
    if account.accounting == "adaptive":
        (order,) = usable
        wanted = asked[order]
        available = max(0, left[order]) if delta_left >= 0 else 0
        granted = available if wanted is None else min(wanted, available)
        delta_granted = min(delta, max(0, delta_left))
        is_whole = granted == wanted and delta_granted == delta and delta_left >= 0
        return Charge(granted, {order: granted}, delta_granted, (), Fraction(1), is_whole)
    shares = {order: _share(amount, left[order]) for order, amount in asked.items()}
    best = max(usable, key=lambda order: shares[order])
    share = min(shares[best], _share(delta, delta_left))
    known = {
        order: amount
        for order, amount in asked.items()
        if amount is not None and account.balances[order].spent + amount <= amounts.LARGEST_SUM
    }
    closed = tuple(order for order, each in account.balances.items() if each.is_open and order not in known)
    return Charge(asked[best] or 0, known, delta, closed, share, share == 1)


def apply(account: AccountState, charge: Charge) -> None:
    """Enter a charge into an account."""
    for order, amount in charge.charges.items():
        account.balances[order].spent += amount
    for order in charge.closed:
        account.balances[order].is_open = False
    account.release_spent += charge.delta


def refunds(charged: Mapping[float, int], used: RenyiLoss | None) -> dict[float, int]:
    """Return what is given back of a charge, by order: never more than it was.

    Where nothing is known of what was used, all of it counts as used.
    """
    back = {}
    for order, amount in charged.items():
        spent = amounts.charge(used.at(order)) if used is not None and order <= used.max_order else None
        back[order] = 0 if spent is None else amount - min(spent, amount)
    return back


def refunded_delta(charged: int, used: RenyiLoss | None) -> int:
    """Return what is given back of a charge to the delta for releases, as ``refunds`` does."""
    return 0 if used is None else charged - min(amounts.delta_charge(used.delta), charged)


def exhausted_error(charges: Mapping[str, Charge]) -> BudgetExhaustedError:
    """Return the error that names the units that cannot pay, and what would fit."""
    units = tuple(unit for unit, charge in charges.items() if not charge.fits)
    share = min(charge.share for charge in charges.values())
    named = ", ".join(repr(unit) for unit in units[:_NAMED])
    more = f" and {len(units) - _NAMED} more" if len(units) > _NAMED else ""
    # Rounded down: what is said to fit must fit.
    percent = int(share * 1000) / 10
    advice = (
        f"At most {percent:g}% of the loss asked for would fit: ask for fewer tokens or a smaller beta"
        if percent > 0
        else "Nothing of it would fit"
    )
    return BudgetExhaustedError(
        f"The budget of unit {named}{more} does not suffice. {advice}, leave the unit out "
        '(on_exhausted="zero-out"), or raise its budget (`dpfusion ledger amend`).',
        units=units,
        largest_share=_at_most(share),
    )


def check_budget(account: AccountState, budget: PrivacyBudget | None, unit: str) -> None:
    """Check that an account agrees with the budget its unit should have.

    The budget it was opened with is accepted too, so that an amendment does not stop applications
    that still state the old one.

    Raises:
        PrivacyParameterError: If it agrees with neither.
    """
    recorded = (account.epsilon, account.delta)
    opened = (account.opened_epsilon, account.opened_delta)
    if budget is None or (budget.epsilon, budget.delta) in (recorded, opened):
        return
    raise PrivacyParameterError(
        f"Unit {unit!r} has a budget of epsilon={recorded[0]}, delta={recorded[1]} on record, not "
        f"epsilon={budget.epsilon}, delta={budget.delta}. State the one on record, or change it "
        f"with a reason: `dpfusion ledger amend`."
    )


def _share(amount: int | None, left: int) -> Fraction:
    if amount is None or left < 0:
        return Fraction(0)
    return Fraction(1) if amount <= left else Fraction(left, amount)


def _at_most(share: Fraction) -> float:
    value = float(share)
    return max(0.0, value - 1e-12) if share < 1 and Fraction(value) > share else value
