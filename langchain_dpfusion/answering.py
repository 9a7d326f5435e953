"""Any chat model of LangChain as the one who answers for each document of a consensus, heard by nobody."""

import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langsmith import tracing_context

from dpfusion_core.adapters.answering import AT_ONCE, PatientAnswerer
from dpfusion_core.consensus import plain_text
from dpfusion_core.messages import Message

_T = TypeVar("_T")


class ChatModelAnswerer:
    """Asks a chat model about one document at a time.

    The model reads private text, so it must run inside the trust boundary. What it is asked and what it says
    goes to no callback, tracer or cache, unless the caller says so: ``invoke`` and ``batch`` of a chat model tell
    the callbacks of the chain around it, those of the model, of ``set_debug`` and of the environment, and look
    the prompt up in LangChain's cache. So the method is called that stands behind them.

    Args:
        llm: Answers.
        at_once: How many documents it is asked about at the same time.
        timeout: Seconds for each document; one that takes longer is not heard.
        max_retries: How many times more a document is asked about if the model fails.
        trace_private: Whether callbacks, tracers and caches see the documents and the answers.
    """

    def __init__(
        self,
        llm: BaseChatModel,
        *,
        at_once: int = AT_ONCE,
        timeout: float | None = None,
        max_retries: int = 0,
        trace_private: bool = False,
    ) -> None:
        self._llm = llm
        self._trace_private = trace_private
        self._each = PatientAnswerer(self._ask, at_once=at_once, timeout=timeout, max_retries=max_retries)

    def __repr__(self) -> str:
        return f"ChatModelAnswerer({type(self._llm).__name__})"

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None = None,
    ) -> list[str | None]:
        """Answer conversations, each for itself; how long an answer may be is the model's own setting."""
        return self._each.answer(conversations, max_tokens=max_tokens, json_schema=json_schema)

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        """Yield the pieces of one answer to a public conversation.

        The chain around it shows them as its own, so they are not told twice.
        """
        pieces = self._each.begin(lambda: self._llm.stream(_written(messages), {"callbacks": []}))
        return (piece.text for piece in pieces)

    def _ask(self, messages: Sequence[Message]) -> str:
        written = _written(messages)
        if self._trace_private:
            return self._llm.invoke(written).text
        if self._llm.rate_limiter is not None:
            self._llm.rate_limiter.acquire(blocking=True)
        result = _unheard(lambda: self._llm._generate(written))
        return result.generations[0].message.text


def _unheard(work: Callable[[], _T]) -> _T:
    """Do work that hears nothing of the run around it, and is heard by none: a model may ask others."""

    def quietly() -> _T:
        with tracing_context(enabled=False):
            return work()

    return contextvars.Context().run(quietly)


def _written(messages: Sequence[Message]) -> list[BaseMessage]:
    return [_to_langchain(message) for message in messages]


def _to_langchain(message: Message) -> BaseMessage:
    text = plain_text(message)
    if message.role == "assistant":
        calls: Any = [{"name": c.name, "args": dict(c.arguments), "id": c.id} for c in message.tool_calls]
        return AIMessage(text, tool_calls=calls)
    if message.role == "tool":
        return ToolMessage(text, tool_call_id=message.tool_call_id or "")
    return SystemMessage(text) if message.role == "system" else HumanMessage(text)
