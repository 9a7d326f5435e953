"""The ledger for those who answer for it: accounts, budgets, the log, and its verification."""

from collections.abc import Iterator, Sequence
from typing import Any

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger import chain, charges
from dpfusion_core.ledger.account import Account, as_account, no_account
from dpfusion_core.ledger.base import Access, check_choice, check_kind
from dpfusion_core.ledger.chain import AccountState, LedgerEntry
from dpfusion_core.ledger.policy import check_share, split
from dpfusion_core.ledger.verification import Progress, Verification, parse_head
from dpfusion_core.privacy.budget import PrivacyBudget
from dpfusion_core.privacy.parameters import Accounting, Neighbours
from dpfusion_core.units import unit_id


class LedgerCurator:
    """What the curator does with a ledger. What it shows may be private under adaptive accounting.

    It is reached from the ledger (:attr:`PrivacyLedger.curator`), which itself can neither open nor amend
    an account by hand, nor read the log: whoever answers requests needs none of that.

    Args:
        access: The ledger's connection, keys and policy.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    def open(
        self,
        unit: str,
        budget: PrivacyBudget | None = None,
        *,
        order: float,
        accounting: Accounting = "fixed",
        neighbours: Neighbours = "zero-out",
    ) -> Account:
        """Open the account of a unit; nothing happens if it is there and agrees.

        Args:
            unit: The unit's id.
            budget: Its budget; the policy's if None.
            order: Rényi order at which the account is kept, unless the policy names orders.
            accounting: For which kind of requests.
            neighbours: The neighbour relation that the budget is about.

        Returns:
            The account.

        Raises:
            PrivacyParameterError: If there is no budget, it cannot be certified at the order, or the
                unit has an account that differs.
            LedgerError: If the ledger cannot be reached, written or trusted.
        """
        order = _validate.order(order, "order")
        check_choice(accounting, ("fixed", "adaptive"), "accounting")
        check_choice(neighbours, ("zero-out", "replace"), "neighbours")
        budget = self._access.policy.budget_for(unit) if budget is None else budget
        [(_, hashed)] = self._access.hash([unit]).items()
        with self._access.store.write() as connection:
            transaction = self._access.transaction(connection)
            state = transaction.accounts([hashed]).get(hashed)
            if state is None:
                state = self._access.open(transaction, unit, hashed, budget, order, accounting, neighbours)
                transaction.finish()
            else:
                charges.check_budget(state, budget, unit)
                check_kind(state, accounting, neighbours, unit)
                self._check_orders(state, order, unit)
        return as_account(state, unit_id(unit))

    def amend(
        self, unit: str, budget: PrivacyBudget, reason: str, *, release_share: float | None = None
    ) -> Account:
        """Change the budget of a unit, on record. The orders of its account stay.

        A budget below what has been spent is allowed: the unit is exhausted then.

        Args:
            unit: The unit's id.
            budget: The new budget.
            reason: Why; it is kept in the log, in plain text.
            release_share: Part of delta that is for releases; None keeps the one of the account.

        Returns:
            The account.

        Raises:
            PrivacyParameterError: If there is no reason or no account, or the budget cannot be
                certified at any order of the account.
            LedgerError: If the ledger cannot be reached, written or trusted.
        """
        if not isinstance(budget, PrivacyBudget):
            raise PrivacyParameterError("Expected budget to be a PrivacyBudget.")
        if not isinstance(reason, str) or not reason.strip():
            raise PrivacyParameterError("Expected a reason for the amendment: it is kept on record.")
        [(_, hashed)] = self._access.hash([unit], is_reader=True).items()
        with self._access.store.write() as connection:
            transaction = self._access.transaction(connection)
            state = transaction.accounts([hashed]).get(hashed)
            if state is None:
                raise no_account(unit)
            if release_share is not None:
                state.release_share = check_share(release_share)
            budgets = split(budget, list(state.balances), state.shares, state.release_share)
            state.epsilon, state.delta = budget.epsilon, budget.delta
            for order, balance in state.balances.items():
                balance.budget = budgets.get(order, 0)
            recorded = {order: balance.budget for order, balance in state.balances.items()}
            details = {"epsilon": budget.epsilon, "delta": budget.delta, "reason": reason.strip()}
            details |= {"shares": state.shares, "release_share": state.release_share}
            transaction.set_budget(state)
            transaction.append("amend", hashed, None, recorded, details, state)
            transaction.finish()
        return as_account(state, unit_id(unit))

    def accounts(self, progress: Progress | None = None) -> Iterator[Account]:
        """Go through all accounts, for the curator; their ``unit`` is the keyed hash of the id.

        Args:
            progress: Is told how many accounts have been read and how many there are.

        Raises:
            LedgerError: If the ledger cannot be reached, read or trusted.
        """
        from dpfusion_core.ledger import reading, schema

        after, done, total = "", 0, 0
        while True:
            with self._access.store.read() as connection:
                total = total or (reading.count_rows(connection, schema.accounts) if progress else 0)
                states = reading.read_page_of_accounts(connection, after)
            for state in states:
                yield as_account(state, state.unit)
            if not states:
                return
            after, done = states[-1].unit, done + len(states)
            if progress is not None:
                progress(done, max(done, total))

    def entries(self, unit: str | None = None, progress: Progress | None = None) -> Iterator[LedgerEntry]:
        """Go through the log, for the curator: all of it, or what concerns one unit.

        Args:
            unit: The unit's id; None for all.
            progress: Is told the number of the entry that has been read and of the last one.

        Raises:
            LedgerError: If the ledger cannot be reached, read or trusted.
        """
        for page in self._pages(unit, progress):
            yield from map(chain.as_entry, page)

    def lines(self, unit: str | None = None, progress: Progress | None = None) -> Iterator[tuple[str, str]]:
        """Go through the log as ``entries`` does, as lines of JSON for an export.

        Yields:
            The head (``seq:hash``) that ends with an entry, and the entry's ``as_dict`` as JSON.

        Raises:
            LedgerError: If the ledger cannot be reached, read or trusted.
        """
        for page in self._pages(unit, progress):
            yield from chain.as_lines(page)

    def verify(self, head: str | None = None, progress: Progress | None = None) -> Verification:
        """Examine the log, and the accounts against it; nothing is written.

        It finds entries that were changed or taken out, accounts that are not what their entries add up to,
        and charges that the budget of their time could not pay. It cannot find that the whole ledger is an
        older copy of itself, such as a backup that was restored: only a head tells.

        Args:
            head: A head that was noted earlier (``seq:hash``): it must still be in the log.
            progress: Is told how many rows have been read and how many there are to read.

        Returns:
            What was found. Problems name accounts by keyed hash, and no amounts.

        Raises:
            PrivacyParameterError: If ``head`` is not a head.
            LedgerError: If the ledger cannot be reached or read.
        """
        from dpfusion_core.ledger import reading

        noted = None if head is None else parse_head(head)
        keyring = self._access.store.keyring(is_reader=True)
        with self._access.store.read() as connection:
            return reading.verify(connection, keyring, noted, progress)

    def _pages(self, unit: str | None, progress: Progress | None) -> Iterator[Sequence[tuple[Any, ...]]]:
        from dpfusion_core.ledger import reading, schema

        hashed = None if unit is None else self._access.hash([unit], is_reader=True)[unit]
        after = total = 0
        while True:
            # A transaction per page: the caller may use the ledger while going through its log.
            with self._access.store.read() as connection:
                total = total or (reading.count_rows(connection, schema.log) if progress else 0)
                page = reading.read_page(connection, after, hashed)
            if not page:
                return
            yield page
            after = page[-1][0]
            if progress is not None:
                progress(after, max(after, total))

    def _check_orders(self, state: AccountState, order: float, unit: str) -> None:
        if order not in state.balances and not self._access.policy.orders:
            kept = ", ".join(f"{each:g}" for each in state.balances)
            raise PrivacyParameterError(f"The account of unit {unit!r} is kept at order {kept} already.")
