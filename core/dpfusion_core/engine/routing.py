"""Which tool comes next, or the answer itself: a choice between public names."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.messages import Message
from dpfusion_core.tool_calling import check_tools

ANSWER = "answer"
"""The choice of :meth:`FusionEngine.choose_tool` that calls no tool."""


def tool_question(tools: Sequence[Any]) -> tuple[Message, tuple[str, ...]]:
    """Return the question which tool comes next, and the choices: the tools' names and ``answer``.

    Args:
        tools: Function schemas in OpenAI's form; public.

    Raises:
        PrivacyParameterError: If there is no tool, or one is malformed or named ``answer``.

    Example:
        >>> asked, names = tool_question([{"name": "now", "description": "Tells the time."}])
        >>> names
        ('now', 'answer')
    """
    names = tuple(check_tools(tools))
    if not names:
        raise PrivacyParameterError("Which tool comes next is asked, but no tool is given.")
    if ANSWER in names:
        raise PrivacyParameterError(f"A tool is named {ANSWER!r}, which stands for no tool. Rename it.")
    lines = [f"- {name}: {_about(tool)}" for name, tool in zip(names, tools, strict=True)]
    said = "\n".join([*lines, f"- {ANSWER}: say the answer, no tool is needed"])
    return Message("user", f"What is the next step?\n{said}\nAnswer with its name alone."), (*names, ANSWER)


def _about(tool: Mapping[str, Any]) -> str:
    function = tool.get("function", tool)
    return " ".join(str(function.get("description") or "a tool").split())
