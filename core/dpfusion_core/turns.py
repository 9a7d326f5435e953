"""A conversation as chat templates want it: many refuse two messages of one role in a row, or system messages."""

from collections.abc import Iterator, Sequence

from dpfusion_core.messages import Message, Segment

_BETWEEN = Segment("\n\n")


def arrangements(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Yield a conversation as it is, and then in forms that stricter templates accept.

    Segments stay what they are, public or a unit's, so no form costs privacy.

    Args:
        messages: The conversation.

    Yields:
        It; it with neighbours of one role joined; it without system messages, whose text then stands
        before that of the next user's message.

    Example:
        >>> messages = [Message("system", "Be brief."), Message("user", "Ann is ill."), Message("user", "Who?")]
        >>> [[message.role for message in each] for each in arrangements(messages)]
        [['system', 'user', 'user'], ['system', 'user'], ['user']]
    """
    yield messages
    yield joined(messages)
    yield joined(_without_system(messages))


def joined(messages: Sequence[Message]) -> list[Message]:
    """Return a conversation with neighbours of one role joined, except messages of tools and calls of them."""
    found: list[Message] = []
    for message in messages:
        if found and _is_plain(message) and _is_plain(found[-1]) and found[-1].role == message.role:
            found[-1] = Message(message.role, [*found[-1].segments, _BETWEEN, *message.segments])
        else:
            found.append(message)
    return found


def _is_plain(message: Message) -> bool:
    return message.role != "tool" and not message.tool_calls and message.name is None


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """Put the text of system messages into the next user's message, or else the one before."""
    found: list[Message] = []
    waiting: list[Segment] = []
    for message in messages:
        if message.role == "system":
            waiting += [*message.segments, _BETWEEN]
        elif message.role == "user" and waiting:
            found.append(Message("user", [*waiting, *message.segments], name=message.name))
            waiting = []
        else:
            found.append(message)
    if waiting:
        users = [place for place, message in enumerate(found) if message.role == "user"]
        place = users[-1] + 1 if users else 0
        found.insert(place, Message("user", waiting[:-1]))
    return found
