"""From the options of the LLM and of one call to those of the engine."""

from collections.abc import Mapping
from typing import Any, cast

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.generation import GenerationOptions

PASSED_ON = (
    "epsilon",
    "delta",
    "alpha",
    "beta",
    "order",
    "responses",
    "accounting",
    "neighbours",
    "on_exhausted",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
)
"""Options that the engine knows by the same name."""

_CALL = frozenset({*PASSED_ON, "max_tokens", "stop", "tools", "tool_choice", "json_schema"})


def engine_options(model: Mapping[str, Any], call: Mapping[str, Any]) -> GenerationOptions:
    """Put together what the engine is asked for.

    Args:
        model: The LLM's fields by name; those that are None say nothing.
        call: The options of the call, which come first.

    Returns:
        The engine's options. Saying ``epsilon`` in a call takes the place of the model's ``alpha`` and
        ``beta``, and the other way round.

    Raises:
        PrivacyParameterError: If an option is unknown.
    """
    for name in call:
        if name not in _CALL:
            raise PrivacyParameterError(
                f"Unknown option {name!r} of a call. Known are {', '.join(sorted(_CALL))}."
            )
    own = {name: model[name] for name in (*PASSED_ON, "max_tokens", "stop") if model.get(name) is not None}
    said = {name: value for name, value in call.items() if value is not None}
    if "epsilon" in said:
        own = {name: value for name, value in own.items() if name not in ("alpha", "beta")}
    elif "alpha" in said or "beta" in said:
        own = {name: value for name, value in own.items() if name not in ("epsilon", "order", "responses")}
    options = {**own, **said}
    options["max_new_tokens"] = options.pop("max_tokens")
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    if options.get("tools"):
        options["tool_choice"] = tool_choice(options.get("tool_choice"))
    else:
        options = {name: value for name, value in options.items() if name not in ("tools", "tool_choice")}
    return cast(GenerationOptions, options)  # the engine checks the values


def tool_choice(choice: Any) -> str:
    """Return the engine's word for a choice of tools, in any form that LLMs take.

    Raises:
        PrivacyParameterError: If it is of another form.

    Example:
        >>> tool_choice("required"), tool_choice(None), tool_choice({"function": {"name": "f"}})
        ('any', 'auto', 'f')
    """
    if isinstance(choice, Mapping):
        function = choice.get("function", choice)
        choice = function.get("name", 0) if isinstance(function, Mapping) else 0
    if choice is None:
        return "auto"
    if choice == "required":
        return "any"
    if not isinstance(choice, str):
        raise PrivacyParameterError("Expected tool_choice 'auto', 'any', 'none' or the name of a tool.")
    return choice
