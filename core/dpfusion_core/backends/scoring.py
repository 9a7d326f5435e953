"""Scoring whole continuations: how likely a view makes each of several texts, and that they end there.

A row computes its continuations in passes of its own. Their number and lengths are public, and no other row is
in the pass, so nothing of one view's scores depends on another's. A shorter continuation is filled up on its
right, where causal attention does not look.
"""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from dpfusion_core.backends.model import CachedModel
from dpfusion_core.backends.rows import ROWS_PER_PASS, Row


def log_likelihood(logits: Tensor, tokens: Sequence[int], ends: Collection[int]) -> Tensor:
    """Return the log-probability of tokens and of any of the ends behind them, float64, ``[]``.

    Args:
        logits: The logits before each token and behind the last, ``[tokens + 1, vocab]``.
        tokens: The continuation.
        ends: Tokens of which one ends it; without any, it may go on.
    """
    rows = torch.log_softmax(logits.to(torch.float64), dim=-1)  # [tokens + 1, vocab]
    total = rows[torch.arange(len(tokens)), torch.tensor(tokens, dtype=torch.long)].sum()
    return total + torch.logsumexp(rows[len(tokens), sorted(ends)], dim=0) if ends else total


def score_row(
    backend: CachedModel,
    row: Row,
    ids: Sequence[int],
    logits: Tensor,
    continuations: Sequence[Sequence[int]],
    ends: Collection[int],
) -> Tensor:
    """Return the log-likelihood of each continuation of one view, float64, ``[continuations]``.

    Args:
        backend: The model.
        row: The view and its cache; it stays where it is.
        ids: The tokens of the view.
        logits: The logits behind them, ``[vocab]``.
        continuations: Token ids; none is empty.
        ends: See :func:`log_likelihood`.
    """
    behind = _together(backend, row, continuations) if row.can_join else _apart(backend, ids, continuations)
    return torch.stack(
        [
            log_likelihood(torch.cat([logits[None], each]), tokens, ends)
            for each, tokens in zip(behind, continuations, strict=True)
        ]
    )


def _together(backend: CachedModel, row: Row, continuations: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """Yield the logits behind every token of each continuation, ``[tokens, vocab]``, from shared passes."""
    for begin in range(0, len(continuations), ROWS_PER_PASS):
        group = continuations[begin : begin + ROWS_PER_PASS]
        length = max(map(len, group))
        filled = [[*tokens, *[tokens[-1]] * (length - len(tokens))] for tokens in group]
        logits = row.branches(len(group)).read_all(filled)  # [group, length, vocab]
        for each, tokens in zip(logits, group, strict=True):
            yield each[: len(tokens)]


def _apart(
    backend: CachedModel, ids: Sequence[int], continuations: Sequence[Sequence[int]]
) -> Iterator[Tensor]:
    """Yield the same where a cache cannot be shared: each continuation is read with its view, from the start."""
    for tokens in continuations:
        yield Row(backend).read_all([[*ids, *tokens]])[0, -len(tokens) :]
