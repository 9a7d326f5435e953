"""The ledger that the engine talks to: reserve, generate, settle."""

import secrets
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

from dpfusion_core import _validate
from dpfusion_core.errors import LedgerError, PrivacyParameterError
from dpfusion_core.ledger import amounts, chain, charges
from dpfusion_core.ledger.account import Account, Reservation, as_account, no_account
from dpfusion_core.ledger.base import Access, check_choice, check_kind
from dpfusion_core.ledger.chain import AccountState
from dpfusion_core.ledger.curator import LedgerCurator
from dpfusion_core.ledger.policy import BudgetPolicy
from dpfusion_core.privacy.budget import PrivacyBudget, RenyiLoss
from dpfusion_core.privacy.parameters import Accounting, Neighbours
from dpfusion_core.units import unit_id


class PrivacyLedger:
    """Holds what every privacy unit may lose and has lost; refuses what does not fit.

    Reserve, generate, settle: the worst case is charged before the first token, and what was not used
    is given back after the last. Whatever happens in between, a unit has been charged at least what
    was released. One ledger may be used by many threads, processes and, on PostgreSQL, hosts.

    A unit's budget, its kind of accounting, its neighbour relation and the orders at which it is kept
    are fixed when it is first used. Amounts are kept as integers of 1e-12 nats, charges rounded up and budgets down.

    Args:
        url: SQLAlchemy URL of a SQLite file or a PostgreSQL database. Nothing is opened before the
            first use. ``sqlite://`` is a ledger in memory, for trials.
        budget: Budget of units that are met for the first time, or a policy. None: only units whose
            account was opened with ``open`` may be used.
        key: Secret from which the hashes of unit ids and the codes of the log are derived. Default:
            the environment variable ``DPFUSION_LEDGER_KEY``; else, for a SQLite file, a key file
            beside it, made with the ledger. Whoever loses it loses the ledger.
        timeout: How long to wait for other writers or for a connection, in seconds.
        clock: What time it is; for tests.

    Raises:
        PrivacyParameterError: If an argument is out of range, or a server is named without a key.

    Example:
        >>> from dpfusion_core.privacy.budget import PrivacyBudget
        >>> budget = PrivacyBudget(epsilon=8.0, delta=1e-5)
        >>> with PrivacyLedger("sqlite://", budget=budget) as ledger:
        ...     asked = RenyiLoss(max_order=4.0, at=lambda order: 1.5)  # the worst case, in nats
        ...     reservation = ledger.reserve({"doc-17": asked}, order=4.0)
        ...     # ... generate ...
        ...     ledger.settle(reservation, {"doc-17": RenyiLoss(4.0, lambda order: 0.5)})
        ...     [balance] = ledger.account("doc-17").balances
        >>> balance.order, balance.spent
        (4.0, 0.5)
    """

    def __init__(
        self,
        url: str = "sqlite:///dpfusion-ledger.db",
        *,
        budget: PrivacyBudget | BudgetPolicy | None = None,
        key: str | bytes | None = None,
        timeout: float = 30.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._access = Access(url, budget=budget, key=key, timeout=timeout, clock=clock)

    @property
    def curator(self) -> LedgerCurator:
        """What those who answer for the ledger do with it: open, amend, show, export, verify."""
        return LedgerCurator(self._access)

    def close(self) -> None:
        """Close the connections; the ledger cannot be used any more."""
        self._access.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PrivacyLedger({self._access.name!r})"

    @property
    def release_share(self) -> float:
        """Part of delta that is for releases in accounts that this ledger opens."""
        return self._access.policy.release_share

    def entity_key(self) -> bytes:
        """Return the secret from which ids of entities are made: the same as long as the ledger's key is.

        Raises:
            LedgerError: If the ledger cannot be opened.
        """
        return self._access.store.keyring().entities

    def reserve(
        self,
        losses: Mapping[str, RenyiLoss],
        *,
        order: float,
        accounting: Accounting = "fixed",
        neighbours: Neighbours = "zero-out",
        on_exhausted: Literal["raise", "zero-out"] = "raise",
        note: Mapping[str, Any] | None = None,
    ) -> Reservation:
        """Charge the worst case of a request to all of its units, or to none.

        Args:
            losses: The most that each unit may lose, by unit id, in any spelling. Its delta is charged to the
                account's delta for releases.
            order: Rényi order at which a new account is kept, unless the policy names orders.
            accounting: "fixed": a unit can pay all or nothing. "adaptive": it is granted what is left,
                silently, possibly 0; the reservation then tells private things.
            neighbours: The relation that the losses are about; a new account is kept for it.
            on_exhausted: Fixed accounting: what to do about units that cannot pay. "zero-out" grants
                them nothing and charges the others.
            note: Public facts about the request to keep in the log, as values that JSON knows.

        Returns:
            What each unit may lose. It has been charged when this returns.

        Raises:
            BudgetExhaustedError: If a unit cannot pay. Nothing has been charged then.
            PrivacyParameterError: If an argument is out of range, a unit has no budget, or the request
                does not suit an account (kind of accounting, order, budget on record).
            LedgerError: If the ledger cannot be reached, written or trusted. Do not generate.
        """
        order = _validate.order(order, "order")
        check_choice(accounting, ("fixed", "adaptive"), "accounting")
        check_choice(neighbours, ("zero-out", "replace"), "neighbours")
        check_choice(on_exhausted, ("raise", "zero-out"), "on_exhausted")
        if not losses:
            raise PrivacyParameterError("Expected at least one unit to reserve for.")
        for loss in losses.values():
            if not (isinstance(loss, RenyiLoss) and loss.max_order >= order):
                raise PrivacyParameterError(
                    f"Expected a RenyiLoss known up to order={order:g} for every unit."
                )
        # What the request was is on record: the account that it met may have been changed for its sake.
        details: dict[str, Any] = {"accounting": accounting, "neighbours": neighbours}
        details |= {"note": dict(note)} if note else {}
        hashes = self._access.hash(losses)
        if len(set(hashes.values())) < len(hashes):
            raise PrivacyParameterError(
                "Two ids of the request are spellings of one unit (see dpfusion_core.units): each would be "
                "granted the whole of one budget. Name each unit once."
            )
        identifier = secrets.token_hex(16)
        with self._access.store.write() as connection:
            transaction = self._access.transaction(connection)
            states = transaction.accounts(list(hashes.values()))
            asked: dict[str, charges.Charge] = {}
            for unit, loss in losses.items():
                hashed = hashes[unit]
                if hashed in states:
                    charges.check_budget(states[hashed], self._access.policy.budget_for(unit), unit)
                    check_kind(states[hashed], accounting, neighbours, unit)
                else:
                    budget = self._access.policy.budget_for(unit)
                    states[hashed] = self._access.open(
                        transaction, unit, hashed, budget, order, accounting, neighbours
                    )
                asked[unit] = charges.weigh(states[hashed], loss, unit)
            exhausted = tuple(unit for unit, charge in asked.items() if not charge.fits)
            if exhausted and on_exhausted == "raise":
                raise charges.exhausted_error(asked)
            for unit, charge in asked.items():
                state = states[hashes[unit]]
                if charge.fits:
                    charges.apply(state, charge)
                    extra = {"closed": charge.closed} if charge.closed else {}
                    transaction.append(
                        "reserve",
                        state.unit,
                        identifier,
                        charge.charges,
                        details | extra,
                        state,
                        charge.delta,
                    )
                else:
                    transaction.append("reserve", state.unit, identifier, {}, details | {"exhausted": True})
            transaction.finish()
        granted = {
            unit: amounts.nats_at_most(charge.granted) if charge.fits else 0.0
            for unit, charge in asked.items()
        }
        whole = frozenset(unit for unit, charge in asked.items() if charge.is_whole)
        return Reservation(identifier, granted, exhausted, whole)

    def settle(self, reservation: Reservation, used: Mapping[str, RenyiLoss]) -> None:
        """Give back what was reserved and not used.

        If this fails, the reservation stays charged, which is safe.

        Args:
            reservation: What ``reserve`` returned.
            used: What each unit has lost, with its delta. A unit that is not named counts as having lost all
                that was reserved for it, and likewise at orders above a loss's ``max_order``.

        Raises:
            PrivacyParameterError: If a unit is not one of the reservation's.
            LedgerError: If the reservation is unknown or settled already, or the ledger cannot be
                reached, written or trusted.
        """
        named = {unit_id(unit): loss for unit, loss in used.items()}
        if len(named) < len(used) or not named.keys() <= {unit_id(unit) for unit in reservation.granted}:
            raise PrivacyParameterError("Expected the units of the reservation, each once, got others.")
        if not all(isinstance(loss, RenyiLoss) for loss in used.values()):
            raise PrivacyParameterError("Expected a RenyiLoss for every unit.")
        losses = {hashed: named[unit] for unit, hashed in self._access.hash(named, is_reader=True).items()}
        with self._access.store.write(is_durable=False) as connection:
            transaction = self._access.transaction(connection)
            rows = transaction.entries_of(reservation.id)
            if not rows:
                raise LedgerError("The reservation is not in this ledger, so it cannot be settled.")
            if any(row.kind == "settle" for row in rows):
                raise LedgerError("The reservation has been settled already.")
            states = transaction.accounts([row.unit for row in rows])
            for row in rows:
                used_up = losses.get(row.unit)
                back = charges.refunds(chain.read_amounts(row.amounts), used_up)
                delta = charges.refunded_delta(chain.read_delta(row.amounts), used_up)
                state = states.get(row.unit)
                if (
                    state is None
                    or any(_spent(state, order) < amount for order, amount in back.items())
                    or state.release_spent < delta
                ):
                    raise LedgerError("The balances do not agree with the log: run `dpfusion ledger verify`.")
                for order, amount in back.items():
                    state.balances[order].spent -= amount
                state.release_spent -= delta
                transaction.append("settle", state.unit, reservation.id, back, {}, state, delta)
            transaction.finish()

    def account(self, unit: str) -> Account:
        """Return the account of a unit, for the curator.

        Raises:
            PrivacyParameterError: If it has none.
            LedgerError: If the ledger cannot be reached or read.
        """
        [(_, hashed)] = self._access.hash([unit], is_reader=True).items()
        state = self._read_accounts([hashed]).get(hashed)
        if state is None:
            raise no_account(unit)
        return as_account(state, unit_id(unit))

    def orders(self, units: Collection[str]) -> float | None:
        """Return which order a request for these units must at least have.

        Each account can be charged at its smallest order or above; this is the largest of these.
        None if none of the units has an account.

        Raises:
            LedgerError: If the ledger cannot be reached or read.
        """
        from dpfusion_core.ledger.files import MissingLedger

        try:
            states = self._read_accounts(list(self._access.hash(units, is_reader=True).values()))
        except MissingLedger:  # the first reservation will make it
            return None
        smallest = [
            min(order for order, balance in state.balances.items() if balance.is_open)
            for state in states.values()
        ]
        return max(smallest, default=None)

    def _read_accounts(self, hashes: Collection[str]) -> dict[str, AccountState]:
        from dpfusion_core.ledger import reading

        with self._access.store.read() as connection:
            return reading.read_accounts(connection, hashes)


def _spent(state: chain.AccountState, order: float) -> int:
    """Return what was spent at an order; less than nothing if someone took the balance away."""
    return state.balances[order].spent if order in state.balances else -1
