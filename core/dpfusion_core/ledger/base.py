"""What all parts of the ledger share: how it is reached, and how an account begins."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dpfusion_core import _validate
from dpfusion_core.errors import LedgerError, PrivacyParameterError
from dpfusion_core.ledger import keys
from dpfusion_core.ledger.chain import AccountState, Balance
from dpfusion_core.ledger.policy import BudgetPolicy, split
from dpfusion_core.privacy.budget import PrivacyBudget
from dpfusion_core.privacy.parameters import Accounting, Neighbours
from dpfusion_core.units import unit_id

if TYPE_CHECKING:  # SQLAlchemy loads when a ledger is first used
    from dpfusion_core.ledger.store import Store
    from dpfusion_core.ledger.transaction import Transaction


class Access:
    """The connection, the keys and the policy of a ledger; ``PrivacyLedger`` describes the arguments."""

    def __init__(
        self,
        url: str = "sqlite:///dpfusion-ledger.db",
        *,
        budget: PrivacyBudget | BudgetPolicy | None = None,
        key: str | bytes | None = None,
        timeout: float = 30.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not isinstance(url, str) or not url.startswith(
            ("sqlite:", "sqlite+", "postgresql:", "postgresql+")
        ):
            raise PrivacyParameterError(
                "Expected the URL of a SQLite file or a PostgreSQL database, e.g. "
                "sqlite:///dpfusion-ledger.db or postgresql://user@host/database."
            )
        if budget is not None and not isinstance(budget, PrivacyBudget | BudgetPolicy):
            raise PrivacyParameterError("Expected budget to be a PrivacyBudget, a BudgetPolicy or None.")
        self._url = url
        self.policy = budget if isinstance(budget, BudgetPolicy) else BudgetPolicy(budget)
        self._secret = keys.from_environment() if key is None else keys.as_secret(key)
        if self._secret is None and not url.startswith("sqlite"):
            raise PrivacyParameterError(
                f"A ledger on a server needs a key: give key=, or set {keys.VARIABLE}. Every host that "
                "uses the ledger needs the same one."
            )
        self._timeout = _validate.positive(timeout, "timeout")
        self._clock = clock
        self._stores: dict[str, Store] = {}  # one at most; a dict, because its setdefault is atomic
        self._is_closed = False

    def close(self) -> None:
        """Close the connections; the ledger cannot be used any more."""
        self._is_closed = True
        for store in self._stores.values():
            store.close()

    @property
    def name(self) -> str:
        """The URL without secrets."""
        from dpfusion_core.ledger.place import describe

        return describe(self._url)

    @property
    def store(self) -> "Store":
        """The rows; opened at the first use.

        Raises:
            LedgerError: If the ledger has been closed.
        """
        if self._is_closed:
            raise LedgerError("The ledger has been closed.")
        if not self._stores:
            from dpfusion_core.ledger.store import Store

            # Of two threads that come here at once, both must get the same store.
            self._stores.setdefault("store", Store(self._url, self._secret, self._timeout))
        return self._stores["store"]

    def transaction(self, connection: Any) -> "Transaction":
        """Return what reads and writes accounts and the log over a connection."""
        from dpfusion_core.ledger.transaction import Transaction

        return Transaction(connection, self.store.keyring(), self._clock())

    def hash(self, units: Collection[str], is_reader: bool = False) -> dict[str, str]:
        """Return what stands for units in the ledger, by the ids that the caller uses."""
        ids = {unit: unit_id(unit) for unit in units}
        keyring = self.store.keyring(is_reader)
        return {unit: keyring.unit(normal) for unit, normal in ids.items()}

    def open(
        self,
        transaction: "Transaction",
        unit: str,
        hashed: str,
        budget: PrivacyBudget | None,
        order: float,
        accounting: Accounting,
        neighbours: Neighbours,
    ) -> AccountState:
        """Open an account, or raise ``PrivacyParameterError`` if nobody says what it may lose."""
        if not isinstance(budget, PrivacyBudget):
            raise PrivacyParameterError(
                f"Unit {unit!r} has no budget. Give the ledger one for every unit (budget=), name the "
                "unit's collection in its BudgetPolicy, or open the account: `dpfusion ledger budget`."
            )
        orders = (self.policy.orders if accounting == "fixed" else None) or (order,)
        budgets = split(budget, orders, len(orders), self.policy.release_share)
        state = AccountState(
            unit=hashed,
            epsilon=budget.epsilon,
            delta=budget.delta,
            opened_epsilon=budget.epsilon,
            opened_delta=budget.delta,
            accounting=accounting,
            neighbours=neighbours,
            shares=len(orders),
            release_share=float(self.policy.release_share),
            release_spent=0,
            balances={each: Balance(amount) for each, amount in budgets.items()},
        )
        transaction.open(state)
        return state


def check_choice(value: str, choices: tuple[str, ...], name: str) -> None:
    """Raise if a value is none of the choices."""
    if value not in choices:
        raise PrivacyParameterError(f"Expected {name} to be one of {', '.join(choices)}, got {value!r}.")


def check_kind(state: AccountState, accounting: str, neighbours: str, unit: str) -> None:
    """Raise if a request cannot be charged to an account because it is of another kind.

    A loss under replace neighbours bounds the one under zero-out neighbours; the reverse is false
    (docs/theory.md, section 3).
    """
    if state.accounting != accounting:
        raise PrivacyParameterError(
            f"The account of unit {unit!r} is for {state.accounting} accounting, and the request is "
            f"{accounting}: the two do not mix. Use accounting={state.accounting!r} for this unit."
        )
    if state.neighbours == "replace" != neighbours:
        raise PrivacyParameterError(
            f"The account of unit {unit!r} is about replace neighbours, and the request is about "
            f"{neighbours} neighbours, which promise less. Use neighbours='replace' for this unit."
        )
