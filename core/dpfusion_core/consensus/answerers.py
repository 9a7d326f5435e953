"""Who answers: any chat model at all, asked plain conversations."""

import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

from dpfusion_core import _validate
from dpfusion_core.errors import BackendError, DPFusionError, PrivacyParameterError, errors_as
from dpfusion_core.messages import Message


class Answerer(Protocol):
    """A chat model that answers plain conversations, one document at a time, inside the trust boundary.

    It reads private text without differential privacy: what it says only goes to the vote. No logits are
    needed. How it answers a conversation must not depend on the others that it is asked with.
    """

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None = None,
    ) -> Sequence[str | None]:
        """Answer conversations, each for itself.

        Args:
            conversations: They end with a user's message. Segments may be marked as private, so that they do
                not print; :func:`~dpfusion_core.consensus.plain_text` is a message's text.
            max_tokens: Largest number of tokens of an answer.
            json_schema: What the answers should obey, where the model's server can hold them to it.

        Returns:
            The answers in order; None for a conversation that could not be answered. It is not told which.

        Raises:
            DPFusionError: If one conversation alone is asked and cannot be answered: why, in words that quote
                no text.
        """
        ...


@runtime_checkable
class StreamingAnswerer(Protocol):
    """An answerer that can also write piece by piece."""

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        """Yield the pieces of one answer; the conversation is public."""
        ...


class FunctionAnswerer:
    """A function as an answerer.

    Args:
        function: Answers a conversation. What it raises counts as no answer.
        at_once: How many conversations it is asked at a time, each in a thread of its own.

    Raises:
        PrivacyParameterError: If ``function`` cannot be called, or ``at_once`` is out of range.

    Example:
        >>> answerer = FunctionAnswerer(lambda messages: "yes" if "fell" in plain_text(messages[0]) else "no")
        >>> from dpfusion_core import Message
        >>> from dpfusion_core.consensus import plain_text
        >>> answerer.answer([[Message("user", "Ann fell.")], [Message("user", "Bob sat.")]], max_tokens=5)
        ['yes', 'no']
    """

    def __init__(self, function: Callable[[Sequence[Message]], str], *, at_once: int = 1) -> None:
        if not callable(function):
            raise PrivacyParameterError("Expected a function from a conversation to its answer.")
        self._function = function
        self._at_once = _validate.count(at_once, "at_once")

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None = None,
    ) -> list[str | None]:
        """Answer conversations; see :class:`Answerer`. The function sets its own limits."""
        return each_or_none(self._function, conversations, self._at_once)


def each_or_none(
    function: Callable[[Sequence[Message]], str | None],
    conversations: Sequence[Sequence[Message]],
    at_once: int,
) -> list[str | None]:
    """Call a function for each conversation, several at a time; None where it raises or says no text.

    Raises:
        DPFusionError: If there is one conversation alone, and the function raises.
    """

    def call(messages: Sequence[Message]) -> str | None:
        try:
            with errors_as(BackendError, "The model could not answer ({error})."):
                said = function(messages)
        except DPFusionError:
            if len(conversations) == 1:
                raise
            return None
        return said if isinstance(said, str) else None

    if at_once == 1 or len(conversations) < 2:
        return [call(messages) for messages in conversations]
    with ThreadPoolExecutor(min(at_once, len(conversations)), thread_name_prefix="dpfusion-answer") as pool:
        # The caller's context goes with it: hosts keep their callbacks and settings there.
        waiting = [pool.submit(contextvars.copy_context().run, call, each) for each in conversations]
        return [each.result() for each in waiting]
