"""Traces of whole chains without private text: what stands in messages, documents and bare strings."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages, messages_from_dict
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompt_values import PromptValue

from dpfusion_core.adapters import Unmarked, check_unmarked
from langchain_dpfusion.marked_messages import PLACEHOLDER
from langchain_dpfusion.redaction import document_of, redact_documents, redacted_document
from langchain_dpfusion.sealed_messages import seal

if TYPE_CHECKING:
    from langsmith import Client

_KEPT_OF_MESSAGES = ("type", "role", "id", "name", "tool_call_id", "status")


def redact_private(value: Any, *, strings: bool = False, unmarked: Unmarked = "public") -> Any:
    """Return a value as a trace may show it.

    Private messages and documents are found wherever they stand: as objects, as plain dicts, and as
    LangChain's serialisation, in any container. Documents are private unless their metadata say
    ``is_private: False``; what cannot be read is private.

    Args:
        value: What a run got or gave.
        strings: Whether bare strings are redacted too. Chains join documents to strings, on which no
            flag is left, so only this is safe for all chains.
        unmarked: ``"private"`` redacts messages without any mark too. Results of tools always are.

    Example:
        >>> redact_private({"context": [Document("Ann is ill.")], "input": "Who is ill?"})
        {'context': [Document(metadata={}, page_content='____')], 'input': 'Who is ill?'}
    """
    return _Redaction(strings, unmarked)(value)


def private_tracing_client(
    *, strings: bool = True, unmarked: Unmarked = "public", **options: Any
) -> "Client":
    """Return a LangSmith client that redacts the inputs and outputs of all runs.

    Use it with ``langsmith.tracing_context(client=...)`` or a ``LangChainTracer``. Texts of exceptions
    and ``config["metadata"]`` are sent as they are: keep private text out of both.

    Args:
        strings: Whether bare strings are redacted too; see :func:`redact_private`.
        unmarked: ``"private"`` redacts messages without any mark too. Results of tools always are.
        **options: Of ``langsmith.Client``.
    """
    from langsmith import Client

    redaction = _Redaction(strings, unmarked)
    return Client(**options, hide_inputs=redaction, hide_outputs=redaction)


class _Redaction:
    def __init__(self, strings: bool, unmarked: Unmarked) -> None:
        check_unmarked(unmarked)
        self._strings = strings
        self._unmarked = unmarked

    def __call__(self, value: Any) -> Any:
        if isinstance(value, BaseMessage):
            return self._message(value)
        if isinstance(value, Document):
            return redacted_document(value)
        if isinstance(value, PromptValue):
            return [self._message(message) for message in value.to_messages()]
        if isinstance(value, ChatGeneration):
            return {"message": self._message(value.message)}
        if isinstance(value, LLMResult):
            return {"generations": self(value.generations)}
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list | tuple | set | frozenset):
            return [self(each) for each in value]
        if is_dataclass(value) and not isinstance(value, type):
            if (
                type(value).__name__ == "Command"
            ):  # of a tool, whose results are private: LangGraph's, or like it
                return {field.name: self._of_tool(getattr(value, field.name)) for field in fields(value)}
            return {field.name: self(getattr(value, field.name)) for field in fields(value)}
        if value is None or isinstance(value, bool | int | float):
            return value
        return PLACEHOLDER if self._strings or not isinstance(value, str) else value

    def _of_tool(self, value: Any) -> Any:
        return _Redaction(strings=True, unmarked="private")(value)

    def _message(self, message: BaseMessage) -> BaseMessage:
        try:
            return seal([message], self._unmarked)[0]
        except Exception:  # noqa: BLE001  what cannot be read is private
            return HumanMessage(PLACEHOLDER)

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        if value.get("lc") == 1 and isinstance(value.get("kwargs"), Mapping):
            return {**value, "kwargs": self(value["kwargs"])}
        if (
            value.get("lc") == 1 and "repr" in value
        ):  # an object that LangChain cannot write: nobody can read it
            return {**value, "repr": PLACEHOLDER}
        if "page_content" in value:
            document = document_of(value)
            shown = redacted_document(document)
            return value if shown is document else shown.model_dump()
        if value.get("type") in ("text", "non_standard"):  # a content block on its own
            content = self._message(HumanMessage([dict(value)])).content
            return content[0] if isinstance(content, list) else content
        if "content" in value and ("type" in value or "role" in value):
            return self._message_dict(value)
        return {key: self(each) for key, each in value.items()}

    def _message_dict(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        try:
            if "role" in value:
                (message,) = convert_to_messages([dict(value)])
            else:
                (message,) = messages_from_dict([{"type": value["type"], "data": dict(value)}])
            (shown,) = seal([message], self._unmarked)
        except Exception:  # noqa: BLE001  what cannot be read is private
            message, shown = None, HumanMessage(PLACEHOLDER)
        if shown is message:
            return {key: redact_documents(each) for key, each in value.items() if key != "artifact"}
        kept = {key: value[key] for key in _KEPT_OF_MESSAGES if key in value}
        return {**kept, "content": shown.content, "additional_kwargs": shown.additional_kwargs}
