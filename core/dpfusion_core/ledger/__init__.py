"""The privacy ledger: a budget per unit, and what has been charged to it over many responses.

docs/theory.md, section 6. Unit ids are stored as keyed hashes; no text is stored at all.

What ``verify`` finds by itself: entries that were changed, added or taken out; accounts that are not what
their entries add up to; charges that the budget of their time could not pay. What it cannot find is that
the whole ledger is an older copy of itself. After such a rollback every charge since then is forgotten, and
its budget can be spent again. Only a *head* tells: ``verify`` and ``export`` print ``seq:hash`` of the last
entry; note it where those who can write to the ledger cannot, and give it to a later
``dpfusion ledger verify --head``.

A backup that is restored is a rollback: verify it with the last head that was noted, and lower the budgets
by what may have been spent since (``dpfusion ledger amend``). A copy of a SQLite file in use is whole only
with the file ``-wal`` beside it, which holds the latest charges: close all who use it first, or copy it with
``sqlite3 ledger.db ".backup copy.db"``. Keep the key apart from the ledger; both are needed.
"""

from dpfusion_core.ledger.account import Account, OrderBalance, Reservation
from dpfusion_core.ledger.chain import LedgerEntry
from dpfusion_core.ledger.ledger import PrivacyLedger
from dpfusion_core.ledger.policy import BudgetPolicy
from dpfusion_core.ledger.verification import Verification

__all__ = [
    "Account",
    "BudgetPolicy",
    "LedgerEntry",
    "OrderBalance",
    "PrivacyLedger",
    "Reservation",
    "Verification",
]
