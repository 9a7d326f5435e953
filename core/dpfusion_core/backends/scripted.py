"""A backend that follows a table instead of a model: exact, instant, for tests and examples."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dpfusion_core.errors import BackendError
from dpfusion_core.tokenization import Tokenizer


class ScriptedBackend:
    """Next-token distributions from a function of the token ids seen so far.

    Args:
        next_logits: Maps a view's token ids, prompt and generated, to ``vocab_size`` logits.
        tokenizer: Reads and writes the token ids.
        vocab_size: Number of tokens.
        eos_token_ids: Tokens that end a response.
        context_length: Limit of prompt and response together.
    """

    def __init__(
        self,
        next_logits: Callable[[tuple[int, ...]], Sequence[float] | Tensor],
        tokenizer: Tokenizer,
        vocab_size: int,
        eos_token_ids: Sequence[int] = (),
        context_length: int | None = None,
    ) -> None:
        self._next_logits = next_logits
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.eos_token_ids = frozenset(eos_token_ids)
        self.context_length = context_length
        self.fingerprint = "scripted"
        self.open_sessions = 0

    def open(self, prompts: Sequence[Sequence[int]]) -> "ScriptedSession":
        """Begin a request; ``open_sessions`` counts those that are not closed yet."""
        self.open_sessions += 1
        return ScriptedSession(self, [tuple(prompt) for prompt in prompts])

    def together(self) -> "ScriptedBackend":
        """Return what begins requests that advance together: nothing is gained by it here."""
        return self

    def score(self, row: tuple[int, ...]) -> Tensor:
        """Return the logits that follow one view, ``[vocab]``."""
        return torch.as_tensor(self._next_logits(row), dtype=torch.float64)


class ScriptedSession:
    """A session of a :class:`ScriptedBackend`."""

    def __init__(self, backend: ScriptedBackend, rows: list[tuple[int, ...]]) -> None:
        self._backend = backend
        self._rows = rows
        self._is_open = True

    def logits(self) -> Tensor:
        """Return the scripted logits of every view, ``[rows, vocab]``."""
        if not self._is_open:
            raise BackendError("The session is closed.")
        return torch.stack([self._backend.score(row) for row in self._rows])

    def append(self, token: int) -> None:
        """Append a token to every view."""
        self._rows = [(*row, token) for row in self._rows]

    def close(self) -> None:
        """End the session."""
        if self._is_open:
            self._is_open = False
            self._backend.open_sessions -= 1
