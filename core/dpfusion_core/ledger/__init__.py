"""The privacy ledger: a budget per unit, and what has been charged to it over many responses.

docs/theory.md, section 6. Unit ids are stored as keyed hashes; no text is stored at all.
"""

from dpfusion_core.ledger.account import Account, OrderBalance, Reservation
from dpfusion_core.ledger.chain import LedgerEntry, Verification
from dpfusion_core.ledger.ledger import PrivacyLedger
from dpfusion_core.ledger.policy import BudgetPolicy

__all__ = [
    "Account",
    "BudgetPolicy",
    "LedgerEntry",
    "OrderBalance",
    "PrivacyLedger",
    "Reservation",
    "Verification",
]
