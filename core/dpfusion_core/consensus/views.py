"""Own views: what one unit alone is asked, as messages, so that any chat model can read them.

docs/theory.md, section 11. The own view of a unit holds the public messages and this unit's segments. Those of
other units are left out, not replaced, so it is a function of public text and of this unit's text alone.
"""

from bisect import bisect
from collections.abc import Collection, Sequence
from dataclasses import replace

from dpfusion_core.errors import ViewError
from dpfusion_core.messages import Message, Segment
from dpfusion_core.placeholders import Placeholder, hide

NOBODY = "____"
"""Stands in the place of all documents where it is private whether there are any."""


def units_of(messages: Sequence[Message]) -> tuple[str, ...]:
    """Return the units of a conversation, in order of first appearance."""
    return tuple(dict.fromkeys(unit for message in messages for unit in message.units))


def without_seams(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return a conversation that shows nowhere how many documents there are.

    Documents that follow each other in messages of their own stand in one, and of the blanks between documents only
    those are left that part two texts of one unit. Else a document that joins would change what all others are asked.

    Example:
        >>> letters = [Segment(f"Letter {n}", is_private=True, unit=f"l{n}") for n in (1, 2)]
        >>> chat = [Message("user", [letters[0], Segment(" "), letters[1]]), Message("user", [letters[0]])]
        >>> [[(segment.text, segment.unit) for segment in message.segments] for message in without_seams(chat)]
        [[('Letter 1', 'l1'), ('Letter 2', 'l2'), (' ', 'l1'), ('Letter 1', 'l1')]]
    """
    runs: list[tuple[Message, list[Segment]]] = []
    for message in messages:
        before = runs[-1][0] if runs else None
        is_next = before is not None and before.role == message.role and _is_document(before)
        if is_next and _is_document(message):
            runs[-1][1].extend((Segment("\n\n"), *message.segments))
        else:
            runs.append((message, list(message.segments)))
    return tuple(
        replace(message, content=_seamless(segments), is_private=False, unit=None)
        for message, segments in runs
    )


def _is_document(message: Message) -> bool:
    return message.tool_call_id is None and all(s.is_private or not s.text.strip() for s in message.segments)


def _seamless(segments: Sequence[Segment]) -> list[Segment]:
    found: list[Segment] = []
    last: dict[str | None, int] = {}  # the place of the last text of each unit since the last public text
    places: list[int] = []  # of the blanks since then
    is_before_private = _before_private(segments)
    for place, segment in enumerate(segments):
        if segment.is_private:
            if segment.unit in last and (after := bisect(places, last[segment.unit])) < len(places):
                found.append(replace(segment, text=segments[places[after]].text))
            found.append(segment)
            last[segment.unit] = place
        elif last and not segment.text.strip() and is_before_private[place]:
            places += [place] if segment.text else []
        else:
            found.append(segment)
            last, places = {}, []
    return found


def _before_private(segments: Sequence[Segment]) -> list[bool]:
    """Return for each place whether what comes next, blanks aside, is private."""
    found: list[bool] = []
    is_private = False
    for segment in reversed(segments):
        found.append(is_private)
        is_private = segment.is_private or (is_private and not segment.text.strip())
    return found[::-1]


class OwnViews:
    """What each unit alone is asked: the public messages and its own segments, which stay marked.

    A message of which nothing is left is left out too, and with it the assistant's turn that answers it, so
    that turns go on taking turns. A tool's message takes the call that it answers along.

    Args:
        messages: The conversation.

    Example:
        >>> chat = [
        ...     Message("user", [Segment("Ann is ill.", True, "a"), Segment("Bob is well.", True, "b")]),
        ...     Message("user", "Who is ill?"),
        ... ]
        >>> list(map(plain_text, OwnViews(chat).of("b")))
        ['Bob is well.', 'Who is ill?']
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._places: list[
            dict[str | None, list[int]]
        ] = []  # of each message: where its units' segments stand
        for message in messages:
            places: dict[str | None, list[int]] = {None: []}
            for place, segment in enumerate(message.segments):
                places.setdefault(segment.unit, []).append(place)
            self._places.append(places)

    def of(self, unit: str | None) -> list[Message]:
        """Return the view of a unit; None for that of nobody."""
        found: list[Message] = []
        gone: set[str] = set()
        is_unanswered = False
        for message, places in zip(self._messages, self._places, strict=True):
            own = places.get(unit, []) if unit is not None else []
            segments = [message.segments[place] for place in sorted((*places[None], *own))]
            is_emptied = len(segments) < len(message.segments) and not any(s.text.strip() for s in segments)
            if is_emptied and message.role == "tool":
                if message.tool_call_id is not None:
                    gone.add(message.tool_call_id)
                    continue
                is_emptied = False  # nobody knows which call it answers, so its turn stays, without its text
            is_answer = is_unanswered and message.role == "assistant" and not message.tool_calls
            is_unanswered = is_emptied and message.role == "user"
            if is_emptied or is_answer:
                continue
            found.append(replace(message, content=segments, is_private=False, unit=None))
        return [left for message in found if (left := _without_calls(message, gone)) is not None]


def bare_view(messages: Sequence[Message]) -> list[Message]:
    """Return the public messages, all private segments left out; the answer is written from it."""
    return OwnViews(messages).of(None)


def public_view(messages: Sequence[Message], placeholder: Placeholder) -> list[Message]:
    """Return the conversation with one placeholder for all private segments of a message.

    One, so that it does not show how many documents take part.

    Args:
        messages: The conversation.
        placeholder: What stands there; it is asked about the first segment.

    Raises:
        ViewError: If the placeholder fails.
    """
    found = []
    for message in messages:
        segments: list[Segment] = []
        is_hidden = False
        for segment in message.segments:
            if not segment.is_private:
                segments.append(segment)
            elif not is_hidden:
                segments.append(Segment(hide(segment, placeholder)))
                is_hidden = True
        found.append(replace(message, content=segments, is_private=False, unit=None))
    return found


def public_view_of_any(messages: Sequence[Message]) -> list[Message]:
    """Return the public view where it is private whether any document takes part at all.

    There is one placeholder before the question, the same whether there are messages of documents or none.
    """
    *before, last = bare_view(messages)
    kept = [
        message for message in before if plain_text(message).strip() not in ("", NOBODY) or message.tool_calls
    ]
    return [*kept, Message("user", NOBODY), last]


def speaking_units(messages: Sequence[Message], placeholder: Placeholder) -> tuple[str, ...]:
    """Return the units whose text is not the placeholder alone; the others contribute nothing.

    Args:
        messages: The conversation.
        placeholder: What stands in the place of a text that has been zeroed out.

    Raises:
        ViewError: If the placeholder fails.
    """
    found: dict[str, None] = {}
    for message in messages:
        for segment in message.segments:
            if segment.unit is None or segment.text.strip() in ("", hide(segment, placeholder).strip()):
                continue
            found[segment.unit] = None
    return tuple(unit for unit in units_of(messages) if unit in found)


def asked(messages: Sequence[Message], instruction: str) -> list[Message]:
    """Return a conversation with an instruction behind its question.

    Raises:
        ViewError: If it does not end with a user's message.
    """
    last = question_of(messages)
    return [*messages[:-1], replace(last, content=[*last.segments, Segment(f" {instruction}")])]


def led_by(messages: Sequence[Message], before: str, after: str) -> list[Message]:
    """Return a conversation with public text before its question and behind it.

    Raises:
        ViewError: If it does not end with a user's message.
    """
    last = question_of(messages)
    return [*messages[:-1], replace(last, content=[Segment(before), *last.segments, Segment(after)])]


def question_of(messages: Sequence[Message]) -> Message:
    """Return the last message, which asks the question.

    Raises:
        ViewError: If it is no user's message, or nothing of it is public.
    """
    last = messages[-1] if messages else None
    if (
        last is None
        or last.role != "user"
        or not any(s.text.strip() for s in last.segments if not s.is_private)
    ):
        raise ViewError(
            "A consensus needs a question: end the conversation with a user's message that is public, or that "
            "has a public part."
        )
    return last


def plain_text(message: Message) -> str:
    """Return the text of a message, private segments included: for the model that answers, and nobody else."""
    return "".join(segment.text for segment in message.segments)


def _without_calls(message: Message, gone: Collection[str]) -> Message | None:
    """Return an assistant's message without the calls whose answers are gone; None if nothing is left."""
    calls = tuple(call for call in message.tool_calls if call.id not in gone)
    if len(calls) == len(message.tool_calls):
        return message
    if not calls and not plain_text(message).strip():
        return None
    return replace(message, tool_calls=calls)
