"""From the options of the LLM and of one call to those of the engine."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from dpfusion_core.options import GenerationOptions, canonical, merge_options, of_parts
from dpfusion_core.tool_calling import as_tool_choice

OWN = of_parts("budget", "accounting", "sampling")
"""The engine's options that are fields of the LLM and may be said in a call."""

_CALL = frozenset({*OWN, *of_parts("form")})


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
    options: dict[str, Any] = {**merge_options({name: model[name] for name in OWN}, said)}
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    choice = options.pop("tool_choice", None)
    if options.get("tools"):
        options["tool_choice"] = as_tool_choice(choice)
    return cast(GenerationOptions, options)  # the engine checks the values
