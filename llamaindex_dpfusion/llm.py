"""``DPFusionLLM``: a LlamaIndex LLM whose answers are private for what is private in the prompt."""

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import TokenAsyncGen, TokenGen

from dpfusion_core.backends import TransformersBackend
from dpfusion_core.backends.shared import shared_backend
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import BackendError, PrivacyParameterError, UnsupportedError
from dpfusion_core.generation import GenerationOptions
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import DEFAULT_UNIT, Message, Segment
from dpfusion_core.tool_calling import supports_tools
from dpfusion_core.views import Views
from llamaindex_dpfusion import structured, tracing
from llamaindex_dpfusion.calls import Call
from llamaindex_dpfusion.messages import PUBLIC_ROLES, prompt_views, shown, shown_text, to_core
from llamaindex_dpfusion.options import engine_options
from llamaindex_dpfusion.refusals import anot_swallowed, not_swallowed
from llamaindex_dpfusion.replies import adeltas, deltas
from llamaindex_dpfusion.sealing import sealer
from llamaindex_dpfusion.templates import PUBLIC_ARGUMENTS, FilledTemplate
from llamaindex_dpfusion.tracing import untraced

if TYPE_CHECKING:
    from llama_index.core.chat_engine.types import AgentChatResponse
    from llama_index.core.tools.types import BaseTool

_UNLIMITED = 32768
"""Context that is said of a model without a limit of its own, in tokens."""


