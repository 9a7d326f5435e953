"""Text that nobody has said anything about: refused, private or public, by one rule for all frameworks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from dpfusion_core.adapters.memory import LONG, PrivateTexts, runs_of, seen
from dpfusion_core.errors import PrivacyParameterError, RefusedError
from dpfusion_core.messages import ToolCall

Unmarked = Literal["error", "strict", "private", "public"]
"""What text is that carries no mark.

- ``"error"``: public, but a call in which nothing at all is private is refused.
- ``"strict"``: every message of the system, the user and a foreign assistant must say what it is.
- ``"private"``: private, system messages included.
- ``"public"``: public; the caller vouches for it.

Under every value, the model's own answers under a guarantee are public and tool results are private. Text that
this process has seen as private is refused where it comes back unmarked and would be public.
"""


@dataclass(frozen=True)
class Said:
    """A stretch of a call's text and what was said of it.

    Attributes:
        text: The text. Never shown by ``repr``.
        role: Whose it is.
        mark: True: said to be private. False: said to be public. None: nothing was said.
        is_own: Whether it is an answer of ours under a guarantee: then it is public already.
        message: The number of its message, from 1, for errors.
        is_stable: Whether the name of its unit is known to stay the same.
    """

    text: str = field(repr=False)
    role: Literal["system", "user", "assistant", "tool"]
    mark: bool | None = None
    is_own: bool = False
    message: int = 1
    is_stable: bool = True

    @property
    def is_open(self) -> bool:
        """Whether the rule for unmarked text decides about it."""
        return self.mark is None and not self.is_own and self.role != "tool" and bool(self.text.strip())


def arguments_text(calls: Sequence[ToolCall]) -> str:
    """Return the text that stands in the arguments of calls: a stretch of their message like any other.

    Example:
        >>> arguments_text([ToolCall("search", {"query": "Ann Roe", "years": [1973]})]).splitlines()
        ['query', 'Ann Roe', 'years', '1973']
    """
    return "\n".join(_texts([call.arguments for call in calls]))


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for key, each in value.items() for text in (str(key), *_texts(each))]
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [str(value)]


def check_unmarked(value: str | None) -> None:
    """Raise ``PrivacyParameterError`` unless the value is known; None means the default."""
    if value is not None and value not in get_args(Unmarked):
        raise PrivacyParameterError(
            f"Expected unmarked to be one of {', '.join(map(repr, get_args(Unmarked)))}."
        )


def effective_unmarked(value: Unmarked | None, *, has_budget: bool) -> Unmarked:
    """Return the rule that holds for a call.

    Args:
        value: What the caller has chosen; None for the default.
        has_budget: Whether epsilon, alpha, beta or a ledger is given. Whoever gives one means to protect
            something, so by default a call that protects nothing is an error.
    """
    check_unmarked(value)
    if value is not None:
        return value
    return "error" if has_budget else "public"


def decide(
    pieces: Sequence[Said],
    unmarked: Unmarked,
    *,
    mends: str,
    has_ledger: bool = False,
    stable_mend: str = "",
    memory: PrivateTexts = seen,
) -> list[bool]:
    """Decide of each stretch of a call's text whether it is private, or refuse the call.

    Nothing has been computed when this refuses. What was marked private, and tool results, are remembered
    for the net.

    Args:
        pieces: All text of the call, in its order.
        unmarked: The rule for text without a mark.
        mends: One line for errors: how to mark text in this framework.
        has_ledger: Whether the call is charged to accounts that outlive it.
        stable_mend: One line for errors: how to name units by something stable in this framework.
        memory: The net.

    Raises:
        RefusedError: If the rule refuses the call, if private text comes back unmarked, or if a unit with
            an unstable name meets a ledger.

    Example:
        >>> record = Said("Ann lives in Oslo.", "user", mark=True)
        >>> decide([record, Said("Where does she live?", "user", message=2)], "error", mends="")
        [True, False]
    """
    check_unmarked(unmarked)
    if unmarked == "strict":
        _refuse_unmarked(pieces, mends)
    private = [is_private(piece, unmarked) for piece in pieces]
    if unmarked == "error" and not any(private) and any(piece.is_open for piece in pieces):
        raise RefusedError(
            "A privacy budget is set, but nothing in this call is marked private: all of it would be public. "
            f"{mends} If the text is public, say unmarked='public'; if any of it may be private, "
            "unmarked='private'."
        )
    if has_ledger and not all(p.is_stable for p, hidden in zip(pieces, private, strict=True) if hidden):
        raise RefusedError(
            "A private document is named by an id that may change when it is indexed again, so its budget in "
            f"the ledger would start anew. {stable_mend}"
        )
    for piece, hidden in zip(pieces, private, strict=True):
        if piece.is_open and not hidden and memory.holds(piece.text):
            raise RefusedError(
                f"Message {piece.message} (role {piece.role!r}) is not marked, and text stands in it that was "
                f"private before in this process: its mark was lost on the way. {mends} If it is public after "
                "all, mark it with is_private=False."
            )
    said: set[int] = set()
    for piece, hidden in zip(pieces, private, strict=True):
        if not hidden:
            said.update(runs_of(piece.text))
        elif piece.role == "tool":
            # "Nothing was found." is nobody's secret, nor is the question that many tools repeat.
            memory.remember(piece.text, shortest=LONG, known=said)
        elif piece.mark:
            memory.remember(piece.text)
    return private


def is_private(piece: Said, unmarked: Unmarked) -> bool:
    """Return whether a stretch of text is private, by its mark or by the rule; nothing is refused.

    Example:
        >>> is_private(Said("It rains.", "tool"), "public"), is_private(Said("Hello", "user"), "public")
        (True, False)
    """
    if piece.mark is not None:
        return piece.mark
    if piece.is_own:
        return False
    return piece.role == "tool" or unmarked == "private"


def _refuse_unmarked(pieces: Sequence[Said], mends: str) -> None:
    for piece in pieces:
        if piece.is_open:
            raise RefusedError(
                f"Message {piece.message} (role {piece.role!r}) does not say whether it is private, and "
                f"unmarked='strict' wants every message to. {mends} Or mark it with is_private=False."
            )
