"""Checks of a chat model's settings, before anything is loaded or computed."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from dpfusion_core.adapters import check_unmarked
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError
from dpfusion_core.options import canonical, read_options
from langchain_dpfusion.messages import PLACEHOLDER
from langchain_dpfusion.options import engine_options, refuse_gone
from langchain_dpfusion.settings import ChatSettings

# What other chat models are given and a local one has no use for.
_FOREIGN = frozenset({"api_key"})
# How weights are loaded, and what says nothing.
_LOADING: dict[str, Any] = {"device": None, "dtype": "auto", "device_map": None, "model_kwargs": {}}


def named_fields(fields: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Return arguments of a chat model under the names of its fields.

    Raises:
        PrivacyParameterError: If a name is unknown.
    """
    refuse_gone(fields)
    return canonical(fields, model.model_fields.keys() | _FOREIGN, model.__name__)


def problem_of(model: type[BaseModel], error: ValidationError) -> str:
    """Say what is wrong with the fields of a chat model; values are not quoted."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or model.__name__
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def check_settings(settings: ChatSettings) -> None:
    """Refuse fields of a chat model that do not go together, and options that the engine would refuse.

    Raises:
        PrivacyParameterError: If a field is out of range, or contradicts another one.
    """
    model, engine, timeout = settings.model, settings.engine, settings.timeout
    if (model is None) == (engine is None):
        raise PrivacyParameterError("Give a model or an engine: ChatDPFusion(model='dpfusion-tiny').")
    if engine is not None and not isinstance(engine, FusionEngine):
        raise PrivacyParameterError("Expected engine to be a FusionEngine.")
    if engine is not None and (settings.ledger or settings.tagger or settings.placeholder != PLACEHOLDER):
        raise PrivacyParameterError("A ready engine has its own ledger, tagger and placeholder.")
    if (settings.tokenizer is None) != (model is None or isinstance(model, str)):
        raise PrivacyParameterError("A ready model and its tokenizer go together: give both, or a name.")
    if not isinstance(model, str):
        ignored = [
            name for name, default in _LOADING.items() if getattr(settings, name) not in (None, default)
        ]
        if ignored:
            raise PrivacyParameterError(
                f"A ready model or engine is loaded already: {ignored[0]!r} says nothing."
            )
    if not (isinstance(settings.placeholder, str) or callable(settings.placeholder)):
        raise PrivacyParameterError("Expected placeholder to be a string or a function of a segment.")
    if timeout is not None and not 0 < timeout < math.inf:
        raise PrivacyParameterError("Expected timeout to be a number of seconds above 0.")
    check_unmarked(settings.unmarked)
    read_options(engine_options(settings, {}, None), "ChatDPFusion")


def check_picklable(settings: ChatSettings) -> None:
    """Refuse to pickle what cannot be built again from names and numbers.

    Raises:
        UnsupportedError: If a field is a ready object.
    """
    ready = [
        name for name in ("engine", "tokenizer", "ledger", "tagger") if getattr(settings, name) is not None
    ]
    ready += ["placeholder"] if callable(settings.placeholder) else []
    if ready:
        raise UnsupportedError(
            f"A ChatDPFusion with a ready {ready[0]} cannot be pickled: it may hold private text. Build it where "
            "it is needed."
        )
