"""What a chat model says about itself: its name, its settings, and what it can do."""

from collections.abc import Mapping
from typing import Any

from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile

from dpfusion_core.engine import FusionEngine
from dpfusion_core.tool_calling import supports_tools
from langchain_dpfusion.options import OWN, pick
from langchain_dpfusion.replies import PROVIDER


def model_name(fields: Mapping[str, Any]) -> str:
    """Return the name of the model, whether it was given by name, ready, or in an engine."""
    model, engine = fields["model"], fields["engine"]
    if isinstance(model, str):
        return model
    if engine is not None:
        return str(engine.backend.fingerprint).split(",")[0]
    return getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__


def identifying_params(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells a model from others; never an object that may hold text."""
    placeholder, tagger = fields["placeholder"], fields["tagger"]
    return {
        "model": name,
        **{field: fields[field] for field in OWN},
        "placeholder": placeholder if isinstance(placeholder, str) else "custom",
        "unmarked": fields["unmarked"],
        "tagger": None if tagger is None else type(tagger).__name__,
    }


def opaque_settings(instance: str, fields: Mapping[str, Any]) -> str:
    """Name what has no name that tells it apart: answers that depend on it stay with one instance.

    Args:
        instance: What tells the instance from all others.
        fields: The chat model's fields.
    """
    opaque = [fields[name] for name in ("engine", "tagger") if fields[name] is not None]
    opaque += [fields["placeholder"]] if callable(fields["placeholder"]) else []
    opaque += [] if isinstance(fields["model"], str | None) else [fields["model"]]
    return repr((instance, [id(value) for value in opaque])) if opaque else ""


def langsmith_params(
    name: str, fields: Mapping[str, Any], call: Mapping[str, Any], stop: list[str] | None
) -> LangSmithParams:
    """Return what a trace says about the model of a call."""
    params = LangSmithParams(
        ls_provider=PROVIDER, ls_model_type="chat", ls_model_name=call.get("model") or name
    )
    temperature, max_tokens = pick("temperature", call, fields), pick("max_tokens", call, fields)
    if temperature is not None:
        params["ls_temperature"] = temperature
    if max_tokens is not None:
        params["ls_max_tokens"] = max_tokens
    if stop or fields["stop"]:
        params["ls_stop"] = stop or fields["stop"]
    return params


def model_profile(engine: FusionEngine | None) -> ModelProfile:
    """Return what a model can do; without its engine, only what holds for every one."""
    profile = ModelProfile(text_inputs=True, text_outputs=True, structured_output=True)
    if engine is not None:
        profile["tool_calling"] = supports_tools(engine.backend.tokenizer)
        if engine.backend.context_length is not None:
            profile["max_input_tokens"] = engine.backend.context_length
    return profile
