"""The taggers that the command line names, and the model that some of them ask."""

import sys
from pathlib import Path
from typing import Any

from dpfusion_core import tagging  # its names load when they are used: some need torch
from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as


def make_tagger(specs: list[str], model: str) -> tagging.Tagger:
    """Return the tagger that the command line asks for.

    Args:
        specs: Kinds of taggers, with what they need behind a colon.
        model: The chat model of constitution taggers.

    Raises:
        PrivacyParameterError: If a kind is unknown or lacks what it needs.
    """
    taggers = [_tagger(*spec.partition(":")[::2], model) for spec in specs]
    return taggers[0] if len(taggers) == 1 else tagging.UnionTagger(*taggers)


def _tagger(kind: str, value: str, model: str) -> tagging.Tagger:
    if kind == "presidio":
        return tagging.PresidioTagger(value or "en")
    if kind == "phrases" and value:
        return tagging.PhraseTagger([line for line in read_text(Path(value)).splitlines() if line.strip()])
    if kind == "tokens" and value:
        return tagging.TokenClassificationTagger(value)
    if kind == "constitution":
        rules = value or "HEALTH"
        return tagging.ConstitutionTagger(
            load_engine(model), rules if rules in tagging.CONSTITUTIONS else read_text(Path(rules))
        )
    if kind == "document-privacy":
        service = tagging.DocumentPrivacyTagger()
        service.set_constitution(value or "HEALTH")
        return service
    raise PrivacyParameterError(
        f"Unknown tagger {kind!r}: use presidio, phrases:FILE, tokens:MODEL, constitution:NAME or "
        "document-privacy:NAME."
    )


def load_engine(model: str, ledger: Any = None) -> Any:
    """Return an engine with the model of that name or path."""
    import torch

    from dpfusion_core.cli.demo import quiet_transformers
    from dpfusion_core.engine import FusionEngine
    from dpfusion_core.tiny import MODEL_NAME

    quiet_transformers()
    if model == MODEL_NAME:
        torch.set_num_threads(1)  # it is so small that threads only wait for each other
    return FusionEngine.from_pretrained(model, ledger=ledger)


def read_text(file: Path) -> str:
    """Return what stands in a file, or in standard input for ``-``.

    Raises:
        ViewError: If it cannot be read or is not in UTF-8.
    """
    with errors_as(ViewError, lambda error: f"Cannot read {file}: {error.strerror}.", only=OSError):
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    with errors_as(ViewError, f"{file} is not a text in UTF-8."):
        return data.decode("utf-8")
