"""Make a ledger of many entries, for measuring what looks at all of it: ``big_ledger.py FILE [ENTRIES] [UNITS]``.

Each unit's account is opened, and then charged and settled in turn. The entries are genuine: made by the
ledger's own code, many to a transaction.
"""

import secrets
import sys
import time
from pathlib import Path

from rich.console import Console

from dpfusion_core import BudgetPolicy, PrivacyBudget, PrivacyLedger
from dpfusion_core.ledger.chain import AccountState, Balance
from dpfusion_core.ledger.policy import split

BATCH = 20_000
ORDER, RESERVED, USED = 4.0, 2_000, 1_500  # 1e-12 nats
BUDGET = PrivacyBudget(8.0, 1e-5)
SHARE = BudgetPolicy().release_share


def fill(ledger: PrivacyLedger, entries: int, units: int, name: str = "unit") -> None:
    """Write entries to a new ledger: an account for each of the units, then charges and settlements."""
    ledger.curator.open("first", BUDGET, order=ORDER)
    budget = split(BUDGET, [ORDER], 1, SHARE)[ORDER]
    keyring = ledger._access.store.keyring()
    names = [keyring.unit(f"{name}-{number}") for number in range(units)]
    kind = (8.0, 1e-5, 8.0, 1e-5, "fixed", "zero-out", 1, SHARE, 0)
    states = {name: AccountState(name, *kind, {ORDER: Balance(budget)}) for name in names}
    opened, written = 0, 1
    while written < entries:
        with ledger._access.store.write() as connection:
            transaction = ledger._access.transaction(connection)
            until = min(entries, written + BATCH)
            while written < until:
                if opened < units:
                    name = names[opened]
                    transaction.open(states[name])
                    opened, written = opened + 1, written + 1
                name = names[(written // 3) % opened]
                reservation = secrets.token_hex(16)
                state = states[name]
                state.balances[ORDER].spent += RESERVED
                transaction.append(
                    "reserve", name, reservation, {ORDER: RESERVED}, {"note": {"max_tokens": 100}}, state
                )
                state.balances[ORDER].spent -= RESERVED - USED
                transaction.append("settle", name, reservation, {ORDER: RESERVED - USED}, {}, state)
                written += 2
            transaction.finish()


if __name__ == "__main__":
    path = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    accounts = int(sys.argv[3]) if len(sys.argv) > 3 else count // 3
    start = time.perf_counter()
    with PrivacyLedger(f"sqlite:///{path}") as made:
        fill(made, count, accounts)
    Console().print(f"{path}: {count} entries, {accounts} units, {time.perf_counter() - start:.0f} s")
