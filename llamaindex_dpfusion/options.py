"""From the options of the LLM and of one call to those of the engine."""

import inspect
from collections.abc import Callable, Mapping, Set
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from dpfusion_core.engine.choosing import CHOICE_OPTIONS
from dpfusion_core.errors import PrivacyParameterError, errors_as
from dpfusion_core.options import GenerationOptions, canonical, merge_options, of_parts
from dpfusion_core.tool_calling import as_tool_choice

T = TypeVar("T")

OWN = of_parts("budget", "accounting", "sampling", "choice", "consensus")
"""The engine's options that are fields of the LLM and may be said in a call."""

_OF_TEXT = frozenset(OWN) - {*of_parts("choice")}

_CALL = frozenset({*OWN, *of_parts("form"), "choices"})

_GONE = (
    "public_roles is gone: text without a mark is a matter of unmarked. unmarked='public' says that messages of "
    "users, assistants and the system are public, as in agents; what tools have said is private all the same."
)


def named_fields(given: Mapping[str, Any], known: Set[str], owner: str) -> dict[str, Any]:
    """Return arguments under the names of an LLM's fields.

    Args:
        given: The arguments as the caller has named them.
        known: The fields.
        owner: The LLM's class, for errors.

    Raises:
        PrivacyParameterError: If a name is unknown.
    """
    if "public_roles" in given:
        raise PrivacyParameterError(_GONE)
    return canonical(given, known | {"class_name"}, owner)


def checked_fields(owner: str) -> errors_as:
    """Raise what pydantic says of wrong fields as an error of ours, which quotes no values.

    Args:
        owner: What is made of the fields.
    """

    def problem(error: ValidationError) -> str:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{f'{where} of {owner}' if where else owner}: {first['msg'].removeprefix('Value error, ')}"

    return errors_as(PrivacyParameterError, problem, only=ValidationError)


def check_type(value: T, kind: Any, name: str) -> T:
    """Return an argument if it is of a kind.

    Raises:
        PrivacyParameterError: If it is not.
    """
    if isinstance(value, kind):
        return value
    raise PrivacyParameterError(f"Expected {name} to be a {kind.__name__}.")


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


def engine_options(
    model: Mapping[str, Any], call: Mapping[str, Any], *, is_choice: bool = False
) -> GenerationOptions:
    """Put together what the engine is asked for.

    Args:
        model: The LLM's fields by name; those that are None say nothing, nor those of another kind of answer.
        call: The options of the call, which come first.
        is_choice: Whether the answer is one of several choices, not text.

    Raises:
        PrivacyParameterError: If an option is unknown. Values are not quoted.
    """
    said = canonical(call, _CALL, "a call", "An LLM's other fields are set when it is made.")
    said.pop("choices", None)  # what is asked, not how
    own = (name for name in OWN if name in (CHOICE_OPTIONS if is_choice else _OF_TEXT))
    options: dict[str, Any] = {**merge_options({name: model[name] for name in own}, said)}
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    choice = options.pop("tool_choice", None)
    if options.get("tools"):
        options["tool_choice"] = as_tool_choice(choice)
    return cast(GenerationOptions, options)  # the engine checks the values
