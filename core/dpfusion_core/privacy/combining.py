"""Two guarantees as one: what both answers together can tell."""

from dataclasses import replace

from dpfusion_core.numbers import as_asked
from dpfusion_core.privacy.guarantee import PrivacyGuarantee


def both(first: PrivacyGuarantee, second: PrivacyGuarantee, asked: float | None = None) -> PrivacyGuarantee:
    """Return the guarantee of two answers about the same units, the second asked for after the first was seen.

    By basic composition: epsilons add up, and so do deltas. The two need not be kept at the same order.

    Args:
        first: Of the first answer.
        second: Of the second answer; what made it is what made both.
        asked: What epsilon was asked for: it is reported in place of a sum that is off by rounding alone.

    Example:
        >>> from dpfusion_core.privacy import FixedAccountant, PrivacyParameters
        >>> one = FixedAccountant(PrivacyParameters(2.0, 0.02), num_units=1, max_tokens=100).guarantee(private=True)
        >>> two = both(one, one)
        >>> two.epsilon == 2 * one.epsilon, two.delta == 2 * one.delta, two.order
        (True, True, None)
    """
    if second.units == 0:
        return replace(first, mechanism=second.mechanism)
    return replace(
        second,
        epsilon=as_asked(first.epsilon + second.epsilon, asked),
        delta=first.delta + second.delta,
        order=None,
        tokens=first.tokens + second.tokens,
        max_tokens=first.max_tokens + second.max_tokens,
        loss_per_token=None,
        alpha=None,
        beta=None,
        private=first.private and second.private,
        exhausted=max(first.exhausted, second.exhausted),
    )
