"""From the options of a chat model and of one call to those of the engine."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from langchain_core.utils.function_calling import convert_to_openai_tool

from dpfusion_core.adapters import check_unmarked
from dpfusion_core.choices import check_choices
from dpfusion_core.engine.choosing import CHOICE_OPTIONS
from dpfusion_core.errors import PrivacyParameterError, errors_as
from dpfusion_core.options import GenerationOptions, canonical, default_of, merge_options, of_parts
from dpfusion_core.tool_calling import as_tool_choice, check_tools
from langchain_dpfusion.settings import SealedSettings

_P = ParamSpec("_P")
_R = TypeVar("_R")

OWN = of_parts("budget", "accounting", "sampling", "choice", "consensus")
"""The engine's options that are fields of a chat model and may be said in a call."""

_CALL = frozenset({*OWN, "model", "retrieval", "timeout", "unmarked"})
_FORM = frozenset({"choices", "response_format", "tool_choice", "tools"})
_LANGCHAIN = frozenset({"ls_structured_output_format", "structured_output_format", "stream"})
# What other chat models take and a local one has no use for.
_IGNORED = frozenset({"parallel_tool_calls", "strict"})

_WORDS = frozenset(
    {"model", "retrieval", "unmarked", *(name for name in OWN if isinstance(default_of(name), str))}
)

_ADVICE = "What the model should read goes into messages: options are shown to callbacks and traces."

_GONE = (
    "default_private is gone: say unmarked='private' for text without a mark that is private, 'public' for "
    "text that you vouch for, 'strict' or 'error' to be told. Results of tools are always private."
)


def refuse_gone(names: Iterable[str]) -> None:
    """Refuse what earlier versions took.

    Raises:
        PrivacyParameterError: If there is such a name; it says what takes its place.
    """
    if "default_private" in names:
        raise PrivacyParameterError(_GONE)


def named(owner: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator of functions that refuse arguments they do not know, with the nearest right name.

    Args:
        owner: What is called, for errors.

    Raises:
        PrivacyParameterError: By the decorated function, if an argument's name is unknown.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        parameters = inspect.signature(function).parameters.values()
        known = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)} - {"self"}

        @functools.wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            refuse_gone(kwargs)
            canonical({name: None for name in kwargs if name not in known}, known, owner)
            return function(*args, **kwargs)

        return checked

    return decorate


def refuse_options(config: Iterable[str]) -> None:
    """Refuse options of calls in a config, where nobody would read them.

    Raises:
        PrivacyParameterError: If there is one.
    """
    for name in config:
        if name in _CALL | _FORM:
            raise PrivacyParameterError(f"A config does not hold {name!r}. Say bind({name}=...) instead.")


def check_call(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a call under their own names; refuse others: they could be private text.

    Tracers and caches are shown a call's options as they are, so this comes first of all.

    Raises:
        PrivacyParameterError: If a name is unknown, or a value is none that the option can have. Values
            are not quoted.
    """
    refuse_gone(kwargs)
    kwargs = canonical(kwargs, _CALL | _FORM | _LANGCHAIN | _IGNORED, "a call", _ADVICE)
    check_unmarked(kwargs.get("unmarked"))
    for name, value in kwargs.items():
        if value is None or name not in _CALL or name == "stop":
            continue
        wanted = str if name in _WORDS else (int, float)
        if not isinstance(value, wanted):
            kind = "a word" if name in _WORDS else "a number"
            raise PrivacyParameterError(f"Expected {name} to be {kind}, not {type(value).__name__}.")
    return kwargs


def check_forms(call: Mapping[str, Any]) -> None:
    """Refuse choices, tools and response formats that are none, before callbacks are shown them.

    Raises:
        PrivacyParameterError: If there is one.
    """
    if call.get("choices") is not None:
        check_choices(call["choices"])
        if call.get("tools") or call.get("response_format") is not None:
            raise PrivacyParameterError(
                "The answer is one of the choices, or a call of a tool, or an object. Ask for one of them."
            )
    if call.get("tools"):
        check_tools(list(call["tools"]))
    if call.get("response_format") is not None:
        json_schema(call["response_format"])


def pick(name: str, call: Mapping[str, Any], settings: SealedSettings) -> Any:
    """Return an option of a call; where the call says nothing, the chat model's."""
    return getattr(settings, name) if call.get(name) is None else call[name]


def engine_options(
    settings: SealedSettings, call: Mapping[str, Any], stop: Sequence[str] | None
) -> GenerationOptions:
    """Put together what the engine is asked for.

    Args:
        settings: Of the chat model; those that are None say nothing.
        call: The options of the call, which come first; those that say nothing of a choice, the engine refuses.
        stop: Stop strings of the call, which replace the model's; None leaves those.

    Returns:
        The engine's options. Saying ``epsilon`` in a call takes the place of the model's ``order`` and
        ``beta``, and the other way round.

    Raises:
        PrivacyParameterError: If ``tools``, ``response_format`` or ``tool_choice`` is none that is known.
    """
    is_choice = call.get("choices") is not None
    # A model's settings are for all of its calls: those that say nothing of an answer of this kind are left out.
    names = CHOICE_OPTIONS if is_choice else frozenset(OWN) - {*of_parts("choice")}
    own = {name: getattr(settings, name) for name in OWN if name in names and name != "stop"}
    said = {name: call.get(name) for name in OWN if name != "stop"}
    options: dict[str, Any] = dict(merge_options(own, said))
    if options.get("mechanism") == "consensus":
        # Chains retrieve the k best unless somebody says that they do not.
        options["retrieval"] = pick("retrieval", call, settings) or "not covered"
    elif pick("retrieval", call, settings) is not None:
        raise PrivacyParameterError(
            "retrieval says something of a consensus alone: say mechanism='consensus'."
        )
    stops = settings.stop if stop is None and not is_choice else stop
    if stops:
        options["stop"] = [stops] if isinstance(stops, str) else list(stops)
    if call.get("tools"):
        options["tools"] = list(call["tools"])
        check_tools(options["tools"])
        options["tool_choice"] = as_tool_choice(call.get("tool_choice"))
    if call.get("response_format") is not None:
        options["json_schema"] = json_schema(call["response_format"])
    return GenerationOptions(**options)  # type: ignore[typeddict-item, no-any-return]  # the engine checks


def openai_tools(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the OpenAI schemas of tools in any form that LangChain knows.

    Raises:
        PrivacyParameterError: If a tool cannot be described by a JSON schema.
    """
    with errors_as(PrivacyParameterError, "A tool cannot be described by a JSON schema ({error})."):
        return [convert_to_openai_tool(tool) for tool in tools]


def json_schema(response_format: Any) -> Mapping[str, Any]:
    """Return the JSON schema that a response format asks for.

    Args:
        response_format: A JSON schema, ``{"type": "json_object"}``, or ``{"type": "json_schema",
            "json_schema": {"schema": ...}}``.

    Raises:
        PrivacyParameterError: If it is of another form.

    Example:
        >>> json_schema({"type": "json_object"})
        {'type': 'object'}
    """
    if isinstance(response_format, Mapping):
        kind = response_format.get("type")
        if kind == "json_object":
            return {"type": "object"}
        if kind != "json_schema":
            return response_format
        inner = response_format.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, Mapping) else None
        if isinstance(schema, Mapping):
            return schema
    raise PrivacyParameterError(
        "Expected response_format to be a JSON schema, {'type': 'json_object'}, or {'type': 'json_schema', "
        "'json_schema': {'schema': ...}}."
    )
