"""Consensus: what many documents say may be said, what one says may not.

Each document alone is asked, by any chat model; a differentially private vote follows; the answer is written from
what won. docs/theory.md, section 11.
"""

import lazy_loader

# The names are written once, in __init__.pyi; each loads what it needs at its first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
