"""A framework's model as one that answers for each document: several at once, in time, asked again if it fails.

Both frameworks bring tenacity, which waits between the attempts; the core does without.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from dpfusion_core import _validate
from dpfusion_core.consensus import FunctionAnswerer
from dpfusion_core.messages import Message
from dpfusion_core.threads import in_time

if TYPE_CHECKING:
    from tenacity import Retrying

_T = TypeVar("_T")

AT_ONCE = 8
"""How many documents a model is asked about at the same time unless the caller says otherwise."""

LONGEST_WAIT = 8
"""Seconds between two attempts at most."""

Ask = Callable[[Sequence[Message]], str]
"""Answers a conversation."""


class PatientAnswerer:
    """A function that asks a model, as an answerer that waits for each document so long and no longer.

    A document that is not answered in time, or for which the model fails each time, has no vote; nobody is told
    which. A call cannot be interrupted: what is late goes on in a thread that nobody waits for.

    Args:
        ask: Answers a conversation.
        at_once: How many documents it is asked about at the same time.
        timeout: Seconds for an answer, all attempts together; None for any time.
        max_retries: How many times more it is asked if it raises.

    Raises:
        PrivacyParameterError: If an argument is out of range.

    Example:
        >>> from dpfusion_core.consensus import plain_text
        >>> answerer = PatientAnswerer(lambda messages: plain_text(messages[-1]).upper(), at_once=2)
        >>> answerer.answer([[Message("user", "yes")], [Message("user", "no")]], max_tokens=5)
        ['YES', 'NO']
    """

    def __init__(
        self, ask: Ask, *, at_once: int = AT_ONCE, timeout: float | None = None, max_retries: int = 0
    ) -> None:
        self._ask = ask
        self._timeout = None if timeout is None else _validate.positive(timeout, "timeout")
        self._attempts = 1 + _validate.count(max_retries, "max_retries", minimum=0)
        self._each = FunctionAnswerer(self._in_time, at_once=at_once)

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None = None,
    ) -> list[str | None]:
        """Answer conversations, each for itself; how long an answer may be is the model's own setting."""
        return self._each.answer(conversations, max_tokens=max_tokens, json_schema=json_schema)

    def begin(self, stream: Callable[[], Iterator[_T]]) -> Iterator[_T]:
        """Yield from a stream; it is begun again if it fails before its first piece."""

        def begun() -> tuple[list[_T], Iterator[_T]]:
            pieces = iter(stream())
            return list(islice(pieces, 1)), pieces

        first, rest = self._retrying()(begun)
        yield from first
        yield from rest

    def _in_time(self, messages: Sequence[Message]) -> str:
        again = self._retrying()
        if self._timeout is None:
            return again(self._ask, messages)
        return in_time(lambda: again(self._ask, messages), self._timeout, "dpfusion-answer")

    def _retrying(self) -> "Retrying":
        from tenacity import Retrying, stop_after_attempt, wait_random_exponential

        waits = wait_random_exponential(max=LONGEST_WAIT)
        return Retrying(stop=stop_after_attempt(self._attempts), wait=waits, reraise=True)
