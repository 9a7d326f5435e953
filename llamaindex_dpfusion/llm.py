"""``DPFusionLLM``: a LlamaIndex LLM whose answers are private for what is private in the prompt."""

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import TokenAsyncGen, TokenGen
from pydantic import BaseModel as PlainModel
from pydantic import ValidationError

from dpfusion_core.adapters import Unmarked, effective_unmarked
from dpfusion_core.engine import FusionEngine
from dpfusion_core.errors import PrivacyParameterError, errors_as
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import DEFAULT_UNIT, Segment
from dpfusion_core.options import ALIASES, GenerationOptions, OnExhausted, default_of
from dpfusion_core.privacy import Accounting, Neighbours, Spending
from llamaindex_dpfusion.answers import chat_answer, complete_answer
from llamaindex_dpfusion.fields import (
    ENGINE_FIELDS,
    PLACEHOLDER,
    check_fields,
    named_fields,
    picklable_state,
    problem_of,
    ready_parts,
)
from llamaindex_dpfusion.loading import describe, has_chat_template, load_engine
from llamaindex_dpfusion.messages import sealed_messages
from llamaindex_dpfusion.options import engine_options
from llamaindex_dpfusion.predictions import Prediction, refuse_parsers
from llamaindex_dpfusion.refusals import anot_swallowed, not_swallowed
from llamaindex_dpfusion.rules import Rule
from llamaindex_dpfusion.structured import DPFusionStructuredLLM, StructuredPrediction
from llamaindex_dpfusion.templates import PUBLIC_ARGUMENTS, FilledTemplate, system_messages
from llamaindex_dpfusion.tools import chat_arguments, sealed_history, selections
from llamaindex_dpfusion.tracing import bare, untraced, without_steps

