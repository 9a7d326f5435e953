"""Tools: what a chat template makes of them, and the calls that stand in a reply."""

import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.messages import ToolCall
from dpfusion_core.tokenization import Tokenizer

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_BLOCK = re.compile(rf"\s*{OPEN}(.*?)(?:{CLOSE}|\Z)\s*", re.DOTALL)
_LIST = "[TOOL_CALLS]"
CHOOSE = "choose"
"""The ``tool_choice`` that makes which tool is called, or none, a choice of its own."""
_PROBE = "dpfusion_probe"


@dataclass(frozen=True)
class InvalidToolCall:
    """What looks like a call of a tool and is none.

    Attributes:
        text: The text of the call.
        error: What is wrong with it.
    """

    text: str
    error: str


@dataclass(frozen=True)
class ParsedReply:
    """A reply taken apart.

    Attributes:
        content: The text around the calls.
        tool_calls: The calls, in order.
        invalid: What looks like a call and is none.
    """

    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    invalid: tuple[InvalidToolCall, ...] = ()


def supports_tools(tokenizer: Tokenizer) -> bool:
    """Return whether the model's chat template shows tools to the model."""
    if not getattr(tokenizer, "chat_template", None):
        return False
    function = {"name": _PROBE, "description": "A probe.", "parameters": {"type": "object", "properties": {}}}
    try:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hello."}],
            tools=[{"type": "function", "function": function}],
            tokenize=False,
            add_generation_prompt=True,
        )
    except Exception:  # noqa: BLE001  a template may raise anything; then it has no use for tools
        return False
    return _PROBE in str(prompt)


def check_tools(tools: Sequence[Any]) -> dict[str, Mapping[str, Any]]:
    """Return the parameter schemas of tools by name.

    Args:
        tools: Function schemas in the form of OpenAI's, ``{"type": "function", "function": {"name": ...,
            "description": ..., "parameters": JSON schema}}``; the inner part alone will do.

    Raises:
        PrivacyParameterError: If one is not of this form, or two have the same name.

    Example:
        >>> check_tools([{"name": "now", "parameters": {"type": "object", "properties": {}}}])
        {'now': {'type': 'object', 'properties': {}}}
    """
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        schema = function.get("parameters") if isinstance(function, Mapping) else None
        if not isinstance(name, str) or not name or not isinstance(schema, Mapping | None):
            raise PrivacyParameterError(
                'Expected a tool as {"type": "function", "function": {"name": ..., "parameters": JSON schema}}.'
            )
        if name in found:
            raise PrivacyParameterError(f"Two tools are named {name!r}.")
        found[name] = schema or {"type": "object", "properties": {}}
    return found


def as_tool_choice(choice: Any) -> str:
    """Return the engine's word for a choice of tools, in any form that chat models take.

    Raises:
        PrivacyParameterError: If it is of another form.

    Example:
        >>> as_tool_choice("required"), as_tool_choice(None), as_tool_choice({"function": {"name": "now"}})
        ('any', 'auto', 'now')
    """
    if isinstance(choice, Mapping):
        function = choice.get("function", choice)
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str):
            raise PrivacyParameterError("Expected tool_choice to name a tool: {'function': {'name': ...}}.")
        return name
    if choice is None or choice is False:
        return "auto"
    if choice is True or choice == "required":
        return "any"
    if not isinstance(choice, str):
        raise PrivacyParameterError("Expected tool_choice 'auto', 'any', 'none' or the name of a tool.")
    return choice


def visible_length(text: str) -> int:
    """Return how much of a growing reply is certain not to belong to a call of a tool.

    Streams show no more than this until the reply is complete.

    Example:
        >>> visible_length("Let me see. <tool_")
        11
    """
    if text.lstrip()[:1] in ("{", "[", ""):  # a call without tags is the whole reply
        return 0
    ends = [place for mark in (OPEN, _LIST) if (place := text.find(mark)) >= 0]
    ends += [len(text) - n for mark in (OPEN, _LIST) for n in range(1, len(mark)) if text.endswith(mark[:n])]
    return len(text[: min(ends, default=len(text))].rstrip())


def parse_tool_calls(text: str, tools: Sequence[Any]) -> ParsedReply:
    """Take the calls of tools out of a reply.

    The forms of today's chat templates are understood: ``<tool_call>{"name": ..., "arguments":
    {...}}</tool_call>``, ``[TOOL_CALLS] [...]``, and a reply that is nothing but such JSON, with
    ``arguments`` or ``parameters``.

    Args:
        text: The reply.
        tools: The tools that were offered; see :func:`check_tools`.

    Returns:
        The text around the calls, the calls, each with an id of its own, and what looks like a call
        but has no valid JSON or names no tool that was offered.

    Raises:
        PrivacyParameterError: If the tools are malformed.

    Example:
        >>> reply = parse_tool_calls(
        ...     'Let me see. <tool_call>{"name": "now", "arguments": {}}</tool_call>', [{"name": "now"}]
        ... )
        >>> reply.content, reply.tool_calls[0].name
        ('Let me see.', 'now')
    """
    names = check_tools(tools).keys()
    if not names:
        return ParsedReply(text)
    bodies: list[str]
    if OPEN in text:
        content, bodies = _BLOCK.sub("\n", text).strip(), _BLOCK.findall(text)
    elif _LIST in text:
        content, _, body = text.partition(_LIST)
        content, bodies = content.strip(), [body]
    elif _is_call(_json(text)):
        content, bodies = "", [text]
    else:
        return ParsedReply(text)
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for body in bodies:
        value = _json(body)
        for each in value if isinstance(value, list) and value else [value]:
            call = _as_call(each, names)
            if isinstance(call, ToolCall):
                calls.append(call)
            else:
                invalid.append(InvalidToolCall(body.strip(), call))
    return ParsedReply(content, tuple(calls), tuple(invalid))


def _json(text: str) -> Any:
    try:
        return json.loads(text.strip().removeprefix("<|python_tag|>"))
    except ValueError:
        return None


def _is_call(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and "name" in first and ("arguments" in first or "parameters" in first)


def _as_call(value: Any, names: Collection[str]) -> ToolCall | str:
    """Return the call, or what is wrong with it."""
    if not _is_call(value) or isinstance(value, list):
        return "A call must be JSON with a name and arguments."
    name, arguments = value["name"], value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):  # some templates show arguments as a JSON string
        arguments = _json(arguments)
    if not isinstance(name, str) or name not in names:
        return "No tool of this name was offered."
    if not isinstance(arguments, dict):
        return "The arguments must be a JSON object."
    return ToolCall(name, arguments, f"call_{secrets.token_hex(8)}")
