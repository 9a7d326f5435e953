"""The messages of what a tool gives back: a message, a command of LangGraph, or a list of both."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage, RemoveMessage, convert_to_messages
from langgraph.types import Command, Overwrite, Send

from dpfusion_core.errors import UnsupportedError, ViewError

Mark = Callable[[BaseMessage], BaseMessage]

_KEY = "messages"


def map_messages(result: Any, mark: Mark) -> Any:
    """Return the result of a tool with every message in it marked.

    Args:
        result: What the tool gave back.
        mark: Marks one message.

    Raises:
        UnsupportedError: If a command's update is of a kind that cannot be read.
        ViewError: If something that stands for a message cannot be read.
    """
    if isinstance(result, BaseMessage):
        return _marked(result, mark)
    if isinstance(result, list):
        return [map_messages(each, mark) for each in result]
    if not isinstance(result, Command):
        return result
    sends = result.goto if isinstance(result.goto, list | tuple) else [result.goto]
    goto: Any = [Send(to.node, _update(to.arg, mark)) if isinstance(to, Send) else to for to in sends]
    if not isinstance(result.goto, list | tuple):
        (goto,) = goto
    return replace(result, update=_update(result.update, mark), goto=goto)


def _update(update: Any, mark: Mark) -> Any:
    """Return an update of a graph's state with its messages marked."""
    if update is None or isinstance(update, str | int | float):
        return update
    if isinstance(update, BaseMessage):
        return _marked(update, mark)
    if isinstance(update, dict):
        return {
            key: _messages(each, mark) if key == _KEY else _inner(each, mark) for key, each in update.items()
        }
    if isinstance(update, list | tuple):
        if all(isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) for each in update):
            # Pairs of a key and its value; also what LangChain takes for messages of a role and a text.
            return [
                (key, _messages(each, mark) if key == _KEY else _inner(each, mark)) for key, each in update
            ]
        return _messages(update, mark)
    raise UnsupportedError(
        f"A tool's Command updates the state with a {type(update).__name__}, whose messages cannot be marked. "
        "Return a dict: Command(update={'messages': [...]})."
    )


def _messages(value: Any, mark: Mark) -> Any:
    """Return the messages of a state with marks, in whatever form they are written."""
    if isinstance(value, Overwrite):
        return Overwrite(_messages(value.value, mark))
    items = value if isinstance(value, list) else [value]
    try:
        messages = convert_to_messages(items)
    except Exception:  # noqa: BLE001  the foreign error quotes the message
        messages = None
    if messages is None:
        raise ViewError("A tool's Command holds a message that cannot be read. Use LangChain's messages.")
    return [_marked(message, mark) for message in messages]


def _inner(value: Any, mark: Mark) -> Any:
    """Return another entry of a state; messages in it are marked, the rest is the application's."""
    if isinstance(value, BaseMessage):
        return _marked(value, mark)
    if isinstance(value, list | tuple) and any(isinstance(each, BaseMessage) for each in value):
        return [_inner(each, mark) for each in value]
    return value


def _marked(message: BaseMessage, mark: Mark) -> BaseMessage:
    return message if isinstance(message, RemoveMessage) else mark(message)


def tool_names(tools: Iterable[Any]) -> frozenset[str]:
    """Return the names of an agent's tools, which may be schemas of a provider."""
    named = [tool.get("function", tool) if isinstance(tool, dict) else vars(tool) for tool in tools]
    return frozenset(str(each["name"]) for each in named if "name" in each)
