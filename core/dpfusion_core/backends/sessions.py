"""Sessions of the in-process backend: how the views of requests advance, and where their caches lie."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dpfusion_core.errors import BackendError

if TYPE_CHECKING:
    from transformers import DynamicCache

    from dpfusion_core.backends.transformers import TransformersBackend


class Lockstep:
    """Requests that advance together: one forward pass for all that wait for their next logits.

    One thread at a time may use it.

    Args:
        backend: The model.
    """

    def __init__(self, backend: "TransformersBackend") -> None:
        self._backend = backend
        self._members: list[BatchedSession] = []
        self._stack: _Stack | None = None
        self._has_failed = False

    def open(self, prompts: Sequence[Sequence[int]]) -> "BatchedSession | RowwiseSession":
        """Read the prompts: the public one whole, each private one from where it leaves the public one.

        Models whose cache is plain attention keys and values advance all views in one batch, those of
        several requests too. Others (sliding windows, recurrent states, no position ids) advance each
        view in a cache of its own: slower, and right for every architecture.

        Args:
            prompts: Token ids of each view, the public one first; none is empty.

        Raises:
            BackendError: If a prompt is empty or has an unknown token, or the model fails.
        """
        rows = [list(prompt) for prompt in prompts]
        if not rows or not all(rows):
            raise BackendError("Expected at least one prompt, and none of them empty.")
        if not all(0 <= token < self._backend.embedding_rows for row in rows for token in row):
            raise BackendError("A prompt has a token id outside the model's vocabulary.")
        first = _Row(self._backend)
        logits = first.read(rows[0])  # [1, vocab]
        if not (self._backend.accepts_positions and first.is_plain):
            others = [_Row(self._backend) for _ in rows[1:]]
            scores = [logits, *(row.read(ids) for row, ids in zip(others, rows[1:], strict=True))]
            return RowwiseSession([first, *others], torch.cat(scores))
        forked = [_fork(first, rows[0], ids) for ids in rows[1:]]
        logits = torch.cat([logits, *(score for _, score in forked)])
        return BatchedSession(self, [first, *(row for row, _ in forked)], logits)

    def advance(self) -> None:
        """Compute the next logits of all sessions whose tokens wait.

        Raises:
            BackendError: If the model fails, now or at an earlier token: its caches are then in no known state.
        """
        if self._has_failed:
            raise BackendError(
                "The model failed on a batch that this request was part of. Try smaller batches."
            )
        waiting = [each for each in self._members if each.pending is not None]
        if self._stack is None or self._stack.members != waiting:
            self._unstack()
            self._stack = _Stack(self._backend, waiting)
        self._has_failed = True  # unless what follows returns
        self._stack.advance()
        self._has_failed = False

    def add(self, member: "BatchedSession") -> None:
        """Let a session take part."""
        self._members.append(member)

    def remove(self, member: "BatchedSession") -> None:
        """Forget a session and free its cache."""
        self._members.remove(member)
        if self._stack is not None and member in self._stack.members:
            if len(self._stack.members) == 1:
                self._stack = None
            else:
                self._unstack()

    def _unstack(self) -> None:
        if self._stack is not None:
            self._stack.give_back()
            self._stack = None


class BatchedSession:
    """A request whose views advance in one batch, perhaps with those of other requests."""

    def __init__(self, group: Lockstep, rows: "list[_Row]", logits: Tensor) -> None:
        self.rows = rows
        self.pending: int | None = None
        self.scores: Tensor | None = logits
        self._group = group
        group.add(self)

    def logits(self) -> Tensor:
        """Return the next-token logits of every view, ``[rows, vocab]``."""
        scores = _require_open(self.scores)
        if self.pending is None:
            return scores
        self._group.advance()
        return _require_open(self.scores)

    def append(self, token: int) -> None:
        """Append a token to every view; it is read when its logits are asked for."""
        self.logits()  # of the token before
        self.pending = token

    def close(self) -> None:
        """Free the cache."""
        if self.scores is not None:
            self.scores = None
            self._group.remove(self)
            self.rows = []


class RowwiseSession:
    """A session in which every view has a cache of its own."""

    def __init__(self, rows: "list[_Row]", logits: Tensor) -> None:
        self._rows = rows
        self._pending: int | None = None
        self._logits: Tensor | None = logits

    def logits(self) -> Tensor:
        """Return the next-token logits of every view, ``[rows, vocab]``."""
        _require_open(self._logits)
        if self._pending is not None:
            self._logits = torch.cat([row.read([self._pending]) for row in self._rows])
            self._pending = None
        return _require_open(self._logits)

    def append(self, token: int) -> None:
        """Append a token to every view; it is read when its logits are asked for."""
        self.logits()  # of the token before
        self._pending = token

    def close(self) -> None:
        """Free the caches."""
        self._rows = []
        self._logits = None


class _Row:
    """One view with a cache of its own."""

    def __init__(self, backend: "TransformersBackend", cache: Any = None, length: int = 0) -> None:
        self._backend = backend
        self.cache = cache
        self.length = length

    @property
    def is_plain(self) -> bool:
        """Whether the cache is nothing but the attention's keys and values of every position."""
        from transformers.cache_utils import DynamicCache, DynamicLayer

        return isinstance(self.cache, DynamicCache) and all(
            type(layer) is DynamicLayer and layer.keys is not None and layer.keys.shape[-2] == self.length
            for layer in self.cache.layers
        )

    def read(self, tokens: Sequence[int]) -> Tensor:
        """Append tokens and return the logits behind the last, ``[1, vocab]``.

        A single row has no padding, so it needs no mask.
        """
        end = self.length + len(tokens)
        inputs: dict[str, Any] = {
            "input_ids": self._backend.tensor([tokens]),
            self._backend.state_name: self.cache,
        }
        if self._backend.accepts_positions:
            inputs["position_ids"] = self._backend.tensor([list(range(self.length, end))])
        output = self._backend.forward(**inputs)
        self.cache = getattr(output, self._backend.state_name)
        self.length = end
        return _last(output.logits)


