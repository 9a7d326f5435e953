"""The options of a request, once for the engine, the command line, documents and both integrations."""

from dpfusion_core.options.fields import LogitsProcessor, Mechanism
from dpfusion_core.options.reading import (
    ALIASES,
    NAMES,
    canonical,
    check,
    default_of,
    help_of,
    merge_options,
    of_parts,
    read_options,
)
from dpfusion_core.options.values import (
    HOW,
    GenerationOptions,
    ItemForm,
    Items,
    OnExhausted,
    Options,
    Prior,
)

__all__ = [
    "ALIASES",
    "HOW",
    "NAMES",
    "GenerationOptions",
    "ItemForm",
    "Items",
    "LogitsProcessor",
    "Mechanism",
    "OnExhausted",
    "Options",
    "Prior",
    "canonical",
    "check",
    "default_of",
    "help_of",
    "merge_options",
    "of_parts",
    "read_options",
]
