"""The seam between the engine and a session of any backend: errors told without text, shapes checked."""

import logging
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from dpfusion_core.backends.protocol import Opener
from dpfusion_core.errors import BackendError, error_name, errors_as, raise_bare

log = logging.getLogger("dpfusion")


def model_errors() -> errors_as:
    """Return what turns any error of a model into a :class:`BackendError` that quotes nothing."""
    return errors_as(BackendError, _words)


class GuardedSession:
    """A session of any backend, as the decoding loop needs it.

    A private view that equals the public one token for token has the public view's logits, bit for bit:
    that is what zeroing out a unit leaves, and another pass might round otherwise. It is computed all the
    same, so that the number of rows does not tell.

    Args:
        opener: The backend, or what begins requests that advance together.
        prompts: Token ids of each view, the public one first.

    Raises:
        BackendError: If the backend fails; so do all methods but ``close``.
    """

    def __init__(self, opener: Opener, prompts: Sequence[Sequence[int]]) -> None:
        self._rows = len(prompts)
        self._like_public = [i for i in range(1, self._rows) if prompts[i] == prompts[0]]
        with model_errors():
            self._session = opener.open(prompts)

    def logits(self) -> Tensor:
        """Return the next-token logits of every view, ``[rows, vocab]``."""
        with model_errors():
            logits = self._session.logits()
            is_usable = (
                isinstance(logits, Tensor)
                and logits.ndim == 2
                and logits.shape[0] == self._rows
                and logits.shape[1] > 0
                and not logits.is_complex()
            )
        if not is_usable:
            raise_bare(BackendError("The model's logits are no tensor with one row for each view."))
        return self._alike(logits)

    def score(self, continuations: Sequence[Sequence[int]], ends: Collection[int]) -> Tensor:
        """Return how likely each view makes whole continuations, in nats, ``[rows, continuations]``."""
        with model_errors():
            scores = self._session.score(continuations, ends)
            is_usable = (
                isinstance(scores, Tensor)
                and scores.shape == (self._rows, len(continuations))
                and scores.dtype == torch.float64
                and not bool((scores.isnan() | (scores > 1e-9)).any())
            )
        if not is_usable:
            raise_bare(
                BackendError("The model's scores are no log-probabilities of each choice under each view.")
            )
        return self._alike(scores)

    def _alike(self, rows: Tensor) -> Tensor:
        """Give the views that equal the public one its row."""
        if self._like_public:
            rows = rows.clone()
            rows[self._like_public] = rows[0].clone()
        return rows

    def append(self, token: int) -> None:
        """Append a token to every view."""
        with model_errors():
            self._session.append(token)

    def close(self) -> None:
        """End the session. What it could not free must not cost the answer: it is logged."""
        try:
            self._session.close()
        except Exception as error:  # noqa: BLE001  of somebody else's code
            name = error_name(error)
            log.warning("A session of the model could not be closed (%s).", name)


def _words(error: Exception) -> str:
    # The model's own message may print tensors or text; its type is told, its words are not.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "The device is out of memory. Use shorter prompts, fewer units or a smaller model."
    return f"The model failed in its forward pass ({error_name(error)})."
