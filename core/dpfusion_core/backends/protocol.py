"""What the decoding loop asks of a model: a backend opens sessions, a session scores one request."""

from collections.abc import Collection, Sequence
from typing import Protocol

from torch import Tensor

from dpfusion_core.tokenization import Tokenizer


class Session(Protocol):
    """One request in progress: all its views, advanced together token by token."""

    def logits(self) -> Tensor:
        """Return the next-token logits of every view, ``[rows, vocab]``, the public one first.

        Asking again without appending gives the same tensor.

        Raises:
            BackendError: If the model fails or the session is closed.
        """
        ...

    def append(self, token: int) -> None:
        """Append the same token to every view. What that takes may wait until the logits are asked for."""
        ...

    def score(self, continuations: Sequence[Sequence[int]], ends: Collection[int]) -> Tensor:
        """Return how likely each view makes whole continuations, in nats, float64, ``[rows, continuations]``.

        That is the logarithm of the probability of all tokens of a continuation and of any of ``ends`` behind
        them. The session stays where it is. What a view scores must not depend on the text of another, nor on
        its length; the continuations are public.

        Args:
            continuations: Token ids; none is empty.
            ends: Tokens of which one ends a continuation; without any, it may go on.

        Raises:
            BackendError: If the model fails or the session is closed.
        """
        ...

    def close(self) -> None:
        """Free what the session holds. Closing twice is allowed."""
        ...


class Opener(Protocol):
    """What begins requests."""

    def open(self, prompts: Sequence[Sequence[int]]) -> Session:
        """Begin a request.

        Args:
            prompts: Token ids of each view, the public one first; none is empty.

        Raises:
            BackendError: If the prompts do not fit the model.
        """
        ...


class Backend(Opener, Protocol):
    """A model and its tokenizer."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of columns of the logits."""
        ...

    @property
    def context_length(self) -> int | None:
        """Largest number of tokens of prompt and response together; None if there is no limit."""
        ...

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Tokens that end a response."""
        ...

    @property
    def fingerprint(self) -> str:
        """The model, its dtype and the engine's version: what a result depends on."""
        ...

    def together(self) -> Opener:
        """Return what begins requests that advance together, as far as the model can do that.

        They must be used by one thread at a time, and each be asked for logits once a token.
        """
        ...
