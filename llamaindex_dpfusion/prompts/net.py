"""What this process has seen of private text: for the net, and for the accounts of a ledger."""

from dpfusion_core.adapters import PrivateTexts, seen
from dpfusion_core.messages import DEFAULT_UNIT

# Marks are lost between components that share no object but the process, so the memory is the process's.
seen_of_units = PrivateTexts()
"""The texts of late that belong to a named unit. Where one comes back without its unit's name, a ledger cannot
tell which account to charge, and the call is refused. It never gives a text to a unit."""


def remember(text: str, unit: str | None) -> None:
    """Take note of a private text and whether it has a unit with a name."""
    seen.remember(text)
    if unit not in (None, DEFAULT_UNIT):
        seen_of_units.remember(text)
