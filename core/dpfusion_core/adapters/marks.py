"""Marks: what the places of a message or a content block say about its privacy."""

from collections.abc import Mapping
from dataclasses import dataclass

from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as
from dpfusion_core.units import unit_id

_FLAGS = frozenset({"isprivate", "private"})


@dataclass(frozen=True)
class Marks:
    """The flags and the unit that some places of a message or block hold.

    There is one polarity. Whatever is not exactly ``False`` makes the text private, also what cannot be
    read, such as ``0`` or ``"no"``, and whatever the other places say. Only the exact key ``is_private``
    says that a text is public; a key that merely resembles it can protect, never expose.

    Attributes:
        flags: Every flag that was found.
        unit: The privacy unit that is named, if any, in the normal form of its id.
        is_stable: Whether the unit's name stays the same when the same thing comes again; False where
            a place says ``unit_is_stable: False``.

    Example:
        >>> Marks.read({"is_private": True, "unit": "doc-17"}).said
        True
        >>> Marks.read({"is_private": False}).said, Marks.read({}).said
        (False, None)
    """

    flags: tuple[bool, ...] = ()
    unit: str | None = None
    is_stable: bool = True

    @property
    def said(self) -> bool | None:
        """True: private. False: public. None: nothing was said."""
        return any(self.flags) if self.flags else None

    @classmethod
    def read(cls, *places: object) -> "Marks":
        """Read mappings that may hold marks; None is no place, anything else makes the text private.

        Raises:
            ViewError: If two units are named (two spellings of one are one), or what names a unit is no
                string, no number, or no id.
        """
        flags: list[bool] = []
        units: set[str] = set()
        is_stable = True
        for place in places:
            if place is None:
                continue
            if not isinstance(place, Mapping):
                flags.append(True)  # where a flag would stand, nothing can be read
                continue
            for key, value in place.items():
                name = str(key).lower().replace("_", "").replace("-", "")
                if name == "unitisstable":
                    is_stable = is_stable and value is True
                elif value is None:
                    continue
                elif name in _FLAGS:
                    flags += [True] if value is not False else [False] * (key == "is_private")
                elif name == "unit":
                    units.add(_unit_name(value))
        if len(units) > 1:
            raise ViewError("A message or content block names two different units. Name one.")
        return cls(tuple(flags), next(iter(units), None), is_stable)


def _unit_name(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        with errors_as(ViewError, str, only=PrivacyParameterError, ours=ViewError):
            return unit_id(value)
    raise ViewError("The unit of a message or content block must be a non-empty string.")
