"""The options of a request: the name, type, default, unit, check and help of each, once for every way in.

The engine's arguments, the command line, documents and both integrations read them here.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, Self, TypedDict, cast, get_args, get_type_hints

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy.parameters import Accounting, Neighbours, Spending
from dpfusion_core.tokenization import check_stop

OnExhausted = Literal["raise", "zero-out"]
Part = Literal["budget", "accounting", "sampling", "form", "engine"]
"""What an option is about. Those of ``"engine"`` are for whoever calls the engine itself."""

ALIASES: Mapping[str, str] = {
    "alpha": "order",  # the paper's name
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "model_name": "model",
    "neighbors": "neighbours",
}
"""What the paper, other models and other spellings call our options."""

HOW = (
    "Say what the answer may cost in one of two ways: epsilon and delta, for example epsilon=8.0, "
    "delta=1e-5 (the largest settings within it are chosen), or the paper's alpha (here order) and beta, for "
    "example order=2.0, beta=0.01 (smaller beta, more privacy)."
)

_Check = Callable[[Any, str], Any]


class LogitsProcessor(Protocol):
    """A change to the logits that depends on public data alone.

    The signature is that of ``transformers.LogitsProcessor``. It is called with the token ids of
    the public view and of what was generated, ``[1, length]``, and the public view's logits,
    ``[1, vocab]``, and returns the new ones. It never sees private logits: the change that it
    makes to the public ones is made to every view's.
    """

    def __call__(self, input_ids: Any, scores: Any, /) -> Any:
        """Return the changed scores, ``[1, vocab]``."""
        ...


def _option(default: Any, part: Part, help: str, check: _Check | None = None, unit: str = "") -> Any:
    return field(default=default, metadata={"part": part, "help": help, "check": check, "unit": unit})


def _choice(choices: Any) -> _Check:
    return lambda value, name: _validate.choice(value, get_args(choices), name)


def _seed(value: Any, name: str) -> Any:
    return _validate.count(value, name, minimum=0)


def _share(value: Any, name: str) -> Any:
    return _validate.positive(_validate.unit_interval(value, name), name)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a request asks for. Every value is checked when this is made, and what contradicts another one.

    Raises:
        PrivacyParameterError: If an option is out of range, or does not go with another one.

    Example:
        >>> Options(epsilon=8.0).max_tokens
        256
        >>> Options.read({"alpha": 2.0, "beta": 0.01}, "a call").order
        2.0
    """

    epsilon: float | None = _option(
        None,
        "budget",
        "What the answer, or a document, may lose of each privacy unit. Private text needs this, or order and "
        "beta.",
        _validate.positive,
        "nats",
    )
    delta: float = _option(1e-5, "budget", "Probability for epsilon.", _validate.delta)
    order: float | None = _option(
        None,
        "budget",
        "Rényi order, above 1; the paper's alpha. With epsilon, by default the one that allows the most.",
        _validate.order,
    )
    beta: float | None = _option(
        None,
        "budget",
        "With order: each unit's contribution to a token diverges by at most order times beta.",
        _validate.non_negative,
        "nats per token",
    )
    mixing_loss: float | None = _option(
        None,
        "budget",
        "With order and beta: c_inf for replace neighbours.",
        _validate.positive,
        "nats per token",
    )
    responses: int = _option(
        1,
        "budget",
        "With epsilon: how many answers of this size it should last for. A ledger adds them up.",
        _validate.count,
    )
    neighbours: Neighbours = _option(
        "zero-out",
        "budget",
        "What is hidden: whether a unit's text was there (zero-out), or which one it was (replace).",
        _choice(Neighbours),
    )
    accounting: Accounting = _option(
        "fixed",
        "accounting",
        "fixed: every token may lose the same. adaptive: what a token does not use is left for later ones.",
        _choice(Accounting),
    )
    spending: Spending = _option(
        "growing",
        "accounting",
        "Spending rule of adaptive accounting: growing for most texts, accrued where private text matters "
        "rarely, capped for answers that end early.",
        _choice(Spending),
    )
    on_exhausted: OnExhausted = _option(
        "raise",
        "accounting",
        "With a ledger and fixed accounting, if a unit's budget is spent: raise, or zero-out, which goes on "
        "without its text.",
        _choice(OnExhausted),
    )
    max_tokens: int = _option(
        256,
        "sampling",
        "Largest number of tokens; the guarantee is for this many.",
        _validate.count,
    )
    temperature: float = _option(
        1.0,
        "sampling",
        "How freely tokens are drawn. 0 is greedy, for requests without private text only.",
        _validate.temperature,
    )
    top_k: int | None = _option(
        None, "sampling", "Keep the k tokens that are most probable given the public view.", _validate.count
    )
    top_p: float | None = _option(None, "sampling", "Keep the smallest set of those with this mass.", _share)
    min_p: float | None = _option(
        None,
        "sampling",
        "Keep those with at least this share of the largest probability.",
        _validate.unit_interval,
    )
    stop: Sequence[str] = _option((), "sampling", "Strings that end the text.", check_stop)
    seed: int | None = _option(
        None,
        "sampling",
        "Makes the output reproducible, and NOT private to whoever knows it.",
        _seed,
    )
    tools: Sequence[Any] | None = _option(
        None,
        "form",
        "Function schemas in OpenAI's form, for the chat template; public. Calls are found in the text by "
        "parse_tool_calls.",
    )
    tool_choice: str = _option(
        "auto",
        "form",
        "auto: the model calls a tool or not. none: it is shown none. any, or a tool's name: the text is one "
        "call, with arguments that obey the schema.",
    )
    json_schema: Mapping[str, Any] | None = _option(
        None, "form", "The text is JSON that obeys this schema; or, with tools, a call."
    )
    logits_processors: Sequence[LogitsProcessor] = _option(
        (), "engine", "Changes to the logits that depend on public data alone."
    )
    curator: bool = _option(False, "engine", "Whether to return the data curator's report.")

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, check(each.name, getattr(self, each.name)))
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
        if self.epsilon is not None:
            # Numbers that no request could meet are refused before a tagger or a model has worked.
            from dpfusion_core.privacy.budget import PrivacyBudget
            from dpfusion_core.privacy.calibration import feasible_order

            feasible_order(PrivacyBudget(self.epsilon, self.delta), self.order)

    @classmethod
    def read(cls, given: Mapping[str, Any], owner: str, known: Collection[str] | None = None) -> Self:
        """Read options as a caller has named them.

        Args:
            given: The options. Errors about their values use the caller's names.
            owner: What is asked, for errors: ``"generate"``, ``"a call"``.
            known: Names to propose for unknown ones; by default those of all options.

        Raises:
            PrivacyParameterError: If a name is unknown, an option is given under two names, or a value is
                out of range or contradicts another one.
        """
        named = canonical(given, NAMES if known is None else known, owner)
        _check_all(given)
        return cls(**named)


