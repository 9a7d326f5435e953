"""What LlamaIndex's own components write into messages of the system and the user.

Agents, memories and rerankers paste documents and what tools have said into messages that carry no flag.
How they write is fixed in LlamaIndex, and read here: such text is private like a tool's. A text that only
looks like theirs is private then too, never the other way round.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Literal

from llama_index.core.base.llms.types import ChatMessage

Role = Literal["system", "user", "assistant", "tool"]

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""What the engine calls LlamaIndex's roles."""

# An agent that reasons in text, an agent that runs code, a memory that has a talk summed up.
_WHOLE = re.compile(
    r"""^\s*Observation:|\AResult of executing the code given:|\A"Transcript so far: """, re.MULTILINE
)
# The blocks of a memory, in a message of the system or the user.
_MEMORY = re.compile(r"(<memory>.*</memory>|<memory>.*\Z)", re.DOTALL)
_TALK = re.compile(r'<memory>|"Transcript so far: ')
# The passages of a reranker, each followed by an assistant that has received it.
_PASSAGE = re.compile(r"\A\[(\d+)\] ")

_RESPONSE = re.compile(r"(?:[Ii]nformation|Response):\s*\{query_str\}")


def parts_of(message: ChatMessage, text: str) -> list[tuple[str, bool]]:
    """Cut a message's text into what may be anybody's and what a component has written into it.

    Returns:
        Pieces of the text, and whether each is private because of who has written it.
    """
    role = ROLES[message.role.value]
    is_tool = role == "tool" or "tool_call_id" in message.additional_kwargs
    # The header of an agent that reasons in text explains how observations look.
    if is_tool or (role != "system" and _WHOLE.search(text)):
        return [(text, True)]
    parts = _MEMORY.split(text)
    return [(part, i % 2 == 1) for i, part in enumerate(parts) if part]


def repeats_talk(text: str) -> bool:
    """Return whether a component repeats in a text what has been said in the conversation, by anybody.

    It is private, for what tools have said may stand in it. But the question that the user asks again
    stands in it too, so it is nothing for the net.
    """
    return bool(_TALK.match(text))


def passages(messages: Sequence[ChatMessage]) -> set[int]:
    """Return the numbers, from 0, of messages that show a reranker's passages."""
    found = set()
    for i, (message, answer) in enumerate(itertools.pairwise(messages)):
        passage = _PASSAGE.match(message.content or "")
        if passage and answer.content == f"Received passage [{passage[1]}].":
            found.add(i)
    return found


def asks_about_a_response(template: str) -> bool:
    """Return whether what a template takes for its question is a response that is to be judged."""
    return bool(_RESPONSE.search(template))
