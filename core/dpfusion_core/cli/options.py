"""The options of a request on the command line, with the names and the help that they have everywhere."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from dpfusion_core.options import ALIASES, Options, default_of, help_of


def shown(name: str, *flags: str) -> Any:
    """Return how an option of a request stands on the command line.

    Args:
        name: The option.
        *flags: What it is called there, if not by its name alone.
    """
    return typer.Option(*flags, help=help_of(name))


def with_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator of commands: their last argument ``options`` gets the options that were given.

    Args:
        *names: The options of a request that the command takes.
    """
    extra = [_parameter(name) for name in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)

        def called(**given: Any) -> None:
            options = {name: given.pop(name) for name in names}
            command(**given, options={k: v for k, v in options.items() if v not in (None, [], default_of(k))})

        kept = [each for name, each in own.parameters.items() if name != "options"]
        called.__signature__ = own.replace(parameters=[*kept, *extra])  # type: ignore[attr-defined]
        hints_of = get_type_hints(command, include_extras=True)
        called.__annotations__ = {
            **{each.name: hints_of[each.name] for each in kept},
            **{each.name: each.annotation for each in extra},
            "return": None,
        }
        called.__name__, called.__doc__ = command.__name__, command.__doc__
        return called

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    default, hint = default_of(name), get_type_hints(Options)[name]
    if default == ():  # a list is an option that is given several times
        default, hint = None, list[str] | None
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[hint, shown(name, *_flags(name))],
    )


def _flags(name: str) -> list[str]:
    names = [name, *(alias for alias, right in ALIASES.items() if right == name)]
    return [f"--{each.replace('_', '-')}" for each in names]
