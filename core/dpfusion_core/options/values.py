"""The options of a request: the name, type, default, unit, check and help of each, once for every way in."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.options.fields import (
    LogitsProcessor,
    Mechanism,
    check_field,
    items_form,
    one_of,
    option,
    seed,
)
from dpfusion_core.privacy.guarantee import Retrieval
from dpfusion_core.privacy.parameters import Accounting, Neighbours, Spending
from dpfusion_core.tokenization import check_stop

OnExhausted = Literal["raise", "zero-out"]
Prior = Literal["uniform", "public"]
ItemForm = Literal["points", "phrases", "json"]
Items = ItemForm | Callable[[str], Iterable[str]]
HOW = (
    "Say what the answer may cost in one of two ways: epsilon and delta, for example epsilon=8.0, "
    "delta=1e-5 (the largest settings within it are chosen), or the paper's alpha (here order) and beta, for "
    "example order=2.0, beta=0.01 (smaller beta, more privacy)."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a request asks for. Every value is checked when this is made, and what contradicts another one.

    Raises:
        PrivacyParameterError: If an option is out of range, or does not go with another one.

    Example:
        >>> Options(epsilon=8.0).max_tokens
        256
    """

    epsilon: float | None = option(
        None,
        "budget",
        "What the answer, or a document, may lose of each privacy unit. Private text needs this, or order and "
        "beta.",
        _validate.positive,
        "nats",
    )
    delta: float = option(1e-5, "budget", "Probability for epsilon.", _validate.delta)
    order: float | None = option(
        None,
        "budget",
        "Rényi order, above 1; the paper's alpha. With epsilon, by default the one that allows the most.",
        _validate.order,
        only="fusion",
    )
    beta: float | None = option(
        None,
        "budget",
        "With order: each unit's contribution to a token diverges by at most order times beta.",
        _validate.non_negative,
        "nats per token",
        only="fusion",
    )
    mixing_loss: float | None = option(
        None,
        "budget",
        "With order and beta: c_inf for replace neighbours.",
        _validate.positive,
        "nats per token",
        only="fusion",
    )
    weight_cap: float | None = option(
        None,
        "budget",
        "Largest weight of a unit's text in its part of a token: with a cap, many units cost each other less. "
        "By default, with epsilon a good one for the number of units; with order and beta 1, no cap.",
        _validate.share,
        only="fusion",
    )
    responses: int = option(
        1,
        "budget",
        "With epsilon: how many answers of this size it should last for. A ledger adds them up.",
        _validate.count,
    )
    neighbours: Neighbours = option(
        "zero-out",
        "budget",
        "What is hidden: whether a unit's text was there (zero-out), or which one it was (replace).",
        one_of(Neighbours),
    )
    accounting: Accounting = option(
        "fixed",
        "accounting",
        "fixed: every token may lose the same. adaptive: what a token does not use is left for later ones.",
        one_of(Accounting),
    )
    spending: Spending = option(
        "growing",
        "accounting",
        "Spending rule of adaptive accounting: growing for most texts, accrued where private text matters "
        "rarely, capped for answers that end early.",
        one_of(Spending),
        only="fusion",
    )
    on_exhausted: OnExhausted = option(
        "raise",
        "accounting",
        "With a ledger and fixed accounting, if a unit's budget is spent: raise, or zero-out, which goes on "
        "without its text.",
        one_of(OnExhausted),
    )
    max_tokens: int = option(
        256,
        "sampling",
        "Largest number of tokens; the guarantee is for this many.",
        _validate.count,
    )
    temperature: float = option(
        1.0,
        "sampling",
        "How freely tokens are drawn. 0 is greedy, for requests without private text only.",
        _validate.temperature,
    )
    top_k: int | None = option(
        None, "sampling", "Keep the k tokens that are most probable given the public view.", _validate.count
    )
    top_p: float | None = option(
        None, "sampling", "Keep the smallest set of those with this mass.", _validate.share
    )
    min_p: float | None = option(
        None,
        "sampling",
        "Keep those with at least this share of the largest probability.",
        _validate.unit_interval,
    )
    stop: Sequence[str] = option((), "sampling", "Strings that end the text.", check_stop)
    seed: int | None = option(
        None,
        "sampling",
        "Makes the output reproducible, and NOT private to whoever knows it.",
        seed,
    )
    tools: Sequence[Any] | None = option(
        None,
        "form",
        "Function schemas in OpenAI's form, for the chat template; public. Calls are found in the text by "
        "parse_tool_calls.",
        only="fusion",
    )
    tool_choice: str = option(
        "auto",
        "form",
        "auto: the model calls a tool or not. none: it is shown none. any, or a tool's name: the text is one "
        "call, with arguments that obey the schema. choose, in LangChain and LlamaIndex: which tool is called, or "
        "none, is a choice, for half of epsilon.",
        only="fusion",
    )
    json_schema: Mapping[str, Any] | None = option(
        None, "form", "The text is JSON that obeys this schema; or, with tools, a call."
    )
    prior: Prior = option(
        "uniform",
        "choice",
        "What a choice is drawn from before anything private is seen: uniform, or public for what the model makes "
        "of the public view.",
        one_of(Prior),
        only="fusion",
    )
    mechanism: Mechanism = option(
        "fusion",
        "consensus",
        "fusion: token by token, for a few documents. consensus: what many documents say may be said, what one "
        "says may not.",
        one_of(Mechanism),
    )
    max_items: int = option(
        1,
        "consensus",
        "With consensus: how many items a document may vote for. More need more noise.",
        _validate.count,
        only="consensus",
    )
    items: Items = option(
        "points",
        "consensus",
        "With consensus: points (the model is asked for a few words, one point per line), phrases (those of its "
        "own answer), json (a list held by a grammar), or in Python a function from an answer to its items.",
        items_form,
        only="consensus",
    )
    retrieval: Retrieval | None = option(
        None,
        "engine",
        "covered: each document was taken by its own score alone, and how many were is private. not covered: by "
        "rank, so the choice of documents is outside of the guarantee.",
        one_of(Retrieval),
    )
    logits_processors: Sequence[LogitsProcessor] = option(
        (), "engine", "Changes to the logits that depend on public data alone."
    )
    curator: bool = option(False, "engine", "Whether to return the data curator's report.", only="fusion")

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, check_field(each, getattr(self, each.name)))
        if self.epsilon is None:
            if self.responses != 1:
                raise PrivacyParameterError("responses goes with epsilon, not with order and beta.")
            if (self.order is None) != (self.beta is None):
                raise PrivacyParameterError(f"order (alpha) and beta go together: give both. {HOW}")
        elif self.beta is not None:
            raise PrivacyParameterError(f"Give epsilon, or order (alpha) and beta, not both. {HOW}")
        if self.mixing_loss is not None:
            if self.beta is None:
                raise PrivacyParameterError(
                    "mixing_loss goes with order and beta; with epsilon it is chosen."
                )
            if self.neighbours != "replace":
                raise PrivacyParameterError("mixing_loss only has a meaning with neighbours='replace'.")
        for each in fields(self):
            only = each.metadata["only"]
            if only not in (None, self.mechanism) and getattr(self, each.name) != each.default:
                raise PrivacyParameterError(f"{each.name} has no effect with mechanism={self.mechanism!r}.")
        if self.retrieval == "covered" and self.mechanism == "fusion":
            raise PrivacyParameterError(
                "retrieval='covered' needs mechanism='consensus': with fusion, how many documents there are shows."
            )
        if self.epsilon is not None and self.mechanism == "fusion":
            # Numbers that no request could meet are refused before a tagger or a model has worked.
            from dpfusion_core.privacy.budget import PrivacyBudget
            from dpfusion_core.privacy.calibration import feasible_order

            feasible_order(PrivacyBudget(self.epsilon, self.delta), self.order)


class GenerationOptions(TypedDict, total=False):
    """The fields of :class:`Options` as keyword arguments, for type checkers; each may be left out.

    ``alpha`` is the paper's name of ``order``.
    """

    epsilon: float | None
    delta: float
    order: float | None
    alpha: float | None
    beta: float | None
    mixing_loss: float | None
    weight_cap: float | None
    responses: int
    neighbours: Neighbours
    accounting: Accounting
    spending: Spending
    on_exhausted: OnExhausted
    max_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    stop: Sequence[str]
    seed: int | None
    tools: Sequence[Any] | None
    tool_choice: str
    json_schema: Mapping[str, Any] | None
    prior: Prior
    mechanism: Mechanism
    max_items: int
    items: Items
    retrieval: Retrieval | None
    logits_processors: Sequence[LogitsProcessor]
    curator: bool
