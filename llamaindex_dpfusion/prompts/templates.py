"""Filling in prompt templates so that their text is public and their arguments are private.

A template never sees an argument, only a token that stands for it. What a template, a filter or an
output parser does to the text can therefore reveal nothing: a token that comes out whole is replaced
by the sealed argument, anything else is an error.
"""

import re
import secrets
from collections.abc import Callable, Collection
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, SelectorPromptTemplate
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore

from dpfusion_core.adapters import Marks
from dpfusion_core.errors import RefusedError, ViewError, errors_as
from llamaindex_dpfusion.options import check_type
from llamaindex_dpfusion.prompts.components import asks_about_a_response, parts_of
from llamaindex_dpfusion.prompts.messages import sealed_text, text_of
from llamaindex_dpfusion.prompts.standins import Items, Names, NodeStandIn, PublicStandIn, StandIn
from llamaindex_dpfusion.seals.parts import Piece
from llamaindex_dpfusion.seals.sealer import sealer
from llamaindex_dpfusion.settings import ConfiguredLLM

_FAILED = "The prompt template, or an output parser, cannot be filled in ({error})."
_DAMAGED = re.compile(r"\[\[dpfa", re.IGNORECASE)
_TELLING = 6  # so many characters of a nonce stand in no other text by chance


