"""``ChatDPFusion``: a LangChain chat model whose answers are private for what is marked as private."""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from dpfusion_core.engine import FusionEngine
from langchain_dpfusion import description, engines
from langchain_dpfusion.checks import check_settings
from langchain_dpfusion.options import check_call, check_forms, openai_tools, pick
from langchain_dpfusion.sealed_messages import unseal
from langchain_dpfusion.sealed_models import SealedChatModel
from langchain_dpfusion.sealed_runnables import SealedBinding
from langchain_dpfusion.settings import ChatSettings
from langchain_dpfusion.structured import Method, chosen, structured


class ChatDPFusion(ChatSettings, SealedChatModel):
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
        weight_cap: Largest weight of a unit's text in its part of a token, where there are several; 1 is no cap.
        responses: With epsilon: how many answers it should last for.
        accounting: ``"fixed"`` or ``"adaptive"``.
        spending: Spending rule of adaptive accounting: ``"growing"``, ``"accrued"`` or ``"capped"``.
        neighbours: ``"zero-out"`` or ``"replace"``.
        on_exhausted: With a ledger: ``"raise"`` or ``"zero-out"``.
        ledger: Keeps what each unit has lost over all answers.
        tagger: Narrows private messages to private phrases.
        placeholder: What stands in the place of private text in the public view.
        mechanism: ``"fusion"``, token by token, for a few documents; or ``"consensus"``: what many documents say
            may be said, what one says may not.
        max_items: With consensus: how many items a document may vote for.
        items: With consensus: ``"points"``, ``"phrases"``, ``"json"``, or a function from an answer to its items.
        prior: What a choice is drawn from before anything private is seen: ``"uniform"`` or ``"public"``.
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

    def check_fields(self) -> None:
        """Refuse fields that do not go together, and options that the engine would refuse.

        Raises:
            PrivacyParameterError: If there are some.
        """
        check_settings(self)

    def __getstate__(self) -> Any:
        """Pickle what can be built again from names and numbers; weights and keys stay here."""
        state = super().__getstate__()
        state["__pydantic_private__"] = {**state["__pydantic_private__"], "_engines": {}}
        return state

    # --- What the model is ---

    @property
    def _llm_type(self) -> str:
        return "dpfusion-chat"

    def _resolve_model_profile(self) -> ModelProfile | None:
        return description.model_profile(self.engine)

    def engine_for(self, name: str | None = None) -> FusionEngine:
        """Return the engine that answers a call; the first use loads the model.

        Args:
            name: The model of the call; None for the chat model's own.

        Raises:
            UnsupportedError: If a ready model is asked for another one.
            BackendError: If the model cannot be loaded.
        """
        return engines.find_engine(self, name)

    def get_token_ids(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens."""
        return engines.token_ids(self.engine_for(), text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count the tokens of a conversation as the model reads it, with its template and all private text.

        The count depends on private text: it is for the application, not for the readers of answers.
        """
        conversation = [turn.by_rule(self.unmarked or "public").to_core() for turn in unseal(messages)]
        return engines.count_tokens(self.engine_for(), conversation, tools or [])

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
                ``"any"`` and a name constrain the answer to one call that obeys the tool's schema; if there is one
                tool and its arguments are all closed, they are chosen as in :meth:`with_structured_output`.
            **kwargs: Further options of the calls, such as ``epsilon``.

        Raises:
            PrivacyParameterError: If a tool cannot be described by a JSON schema.
        """
        bound: Runnable[LanguageModelInput, AIMessage] = self.bind(
            tools=openai_tools(tools), tool_choice=tool_choice, **kwargs
        )
        return bound

    def with_choices(
        self, choices: Sequence[str], *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a model whose answer is one of several public choices; it costs what one token costs.

        Args:
            choices: At least two different texts, such as ``["yes", "no"]``.
            include_raw: Whether to return a dict of ``raw``, the message with its guarantee, ``parsed``, the choice,
                and ``parsing_error``. By default the choice alone.
            **kwargs: Further options of the calls, such as ``epsilon`` and ``prior``.

        Raises:
            PrivacyParameterError: If these are no choices, or an option says nothing of a choice.

        Example:
            >>> from dpfusion_core import FusionEngine, ScriptedBackend
            >>> from langchain_core.messages import HumanMessage
            >>> llm = ChatDPFusion(engine=FusionEngine(ScriptedBackend.saying("yes")), epsilon=8.0, seed=1)
            >>> record = HumanMessage("She fell in May.", additional_kwargs={"is_private": True})
            >>> llm.with_choices(["yes", "no"]).invoke([record, HumanMessage("Did she fall?")])
            'yes'
        """
        kwargs = check_call({**kwargs, "choices": choices if isinstance(choices, str) else list(choices)})
        check_forms(kwargs)
        return SealedBinding.of(chosen(self.bind(**kwargs), include_raw), self, kwargs)  # type: ignore[no-any-return]

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a model whose answers are objects of a schema.

        Where every field is closed (enums, Literals, booleans, small ranges of integers, arrays of enums) and
        something is private, the fields are chosen one after the other: each costs what a token costs. Else the
        schema is enforced token by token, with a mask that depends on public data alone; the log says which of
        its fields could have been chosen.

        Args:
            schema: Pydantic class, ``TypedDict``, JSON schema or OpenAI function schema; public.
            method: ``"function_calling"`` (default) shows the schema to the model as a tool, which the
                model's chat template must support. ``"json_schema"`` (default of a consensus, which calls no
                tools) only enforces it: say in the prompt what is wanted. ``"json_mode"`` enforces some JSON object.
            include_raw: Whether to return a dict of ``raw``, ``parsed`` and ``parsing_error``.
            strict: Has no effect: schemas are always enforced.
            **kwargs: Further options of the calls, such as ``epsilon``.

        Raises:
            PrivacyParameterError: If the schema or the method is none.
        """
        kwargs = check_call(kwargs)
        if method is None:
            is_consensus = pick("mechanism", kwargs, self) == "consensus"
            method = "json_schema" if is_consensus else "function_calling"
        return SealedBinding.of(structured(self, schema, method, include_raw, kwargs), self, kwargs)  # type: ignore[no-any-return]
