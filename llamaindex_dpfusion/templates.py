"""Filling in prompt templates so that their text is public and their arguments are private.

A template never sees an argument, only a token that stands for it. What a template, a filter or an
output parser does to the text can therefore reveal nothing: a token that comes out whole is replaced
by the sealed argument, anything else is no token.
"""

import re
import secrets
from collections.abc import Callable, Collection
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate, SelectorPromptTemplate
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore

from dpfusion_core.messages import DEFAULT_UNIT, Segment
from llamaindex_dpfusion.messages import repeats_a_tool, text_of, unit_of
from llamaindex_dpfusion.sealing import sealer

PUBLIC_ARGUMENTS = (
    "query_str",
    "tools_str",
    "num_choices",
    "max_outputs",
    "num_questions",
    "num_chunks",
    "max_keywords",
    "max_knowledge_triplets",
)
"""Names of template arguments that hold no document: the question, tool descriptions, and counts."""


class _Items(list[Any]):
    """A list that a template without loops writes as paragraphs, not as Python would."""

    def __str__(self) -> str:
        return "\n\n".join(map(str, self))


class _Names(dict[str, Any]):
    """A mapping in which a template may look names up, but cannot write them, nor learn which there are.

    Args:
        values: What the template sees in place of each value.
        shown: What it sees in place of each name where it goes through them or writes the whole.
        nothing: What it sees where it looks up another name.
    """

    def __init__(self, values: dict[Any, Any], shown: dict[Any, str], nothing: str) -> None:
        super().__init__({shown[name]: value for name, value in values.items()})
        self._values = values
        self._nothing = nothing

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: Any) -> Any:
        return self.get(name)

    def get(self, name: Any, default: Any = None) -> Any:
        """Return the value of a name, as ``[]`` does."""
        return self._values.get(name, super().get(name, self._nothing))


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
        while isinstance(prompt, SelectorPromptTemplate):
            prompt = prompt.select(llm=llm)
        self._llm = llm
        self._nonce = secrets.token_hex(8)
        self._texts: list[tuple[str, bool]] = []
        values = {**prompt.kwargs, **arguments}
        # What a function computes may come from any argument, so it is private whatever its name.
        functions = prompt.function_mappings or {}
        computed = {name: function(**values) for name, function in functions.items()}
        self._arguments = {
            name: self._stand_in(value, is_public=name in public) for name, value in values.items()
        } | {name: self._stand_in(value, is_public=False) for name, value in computed.items()}
        self._prompt = prompt.model_copy(update={"kwargs": {}, "function_mappings": {}})

    def messages(self) -> list[ChatMessage]:
        """Return the filled in messages and the system prompt; every piece of their text is sealed."""
        messages = self._prompt.format_messages(llm=self._llm, **self._arguments)
        if self._llm.output_parser is not None:
            messages = self._llm.output_parser.format_messages(messages)
        return [*system_messages(self._llm), *map(self._seal_message, messages)]

    def text(self, extend: Callable[[str], str]) -> str:
        """Return the filled in text for a model without a chat template; every piece of it is sealed.

        Args:
            extend: Adds the prompts that stand around every text.
        """
        text = self._prompt.format(
            llm=self._llm,
            messages_to_prompt=self._llm.messages_to_prompt,
            completion_to_prompt=self._llm.completion_to_prompt,
            **self._arguments,
        )
        if self._llm.output_parser is not None:
            text = self._llm.output_parser.format(text)
        return self._seal(extend(text))

    def _seal(self, text: str, unit: str | None = None) -> str:
        """Return filled in text with every piece of it sealed, the template's own for a unit or as public."""
        return "".join(sealer.seal(s.text, s.unit).text for s in self._segments(text, unit))

    def _seal_message(self, message: ChatMessage) -> ChatMessage:
        """Return a filled in message with every piece of its text sealed.

        A flag on the template's own message stays in force, and what a tool has said is private in a
        template too: chat engines make templates of their history.
        """
        flags = message.additional_kwargs
        is_private = flags.get("is_private", repeats_a_tool(message)) is not False
        unit = unit_of(message) if is_private else None
        blocks = [
            TextBlock(text=self._seal(block.text, unit)) if isinstance(block, TextBlock) else block
            for block in message.blocks
        ]
        return message.model_copy(update={"blocks": blocks})

    def _segments(self, text: str, unit: str | None) -> list[Segment]:
        segments: list[Segment] = []
        for i, part in enumerate(re.split(rf"\[\[dpfa:{self._nonce}:(\d+)\]\]", text)):
            piece, is_private = (part, False) if i % 2 == 0 else self._texts[int(part)]
            segments += sealer.read(
                piece, is_private=is_private or unit is not None, unit=unit or DEFAULT_UNIT
            )
        return segments

    def _stand_in(self, value: Any, *, is_public: bool) -> Any:
        """Return what the template sees in place of a value."""
        if isinstance(value, str):
            self._texts.append((value, not is_public))
            return f"[[dpfa:{self._nonce}:{len(self._texts) - 1}]]"
        if isinstance(value, list | tuple):
            return _Items(self._stand_in(item, is_public=is_public) for item in value)
        if isinstance(value, dict):
            values = {name: self._stand_in(item, is_public=is_public) for name, item in value.items()}
            if is_public:
                return values
            names = {name: self._stand_in(str(name), is_public=False) for name in value}
            return _Names(values, names, self._stand_in("", is_public=False))
        if isinstance(value, ChatMessage):
            text_of(value)  # templates would fetch images
            blocks = [
                TextBlock(text=self._stand_in(block.text, is_public=is_public))
                if isinstance(block, TextBlock)
                else block
                for block in value.blocks
            ]
            return ChatMessage(role=value.role, blocks=blocks)
        if isinstance(value, NodeWithScore | BaseNode):
            return self._stand_in(value.get_content(MetadataMode.LLM), is_public=is_public)
        if is_public or value is None:
            return value
        return self._stand_in(str(value), is_public=False)


def system_messages(llm: LLM) -> list[ChatMessage]:
    """Return the LLM's system prompt as a message, sealed as public, if it has one."""
    if not llm.system_prompt:
        return []
    return [ChatMessage(sealer.seal(llm.system_prompt, None).text, role=MessageRole.SYSTEM)]
