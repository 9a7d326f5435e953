"""Engines over the public scripted model."""

from collections.abc import Callable
from typing import Any

from dpfusion_core import FusionEngine, ScriptedBackend

CONTEXT = 2048


def scripted_backend(says: str | Callable[[str], str], certainty: float = 60.0) -> ScriptedBackend:
    """Return a model that wants to say a text, or what a function makes of a view's prompt."""
    return ScriptedBackend.saying(says, certainty=certainty, context_length=CONTEXT)


def scripted_engine(says: str | Callable[[str], str], **options: Any) -> FusionEngine:
    """Return an engine over such a model."""
    return FusionEngine(scripted_backend(says), **options)
