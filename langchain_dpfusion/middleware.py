"""``DPFusionMiddleware``: an agent of ``create_agent`` whose tool results stay private."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Literal, NotRequired

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain.agents.middleware.types import PrivateStateAttr, ToolCallRequest, hook_config
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.runtime import Runtime
from langgraph.types import Command

from dpfusion_core import _validate
from dpfusion_core.errors import BudgetExhaustedError, PrivacyParameterError, UnsupportedError
from dpfusion_core.privacy import PrivacyBudget
from langchain_dpfusion.marked_messages import GUARANTEE_KEY, MessageT, mark_private, mark_public
from langchain_dpfusion.options import named
from langchain_dpfusion.reading import has_private, hide, read
from langchain_dpfusion.sealed_messages import seal, without_text
from langchain_dpfusion.sealed_models import SealedChatModel
from langchain_dpfusion.tool_results import map_messages, tool_names

_SPENT = "The privacy budget of this request is spent; I cannot answer from private data any more."


Role = Literal["human", "system"]
Roles = Sequence[Role] | AbstractSet[Role]  # mypy reads a tuple as literals here, and not for Collection


class DPFusionState(AgentState[Any]):
    """The agent's state, and what the middleware keeps in it.

    Attributes:
        dp_fusion_calls: How many answers the current request has paid for.
        dp_fusion_said: Digests of what the person has said.
    """

    dp_fusion_calls: NotRequired[Annotated[int, PrivateStateAttr]]
    dp_fusion_said: NotRequired[Annotated[list[str], PrivateStateAttr]]


class DPFusionMiddleware(AgentMiddleware[DPFusionState, Any, Any]):
    """Keeps private what an agent's tools return, and keeps it from every model but ``ChatDPFusion``.

    Results of tools become private messages whose text summaries, ``.text`` and templates pass over.
    Models are handed private messages sealed: a fallback that is no ``ChatDPFusion`` sees placeholders
    if it comes after this middleware, and is refused if it comes before.

    It also says what the person's question is: public by default. That holds for the messages that a
    request comes with, as they are: text that other middleware writes into them later is unmarked, and
    the model's ``unmarked`` decides about it. So it does about a system prompt that nobody speaks of.

    Args:
        private_tools: Names of the tools whose results are private, commands and all. None (default): of
            all tools. With names, the results of all others are public; a name that is none of the agent's
            tools is refused when the model is called.
        private_roles: Roles that are private beside: ``"human"`` for what the person says, ``"system"``
            for the system prompt.
        public_roles: Roles that are public: ``"human"`` (default, unless it is private), ``"system"`` if
            the system prompt holds no records.
        budget: What one request to the agent may lose of each privacy unit, over all its model calls.
            None leaves each call to the model's own settings.
        calls: For how many model calls of a request the budget lasts.
        on_exhausted: After that many, or when a budget in the model's ledger is spent: ``"end"`` the
            request with a message that says so (default), ``"raise"``, or ``"zero-out"``, which goes on
            with placeholders.

    Raises:
        PrivacyParameterError: If an argument is out of range.

    Example:
        >>> middleware = DPFusionMiddleware(
        ...     private_tools={"search_records"}, budget=PrivacyBudget(epsilon=8.0), calls=4
        ... )
        >>> middleware.name
        'DPFusionMiddleware'
    """

    state_schema = DPFusionState

    @named("DPFusionMiddleware")
    def __init__(
        self,
        *,
        private_tools: Collection[str] | None = None,
        private_roles: Roles = (),
        public_roles: Roles | None = None,
        budget: PrivacyBudget | None = None,
        calls: int = 4,
        on_exhausted: Literal["end", "raise", "zero-out"] = "end",
    ) -> None:
        super().__init__()
        said: tuple[Role, ...] = () if "human" in private_roles else ("human",)
        public = said if public_roles is None else public_roles
        roles = [*private_roles, *public]
        is_text = any(isinstance(names, str) for names in (private_tools, private_roles, public))
        if is_text or set(roles) - {"human", "system"} or len(set(roles)) < len(roles):
            raise PrivacyParameterError(
                "Expected private_tools to be a collection of names, and private_roles and public_roles to be "
                "collections of 'human' and 'system', each in one of them at most."
            )
        if budget is not None and not isinstance(budget, PrivacyBudget):
            raise PrivacyParameterError("Expected budget to be a PrivacyBudget.")
        if on_exhausted not in ("end", "raise", "zero-out"):
            raise PrivacyParameterError(
                f"Expected on_exhausted 'end', 'raise' or 'zero-out', got {on_exhausted!r}."
            )
        self._private_tools = None if private_tools is None else frozenset(private_tools)
        self._private_roles, self._public_roles = frozenset(private_roles), frozenset(public)
        self._budget = budget
        self._calls = _validate.count(calls, "calls")
        self._on_exhausted = on_exhausted

    # --- What enters the conversation ---

    def before_agent(self, state: DPFusionState, runtime: Runtime[Any]) -> dict[str, Any]:
        """Hide private messages from everything but the model, and begin to count its calls."""
        messages = state["messages"]
        hidden = [(message, self._mark(message)) for message in messages]
        changed = [after for before, after in hidden if after is not before and before.id is not None]
        said = state.get("dp_fusion_said")
        if said is not None:  # a thread that goes on: what was said before is known
            last = max((i for i, message in enumerate(messages) if message.type == "ai"), default=-1)
            messages = messages[last + 1 :]
        now = [_digest(message) for message in messages if _is_unmarked(message)]
        return {"messages": changed, "dp_fusion_calls": 0, "dp_fusion_said": sorted({*(said or ()), *now})}

    async def abefore_agent(self, state: DPFusionState, runtime: Runtime[Any]) -> dict[str, Any]:
        """Do what :meth:`before_agent` does."""
        return self.before_agent(state, runtime)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Mark and hide the result of a tool."""
        marked: ToolMessage | Command[Any] = self._marked(request.tool_call["name"], handler(request))
        return marked

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Mark and hide the result of a tool."""
        marked: ToolMessage | Command[Any] = self._marked(request.tool_call["name"], await handler(request))
        return marked

    def _marked(self, name: str, result: Any) -> Any:
        """Mark every message that a tool gave back, those in its commands too."""
        is_private = self._private_tools is None or name in self._private_tools
        return map_messages(result, _hide_result if is_private else self._mark)

    def _mark(self, message: MessageT) -> MessageT:
        """Mark a message of the state; blocks that say themselves whether they are private keep that."""
        if isinstance(message, HumanMessage) and "human" in self._private_roles:
            return hide(message, "private")
        if not isinstance(message, ToolMessage):
            return hide(message)
        if self._private_tools is None or (message.name or "") in self._private_tools:
            return hide(message)
        return hide(mark_public(message))

    # --- What the model is handed ---

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Hand private messages to ``ChatDPFusion`` alone, within the budget of the request."""
        try:
            return handler(self._guarded(request))
        except BudgetExhaustedError:  # of a ledger
            if self._on_exhausted != "end":
                raise
        return ModelResponse(result=[_spent()])

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Hand private messages to ``ChatDPFusion`` alone, within the budget of the request."""
        try:
            return await handler(self._guarded(request))
        except BudgetExhaustedError:
            if self._on_exhausted != "end":
                raise
        return ModelResponse(result=[_spent()])

    def _guarded(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        if missing := sorted((self._private_tools or frozenset()) - tool_names(request.tools)):
            raise PrivacyParameterError(
                f"private_tools names {missing[0]!r}, and the agent has no such tool: what it means to protect would "
                "be public. Name its tools as they are called, and put DPFusionMiddleware before middleware that "
                "selects or adds tools."
            )
        messages = [self._mark(message) for message in request.messages]
        model = request.model
        if not isinstance(model, SealedChatModel):
            if not has_private(messages):
                return request
            raise UnsupportedError(
                f"Private messages were about to be handed to {type(model).__name__}. Only ChatDPFusion may read "
                "them: use it for every model of the agent, fallbacks and summaries included."
            )
        state: Any = request.state
        said = frozenset(state.get("dp_fusion_said") or ())
        sealed: Any = seal([self._spoken(message, said) for message in messages])
        system = request.system_message
        if system is not None and "system" in self._public_roles:
            system = mark_public(system)
        elif system is not None and "system" in self._private_roles:
            system = mark_private(system)
        if self._is_spent(request.state):
            emptied: Any = without_text(sealed)
            return request.override(messages=emptied, system_message=_emptied(system))
        settings = dict(request.model_settings)
        if self._on_exhausted == "zero-out":
            settings.setdefault("on_exhausted", "zero-out")
        if self._budget is not None and has_private([*messages, *([system] if system else [])]):
            settings |= {
                "epsilon": self._budget.epsilon,
                "delta": self._budget.delta,
                "responses": self._calls,
            }
        return request.override(messages=sealed, system_message=system, model_settings=settings)

    def _spoken(self, message: BaseMessage, said: frozenset[str]) -> BaseMessage:
        """Mark what the person has said as public."""
        is_said = "human" in self._public_roles and _is_unmarked(message) and _digest(message) in said
        return mark_public(message) if is_said else message

    # --- The budget of a request ---

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: DPFusionState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """End the request if its budget is spent.

        Raises:
            BudgetExhaustedError: If it is spent and ``on_exhausted`` is ``"raise"``.
        """
        if (
            not self._is_spent(state)
            or self._on_exhausted == "zero-out"
            or not has_private(state["messages"])
        ):
            return None
        if self._on_exhausted == "raise":
            raise BudgetExhaustedError(
                f"The privacy budget of this request was for calls={self._calls} calls of the model."
            )
        return {"messages": [_spent()], "jump_to": "end"}

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: DPFusionState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Do what :meth:`before_model` does."""
        return self.before_model(state, runtime)

    def after_model(self, state: DPFusionState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Count an answer that private data were used for."""
        answers = [message for message in state["messages"] if isinstance(message, AIMessage)]
        guarantee = answers[-1].response_metadata.get(GUARANTEE_KEY) if answers else None
        if not guarantee or not guarantee["units"]:
            return None
        return {"dp_fusion_calls": state.get("dp_fusion_calls", 0) + 1}

    async def aafter_model(self, state: DPFusionState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Do what :meth:`after_model` does."""
        return self.after_model(state, runtime)

    def _is_spent(self, state: Any) -> bool:
        return self._budget is not None and state.get("dp_fusion_calls", 0) >= self._calls


def _hide_result(message: MessageT) -> MessageT:
    """Mark and hide a message of a private tool: all but answers of ours and what the tool says is public."""
    return hide(message, "private")


def _spent() -> AIMessage:
    return mark_public(AIMessage(_SPENT))


def _emptied(system: Any) -> Any:
    return None if system is None else without_text(seal([system]))[0]


def _is_unmarked(message: BaseMessage) -> bool:
    if not isinstance(message, HumanMessage):
        return False
    return any(piece.mark is None for turn in read(message) for piece in turn.pieces)


def _digest(message: BaseMessage) -> str:
    return hashlib.sha256(json.dumps(message.content, sort_keys=True, default=repr).encode()).hexdigest()
