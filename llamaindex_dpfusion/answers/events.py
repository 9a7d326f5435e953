"""Events and spans of the LLM, with the placeholder for all that is private.

LlamaIndex hands the arguments of an LLM's methods to every handler of spans, events and callbacks. Here
the traced functions are small ones that only ever get the public view; what is private reaches the
work inside them through a closure. What a workflow says of its own steps in tags, which events and spans
within it would repeat, is kept off ours.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, closing, contextmanager
from typing import Any, TypeAlias, TypeVar

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation.events.llm import LLMPredictEndEvent, LLMPredictStartEvent
from llama_index.core.llms import LLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.prompts import PromptTemplate
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import (
    DISPATCHER_SPAN_DECORATED_ATTR,
    active_instrument_tags,
    instrument_tags,
)

_dispatcher = get_dispatcher(__name__)

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Shown: TypeAlias = list[ChatMessage] | str

# A workflow's tags hold the beginning of what its steps were given, but for this one.
_OF_WORKFLOWS, _KEPT = "llamaindex.", "llamaindex.run_id"


def untraced(method: F) -> F:
    """Mark a method so that LlamaIndex does not wrap it in a span, which would hold its arguments."""
    setattr(method, DISPATCHER_SPAN_DECORATED_ATTR, True)
    return method


def bare(method: F) -> F:
    """Return a method without the span that LlamaIndex has wrapped it in."""
    found: F = getattr(method, "__wrapped__", method)
    return found


def call(llm: LLM, name: str, shown: Shown, options: dict[str, Any], work: Callable[[], T]) -> T:
    """Do the work of a method that answers a conversation or a prompt as one traced call."""

    def chat(self: LLM, messages: Sequence[ChatMessage], **options: Any) -> T:
        return work()

    def complete(self: LLM, prompt: str, **options: Any) -> T:
        return work()

    traced = _traced_call(llm, name, shown, chat, complete)
    with without_steps():
        output: T = traced(llm, shown, **options)
        return _stepwise(output)


async def acall(
    llm: LLM, name: str, shown: Shown, options: dict[str, Any], work: Callable[[], Awaitable[T]]
) -> T:
    """Do the work of a coroutine method that answers a conversation or a prompt as one traced call."""

    async def achat(self: LLM, messages: Sequence[ChatMessage], **options: Any) -> T:
        return await work()

    async def acomplete(self: LLM, prompt: str, **options: Any) -> T:
        return await work()

    traced = _traced_call(llm, name, shown, achat, acomplete)
    with without_steps():
        return await traced(llm, shown, **options)  # type: ignore[no-any-return]


async def closing_both(
    outer: AsyncGenerator[T, None], inner: AsyncGenerator[T, None]
) -> AsyncGenerator[T, None]:
    """Yield from the traced generator; whoever closes it closes ours, which LlamaIndex's tracing does not."""
    async with aclosing(inner), aclosing(outer):
        while True:
            with without_steps():
                try:
                    item = await anext(outer)
                except StopAsyncIteration:
                    return
            yield item


def predict(llm: LLM, name: str, shown: str, work: Callable[[], T]) -> T:
    """Do the work of ``predict`` or ``stream`` as one traced call."""

    def predict(self: LLM, prompt: str) -> T:
        _announce(self, prompt)
        return _ended(work())

    with without_steps():
        return _traced(predict, llm, name)(llm, shown)  # type: ignore[no-any-return]


async def apredict(llm: LLM, name: str, shown: str, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work of ``apredict`` or ``astream`` as one traced call."""

    async def apredict(self: LLM, prompt: str) -> T:
        _announce(self, prompt)
        return _ended(await work())

    with without_steps():
        return await _traced(apredict, llm, name)(llm, shown)  # type: ignore[no-any-return]


@contextmanager
def without_steps() -> Iterator[None]:
    """Keep tags that show what a workflow's step was given off the events and spans of this context."""
    tags = active_instrument_tags.get()
    kept = {k: tag for k, tag in tags.items() if k == _KEPT or not k.startswith(_OF_WORKFLOWS)}
    with instrument_tags(kept):
        yield


def _stepwise(output: T) -> T:
    """Return what a call gave back; a generator, whose events come later, with its tags kept off, too."""
    if not isinstance(output, Generator):
        return output

    def pieces() -> Generator[Any, None, None]:
        with closing(output):
            while True:
                with without_steps():
                    try:
                        item = next(output)
                    except StopIteration:
                        return
                yield item

    return pieces()  # type: ignore[return-value]


def _traced_call(
    llm: LLM, name: str, shown: Shown, chat: Callable[..., Any], complete: Callable[..., Any]
) -> Callable[..., Any]:
    """Choose the function whose argument handlers know, and the callback for it."""
    if isinstance(shown, str):
        return _traced(complete, llm, name, llm_completion_callback())
    return _traced(chat, llm, name, llm_chat_callback())


def _traced(
    function: Callable[..., Any], llm: LLM, name: str, *decorators: Callable[..., Any]
) -> Callable[..., Any]:
    function.__qualname__ = f"{type(llm).__name__}.{name}"
    for decorate in decorators:
        function = decorate(function)
    return _dispatcher.span(function)


def _announce(llm: LLM, prompt: str) -> None:
    template = PromptTemplate(prompt)
    _dispatcher.event(LLMPredictStartEvent(template=template, template_args={}))
    payload: dict[str, Any] = {EventPayload.TEMPLATE: prompt, EventPayload.TEMPLATE_VARS: {}}
    with llm.callback_manager.event(CBEventType.TEMPLATING, payload=payload):
        pass


def _ended(output: T) -> T:
    if not isinstance(output, Generator | AsyncGenerator):
        _dispatcher.event(LLMPredictEndEvent(output=str(output)))
    return output
