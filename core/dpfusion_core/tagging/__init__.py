"""Finding what is private in a text."""

import lazy_loader

# The names are written once, in __init__.pyi; each loads what it needs at its first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
