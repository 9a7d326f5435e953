"""Models behind the engine: the protocols, the in-process transformers backend, and a scripted one."""

from dpfusion_core.backends.protocol import Backend, Opener, Session
from dpfusion_core.backends.scripted import ScriptedBackend
from dpfusion_core.backends.shared import shared_backend
from dpfusion_core.backends.transformers import TransformersBackend

__all__ = ["Backend", "Opener", "ScriptedBackend", "Session", "TransformersBackend", "shared_backend"]
