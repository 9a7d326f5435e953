"""The names of tagged phrases: their privacy units, and the numbers in their labels.

A ledger knows a unit by its id for ever, so the id of an entity comes from what it is (docs/theory.md, section 6): a
keyed digest of the unit it stands in, its label and the phrase. Never from its place in a conversation,
which changes with what is asked; never an unkeyed digest, of which a name can be guessed.
"""

import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from dpfusion_core.errors import PrivacyParameterError, TaggerError, errors_as
from dpfusion_core.messages import DEFAULT_UNIT, Segment
from dpfusion_core.tagging.occurrences import same_phrase
from dpfusion_core.tagging.spans import Span

UnitsOf = Literal["message", "label", "entity"] | Callable[[Span, str], str]
"""Which privacy unit a tagged phrase belongs to: its message's, one for each label, one for each entity,
or what a function of the span and its text says."""

_SHORTEST = 16  # bytes of a key; phrases are easy to guess, so it must not be
_TEMPORARY = re.compile(r":temporary-[0-9a-f]{32}(?:/|\Z)", re.IGNORECASE)
_PROCESS_KEY = secrets.token_bytes(32)
"""Without a key, ids last as long as the process: then all conversations in it must agree on them."""


class KeySource(Protocol):
    """What has a key that stays the same; a :class:`~dpfusion_core.PrivacyLedger` does."""

    def entity_key(self) -> bytes:
        """Return the secret from which the ids of entities are made."""
        ...


@dataclass(frozen=True)
class EntityNames:
    """Makes the ids of entities.

    Attributes:
        key: The secret.
        is_stable: Whether the key is the same in other processes. The ids say so if not.
    """

    key: bytes = field(repr=False)
    is_stable: bool

    def __call__(self, unit: str | None, label: str, phrase: str) -> str:
        """Return the id of an entity of a unit: its label with a keyed digest."""
        parts = ("" if unit is None else unit.casefold(), label.casefold(), same_phrase(phrase))
        data = [part.encode("utf-8", "surrogatepass") for part in parts]
        message = b"".join(len(each).to_bytes(8, "big") + each for each in data)
        digest = hmac.digest(self.key, b"dpfusion entity:" + message, "sha256").hex()[:32]
        return f"{label}:{digest}" if self.is_stable else f"{label}:temporary-{digest}"


def entity_names(key: str | bytes | None, source: KeySource | None) -> EntityNames:
    """Return what names entities: under the caller's key, else the ledger's, else one of this process.

    Args:
        key: The caller's key.
        source: The ledger that the units are charged to.

    Raises:
        PrivacyParameterError: If the key is too short, or there is a ledger without a key for entities.
        LedgerError: If the ledger cannot be opened.
    """
    if key is not None:
        return EntityNames(as_key(key), is_stable=True)
    if source is None:
        return EntityNames(_PROCESS_KEY, is_stable=False)
    if not callable(getattr(source, "entity_key", None)):
        raise PrivacyParameterError(
            "This ledger has no key of its own for the ids of entities, and without one they would change at "
            "each start: a new budget each time. Give one that stays: Narrowing(..., units='entity', key=...)."
        )
    return EntityNames(source.entity_key(), is_stable=True)


def as_key(key: str | bytes) -> bytes:
    """Return a caller's key as bytes.

    Raises:
        PrivacyParameterError: If it is too short. The key is not quoted.
    """
    secret = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    if not isinstance(secret, bytes) or len(secret.strip()) < _SHORTEST:
        raise PrivacyParameterError(
            f"Expected a key of at least {_SHORTEST} bytes, for example from "
            "`python -c 'import secrets; print(secrets.token_hex(32))'`."
        )
    return secret.strip()


def check_lasting(units: Iterable[str]) -> None:
    """Refuse units whose ids end with this process: a ledger would keep a new account at each start.

    Raises:
        PrivacyParameterError: If there is one.
    """
    if any(map(_TEMPORARY.search, units)):
        raise PrivacyParameterError(
            "An entity was named under a key of this process alone, so at the next start it would have another "
            "id and a new budget. Let the engine that has the ledger do the tagging "
            "(FusionEngine(..., ledger=..., tagger=Narrowing(...))), or give a key that stays: "
            "Narrowing(..., units='entity', key=...)."
        )


@dataclass
class Naming:
    """Names the phrases of one conversation.

    Attributes:
        units: Which privacy unit a phrase belongs to.
        numbered: Whether labels are numbered by entity, in the order of their first appearance.
        entities: Names entities; None if they have no units of their own.
    """

    units: UnitsOf
    numbered: bool
    entities: EntityNames | None = None
    _numbers: dict[tuple[str, str], int] = field(default_factory=dict, repr=False)
    _counts: dict[str, int] = field(default_factory=dict, repr=False)

    def cut(self, segment: Segment, spans: Sequence[Span]) -> list[Segment]:
        """Return a private segment's public and private parts.

        Raises:
            TaggerError: If the function that names units fails.
        """
        parts, position = [], 0
        for span in spans:
            text = segment.text[span.start : span.end]
            label = self._numbered(span.label, text) if self.numbered else span.label
            parts.append(Segment(segment.text[position : span.start]))
            parts.append(Segment(text, is_private=True, unit=self._unit(segment, span, text), label=label))
            position = span.end
        parts.append(Segment(segment.text[position:]))
        return [part for part in parts if part.text]

    def _numbered(self, label: str, text: str) -> str:
        entity = label, same_phrase(text)
        if entity not in self._numbers:
            self._counts[label] = self._counts.get(label, 0) + 1
            self._numbers[entity] = self._counts[label]
        return f"{label}_{self._numbers[entity]}"

    def _unit(self, segment: Segment, span: Span, text: str) -> str | None:
        if self.units == "message":
            return segment.unit
        if callable(self.units):
            with errors_as(TaggerError, "The function that names units raised {error}."):
                name = self.units(span, text)
            if not (isinstance(name, str) and name):
                raise TaggerError("The function that names units gave no name.")
            return name
        unit = None if segment.unit == DEFAULT_UNIT else segment.unit
        name = span.label if self.entities is None else self.entities(unit, span.label, text)
        # Entities of a named unit stay apart from those of others: a ledger keeps accounts by name.
        return name if unit is None else f"{unit}/{name}"