def _fork(public: _Row, public_ids: Sequence[int], ids: Sequence[int]) -> tuple[_Row, Tensor]:
    """Return a private row that shares the public one's prefix, and its logits ``[1, vocab]``."""
    from transformers.cache_utils import DynamicCache

    shared = 0
    for a, b in zip(public_ids, ids[:-1], strict=False):  # at least one token must be read
        if a != b:
            break
        shared += 1
    cache = DynamicCache()
    for index, layer in enumerate(public.cache.layers):
        cache.update(layer.keys[:, :, :shared], layer.values[:, :, :shared], index)
    row = _Row(public._backend, cache, shared)
    return row, row.read(ids[shared:])


class _Stack:
    """The caches of some sessions' rows as one, padded on the left.

    While it stands, the rows' own caches are empty; ``give_back`` returns them.
    """

    def __init__(self, backend: "TransformersBackend", members: "list[BatchedSession]") -> None:
        self._backend = backend
        self.members = members
        self._rows = [row for member in members for row in member.rows]
        longest = max(row.length for row in self._rows)
        self._padding = [longest - row.length for row in self._rows]
        self._cache: Any = _stacked([row.cache for row in self._rows], longest)
        for row in self._rows:
            row.cache = None
        self._mask = backend.tensor([[0] * pad + [1] * (longest - pad) for pad in self._padding])

    def advance(self) -> None:
        """Read the members' tokens and give them their logits."""
        tokens = [[member.pending] for member in self.members for _ in member.rows]
        output = self._backend.forward(
            input_ids=self._backend.tensor(tokens),  # type: ignore[arg-type]  # no member without a token
            attention_mask=torch.nn.functional.pad(self._mask, (0, 1), value=1),  # [rows, length + 1]
            position_ids=self._backend.tensor([[row.length] for row in self._rows]),
            past_key_values=self._cache,
        )
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        for row in self._rows:
            row.length += 1
        scores, begin = _last(output.logits), 0
        for member in self.members:
            end = begin + len(member.rows)
            member.scores, member.pending, begin = scores[begin:end], None, end

    def give_back(self) -> None:
        """Return each row its own part of the cache."""
        from transformers.cache_utils import DynamicCache

        for i, (row, pad) in enumerate(zip(self._rows, self._padding, strict=True)):
            row.cache = DynamicCache()
            for index, layer in enumerate(self._cache.layers):
                row.cache.update(layer.keys[i : i + 1, :, pad:], layer.values[i : i + 1, :, pad:], index)


def _stacked(caches: Sequence[Any], longest: int) -> "DynamicCache":
    """Put caches of one row each into one, padded on the left to ``longest`` positions."""
    from transformers.cache_utils import DynamicCache

    def padded(tensor: Tensor) -> Tensor:  # [1, heads, length, size] -> [1, heads, longest, size]
        return torch.nn.functional.pad(tensor, (0, 0, longest - tensor.shape[-2], 0))

    stacked = DynamicCache()
    for index, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        keys = torch.cat([padded(layer.keys) for layer in layers])
        values = torch.cat([padded(layer.values) for layer in layers])
        stacked.update(keys, values, index)
    return stacked


def _last(logits: Tensor) -> Tensor:
    return logits[:, -1, :]  # [rows, length, vocab] -> [rows, vocab]


def _require_open(logits: Tensor | None) -> Tensor:
    if logits is None:
        raise BackendError("The session is closed.")
    return logits
