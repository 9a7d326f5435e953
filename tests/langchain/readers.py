"""A chat model of somebody else's, which reads documents for a consensus and remembers what it was asked."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from tests.langchain.leaks import SECRET

CITY = re.compile(r"lives in (\w+)")


def city_of(prompt: str) -> str:
    """Say which city a prompt speaks of: that of its document, or what many have said."""
    told = re.findall(r"^- (\w+)", prompt, re.MULTILINE)
    found = CITY.findall(prompt)
    if told:
        return f"They live in {', '.join(told)}."
    return found[0] if found else "Nobody says."


class Reader(BaseChatModel):
    """Answers with a function of the whole prompt."""

    say: Callable[[str], str] = Field(default=city_of, exclude=True)
    delay: float = 0.0

    _asked: list[str] = PrivateAttr(default_factory=list)
    _at_once: list[int] = PrivateAttr(default_factory=list)
    _reading: int = PrivateAttr(default=0)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def asked(self) -> list[str]:
        return self._asked

    @property
    def most_at_once(self) -> int:
        return max(self._at_once)

    @property
    def _llm_type(self) -> str:
        return "reader"

    def _answer(self, messages: list[BaseMessage]) -> str:
        prompt = "\n".join(str(message.content) for message in messages)
        with self._lock:
            self._asked.append(prompt)
            self._reading += 1
            self._at_once.append(self._reading)
        try:
            time.sleep(self.delay)
            return self.say(prompt)
        finally:
            with self._lock:
                self._reading -= 1

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self._answer(messages)))])


class StreamingReader(Reader):
    """The same, letter by letter."""

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for letter in self._answer(messages):
            yield ChatGenerationChunk(message=AIMessageChunk(content=letter))


class Router(BaseChatModel):
    """A chat model that hands everything on to another one, which tells whoever is listening."""

    inner: BaseChatModel

    @property
    def _llm_type(self) -> str:
        return "router"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.inner.invoke(messages))])


def town(people: int = 30, city: str = "Oslo") -> list[str]:
    """Return documents that all hold the secret, of people who live in one city."""
    return [f"Person {number}, called {SECRET}, lives in {city}." for number in range(people)]
