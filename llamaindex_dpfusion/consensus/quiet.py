"""Silence: an LLM that reads private text within it tells no handler of events, spans or callbacks.

LlamaIndex hands every message of an LLM to the handlers of its dispatchers, which are the process's, and to the
callback manager of the LLM. The lists of handlers are made to be empty for whoever is within the silence, and
for nobody else: other threads and tasks go on being traced.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index_instrumentation import root_manager

T = TypeVar("T")

_is_silent: ContextVar[bool] = ContextVar("dpfusion_is_silent", default=False)


class _Handlers(list[T]):
    """Handlers of a dispatcher; within the silence there are none."""

    def __iter__(self) -> Iterator[T]:
        return iter(()) if _is_silent.get() else super().__iter__()


@contextmanager
def silence() -> Iterator[None]:
    """Keep what happens in this context from all handlers, those included that are added meanwhile."""
    # Whoever has set a list of handlers anew since has one that hears everything.
    for dispatcher in list(root_manager.dispatchers.values()):
        if not isinstance(dispatcher.event_handlers, _Handlers):
            dispatcher.event_handlers = _Handlers(dispatcher.event_handlers)
        if not isinstance(dispatcher.span_handlers, _Handlers):
            dispatcher.span_handlers = _Handlers(dispatcher.span_handlers)
    token = _is_silent.set(True)
    try:
        yield
    finally:
        _is_silent.reset(token)


def without_callbacks(llm: LLM) -> LLM:
    """Return the LLM with a callback manager that has no handlers, not even the global ones."""
    manager = CallbackManager([])
    manager.handlers = []
    copied: Any = llm.model_copy()
    copied.callback_manager = manager
    return copied  # type: ignore[no-any-return]
