"""Sessions of the in-process backend: how the views of requests advance."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from dpfusion_core.backends.model import CachedModel
from dpfusion_core.backends.rows import Row, read_together
from dpfusion_core.backends.scoring import score_row
from dpfusion_core.errors import BackendError


class Lockstep:
    """Requests that advance together: one forward pass for the views of all that wait for their logits.

    A model whose rows touch (see :mod:`dpfusion_core.backends.probe`) gets a pass for each view instead.
    One thread at a time may use it.

    Args:
        backend: The model.
    """

    def __init__(self, backend: CachedModel) -> None:
        self._backend = backend
        self._passes = backend.passes
        self._members: list[ViewsSession] = []

    def open(self, prompts: Sequence[Sequence[int]]) -> "ViewsSession":
        """Read the prompts, each in a pass of its own: a private one from where it leaves the public one.

        The public prompt is read whole, so nothing of it depends on where private ones leave it.

        Args:
            prompts: Token ids of each view, the public one first; none is empty.

        Raises:
            BackendError: If a prompt is empty or has an unknown token, or the model fails, or what it
                computes for one prompt depends on what it has read before.
        """
        rows = [list(prompt) for prompt in prompts]
        if not rows or not all(rows):
            raise BackendError("Expected at least one prompt, and none of them empty.")
        if not all(0 <= token < self._backend.embedding_rows for row in rows for token in row):
            raise BackendError("A prompt has a token id outside the model's vocabulary.")
        if self._passes == "unsafe" and len(rows) > 1:
            raise BackendError(
                "The model's numbers for a prompt depend on what it has read before, or change from call to "
                "call: private text would show in public views. Use another model, device or attention."
            )
        first = Row(self._backend)
        logits = [first.read(rows[0])]  # [1, vocab] each
        # All branches before anything is read on: they are cut from the cache of the prompt.
        others = [first.branch(rows[0], ids) for ids in rows[1:]]
        logits += [row.read(ids[row.length :]) for row, ids in zip(others, rows[1:], strict=True)]
        return ViewsSession(self, [first, *others], rows, torch.cat(logits))

    def score(
        self, asking: "ViewsSession", continuations: Sequence[Sequence[int]], ends: Collection[int]
    ) -> Tensor:
        """Return how likely each view of a session makes continuations, ``[rows, continuations]``."""
        rows = zip(asking.rows, asking.ids, asking.logits(), strict=True)
        return torch.stack([score_row(self._backend, *each, continuations, ends) for each in rows])

    def advance(self, asking: "ViewsSession") -> None:
        """Compute the next logits of a session, and of all others whose tokens wait.

        Raises:
            BackendError: If the model fails, now or at an earlier token: its caches are then in no known state.
        """
        if asking.has_failed:
            raise BackendError(
                "The model failed on a batch that this request was part of. Try smaller batches."
            )
        together = self._passes == "together"
        members = [each for each in self._members if each.pending is not None] if together else [asking]
        rows = [row for member in members for row in member.rows]
        tokens = [member.token for member in members for _ in member.rows]
        for member in members:
            member.has_failed = True  # unless what follows returns
        if together:
            scores = read_together(self._backend, rows, tokens)  # [rows, vocab]
        else:
            scores = torch.cat([row.read([token]) for row, token in zip(rows, tokens, strict=True)])
        begin = 0
        for member in members:
            end = begin + len(member.rows)
            member.scores, member.pending, member.has_failed, begin = scores[begin:end], None, False, end

    def add(self, member: "ViewsSession") -> None:
        """Let a session take part."""
        self._members.append(member)

    def remove(self, member: "ViewsSession") -> None:
        """Forget a session."""
        self._members.remove(member)


class ViewsSession:
    """A request whose views advance together, perhaps with those of other requests."""

    def __init__(self, group: Lockstep, rows: list[Row], ids: list[list[int]], logits: Tensor) -> None:
        self.rows = rows
        self.ids = ids  # of each view, prompt and what was appended
        self.pending: int | None = None
        self.scores: Tensor | None = logits
        self.has_failed = False
        self._group = group
        group.add(self)

    @property
    def token(self) -> int:
        """The token that waits to be read."""
        assert self.pending is not None  # the group asks those that have one
        return self.pending

    def logits(self) -> Tensor:
        """Return the next-token logits of every view, ``[rows, vocab]``."""
        if self.scores is not None and self.pending is not None:
            self._group.advance(self)
        if self.scores is None:
            raise BackendError("The session is closed.")
        return self.scores

    def append(self, token: int) -> None:
        """Append a token to every view; it is read when its logits are asked for."""
        self.logits()  # of the token before
        self.pending = token
        for ids in self.ids:
            ids.append(token)

    def score(self, continuations: Sequence[Sequence[int]], ends: Collection[int]) -> Tensor:
        """Return how likely each view makes whole continuations, ``[rows, continuations]``."""
        return self._group.score(self, continuations, ends)

    def close(self) -> None:
        """Free the caches."""
        if self.scores is not None:
            self.scores = None
            self.rows = []
            self._group.remove(self)
