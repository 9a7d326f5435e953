"""What a response holds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from dpfusion_core.errors import BackendError
from dpfusion_core.privacy import Diagnostics, PrivacyGuarantee
from dpfusion_core.privacy.releasing import Released

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class CuratorReport:
    """Realised mixing weights and divergences of a response: functions of private data.

    For the data curator only. Nothing here is covered by the guarantee; do not release, log or
    store it where the response's readers can see it.

    Attributes:
        lambdas: Each unit's mixing weight at each token.
        divergences: Each unit's realised divergence at each token, nats at the request's order.
    """

    lambdas: dict[str, list[float]] = field(default_factory=dict, repr=False)
    divergences: dict[str, list[float]] = field(default_factory=dict, repr=False)

    def add(self, units: Sequence[str], diagnostics: Diagnostics) -> None:
        """Append one token's diagnostics."""
        rows = zip(units, diagnostics.lambdas.tolist(), diagnostics.divergences.tolist(), strict=True)
        for unit, weight, divergence in rows:
            self.lambdas.setdefault(unit, []).append(weight)
            self.divergences.setdefault(unit, []).append(divergence)


@dataclass(frozen=True)
class Chunk:
    """A piece of a streamed response.

    Attributes:
        text: New text, final and valid Unicode; may be empty in the last chunk.
        token_ids: The tokens sampled since the last chunk.
        finish_reason: None until the last chunk; then ``"stop"`` (end of sequence or a stop
            string) or ``"length"`` (``max_tokens``).
        guarantee: In the last chunk.
        report: In the last chunk, if the curator's report was asked for.
        prompt_tokens: In the last chunk: length of the public view in tokens; 0 where the model does not count.
        items: In the last chunk of a consensus: what was released, with noisy counts.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    guarantee: PrivacyGuarantee | None = None
    report: CuratorReport | None = field(default=None, repr=False)
    prompt_tokens: int | None = None
    items: tuple[Released, ...] | None = None


@dataclass(frozen=True)
class GenerationResult:
    """A whole response.

    Attributes:
        text: The text, without the prompt.
        token_ids: Every sampled token, an end-of-sequence token included.
        finish_reason: ``"stop"`` or ``"length"``.
        prompt_tokens: Length of the public view in tokens; 0 where the model does not count.
        guarantee: What the response can tell about each privacy unit.
        report: The curator's report, if asked for.
        items: Of a consensus: what was released, with noisy counts. Empty if nothing was: then the text is the
            public answer. None for other mechanisms.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    guarantee: PrivacyGuarantee
    report: CuratorReport | None = field(default=None, repr=False)
    items: tuple[Released, ...] | None = None


def join_chunks(chunks: Sequence[Chunk]) -> GenerationResult:
    """Return the whole response of a finished stream.

    Raises:
        BackendError: If its last chunk is missing.
    """
    last = chunks[-1] if chunks else Chunk("")
    if last.finish_reason is None or last.guarantee is None or last.prompt_tokens is None:
        raise BackendError("The stream ended without its last chunk.")
    return GenerationResult(
        text="".join(chunk.text for chunk in chunks),
        token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
        finish_reason=last.finish_reason,
        prompt_tokens=last.prompt_tokens,
        guarantee=last.guarantee,
        report=last.report,
        items=last.items,
    )