NAMES = tuple(each.name for each in fields(Options))
"""The names of all options."""

_FIELDS = {each.name: each for each in fields(Options)}


def of_parts(*parts: Part) -> tuple[str, ...]:
    """Return the names of the options that are about something.

    Example:
        >>> of_parts("accounting")
        ('accounting', 'spending', 'on_exhausted')
    """
    return tuple(name for name, each in _FIELDS.items() if each.metadata["part"] in parts)


def help_of(name: str) -> str:
    """Return what an option means, with its unit."""
    said = _FIELDS[name].metadata
    unit = f" In {said['unit']}." if said["unit"] else ""
    return f"{said['help']}{unit}"


def default_of(name: str) -> Any:
    """Return the default of an option."""
    return _FIELDS[name].default


def check(name: str, value: Any, called: str | None = None) -> Any:
    """Return the value of an option, or refuse it.

    Args:
        name: The option.
        value: Its value. None is one where it is the default.
        called: What the caller calls the option.

    Raises:
        PrivacyParameterError: If the option cannot have the value.
    """
    said = _FIELDS[name]
    test = said.metadata["check"]
    if test is None or (value is None and said.default is None):
        return value
    return test(value, called or name)


_NUMBERS = {name for name, hint in get_type_hints(Options).items() if {int, float} & {hint, *get_args(hint)}}


def canonical(
    given: Mapping[str, Any], known: Collection[str], owner: str, advice: str = ""
) -> dict[str, Any]:
    """Return options under their own names.

    Args:
        given: Options as the caller has named them. Values are never quoted.
        known: The names that ``owner`` knows.
        owner: What is configured, for errors: ``"ChatDPFusion"``, ``"a call"``.
        advice: What else to say of unknown names.

    Raises:
        PrivacyParameterError: If a name is unknown, one option is given under two names, or a number is True
            or False: pydantic would read them as 1 and 0.

    Example:
        >>> canonical({"max_completion_tokens": 50}, {"max_tokens", "epsilon"}, "ChatDPFusion")
        {'max_tokens': 50}
        >>> canonical({"epsilonn": 8}, {"max_tokens", "epsilon"}, "ChatDPFusion")
        Traceback (most recent call last):
        dpfusion_core.errors.PrivacyParameterError: Unknown option 'epsilonn' of ChatDPFusion. Did you mean 'epsilon'?
    """
    options: dict[str, Any] = {}
    for name, value in given.items():
        right = name if name in known else ALIASES.get(name, name)
        if right not in known:
            raise PrivacyParameterError(_validate.unknown_option(name, known, owner, advice, ALIASES))
        if right in options:
            raise PrivacyParameterError(f"{owner}: {right!r} is given twice, under two names. Give it once.")
        if isinstance(value, bool) and right in _NUMBERS:
            raise PrivacyParameterError(f"Expected {name} of {owner} to be a number, not {value}.")
        options[right] = value
    return options


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
    logits_processors: Sequence[LogitsProcessor]
    curator: bool


def merge_options(own: Mapping[str, Any], said: Mapping[str, Any]) -> GenerationOptions:
    """Put the options of a call on top of those of a model.

    Args:
        own: The model's; those that are None say nothing.
        said: The call's. Saying ``epsilon`` takes the place of the model's ``order`` and ``beta``, and the
            other way round.

    Raises:
        PrivacyParameterError: If a name is unknown, or an option is given under two names.

    Example:
        >>> merge_options({"order": 2.0, "beta": 0.01, "top_k": 50}, {"epsilon": 8.0})
        {'top_k': 50, 'epsilon': 8.0}
    """
    own, said = (_said(each) for each in (own, said))
    if ("epsilon" in said and "beta" in own) or ("beta" in said and "epsilon" in own):
        other_way = {"epsilon", "order", "beta", "mixing_loss", "responses"}
        own = {name: value for name, value in own.items() if name not in other_way}
    return cast(GenerationOptions, {**own, **said})  # what goes together, the engine checks


def _said(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not None, each checked under the caller's name for it."""
    given = {name: value for name, value in options.items() if value is not None}
    named = canonical(given, NAMES, "a call")
    _check_all(given)
    return named


def _check_all(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        check(ALIASES.get(name, name), value, name)
