"""Training batches: conversations as token ids with a weight for each token to learn."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tiny_recipe.chats import CLOSE, OPEN, Turn
from tiny_recipe.tasks import conversation
from tiny_recipe.tokenizer import END, START
from tiny_recipe.values import ValueMaker

FRAME, VALUE, FIRST, AFTER = 0.5, 1.0, 4.0, 1.0
"""Weights of frame tokens, value tokens, the first one of a value, and the token after a value."""

Row = tuple[list[int], list[float]]


def render(turns: Sequence[Turn]) -> tuple[str, list[tuple[int, int]], list[tuple[int, int]]]:
    """Render a conversation.

    Args:
        turns: The messages.

    Returns:
        The text, the spans to learn and the spans of values.
    """
    text, learn, values = "", [], []
    for turn in turns:
        text += f"{START}{turn.role}\n"
        start = len(text) + turn.silent
        for part in re.split(f"({OPEN}[^{CLOSE}]*{CLOSE})", turn.text):
            shown = part.strip(OPEN + CLOSE)
            if part.startswith(OPEN):
                values.append((len(text), len(text) + len(shown)))
            text += shown
        text += END
        if turn.role == "assistant":
            learn.append((start, len(text)))
        text += "\n"
    return text, learn, values


def weigh(
    offsets: Sequence[tuple[int, int]], learn: Sequence[tuple[int, int]], values: Sequence[tuple[int, int]]
) -> list[float]:
    """Give each token its weight in the loss.

    Args:
        offsets: Start and end of each token.
        learn: Spans to learn, in order.
        values: Spans of values, in order.

    Returns:
        One weight for each token; 0 for what is given.
    """
    out, j, k, inside = [], 0, 0, False
    for start, end in offsets:
        while j < len(learn) and start >= learn[j][1]:
            j += 1
        while k < len(values) and start >= values[k][1]:
            k += 1
        in_value = k < len(values) and end > values[k][0]
        weight = (VALUE if inside else FIRST) if in_value else AFTER if inside else FRAME
        inside = in_value
        out.append(weight if j < len(learn) and start >= learn[j][0] else 0.0)
    return out


def encode(core: Tokenizer, chats: Sequence[Sequence[Turn]]) -> list[Row]:
    """Encode conversations.

    Args:
        core: The fast tokenizer.
        chats: The conversations.

    Returns:
        Token ids and weights of each.
    """
    rendered = [render(c) for c in chats]
    codes = core.encode_batch([r[0] for r in rendered], add_special_tokens=False)
    return [(c.ids, weigh(c.offsets, r[1], r[2])) for c, r in zip(codes, rendered, strict=True)]


def collate(rows: Sequence[Row], pad: int) -> tuple[Tensor, Tensor]:
    """Pad rows on the right into one batch."""
    length = -(-max(len(ids) for ids, _ in rows) // 32) * 32
    ids = torch.full((len(rows), length), pad)
    weights = torch.zeros(len(rows), length)
    for i, (row, weight) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        weights[i, : len(row)] = torch.tensor(weight)
    return ids, weights


def batches(
    core: Tokenizer, pad: int, seed: int, size: int, progress: Callable[[], float], longest: int = 700
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield training batches without end.

    Args:
        core: The fast tokenizer.
        pad: Id of the padding token.
        seed: Seed of the conversations.
        size: Tokens in a batch, padding included.
        progress: How much of the warm-up curriculum is over.
        longest: Longer conversations are left out.

    Yields:
        Token ids and weights.
    """
    rng = random.Random(seed)
    maker = ValueMaker(rng)
    while True:
        maker.invented = rng.choice((0.1, 0.25, 0.5))
        rows = encode(core, [conversation(rng, maker, progress()) for _ in range(128)])
        rows = sorted((r for r in rows if len(r[0]) <= longest and any(r[1])), key=lambda r: len(r[0]))
        groups: list[list[Row]] = [[]]
        for row in rows:
            if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > size:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            if len(group) > 2:
                yield collate(group, pad)
