"""Messages that show a placeholder to callbacks, tracers and caches, and their text to the model alone."""

import hmac
import json
import secrets
from collections.abc import Sequence
from functools import cache
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from pydantic import PrivateAttr

from dpfusion_core.errors import ViewError
from dpfusion_core.messages import Message
from langchain_dpfusion.messages import DefaultPrivate, private_block, public_block, to_core

PLACEHOLDER = "____"
"""What callbacks and traces see in the place of private text."""

_DIGEST = "dp_fusion_digest"


class _Hidden:
    """Holds what a sealed message stands for. Neither ``repr`` nor a pickle shows it."""

    __slots__ = ("messages",)

    def __init__(self, messages: tuple[Message, ...] | None = None) -> None:
        self.messages = messages

    def __repr__(self) -> str:
        return "<private>"

    def __deepcopy__(self, memo: Any) -> "_Hidden":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hidden, ()


class Sealed(BaseMessage):
    """A message whose content is a placeholder; the text is in a private attribute."""

    _hidden: _Hidden = PrivateAttr(default_factory=_Hidden)

    @classmethod
    def lc_id(cls) -> list[str]:
        """Return the name of the kind of message, which readers of a trace know."""
        kind: type[BaseMessage] = cls.__bases__[0]
        return kind.lc_id()


class _SealedHuman(HumanMessage, Sealed):
    pass


class _SealedAI(AIMessage, Sealed):
    pass


class _SealedTool(ToolMessage, Sealed):
    pass


def seal(
    messages: Sequence[BaseMessage], default_private: DefaultPrivate, placeholder: str = PLACEHOLDER
) -> list[BaseMessage]:
    """Replace private messages by sealed ones; public and sealed ones stay as they are.

    Args:
        messages: The conversation.
        default_private: Which messages without any flag are private.
        placeholder: What is seen in the place of private text.

    Raises:
        ViewError: If a message is malformed.
        UnsupportedError: If a message holds something else than text.

    Example:
        >>> sealed = seal([HumanMessage("Ann is ill.", additional_kwargs={"is_private": True})], None)
        >>> sealed[0].content, sealed[0].type
        ('____', 'human')
    """
    return [_seal(message, default_private, placeholder) for message in messages]


def unseal(messages: Sequence[BaseMessage], default_private: DefaultPrivate) -> list[Message]:
    """Translate a conversation in which some messages are sealed; the inverse of :func:`seal`.

    Raises:
        ViewError: If a message is malformed, or a sealed one has lost its text.
        UnsupportedError: If a message holds something else than text.
    """
    translated: list[Message] = []
    for message in messages:
        if not isinstance(message, Sealed):
            translated += to_core([message], default_private)
        elif message._hidden.messages is None:
            raise ViewError("A message was taken from a trace or a pickle: its private text is not there.")
        else:
            translated += message._hidden.messages
    return translated


def without_text(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Replace sealed messages by public ones of the same kind that hold the placeholder."""
    return [_emptied(message) for message in messages]


def with_digests(messages: Sequence[BaseMessage], key: bytes | None, settings: str) -> list[BaseMessage]:
    """Add a keyed digest of its text to each sealed message, for the key of a cache.

    Args:
        messages: Messages, sealed where they are private.
        key: Secret of the digests; by default one that this process makes and forgets.
        settings: What else the answer depends on and the cache's key does not say.
    """
    return [_with_digest(message, key or _process_key(), settings) for message in messages]


@cache
def _process_key() -> bytes:
    return secrets.token_bytes(32)


def _seal(message: BaseMessage, default_private: DefaultPrivate, placeholder: str) -> BaseMessage:
    if isinstance(message, Sealed):
        return message
    hidden = tuple(to_core([message], default_private))
    segments = [segment for part in hidden for segment in part.segments]
    if not any(segment.is_private for segment in segments):
        return message
    is_whole = all(segment.is_private for segment in segments)
    fields: dict[str, Any] = {
        "content": placeholder,
        "additional_kwargs": {"is_private": True} if is_whole else {},
        "id": message.id,
        "name": message.name,
    }
    if isinstance(message.content, list):
        fields["content"] = [
            private_block(placeholder, segment.unit)
            if segment.is_private
            else {"type": "text", "text": segment.text}
            for segment in segments
        ]
    sealed: Sealed
    if isinstance(message, ToolMessage):  # without its artifact, which may be the documents
        sealed = _SealedTool(tool_call_id=message.tool_call_id, status=message.status, **fields)
    elif isinstance(message, AIMessage):
        sealed = _SealedAI(**fields)
    else:
        sealed = _SealedHuman(**fields)
    sealed._hidden = _Hidden(hidden)
    return sealed


def _emptied(message: BaseMessage) -> BaseMessage:
    if not isinstance(message, Sealed):
        return message
    kind: type[BaseMessage] = type(message).__bases__[0]
    fields = message.model_dump(exclude={"type"})
    fields["additional_kwargs"] = {"is_private": False}
    if isinstance(message.content, list):
        fields["content"] = [
            public_block(block["text"]) for block in message.content if isinstance(block, dict)
        ]
    return kind(**fields)


def _with_digest(message: BaseMessage, key: bytes, settings: str) -> BaseMessage:
    if not isinstance(message, Sealed) or message._hidden.messages is None:
        return message
    parts = [
        [part.role, part.name, part.tool_call_id, [[s.text, s.is_private, s.unit] for s in part.segments]]
        for part in message._hidden.messages
    ]
    digest = hmac.digest(key, json.dumps([settings, parts]).encode(), "sha256").hex()
    return message.model_copy(
        update={"additional_kwargs": {**message.additional_kwargs, _DIGEST: digest}, "id": None}
    )