class FilledTemplate:
    """A prompt template and what it is filled in with.

    Args:
        prompt: The template, partly filled in perhaps.
        arguments: The other arguments.
        public: Names of arguments that are public.
        llm: Chooses between the templates of a selector, and formats with its own functions and parser.
    """

    def __init__(
        self, prompt: BasePromptTemplate, arguments: dict[str, Any], public: Collection[str], llm: LLM
    ) -> None:
        check_type(prompt, BasePromptTemplate, "prompt")
        while isinstance(prompt, SelectorPromptTemplate):
            prompt = prompt.select(llm=llm)
        self._llm = llm
        self._nonce = secrets.token_hex(8)
        self._texts: list[tuple[str, bool]] = []
        values = {**prompt.kwargs, **arguments}
        if asks_about_a_response(prompt.get_template(llm=llm)):
            public = set(public) - {"query_str"}
        # What a function computes may come from any argument, so it is private whatever its name.
        functions = prompt.function_mappings or {}
        with errors_as(ViewError, "A function of the prompt template failed ({error})."):
            computed = {name: function(**values) for name, function in functions.items()}
        self._arguments = {
            name: self._stand_in(value, is_public=name in public) for name, value in values.items()
        } | {name: self._stand_in(value, is_public=False) for name, value in computed.items()}
        self._prompt = prompt.model_copy(update={"kwargs": {}, "function_mappings": {}})

    def messages(self) -> list[ChatMessage]:
        """Return the filled in messages and the system prompt; every piece of their text is sealed."""
        with errors_as(ViewError, _FAILED):
            messages = self._prompt.format_messages(llm=self._llm, **self._arguments)
            if self._llm.output_parser is not None:
                messages = self._llm.output_parser.format_messages(messages)
        return [*system_messages(self._llm), *map(self._seal_message, messages)]

    def text(self, extend: Callable[[str], str]) -> str:
        """Return the filled in text for a model without a chat template; every piece of it is sealed.

        Args:
            extend: Adds the prompts that stand around every text.
        """
        with errors_as(ViewError, _FAILED):
            text = self._prompt.format(
                llm=self._llm,
                messages_to_prompt=self._llm.messages_to_prompt,
                completion_to_prompt=self._llm.completion_to_prompt,
                **self._arguments,
            )
            if self._llm.output_parser is not None:
                text = self._llm.output_parser.format(text)
            text = extend(text)
        return self._seal(text)

    def _seal(self, text: str, *, said: bool | None = None, unit: str | None = None) -> str:
        """Return filled in text with every piece of it sealed.

        Args:
            text: The text.
            said: Whether the template's own text was said to be private; if nothing was, it is public.
            unit: The unit of private text that names none.

        Raises:
            RefusedError: If the template or an output parser has changed what stands for an argument.
        """
        pieces: list[Piece] = []
        for i, part in enumerate(re.split(rf"\[\[dpfa:{self._nonce}:(\d+)\]\]", text)):
            if i % 2 == 1:
                value, is_private = self._texts[int(part)]
                pieces += sealer.read_pieces(value, said=said or is_private or None, unit=unit)
                continue
            if _DAMAGED.search(part) or any(
                self._nonce[j : j + _TELLING] in part.lower() for j in range(16 - _TELLING + 1)
            ):
                raise RefusedError(
                    "A prompt template, a filter or an output parser has changed an argument, so it would be "
                    "missing from the prompt. Change it before you give it to the template."
                )
            pieces += sealer.read_pieces(part, said=said, unit=unit)
        return sealed_text(pieces)

    def _seal_message(self, message: ChatMessage) -> ChatMessage:
        """Return a filled in message with every piece of its text sealed.

        Chat engines make templates of their history. So a flag on the template's own message stays in force,
        what a component of LlamaIndex has written is private in a template too, and a message of the user or
        the assistant that nothing was filled into stays as it is: a message that nobody has said anything of.
        """
        marks = Marks.read(message.additional_kwargs)
        is_turn = isinstance(self._prompt, ChatPromptTemplate) and message.role.value in ("user", "assistant")
        if is_turn and marks.said is None and "[[dpf" not in (message.content or "").lower():
            return message
        blocks = [
            TextBlock(text=self._sealed_parts(message, block.text, marks))
            if isinstance(block, TextBlock)
            else block
            for block in message.blocks
        ]
        return message.model_copy(update={"blocks": blocks})

    def _sealed_parts(self, message: ChatMessage, text: str, marks: Marks) -> str:
        if marks.said is not None:
            return self._seal(text, said=marks.said, unit=marks.unit)
        return "".join(
            self._seal(part, said=is_private or None, unit=marks.unit)
            for part, is_private in parts_of(message, text)
        )

    def _stand_in(self, value: Any, *, is_public: bool) -> Any:
        """Return what the template sees in place of a value."""
        if isinstance(value, str):
            self._texts.append((value, not is_public))
            token = f"[[dpfa:{self._nonce}:{len(self._texts) - 1}]]"
            return PublicStandIn(token, value, self._public_again) if is_public else StandIn(token)
        if isinstance(value, list | tuple):
            return Items(self._stand_in(item, is_public=is_public) for item in value)
        if isinstance(value, dict):
            values = {name: self._stand_in(item, is_public=is_public) for name, item in value.items()}
            if is_public:
                return values
            names = {name: self._stand_in(str(name), is_public=False) for name in value}
            return Names(values, names, self._stand_in("None", is_public=False))
        if isinstance(value, ChatMessage):
            text_of(value)  # templates would fetch images
            blocks = [
                TextBlock(text=self._stand_in(block.text, is_public=is_public).plain)
                if isinstance(block, TextBlock)
                else block
                for block in value.blocks
            ]
            return ChatMessage(role=value.role, blocks=blocks)
        if isinstance(value, NodeWithScore | BaseNode):
            return NodeStandIn(self._stand_in(value.get_content(MetadataMode.LLM), is_public=is_public).plain)
        if is_public or value is None:
            return value
        with errors_as(ViewError, "An argument of the prompt template has no text ({error})."):
            text = str(value)
        return self._stand_in(text, is_public=False)

    def _public_again(self, value: Any) -> Any:
        return self._stand_in(value, is_public=True)


def filled_messages(
    llm: ConfiguredLLM, prompt: BasePromptTemplate, arguments: dict[str, Any]
) -> list[ChatMessage]:
    """Return the messages of a filled in template; every piece of their text is sealed."""
    return FilledTemplate(prompt, arguments, llm.public_arguments, llm).messages()


def system_messages(llm: LLM) -> list[ChatMessage]:
    """Return the LLM's system prompt as a message, sealed as public, if it has one."""
    if not llm.system_prompt:
        return []
    return [ChatMessage(sealer.seal(llm.system_prompt, None, tag="template").text, role=MessageRole.SYSTEM)]
