"""From the options of the LLM and of one call to those of the engine."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from dpfusion_core.adapters import canonical
from dpfusion_core.generation import GenerationOptions, merge_options
from dpfusion_core.tool_calling import as_tool_choice

_OWN = (
    "accounting",
    "alpha",
    "beta",
    "delta",
    "epsilon",
    "max_tokens",
    "min_p",
    "neighbours",
    "on_exhausted",
    "order",
    "responses",
    "seed",
    "stop",
    "temperature",
    "top_k",
    "top_p",
)
_CALL = frozenset({*_OWN, "json_schema", "tool_choice", "tools"})


def named_as(
    function: Callable[..., Any], given: Mapping[str, Any], owner: str, *more: str
) -> dict[str, Any]:
    """Return arguments for a function of LlamaIndex, or refuse those that it does not know.

    Args:
        function: Gets them.
        given: The arguments as the caller has named them.
        owner: What is made, for errors.
        *more: Names that are known besides.

    Raises:
        PrivacyParameterError: If a name is unknown.
    """
    return canonical(given, inspect.signature(function).parameters.keys() - {"self"} | {*more}, owner)


def engine_options(model: Mapping[str, Any], call: Mapping[str, Any]) -> GenerationOptions:
    """Put together what the engine is asked for.

    Args:
        model: The LLM's fields by name; those that are None say nothing.
        call: The options of the call, which come first.

    Raises:
        PrivacyParameterError: If an option is unknown. Values are not quoted.
    """
    said = canonical(call, _CALL, "a call", "An LLM's other fields are set when it is made.")
    options: dict[str, Any] = {**merge_options({name: model[name] for name in _OWN}, said)}
    options["max_new_tokens"] = options.pop("max_tokens")
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    choice = options.pop("tool_choice", None)
    if options.get("tools"):
        options["tool_choice"] = as_tool_choice(choice)
    return cast(GenerationOptions, options)  # the engine checks the values
