"""Differentially private text generation for private prompts.

Messages say which of their parts are private; what comes out is bounded, provably, in how much it
can tell about each privacy unit.

    from dpfusion_core import FusionEngine, Message

    engine = FusionEngine.from_pretrained("dpfusion-tiny")
    result = engine.generate(
        [Message("user", record, is_private=True), Message("user", "Where does the patient live?")],
        order=2.0, beta=0.01,
    )
    print(result.text, result.guarantee)
"""

import lazy_loader

__version__ = "0.1.0"

# The names are written once, in __init__.pyi; each loads what it needs at its first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
