"""A model that wants to say a given text, through the real decoding path and the embedded model's tokenizer."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from dpfusion_core import FusionEngine, ScriptedBackend
from dpfusion_core.tiny import model_path

_ANSWER = "<|im_start|>assistant\n"


@cache
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_path())


def scripted_backend(says: str | Callable[[str], str], certainty: float = 60.0) -> ScriptedBackend:
    """Return a backend whose model wants to say a text.

    Args:
        says: The text, or a function of the prompt of one view that returns it.
        certainty: Log-odds of the token that it wants against any other: a mask can still force another.
    """
    reader = tokenizer()
    vocabulary = len(reader)
    begin = reader(_ANSWER, add_special_tokens=False)["input_ids"]

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        start = max(i for i in range(len(row)) if list(row[i : i + len(begin)]) == begin) + len(begin)
        text = says if isinstance(says, str) else says(reader.decode(row[:start]))
        logits = torch.zeros(vocabulary, dtype=torch.float64)
        logits[_wanted(reader, text, list(row[start:]))] = certainty
        return logits

    return ScriptedBackend(next_logits, reader, vocabulary, [reader.eos_token_id], context_length=2048)


def scripted_engine(says: str | Callable[[str], str], **options: Any) -> FusionEngine:
    return FusionEngine(scripted_backend(says), **options)


def _wanted(reader: Any, text: str, said: list[int]) -> int:
    """Return the token that goes on towards a text from what has been said, however that is cut into tokens."""
    wanted = reader(text, add_special_tokens=False)["input_ids"]
    if said == wanted[: len(said)]:
        rest = wanted[len(said) :]
    else:
        spoken = reader.decode(said)
        left = text[len(spoken) :] if text.startswith(spoken) else ""
        rest = reader(left, add_special_tokens=False)["input_ids"] if left else []
    return int(rest[0]) if rest else int(reader.eos_token_id)
