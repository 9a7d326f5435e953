"""The fields of the LLM: read, or refused before anything is loaded or computed."""

import math
import pickle
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from dpfusion_core.adapters import check_unmarked
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError
from dpfusion_core.options import Options, canonical
from dpfusion_core.units import unit_id
from llamaindex_dpfusion.options import engine_options

ENGINE_FIELDS = frozenset(
    {"model", "tokenizer", "ledger", "tagger", "placeholder", "device", "dtype", "device_map", "model_kwargs"}
)
"""Fields that the engine is made of."""

PLACEHOLDER = "____"
_DEFAULTS = {"model": "dpfusion-tiny", "dtype": "auto", "placeholder": PLACEHOLDER, "model_kwargs": {}}
_GONE = (
    "public_roles is gone: text without a mark is a matter of unmarked. unmarked='public' says that messages of "
    "users, assistants and the system are public, as in agents; what tools have said is private all the same."
)


def named_fields(given: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Return arguments under the names of the LLM's fields.

    Raises:
        PrivacyParameterError: If a name is unknown.
    """
    if "public_roles" in given:
        raise PrivacyParameterError(_GONE)
    return canonical(given, model.model_fields.keys() | {"class_name"}, model.__name__)


def problem_of(error: ValidationError) -> str:
    """Say what is wrong with the fields of an LLM; values are not quoted."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or "DPFusionLLM"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def check_fields(fields: Mapping[str, Any], engine: FusionEngine | None) -> None:
    """Refuse fields that contradict each other or a ready engine, and options that an engine would refuse.

    Raises:
        PrivacyParameterError: If there are such fields.
    """
    if engine is not None:
        if not isinstance(engine, FusionEngine):
            raise PrivacyParameterError("Expected engine to be a FusionEngine.")
        for name in sorted(ENGINE_FIELDS):
            if fields.get(name) != _DEFAULTS.get(name) and fields.get(name) is not getattr(engine, name, 0):
                raise PrivacyParameterError(
                    f"A ready engine has its own {name}: give {name} to the FusionEngine, or a model in place of "
                    "the engine."
                )
    check_unmarked(fields["unmarked"])
    unit_id(fields["unit"])
    if fields["timeout"] is not None and not 0 < fields["timeout"] < math.inf:
        raise PrivacyParameterError("Expected timeout to be a number of seconds above 0.")
    if fields["max_retries"] < 0:
        raise PrivacyParameterError("Expected max_retries to be an integer >= 0.")
    Options.read(engine_options(fields, {}), "DPFusionLLM")


def picklable_state(state: Mapping[str, Any], fields: Mapping[str, Any], engine: object) -> dict[str, Any]:
    """Return what a pickle may hold, without touching the live object.

    Raises:
        UnsupportedError: If something is set that cannot be built again from names and numbers: a ledger that
            a pickle leaves out would charge nobody.
    """
    ready = ready_parts(fields, engine)
    if ready:
        raise UnsupportedError(
            f"An LLM with a ready {ready[0]} cannot be pickled. Make the LLM anew in the other process."
        )
    kept = dict(state["__dict__"])
    kept.pop("callback_manager", None)  # of this process
    for name, value in kept.items():
        try:
            pickle.dumps(value)
        except Exception:  # noqa: BLE001  the question is only whether it raises
            failed = name
            break
    else:
        return {**state, "__dict__": kept, "__pydantic_private__": None}
    raise UnsupportedError(f"The LLM's {failed} cannot be pickled. Make the LLM anew in the other process.")


def ready_parts(fields: Mapping[str, Any], engine: object) -> list[str]:
    """Return the names of what no name or number says."""
    ready = [name for name in ("ledger", "tagger", "tokenizer") if fields[name] is not None]
    ready += [] if isinstance(fields["placeholder"], str) else ["placeholder"]
    ready += [] if isinstance(fields["model"], str) else ["model"]
    return [*(["engine"] if engine is not None else []), *ready]
