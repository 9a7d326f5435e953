"""The engine of a chat model: built when it is first needed, and how it reads text."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dpfusion_core.adapters import load_engine
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import UnsupportedError
from dpfusion_core.messages import Message, Segment
from dpfusion_core.views import build_views
from langchain_dpfusion.options import openai_tools
from langchain_dpfusion.settings import ENGINE_PARTS, ChatSettings


def find_engine(settings: ChatSettings, name: str | None) -> FusionEngine:
    """Return the engine for a call; it is built when it is first needed.

    Args:
        settings: Of the chat model.
        name: Name of the call's model; None for the chat model's own.

    Raises:
        UnsupportedError: If a ready model is asked for another one.
        BackendError: If the model cannot be loaded.
    """
    is_ready = settings.engine is not None or not isinstance(settings.model, str)
    if is_ready and name is not None and name != settings.model_name:
        raise UnsupportedError("A chat model with a ready model cannot take another one for a call.")
    if isinstance(settings.engine, FusionEngine):
        return settings.engine
    model = settings.model if is_ready else name or settings.model
    parts: dict[str, Any] = {part: getattr(settings, part) for part in ENGINE_PARTS}
    # Ready objects are told apart by what they are: their names may be the same, and they may have none.
    said = {part: value if isinstance(value, str) else id(value) for part, value in parts.items()}
    loading = [(part, repr(parts[part])) for part in ("device", "dtype", "device_map", "model_kwargs")]
    key = repr((model if isinstance(model, str) else id(model), said | dict(loading)))
    if key not in settings.engines:
        settings.engines.setdefault(key, load_engine(model, **parts))
    return settings.engines[key]


def token_ids(engine: FusionEngine, text: str) -> list[int]:
    """Return the token ids of a text, without special tokens."""
    encoded = engine.backend.tokenizer(text, add_special_tokens=False)
    return [int(token) for token in encoded["input_ids"]]


def count_tokens(engine: FusionEngine, conversation: Sequence[Message], tools: Sequence[Any]) -> int:
    """Count the tokens of a conversation in the model's template, with all private text; 0 for an empty one."""
    if not conversation:
        return 0
    revealed = [
        replace(message, content=[Segment(s.text) for s in message.segments], is_private=False, unit=None)
        for message in conversation
    ]
    views = build_views(revealed, engine.backend.tokenizer, engine.placeholder, openai_tools(tools))
    return len(views.public)
