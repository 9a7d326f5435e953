"""From logits to the distributions that are fused, and from the fused one to a token."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from dpfusion_core.errors import BackendError, errors_as
from dpfusion_core.options import LogitsProcessor, check


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn.

    Truncation keeps the tokens that the public distribution alone selects; it is free of privacy
    cost. Truncation by a private distribution would not be, and is never done.

    Attributes:
        temperature: Divides the logits. 0 means greedy, which only a request without private text
            may use.
        top_k: Keep the k most probable tokens; None keeps all.
        top_p: Keep the smallest set of most probable tokens whose mass reaches p.
        min_p: Keep tokens whose probability is at least ``min_p`` times the largest.

    Raises:
        PrivacyParameterError: If a value is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            check(each.name, getattr(self, each.name))

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken instead of drawing one."""
        return self.temperature == 0.0

    def log_probs(self, logits: Tensor, change: Tensor | None = None) -> Tensor:
        """Return next-token log-probabilities after temperature and public truncation.

        Args:
            logits: One row per view, the public one first, ``[rows, vocab]``.
            change: What public processors add to every row's logits, ``[vocab]``.

        Returns:
            Normalised log-probabilities in float64, ``[rows, vocab]``.

        Raises:
            BackendError: If a row has NaN or +inf, or no token left.
        """
        scores = logits.to(torch.float64)
        if change is not None:
            scores = scores + change
        # At temperature 0 the largest score wins whatever the scale.
        log_probs = torch.log_softmax(scores / (self.temperature or 1.0), dim=-1)  # [rows, vocab]
        if self.top_k is not None or self.top_p is not None or self.min_p is not None:
            log_probs = torch.log_softmax(log_probs + self._truncation(log_probs[0]), dim=-1)
        if bool(log_probs.isnan().any()):
            raise BackendError(
                "The model's logits are unusable: NaN, +inf, or no token left after the processors. "
                "Check the model's weights and dtype, and the logits processors."
            )
        return log_probs

    def _truncation(self, log_q: Tensor) -> Tensor:
        """Return 0 for the tokens that the public distribution keeps and -inf for the others, ``[vocab]``."""
        keep = torch.ones_like(log_q, dtype=torch.bool)
        if self.top_k is not None and self.top_k < log_q.shape[0]:
            keep &= log_q >= log_q.topk(self.top_k).values[-1]
        if self.top_p is not None:
            ranked, order = log_q.sort(descending=True)
            before = ranked.exp().cumsum(dim=0) - ranked.exp()  # mass of the more probable tokens
            keep &= torch.empty_like(keep).scatter_(0, order, before < self.top_p)
        if self.min_p:
            keep &= log_q >= log_q.max() + math.log(self.min_p)
        return torch.zeros_like(log_q).masked_fill_(~keep, -torch.inf)


def public_change(
    processors: Sequence[LogitsProcessor], public_ids: Sequence[int], public_logits: Tensor
) -> Tensor | None:
    """Return what the processors add to the public logits, ``[vocab]``; None without processors.

    Args:
        processors: Applied one after the other.
        public_ids: Token ids of the public view and of what was generated.
        public_logits: The public view's logits, ``[vocab]``.
    """
    if not processors:
        return None
    before = public_logits.to(torch.float64)[None]  # [1, vocab]
    after = before.clone()
    input_ids = torch.tensor([list(public_ids)], device=public_logits.device)
    with errors_as(BackendError, "A logits processor failed ({error})."):
        for processor in processors:
            after = torch.as_tensor(processor(input_ids, after), dtype=torch.float64)
    if after.shape != before.shape:
        raise BackendError(
            f"A logits processor returned the shape {tuple(after.shape)}, not {tuple(before.shape)}."
        )
    banned = after == -torch.inf
    return torch.where(banned, -torch.inf, after - before)[0]


def draw(log_probs: Tensor, rng: random.Random) -> int:
    """Draw one token by inversion of the distribution function.

    Every probability is met to within 2^-53, which over a whole response is far below any delta.

    Args:
        log_probs: Normalised log-probabilities, float64, ``[vocab]``.
        rng: Source of one uniform number of 53 bits; ``random.SystemRandom()`` draws it from the
            operating system's cryptographic generator.

    Returns:
        A token of positive probability.
    """
    cumulative = log_probs.exp().cumsum(dim=0)  # [vocab]
    total = cumulative[-1]
    # Counted from the left open end, so that a token of probability zero is never hit.
    target = total * (1.0 - rng.random())
    return int(torch.searchsorted(cumulative, torch.minimum(target, total), right=False))
