"""Options by their names: read, or refused with the nearest right name."""

from collections.abc import Collection, Mapping
from typing import Any

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError

ALIASES = {
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "model_name": "model",
    "neighbors": "neighbours",
}
"""What other models and other spellings call our options."""


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
        PrivacyParameterError: If a name is unknown, or one option is given under two names.

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
        options[right] = value
    return options
