"""Any LLM of LlamaIndex as the one who answers for each document of a consensus."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms import LLM

from dpfusion_core.adapters.answering import AT_ONCE, PatientAnswerer
from dpfusion_core.consensus import plain_text
from dpfusion_core.messages import Message
from llamaindex_dpfusion.consensus.quiet import silence, without_callbacks


class LLMAnswerer:
    """Asks an LLM about one document at a time.

    The LLM reads private text, so it must run inside the trust boundary. What it is asked and what it says goes
    to no event, span or callback, unless the caller says so.

    Args:
        llm: Answers.
        at_once: How many documents it is asked about at the same time.
        timeout: Seconds for each document; one that takes longer is not heard.
        max_retries: How many times more a document is asked about if the LLM fails.
        trace_private: Whether handlers of events and callbacks see the documents and the answers.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        at_once: int = AT_ONCE,
        timeout: float | None = None,
        max_retries: int = 0,
        trace_private: bool = False,
    ) -> None:
        self._llm = llm if trace_private else without_callbacks(llm)
        self._trace_private = trace_private
        self._each = PatientAnswerer(self._chat, at_once=at_once, timeout=timeout, max_retries=max_retries)

    def __repr__(self) -> str:
        return f"LLMAnswerer({self._llm.metadata.model_name})"

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None = None,
    ) -> list[str | None]:
        """Answer conversations, each for itself; how long an answer may be is the LLM's own setting."""
        return self._each.answer(conversations, max_tokens=max_tokens, json_schema=json_schema)

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        """Yield the pieces of one answer to a public conversation."""
        return self._each.begin(lambda: self._pieces(messages))

    def _pieces(self, messages: Sequence[Message]) -> Iterator[str]:
        with self._silence():
            responses = iter(self._llm.stream_chat(_written(messages)))
        while True:
            with self._silence():  # a generator runs in the context of whoever asks it
                response = next(responses, None)
            if response is None:
                return
            yield response.delta or ""

    def _chat(self, messages: Sequence[Message]) -> str:
        with self._silence():
            return self._llm.chat(_written(messages)).message.content or ""

    def _silence(self) -> AbstractContextManager[None]:
        return nullcontext() if self._trace_private else silence()


def _written(messages: Sequence[Message]) -> list[ChatMessage]:
    return [ChatMessage(plain_text(message), role=message.role) for message in messages]
