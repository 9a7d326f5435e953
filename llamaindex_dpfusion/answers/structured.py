"""Structured prediction: answers that obey the schema of a pydantic model, from sealed prompts."""

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any, cast

from llama_index.core.base.llms.generic_utils import chat_response_to_completion_response
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    MessageRole,
)
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.program.utils import create_flexible_model
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate
from pydantic_core import from_json

from dpfusion_core.errors import BackendError, PrivacyParameterError
from dpfusion_core.options import canonical
from llamaindex_dpfusion.answers.calls import Answer, bare_prompt, chat_answer
from llamaindex_dpfusion.answers.events import untraced
from llamaindex_dpfusion.prompts.messages import sealed_messages, sealed_text
from llamaindex_dpfusion.prompts.templates import filled_messages
from llamaindex_dpfusion.settings import ConfiguredLLM


@dataclass(frozen=True)
class StructuredPrediction:
    """The answer to a filled in template as an object.

    Attributes:
        output_cls: Pydantic model of the object.
        answer: The filled in template's answer.
    """

    output_cls: type[BaseModel]
    answer: Answer[ChatResponse] = field(repr=False)

    @classmethod
    def of(
        cls,
        llm: ConfiguredLLM,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        options: dict[str, Any] | None,
        arguments: dict[str, Any],
    ) -> "StructuredPrediction":
        """Fill in a template, seal it, and ask for JSON.

        A chat template that nothing is filled in to is a conversation that somebody else has already
        filled in: what is not sealed or flagged in it is private.
        """
        is_ready = isinstance(prompt, ChatPromptTemplate) and not arguments and not prompt.kwargs
        messages = (
            filled_messages(llm, prompt, arguments)
            if not is_ready
            else sealed_messages(prompt.format_messages(llm=llm))
        )
        return cls(output_cls, object_answer(llm, messages, output_cls, options or {}))

    def whole(self) -> BaseModel:
        """Return the object."""
        return parse(self.answer.whole(), self.output_cls)

    async def awhole(self) -> BaseModel:
        """Return the object without blocking the event loop."""
        return parse(await self.answer.awhole(), self.output_cls)

    def pieces(self) -> Generator[Any, None, None]:
        """Return a generator over the growing object; closing it frees the model."""
        return stream(self.answer.pieces(), self.output_cls)

    async def apieces(self) -> AsyncGenerator[Any, None]:
        """Return an async generator over the growing object; closing it frees the model."""
        return astream(await self.answer.apieces(), self.output_cls)


def check_model(output_cls: type[BaseModel]) -> type[BaseModel]:
    """Return a pydantic model.

    Raises:
        PrivacyParameterError: If it is something else.
    """
    if isinstance(output_cls, type) and issubclass(output_cls, BaseModel):
        return output_cls
    raise PrivacyParameterError("Expected output_cls to be a pydantic model, a class.")


def object_answer(
    llm: ConfiguredLLM,
    messages: Sequence[ChatMessage],
    output_cls: type[BaseModel],
    options: Mapping[str, Any],
) -> Answer[ChatResponse]:
    """Return the answer to a conversation, constrained to the schema of a model.

    If all of its fields are closed, they are chosen one by one; else the model is shown the schema, which is public,
    and writes the object.
    """
    schema = check_model(output_cls).model_json_schema()
    return chat_answer(llm, messages, {**options, "json_schema": schema}, shows_schema=True)


def parse(response: ChatResponse, output_cls: type[BaseModel]) -> BaseModel:
    """Return what a response says as an object.

    Raises:
        BackendError: If it ended before the JSON was complete.
    """
    try:
        return output_cls.model_validate_json(response.message.content or "")
    except ValueError:
        pass
    reason = response.raw.get("finish_reason") if isinstance(response.raw, dict) else None
    hint = "It had no room for more tokens: raise max_tokens." if reason == "length" else "Try again."
    raise BackendError(f"The answer is no valid {output_cls.__name__}. {hint}")


class Partial:
    """Reads an object from text that is still growing."""

    def __init__(self, output_cls: type[BaseModel]) -> None:
        self._flexible = create_flexible_model(output_cls)
        self._before: BaseModel | None = None

    def __call__(self, response: ChatResponse) -> BaseModel | None:
        """Return the object so far, if it says more than before."""
        try:
            data = from_json(response.message.content or "", allow_partial="trailing-strings")
            found = self._flexible.model_validate(data)
        except ValueError:
            return None
        if found == self._before:
            return None
        self._before = found
        return cast(BaseModel, found)


