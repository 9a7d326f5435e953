"""LLMs of LlamaIndex that are not ours, for tests that put them behind a consensus."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any

from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from pydantic import PrivateAttr

CITY = re.compile(r"lives in (\w+)")


def city_of(prompt: str) -> str:
    """Say which cities a prompt speaks of: of its document, or of what many have said."""
    told = re.findall(r"^- (\w+)", prompt, re.MULTILINE)
    found = CITY.findall(prompt)
    if told:
        return f"They live in {', '.join(told)}."
    return found[0] if found else "Nobody says."


class Reader(CustomLLM):
    """Answers with a function of the prompt, and remembers what it was asked."""

    _say: Callable[[str], str] = PrivateAttr()
    _asked: list[str] = PrivateAttr(default_factory=list)
    _at_once: list[int] = PrivateAttr(default_factory=list)
    _delay: float = PrivateAttr(default=0.0)
    _reading: int = PrivateAttr(default=0)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, say: Callable[[str], str] = city_of, *, delay: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._say, self._delay = say, delay

    @property
    def asked(self) -> list[str]:
        return self._asked

    @property
    def most_at_once(self) -> int:
        return max(self._at_once)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="reader", is_chat_model=True, context_window=400)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._asked.append(prompt)
        with self._lock:
            self._reading += 1
            self._at_once.append(self._reading)
        try:
            time.sleep(self._delay)
            return CompletionResponse(text=self._say(prompt))
        finally:
            with self._lock:
                self._reading -= 1

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        self._asked.append(prompt)
        text = self._say(prompt)

        def pieces() -> CompletionResponseGen:
            for end in range(1, len(text) + 1):
                yield CompletionResponse(text=text[:end], delta=text[end - 1])

        return pieces()
