"""One charge for all chunks of a document."""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from dpfusion_core.charging import make_plan
from dpfusion_core.errors import DPFusionError, PrivacyParameterError
from dpfusion_core.generation import GenerationOptions
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.privacy import (
    FixedAccountant,
    PrivacyGuarantee,
    PrivacyParameters,
    best_epsilon,
    calibrate_beta,
    response_loss,
)

log = logging.getLogger("dpfusion")


class DocumentCharge:
    """What the chunks of a document may cost its units together, and what they have cost.

    Every chunk has the same per-token bound. A unit that takes part in a chunk with others loses less
    by it than if it were alone (docs/theory.md, section 3, formula 1), so the loss at the smallest number of units
    that any chunk has bounds the loss of every unit, and composition adds up the tokens of all chunks.

    Args:
        parameters: Per-token settings of all chunks.
        chunks: The units of each chunk that has any.
        tokens: Largest number of tokens of each of these chunks.
        is_shared: Whether epsilon is shared with other documents, and so is kept at ``alpha`` alone.
        asked: The epsilon that was asked for.
    """

    def __init__(
        self,
        parameters: PrivacyParameters,
        chunks: Sequence[Collection[str]],
        tokens: Sequence[int],
        *,
        is_shared: bool = False,
        asked: float | None = None,
    ) -> None:
        self.parameters = parameters
        self.units = tuple(dict.fromkeys(unit for chunk in chunks for unit in sorted(chunk)))
        self.max_tokens = sum(tokens)
        self._is_shared = is_shared
        self._fewest = min(map(len, chunks))
        self._accountant = FixedAccountant(parameters, self._fewest, self.max_tokens, asked=asked)

    @property
    def options(self) -> GenerationOptions:
        """What each chunk's generation is told."""
        chosen = self.parameters
        return {
            "alpha": chosen.alpha,
            "beta": chosen.beta,
            "delta": chosen.delta,
            "neighbours": chosen.neighbours,
            "mixing_loss": chosen.mixing_loss,
        }

    def count(self, tokens: int) -> None:
        """Charge the tokens of a chunk."""
        nothing = torch.zeros(self._fewest, dtype=torch.float64)  # the bound is charged
        for _ in range(tokens):
            self._accountant.charge(nothing)

    def guarantee(self, *, private: bool) -> PrivacyGuarantee:
        """Return the guarantee of the whole document."""
        return replace(self._accountant.guarantee(private=private), units=len(self.units))

    @contextmanager
    def charged(self, ledger: PrivacyLedger | None) -> Iterator[None]:
        """Reserve what the whole document may cost, and give back what it did not use in the end.

        Raises:
            BudgetExhaustedError: If a unit cannot pay; then nothing is generated.
            LedgerError: If the ledger cannot be reached or written; then nothing is generated.
        """
        if ledger is None:
            yield
            return
        loss = response_loss(self.parameters, self._fewest, self.max_tokens)
        alpha, delta = self.parameters.alpha, self.parameters.delta
        reservation = ledger.reserve(
            dict.fromkeys(self.units, loss),
            order=alpha if self._is_shared else best_epsilon(loss.at, alpha, delta).order,
            neighbours=self.parameters.neighbours,
            note={"max_tokens": self.max_tokens, "units": len(self.units), "document": True},
        )
        try:
            yield
        finally:
            (used, *_) = self._accountant.used()
            try:
                ledger.settle(reservation, dict.fromkeys(self.units, used))
            except DPFusionError as error:
                # The document is paid for; only a refund is lost.
                log.warning("What a document did not use could not be given back: %s", error)


def plan_document(
    options: GenerationOptions,
    chunks: Sequence[Collection[str]],
    tokens: Sequence[int],
    ledger: PrivacyLedger | None,
) -> DocumentCharge:
    """Turn the options of a document into the settings of its chunks.

    Args:
        options: ``epsilon`` and ``delta`` for the whole document, or ``alpha`` and ``beta``.
        chunks: The units of each chunk that has any.
        tokens: Largest number of tokens of each of these chunks.
        ledger: Accounts that it keeps already say from which order on the document can be charged.

    Raises:
        PrivacyParameterError: If an option is missing, out of range or contradictory.
    """
    units = sorted({unit for chunk in chunks for unit in chunk})
    plan = make_plan(options, units, sum(tokens), ledger)
    if plan is None:
        raise PrivacyParameterError("The document has no private text to charge for.")
    parameters = plan.parameters
    epsilon, fewest = options.get("epsilon"), min(map(len, chunks))
    if epsilon is not None and fewest < len(units):
        # The plan counted on all units in every chunk; where there are fewer, each loses more.
        total = sum(tokens) * options.get("responses", 1)
        parameters = calibrate_beta(
            epsilon,
            parameters.delta,
            total,
            fewest,
            parameters.alpha,
            parameters.neighbours,
            is_shared=plan.is_shared,
        )
    return DocumentCharge(parameters, chunks, tokens, is_shared=plan.is_shared, asked=plan.epsilon)
