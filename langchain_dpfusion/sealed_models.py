"""The chat model whose input is sealed before callbacks, tracers and caches see it, whatever answers it."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.runnables import RunnableBinding, RunnableConfig
from pydantic import model_validator

from dpfusion_core import __version__
from dpfusion_core.adapters import Call, offered_tools
from dpfusion_core.consensus import Consensus
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import ViewError, errors_as
from langchain_dpfusion import admission, batching, description
from langchain_dpfusion.checks import CheckedSettings
from langchain_dpfusion.options import check_call, check_forms, engine_options, pick, refuse_options
from langchain_dpfusion.replies import Replies
from langchain_dpfusion.sealed_runnables import SealedBinding

# Types of the arguments that the methods of every chat model share.
_Messages = list[BaseMessage]
_Inputs = list[LanguageModelInput]
_Stop = list[str] | None
_Config = RunnableConfig | None
_Configs = RunnableConfig | list[RunnableConfig] | None
_Manager = CallbackManagerForLLMRun | None
_AsyncManager = AsyncCallbackManagerForLLMRun | None

_NOT_AN_INPUT = (
    "The input cannot be read as messages ({error}). Give a string, a prompt, or a list of messages with the "
    "roles system, human, ai and tool."
)


class SealedChatModel(CheckedSettings, BaseChatModel):
    """A chat model that callbacks, tracers and caches see answer placeholders; an engine gets the text."""

    conversations_at_once: ClassVar[int] = batching.PARALLEL
    """How many conversations of a batch are answered at a time unless ``max_concurrency`` says so."""

    @abstractmethod
    def engine_for(self, name: str | None = None) -> FusionEngine | Consensus:
        """Return what answers a call, by the name of the call's model; None for the chat model's own."""

    @model_validator(mode="after")
    def _name_version(self) -> Self:
        self._add_version("langchain-dpfusion", __version__)
        return self

    # --- What callbacks, tracers and caches see ---

    def __repr_args__(self) -> Any:
        """Show what identifies the model; never an object that may hold text."""
        yield from ((key, value) for key, value in self._identifying_params.items() if value is not None)

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return description.identifying_params(self)

    def _get_ls_params(self, stop: _Stop = None, **kwargs: Any) -> LangSmithParams:
        return description.langsmith_params(self, kwargs, stop)

    def prompt(self, model_input: LanguageModelInput, call: Mapping[str, Any] | None) -> ChatPromptValue:
        """Return an input as sealed messages; with the options of its call, it is refused if need be."""
        with errors_as(ViewError, _NOT_AN_INPUT):
            messages = super()._convert_input(model_input).to_messages()
        return ChatPromptValue(messages=admission.sealed(self, messages, call))

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        return self.prompt(model_input, None)

    def _get_invocation_params(self, stop: _Stop = None, **kwargs: Any) -> dict[str, Any]:
        kwargs = check_call(kwargs)  # here, because callbacks are told next
        check_forms(kwargs)
        return super()._get_invocation_params(stop=stop, **kwargs)

    def _generate_with_cache(self, messages: _Messages, *args: Any, **kwargs: Any) -> ChatResult:
        return super()._generate_with_cache(admission.digested(self, messages, kwargs), *args, **kwargs)

    async def _agenerate_with_cache(self, messages: _Messages, *args: Any, **kwargs: Any) -> ChatResult:
        digested = admission.digested(self, messages, kwargs)
        return await super()._agenerate_with_cache(digested, *args, **kwargs)

    # --- What is built around the model seals its input too ---

    def bind(self, **kwargs: Any) -> Any:
        """Return the model with options of its calls.

        Raises:
            PrivacyParameterError: If an option is unknown.
        """
        return SealedBinding.of(RunnableBinding(bound=self, kwargs=check_call(kwargs), config={}), self)

    def with_config(self, config: _Config = None, **kwargs: Any) -> Any:
        """Return the model with a config.

        Raises:
            PrivacyParameterError: If it holds an option of calls, which no config is read for.
        """
        refuse_options({**(config or {}), **kwargs})
        return SealedBinding.of(super().with_config(config, **kwargs), self)

    def with_listeners(self, **listeners: Any) -> Any:
        """Return the model with listeners."""
        return SealedBinding.of(super().with_listeners(**listeners), self)

    def with_types(self, **types: Any) -> Any:
        """Return the model with types."""
        return SealedBinding.of(super().with_types(**types), self)

    def with_retry(self, **kwargs: Any) -> Any:
        """Return the model, asked again when it fails."""
        return SealedBinding.of(super().with_retry(**kwargs), self)

    def with_fallbacks(self, fallbacks: Sequence[Any], **kwargs: Any) -> Any:
        """Return the model with others that are asked when it fails; they get placeholders."""
        return SealedBinding.of(super().with_fallbacks(fallbacks, **kwargs), self)

    # --- Ways to ask ---

    if not TYPE_CHECKING:  # checkers take the overloads of the base class

        def stream_events(self, input, config=None, **kwargs):
            """Yield events; their input is sealed."""
            return super().stream_events(self.prompt(input, kwargs), config, **kwargs)

        def astream_events(self, input, config=None, **kwargs):
            """Yield events; their input is sealed."""
            return super().astream_events(self.prompt(input, kwargs), config, **kwargs)

        def stream(self, input, config=None, *, stop=None, **kwargs):
            """Yield the chunks of an answer."""
            return super().stream(self.prompt(input, kwargs), config, stop=stop, **kwargs)

        async def astream(self, input, config=None, *, stop=None, **kwargs):
            """Yield the chunks of an answer without blocking the event loop."""
            prompt = await asyncio.to_thread(self.prompt, input, kwargs)
            async with aclosing(super().astream(prompt, config, stop=stop, **kwargs)) as chunks:
                async for chunk in chunks:
                    yield chunk

    def generate(
        self, messages: list[_Messages], stop: _Stop = None, callbacks: Callbacks = None, **kwargs: Any
    ) -> LLMResult:
        """Answer conversations; see :meth:`invoke`."""
        sealed = [admission.sealed(self, each, kwargs) for each in messages]
        return super().generate(sealed, stop, callbacks, **kwargs)

    async def agenerate(
        self, messages: list[_Messages], stop: _Stop = None, callbacks: Callbacks = None, **kwargs: Any
    ) -> LLMResult:
        """Answer conversations; see :meth:`ainvoke`."""
        sealed = [await asyncio.to_thread(admission.sealed, self, each, kwargs) for each in messages]
        return await super().agenerate(sealed, stop, callbacks, **kwargs)

    def invoke(
        self, input: LanguageModelInput, config: _Config = None, *, stop: _Stop = None, **kwargs: Any
    ) -> AIMessage:
        """Answer a conversation."""
        with batching.seat(self):
            return super().invoke(input, config, stop=stop, **kwargs)

    async def ainvoke(
        self, input: LanguageModelInput, config: _Config = None, *, stop: _Stop = None, **kwargs: Any
    ) -> AIMessage:
        """Answer a conversation without blocking the event loop; cancelling frees the model's memory."""
        async with batching.aseat(self):
            return await super().ainvoke(input, config, stop=stop, **kwargs)

    def batch(
        self, inputs: _Inputs, config: _Configs = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[AIMessage]:
        """Answer conversations together, with one forward pass per token for up to ``max_concurrency``."""
        answers: list[AIMessage] = []
        for part, configs in batching.cut(inputs, config, self.conversations_at_once):
            with batching.open_meeting(batching.ThreadMeeting(self, len(part))):
                answers += super().batch(part, configs, return_exceptions=return_exceptions, **kwargs)
        return answers

    async def abatch(
        self, inputs: _Inputs, config: _Configs = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[AIMessage]:
        """Answer conversations together without blocking the event loop; see :meth:`batch`."""
        answers: list[AIMessage] = []
        for part, configs in batching.cut(inputs, config, self.conversations_at_once):
            with batching.open_meeting(batching.TaskMeeting(self, len(part))):
                answers += await super().abatch(part, configs, return_exceptions=return_exceptions, **kwargs)
        return answers

    # --- From a call to the engine ---

    def _generate(
        self, messages: _Messages, stop: _Stop = None, run_manager: _Manager = None, **kwargs: Any
    ) -> ChatResult:
        call, replies = self._call(messages, stop, kwargs)
        return replies.whole(batching.answer(self, call))

    async def _agenerate(
        self, messages: _Messages, stop: _Stop = None, run_manager: _AsyncManager = None, **kwargs: Any
    ) -> ChatResult:
        call, replies = await asyncio.to_thread(self._call, messages, stop, kwargs)
        return replies.whole(await batching.aanswer(self, call))

    def _stream(
        self, messages: _Messages, stop: _Stop = None, run_manager: _Manager = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        call, replies = self._call(messages, stop, kwargs)
        return replies.pieces(call.stream())

    async def _astream(
        self, messages: _Messages, stop: _Stop = None, run_manager: _AsyncManager = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, replies = await asyncio.to_thread(self._call, messages, stop, kwargs)
        async with aclosing(replies.apieces(call.astream())) as chunks:
            async for chunk in chunks:
                yield chunk

    def _call(self, messages: _Messages, stop: _Stop, kwargs: dict[str, Any]) -> tuple[Call, Replies]:
        kwargs = check_call(kwargs)
        _, turns = admission.admitted(self, messages, kwargs)
        options = engine_options(self, kwargs, stop)
        name, timeout = kwargs.get("model"), pick("timeout", kwargs, self)
        conversation = [turn.to_core() for turn in turns]
        ways = timeout, self.max_retries, kwargs.get("choices")
        call = Call(self.engine_for(name), conversation, options, *ways)
        return call, Replies(name or self.model_name, offered_tools(options))
