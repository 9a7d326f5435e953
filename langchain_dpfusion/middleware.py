"""``DPFusionMiddleware``: an agent of ``create_agent`` whose tool results stay private."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Annotated, Any, Literal, NotRequired

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain.agents.middleware.types import PrivateStateAttr, ToolCallRequest, hook_config
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.runtime import Runtime
from langgraph.types import Command

from dpfusion_core import _validate
from dpfusion_core.errors import BudgetExhaustedError, PrivacyParameterError, UnsupportedError
from dpfusion_core.privacy import PrivacyBudget
from langchain_dpfusion.chat_models import ChatDPFusion
from langchain_dpfusion.messages import GUARANTEE_KEY, MessageT, has_private, hide
from langchain_dpfusion.sealing import seal, without_text

_SPENT = "The privacy budget of this request is spent; I cannot answer from private data any more."


class DPFusionState(AgentState[Any]):
    """The agent's state with the number of answers that the current request has paid for."""

    dp_fusion_calls: NotRequired[Annotated[int, PrivateStateAttr]]


class DPFusionMiddleware(AgentMiddleware[DPFusionState, Any, Any]):
    """Keeps private what an agent's tools return, and keeps it from every model but ``ChatDPFusion``.

    Results of tools become private messages whose text summaries, ``.text`` and templates pass over.
    Models are handed private messages sealed: a fallback that is no ``ChatDPFusion`` sees placeholders
    if it comes after this middleware, and is refused if it comes before.

    Args:
        private_tools: Names of the tools whose results are private. None (default): of all tools. With
            names, the results of all others are public.
        private_roles: Roles that are private beside: ``"human"`` for what the user says.
        budget: What one request to the agent may lose of each privacy unit, over all its model calls.
            None leaves each call to the model's own settings.
        calls: For how many model calls of a request the budget lasts.
        on_exhausted: After that many: ``"end"`` the request with a message that says so (default),
            ``"raise"``, or ``"zero-out"``, which goes on with placeholders.

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

    def __init__(
        self,
        *,
        private_tools: Collection[str] | None = None,
        private_roles: Collection[Literal["human"]] = (),
        budget: PrivacyBudget | None = None,
        calls: int = 4,
        on_exhausted: Literal["end", "raise", "zero-out"] = "end",
    ) -> None:
        super().__init__()
        if isinstance(private_tools, str) or isinstance(private_roles, str) or set(private_roles) - {"human"}:
            raise PrivacyParameterError(
                "Expected private_tools to be a collection of names and private_roles to be () or ('human',)."
            )
        if budget is not None and not isinstance(budget, PrivacyBudget):
            raise PrivacyParameterError("Expected budget to be a PrivacyBudget.")
        if on_exhausted not in ("end", "raise", "zero-out"):
            raise PrivacyParameterError(
                f"Expected on_exhausted 'end', 'raise' or 'zero-out', got {on_exhausted!r}."
            )
        self._private_tools = None if private_tools is None else frozenset(private_tools)
        self._default: Literal["human"] | None = "human" if private_roles else None
        self._budget = budget
        self._calls = _validate.count(calls, "calls")
        self._on_exhausted = on_exhausted

    # --- What enters the conversation ---

    def before_agent(self, state: DPFusionState, runtime: Runtime[Any]) -> dict[str, Any]:
        """Hide private messages from everything but the model, and begin to count its calls."""
        hidden = [(message, hide(message, self._default)) for message in state["messages"]]
        changed = [after for before, after in hidden if after is not before and before.id is not None]
        return {"messages": changed, "dp_fusion_calls": 0}

    async def abefore_agent(self, state: DPFusionState, runtime: Runtime[Any]) -> dict[str, Any]:
        """Do what :meth:`before_agent` does."""
        return self.before_agent(state, runtime)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Mark and hide the result of a tool."""
        return self._marked(request.tool_call["name"], handler(request))

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Mark and hide the result of a tool."""
        return self._marked(request.tool_call["name"], await handler(request))

    def _marked(self, name: str, result: ToolMessage | Command[Any]) -> ToolMessage | Command[Any]:
        if isinstance(result, ToolMessage):
            return self._mark(name, result)
        update = result.update
        if isinstance(update, dict) and isinstance(update.get("messages"), list):
            messages = [self._mark(name, m) if isinstance(m, BaseMessage) else m for m in update["messages"]]
            return replace(result, update={**update, "messages": messages})
        return result

    def _mark(self, name: str, message: MessageT) -> MessageT:
        """Mark a tool's message; blocks that say themselves whether they are private keep that."""
        if not isinstance(message, ToolMessage):
            return hide(message, self._default)
        is_private = self._private_tools is None or name in self._private_tools
        if is_private:
            return hide(message, "tool")
        if "is_private" in message.additional_kwargs:
            return hide(message)
        extra = {**message.additional_kwargs, "is_private": False}
        return hide(message.model_copy(update={"additional_kwargs": extra}))

    # --- What the model is handed ---

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Hand private messages to ``ChatDPFusion`` alone, within the budget of the request."""
        return handler(self._guarded(request))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Hand private messages to ``ChatDPFusion`` alone, within the budget of the request."""
        return await handler(self._guarded(request))

    def _guarded(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        messages = [self._mark(getattr(message, "name", None) or "", message) for message in request.messages]
        if not has_private(messages):
            return request
        model = request.model
        if not isinstance(model, ChatDPFusion):
            raise UnsupportedError(
                f"Private messages were about to be handed to {type(model).__name__}. Only ChatDPFusion may read "
                "them: use it for every model of the agent, fallbacks and summaries included."
            )
        sealed: Any = seal(messages, None)
        if self._is_spent(request.state):
            sealed = without_text(sealed)
            return request.override(messages=sealed)
        settings = dict(request.model_settings)
        if self._budget is not None:
            settings |= {
                "epsilon": self._budget.epsilon,
                "delta": self._budget.delta,
                "responses": self._calls,
            }
        return request.override(messages=sealed, model_settings=settings)

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
        return {"messages": [AIMessage(_SPENT)], "jump_to": "end"}

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
