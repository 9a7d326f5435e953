"""Rows that do not touch: every view has a cache of its own length, also where views share a forward pass.

In a pass of several rows only the matrix products see all rows, and their shape is the number of rows.
Attention goes row by row, so there is no padding, and no length of one row can show in another.
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from dpfusion_core.backends.model import CachedModel
from dpfusion_core.errors import BackendError

ROWS_PER_PASS = 32
"""Largest number of rows of one forward pass; a constant, so that memory is bounded and shapes are public."""


class Row:
    """One view and its cache.

    Args:
        backend: The model.
        cache: What the model keeps of the tokens read so far; made by the model at the first read.
        length: How many tokens have been read.
    """

    def __init__(self, backend: CachedModel, cache: Any = None, length: int = 0) -> None:
        self._backend = backend
        self.cache = cache
        self.length = length

    def read(self, tokens: Sequence[int]) -> Tensor:
        """Append tokens in a pass of this row alone and return the logits behind the last, ``[1, vocab]``.

        A single row has no padding, so it needs no mask.
        """
        return _last(self._read([tokens]))

    def read_all(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Append tokens to the row, or to its branches, and return the logits behind each, ``[rows, length, vocab]``.

        Args:
            tokens: As many for each row.
        """
        return self._read(tokens, keep_last=False)

    def _read(self, tokens: Sequence[Sequence[int]], *, keep_last: bool = True) -> Tensor:
        end = self.length + len(tokens[0])
        inputs: dict[str, Any] = {
            "input_ids": self._backend.tensor(tokens),
            self._backend.state_name: self.cache,
        }
        if self._backend.accepts_positions:
            inputs["position_ids"] = self._backend.tensor([list(range(self.length, end))] * len(tokens))
        output = self._backend.forward(keep_last=keep_last, **inputs)
        self.cache = getattr(output, self._backend.state_name)
        self.length = end
        logits: Tensor = output.logits
        return logits

    def branch(self, ids: Sequence[int], other: Sequence[int]) -> "Row":
        """Return a row that holds what ``other`` has in common with this row's ``ids``, but for its last token.

        A cache that is more than keys and values of every position cannot be cut: then the row is empty.
        """
        shared = 0
        for a, b in zip(ids, other[:-1], strict=False):  # at least one token must be read
            if a != b:
                break
            shared += 1
        if not shared or not self._is_plain:
            return Row(self._backend)
        return self._with([_Branch(layer, shared) for layer in self.cache.layers], shared)

    def copy(self) -> "Row":
        """Return a row that goes on from here on its own; layers replace their tensors, so those are shared."""
        copied = copy.copy(self.cache)
        copied.layers = [copy.copy(layer) for layer in self.cache.layers]
        return Row(self._backend, copied, self.length)

    def branches(self, count: int) -> "Row":
        """Return several rows in one that all go on from here; what was read so far is held once for them."""
        return self._with([_repeated(layer, count) for layer in self.cache.layers], self.length)

    def _with(self, layers: list[Any], length: int) -> "Row":
        from transformers import DynamicCache
        from transformers.cache_utils import CacheLayerMixin

        CacheLayerMixin.register(_Branch)  # caches ask their layers whether they are one
        cache: Any = DynamicCache()
        cache.layers = layers
        return Row(self._backend, cache, length)

    @property
    def can_join(self) -> bool:
        """Whether its cache is such that one more token attends to all that a layer returns, without a mask."""
        from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

        kinds = (DynamicLayer, DynamicSlidingWindowLayer, _Branch)
        return isinstance(self.cache, DynamicCache) and all(type(each) in kinds for each in self.cache.layers)

    @property
    def _is_plain(self) -> bool:
        """Whether the cache is nothing but the attention's keys and values of every position."""
        from transformers.cache_utils import DynamicCache, DynamicLayer

        return (
            self._backend.accepts_positions
            and isinstance(self.cache, DynamicCache)
            and all(
                type(layer) is DynamicLayer and layer.keys is not None and layer.keys.shape[-2] == self.length
                for layer in self.cache.layers
            )
        )


def read_together(backend: CachedModel, rows: Sequence[Row], tokens: Sequence[int]) -> Tensor:
    """Append a token to every row, in passes of several rows, and return the next logits, ``[rows, vocab]``."""
    scores = []
    for begin in range(0, len(rows), ROWS_PER_PASS):
        group, read = rows[begin : begin + ROWS_PER_PASS], tokens[begin : begin + ROWS_PER_PASS]
        if len(group) == 1:
            scores.append(group[0].read(read))
            continue
        output = backend.forward(
            row_by_row=True,
            input_ids=backend.tensor([[token] for token in read]),
            position_ids=backend.tensor([[row.length] for row in group]),
            past_key_values=_Caches(group),
        )
        for row in group:
            row.length += 1
        scores.append(_last(output.logits))
    return torch.cat(scores)


@contextmanager
def attending_row_by_row(model: Any) -> Iterator[None]:
    """Let a model's attention go row by row; nobody else may use the model meanwhile."""
    found: list[Any] = [getattr(module, "config", None) for module in model.modules()]
    configs = {id(each): each for each in found if hasattr(each, "_attn_implementation")}.values()
    own = [each._attn_implementation for each in configs]  # of all, before setting one sets others below it
    try:
        for config, implementation in zip(configs, own, strict=True):
            config._attn_implementation = _registered(implementation or "eager")
        yield
    finally:
        for config, implementation in zip(configs, own, strict=True):
            config._attn_implementation = implementation


