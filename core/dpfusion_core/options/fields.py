"""What an option is described by, and the checks that several share."""

from collections.abc import Callable
from dataclasses import Field, field
from typing import Any, Literal, Protocol, get_args

from dpfusion_core import _validate

Part = Literal["budget", "accounting", "sampling", "form", "choice", "consensus", "engine"]
"""What an option is about. Those of ``"choice"`` are for closed answers alone; those of ``"engine"`` are for
whoever calls the engine itself.
"""

Mechanism = Literal["fusion", "consensus"]
"""How an answer is made private: token by token, or by a vote of the documents."""

Check = Callable[[Any, str], Any]
"""Returns a value, or refuses it under the name that the caller has for it."""


class LogitsProcessor(Protocol):
    """A change to the logits that depends on public data alone.

    The signature is that of ``transformers.LogitsProcessor``. It is called with the token ids of
    the public view and of what was generated, ``[1, length]``, and the public view's logits,
    ``[1, vocab]``, and returns the new ones. It never sees private logits: the change that it
    makes to the public ones is made to every view's.
    """

    def __call__(self, input_ids: Any, scores: Any, /) -> Any:
        """Return the changed scores, ``[1, vocab]``."""
        ...


def option(
    default: Any,
    part: Part,
    help: str,
    check: Check | None = None,
    unit: str = "",
    only: Mechanism | None = None,
) -> Any:
    """Describe an option as a dataclass field; ``only`` names the one mechanism that it has an effect on."""
    said = {"part": part, "help": help, "check": check, "unit": unit, "only": only}
    return field(default=default, metadata=said)


def check_field(described: Field[Any], value: Any, called: str | None = None) -> Any:
    """Return the value of an option, or refuse it. None is a value where it is the default.

    Raises:
        PrivacyParameterError: If the option cannot have the value.
    """
    test = described.metadata["check"]
    if test is None or (value is None and described.default is None):
        return value
    return test(value, called or described.name)


def one_of(choices: Any) -> Check:
    """Return a check that a value is one of a Literal's."""
    return lambda value, name: _validate.choice(value, get_args(choices), name)


def seed(value: Any, name: str) -> int:
    """Return a seed, or raise."""
    return _validate.count(value, name, minimum=0)


def items_form(value: Any, name: str) -> Any:
    """Return a form of items or a function, or raise."""
    return value if callable(value) else _validate.choice(value, ("points", "phrases", "json"), name)
