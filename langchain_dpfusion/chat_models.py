"""``ChatDPFusion``: a LangChain chat model whose answers are private for what is marked as private."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import (
    BaseModel,
    PrivateAttr,
    ValidationError,
    field_serializer,
    model_validator,
)

from dpfusion_core import __version__
from dpfusion_core.adapters import Call, Unmarked, effective_unmarked, offered_tools
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as
from dpfusion_core.ledger import PrivacyLedger
from langchain_dpfusion import batching, description, engines
from langchain_dpfusion.checks import check_picklable, check_settings, named_fields, problem_of
from langchain_dpfusion.conversation import Turn, admit
from langchain_dpfusion.messages import PLACEHOLDER
from langchain_dpfusion.options import check_call, check_forms, engine_options, openai_tools, pick
from langchain_dpfusion.replies import Replies
from langchain_dpfusion.sealed_messages import seal, unseal, with_digests
from langchain_dpfusion.sealed_runnables import SealedBinding, SealedInputs
from langchain_dpfusion.settings import ChatSettings
from langchain_dpfusion.structured import Method, structured

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


# Arguments of LangChain's methods that stand beside the options of a call.
_OF_RUNS = frozenset(
    {
        *("version", "tags", "metadata", "run_name", "run_id"),
        *("include_names", "include_types", "include_tags"),
        *("exclude_names", "exclude_types", "exclude_tags"),
    }
)


class ChatDPFusion(SealedInputs, ChatSettings, BaseChatModel):
    """A chat model that bounds what its answers tell about the private parts of the conversation.

    Private is what carries ``is_private``: a message by ``additional_kwargs={"is_private": True}``, a
    part of one by ``extras={"is_private": True, "unit": ...}`` of its content block, and tool results.
    What text without a mark is, ``unmarked`` says; with a privacy setting or a ledger, a call in which
    nothing is private is an error, so that a lost or forgotten mark is noticed. Text that was private
    before in this process and comes back without its mark is refused.

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
        order: Rényi order, the paper's ``alpha``, which is understood too; with ``beta``, or with epsilon.
        beta: With ``order``, in the place of epsilon: each token may diverge by ``order * beta`` nats.
        mixing_loss: With ``order`` and ``beta``: ``c_inf`` for replace neighbours, nats per token.
        responses: With epsilon: how many answers it should last for.
        accounting: ``"fixed"`` or ``"adaptive"``.
        spending: Spending rule of adaptive accounting: ``"growing"``, ``"accrued"`` or ``"capped"``.
        neighbours: ``"zero-out"`` or ``"replace"``.
        on_exhausted: With a ledger: ``"raise"`` or ``"zero-out"``.
        ledger: Keeps what each unit has lost over all answers.
        tagger: Narrows private messages to private phrases.
        placeholder: What stands in the place of private text in the public view.
        unmarked: What text without a mark is. ``"error"``, the default with epsilon, beta or a
            ledger, of the model or the call: public, but a call in which nothing at all is private is
            refused. ``"strict"``: refused, each system, human and foreign assistant message. ``"private"``:
            private, all but the model's own answers. ``"public"``: public, the caller vouches for it.
        trace_private: Whether callbacks and tracers may see private text.
        cache_key: Secret of the digests that stand for private text in the key of LangChain's LLM
            cache, from ``DPFUSION_CACHE_KEY``; without it, one that lives as long as the process.

    Raises:
        PrivacyParameterError: If an argument is unknown, out of range or contradictory; the same for
            fields that are set later.

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

    _engines: dict[str, FusionEngine] = PrivateAttr(default_factory=dict)
    _instance: str = PrivateAttr(default_factory=lambda: secrets.token_hex(8))

    if not TYPE_CHECKING:  # checkers take the fields as the arguments

        def __init__(self, **fields: Any) -> None:
            fields = named_fields(fields, type(self))
            with errors_as(PrivacyParameterError, partial(problem_of, type(self)), only=ValidationError):
                super().__init__(**fields)

        def __setattr__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                super().__setattr__(name, value)
                return
            ((name, value),) = named_fields({name: value}, type(self)).items()
            # A trial copy first: what is refused leaves the model as it is.
            fields = {field: getattr(self, field) for field in type(self).model_fields} | {name: value}
            checked = type(self)(**fields)
            super().__setattr__(name, getattr(checked, name))

    @model_validator(mode="after")
    def _check(self) -> "ChatDPFusion":
        check_settings(self)
        self._add_version("langchain-dpfusion", __version__)
        return self

    @field_serializer("ledger")
    def _name_ledger(self, ledger: PrivacyLedger | None) -> str | None:
        # A model that is built from a dump must be given its ledger again: this name is refused there.
        return None if ledger is None else "a PrivacyLedger, which is not dumped"

    def __repr_args__(self) -> Any:
        """Show what identifies the model; never an object that may hold text."""
        yield from ((key, value) for key, value in self._identifying_params.items() if value is not None)

    def __deepcopy__(self, memo: Any = None) -> "ChatDPFusion":
        """Return a copy that shares the weights, the ledger and the tagger."""
        return self.model_copy()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> "ChatDPFusion":
        """Return a copy that shares the weights, the ledger and the tagger; changes are checked.

        Raises:
            PrivacyParameterError: If a change is unknown, out of range or contradictory.
        """
        update = named_fields(update or {}, type(self))
        copied = super().model_copy(update=update)
        check_settings(copied)
        return copied

    def __getstate__(self) -> Any:
        """Pickle what can be built again from names and numbers; weights and keys stay here."""
        check_picklable(self)
        state = super().__getstate__()
        state["__dict__"] = {**state["__dict__"], "cache_key": None}
        state["__pydantic_private__"] = {**state["__pydantic_private__"], "_engines": {}}
        return state

    # --- What the model is ---

    @property
    def _llm_type(self) -> str:
        return "dpfusion-chat"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return description.identifying_params(self)

    def _get_ls_params(self, stop: _Stop = None, **kwargs: Any) -> LangSmithParams:
        return description.langsmith_params(self, kwargs, stop)

    def _resolve_model_profile(self) -> ModelProfile | None:
        return description.model_profile(self.engine)

    def _get_invocation_params(self, stop: _Stop = None, **kwargs: Any) -> dict[str, Any]:
        kwargs = check_call(kwargs)  # here, because callbacks are told next
        check_forms(kwargs)
        return super()._get_invocation_params(stop=stop, **kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens."""
        return engines.token_ids(self._engine_for(None), text)

    def get_num_tokens_from_messages(self, messages: _Messages, tools: Sequence[Any] | None = None) -> int:
        """Count the tokens of a conversation as the model reads it, with its template and all private text.

        The count depends on private text: it is for the application, not for the readers of answers.
        """
        conversation = [turn.by_rule(self.unmarked or "public").to_core() for turn in unseal(messages)]
        return engines.count_tokens(self._engine_for(None), conversation, tools or [])

    # --- Sealing: callbacks, tracers and caches see placeholders ---

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        return self._prompt(model_input, None)

    def _prompt(self, model_input: LanguageModelInput, call: Mapping[str, Any] | None) -> ChatPromptValue:
        """Return an input as sealed messages; with the options of its call, it is refused if need be."""
        with errors_as(ViewError, _NOT_AN_INPUT):
            messages = super()._convert_input(model_input).to_messages()
        if call is None:
            return ChatPromptValue(messages=self._sealed(messages, "public"))
        return ChatPromptValue(messages=self._admitted(messages, call))

    def _admitted(self, messages: Sequence[BaseMessage], call: Mapping[str, Any]) -> list[BaseMessage]:
        """Return messages sealed by the rule of a call, or refuse them before callbacks are told."""
        unmarked, _ = self._admit(messages, call)
        return self._sealed(messages, unmarked)

    def _admit(self, messages: Sequence[BaseMessage], call: Mapping[str, Any]) -> tuple[Unmarked, list[Turn]]:
        call = check_call({name: value for name, value in call.items() if name not in _OF_RUNS})
        check_forms(call)
        ledger = self.ledger if self.engine is None else self.engine.ledger
        settings = (pick(name, call, self) for name in ("epsilon", "beta"))
        has_budget = ledger is not None or any(setting is not None for setting in settings)
        unmarked = effective_unmarked(pick("unmarked", call, self), has_budget=has_budget)
        return unmarked, admit(unseal(messages), unmarked, has_ledger=ledger is not None)

    def _sealed(self, messages: Sequence[BaseMessage], unmarked: Unmarked) -> list[BaseMessage]:
        if self.trace_private:
            return list(messages)
        return seal(messages, unmarked, self._shown_placeholder)

    if not TYPE_CHECKING:  # checkers take the overloads of the base class

        def stream_events(self, input, config=None, **kwargs):
            """Yield events; their input is sealed."""
            return super().stream_events(self._prompt(input, kwargs), config, **kwargs)

        def astream_events(self, input, config=None, **kwargs):
            """Yield events; their input is sealed."""
            return super().astream_events(self._prompt(input, kwargs), config, **kwargs)

        def stream(self, input, config=None, *, stop=None, **kwargs):
            """Yield the chunks of an answer."""
            return super().stream(self._prompt(input, kwargs), config, stop=stop, **kwargs)

        async def astream(self, input, config=None, *, stop=None, **kwargs):
            """Yield the chunks of an answer without blocking the event loop."""
            prompt = await asyncio.to_thread(self._prompt, input, kwargs)
            async with aclosing(super().astream(prompt, config, stop=stop, **kwargs)) as chunks:
                async for chunk in chunks:
                    yield chunk

    def generate(
        self, messages: list[_Messages], stop: _Stop = None, callbacks: Callbacks = None, **kwargs: Any
    ) -> LLMResult:
        """Answer conversations; see :meth:`invoke`."""
        admitted = [self._admitted(each, kwargs) for each in messages]
        return super().generate(admitted, stop, callbacks, **kwargs)

    async def agenerate(
        self, messages: list[_Messages], stop: _Stop = None, callbacks: Callbacks = None, **kwargs: Any
    ) -> LLMResult:
        """Answer conversations; see :meth:`ainvoke`."""
        admitted = [await asyncio.to_thread(self._admitted, each, kwargs) for each in messages]
        return await super().agenerate(admitted, stop, callbacks, **kwargs)

    def _generate_with_cache(self, messages: _Messages, *args: Any, **kwargs: Any) -> ChatResult:
        return super()._generate_with_cache(self._digested(messages, kwargs), *args, **kwargs)

    async def _agenerate_with_cache(self, messages: _Messages, *args: Any, **kwargs: Any) -> ChatResult:
        return await super()._agenerate_with_cache(self._digested(messages, kwargs), *args, **kwargs)

    def _digested(self, messages: Sequence[BaseMessage], call: Mapping[str, Any]) -> list[BaseMessage]:
        key = None if self.cache_key is None else self.cache_key.get_secret_value().encode()
        settings = description.opaque_settings(self._instance, self)
        unmarked: Unmarked = pick("unmarked", call, self) or "public"
        return with_digests(seal(messages, unmarked, self._shown_placeholder), key, settings)

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
        _, turns = self._admit(messages, kwargs)
        options = engine_options(self, kwargs, stop)
        name, timeout = kwargs.get("model"), pick("timeout", kwargs, self)
        conversation = [turn.to_core() for turn in turns]
        call = Call(self._engine_for(name), conversation, options, timeout, self.max_retries)
        return call, Replies(name or self.model_name, offered_tools(options))

    def _engine_for(self, name: str | None) -> FusionEngine:
        return engines.find_engine(self._engines, self, name)

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
        bound: SealedBinding = self.bind(tools=openai_tools(tools), tool_choice=tool_choice, **kwargs)
        return bound

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
        kwargs = check_call(kwargs)
        return SealedBinding.of(structured(self, schema, method, include_raw, kwargs), self, kwargs)  # type: ignore[no-any-return]
