"""What rows and sessions ask of a model that runs in this process."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from torch import Tensor

Passes = Literal["together", "apart", "unsafe"]
"""Views share forward passes; each has its own; not even passes of their own keep them apart."""


class CachedModel(Protocol):
    """A causal language model that carries a cache from token to token."""

    @property
    def passes(self) -> Passes:
        """How views may be computed."""
        ...

    @property
    def embedding_rows(self) -> int:
        """Number of token ids that the model can read."""
        ...

    @property
    def context_length(self) -> int | None:
        """Largest number of tokens; None if the model states none."""
        ...

    @property
    def accepts_positions(self) -> bool:
        """Whether a pass can be told where its tokens stand."""
        ...

    @property
    def state_name(self) -> str:
        """What the architecture calls its cache."""
        ...

    def forward(self, *, row_by_row: bool = False, keep_last: bool = True, **inputs: Any) -> Any:
        """Run the model on tensors, with its attention row by row or as it is.

        Args:
            row_by_row: Whether its attention goes row by row.
            keep_last: Whether the last position's logits are enough.
            **inputs: The model's own arguments.

        Raises:
            BackendError: If the model fails.
        """
        ...

    def tensor(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Put rows of integers on the model's device, ``[rows, length]``."""
        ...