def stream(responses: ChatResponseGen, output_cls: type[BaseModel]) -> Generator[Any, None, None]:
    """Yield the object as it grows, and at the end the whole one."""
    partial, response = Partial(output_cls), None
    with closing(responses):
        for response in responses:
            if (found := partial(response)) is not None:
                yield found
    yield parse(response or ChatResponse(message=ChatMessage()), output_cls)


async def astream(responses: ChatResponseAsyncGen, output_cls: type[BaseModel]) -> AsyncGenerator[Any, None]:
    """Yield the object as it grows, and at the end the whole one."""
    partial, response = Partial(output_cls), None
    async with aclosing(responses):
        async for response in responses:
            if (found := partial(response)) is not None:
                yield found
    yield parse(response or ChatResponse(message=ChatMessage()), output_cls)


class DPFusionStructuredLLM(StructuredLLM):
    """A :class:`~llamaindex_dpfusion.DPFusionLLM` that answers with objects, as ``as_structured_llm`` gives.

    LlamaIndex's own makes a template of every conversation, in which what is private could not be told
    from what is not.
    """

    @classmethod
    def of(
        cls, llm: ConfiguredLLM, output_cls: type[BaseModel], options: Mapping[str, Any]
    ) -> "DPFusionStructuredLLM":
        """Return one over a model.

        Raises:
            PrivacyParameterError: If an option is unknown; those of calls are set on the LLM itself.
        """
        known = canonical(options, cls.model_fields.keys(), "as_structured_llm")
        return cls(llm=llm, output_cls=check_model(output_cls), **known)

    @property
    def _inner(self) -> ConfiguredLLM:
        return cast(ConfiguredLLM, self.llm)

    @untraced
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation with an object; ``raw`` is the object."""
        return self._found(self._answer(messages, kwargs).whole())

    @untraced
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation with an object; ``raw`` is the object."""
        return self._found(await self._answer(messages, kwargs).awhole())

    @untraced
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation with an object that grows."""
        responses = self._answer(messages, kwargs).pieces()
        return (_response(found) for found in stream(responses, self.output_cls))

    @untraced
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Answer a conversation with an object that grows."""
        responses = await self._answer(messages, kwargs).apieces()
        return (_response(found) async for found in astream(responses, self.output_cls))

    @untraced
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a bare prompt with an object; the inner LLM's ``complete_policy`` says what the prompt is."""
        return chat_response_to_completion_response(self.chat(self._bare(prompt), **kwargs))

    @untraced
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a bare prompt with an object; see :meth:`complete`."""
        return chat_response_to_completion_response(await self.achat(self._bare(prompt), **kwargs))

    @untraced
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer a bare prompt with an object that grows; see :meth:`complete`."""
        responses = self.stream_chat(self._bare(prompt), **kwargs)
        return (chat_response_to_completion_response(response) for response in responses)

    @untraced
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Answer a bare prompt with an object that grows; see :meth:`complete`."""
        responses = await self.astream_chat(self._bare(prompt), **kwargs)
        return (chat_response_to_completion_response(response) async for response in responses)

    @untraced
    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Fill in a template and answer it with JSON."""
        return self.chat(filled_messages(self._inner, prompt, prompt_args)).message.content or ""

    @untraced
    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Fill in a template and answer it with JSON."""
        return (await self.achat(filled_messages(self._inner, prompt, prompt_args))).message.content or ""

    @untraced
    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> Any:
        """Fill in a template and answer it with JSON that grows."""
        responses = self.stream_chat(filled_messages(self._inner, prompt, prompt_args))
        return (response.message.content or "" for response in responses)

    @untraced
    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> Any:
        """Fill in a template and answer it with JSON that grows."""
        responses = await self.astream_chat(filled_messages(self._inner, prompt, prompt_args))
        return (response.message.content or "" async for response in responses)

    def _bare(self, prompt: str) -> list[ChatMessage]:
        pieces = bare_prompt(self._inner, prompt)
        if self._inner.complete_policy in ("public", "redact"):  # whoever sets it has said what a prompt is
            return [ChatMessage(sealed_text(pieces), additional_kwargs={"is_private": False})]
        return [ChatMessage(sealed_text(pieces))]

    def _answer(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> Answer[ChatResponse]:
        return object_answer(self._inner, messages, self.output_cls, options)

    def _found(self, response: ChatResponse) -> ChatResponse:
        answer = _response(parse(response, self.output_cls))
        answer.message.additional_kwargs = response.message.additional_kwargs
        return answer


def _response(found: BaseModel) -> ChatResponse:
    return ChatResponse(message=ChatMessage(found.model_dump_json(), role=MessageRole.ASSISTANT), raw=found)