class _Caches:
    """The caches of several rows as a model's cache: each row's keys and values go to its own.

    It has nothing else: a model that asks it for more, such as a length, is not one whose rows can join.
    """

    is_compileable = False

    def __init__(self, rows: Sequence[Row]) -> None:
        self._caches = [row.cache for row in rows]

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *more: Any, **options: Any
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Append and return all keys and values of each row, ``[1, heads, length, size]`` each."""
        updated = [
            each.update(keys[i : i + 1], values[i : i + 1], layer, *more, **options)
            for i, each in enumerate(self._caches)
        ]
        return tuple(k for k, _ in updated), tuple(v for _, v in updated)


class _Branch:
    """A layer's keys and values behind a prefix that is held once for all rows that share it."""

    is_sliding = False
    is_compileable = False

    def __init__(self, layer: Any, length: int | None = None) -> None:
        self._prefix = layer.keys[:, :, :length], layer.values[:, :, :length]  # [1, heads, length, size]
        self._own: tuple[Tensor, Tensor] | None = None

    @property
    def keys(self) -> Tensor:
        """All keys, ``[1, heads, length, size]``."""
        return self._both[0]

    @property
    def values(self) -> Tensor:
        """All values, ``[1, heads, length, size]``."""
        return self._both[1]

    @property
    def _both(self) -> tuple[Tensor, Tensor]:
        return self._prefix if self._own is None else _joined(self._prefix, self._own)

    def update(self, keys: Tensor, values: Tensor, *more: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Append and return all keys and values, ``[rows, heads, length, size]``."""
        self._own = (keys, values) if self._own is None else _joined(self._own, (keys, values))
        return self._both

    def get_seq_length(self) -> int:
        """Return the number of positions held."""
        own = 0 if self._own is None else self._own[0].shape[-2]
        return int(self._prefix[0].shape[-2]) + own

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of the mask for so many new positions."""
        return self.get_seq_length() + query_length, 0


def _joined(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Put keys and values behind others; what one row holds may stand before that of several."""
    rows = after[0].shape[0]
    keys, values = (each.expand(rows, -1, -1, -1) for each in before)
    return torch.cat([keys, after[0]], dim=-2), torch.cat([values, after[1]], dim=-2)


def _repeated(layer: Any, count: int) -> Any:
    """Return a layer for several rows that all have what a layer holds."""
    if not layer.is_sliding:
        return _Branch(layer)
    copied = copy.copy(layer)
    copied.keys, copied.values = (each.expand(count, -1, -1, -1) for each in (layer.keys, layer.values))
    return copied


@cache
def _registered(implementation: str) -> str:
    """Make row-by-row use of an attention implementation known to transformers, and return its name.

    No mask is made for a name that the registry of masks does not know, and none is needed.
    """
    from transformers import AttentionInterface

    name = f"dpfusion_rows_{implementation}"
    AttentionInterface.register(name, partial(_attend, implementation))
    return name


def _attend(
    implementation: str,
    module: torch.nn.Module,
    query: Tensor,  # [rows, heads, 1, size]
    keys: tuple[Tensor, ...],
    values: tuple[Tensor, ...],
    mask: Tensor | None,
    *,
    position_ids: Any = None,  # the rotation is done
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend with the model's own implementation, one row after the other, each over its own positions."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if not isinstance(keys, tuple) or mask is not None:
        raise BackendError("The model's attention cannot go row by row.")
    if implementation == "sdpa":
        attend = _attend_packed
    elif implementation == "eager":
        attend = sys.modules[type(module).__module__].eager_attention_forward
    else:
        attend = ALL_ATTENTION_FUNCTIONS[implementation]
    last = slice(None) if sliding_window is None else slice(-sliding_window, None)
    outputs: list[Tensor] = [
        attend(module, query[i : i + 1], k[:, :, last], v[:, :, last], None, **options)[0]
        for i, (k, v) in enumerate(zip(keys, values, strict=True))
    ]
    return torch.cat(outputs), None  # [rows, 1, heads, size]


def _attend_packed(
    module: torch.nn.Module,
    query: Tensor,  # [1, heads, 1, size]
    keys: Tensor,  # [1, shared heads, length, size]
    values: Tensor,
    mask: None,
    *,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor]:
    """Attend with one new token; heads that share keys stand as its positions, which is ten times faster on CPUs."""
    if options.get("softcap") is not None or any(isinstance(each, Tensor) for each in options.values()):
        raise BackendError("The model's attention cannot go row by row.")
    packed = query.reshape(1, keys.shape[1], -1, query.shape[-1])  # [1, shared heads, heads for each, size]
    output = torch.nn.functional.scaled_dot_product_attention(packed, keys, values, scale=scaling)
    return (output.reshape(1, 1, query.shape[1], -1),)  # [1, 1, heads, size]


def _last(logits: Tensor) -> Tensor:
    return logits[:, -1, :]  # [rows, length, vocab] -> [rows, vocab]
