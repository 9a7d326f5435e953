"""The engine of a chat model: built when it is first needed, and how it reads text."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dpfusion_core.backends import TransformersBackend
from dpfusion_core.backends.shared import shared_backend
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import UnsupportedError
from dpfusion_core.messages import Message, Segment
from dpfusion_core.views import build_views
from langchain_dpfusion.options import openai_tools

_PARTS = ("placeholder", "ledger", "tagger")


def find_engine(
    built: dict[str, FusionEngine], fields: Mapping[str, Any], own: str, name: str | None
) -> FusionEngine:
    """Return the engine for a call.

    Args:
        built: The engines that there are, by their settings; a new one is added.
        fields: The chat model's fields.
        own: Name of the chat model's own model.
        name: Name of the call's model; None for the chat model's own.

    Raises:
        UnsupportedError: If a ready model is asked for another one.
        BackendError: If the model cannot be loaded.
    """
    model, engine = fields["model"], fields["engine"]
    is_ready = engine is not None or not isinstance(model, str)
    if is_ready and name is not None and name != own:
        raise UnsupportedError("A chat model with a ready model cannot take another one for a call.")
    if isinstance(engine, FusionEngine):
        return engine
    name = name or own
    load = {option: fields[option] for option in ("device", "dtype", "device_map")} | fields["model_kwargs"]
    parts = {part: fields[part] for part in _PARTS}
    named = [value if isinstance(value, str) else id(value) for value in parts.values()]
    which = name if isinstance(model, str) else id(model)  # ready models may share a name
    key = repr((which, sorted(load.items()), named))
    if key not in built:
        if isinstance(model, str):
            backend = shared_backend(name, **load)
        else:
            backend = TransformersBackend(model, fields["tokenizer"])
        built.setdefault(key, FusionEngine(backend, **parts))
    return built[key]


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
