"""The same request to both frameworks, and what either answers, in one form."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from dpfusion_core import FusionEngine
from langchain_dpfusion import ChatDPConsensus, ChatDPFusion, PrivateDocumentFormatter
from llamaindex_dpfusion import DPConsensusLLM, DPFusionLLM, DPFusionNodePostprocessor
from tests.langchain import readers as langchain_readers
from tests.llamaindex import readers as llamaindex_readers

Role = Literal["system", "user", "assistant", "tool"]
WAYS = ("whole", "awhole", "pieces", "apieces")


@dataclass(frozen=True)
class Turn:
    """A message, and the flags that the caller puts beside it."""

    text: str
    flags: dict[str, Any] = field(default_factory=dict)
    role: Role = "user"


@dataclass(frozen=True)
class Reply:
    """What a framework answers: the texts of its pieces (one if it came whole), and what is said of it."""

    pieces: tuple[str, ...]
    guarantee: dict[str, Any]
    finish_reason: str
    tool_calls: tuple[tuple[str, dict[str, Any]], ...]
    tokens: tuple[int, int]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Framework(Protocol):
    """How a framework is asked."""

    name: str

    def model(self, engine: FusionEngine | None = None, **options: Any) -> Any:
        """Make its model."""

    def over(self, say: Callable[[str], str], **options: Any) -> tuple[Any, Any]:
        """Make its consensus over another model, which answers with a function of the prompt; return both."""

    def ask(self, model: Any, turns: Sequence[Turn], way: str = "whole", **call: Any) -> Reply:
        """Ask it, in one of the ``WAYS``."""

    def ask_about(self, model: Any, metadata: dict[str, Any], own_id: str, text: str, question: str) -> None:
        """Ask it about a retrieved document, as its users do."""


class LangChain:
    name = "langchain"

    def model(self, engine: FusionEngine | None = None, **options: Any) -> ChatDPFusion:
        return ChatDPFusion(engine=engine, **options)

    def over(self, say: Callable[[str], str], **options: Any) -> tuple[Any, Any]:
        reader = langchain_readers.Reader(say=say)
        return ChatDPConsensus(llm=reader, **options), reader

    def ask(self, model: Any, turns: Sequence[Turn], way: str = "whole", **call: Any) -> Reply:
        messages = [self._message(turn) for turn in turns]
        if "json_schema" in call:  # as other providers call it
            call["response_format"] = call.pop("json_schema")
        if way == "whole":
            answers = [model.invoke(messages, **call)]
        elif way == "awhole":
            answers = [asyncio.run(model.ainvoke(messages, **call))]
        elif way == "pieces":
            answers = list(model.stream(messages, **call))
        else:
            answers = asyncio.run(_gathered(model.astream(messages, **call)))
        joined = sum(answers[1:], answers[0])
        usage = joined.usage_metadata
        return Reply(
            tuple(answer.text for answer in answers),
            joined.response_metadata["dp_fusion"],
            joined.response_metadata["finish_reason"],
            tuple((found["name"], found["args"]) for found in joined.tool_calls),
            (usage["input_tokens"], usage["output_tokens"]),
        )

    def ask_about(self, model: Any, metadata: dict[str, Any], own_id: str, text: str, question: str) -> None:
        documents = PrivateDocumentFormatter().invoke([Document(text, id=own_id, metadata=metadata)])
        model.invoke([*documents, HumanMessage(question)])

    def _message(self, turn: Turn) -> BaseMessage:
        if turn.role == "tool":
            return ToolMessage(turn.text, tool_call_id="1", additional_kwargs=turn.flags)
        kinds: dict[str, Any] = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
        message: BaseMessage = kinds[turn.role](turn.text, additional_kwargs=turn.flags)
        return message


class LlamaIndex:
    name = "llamaindex"

    def model(self, engine: FusionEngine | None = None, **options: Any) -> DPFusionLLM:
        return DPFusionLLM(engine=engine, **options)

    def over(self, say: Callable[[str], str], **options: Any) -> tuple[Any, Any]:
        reader = llamaindex_readers.Reader(say)
        return DPConsensusLLM(reader, **options), reader

    def ask(self, model: Any, turns: Sequence[Turn], way: str = "whole", **call: Any) -> Reply:
        messages = [self._message(turn) for turn in turns]
        if way == "whole":
            answers = [model.chat(messages, **call)]
        elif way == "awhole":
            answers = [asyncio.run(model.achat(messages, **call))]
        elif way == "pieces":
            answers = list(model.stream_chat(messages, **call))
        else:
            answers = asyncio.run(self._streamed(model, messages, call))
        last, raw = answers[-1], answers[-1].raw
        texts = [answer.delta if "pieces" in way else last.message.content or "" for answer in answers]
        blocks = [block for block in last.message.blocks if isinstance(block, ToolCallBlock)]
        assert last.message.content == "".join(texts)
        return Reply(
            tuple(texts),
            raw["dp_fusion"],
            raw["finish_reason"],
            tuple((block.tool_name, _mapping(block.tool_kwargs)) for block in blocks),
            (raw["usage"]["prompt_tokens"], raw["usage"]["completion_tokens"]),
        )

    def ask_about(self, model: Any, metadata: dict[str, Any], own_id: str, text: str, question: str) -> None:
        node = TextNode(text=text, id_=own_id, metadata=metadata, excluded_llm_metadata_keys=list(metadata))
        [sealed] = DPFusionNodePostprocessor().postprocess_nodes([NodeWithScore(node=node)])
        template = PromptTemplate("{context_str}\n{query_str}")
        model.predict(template, context_str=sealed.node.get_content(MetadataMode.LLM), query_str=question)

    def _message(self, turn: Turn) -> ChatMessage:
        flags = {**turn.flags, "tool_call_id": "1"} if turn.role == "tool" else dict(turn.flags)
        return ChatMessage(turn.text, role=turn.role, additional_kwargs=flags)

    async def _streamed(self, model: Any, messages: Any, call: dict[str, Any]) -> list[ChatResponse]:
        return await _gathered(await model.astream_chat(messages, **call))


def _mapping(value: Any) -> dict[str, Any]:
    assert isinstance(value, dict)
    return value


async def _gathered(pieces: Any) -> list[Any]:
    return [piece async for piece in pieces]


FRAMEWORKS: tuple[Framework, ...] = (LangChain(), LlamaIndex())
