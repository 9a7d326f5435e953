"""``DPFusionLLM``: a LlamaIndex LLM whose answers are private for what is private in the prompt."""

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools import BaseTool
from llama_index.core.types import TokenAsyncGen, TokenGen

from dpfusion_core.engine import FusionEngine
from llamaindex_dpfusion.answers.calls import chat_answer, complete_answer
from llamaindex_dpfusion.answers.events import bare, untraced, without_steps
from llamaindex_dpfusion.answers.predictions import Prediction, refuse_parsers
from llamaindex_dpfusion.answers.structured import DPFusionStructuredLLM, StructuredPrediction
from llamaindex_dpfusion.answers.tools import chat_arguments, sealed_history, selections
from llamaindex_dpfusion.errors import anot_swallowed, not_swallowed
from llamaindex_dpfusion.prompts.messages import sealed_messages
from llamaindex_dpfusion.prompts.templates import FilledTemplate, filled_messages, system_messages
from llamaindex_dpfusion.settings import ConfiguredLLM

# Types of arguments that several methods share.
_Class = type[BaseModel]
_Tools = Sequence[BaseTool]
_Options = dict[str, Any] | None
_Said = str | ChatMessage | None
_History = list[ChatMessage] | None


class DPFusionLLM(ConfiguredLLM):
    """A language model that answers from confidential documents within a privacy budget.

    It drops in for any other LLM: ``Settings.llm = DPFusionLLM(epsilon=8.0)``. Text of prompt templates is
    public, what they are filled in with is private unless it is named public, and a :class:`DPFusionNodePostprocessor`
    gives every document its own privacy unit. ``additional_kwargs["is_private"]`` marks a message of ``chat``.

    Args:
        model: Name or path of a ``transformers`` model, or a ready one; ``"dpfusion-tiny"`` is embedded.
        engine: A ready engine, in place of a model. ``tokenizer`` goes with a ready model.
        epsilon: What one answer may tell about each unit, in nats; with ``delta``. Or ``order`` and ``beta``.
        delta: Probability for epsilon; 1e-5 by default.
        order: Rényi order, above 1, the paper's ``alpha``, which is understood too; with ``beta``, or with epsilon.
        beta: With ``order``: each unit's contribution to a token diverges by at most ``order * beta`` nats.
        mixing_loss: With ``order`` and ``beta``: ``c_inf`` for replace neighbours, nats per token.
        weight_cap: Largest weight of a unit's text in its part of a token, where there are several; 1 is no cap.
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
        max_retries: How often a call is tried again if the model fails; a stream, before its first piece.
        device: Device of the model. It, ``dtype``, ``device_map`` and ``model_kwargs`` are as of ``from_pretrained``.
        context_window: What LlamaIndex packs prompts for, in tokens; by default the model's own limit.
        choices: Every answer is one of these public texts; a whole one costs what one token costs.
        prior: What a choice is drawn from before anything private is seen: ``"uniform"`` or ``"public"``.
        public_arguments: Names of template arguments that are public.
        unmarked: What a message without a flag is; see :data:`~dpfusion_core.adapters.Unmarked`. ``"error"`` is the
            default once a privacy setting or a ledger is given; agents want ``"public"``.
        unit: The privacy unit of private text that names none: one for the whole app unless you name it here.
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

    def __init__(
        self, model: Any = "dpfusion-tiny", *, engine: FusionEngine | None = None, **kwargs: Any
    ) -> None:
        super().__init__(model, engine=engine, **kwargs)

    @classmethod
    def class_name(cls) -> str:
        """Name of the class in serialised settings."""
        return "DPFusionLLM"

    @untraced
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation.

        Args:
            messages: The conversation. Flags in ``additional_kwargs``: ``is_private`` and ``unit``.
            **kwargs: Options of this call, by the names of the LLM's own; also ``tools``, ``tool_choice``,
                ``json_schema`` and ``choices``.

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

    @untraced
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a prompt; what is answered and raised is as of :meth:`chat`.

        Args:
            prompt: The prompt; ``complete_policy`` says what its unsealed text is.
            formatted: Whether it is ready for the model, special tokens and all. If not, it becomes one
                message of the user.
            **kwargs: Options of this call; see :meth:`chat`.
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

    @untraced
    @not_swallowed()
    def structured_predict(
        self, output_cls: _Class, prompt: BasePromptTemplate, llm_kwargs: _Options = None, **prompt_args: Any
    ) -> Any:
        """Fill in a prompt template and answer it with an ``output_cls``.

        Args:
            output_cls: Pydantic model of the object; the answer is constrained to its schema.
            prompt: The template.
            llm_kwargs: Options of this call; see :meth:`chat`.
            **prompt_args: Arguments of the template; private unless they are named public.

        Raises:
            BackendError: If ``max_tokens`` was too small for the whole object.
        """
        return StructuredPrediction.of(self, output_cls, prompt, llm_kwargs, prompt_args).whole()

    @untraced
    @anot_swallowed
    async def astructured_predict(
        self, output_cls: _Class, prompt: BasePromptTemplate, llm_kwargs: _Options = None, **prompt_args: Any
    ) -> Any:
        """Fill in a prompt template and answer it with an object; see :meth:`structured_predict`."""
        return await StructuredPrediction.of(self, output_cls, prompt, llm_kwargs, prompt_args).awhole()

    @untraced
    @not_swallowed()
    def stream_structured_predict(
        self, output_cls: _Class, prompt: BasePromptTemplate, llm_kwargs: _Options = None, **prompt_args: Any
    ) -> Generator[Any, None, None]:
        """Yield the object as it grows; see :meth:`structured_predict`."""
        return StructuredPrediction.of(self, output_cls, prompt, llm_kwargs, prompt_args).pieces()

    @untraced
    @anot_swallowed
    async def astream_structured_predict(
        self, output_cls: _Class, prompt: BasePromptTemplate, llm_kwargs: _Options = None, **prompt_args: Any
    ) -> AsyncGenerator[Any, None]:
        """Return an async generator over the object as it grows; see :meth:`structured_predict`."""
        return await StructuredPrediction.of(self, output_cls, prompt, llm_kwargs, prompt_args).apieces()

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> DPFusionStructuredLLM:
        """Return an LLM that answers with objects of a pydantic model.

        Raises:
            PrivacyParameterError: If an option is unknown; those of calls are set on the LLM itself.
        """
        return DPFusionStructuredLLM.of(self, output_cls, kwargs)

    def _prediction(self, prompt: BasePromptTemplate, arguments: dict[str, Any]) -> Prediction:
        fill = self._get_messages if self.has_chat_template else self._get_prompt
        return Prediction(self, fill(prompt, **arguments), self._parse_output)

    def _get_messages(self, prompt: BasePromptTemplate, **prompt_args: Any) -> list[ChatMessage]:
        return filled_messages(self, prompt, prompt_args)

    def _get_prompt(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        return FilledTemplate(prompt, prompt_args, self.public_arguments, self).text(self._extend_prompt)

    def _extend_messages(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        # A program of LlamaIndex has filled them in itself: what was argument cannot be told any more.
        return [*system_messages(self), *sealed_messages(messages)]

    def _log_template_data(self, prompt: BasePromptTemplate, **prompt_args: Any) -> None:
        """Show nothing: a template may hold private history, and arguments are private."""

    @untraced
    def _prepare_chat_with_tools(
        self,
        tools: _Tools,
        user_msg: _Said = None,
        chat_history: _History = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        return chat_arguments(tools, user_msg, chat_history, tool_required, kwargs)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the calls of tools in a response; a ``BackendError`` if one is needed and there is none."""
        return selections(response, is_needed=error_on_no_tool_call)

    @untraced
    def predict_and_call(
        self, tools: _Tools, user_msg: _Said = None, chat_history: _History = None, *args: Any, **kwargs: Any
    ) -> AgentChatResponse:
        """Let the model call a tool, and call it.

        In a history without a message of the user, what is not sealed or flagged public is private.
        """
        history = sealed_history(user_msg, chat_history)
        with without_steps():
            return bare(super().predict_and_call)(tools, user_msg, history, *args, **kwargs)

    @untraced
    async def apredict_and_call(
        self, tools: _Tools, user_msg: _Said = None, chat_history: _History = None, *args: Any, **kwargs: Any
    ) -> AgentChatResponse:
        """Let the model call a tool, and call it; see :meth:`predict_and_call`."""
        history = sealed_history(user_msg, chat_history)
        with without_steps():
            return await bare(super().apredict_and_call)(tools, user_msg, history, *args, **kwargs)
