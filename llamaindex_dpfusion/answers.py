"""Answers to conversations and prompts, whole or in pieces: from what the LLM is asked to a traced call."""

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.messages import DEFAULT_UNIT, Message, Segment
from dpfusion_core.views import Views
from llamaindex_dpfusion import tracing
from llamaindex_dpfusion.calls import Call
from llamaindex_dpfusion.loading import has_chat_template
from llamaindex_dpfusion.messages import prompt_views, shown, shown_text, to_core
from llamaindex_dpfusion.replies import Reply
from llamaindex_dpfusion.sealing import sealer

if TYPE_CHECKING:
    from llamaindex_dpfusion.llm import DPFusionLLM

R = TypeVar("R", ChatResponse, CompletionResponse)


@dataclass(frozen=True)
class Answer(Generic[R]):
    """The answer to a conversation or a prompt, in a traced call.

    Attributes:
        llm: Is asked.
        kind: The method that traces name, in its plain form.
        shown: What was asked, as traces may see it.
        call: The call of the engine.
        respond: Makes LlamaIndex's response of a reply and its new text.
    """

    llm: "DPFusionLLM" = field(repr=False)
    kind: Literal["chat", "complete"]
    shown: tracing.Shown
    call: Call
    respond: Callable[[Reply, str | None], R]

    def whole(self) -> R:
        """Return the response."""
        return tracing.call(self.llm, self.kind, self.shown, self.call.said, self._whole)

    async def awhole(self) -> R:
        """Return the response without blocking the event loop."""
        return await tracing.acall(self.llm, f"a{self.kind}", self.shown, self.call.said, self._awhole)

    def pieces(self) -> Generator[R, None, None]:
        """Return a generator over the growing response; closing it frees the model."""
        name = f"stream_{self.kind}"
        return tracing.call(
            self.llm, name, self.shown, self.call.said, lambda: self.call.pieces(self.respond)
        )

    async def apieces(self) -> AsyncGenerator[R, None]:
        """Return an async generator over the growing response; closing it frees the model."""
        responses = self.call.apieces(self.respond)

        async def work() -> AsyncGenerator[R, None]:
            return responses

        name = f"astream_{self.kind}"
        traced = await tracing.acall(self.llm, name, self.shown, self.call.said, work)
        return tracing.closing_both(traced, responses)

    def _whole(self) -> R:
        return self.respond(self.call.whole(), None)

    async def _awhole(self) -> R:
        return self.respond(await self.call.awhole(), None)


def chat_answer(
    llm: "DPFusionLLM", messages: Sequence[ChatMessage], said: dict[str, Any]
) -> Answer[ChatResponse]:
    """Translate a conversation and the options of the call.

    Raises:
        PrivacyParameterError: If a system message is private only because nobody has said otherwise.
    """
    core = to_core(messages, llm.public_roles)
    call = _call(llm, core, said)
    has_budget = call.options.get("epsilon") is not None or call.options.get("alpha") is not None
    if not has_budget and any(m.role == "system" and m.units for m in core):
        raise PrivacyParameterError(
            "A system message is private unless it is said to be public, and the call has no privacy "
            'parameters. Add "system" to public_roles, give that message additional_kwargs={"is_private": '
            "False}, use system_prompt in its place, or say what an answer may cost: epsilon=8.0."
        )
    return Answer(llm, "chat", shown(core, llm.engine.placeholder), call, Reply.chat)


def complete_answer(
    llm: "DPFusionLLM", prompt: str, formatted: bool, said: dict[str, Any]
) -> Answer[CompletionResponse]:
    """Translate a prompt and the options of the call.

    Raises:
        PrivacyParameterError: If the prompt is not sealed and ``complete_policy`` is ``"error"``.
    """
    segments = sealer.read(prompt, is_private=llm.complete_policy != "public")
    unsealed = any(segment.unit == DEFAULT_UNIT for segment in segments)
    if unsealed and llm.complete_policy == "error":
        raise PrivacyParameterError(
            "complete() got a bare string, which says nothing about what in it is private. Use chat() with "
            'messages, predict() with a template, or set complete_policy to "private", "redact" or "public".'
        )
    placeholder, tokenizer = llm.engine.placeholder, llm.engine.backend.tokenizer
    if llm.complete_policy == "redact":
        segments = [Segment(placeholder(s)) if s.unit == DEFAULT_UNIT else s for s in segments]
    if formatted or not has_chat_template(llm.engine):
        call = _call(llm, prompt_views(segments, tokenizer, placeholder), said)
    else:
        call = _call(llm, [Message("user", segments)], said)
    return Answer(llm, "complete", shown_text(segments, placeholder), call, Reply.completion)


def _call(llm: "DPFusionLLM", source: list[Message] | Views, said: dict[str, Any]) -> Call:
    return Call(llm.engine, source, llm.engine_options(said), said, llm.timeout, llm.max_retries)
