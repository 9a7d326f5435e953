"""Options as a caller has named them: other spellings, unknown names, and a call's on top of a model's."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, cast, get_args, get_type_hints

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.options.fields import Part, check_field
from dpfusion_core.options.values import GenerationOptions, Options

ALIASES: Mapping[str, str] = {
    "alpha": "order",  # the paper's name
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "model_name": "model",
    "neighbors": "neighbours",
}
"""What the paper, other models and other spellings call our options."""

_FIELDS = {each.name: each for each in fields(Options)}
_NUMBERS = {name for name, hint in get_type_hints(Options).items() if {int, float} & {hint, *get_args(hint)}}

NAMES = tuple(_FIELDS)
"""The names of all options."""


def of_parts(*parts: Part) -> tuple[str, ...]:
    """Return the names of the options that are about something.

    Example:
        >>> of_parts("accounting")
        ('accounting', 'spending', 'on_exhausted')
    """
    return tuple(name for name, each in _FIELDS.items() if each.metadata["part"] in parts)


def help_of(name: str) -> str:
    """Return what an option means, with its unit."""
    said = _FIELDS[name].metadata
    unit = f" In {said['unit']}." if said["unit"] else ""
    return f"{said['help']}{unit}"


def default_of(name: str) -> Any:
    """Return the default of an option."""
    return _FIELDS[name].default


def check(name: str, value: Any, called: str | None = None) -> Any:
    """Return the value of an option, or refuse it.

    Args:
        name: The option.
        value: Its value. None is one where it is the default.
        called: What the caller calls the option.

    Raises:
        PrivacyParameterError: If the option cannot have the value.
    """
    return check_field(_FIELDS[name], value, called)


def canonical(
    given: Mapping[str, Any], known: Collection[str], owner: str, advice: str = ""
) -> dict[str, Any]:
    """Return options under their own names.

    Args:
        given: Options as the caller has named them. Values are never quoted.
        known: The names that ``owner`` knows.
        owner: What is configured, for errors: ``"ChatDPFusion"``, ``"a call"``.
        advice: What else to say of unknown names.

    Raises:
        PrivacyParameterError: If a name is unknown, one option is given under two names, or a number is True
            or False: pydantic would read them as 1 and 0.

    Example:
        >>> canonical({"max_completion_tokens": 50}, {"max_tokens", "epsilon"}, "ChatDPFusion")
        {'max_tokens': 50}
        >>> canonical({"epsilonn": 8}, {"max_tokens", "epsilon"}, "ChatDPFusion")
        Traceback (most recent call last):
        dpfusion_core.errors.PrivacyParameterError: Unknown option 'epsilonn' of ChatDPFusion. Did you mean 'epsilon'?
    """
    options: dict[str, Any] = {}
    for name, value in given.items():
        right = name if name in known else ALIASES.get(name, name)
        if right not in known:
            raise PrivacyParameterError(_validate.unknown_option(name, known, owner, advice, ALIASES))
        if right in options:
            raise PrivacyParameterError(f"{owner}: {right!r} is given twice, under two names. Give it once.")
        if isinstance(value, bool) and right in _NUMBERS:
            raise PrivacyParameterError(f"Expected {name} of {owner} to be a number, not {value}.")
        options[right] = value
    return options


def read_options(given: Mapping[str, Any], owner: str) -> Options:
    """Read options as a caller has named them.

    Args:
        given: The options. Errors about their values use the caller's names.
        owner: What is asked, for errors: ``"generate"``, ``"a call"``.

    Raises:
        PrivacyParameterError: If a name is unknown, an option is given under two names, or a value is
            out of range or contradicts another one.

    Example:
        >>> read_options({"alpha": 2.0, "beta": 0.01}, "a call").order
        2.0
    """
    return Options(**_checked(given, owner))


def merge_options(own: Mapping[str, Any], said: Mapping[str, Any]) -> GenerationOptions:
    """Put the options of a call on top of those of a model.

    Args:
        own: The model's; those that are None say nothing.
        said: The call's. Saying ``epsilon`` takes the place of the model's ``order`` and ``beta``, and the
            other way round.

    Raises:
        PrivacyParameterError: If a name is unknown, or an option is given under two names.

    Example:
        >>> merge_options({"order": 2.0, "beta": 0.01, "top_k": 50}, {"epsilon": 8.0})
        {'top_k': 50, 'epsilon': 8.0}
    """
    own, said = (
        _checked({name: value for name, value in each.items() if value is not None}, "a call")
        for each in (own, said)
    )
    if ("epsilon" in said and "beta" in own) or ("beta" in said and "epsilon" in own):
        other_way = {"epsilon", "order", "beta", "mixing_loss", "responses"}
        own = {name: value for name, value in own.items() if name not in other_way}
    return cast(GenerationOptions, {**own, **said})  # what goes together, the engine checks


def _checked(given: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return options under their own names, each checked under the caller's."""
    named = canonical(given, NAMES, owner)
    for name, value in given.items():
        check(ALIASES.get(name, name), value, name)
    return named
