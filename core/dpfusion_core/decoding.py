"""The decoding loop: the one place where tokens are sampled."""

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from dpfusion_core.backends.guarded import model_errors
from dpfusion_core.backends.protocol import Session
from dpfusion_core.options import LogitsProcessor
from dpfusion_core.privacy.accounting import Accountant
from dpfusion_core.privacy.fusion import Diagnostics, FusionRule
from dpfusion_core.sampling import Sampling, draw, public_change


@dataclass(frozen=True)
class Token:
    """One sampled token.

    Attributes:
        id: The token id; public, it has been released.
        diagnostics: What its fusion did; for the data curator only. None without private views.
    """

    id: int
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
            fused, diagnostics = log_probs[0], None  # [vocab]
            if protection is not None:
                result = protection.rule.fuse(log_probs[0], log_probs[1:], protection.accountant.bounds())
                protection.accountant.charge(result.losses)
                fused, diagnostics = result.log_probs, result.diagnostics
            token = int(fused.argmax()) if sampling.is_greedy else draw(fused, rng)
        ids.append(token)
        is_last = token in eos_token_ids or step == max_tokens - 1
        if not is_last:
            session.append(token)
        yield Token(token, diagnostics)
        if is_last:
            return
