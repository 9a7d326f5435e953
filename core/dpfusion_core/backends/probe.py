"""Do a model's rows touch? The model itself is asked, before it has seen anything private.

How many rows a pass has is public. What stands in the other rows, and how long they are, is not: a row must
have equal bits beside any partners. What mixes rows fails: one scale for a whole batch, tokens grouped by
expert, a rotation chosen by the largest position, an attention that cannot go row by row.
"""

import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dpfusion_core.backends.rows import ROWS_PER_PASS, Row, read_together

if TYPE_CHECKING:
    from dpfusion_core.backends.transformers import TransformersBackend

log = logging.getLogger("dpfusion")

Passes = Literal["together", "apart", "unsafe"]
"""Views share forward passes; each has its own; not even passes of their own keep them apart."""

_KINDS = {"full_attention", "sliding_attention"}
"""Layers in which a new token sees all that the row's own cache returns, so that no mask is needed."""

_TOLERANCE = {torch.bfloat16: 0.1, torch.float16: 0.05}
"""How far logits may lie from those of a pass of their own, as a part of the largest: noise, not an error."""


_PASSES = {2: (1, 2, 5), 3: (1,), ROWS_PER_PASS: (3,)}
"""Numbers of rows of a pass that are tried, and by how many places partners move on in the list of rows.

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


def probe(backend: "TransformersBackend", config: Any, *, may_join: bool = True) -> Passes:
    """Find out how the views of a request may be computed; about 40 passes of a few tokens, fewer for a no.

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


def _prompts(backend: "TransformersBackend") -> list[list[int]]:
    """Return prompts of several lengths and contents; the first stands for the public one."""
    draw = random.Random(0)
    some = [draw.randrange(backend.embedding_rows) for _ in range(80)]
    public = some[:12]
    return [public, [*public[:5], *some[12:41]], some[41:44], public, [*public[:10], *some[44:60]], some[60:]]


def _repeats(backend: "TransformersBackend") -> bool:
    """Whether a prompt alone has equal bits before and after another has been read."""

    def read(ids: Sequence[int]) -> Tensor:
        row = Row(backend)
        return torch.cat([row.read(ids), row.read([ids[0]])])

    public, other, *_ = _prompts(backend)
    before = read(public)
    read(other)
    return torch.equal(before, read(public))


def _fits(config: Any) -> bool:
    """Whether the model's layers are of kinds that need no mask for one more token."""
    is_chunked = bool(getattr(config, "attention_chunk_size", None))
    return not is_chunked and set(getattr(config, "layer_types", None) or ()) <= _KINDS


def _are_apart(backend: "TransformersBackend") -> bool:
    """Whether rows have equal bits beside other partners, and those of a pass of their own but for noise."""
    rows = _rows(backend)
    if not all(row.can_join for row in rows):
        return False
    alone = torch.cat([row.copy().read([1]) for row in rows[:2]])  # [2, vocab]
    with _Operations() as seen:
        joined = _next(backend, rows, (0, 1))[0]  # [2, vocab]
    if seen.names & _ROUTING:
        return False
    error = (joined - alone).abs().max() / alone.abs().max()
    if not error <= _TOLERANCE.get(alone.dtype, 1e-3):
        return False
    for size, shifts in _PASSES.items():
        places = [i % len(rows) for i in range(size)]
        expected = _next(backend, rows, places)
        for kept in (0, 1):  # every second row stays, the others change
            for shift in shifts:
                moved = [(p + shift * (i % 2 != kept)) % len(rows) for i, p in enumerate(places)]
                if not torch.equal(_next(backend, rows, moved)[:, kept::2], expected[:, kept::2]):
                    return False
    return True


def _next(backend: "TransformersBackend", rows: Sequence[Row], places: Sequence[int]) -> Tensor:
    """Return the logits of two steps of a pass with the rows at these places, ``[2, rows, vocab]``.

    In the first all rows read one token, as a request's do; in the second each has a token of its own.
    """
    copies = [rows[place].copy() for place in places]
    own = [2 + place % (backend.embedding_rows - 2) for place in places]
    first = read_together(backend, copies, [1] * len(copies))
    return torch.stack([first, read_together(backend, copies, own)])


def _rows(backend: "TransformersBackend") -> list[Row]:
    """Read the prompts as a request's are read; the last row claims to stand at the end of a full context."""
    public, *others = _prompts(backend)
    rows = [Row(backend)]
    rows[0].read(public)
    rows += [rows[0].branch(public, ids) for ids in others]
    for row, ids in zip(rows[1:], others, strict=True):
        row.read(ids[row.length :])
    if backend.context_length is not None:  # some rotations change beyond a certain position
        rows.append(rows[1].copy())
        rows[-1].length = backend.context_length - 8
    return rows
