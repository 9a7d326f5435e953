"""Do a model's rows touch? The model itself is asked, before it has seen anything private.

How many rows a pass has is public. What stands in the other rows, and how long they are, is not: a row must
have equal bits beside any partners. What mixes rows fails: one scale for a whole batch, tokens grouped by
expert, a rotation chosen by the largest position, an attention that cannot go row by row.
"""

import logging
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dpfusion_core.backends.model import CachedModel, Passes
from dpfusion_core.backends.rows import ROWS_PER_PASS, Row, read_together

log = logging.getLogger("dpfusion")

_KINDS = {"full_attention", "sliding_attention"}
"""Layers in which a new token sees all that the row's own cache returns, so that no mask is needed."""

_TOLERANCE = {torch.bfloat16: 0.1, torch.float16: 0.05}
"""How far logits may lie from those of a pass of their own, as a part of the largest: noise, not an error."""


_PASSES: dict[int, tuple[tuple[int, int], ...]] = {
    2: ((0, 1), (0, 2), (0, 3), (1, 1)),
    3: ((0, 1),),
    ROWS_PER_PASS: ((0, 1), (1, 1)),
}
"""For numbers of rows of a pass: whether even or odd rows stay, and by how many places the others move on.

Two rows: the public one beside a longer, a shorter, an equal one, and one at the end of a full context.
"""

_ROUTING = {
    "topk",
    "sort",
    "argsort",
    "nonzero",
    "masked_select",
    "unique",
    "bincount",
    "histc",
    "_grouped_mm",
}
"""Operations by which a model groups rows by what stands in them: then shapes of products are not public."""


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Takes note of the names of all operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def probe(backend: CachedModel, config: Any, *, may_join: bool = True) -> Passes:
    """Find out how the views of a request may be computed; about 25 passes of a few tokens, fewer for a no.

    Args:
        backend: The model.
        config: Its text configuration.
        may_join: Whether views may share passes at all.
    """
    try:
        if not _repeats(backend):
            log.warning(
                "The model does not repeat its numbers, or they depend on what it has read before: it cannot "
                "answer requests with private text."
            )
            return "unsafe"
        if not may_join:
            return "apart"
        if _fits(config) and _are_apart(backend):
            return "together"
        reason = "the rows of a batch of this model touch, or its attention cannot go row by row"
    except Exception as error:  # noqa: BLE001  a model may raise anything where it does not fit
        reason = f"this model cannot compute rows without padding ({type(error).__name__})"
    log.warning("A pass for each view, which is slower (1.7 times for two views): %s.", reason)
    return "apart"


def _prompts(backend: CachedModel) -> list[list[int]]:
    """Return prompts of several lengths and contents; the first stands for the public one."""
    draw = random.Random(0)
    some = [draw.randrange(backend.embedding_rows) for _ in range(44)]
    return [some[:12], [*some[:5], *some[12:41]], some[41:]]


def _repeats(backend: CachedModel) -> bool:
    """Whether a prompt alone, and its choices, have equal bits before and after another has been read."""
    public, other, _ = _prompts(backend)
    before = _read_alone(backend, public)
    _read_alone(backend, other)
    after = _read_alone(backend, public)
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def _read_alone(backend: CachedModel, ids: Sequence[int]) -> list[Tensor]:
    """Return the logits behind a prompt, and those of choices behind it where they share a pass."""
    row = Row(backend)
    found = [row.read(ids)]
    if row.can_join:
        found.append(row.branches(3).read_all([[0, 1], [1, 0], [1, 1]]))  # [3, 2, vocab]
    return found


def _fits(config: Any) -> bool:
    """Whether the model's layers are of kinds that need no mask for one more token."""
    is_chunked = bool(getattr(config, "attention_chunk_size", None))
    return not is_chunked and set(getattr(config, "layer_types", None) or ()) <= _KINDS


def _are_apart(backend: CachedModel) -> bool:
    """Whether rows have equal bits beside other partners, and those of a pass of their own but for noise."""
    rows = _rows(backend)
    if not all(row.can_join for row in rows):
        return False
    alone = torch.cat([row.copy().read([1]) for row in rows[:2]])  # [2, vocab]
    for size, changes in _PASSES.items():
        places = [i % len(rows) for i in range(size)]
        with _Operations() as seen:
            expected = _next(backend, rows, places)
        if size == 2 and (seen.names & _ROUTING or _distance(expected[0], alone) > 1.0):
            return False
        for kept, shift in changes:
            moved = [(p + shift * (i % 2 != kept)) % len(rows) for i, p in enumerate(places)]
            if not torch.equal(_next(backend, rows, moved)[:, kept::2], expected[:, kept::2]):
                return False
    return True


def _distance(logits: Tensor, alone: Tensor) -> float:
    """Return how far logits lie from those of passes of their own; above 1 it is more than noise."""
    distance = (logits - alone).abs().max() / alone.abs().max() / _TOLERANCE.get(alone.dtype, 1e-3)
    return float(distance.nan_to_num(nan=torch.inf))


def _next(backend: CachedModel, rows: Sequence[Row], places: Sequence[int]) -> Tensor:
    """Return the logits of the next steps of a pass with the rows at these places, ``[steps, rows, vocab]``.

    Two rows first read one token, as a request's do; in the last step each row has a token of its own.
    """
    copies = [rows[place].copy() for place in places]
    tokens = [[2 + place % (backend.embedding_rows - 2) for place in places]]
    if len(places) == 2:
        tokens.insert(0, [1, 1])
    return torch.stack([read_together(backend, copies, each) for each in tokens])


def _rows(backend: CachedModel) -> list[Row]:
    """Read the prompts as a request's are read; the last row claims to stand at the end of a full context."""
    public, *others = _prompts(backend)
    rows = [Row(backend)]
    rows[0].read(public)
    rows += [rows[0].branch(public, ids) for ids in others]
    for row, ids in zip(rows[1:], others, strict=True):
        row.read(ids[row.length :])
    rows.append(rows[0].copy())
    if backend.context_length is not None:  # some rotations change beyond a certain position
        rows.append(rows[1].copy())
        rows[-1].length = backend.context_length - 8
    return rows