if TYPE_CHECKING:
    from llama_index.core.chat_engine.types import AgentChatResponse
    from llama_index.core.tools.types import BaseTool


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
        epsilon: What one answer may tell about each unit, in nats; with ``delta``. Or ``order`` and ``beta``.
        delta: Probability for epsilon; 1e-5 by default.
        order: Rényi order, above 1, the paper's ``alpha``, which is understood too; with ``beta``, or with epsilon.
        beta: With ``order``: each unit's contribution to a token diverges by at most ``order * beta`` nats.
        mixing_loss: With ``order`` and ``beta``: ``c_inf`` for replace neighbours, nats per token.
        responses: With epsilon: how many answers of this size it should last for.
        accounting: ``"fixed"`` or ``"adaptive"``.
        spending: Spending rule of adaptive accounting: ``"growing"``, ``"accrued"`` or ``"capped"``.
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
        unmarked: What a message is that carries no flag. ``"error"`` (the default once a privacy setting or a
            ledger is given): public, but a call in which nothing at all is private is refused. ``"strict"``:
            every message must say what it is. ``"private"``: private, system messages included.
            ``"public"``: you vouch for it; for agents. What tools have said is private under each of them,
            and text that was private before in this process is refused where it comes back unmarked.
        unit: The privacy unit of private text that names none, such as what a chat engine condenses. One
            account holds it for the whole app unless you name one for each session here.
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
    order: float | None = None
    beta: float | None = None
    mixing_loss: float | None = None
    responses: int | None = None
    accounting: Accounting | None = None
    spending: Spending | None = None
    neighbours: Neighbours | None = None
    on_exhausted: OnExhausted | None = None
    ledger: PrivacyLedger | None = Field(default=None, exclude=True, repr=False)
    tagger: Any = Field(default=None, exclude=True, repr=False)
    placeholder: str | Callable[[Segment], str] = Field(default=PLACEHOLDER, exclude=True, repr=False)
    temperature: float = default_of("temperature")
    max_tokens: int = default_of("max_tokens")
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
    unmarked: Unmarked | None = None
    unit: str = Field(default=DEFAULT_UNIT, min_length=1)
    complete_policy: Literal["private", "redact", "error", "public"] = "private"

    _engine: FusionEngine | None = PrivateAttr(default=None)
    _given: FusionEngine | None = PrivateAttr(default=None)

    def __init__(
        self, model: Any = "dpfusion-tiny", *, engine: FusionEngine | None = None, **kwargs: Any
    ) -> None:
        fields = named_fields(
            {**({} if model == "dpfusion-tiny" else {"model": model}), **kwargs}, type(self)
        )
        with errors_as(PrivacyParameterError, problem_of, only=ValidationError):
            super().__init__(**fields)
        check_fields(self.__dict__, engine)
        self._engine = self._given = engine

    def __setattr__(self, name: str, value: Any) -> None:
        name = ALIASES.get(name, name)
        if name in DPFusionLLM.__annotations__ and name in type(self).model_fields:
            check_fields({**self.__dict__, name: value}, self._given)
            self._engine = self._given if name in ENGINE_FIELDS else self._engine
        super().__setattr__(name, value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other fields; unknown ones are refused.

        Raises:
            PrivacyParameterError: As for the LLM itself.
        """
        changes = named_fields(update or {}, type(self))
        check_fields({**self.__dict__, **changes}, self._given)
        copied = super().model_copy(update=changes, deep=deep)
        if ENGINE_FIELDS & changes.keys():
            copied._engine = self._given
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return picklable_state(PlainModel.__getstate__(self), self.__dict__, self._given)

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return the settings by name; what no name or number says is listed under ``"ready"``."""
        fields = self.__dict__
        named = {name: fields[name] for name in ("model", "device", "dtype") if isinstance(fields[name], str)}
        unsaid = [name for name in ("model_kwargs", "device_map") if fields[name]]
        return {**super().to_dict(**kwargs), **named, "ready": [*ready_parts(fields, self._given), *unsaid]}

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Make an LLM from its settings; parts that were ready objects are to be given again.

        Raises:
            PrivacyParameterError: If one of those is not given: an LLM that had a ledger shall not come back
                without one.
        """
        missing = [name for name in data.get("ready", ()) if name not in kwargs]
        if missing:
            raise PrivacyParameterError(
                f"The LLM was made with a {missing[0]}, which its settings cannot hold. Give it again: "
                f"from_dict(data, {missing[0]}=...)."
            )
        return super().from_dict({name: value for name, value in data.items() if name != "ready"}, **kwargs)

    @classmethod
    def class_name(cls) -> str:
        """Name of the class in serialised settings."""
        return "DPFusionLLM"

    @property
    def engine(self) -> FusionEngine:
        """The engine; the first use loads the model."""
        if self._engine is None:
            self._engine = load_engine(self)
        return self._engine

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know of the model."""
        return describe(self)

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
        return chat_answer(self, messages, kwargs).whole()

    @untraced
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation piece by piece; see :meth:`chat`. Closing the generator frees the model."""
        return chat_answer(self, messages, kwargs).pieces()

    @untraced
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation without blocking the event loop; see :meth:`chat`."""
        return await chat_answer(self, messages, kwargs).awhole()

    @untraced
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Return an async generator over the answer; see :meth:`stream_chat`."""
        return await chat_answer(self, messages, kwargs).apieces()

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
        return complete_answer(self, prompt, formatted, kwargs).whole()

    @untraced
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Complete a prompt piece by piece; see :meth:`complete`."""
        return complete_answer(self, prompt, formatted, kwargs).pieces()

    @untraced
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a prompt without blocking the event loop; see :meth:`complete`."""
        return await complete_answer(self, prompt, formatted, kwargs).awhole()

    @untraced
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Return an async generator over the completion; see :meth:`complete`."""
        return await complete_answer(self, prompt, formatted, kwargs).apieces()

    # -- Prompt templates --

    @untraced
    @not_swallowed()
    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Fill in a prompt template and answer it; its arguments are private unless they are named public."""
        return self._prediction(prompt, prompt_args).whole()

    @untraced
    @anot_swallowed
    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Fill in a prompt template and answer it; see :meth:`predict`."""
        return await self._prediction(prompt, prompt_args).awhole()

    @untraced
    @not_swallowed()
    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """Fill in a prompt template and answer it piece by piece; see :meth:`predict`."""
        refuse_parsers(self, prompt)
        return self._prediction(prompt, prompt_args).pieces()

    @untraced
    @anot_swallowed
    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Return an async generator over the answer to a filled in template; see :meth:`predict`."""
        refuse_parsers(self, prompt)
        return await self._prediction(prompt, prompt_args).apieces()

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
        prediction = StructuredPrediction.of(self, output_cls, prompt, llm_kwargs, prompt_args)
        return prediction.whole()

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
        prediction = StructuredPrediction.of(self, output_cls, prompt, llm_kwargs, prompt_args)
        return await prediction.awhole()

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
        prediction = StructuredPrediction.of(self, output_cls, prompt, llm_kwargs, prompt_args)
        return prediction.pieces()

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
        prediction = StructuredPrediction.of(self, output_cls, prompt, llm_kwargs, prompt_args)
        return await prediction.apieces()

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> DPFusionStructuredLLM:
        """Return an LLM that answers with objects of a pydantic model."""
        return DPFusionStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    # -- Filling in --

    def _prediction(self, prompt: BasePromptTemplate, arguments: dict[str, Any]) -> Prediction:
        fill = self._get_messages if has_chat_template(self.engine) else self._get_prompt
        return Prediction(self, fill(prompt, **arguments), self._parse_output)

    def _get_messages(self, prompt: BasePromptTemplate, **prompt_args: Any) -> list[ChatMessage]:
        """Fill in a template; every piece of the messages' text is sealed."""
        return FilledTemplate(prompt, prompt_args, self.public_arguments, self).messages()

    def _get_prompt(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Fill in a template for a model without a chat template; every piece of the text is sealed."""
        return FilledTemplate(prompt, prompt_args, self.public_arguments, self).text(self._extend_prompt)

    def fill_in(self, prompt: BasePromptTemplate, arguments: dict[str, Any]) -> list[ChatMessage]:
        """Return the messages of a filled in template; every piece of their text is sealed."""
        return self._get_messages(prompt, **arguments)

    def seal_ready(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Seal messages that somebody else has filled in: what is not sealed or flagged public is private."""
        return sealed_messages(messages)

    def _extend_messages(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        """Add the system prompt to messages that a program of LlamaIndex has filled in itself.

        What was template and what was argument cannot be told any more: all of it is private.
        """
        return [*system_messages(self), *sealed_messages(messages)]

    def _log_template_data(self, prompt: BasePromptTemplate, **prompt_args: Any) -> None:
        """Show nothing: a template may hold private history, and arguments are private."""

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
        return chat_arguments(tools, user_msg, chat_history, tool_required, kwargs)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the calls of tools in a response.

        Raises:
            BackendError: If there is none and ``error_on_no_tool_call`` is set.
        """
        return selections(response, is_needed=error_on_no_tool_call)

    @untraced
    def predict_and_call(
        self,
        tools: Sequence["BaseTool"],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> "AgentChatResponse":
        """Let the model call a tool, and call it.

        A history without a message of the user is what LlamaIndex's programs give, who have filled in
        their templates themselves: then what is not sealed or flagged public in it is private.
        Further arguments are those of LlamaIndex's method.
        """
        history = sealed_history(user_msg, chat_history)
        with without_steps():
            return bare(super().predict_and_call)(tools, user_msg, history, *args, **kwargs)

    @untraced
    async def apredict_and_call(
        self,
        tools: Sequence["BaseTool"],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> "AgentChatResponse":
        """Let the model call a tool, and call it; see :meth:`predict_and_call`."""
        history = sealed_history(user_msg, chat_history)
        with without_steps():
            return await bare(super().apredict_and_call)(tools, user_msg, history, *args, **kwargs)

    # -- Options --

    def rule(self, options: GenerationOptions | None = None) -> Rule:
        """Return what holds for text without marks in a call with these options, by default the LLM's own."""
        options = self.engine_options() if options is None else options
        has_ledger = self.engine.ledger is not None
        has_budget = has_ledger or any(options.get(name) is not None for name in ("epsilon", "beta"))
        return Rule(effective_unmarked(self.unmarked, has_budget=has_budget), has_ledger, self.unit)

    def engine_options(self, said: dict[str, Any] | None = None) -> GenerationOptions:
        """Return the options of the engine: those of the LLM, and on top of them those of one call.

        Raises:
            PrivacyParameterError: If an option of the call is unknown.
        """
        return engine_options({name: getattr(self, name) for name in type(self).model_fields}, said or {})
