"""Messages of LangChain with marks: what in them is private, written so that LangChain keeps it.

``is_private`` is written where it lives through templates, histories, merges and serialisation: in a
message's ``additional_kwargs`` and, for a part of a message, in the ``extras`` of its content block.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from langchain_core.messages import BaseMessage, HumanMessage

from dpfusion_core.adapters import seen

MessageT = TypeVar("MessageT", bound=BaseMessage)

GUARANTEE_KEY = "dp_fusion"
"""Where an answer's ``response_metadata`` holds its guarantee; answers that have it are public."""

UNITS_KEY = "dp_fusion_units"
"""Where ``additional_kwargs`` of this package's own private messages name the units of their text. Text that
LangChain puts into such a message without any mark (a split block, a new ``content``) stays private by it."""

PLACEHOLDER = "____"
"""What callbacks and traces see in the place of private text."""

HIDDEN = "non_standard"
"""LangChain's type of blocks that are not standard: what :func:`~langchain_dpfusion.reading.hide` writes."""


def mark_private(message: MessageT, unit: str | None = None) -> MessageT:
    """Return a copy of a message that is private.

    The flag stands in ``additional_kwargs`` and in every content block, so that copies of either stay
    private. The unit stands in the blocks, and in a list beside the flag: LangChain merges messages by
    joining their additional strings, and lists keep what they hold.

    Args:
        message: The message.
        unit: Privacy unit of its text; None for the unnamed one.

    Example:
        >>> mark_private(HumanMessage("Ann is ill.")).additional_kwargs
        {'is_private': True}
    """
    extra = {**message.additional_kwargs, "is_private": True}
    if unit is not None:
        extra[UNITS_KEY] = [unit]
    content = [message.content] if isinstance(message.content, str) else message.content
    blocks = [_with_unit(block, unit) for block in content if block != ""]
    return message.model_copy(update={"content": blocks or "", "additional_kwargs": extra})


def mark_public(message: MessageT) -> MessageT:
    """Return a message that is public unless it says otherwise itself."""
    if "is_private" in message.additional_kwargs:
        return message
    return message.model_copy(
        update={"additional_kwargs": {**message.additional_kwargs, "is_private": False}}
    )


def private_message(blocks: Sequence[dict[str, Any]]) -> "PrivateHumanMessage":
    """Return a human message of blocks that say whether they are private.

    Args:
        blocks: From :func:`private_block` and :func:`public_block`.
    """
    private = [block["extras"] for block in blocks if block["extras"]["is_private"]]
    extra = units_of([(marks.get("unit"), marks.get("unit_is_stable", True)) for marks in private])
    content: Any = list(blocks)
    return PrivateHumanMessage(content=content, additional_kwargs=extra)


def units_of(units: Iterable[tuple[str | None, bool]]) -> dict[str, Any]:
    """Return the entries of ``additional_kwargs`` that say whose private text a message was made of.

    Args:
        units: Names of units and whether they are stable.
    """
    units = list(units)
    entry: dict[str, Any] = {
        UNITS_KEY: [name for name in dict.fromkeys(n for n, _ in units) if name is not None]
    }
    return entry if all(is_stable for _, is_stable in units) else {**entry, "unit_is_stable": False}


class PrivateHumanMessage(HumanMessage):
    """A human message whose ``repr`` and ``str`` do not show private text.

    A template that is filled with it as if it were a string gets a placeholder. Stores and checkpoints
    keep it as a ``HumanMessage``.
    """

    @property  # type: ignore[override]
    def __class__(self) -> type[HumanMessage]:
        """The class that checkpoints write.

        LangGraph's serialiser asks ``obj.__class__`` for the name that it writes, takes no hook, and in strict
        mode brings back LangChain's own classes alone: under its own name the message would come back as a plain
        dict, and its graph would fail. So it shows the class that it is read back as.
        """
        return HumanMessage

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise AttributeError("The class of a message is fixed.")

    @classmethod
    def lc_id(cls) -> list[str]:
        """Return the name of the kind of message, which readers of a trace know."""
        return HumanMessage.lc_id()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value: pickles compare the class with the one that is shown."""
        return type(self).model_validate, (self.model_dump(),)

    def __repr__(self) -> str:
        """Return a placeholder."""
        return PLACEHOLDER

    __str__ = __repr__


def private_block(text: str, unit: str | None = None, *, is_stable: bool = True) -> dict[str, Any]:
    """Return a content block of private text; where the text comes back without a mark, it is refused.

    Args:
        text: The text.
        unit: Its privacy unit; None for the unnamed one.
        is_stable: Whether the unit's name stays when the same text comes again; a ledger needs that.

    Example:
        >>> private_block("Ann is ill.", unit="patient-7")["extras"]
        {'is_private': True, 'unit': 'patient-7'}
    """
    extras: dict[str, Any] = {"is_private": True}
    if unit is not None:
        extras["unit"] = unit
    if not is_stable:
        extras["unit_is_stable"] = False
    seen.remember(text)
    return {"type": "text", "text": text, "extras": extras}


def public_block(text: str) -> dict[str, Any]:
    """Return a content block that is public whatever is private by default.

    Args:
        text: Text that tells nothing about anybody, such as what stands between two documents.
    """
    return {"type": "text", "text": text, "extras": {"is_private": False}}


def _with_unit(block: str | dict[Any, Any], unit: str | None) -> dict[Any, Any]:
    if isinstance(block, str):
        return private_block(block, unit)
    seen.remember(str(block.get("text", "")))
    extras = block.get("extras")
    named = {} if unit is None else {"unit": unit}
    return {
        **block,
        "extras": {**(extras if isinstance(extras, dict) else {}), "is_private": True, **named},
    }
