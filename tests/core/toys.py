"""Table-driven toy models: every next-token distribution is written down."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dpfusion_core import Message, ScriptedBackend
from tests.core.models import CharTokenizer

SECRET = "xyzzy"
LETTERS = "abcd"
TOKENS = [CharTokenizer.alphabet.index(letter) for letter in LETTERS]
EOS = CharTokenizer.eos_token_id
VOCAB = EOS + 1


def logits_of(probabilities: Mapping[int, float]) -> torch.Tensor:
    """Return logits with the given probabilities and zero elsewhere, ``[vocab]``."""
    row = torch.full((VOCAB,), -math.inf, dtype=torch.float64)
    for token, probability in probabilities.items():
        row[token] = math.log(probability) if probability else -math.inf
    return row


def secretive_backend(
    public: Sequence[float] = (0.5, 0.3, 0.15, 0.05),
    private: Sequence[float] = (0.05, 0.15, 0.2, 0.6),
    eos: float = 0.0,
    **options: Any,
) -> ScriptedBackend:
    """A model over ``abcd`` that answers by another table when the secret stands in the prompt."""
    tokenizer = CharTokenizer()
    needle = tuple(tokenizer(SECRET)["input_ids"])

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        is_private = any(row[i : i + len(needle)] == needle for i in range(len(row)))
        table = private if is_private else public
        return logits_of({**dict(zip(TOKENS, [p * (1 - eos) for p in table], strict=True)), EOS: eos})

    return ScriptedBackend(next_logits, tokenizer, VOCAB, eos_token_ids=[EOS], **options)


def saying_backend(text: str, then_eos: bool = True) -> ScriptedBackend:
    """A model that says one text whatever it is asked, then ends or repeats ``.``."""
    tokenizer = CharTokenizer()
    start = tokenizer("<assistant>")["input_ids"]

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        places = [i for i in range(len(row)) if list(row[i : i + len(start)]) == start]
        said = len(row) - places[-1] - len(start)
        ids = tokenizer(text)["input_ids"]
        end = EOS if then_eos else tokenizer(".")["input_ids"][0]
        return logits_of({ids[said] if said < len(ids) else end: 1.0})

    return ScriptedBackend(next_logits, tokenizer, VOCAB, eos_token_ids=[EOS])


def private_chat(text: str = SECRET, unit: str | None = None) -> list[Message]:
    """A private message and a public question."""
    return [Message("user", text, is_private=True, unit=unit), Message("user", "what?")]
