"""Answers to conversations and prompts, whole or in pieces: from what the LLM is asked to a traced call."""

import json
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse

from dpfusion_core.adapters import Call, offered_tools
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError
from dpfusion_core.messages import DEFAULT_UNIT, Message, Segment
from dpfusion_core.options import GenerationOptions
from dpfusion_core.views import Views
from llamaindex_dpfusion.answers import events
from llamaindex_dpfusion.answers.responses import Response
from llamaindex_dpfusion.errors import with_advice
from llamaindex_dpfusion.options import check_type
from llamaindex_dpfusion.prompts.messages import prompt_views, shown, shown_text, to_core
from llamaindex_dpfusion.prompts.segments import Written, segments_of
from llamaindex_dpfusion.seals.parts import Piece
from llamaindex_dpfusion.seals.sealer import sealer
from llamaindex_dpfusion.settings import ConfiguredLLM

R = TypeVar("R", ChatResponse, CompletionResponse)


@dataclass(frozen=True)
class Answer(Generic[R]):
    """The answer to a conversation or a prompt, in a traced call.

    Attributes:
        llm: Is asked.
        kind: The method that traces name, in its plain form.
        shown: What was asked, as traces may see it.
        call: The call of the engine.
        said: The options of the call as the caller has said them.
        respond: Writes it as LlamaIndex wants it, with the new text.
    """

    llm: ConfiguredLLM = field(repr=False)
    kind: Literal["chat", "complete"]
    shown: events.Shown
    call: Call
    said: dict[str, Any]
    respond: Callable[[Response, str | None], R]

    def whole(self) -> R:
        """Return the response."""
        return events.call(self.llm, self.kind, self.shown, self.said, self._whole)

    async def awhole(self) -> R:
        """Return the response without blocking the event loop."""
        return await events.acall(self.llm, f"a{self.kind}", self.shown, self.said, self._awhole)

    def pieces(self) -> Generator[R, None, None]:
        """Return a generator over the growing response; closing it frees the model."""
        name = f"stream_{self.kind}"
        return events.call(self.llm, name, self.shown, self.said, self._pieces)

    async def apieces(self) -> AsyncGenerator[R, None]:
        """Return an async generator over the growing response; closing it frees the model."""
        responses = self._apieces()

        async def work() -> AsyncGenerator[R, None]:
            return responses

        name = f"astream_{self.kind}"
        traced = await events.acall(self.llm, name, self.shown, self.said, work)
        return events.closing_both(traced, responses)

    def _whole(self) -> R:
        response = self._response()
        with with_advice():
            response.add(self.call.run())
        return self.respond(response, None)

    async def _awhole(self) -> R:
        response = self._response()
        with with_advice():
            response.add(await self.call.arun())
        return self.respond(response, None)

    def _pieces(self) -> Generator[R, None, None]:
        response = self._response()
        with with_advice(), closing(self.call.stream()) as chunks:
            for chunk in chunks:
                yield self.respond(response, response.add(chunk))

    async def _apieces(self) -> AsyncGenerator[R, None]:
        response = self._response()
        with with_advice():
            async with aclosing(self.call.astream()) as chunks:
                async for chunk in chunks:
                    yield self.respond(response, response.add(chunk))

    def _response(self) -> Response:
        return Response(offered_tools(self.call.options))


def chat_answer(
    llm: ConfiguredLLM,
    messages: Sequence[ChatMessage],
    said: dict[str, Any],
    *,
    shows_schema: bool = False,
) -> Answer[ChatResponse]:
    """Translate a conversation and the options of the call.

    Args:
        llm: Is asked.
        messages: The conversation.
        said: The options.
        shows_schema: Whether the model is shown the schema that its answer obeys, if it writes one.

    Raises:
        RefusedError: If the LLM's rule for unmarked text refuses the conversation.
    """
    options, choices = _read(llm, said)
    core = to_core(messages, llm.rule(options))
    call = Call(llm.engine, core, options, llm.timeout, llm.max_retries, choices)
    if shows_schema and call.closed is None:
        core = _asking_for_json(core, options["json_schema"])
        call = replace(call, source=core)
    return Answer(llm, "chat", shown(core, llm.engine.placeholder), call, said, Response.chat)


def _asking_for_json(messages: list[Message], schema: Any) -> list[Message]:
    """Return a conversation that shows a schema at its end; the schema is public."""
    request = f"Answer with JSON that obeys this schema: {json.dumps(schema)}"
    if not messages or messages[-1].role != "user":
        return [*messages, Message("user", request)]
    *before, last = messages
    return [*before, Message("user", [*last.segments, Segment(f"\n{request}")])]


def complete_answer(
    llm: ConfiguredLLM, prompt: str, formatted: bool, said: dict[str, Any]
) -> Answer[CompletionResponse]:
    """Translate a prompt and the options of the call.

    Raises:
        PrivacyParameterError: If the prompt is not sealed and ``complete_policy`` is ``"error"``.
        RefusedError: If the LLM's rule for unmarked text refuses the prompt.
    """
    options, choices = _read(llm, said)
    pieces = bare_prompt(llm, prompt)
    # Whoever sets the policy has said what a bare prompt is.
    rule = replace(llm.rule(options), unmarked="public")
    segments = segments_of([Written.of(piece, "user", 1) for piece in pieces], rule)
    placeholder, backend = llm.engine.placeholder, llm.backend
    source: list[Message] | Views = [Message("user", segments)]
    is_ready = formatted or not llm.has_chat_template
    if is_ready and backend is not None and options.get("mechanism") != "consensus":
        source = prompt_views(segments, backend.tokenizer, placeholder)
    call = Call(llm.engine, source, options, llm.timeout, llm.max_retries, choices)
    return Answer(llm, "complete", shown_text(segments, placeholder), call, said, Response.completion)


def _read(llm: ConfiguredLLM, said: dict[str, Any]) -> tuple[GenerationOptions, Sequence[str] | None]:
    """Return the options of a call, and the choices of which its answer is one, if there are any."""
    choices = llm.choices if said.get("choices") is None else said["choices"]
    if choices is not None and (said.get("tools") or said.get("json_schema") is not None):
        raise PrivacyParameterError(
            "The answer is one of the choices, or a call of a tool, or JSON of a schema. Ask for one of them."
        )
    if choices is not None and llm.backend is None:
        raise UnsupportedError(
            "A choice is made of a model's probabilities, and all that is known of this LLM is that it answers. Ask "
            "a DPFusionLLM."
        )
    return llm.engine_options(said, is_choice=choices is not None), choices


def bare_prompt(llm: ConfiguredLLM, prompt: str) -> list[Piece]:
    """Say what the text of a bare prompt is, by the LLM's policy.

    Raises:
        PrivacyParameterError: If it is not sealed and ``complete_policy`` is ``"error"``.
    """
    policy = llm.complete_policy
    check_type(prompt, str, "prompt")
    pieces = sealer.read_pieces(prompt, said=None if policy == "public" else True)
    if policy == "error" and any(piece.unit == DEFAULT_UNIT for piece in pieces):
        raise PrivacyParameterError(
            "complete() got a bare string, which says nothing about what in it is private. Use chat() with "
            'messages, predict() with a template, or set complete_policy to "private", "redact" or "public".'
        )
    if policy == "redact":
        placeholder = llm.engine.placeholder
        pieces = [Piece(placeholder(p.segment), None) if p.unit == DEFAULT_UNIT else p for p in pieces]
    return pieces
