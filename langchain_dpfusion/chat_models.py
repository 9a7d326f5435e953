"""``ChatDPFusion``: a LangChain chat model whose answers are private for what is marked as private."""

import asyncio
import secrets
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from langchain_core.utils import secret_from_env
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, model_validator

from dpfusion_core import __version__
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger import PrivacyLedger
from langchain_dpfusion import batching, engines, identity
from langchain_dpfusion.calls import UNPROTECTED, Call
from langchain_dpfusion.fields import check_fields, check_names, check_picklable, problem_of
from langchain_dpfusion.messages import DefaultPrivate
from langchain_dpfusion.options import check_call, engine_options, openai_tools, pick
from langchain_dpfusion.sealing import PLACEHOLDER, seal, unseal, with_digests
from langchain_dpfusion.structured import Method, structured

# Types of the arguments that the methods of every chat model share.
_Messages = list[BaseMessage]
_Inputs = list[LanguageModelInput]
_Stop = list[str] | None
_Config = RunnableConfig | None
_Configs = RunnableConfig | list[RunnableConfig] | None
_Manager = CallbackManagerForLLMRun | None
_AsyncManager = AsyncCallbackManagerForLLMRun | None


class ChatDPFusion(BaseChatModel):
    """A chat model that bounds what its answers tell about the private parts of the conversation.

    Private is what carries ``is_private``: a message by ``additional_kwargs={"is_private": True}``, a
    part of one by ``extras={"is_private": True, "unit": ...}`` of its content block, and tool results
    unless ``default_private`` says otherwise. Everything else is used as in any other chat model.

    Construction is cheap. The weights are loaded when they are first needed, and once for all
    instances that name the same model.

    Args:
        model: Name on the hub, folder, ``"dpfusion-tiny"`` (embedded), or a ready ``transformers`` model.
        tokenizer: With a ready model: its tokenizer.
        engine: A ready :class:`~dpfusion_core.FusionEngine` in the place of a model.
        temperature: Above 0 for calls with private text.
        max_tokens: Largest number of tokens of an answer; the guarantee is for this many.
        top_k: Keep the k tokens that are most probable given the public view.
        top_p: Keep the smallest set of those with this mass.
        min_p: Keep those with at least this share of the largest probability.
        stop: Strings that end an answer.
        timeout: Seconds that an answer may take.
        max_retries: How many times more an answer is tried if the model fails.
        seed: Makes answers reproducible, and **not private** to whoever knows it.
        device: Where the model runs.
        dtype: Of the weights.
        device_map: For models over several devices.
        model_kwargs: Further arguments of ``from_pretrained``.
        epsilon: What an answer may lose of each privacy unit at most, in nats.
        delta: Probability for epsilon.
        alpha: Rényi order; with ``beta``, in the place of epsilon.
        beta: Each token may diverge by ``alpha * beta`` nats.
        order: With epsilon: the Rényi order.
        responses: With epsilon: how many answers it should last for.
        accounting: ``"fixed"`` or ``"adaptive"``.
        neighbours: ``"zero-out"`` or ``"replace"``.
        on_exhausted: With a ledger: ``"raise"`` or ``"zero-out"``.
        ledger: Keeps what each unit has lost over all answers.
        tagger: Narrows private messages to private phrases.
        placeholder: What stands in the place of private text in the public view.
        default_private: Which messages without any flag are private: ``"human"``, ``"tool"``
            (default), ``"all"`` (all but system messages and the model's own answers), or None.
        trace_private: Whether callbacks and tracers may see private text.
        cache_key: Secret of the digests that stand for private text in the key of LangChain's LLM
            cache, from ``DPFUSION_CACHE_KEY``; without it, one that lives as long as the process.

    Raises:
        PrivacyParameterError: If an argument is unknown, out of range or contradictory.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> llm = ChatDPFusion(model="dpfusion-tiny", epsilon=8.0, max_tokens=20)
        >>> answer = llm.invoke(
        ...     [
        ...         HumanMessage("The patient lives in Oslo.", additional_kwargs={"is_private": True}),
        ...         HumanMessage("Where does the patient live?"),
        ...     ]
        ... )
        >>> round(answer.response_metadata["dp_fusion"]["epsilon"], 3)
        8.0
    """

    model: Any = None
    tokenizer: Any = Field(default=None, exclude=True)
    engine: Any = Field(default=None, exclude=True)
    temperature: float | None = None
    max_tokens: int | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    stop: list[str] | None = None
    timeout: float | None = None
    max_retries: int = Field(default=0, ge=0)
    seed: int | None = None
    device: Any = None
    dtype: Any = "auto"
    device_map: Any = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    epsilon: float | None = None
    delta: float | None = None
    alpha: float | None = None
    beta: float | None = None
    order: float | None = None
    responses: int | None = None
    accounting: Literal["fixed", "adaptive"] | None = None
    neighbours: Literal["zero-out", "replace"] | None = None
    on_exhausted: Literal["raise", "zero-out"] | None = None
    ledger: PrivacyLedger | None = Field(default=None, exclude=True)
    tagger: Any = Field(default=None, exclude=True)
    placeholder: Any = PLACEHOLDER
    default_private: DefaultPrivate = "tool"
    trace_private: bool = False
    streaming: bool = False
    cache_key: SecretStr | None = Field(
        default_factory=secret_from_env("DPFUSION_CACHE_KEY", default=None), exclude=True, repr=False
    )

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    _engines: dict[str, FusionEngine] = PrivateAttr(default_factory=dict)
    _instance: str = PrivateAttr(default_factory=lambda: secrets.token_hex(8))
    _has_warned: bool = PrivateAttr(default=False)

    if not TYPE_CHECKING:  # checkers take the fields as the arguments

        def __init__(self, **fields: Any) -> None:
            check_names(fields, type(self))
            problem = None
            try:
                super().__init__(**fields)
            except ValidationError as error:
                problem = problem_of(error, type(self))
            if problem:  # outside of the block: the foreign error has the arguments
                raise PrivacyParameterError(problem)

    @model_validator(mode="after")
    def _check(self) -> "ChatDPFusion":
        check_fields(self.__dict__)
        self._add_version("langchain-dpfusion", __version__)
        return self

    def __repr_args__(self) -> Any:
        """Show what identifies the model; never an object that may hold text."""
        yield from ((key, value) for key, value in self._identifying_params.items() if value is not None)

    def __deepcopy__(self, memo: Any = None) -> "ChatDPFusion":
        """Return a copy that shares the weights, the ledger and the tagger."""
        return self.model_copy()

    def __getstate__(self) -> Any:
        """Pickle what can be built again from names and numbers; weights and keys stay here."""
        check_picklable(self.__dict__)
        state = super().__getstate__()
        state["__dict__"] = {**state["__dict__"], "cache_key": None}
        state["__pydantic_private__"] = {**state["__pydantic_private__"], "_engines": {}}
        return state

    # --- What the model is ---

    @property
    def _llm_type(self) -> str:
        return "dpfusion-chat"

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return identity.model_name(self.__dict__)

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return identity.identifying_params(self.model_name, self.__dict__)

    def _get_ls_params(self, stop: _Stop = None, **kwargs: Any) -> LangSmithParams:
        return identity.langsmith_params(self.model_name, self.__dict__, kwargs, stop)

    def _resolve_model_profile(self) -> ModelProfile | None:
        return identity.model_profile(self.engine)

    def _get_invocation_params(self, stop: _Stop = None, **kwargs: Any) -> dict[str, Any]:
        check_call(kwargs)  # here, because callbacks are told next
        return super()._get_invocation_params(stop=stop, **kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens."""
        return engines.token_ids(self._engine_for(None), text)

    def get_num_tokens_from_messages(self, messages: _Messages, tools: Sequence[Any] | None = None) -> int:
        """Count the tokens of a conversation as the model reads it, with its template and all private text.

        The count depends on private text: it is for the application, not for the readers of answers.
        """
        conversation = unseal(messages, self.default_private)
        return engines.count_tokens(self._engine_for(None), conversation, tools or [])

    # --- Sealing: callbacks, tracers and caches see placeholders ---

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        return ChatPromptValue(messages=self._sealed(super()._convert_input(model_input).to_messages()))

    if not TYPE_CHECKING:  # checkers take the overloads of the base class

        def stream_events(self, input, config=None, **kwargs):
            """Yield events; their input is sealed."""
            return super().stream_events(self._convert_input(input), config, **kwargs)

        def astream_events(self, input, config=None, **kwargs):
            """Yield events; their input is sealed."""
            return super().astream_events(self._convert_input(input), config, **kwargs)

    def generate(
        self, messages: list[_Messages], stop: _Stop = None, callbacks: Callbacks = None, **kwargs: Any
    ) -> LLMResult:
        """Answer conversations; see :meth:`invoke`."""
        return super().generate([self._sealed(each) for each in messages], stop, callbacks, **kwargs)

    async def agenerate(
        self, messages: list[_Messages], stop: _Stop = None, callbacks: Callbacks = None, **kwargs: Any
    ) -> LLMResult:
        """Answer conversations; see :meth:`ainvoke`."""
        return await super().agenerate([self._sealed(each) for each in messages], stop, callbacks, **kwargs)

    def _generate_with_cache(self, messages: _Messages, *args: Any, **kwargs: Any) -> ChatResult:
        return super()._generate_with_cache(self._digested(messages), *args, **kwargs)

    async def _agenerate_with_cache(self, messages: _Messages, *args: Any, **kwargs: Any) -> ChatResult:
        return await super()._agenerate_with_cache(self._digested(messages), *args, **kwargs)

    def _sealed(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        if self.trace_private:
            return list(messages)
        return seal(messages, self.default_private, self._shown_placeholder)

    def _digested(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        key = None if self.cache_key is None else self.cache_key.get_secret_value().encode()
        settings = identity.opaque_settings(self._instance, self.__dict__)
        return with_digests(seal(messages, self.default_private, self._shown_placeholder), key, settings)

    @property
    def _shown_placeholder(self) -> str:
        return self.placeholder if isinstance(self.placeholder, str) else PLACEHOLDER

    # --- Generation ---

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
        for part, configs in batching.cut(inputs, config):
            with batching.open_meeting(batching.ThreadMeeting(self, len(part))):
                answers += super().batch(part, configs, return_exceptions=return_exceptions, **kwargs)
        return answers

    async def abatch(
        self, inputs: _Inputs, config: _Configs = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> list[AIMessage]:
        """Answer conversations together without blocking the event loop; see :meth:`batch`."""
        answers: list[AIMessage] = []
        for part, configs in batching.cut(inputs, config):
            with batching.open_meeting(batching.TaskMeeting(self, len(part))):
                answers += await super().abatch(part, configs, return_exceptions=return_exceptions, **kwargs)
        return answers

    def _generate(
        self, messages: _Messages, stop: _Stop = None, run_manager: _Manager = None, **kwargs: Any
    ) -> ChatResult:
        return batching.answer(self, self._call(messages, stop, kwargs))

    async def _agenerate(
        self, messages: _Messages, stop: _Stop = None, run_manager: _AsyncManager = None, **kwargs: Any
    ) -> ChatResult:
        return await batching.aanswer(self, await asyncio.to_thread(self._call, messages, stop, kwargs))

    def _stream(
        self, messages: _Messages, stop: _Stop = None, run_manager: _Manager = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        yield from self._call(messages, stop, kwargs).replies()

    async def _astream(
        self, messages: _Messages, stop: _Stop = None, run_manager: _AsyncManager = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        call = await asyncio.to_thread(self._call, messages, stop, kwargs)
        async with aclosing(call.areplies()) as chunks:
            async for chunk in chunks:
                yield chunk

    def _call(self, messages: _Messages, stop: _Stop, kwargs: dict[str, Any]) -> Call:
        check_call(kwargs)
        name, timeout = kwargs.get("model"), pick("timeout", kwargs, self.__dict__)
        conversation = unseal(messages, self.default_private)
        options = engine_options(self.__dict__, kwargs, stop)
        engine = self._engine_for(name)
        call = Call(engine, conversation, options, name or self.model_name, timeout, self.max_retries)
        has_chosen = "default_private" in self.model_fields_set and self.default_private is not None
        if not (has_chosen or self._has_warned) and call.is_unprotected(self.default_private):
            self._has_warned = True
            warnings.warn(UNPROTECTED, stacklevel=1)
        return call

    def _engine_for(self, name: str | None) -> FusionEngine:
        return engines.find_engine(self._engines, self.__dict__, self.model_name, name)

    # --- Tools and structured output ---

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model with tools that it may call.

        Args:
            tools: Functions, Pydantic classes, LangChain tools or OpenAI schemas; public.
            tool_choice: ``"auto"`` (default), ``"any"``, ``"none"``, or the name of the tool to call.
                ``"any"`` and a name constrain the answer to one call that obeys the tool's schema.
            **kwargs: Further options of the calls, such as ``epsilon``.

        Raises:
            PrivacyParameterError: If a tool cannot be described by a JSON schema.
        """
        return self.bind(tools=openai_tools(tools), tool_choice=tool_choice, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Method = "function_calling",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a model whose answers are objects of a schema.

        The schema is enforced token by token, with a mask that depends on public data alone.

        Args:
            schema: Pydantic class, ``TypedDict``, JSON schema or OpenAI function schema; public.
            method: ``"function_calling"`` (default) shows the schema to the model as a tool, which the
                model's chat template must support. ``"json_schema"`` only enforces it: say in the prompt
                what is wanted. ``"json_mode"`` enforces some JSON object.
            include_raw: Whether to return a dict of ``raw``, ``parsed`` and ``parsing_error``.
            strict: Has no effect: schemas are always enforced.
            **kwargs: Further options of the calls, such as ``epsilon``.

        Raises:
            PrivacyParameterError: If the schema or the method is none.
        """
        return structured(self, schema, method, include_raw, kwargs)
