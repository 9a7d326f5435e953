"""The decoding loop: the one place where tokens are sampled."""

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from dpfusion_core.backends.guarded import model_errors
from dpfusion_core.backends.protocol import Session
from dpfusion_core.options import LogitsProcessor
from dpfusion_core.privacy.accounting import Accountant
from dpfusion_core.privacy.fusion import Diagnostics, FusionRule
from dpfusion_core.sampling import Sampling, draw, public_change


@dataclass(frozen=True)
class Token:
    """One sampled token, or one choice.

    Attributes:
        id: The token id, or the place of the choice; public, it has been released.
        log_probs: What it was drawn from, ``[options]``; for the data curator only.
        diagnostics: What its fusion did; for the data curator only. None without private views.
    """

    id: int
    log_probs: Tensor = field(repr=False, compare=False)
    diagnostics: Diagnostics | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Protection:
    """How the private views of a request are fused and accounted for.

    Attributes:
        rule: Fuses the distributions of one token.
        accountant: Sets the bounds before each token and takes note of the losses after it.
    """

    rule: FusionRule
    accountant: Accountant


def decode(
    session: Session,
    public_ids: Sequence[int],
    *,
    protection: Protection | None,
    sampling: Sampling,
    rng: random.Random,
    max_tokens: int,
    eos_token_ids: Collection[int] = (),
    processors: Sequence[LogitsProcessor] = (),
) -> Iterator[Token]:
    """Sample tokens until the end of the sequence, ``max_tokens``, or the caller stops asking.

    Every token, the first and an end-of-sequence token included, is charged before it is drawn.

    Args:
        session: The request's views, the public one first.
        public_ids: Token ids of the public view, for the processors.
        protection: Fusion and accounting; None if the session has the public view alone.
        sampling: How a token is drawn.
        rng: Source of randomness.
        max_tokens: Largest number of tokens.
        eos_token_ids: Tokens that end the sequence.
        processors: Changes to the logits that depend on public data alone.

    Yields:
        The sampled tokens.

    Raises:
        BackendError: If the model fails or returns something that is not a distribution.
    """
    ids = list(public_ids)
    for step in range(max_tokens):
        logits = session.logits()  # [rows, vocab]
        with model_errors():  # a device may fail here as well as in the model
            log_probs = sampling.log_probs(logits, public_change(processors, ids, logits[0]))
            token = take(log_probs, protection=protection, is_greedy=sampling.is_greedy, rng=rng)
        ids.append(token.id)
        is_last = token.id in eos_token_ids or step == max_tokens - 1
        if not is_last:
            session.append(token.id)
        yield token
        if is_last:
            return


def take(log_probs: Tensor, *, protection: Protection | None, is_greedy: bool, rng: random.Random) -> Token:
    """Take one turn: fuse the distributions of all views, charge, and draw. A choice is one turn, too.

    Args:
        log_probs: Log-probabilities given each view, the public one first, float64, ``[rows, options]``.
        protection: Fusion and accounting; None if there is the public view alone.
        is_greedy: Whether the most probable is taken.
        rng: Source of randomness.
    """
    fused, diagnostics = log_probs[0], None  # [options]
    if protection is not None:
        result = protection.rule.fuse(log_probs[0], log_probs[1:], protection.accountant.bounds())
        protection.accountant.charge(result.losses)
        fused, diagnostics = result.log_probs, result.diagnostics
    return Token(int(fused.argmax()) if is_greedy else draw(fused, rng), fused, diagnostics)
