"""The options of documents: read, or refused."""

from collections.abc import Collection
from typing import Any, get_args

from dpfusion_core.documents.chunks import Level
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.options import ALIASES, NAMES, canonical, of_parts

BUDGET = frozenset(of_parts("budget"))
_NOT_FOR_DOCUMENTS = frozenset({"max_tokens", "curator", *of_parts("accounting")})
_ARGUMENTS = frozenset(
    {
        "tagger",
        "engine",
        "names",
        "placeholder",
        "max_tokens",
        "chunk",
        "instruction",
        "progress",
        "schema",
        "shares",
    }
)


def check_options(level: Level, options: dict[str, Any], writing: Collection[str]) -> dict[str, Any]:
    """Return options under their own names; refuse those that are unknown, or that have no effect at the level.

    Args:
        level: The level.
        options: The options of a generation.
        writing: Which of the arguments about rewriting are given.

    Raises:
        PrivacyParameterError: If there is such an option, or level ``"dp"`` has no budget.
    """
    if level not in get_args(Level):
        raise PrivacyParameterError(f"Expected level 'redact', 'paraphrase' or 'dp', got {level!r}.")
    for name in options:
        if ALIASES.get(name, name) in _NOT_FOR_DOCUMENTS:
            raise PrivacyParameterError(
                f"{name} is not for documents: their length is max_tokens, and they are charged with fixed "
                "accounting, as a whole or not at all."
            )
    options = canonical(options, {*NAMES, *_ARGUMENTS} - (_NOT_FOR_DOCUMENTS - _ARGUMENTS), "privatize")
    budget = sorted(name for name in BUDGET & set(options) if options[name] is not None)
    if level != "dp" and budget:
        raise PrivacyParameterError(
            f"Level {level!r} is not differentially private and spends no budget: leave out "
            f"{', '.join(budget)}, or choose level 'dp'."
        )
    idle = sorted([*writing, *(name for name in options if name not in BUDGET)])
    if level == "redact" and idle:
        raise PrivacyParameterError(
            f"Level 'redact' asks no model: leave out {', '.join(idle)}, or choose level 'paraphrase' or 'dp'."
        )
    if level == "dp" and not {"epsilon", "order", "beta"} & set(budget):
        raise PrivacyParameterError(
            "Level 'dp' needs a budget for each document, for example epsilon=8.0, delta=1e-5."
        )
    return options


def check_schema(level: Level, schema: Any, shares: Any, options: Collection[str]) -> None:
    """Refuse a schema where nothing is chosen, and what has a meaning with a schema alone.

    Raises:
        PrivacyParameterError: If there is such an argument.
    """
    if schema is not None and level != "dp":
        raise PrivacyParameterError(
            f"Level {level!r} shows no private text to a model, so no fact can be chosen: leave out schema, or choose "
            "level 'dp'."
        )
    idle = [
        name for name, is_said in (("shares", shares is not None), ("prior", "prior" in options)) if is_said
    ]
    if schema is None and idle:
        raise PrivacyParameterError(f"{idle[0]} is for the facts of a schema: give schema=, or leave it out.")
