"""The engine's closed answers: the part of :class:`~dpfusion_core.FusionEngine` that chooses."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack, overload

from dpfusion_core.backends import Backend
from dpfusion_core.choices import ChoiceResult
from dpfusion_core.engine.choosing import prepare_choice, run_choice
from dpfusion_core.engine.filling import Ask, StructuredResult, fill
from dpfusion_core.engine.requests import check_messages, options_of_each
from dpfusion_core.engine.routing import tool_question
from dpfusion_core.errors import DPFusionError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message
from dpfusion_core.options import GenerationOptions
from dpfusion_core.placeholders import Placeholder
from dpfusion_core.tagging.narrowing import Narrowing
from dpfusion_core.views import Views


class ClosedAnswers:
    """What an engine answers out of few; it stands in a room of its own for its size alone."""

    backend: Backend
    ledger: PrivacyLedger | None
    narrowing: Narrowing | None
    placeholder: Placeholder

    def choose(
        self,
        messages: Sequence[Message] | Views,
        choices: Sequence[str],
        **options: Unpack[GenerationOptions],
    ) -> ChoiceResult:
        """Answer with one of several public choices; the whole choice costs what one token costs.

        Each choice is scored by how likely every view makes it, to its end. Without private text the answer
        is drawn from that. Else each unit's distribution is mixed with the prior, which is uniform by default, as
        far as the budget allows.

        Args:
            messages: The conversation, or ready views. It should ask for the choice.
            choices: At least two different texts; public.
            **options: The budget, ``accounting``, ``on_exhausted``, ``prior``, ``temperature``, ``seed``,
                ``tools``, ``curator``; see :class:`~dpfusion_core.options.Options`. What has a meaning for text
                alone is refused. Without ``order``, the one is taken at which a sure model is right most often.

        Raises:
            PrivacyParameterError: If these are no choices, the tokenizer cannot write one, or an option is
                missing, out of range or without effect.
            ViewError: If the messages cannot be made into prompts that fit the model.
            TaggerError: If the tagger fails and its narrowing says to raise.
            BudgetExhaustedError: If a unit's budget in the ledger is spent.
            LedgerError: If the ledger cannot be reached or written; then nothing is chosen.
            BackendError: If the model fails.

        Example:
            >>> from dpfusion_core import FusionEngine, Message, ScriptedBackend
            >>> engine = FusionEngine(ScriptedBackend.saying("asthma"))
            >>> record = Message("user", "She has asthma.", is_private=True)
            >>> chosen = engine.choose([record, Message("user", "Illness?")], ["asthma", "gout"], epsilon=8.0, seed=1)
            >>> chosen.choice, chosen.guarantee.epsilon
            ('asthma', 8.0)
        """
        return self._choose(messages, choices, options)

    async def achoose(
        self,
        messages: Sequence[Message] | Views,
        choices: Sequence[str],
        **options: Unpack[GenerationOptions],
    ) -> ChoiceResult:
        """Answer with one of several choices without blocking the event loop; see :meth:`choose`."""
        return await asyncio.to_thread(self._choose, messages, choices, options)

    @overload
    def choose_batch(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        choices: Sequence[str],
        *,
        each: Sequence[GenerationOptions] | None = None,
        return_exceptions: Literal[False] = False,
        **options: Unpack[GenerationOptions],
    ) -> list[ChoiceResult]: ...
    @overload
    def choose_batch(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        choices: Sequence[str],
        *,
        each: Sequence[GenerationOptions] | None = None,
        return_exceptions: bool,
        **options: Unpack[GenerationOptions],
    ) -> list[ChoiceResult | DPFusionError]: ...
    def choose_batch(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        choices: Sequence[str],
        *,
        each: Sequence[GenerationOptions] | None = None,
        return_exceptions: bool = False,
        **options: Unpack[GenerationOptions],
    ) -> list[Any]:
        """Choose in several conversations, each with its own guarantee and charge; see :meth:`choose`.

        Args:
            conversations: The conversations, or ready views.
            choices: The choices, the same for all.
            each: Options of each conversation, on top of the common ones.
            return_exceptions: Whether the error of a conversation takes the place of its choice. By default the
                first one is raised; what was chosen before it stays charged.
            **options: Common options.

        Raises:
            DPFusionError: See :meth:`choose`.
        """
        return self._choose_all(conversations, choices, each, return_exceptions, options)

    async def achoose_batch(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        choices: Sequence[str],
        *,
        each: Sequence[GenerationOptions] | None = None,
        return_exceptions: bool = False,
        **options: Unpack[GenerationOptions],
    ) -> list[Any]:
        """Choose in several conversations without blocking the event loop; see :meth:`choose_batch`."""
        return await asyncio.to_thread(
            self._choose_all, conversations, choices, each, return_exceptions, options
        )

    def fill(
        self,
        messages: Sequence[Message],
        schema: Any,
        *,
        shares: Mapping[str, float] | None = None,
        ask: Ask | None = None,
        for_totals: bool = False,
        **options: Unpack[GenerationOptions],
    ) -> StructuredResult:
        """Answer with an object whose fields are all closed: each field is a choice.

        Fields are asked in the order of the schema. What has been chosen for earlier ones is public and stands in
        the prompt of later ones. The guarantee is for the whole object.

        Args:
            messages: The conversation. A question for each field is put behind it.
            schema: A JSON schema of an object, a Pydantic class or a TypedDict; see
                :func:`~dpfusion_core.closed.closed_fields` for what is closed. The model reads the descriptions of
                the fields as questions.
            shares: How the fields share the budget, by name; those that are not named have the share 1. Evenly by
                default: each field, and each possible member of an array, as much as the others.
            ask: Puts a field into a question, in the place of :func:`~dpfusion_core.engine.filling.plain_question`.
            for_totals: Make the answers over many documents fit for being counted: each field is asked on its own,
                without the earlier answers, and its randomness is the same for every document, so that totals can
                be corrected for it exactly; see :func:`~dpfusion_core.documents.label_totals`.
            **options: As for :meth:`choose`; the budget is that of the whole object.

        Raises:
            PrivacyParameterError: If the schema has an open field or two values that read alike, or an option is
                missing, out of range or without effect.
            DPFusionError: See :meth:`choose`.

        Example:
            >>> from dpfusion_core import FusionEngine, Message, ScriptedBackend
            >>> engine = FusionEngine(ScriptedBackend.saying("yes"))
            >>> schema = {"properties": {"ill": {"type": "boolean", "description": "Is she ill?"}}}
            >>> engine.fill([Message("user", "She has asthma.", is_private=True)], schema, epsilon=8.0, seed=1).value
            {'ill': True}
        """
        return self._fill(messages, schema, shares, ask, for_totals, options)

    async def afill(
        self,
        messages: Sequence[Message],
        schema: Any,
        *,
        shares: Mapping[str, float] | None = None,
        ask: Ask | None = None,
        for_totals: bool = False,
        **options: Unpack[GenerationOptions],
    ) -> StructuredResult:
        """Answer with an object of closed fields without blocking the event loop; see :meth:`fill`."""
        return await asyncio.to_thread(self._fill, messages, schema, shares, ask, for_totals, options)

    def choose_tool(self, messages: Sequence[Message], **options: Unpack[GenerationOptions]) -> ChoiceResult:
        """Choose which tool comes next, or ``"answer"`` for none; what :meth:`choose` makes of their names.

        A question with the tools' names and descriptions is put behind the conversation, so any model will do. With
        the name as ``tool_choice`` of :meth:`generate`, the call is written; with ``"none"``, the answer. That is a
        second request, with a budget of its own.

        Args:
            messages: The conversation.
            **options: ``tools``, function schemas in OpenAI's form, which are public; else as for :meth:`choose`.

        Raises:
            PrivacyParameterError: If there is no tool, or one is malformed or named ``"answer"``.
            DPFusionError: See :meth:`choose`.

        Example:
            >>> from dpfusion_core import FusionEngine, Message, ScriptedBackend
            >>> engine = FusionEngine(ScriptedBackend.saying("now"))
            >>> note = Message("user", "Ann asks how late it is.", is_private=True)
            >>> tools = [{"name": "now", "description": "Tells the time."}]
            >>> engine.choose_tool([note], tools=tools, epsilon=20.0).choice
            'now'
        """
        check_messages(messages)
        # The question names them, so the chat template need not show them.
        asked, names = tool_question(options.pop("tools", None) or ())
        return self._choose([*messages, asked], names, options)

    def _fill(
        self,
        messages: Sequence[Message],
        schema: Any,
        shares: Mapping[str, float] | None,
        ask: Ask | None,
        for_totals: bool,
        options: GenerationOptions,
    ) -> StructuredResult:
        return fill(
            messages,
            schema,
            shares,
            ask,
            for_totals,
            options,
            backend=self.backend,
            ledger=self.ledger,
            narrowing=self.narrowing,
            placeholder=self.placeholder,
        )

    def _choose(
        self, messages: Sequence[Message] | Views, choices: Sequence[str], options: GenerationOptions
    ) -> ChoiceResult:
        request = prepare_choice(
            messages,
            choices,
            options,
            backend=self.backend,
            ledger=self.ledger,
            narrowing=self.narrowing,
            placeholder=self.placeholder,
        )
        return run_choice(request, self.backend, self.ledger)

    def _choose_all(
        self,
        conversations: Sequence[Sequence[Message] | Views],
        choices: Sequence[str],
        each: Sequence[GenerationOptions] | None,
        return_exceptions: bool,
        options: GenerationOptions,
    ) -> list[Any]:
        own = options_of_each(conversations, each, options)
        found: list[Any] = []
        for messages, said in zip(conversations, own, strict=True):
            try:
                found.append(self._choose(messages, choices, said))
            except DPFusionError as error:
                if not return_exceptions:
                    raise
                found.append(error)
        return found
