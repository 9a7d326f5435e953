"""What a chat model says about itself: its name, its settings, and what it can do."""

from collections.abc import Mapping
from typing import Any

from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile

from dpfusion_core.engine import FusionEngine
from dpfusion_core.tool_calling import supports_tools
from langchain_dpfusion.options import OWN, pick
from langchain_dpfusion.replies import PROVIDER
from langchain_dpfusion.settings import SealedSettings


def identifying_params(settings: SealedSettings) -> dict[str, Any]:
    """Return what tells a model from others; never an object that may hold text."""
    said = {name: getattr(settings, name) for name in (*OWN, "placeholder", "unmarked")}
    tagger = settings.ready_parts.get("tagger")
    return {
        "model": settings.model_name,
        **{name: "custom" if callable(value) else value for name, value in said.items()},
        "tagger": None if tagger is None else type(tagger).__name__,
    }


def opaque_settings(settings: SealedSettings) -> str:
    """Name what has no name that tells it apart: answers that depend on it stay with one instance."""
    opaque = {name: id(part) for name, part in settings.ready_parts.items() if name != "ledger"}
    return repr((settings.instance, opaque)) if opaque else ""


def langsmith_params(
    settings: SealedSettings, call: Mapping[str, Any], stop: list[str] | None
) -> LangSmithParams:
    """Return what a trace says about the model of a call."""
    params = LangSmithParams(
        ls_provider=PROVIDER, ls_model_type="chat", ls_model_name=call.get("model") or settings.model_name
    )
    temperature, max_tokens = pick("temperature", call, settings), pick("max_tokens", call, settings)
    if temperature is not None:
        params["ls_temperature"] = temperature
    if max_tokens is not None:
        params["ls_max_tokens"] = max_tokens
    if stop or settings.stop:
        params["ls_stop"] = stop or settings.stop
    return params


def model_profile(engine: FusionEngine | None) -> ModelProfile:
    """Return what a model can do; without its engine, only what holds for every one."""
    profile = ModelProfile(text_inputs=True, text_outputs=True, structured_output=True)
    if engine is not None:
        profile["tool_calling"] = supports_tools(engine.backend.tokenizer)
        if engine.backend.context_length is not None:
            profile["max_input_tokens"] = engine.backend.context_length
    return profile
