"""Accounting: what the tokens of one response may cost each unit, and what they have cost."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.numbers import as_asked
from dpfusion_core.privacy.budget import RenyiLoss
from dpfusion_core.privacy.conversion import best_epsilon
from dpfusion_core.privacy.guarantee import PrivacyGuarantee
from dpfusion_core.privacy.loss import TokenCosts
from dpfusion_core.privacy.parameters import PrivacyParameters


class Accountant(Protocol):
    """Decides what each unit may lose with the next token and keeps the sum of what it lost.

    The decoding loop asks for ``bounds`` before each token and reports the realised ``losses``
    after it. One instance serves one response.
    """

    def bounds(self) -> Tensor:
        """Return what each contribution may diverge at the next token, nats, float64, ``[units]``.

        Raises:
            PrivacyParameterError: If all of the response's tokens have been charged.
        """
        ...

    def charge(self, losses: Tensor) -> None:
        """Take note of one sampled token and each unit's realised loss, nats, float64, ``[units]``.

        Raises:
            PrivacyParameterError: If the losses are malformed, negative or NaN, or all of the response's
                tokens have been charged. Nothing is charged then.
        """
        ...

    def used(self) -> tuple[RenyiLoss, ...]:
        """Return each unit's loss so far, for the ledger; may be private."""
        ...

    def guarantee(self, *, private: bool) -> PrivacyGuarantee:
        """Return what holds for the response so far."""
        ...


def response_loss(parameters: PrivacyParameters, num_units: int, max_tokens: int) -> RenyiLoss:
    """Return what ``max_tokens`` tokens cost one unit at most, in nats, at orders up to that of the parameters.

    A bound on the divergence at that order holds at every lower order, and formula (1c) is then taken
    at that order. Losses of tokens add up. The more units take part in a token, the less one of them loses
    by it at the same bound and cap, so that a smaller number of units gives an upper bound.

    Args:
        parameters: Per-token settings.
        num_units: Number of privacy units of the request.
        max_tokens: Number of tokens.

    Raises:
        PrivacyParameterError: If a number is out of range.

    Example:
        >>> response_loss(PrivacyParameters(2.0, 0.02), num_units=1, max_tokens=100).at(2.0)
        4.0
    """
    _validate.count(max_tokens, "max_tokens", minimum=0)
    costs = TokenCosts(parameters, num_units)

    def at(order: float) -> float:
        if order > parameters.order:
            raise PrivacyParameterError(f"Nothing is known above order {parameters.order:g}.")
        return max_tokens * costs.loss(parameters.bound, order)

    return RenyiLoss(parameters.order, at)


class TokenCount:
    """Counts the tokens of one response, and checks what is reported of each.

    Args:
        num_units: Number of privacy units of the request.
        max_tokens: Largest number of tokens of the response.

    Raises:
        PrivacyParameterError: If a number is out of range.
    """

    def __init__(self, num_units: int, max_tokens: int) -> None:
        self._num_units = _validate.count(num_units, "num_units")
        self._max_tokens = _validate.count(max_tokens, "max_tokens")
        self.tokens = 0

    def to_come(self) -> int:
        """Return how many tokens may still be sampled, or raise if there is none."""
        if self.tokens >= self._max_tokens:
            raise PrivacyParameterError(
                f"All max_tokens={self._max_tokens} tokens of the response have been charged."
            )
        return self._max_tokens - self.tokens

    def checked(self, losses: Tensor) -> Tensor:
        """Return the losses of the next token, or raise. They are not quoted: they are private."""
        self.to_come()
        is_well_formed = (
            isinstance(losses, Tensor)
            and losses.dtype == torch.float64
            and losses.shape == (self._num_units,)
            and bool(((losses >= 0.0) & losses.isfinite()).all())
        )
        if not is_well_formed:
            raise PrivacyParameterError(
                f"Expected the losses of {self._num_units} units as a float64 tensor of that length, each a "
                "finite number of at least 0 nats."
            )
        return losses

    def add(self) -> None:
        """Count one token."""
        self.tokens += 1


def check_active(active: Sequence[bool] | None, num_units: int) -> tuple[bool, ...]:
    """Return which units take part, all by default, or raise if it is not said of each."""
    found = (True,) * num_units if active is None else tuple(active)
    if len(found) != num_units or not all(isinstance(each, bool) for each in found):
        raise PrivacyParameterError(f"Expected {num_units} entries of active, True or False each.")
    return found


class FixedAccountant:
    """Fixed accounting: the same bound at every token, charged in full (docs/theory.md, section 4).

    What it says is independent of the data, so it may be shown to anyone.

    Args:
        parameters: Per-token settings.
        num_units: Number of privacy units of the request.
        max_tokens: Largest number of tokens of the response.
        active: Whether each unit takes part; all do by default. The others still count as units.
        asked: The epsilon that the settings were calibrated for: it is reported in place of one that is
            below it by rounding alone.
        asked_delta: The delta that was asked for, reported in place of that of the settings: it may be more,
            where a part of it is held back for releases.
        device: Where the bounds are needed.

    Raises:
        PrivacyParameterError: If a number is out of range.

    Example:
        >>> accountant = FixedAccountant(PrivacyParameters(2.0, 0.02), num_units=1, max_tokens=100)
        >>> round(accountant.guarantee(private=True).epsilon, 2)
        14.13
    """

    def __init__(
        self,
        parameters: PrivacyParameters,
        num_units: int,
        max_tokens: int,
        *,
        active: Sequence[bool] | None = None,
        asked: float | None = None,
        asked_delta: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._parameters = parameters
        self._count = TokenCount(num_units, max_tokens)
        self._num_units, self._max_tokens = num_units, max_tokens
        self._active = check_active(active, num_units)
        taking_part = torch.tensor(self._active, dtype=torch.float64, device=device)
        self._bounds = parameters.bound * taking_part  # [units]
        worst = response_loss(parameters, num_units, max_tokens)
        self._best = best_epsilon(worst.at, parameters.order, parameters.delta)
        self._epsilon = as_asked(self._best.epsilon, asked)
        self._delta = max(parameters.delta, asked_delta or 0.0)

    def bounds(self) -> Tensor:
        """Return the constant bound ``order * beta`` of each unit, nats, ``[units]``."""
        self._count.to_come()
        return self._bounds

    def charge(self, losses: Tensor) -> None:
        """Count one token; the bound is charged, not the realised ``losses``."""
        self._count.checked(losses)
        self._count.add()

    def used(self) -> tuple[RenyiLoss, ...]:
        """Return each unit's loss so far: tokens times the bound; public."""
        loss = response_loss(self._parameters, self._num_units, self._count.tokens)
        nothing = response_loss(self._parameters, self._num_units, 0)
        return tuple(loss if active else nothing for active in self._active)

    def guarantee(self, *, private: bool) -> PrivacyGuarantee:
        """Return the a-priori guarantee for ``max_tokens`` tokens and the count so far."""
        parameters = self._parameters
        return PrivacyGuarantee(
            epsilon=self._epsilon,
            delta=self._delta,
            order=self._best.order,
            neighbours=parameters.neighbours,
            accounting="fixed",
            tokens=self._count.tokens,
            max_tokens=self._max_tokens,
            units=self._num_units,
            loss_per_token=response_loss(parameters, self._num_units, 1).at(parameters.order),
            alpha=parameters.order,
            beta=parameters.beta,
            private=private,
            exhausted=self._num_units - sum(self._active),
            weight_cap=None if parameters.weight_cap == 1.0 else parameters.weight_cap,
        )
