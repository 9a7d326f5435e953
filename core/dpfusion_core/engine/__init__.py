"""The engine: prepares requests, runs them, and accounts for them."""

from dpfusion_core.engine.engine import FusionEngine
from dpfusion_core.engine.filling import StructuredResult

__all__ = ["FusionEngine", "StructuredResult"]
