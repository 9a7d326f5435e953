"""What a request may ask for and what a response holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, cast

from dpfusion_core.errors import BackendError
from dpfusion_core.privacy import Accounting, Diagnostics, Neighbours, PrivacyGuarantee, Spending
from dpfusion_core.sampling import LogitsProcessor

FinishReason = Literal["stop", "length"]


class GenerationOptions(TypedDict, total=False):
    """Options of one request; each may be left out.

    Attributes:
        epsilon: What the response may lose of each unit, in nats. A request with private text needs
            this, or ``alpha`` and ``beta``.
        delta: Probability for epsilon; 1e-5 by default.
        order: With ``epsilon``: the Rényi order, by default the one that allows the most.
        responses: With ``epsilon``: how many responses of this size epsilon should last for; 1 by
            default. A ledger adds them up.
        alpha: Rényi order, above 1; with ``beta``.
        beta: Each unit's contribution to a token diverges by at most ``alpha * beta`` nats.
        mixing_loss: With ``alpha`` and ``beta``: ``c_inf`` for replace neighbours, nats per token.
        neighbours: ``"zero-out"`` (default) or ``"replace"``.
        accounting: ``"fixed"`` (default): every token may lose the same. ``"adaptive"``: what a
            token does not use is left for later ones.
        spending: Spending rule of adaptive accounting.
        on_exhausted: With a ledger and fixed accounting, if a unit's budget is spent: ``"raise"``
            (default) or ``"zero-out"``, which goes on without its text.
        max_new_tokens: Largest number of tokens, 256 by default. The guarantee is for this many.
        temperature: 1 by default; 0 is greedy, for requests without private text only.
        top_k: Keep the k tokens that are most probable given the public view.
        top_p: Keep the smallest set of those with this mass.
        min_p: Keep those with at least this share of the largest probability.
        stop: Strings that end the text.
        seed: Makes the output reproducible, and **not private** to whoever knows it.
        logits_processors: Changes to the logits that depend on public data alone.
        tools: Function schemas in OpenAI's form, for the chat template; public. Calls are found in the
            text by :func:`~dpfusion_core.tool_calling.parse_tool_calls`.
        tool_choice: ``"auto"`` (default): the model calls a tool or not. ``"none"``: it is shown none.
            ``"any"`` or a tool's name: the text is one call, with arguments that obey the schema.
        json_schema: The text is JSON that obeys this schema; or, with ``tools``, a call.
        curator: Whether to return the data curator's report.
    """

    epsilon: float | None
    delta: float
    order: float | None
    responses: int
    alpha: float | None
    beta: float | None
    mixing_loss: float | None
    neighbours: Neighbours
    accounting: Accounting
    spending: Spending
    on_exhausted: Literal["raise", "zero-out"]
    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    stop: Sequence[str]
    seed: int | None
    logits_processors: Sequence[LogitsProcessor]
    tools: Sequence[Any] | None
    tool_choice: str
    json_schema: Mapping[str, Any] | None
    curator: bool


def merge_options(own: Mapping[str, Any], said: Mapping[str, Any]) -> GenerationOptions:
    """Put the options of a call on top of those of a model.

    Args:
        own: The model's; those that are None say nothing.
        said: The call's. Saying ``epsilon`` takes the place of the model's ``alpha`` and ``beta``, and the
            other way round.

    Example:
        >>> merge_options({"alpha": 2.0, "beta": 0.01, "top_k": 50}, {"epsilon": 8.0})
        {'top_k': 50, 'epsilon': 8.0}
    """
    given = {name: value for name, value in said.items() if value is not None}
    replaced: set[str] = set()
    if "epsilon" in given:
        replaced = {"alpha", "beta", "mixing_loss"}
    elif given.keys() & {"alpha", "beta"}:
        replaced = {"epsilon", "order", "responses"}
    kept = {name: value for name, value in own.items() if value is not None and name not in replaced}
    return cast(GenerationOptions, {**kept, **given})  # the engine checks names and values


@dataclass(frozen=True)
class CuratorReport:
    """Realised mixing weights and divergences of a response: functions of private data.

    For the data curator only. Nothing here is covered by the guarantee; do not release, log or
    store it where the response's readers can see it.

    Attributes:
        lambdas: Each unit's mixing weight at each token.
        divergences: Each unit's realised divergence at each token, nats at order ``alpha``.
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
            string) or ``"length"`` (``max_new_tokens``).
        guarantee: In the last chunk.
        report: In the last chunk, if the curator's report was asked for.
        prompt_tokens: In the last chunk: length of the public view in tokens.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    guarantee: PrivacyGuarantee | None = None
    report: CuratorReport | None = field(default=None, repr=False)
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class GenerationResult:
    """A whole response.

    Attributes:
        text: The text, without the prompt.
        token_ids: Every sampled token, an end-of-sequence token included.
        finish_reason: ``"stop"`` or ``"length"``.
        prompt_tokens: Length of the public view in tokens.
        guarantee: What the response can tell about each privacy unit.
        report: The curator's report, if asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    guarantee: PrivacyGuarantee
    report: CuratorReport | None = field(default=None, repr=False)


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
    )
