"""The engine: prepares requests, runs them, and accounts for them."""

from dpfusion_core.engine.engine import FusionEngine

__all__ = ["FusionEngine"]
