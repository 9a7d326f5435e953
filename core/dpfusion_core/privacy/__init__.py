"""The privacy core: divergences, fusion of one token, losses, accounting and conversion.

Pure mathematics on log-probabilities; knows nothing of models, text or files.
"""

import lazy_loader

# The names are written once, in __init__.pyi; each loads what it needs at its first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
