"""Messages and their segments: what is said, and which parts of it are private."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as
from dpfusion_core.units import unit_id

ROLES = ("system", "user", "assistant", "tool")
DEFAULT_UNIT = "private"
"""The privacy unit of private text that names no other."""


@dataclass(frozen=True)
class Segment:
    """A piece of a message that is wholly public or wholly private.

    Attributes:
        text: The text. Never shown by ``repr`` if the segment is private.
        is_private: Whether the text is replaced by the placeholder in the public view.
        unit: The privacy unit that a private segment belongs to; None means the unnamed one. Kept in
            the normal form of ids (:func:`~dpfusion_core.units.unit_id`).
        label: What kind of thing a private segment is, for placeholders by label; it is public.

    Raises:
        ViewError: If a private segment is empty, or a unit or label is named on a public one.

    Example:
        >>> Segment("Jane Roe", is_private=True, unit="patient-7")
        Segment(text=<private>, is_private=True, unit='patient-7', label=None)
    """

    text: str
    is_private: bool = False
    unit: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        _check_text(self.text, "A segment's text")
        _check_name(self.is_private, self.unit, "unit", "segment")
        _check_name(self.is_private, self.label, "label", "segment")
        object.__setattr__(self, "unit", None if self.unit is None else normal_unit(self.unit))
        if self.is_private and not self.text:
            raise ViewError("A private segment is empty. Leave it out, or mark the text that is private.")

    def __repr__(self) -> str:
        text = "<private>" if self.is_private else repr(self.text)
        return f"Segment(text={text}, is_private={self.is_private}, unit={self.unit!r}, label={self.label!r})"


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool that an assistant's message asks for. It is public.

    Attributes:
        name: Name of the tool.
        arguments: Arguments by name; JSON values.
        id: What the tool's answer refers to, if anything.
    """

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: ``"system"``, ``"user"``, ``"assistant"`` or ``"tool"``.
        content: The text, or segments of which some may be private.
        is_private: Whether the whole content is private. With segments: all of them.
        unit: The privacy unit of private content, kept in the normal form of ids; segments may name
            their own.
        tool_calls: Of an assistant's message: the tools that it calls; public.
        tool_call_id: Of a tool's message: the call that it answers; public.
        name: Name of the speaker or the tool, for the chat template; public.

    Raises:
        ViewError: If the role is unknown, private content is empty, a unit is named on a message
            without private content, or a message with private content calls tools.

    Example:
        >>> Message("user", "Diagnosis: migraine.", is_private=True).segments
        (Segment(text=<private>, is_private=True, unit='private', label=None),)
    """

    role: str
    content: str | Sequence[Segment]
    is_private: bool = False
    unit: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    segments: tuple[Segment, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            # The role is not quoted: swapped arguments would put the message's text there.
            raise ViewError(f"Unknown role of a message. Use one of {', '.join(ROLES)}.")
        if isinstance(self.content, str):
            _check_name(self.is_private, self.unit, "unit", "message")
            if self.is_private and not self.content:
                raise ViewError("A private message is empty. Leave it out, or mark the text that is private.")
            parts: Iterable[Segment] = (Segment(self.content, self.is_private, self.unit),)
        else:
            object.__setattr__(self, "content", tuple(self.content))
            parts = self.content
            if not all(isinstance(part, Segment) for part in parts):
                raise ViewError("Expected a message's content to be a string or a list of Segment.")
            is_any_private = self.is_private or any(part.is_private for part in parts)
            _check_name(is_any_private, self.unit, "unit", "message")
        object.__setattr__(self, "unit", None if self.unit is None else normal_unit(self.unit))
        object.__setattr__(self, "segments", tuple(map(self._with_unit, parts)))
        object.__setattr__(self, "tool_calls", tuple(self.tool_calls))
        if not all(isinstance(call, ToolCall) for call in self.tool_calls):
            raise ViewError("Expected a message's tool_calls to be a list of ToolCall.")
        if self.tool_calls and (self.is_private or self.units):
            # Arguments may repeat the private content, and no placeholder could stand in their place.
            raise ViewError(
                "A private message cannot call tools: nothing could stand in the place of the arguments. Leave the "
                "calls out, or mark the message with is_private=False if they are public."
            )

    def __repr__(self) -> str:
        content = list(self.segments) if not isinstance(self.content, str) else self.content
        if self.is_private:
            content = "<private>"
        shown = content if content == "<private>" else repr(content)
        return (
            f"Message(role={self.role!r}, content={shown}, is_private={self.is_private}, unit={self.unit!r})"
        )

    @property
    def units(self) -> tuple[str, ...]:
        """The privacy units of the message, in order of first appearance."""
        return tuple(dict.fromkeys(s.unit for s in self.segments if s.unit is not None))

    def _with_unit(self, segment: Segment) -> Segment:
        if not (segment.is_private or self.is_private):
            return segment
        unit = segment.unit or self.unit or DEFAULT_UNIT
        return Segment(segment.text, is_private=True, unit=unit, label=segment.label)


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str):
        raise ViewError(f"{what} must be a string, not {type(text).__name__}.")
    with errors_as(ViewError, f"{what} holds a lone surrogate, which no tokenizer can read."):
        text.encode("utf-8")


def _check_name(is_private: bool, name: str | None, kind: str, what: str) -> None:
    if not isinstance(is_private, bool):
        raise ViewError(f"is_private of a {what} must be True or False, not {type(is_private).__name__}.")
    if name is None:
        return
    if not isinstance(name, str) or not name:
        raise ViewError(f"The {kind} of a {what} must be a non-empty string.")
    if not is_private:
        raise ViewError(f"A {kind} is named on a public {what}. Set is_private=True, or drop the {kind}.")


def normal_unit(unit: str) -> str:
    """Return the normal form of a unit's id.

    Raises:
        ViewError: If it is none.
    """
    with errors_as(ViewError, str, only=PrivacyParameterError, ours=ViewError):
        return unit_id(unit)
