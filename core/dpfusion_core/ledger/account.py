"""What callers see of an account and of a reservation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger import amounts
from dpfusion_core.ledger.chain import AccountState
from dpfusion_core.ledger.policy import conversion_delta
from dpfusion_core.privacy.conversion import rdp_to_epsilon
from dpfusion_core.privacy.parameters import Accounting, Neighbours


@dataclass(frozen=True)
class Reservation:
    """The right to lose up to what was reserved, already charged.

    Attributes:
        id: Which reservation.
        granted: What each unit may lose, by the caller's own spelling of its id: in nats, at an order
            that is not above the ``max_order`` of the loss that was asked; 0 for a unit that may lose
            nothing. Not shown by ``repr``: under adaptive accounting it tells what is left of a
            budget, which is private.
        exhausted: Units that were granted nothing because their budget does not suffice. Fixed
            accounting only; always empty under adaptive accounting.
        whole: Units that were granted all that was asked, delta included. Not shown by ``repr``: private
            under adaptive accounting.
    """

    id: str
    granted: Mapping[str, float] = field(repr=False)
    exhausted: tuple[str, ...] = field(default=(), repr=False)
    whole: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True)
class OrderBalance:
    """What an account holds at one order. Amounts are not shown by ``repr``: they may be private.

    Attributes:
        order: Rényi order.
        budget: In nats.
        spent: In nats, reservations included.
        is_open: Whether it is still in use. Closed for ever once a loss was charged about which
            nothing is known at this order.
    """

    order: float
    budget: float = field(repr=False)
    spent: float = field(repr=False)
    is_open: bool


@dataclass(frozen=True)
class Account:
    """The account of a privacy unit, for the curator.

    Attributes:
        unit: The unit's id in normal form; its keyed hash where all accounts are listed.
        epsilon: The budget, in nats.
        delta: The budget's probability.
        accounting: "fixed" or "adaptive". Under adaptive accounting what was spent is private.
        neighbours: The neighbour relation that the budget is about.
        shares: Into how many parts delta's part for the conversion was divided when the account was opened.
        balances: Budget and charges by order.
        release_share: Part of delta that is for releases, set down when the account was opened.
        release_spent: What releases have spent of delta, reservations included. Not shown by ``repr``.
    """

    unit: str
    epsilon: float
    delta: float
    accounting: Accounting
    neighbours: Neighbours
    shares: int
    balances: tuple[OrderBalance, ...]
    release_share: float
    release_spent: float = field(repr=False)

    @property
    def release_delta(self) -> float:
        """What releases may spend of delta in all."""
        return amounts.as_delta(amounts.split_delta(self.delta, self.release_share)[1])

    @property
    def spent_epsilon(self) -> float:
        """What has been spent, as an epsilon at delta's part for it, at the order where it is least.

        For the curator. What is guaranteed is the budget; under adaptive accounting this number is a
        function of private data and no guarantee at all.
        """
        return min(
            rdp_to_epsilon(
                balance.spent, balance.order, conversion_delta(self.delta, self.release_share, self.shares)
            )
            for balance in self.balances
            if balance.is_open
        )


def as_account(state: AccountState, unit: str) -> Account:
    """Return a stored account as callers see it."""
    return Account(
        unit=unit,
        epsilon=state.epsilon,
        delta=state.delta,
        accounting="adaptive" if state.accounting == "adaptive" else "fixed",
        neighbours="replace" if state.neighbours == "replace" else "zero-out",
        shares=state.shares,
        balances=tuple(
            OrderBalance(
                order=order,
                budget=amounts.nats_at_most(balance.budget),
                spent=amounts.nats_at_least(balance.spent),
                is_open=balance.is_open,
            )
            for order, balance in state.balances.items()
        ),
        release_share=state.release_share,
        release_spent=amounts.as_delta(state.release_spent),
    )


def no_account(unit: str) -> PrivacyParameterError:
    """Return what to say of a unit without an account."""
    return PrivacyParameterError(
        f"Unit {unit!r} has no account in this ledger. Accounts are opened by the first request, or by "
        "`dpfusion ledger budget`."
    )
