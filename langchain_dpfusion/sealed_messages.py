"""Messages that show a placeholder to callbacks, tracers and caches, and their text to the model alone."""

import hmac
import json
import secrets
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeGuard

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import PrivateAttr

from dpfusion_core.adapters import Unmarked
from dpfusion_core.errors import ViewError
from langchain_dpfusion.conversation import Piece, Turn
from langchain_dpfusion.marked_messages import PLACEHOLDER, private_block, public_block
from langchain_dpfusion.reading import read
from langchain_dpfusion.redaction import without_documents

_DIGEST = "dp_fusion_digest"


class _Hidden:
    """Holds what a sealed message stands for. Neither ``repr`` nor a pickle shows it."""

    __slots__ = ("turns",)

    def __init__(self, turns: tuple[Turn, ...] | None = None) -> None:
        self.turns = turns

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


class _SealedSystem(SystemMessage, Sealed):
    pass


def seal(
    messages: Sequence[BaseMessage],
    unmarked: Unmarked = "public",
    placeholder: str = PLACEHOLDER,
    *,
    is_counted: bool = True,
) -> list[BaseMessage]:
    """Replace private messages by sealed ones; public and sealed ones stay as they are.

    Artifacts and documents in the metadata of a message are private too: no model reads them.

    Args:
        messages: The conversation.
        unmarked: What text without a mark is; nothing is refused here.
        placeholder: What is seen in the place of private text.
        is_counted: Whether each private text gets a placeholder with its unit. If not, a message has one for all of
            them: it is private which documents take part, and how many.

    Raises:
        ViewError: If a message is malformed.
        UnsupportedError: If a message holds something else than text.

    Example:
        >>> sealed = seal([HumanMessage("Ann is ill.", additional_kwargs={"is_private": True})])
        >>> sealed[0].content, sealed[0].type
        ('____', 'human')
    """
    sealed = [_seal(message, unmarked, placeholder, is_counted) for message in messages]
    return sealed if is_counted else _joined(sealed)


def unseal(messages: Sequence[BaseMessage]) -> list[Turn]:
    """Read a conversation in which some messages are sealed.

    Raises:
        ViewError: If a message is malformed, or a sealed one has lost its text.
        UnsupportedError: If a message holds something else than text.
    """
    turns: list[Turn] = []
    for message in messages:
        if not isinstance(message, Sealed):
            turns += read(message)
        elif message._hidden.turns is None:
            raise ViewError("A message was taken from a trace or a pickle: its private text is not there.")
        else:
            turns += message._hidden.turns
    return turns


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


def _seal(message: BaseMessage, unmarked: Unmarked, placeholder: str, is_counted: bool) -> BaseMessage:
    if (
        isinstance(message, Sealed)
        and is_counted
        and (unmarked != "private" or message._hidden.turns is None)
    ):
        return message
    # Kept as they were read: what their unmarked text is, the rule of the call decides.
    hidden = message._hidden.turns if isinstance(message, Sealed) else tuple(read(message))
    shown = [turn.by_rule(unmarked) for turn in hidden or ()]
    if not any(turn.is_private for turn in shown):
        return without_documents(message)
    for turn in shown:
        turn.to_core()  # refuses what no model could read, before callbacks see the call
    pieces = [piece for turn in shown for piece in turn.pieces]
    is_whole = all(piece.mark for piece in pieces)
    fields: dict[str, Any] = {
        "content": placeholder,
        "additional_kwargs": {"is_private": True} if is_whole else {},
        "id": message.id,
        "name": message.name,
    }
    if isinstance(message.content, list):
        fields["content"] = _shown(pieces, placeholder) if is_counted else _uncounted(pieces, placeholder)
    sealed: Sealed
    if isinstance(message, ToolMessage):  # without its artifact, which may be the documents
        sealed = _SealedTool(tool_call_id=message.tool_call_id, status=message.status, **fields)
    elif isinstance(message, AIMessage):
        sealed = _SealedAI(**fields)
    elif isinstance(message, SystemMessage):
        sealed = _SealedSystem(**fields)
    else:
        sealed = _SealedHuman(**fields)
    sealed._hidden = message._hidden if isinstance(message, Sealed) else _Hidden(hidden)
    return sealed


def _shown(pieces: Sequence[Piece], placeholder: str) -> list[dict[str, Any]]:
    return [
        private_block(placeholder, piece.unit) if piece.mark else {"type": "text", "text": piece.text}
        for piece in pieces
    ]


def _uncounted(pieces: Sequence[Piece], placeholder: str) -> list[dict[str, Any]]:
    """Return blocks that show neither how many private texts there are nor whose; what parts them would."""
    said = [{"type": "text", "text": piece.text} for piece in pieces if not piece.mark and piece.text.strip()]
    return [private_block(placeholder), *said]


def _joined(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Join neighbours that are private as a whole: each may be a document of its own."""
    found: list[BaseMessage] = []
    for message in messages:
        last = found[-1] if found else None
        if _is_bare(message) and last is not None and _is_bare(last):
            joined = last.model_copy()
            joined._hidden = _Hidden((*(last._hidden.turns or ()), *(message._hidden.turns or ())))
            found[-1] = joined
        else:
            found.append(message)
    return found


def _is_bare(message: BaseMessage) -> TypeGuard[_SealedHuman]:
    is_whole = "is_private" in message.additional_kwargs
    return isinstance(message, _SealedHuman) and is_whole and message._hidden.turns is not None


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
    if not isinstance(message, Sealed) or message._hidden.turns is None:
        return message
    parts = [
        [turn.role, turn.name, turn.tool_call_id, [[p.text, p.mark, p.unit] for p in turn.pieces]]
        for turn in message._hidden.turns
    ]
    digest = hmac.digest(key, json.dumps([settings, parts]).encode(), "sha256").hex()
    return message.model_copy(
        update={"additional_kwargs": {**message.additional_kwargs, _DIGEST: digest}, "id": None}
    )