class DPFusionLLM(FunctionCallingLLM):
    """A language model that answers from confidential documents within a privacy budget.

    It drops in for any other LLM: ``Settings.llm = DPFusionLLM(epsilon=8.0)``. Text of prompt templates is
    public, what they are filled in with is private unless it is named public, and a
    :class:`~llamaindex_dpfusion.DPFusionNodePostprocessor` gives every document its own privacy unit.
    In a direct ``chat``, ``additional_kwargs["is_private"]`` marks a message.

    Args:
        model: Name or path of a ``transformers`` model, or a ready one; ``"dpfusion-tiny"`` is embedded.
        engine: A ready engine, in place of a model.
        tokenizer: The tokenizer of a ready model.
        epsilon: What one answer may tell about each unit, in nats; with ``delta``. Or ``alpha`` and ``beta``.
        delta: Probability for epsilon; 1e-5 by default.
        alpha: Rényi order, above 1; with ``beta``.
        beta: Each unit's contribution to a token diverges by at most ``alpha * beta`` nats.
        order: With epsilon: the Rényi order.
        responses: With epsilon: how many answers of this size it should last for.
        accounting: ``"fixed"`` or ``"adaptive"``.
        neighbours: ``"zero-out"`` or ``"replace"``.
        on_exhausted: With a ledger: ``"raise"`` or ``"zero-out"``.
        ledger: Keeps what each unit has lost over all answers.
        tagger: Narrows private text to the private phrases in it.
        placeholder: What stands in the place of private text in the public view.
        temperature: Above 0 if anything is private.
        max_tokens: Largest number of tokens of an answer; the guarantee is for this many.
        top_k: Keep the k tokens that are most probable given the public view.
        top_p: Keep the smallest set of those with this mass.
        min_p: Keep those with at least this share of the largest probability.
        stop: Strings that end the text.
        seed: Makes answers reproducible, and **not private** to whoever knows it.
        timeout: Seconds after which a call is given up; what it has sampled stays charged.
        max_retries: How often a call that failed in the model before its first token is tried again.
        device: Device of the model.
        dtype: Its number format.
        device_map: Its distribution over devices.
        model_kwargs: Further options of ``from_pretrained``.
        context_window: What LlamaIndex packs prompts for, in tokens; by default the model's own limit.
        public_arguments: Names of template arguments that are public.
        public_roles: Roles of messages that are public in a direct ``chat`` unless a flag says otherwise.
            Agents put tool descriptions into the system message: add ``"system"`` for them if nobody
            writes documents there.
        complete_policy: What a bare string given to ``complete`` is: ``"private"`` as a whole, ``"redact"``
            (not shown to the model, but for documents with a unit of their own), ``"error"``, or ``"public"``.

    Raises:
        PrivacyParameterError: If a choice is none of those.

    Example:
        >>> llm = DPFusionLLM(epsilon=8.0, max_tokens=20)
        >>> record = ChatMessage("Ann lives in Oslo.", additional_kwargs={"is_private": True, "unit": "ann"})
        >>> response = llm.chat([record, ChatMessage("Where does Ann live?")])
        >>> response.raw["dp_fusion"]["units"]
        1
    """

    model: Any = Field(default="dpfusion-tiny", description="Name, path or ready model.", exclude=True)
    tokenizer: Any = Field(default=None, exclude=True, repr=False)
    epsilon: float | None = None
    delta: float | None = None
    alpha: float | None = None
    beta: float | None = None
    order: float | None = None
    responses: int | None = None
    accounting: Literal["fixed", "adaptive"] | None = None
    neighbours: Literal["zero-out", "replace"] | None = None
    on_exhausted: Literal["raise", "zero-out"] | None = None
    ledger: PrivacyLedger | None = Field(default=None, exclude=True, repr=False)
    tagger: Any = Field(default=None, exclude=True, repr=False)
    placeholder: str | Callable[[Segment], str] = Field(default="____", exclude=True, repr=False)
    temperature: float = 1.0
    max_tokens: int = 256
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    stop: list[str] | None = None
    seed: int | None = None
    timeout: float | None = None
    max_retries: int = 0
    device: Any = Field(default=None, exclude=True)
    dtype: Any = Field(default="auto", exclude=True)
    device_map: Any = Field(default=None, exclude=True)
    model_kwargs: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)
    context_window: int | None = None
    public_arguments: tuple[str, ...] = PUBLIC_ARGUMENTS
    public_roles: tuple[str, ...] = PUBLIC_ROLES
    complete_policy: Literal["private", "redact", "error", "public"] = "private"

    _engine: FusionEngine | None = PrivateAttr(default=None)

    def __init__(
        self, model: Any = "dpfusion-tiny", *, engine: FusionEngine | None = None, **kwargs: Any
    ) -> None:
        super().__init__(model=model, **kwargs)
        self._engine = engine

    @classmethod
    def class_name(cls) -> str:
        """Name of the class in serialised settings."""
        return "DPFusionLLM"

    @property
    def engine(self) -> FusionEngine:
        """The engine; the first use loads the model."""
        if self._engine is None:
            if isinstance(self.model, str):
                backend = shared_backend(
                    self.model,
                    device=self.device,
                    dtype=self.dtype,
                    device_map=self.device_map,
                    **self.model_kwargs,
                )
            else:
                backend = TransformersBackend(self.model, self.tokenizer)
            self._engine = FusionEngine(
                backend, placeholder=self.placeholder, ledger=self.ledger, tagger=self.tagger
            )
        return self._engine

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know of the model."""
        backend = self.engine.backend
        return LLMMetadata(
            context_window=self.context_window or backend.context_length or _UNLIMITED,
            num_output=self.max_tokens,
            is_chat_model=self._is_chat,
            is_function_calling_model=supports_tools(backend.tokenizer),
            model_name=self.model if isinstance(self.model, str) else backend.fingerprint,
            system_role=MessageRole.SYSTEM,
        )

    @property
    def _is_chat(self) -> bool:
        return bool(getattr(self.engine.backend.tokenizer, "chat_template", None))

    # -- Chat --

    @untraced
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation.

        Args:
            messages: The conversation. Flags in ``additional_kwargs``: ``is_private`` and ``unit``.
            **kwargs: Options of this call, by the names of the LLM's own; also ``tools``, ``tool_choice``
                and ``json_schema``.

        Returns:
            The answer; ``raw["dp_fusion"]`` is its guarantee as a plain dict.

        Raises:
            DPFusionError: See :meth:`dpfusion_core.FusionEngine.generate`.
        """
        call = self._chat_call(messages, kwargs)
        return tracing.chat(self, "chat", call.shown, call.said, lambda: call.answer().chat())

    @untraced
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation piece by piece; see :meth:`chat`. Closing the generator frees the model."""
        call = self._chat_call(messages, kwargs)

        return tracing.chat(self, "stream_chat", call.shown, call.said, call.chat)

    @untraced
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation without blocking the event loop; see :meth:`chat`."""
        call = self._chat_call(messages, kwargs)

        async def work() -> ChatResponse:
            return (await call.aanswer()).chat()

        return await tracing.achat(self, "achat", call.shown, call.said, work)

    @untraced
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Return an async generator over the answer; see :meth:`stream_chat`."""
        call = self._chat_call(messages, kwargs)

        responses = call.achat()

        async def work() -> ChatResponseAsyncGen:
            return responses

        traced = await tracing.achat(self, "astream_chat", call.shown, call.said, work)
        return tracing.closing_both(traced, responses)

    # -- Completion --

    @untraced
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a prompt.

        Args:
            prompt: The prompt; ``complete_policy`` says what its unsealed text is.
            formatted: Whether it is ready for the model, special tokens and all. If not, it becomes one
                message of the user.
            **kwargs: Options of this call; see :meth:`chat`.

        Returns:
            The answer; ``raw["dp_fusion"]`` is its guarantee as a plain dict.

        Raises:
            DPFusionError: See :meth:`dpfusion_core.FusionEngine.generate`.
        """
        call, text = self._complete_call(prompt, formatted, kwargs)
        return tracing.complete(self, "complete", text, call.said, lambda: call.answer().completion())

    @untraced
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Complete a prompt piece by piece; see :meth:`complete`."""
        call, text = self._complete_call(prompt, formatted, kwargs)

        return tracing.complete(self, "stream_complete", text, call.said, call.complete)

    @untraced
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a prompt without blocking the event loop; see :meth:`complete`."""
        call, text = self._complete_call(prompt, formatted, kwargs)

        async def work() -> CompletionResponse:
            return (await call.aanswer()).completion()

        return await tracing.acomplete(self, "acomplete", text, call.said, work)

    @untraced
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Return an async generator over the completion; see :meth:`complete`."""
        call, text = self._complete_call(prompt, formatted, kwargs)

        responses = call.acomplete()

        async def work() -> CompletionResponseAsyncGen:
            return responses

        traced = await tracing.acomplete(self, "astream_complete", text, call.said, work)
        return tracing.closing_both(traced, responses)

    # -- Prompt templates --

    @untraced
    @not_swallowed()
    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Fill in a prompt template and answer it; its arguments are private unless they are named public."""
        source = self._filled(prompt, prompt_args)

        def work() -> str:
            if isinstance(source, str):
                return self._parse_output(self.complete(source, formatted=True).text)
            return self._parse_output(self.chat(source).message.content or "")

        return tracing.predict(self, "predict", self._shown_source(source), work)

    @untraced
    @anot_swallowed
    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Fill in a prompt template and answer it; see :meth:`predict`."""
        source = self._filled(prompt, prompt_args)

        async def work() -> str:
            if isinstance(source, str):
                return self._parse_output((await self.acomplete(source, formatted=True)).text)
            return self._parse_output((await self.achat(source)).message.content or "")

        return await tracing.apredict(self, "apredict", self._shown_source(source), work)

    @untraced
    @not_swallowed()
    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """Fill in a prompt template and answer it piece by piece; see :meth:`predict`."""
        self._refuse_parser(prompt)
        source = self._filled(prompt, prompt_args)

        def work() -> TokenGen:
            if isinstance(source, str):
                return deltas(self.stream_complete(source, formatted=True))
            return deltas(self.stream_chat(source))

        return tracing.predict(self, "stream", self._shown_source(source), work)

    @untraced
    @anot_swallowed
    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Return an async generator over the answer to a filled in template; see :meth:`predict`."""
        self._refuse_parser(prompt)
        source = self._filled(prompt, prompt_args)

        async def work() -> TokenAsyncGen:
            if isinstance(source, str):
                return adeltas(await self.astream_complete(source, formatted=True))
            return adeltas(await self.astream_chat(source))

        return await tracing.apredict(self, "astream", self._shown_source(source), work)

    # -- Structured prediction --

    @untraced
    @not_swallowed()
    def structured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Fill in a prompt template and answer it with an object.

        Args:
            output_cls: Pydantic model of the object; the answer is constrained to its schema.
            prompt: The template.
            llm_kwargs: Options of this call; see :meth:`chat`.
            **prompt_args: Arguments of the template; private unless they are named public.

        Returns:
            An ``output_cls``.

        Raises:
            BackendError: If ``max_tokens`` was too small for the whole object.
        """
        messages = structured.schema_messages(self, output_cls, prompt, prompt_args)
        return structured.parse(self.chat(messages, **_schema(output_cls, llm_kwargs)), output_cls)

    @untraced
    @anot_swallowed
    async def astructured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Fill in a prompt template and answer it with an object; see :meth:`structured_predict`."""
        messages = structured.schema_messages(self, output_cls, prompt, prompt_args)
        return structured.parse(await self.achat(messages, **_schema(output_cls, llm_kwargs)), output_cls)

    @untraced
    @not_swallowed()
    def stream_structured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Yield the object as it grows; see :meth:`structured_predict`."""
        messages = structured.schema_messages(self, output_cls, prompt, prompt_args)
        return structured.stream(self.stream_chat(messages, **_schema(output_cls, llm_kwargs)), output_cls)

    @untraced
    @anot_swallowed
    async def astream_structured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """Return an async generator over the object as it grows; see :meth:`structured_predict`."""
        messages = structured.schema_messages(self, output_cls, prompt, prompt_args)
        responses = await self.astream_chat(messages, **_schema(output_cls, llm_kwargs))
        return structured.astream(responses, output_cls)

    def as_structured_llm(
        self, output_cls: type[BaseModel], **kwargs: Any
    ) -> structured.DPFusionStructuredLLM:
        """Return an LLM that answers with objects of a pydantic model."""
        return structured.DPFusionStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    def _filled(self, prompt: BasePromptTemplate, arguments: dict[str, Any]) -> list[ChatMessage] | str:
        if self._is_chat:
            return self._get_messages(prompt, **arguments)
        return self._get_prompt(prompt, **arguments)

    def _get_messages(self, prompt: BasePromptTemplate, **prompt_args: Any) -> list[ChatMessage]:
        """Fill in a template; every piece of the messages' text is sealed."""
        filled = FilledTemplate(prompt, prompt_args, self.public_arguments, self)
        messages = filled.prompt.format_messages(llm=self, **filled.arguments)
        if self.output_parser is not None:
            messages = self.output_parser.format_messages(messages)
        return [*self._system(), *map(filled.seal_message, messages)]

    def _get_prompt(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Fill in a template for a model without a chat template; every piece of the text is sealed."""
        filled = FilledTemplate(prompt, prompt_args, self.public_arguments, self)
        text = filled.prompt.format(
            llm=self,
            messages_to_prompt=self.messages_to_prompt,
            completion_to_prompt=self.completion_to_prompt,
            **filled.arguments,
        )
        if self.output_parser is not None:
            text = self.output_parser.format(text)
        return filled.seal(self._extend_prompt(text))

    def fill_in(self, prompt: BasePromptTemplate, arguments: dict[str, Any]) -> list[ChatMessage]:
        """Return the messages of a filled in template; every piece of their text is sealed."""
        return self._get_messages(prompt, **arguments)

    def seal_ready(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Seal messages that somebody else has filled in: what is not sealed or flagged public is private."""
        sealed = []
        for message, core in zip(messages, to_core(messages, ()), strict=True):
            text = TextBlock(text="".join(sealer.seal(s.text, s.unit).text for s in core.segments))
            calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
            sealed.append(message.model_copy(update={"blocks": [text, *calls]}))
        return sealed

    def _extend_messages(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        """Add the system prompt to messages that a program of LlamaIndex has filled in itself.

        What was template and what was argument cannot be told any more: all of it is private.
        """
        return [*self._system(), *self.seal_ready(messages)]

    def _system(self) -> list[ChatMessage]:
        if not self.system_prompt:
            return []
        return [ChatMessage(sealer.seal(self.system_prompt, None).text, role=MessageRole.SYSTEM)]

    def _log_template_data(self, prompt: BasePromptTemplate, **prompt_args: Any) -> None:
        """Show nothing: a template may hold private history, and arguments are private."""

    def _refuse_parser(self, prompt: BasePromptTemplate) -> None:
        if prompt.output_parser is not None or self.output_parser is not None:
            raise UnsupportedError("Output parsers need the whole answer. Use predict in place of stream.")

    # -- Tools --

    @untraced
    def _prepare_chat_with_tools(
        self,
        tools: Sequence["BaseTool"],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of ``chat`` for a request with tools."""
        messages = list(chat_history or [])
        if user_msg is not None:
            messages.append(ChatMessage(user_msg) if isinstance(user_msg, str) else user_msg)
        choice = kwargs.pop("tool_choice", None) or ("any" if tool_required else "auto")
        schemas = [tool.metadata.to_openai_tool() for tool in tools]
        return {"messages": messages, "tools": schemas, "tool_choice": choice, **kwargs}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the calls of tools in a response.

        Raises:
            BackendError: If there is none and ``error_on_no_tool_call`` is set.
        """
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not calls and error_on_no_tool_call:
            raise BackendError("The model was asked to call a tool and did not. Try tool_required=True.")
        return [
            ToolSelection(
                tool_id=call.tool_call_id or "",
                tool_name=call.tool_name,
                tool_kwargs=call.tool_kwargs if isinstance(call.tool_kwargs, dict) else {},
            )
            for call in calls
        ]

    @untraced
    def predict_and_call(
        self,
        tools: Sequence["BaseTool"],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        error_on_no_tool_call: bool = True,
        error_on_tool_error: bool = False,
        **kwargs: Any,
    ) -> "AgentChatResponse":
        """Let the model call a tool, and call it.

        A history without a message of the user is what LlamaIndex's programs give, who have filled in
        their templates themselves: then what is not sealed or flagged public in it is private.
        """
        return tracing.bare(super().predict_and_call)(
            tools,
            user_msg,
            self._history(user_msg, chat_history),
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            error_on_no_tool_call=error_on_no_tool_call,
            error_on_tool_error=error_on_tool_error,
            **kwargs,
        )

    @untraced
    async def apredict_and_call(
        self,
        tools: Sequence["BaseTool"],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        error_on_no_tool_call: bool = True,
        error_on_tool_error: bool = False,
        **kwargs: Any,
    ) -> "AgentChatResponse":
        """Let the model call a tool, and call it; see :meth:`predict_and_call`."""
        return await tracing.bare(super().apredict_and_call)(
            tools,
            user_msg,
            self._history(user_msg, chat_history),
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            error_on_no_tool_call=error_on_no_tool_call,
            error_on_tool_error=error_on_tool_error,
            **kwargs,
        )

    def _history(
        self, user_msg: str | ChatMessage | None, history: list[ChatMessage] | None
    ) -> list[ChatMessage] | None:
        return history if user_msg is not None or history is None else self.seal_ready(history)

    # -- From a call to the engine --

    def _chat_call(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Call:
        core = to_core(messages, self.public_roles)
        call = self._call(core, kwargs)
        has_budget = call.options.get("epsilon") is not None or call.options.get("alpha") is not None
        if not has_budget and any(m.role == "system" and m.units for m in core):
            raise PrivacyParameterError(
                "A system message is private unless it is said to be public, and the call has no privacy "
                'parameters. Add "system" to public_roles, give that message additional_kwargs={"is_private": '
                "False}, use system_prompt in its place, or say what an answer may cost: epsilon=8.0."
            )
        return call

    def _complete_call(self, prompt: str, formatted: bool, kwargs: dict[str, Any]) -> tuple[Call, str]:
        segments = sealer.read(prompt, is_private=self.complete_policy != "public")
        unsealed = any(segment.unit == DEFAULT_UNIT for segment in segments)
        if unsealed and self.complete_policy == "error":
            raise PrivacyParameterError(
                "complete() got a bare string, which says nothing about what in it is private. Use chat() with "
                'messages, predict() with a template, or set complete_policy to "private", "redact" or "public".'
            )
        placeholder, tokenizer = self.engine.placeholder, self.engine.backend.tokenizer
        if self.complete_policy == "redact":
            segments = [Segment(placeholder(s)) if s.unit == DEFAULT_UNIT else s for s in segments]
        text = shown_text(segments, placeholder)
        if formatted or not self._is_chat:
            return self._call(prompt_views(segments, tokenizer, placeholder), kwargs), text
        return self._call([Message("user", segments)], kwargs), text

    def _call(self, source: list[Message] | Views, said: dict[str, Any]) -> Call:
        return Call(self.engine, source, self.engine_options(said), said, self.timeout, self.max_retries)

    def engine_options(self, said: dict[str, Any] | None = None) -> GenerationOptions:
        """Return the options of the engine: those of the LLM, and on top of them those of one call.

        Raises:
            PrivacyParameterError: If an option of the call is unknown.
        """
        return engine_options({name: getattr(self, name) for name in type(self).model_fields}, said or {})

    def _shown_source(self, source: list[ChatMessage] | str) -> str:
        placeholder = self.engine.placeholder
        if isinstance(source, str):
            return shown_text(sealer.read(source, is_private=True), placeholder)
        return "\n".join(str(message) for message in shown(to_core(source), placeholder))


def _schema(output_cls: type[BaseModel], options: dict[str, Any] | None) -> dict[str, Any]:
    return {**(options or {}), "json_schema": output_cls.model_json_schema()}
