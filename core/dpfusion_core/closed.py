"""Which fields of a schema are closed: whose value is one of few that the schema itself names.

A closed field is answered by a choice, which costs what a token costs. An open one is text or a number without
limits: it has to be written.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, Required, get_args, get_origin, get_type_hints, is_typeddict

from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, errors_as

MOST_INTEGERS = 101
"""An integer is closed if its limits leave so many values at most: 0 to 100."""

_DEEPEST = 8
_YES_NO = {"yes": True, "no": False}


@dataclass(frozen=True, eq=False)
class ClosedField:
    """A question with few answers: a field, or whether an array has one of its possible members.

    Attributes:
        path: Keys from the outermost object to the field.
        values: What the field can be, by the text of the choice.
        description: What the schema says of it; empty if nothing.
        member: Of an array: the text of the member that is asked about; the values are then True and False.
        member_value: Of an array: that member.
    """

    path: tuple[str, ...]
    values: Mapping[str, Any]
    description: str = ""
    member: str | None = None
    member_value: Any = None

    @property
    def name(self) -> str:
        """The path with dots, and the member behind it: ``patient.symptoms[cough]``."""
        return ".".join(self.path) + ("" if self.member is None else f"[{self.member}]")

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts between which the model chooses."""
        return tuple(self.values)


@dataclass(frozen=True)
class ClosedFields:
    """The fields of a schema, sorted by whether they can be chosen.

    Attributes:
        schema: The JSON schema.
        closed: Questions in the order of the schema; each is one choice.
        open: Names of the fields that must be written, with dots.
        given: Values that the schema leaves no choice about, by path.
    """

    schema: Mapping[str, Any]
    closed: tuple[ClosedField, ...]
    open: tuple[str, ...]
    given: Mapping[tuple[str, ...], Any]

    @property
    def is_closed(self) -> bool:
        """Whether every field can be chosen."""
        return not self.open

    def build(self, answers: Sequence[str]) -> dict[str, Any]:
        """Return the object with one chosen text for each question, in their order. Open fields are left out.

        Example:
            >>> fields = closed_fields({"properties": {"ill": {"type": "boolean"}, "ward": {"enum": ["A", "B"]}}})
            >>> fields.build(["yes", "B"])
            {'ill': True, 'ward': 'B'}
        """
        found: dict[str, Any] = {}
        for path, value in self.given.items():
            _put(found, path, value)
        for field, answer in zip(self.closed, answers, strict=True):
            value = field.values[answer]
            if field.member is None:
                _put(found, field.path, value)
            else:
                _put(found, field.path, [field.member_value] if value else [], is_more=True)
        return found


def closed_fields(schema: Any) -> ClosedFields:
    """Return which fields of a schema are closed, with their choices, and which are open.

    Closed are enums, Literals, booleans, integers between limits that leave at most 101 values, a union of
    those (null is ``none``), objects of closed fields, and arrays of enums or Literals: of these each possible
    member is a question of its own, and the members stand in the order of the schema. An array whose number of
    members is limited is open: single answers could not keep to the limits.

    Args:
        schema: A JSON schema of an object, a Pydantic class, or a TypedDict.

    Raises:
        PrivacyParameterError: If it is none of these, or has no fields, or two values of a field read alike.
        UnsupportedError: If a type of a TypedDict has no JSON schema.

    Example:
        >>> fields = closed_fields({"properties": {"ward": {"enum": ["A", "B"]}, "note": {"type": "string"}}})
        >>> [field.name for field in fields.closed], fields.open
        (['ward'], ('note',))
    """
    whole = as_json_schema(schema)
    found = _Reader(whole)
    found.read(whole, (), 0)
    if not (found.closed or found.open or found.given):
        raise PrivacyParameterError("The schema has no fields: an object with properties is expected.")
    return ClosedFields(whole, tuple(found.closed), tuple(found.open), found.given)


def as_json_schema(schema: Any) -> dict[str, Any]:
    """Return the JSON schema of an object, from whatever says it.

    Raises:
        PrivacyParameterError: If it is no JSON schema of an object, Pydantic class or TypedDict.
        UnsupportedError: If a type of a TypedDict has no JSON schema.
    """
    if isinstance(schema, Mapping):
        found = dict(schema)
    elif is_typeddict(schema):
        found = _of_typed_dict(schema)
    elif isinstance(schema, type) and hasattr(schema, "model_json_schema"):
        with errors_as(UnsupportedError, "The Pydantic class has no JSON schema ({error})."):
            found = schema.model_json_schema()
    else:
        raise PrivacyParameterError(
            "Expected a schema as a JSON schema (a mapping), a Pydantic class or a TypedDict."
        )
    if not isinstance(_Reader(found).resolved(found).get("properties"), Mapping):
        raise PrivacyParameterError("The schema has no fields: an object with properties is expected.")
    return found


class _Reader:
    """Sorts the fields of one schema."""

    def __init__(self, whole: Mapping[str, Any]) -> None:
        self._whole = whole
        self.closed: list[ClosedField] = []
        self.open: list[str] = []
        self.given: dict[tuple[str, ...], Any] = {}

    def read(self, schema: Any, path: tuple[str, ...], depth: int) -> None:
        """Read what stands at a path."""
        said = self.resolved(schema)
        properties = said.get("properties")
        if isinstance(properties, Mapping) and "patternProperties" not in said and depth < _DEEPEST:
            for name, each in properties.items():
                self.read(each, (*path, str(name)), depth + 1)
            return
        about = str(said.get("description") or "")
        values = self._values(said)
        if values is None:
            members = self._members(said)
            if members is None:
                self.open.append(".".join(path))
            for text, member in (members or {}).items():
                self.closed.append(ClosedField(path, _YES_NO, about, text, member))
        elif len(values) == 1:
            self.given[path] = next(iter(values.values()))
        else:
            self.closed.append(ClosedField(path, values, about))

    def resolved(self, schema: Any) -> Mapping[str, Any]:
        """Return a schema with its reference followed; what stands beside the reference wins."""
        said: dict[str, Any] = dict(schema) if isinstance(schema, Mapping) else {}
        for _ in range(_DEEPEST):
            parts = said.get("allOf")
            if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], Mapping):
                said = {**parts[0], **{key: value for key, value in said.items() if key != "allOf"}}
            reference = said.pop("$ref", None)
            if not isinstance(reference, str):
                break
            said = {**self._at(reference), **said}
        return said

    def _at(self, reference: str) -> Mapping[str, Any]:
        place: Any = self._whole
        for key in reference.removeprefix("#/").split("/"):
            place = place.get(key) if isinstance(place, Mapping) else None
        if not reference.startswith("#/") or not isinstance(place, Mapping):
            raise PrivacyParameterError("The schema refers to a place that it does not have.")
        return place

    def _values(self, said: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the values of a closed field by their texts; None if it is open."""
        kind = said.get("type")
        for key in ("anyOf", "oneOf"):
            if isinstance(said.get(key), list):
                parts = [self._values(self.resolved(part)) for part in said[key]]
                if any(part is None for part in parts):
                    return None
                return _joined([(text, value) for part in parts for text, value in (part or {}).items()])
        if "const" in said:
            return _joined([(_text(said["const"]), said["const"])])
        if isinstance(said.get("enum"), list):
            if not all(each is None or isinstance(each, str | int | float) for each in said["enum"]):
                return None
            return _joined([(_text(each), each) for each in said["enum"]])
        if kind == "boolean":
            return dict(_YES_NO)
        if kind == "null":
            return {_text(None): None}
        if kind == "integer":
            return _integers(said)
        return None

    def _members(self, said: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what can be in an array by its text; None if each cannot be asked about on its own."""
        is_plain = said.get("type") == "array" and isinstance(said.get("items"), Mapping)
        if not is_plain or said.keys() & {"minItems", "maxItems", "contains", "prefixItems"}:
            return None
        items = self.resolved(said["items"])
        return self._values(items) if {"enum", "const"} & items.keys() else None


def _integers(said: Mapping[str, Any]) -> dict[str, Any] | None:
    low, high, step = said.get("minimum"), said.get("maximum"), said.get("multipleOf", 1)
    if low is None and isinstance(said.get("exclusiveMinimum"), int):
        low = said["exclusiveMinimum"] + 1
    if high is None and isinstance(said.get("exclusiveMaximum"), int):
        high = said["exclusiveMaximum"] - 1
    if not (isinstance(low, int) and isinstance(high, int) and isinstance(step, int) and step > 0):
        return None
    values = range(-(-low // step) * step, high + 1, step)  # from the first multiple on
    return {str(each): each for each in values} if 0 < len(values) <= MOST_INTEGERS else None


def _text(value: Any) -> str:
    """Return how a value is written as an answer."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def _joined(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return values by their texts, or raise if two read alike."""
    found: dict[str, Any] = {}
    for text, value in pairs:
        if text in found and found[text] is not value and found[text] != value:
            raise PrivacyParameterError(
                f"Two values of a field are both written {text[:40]!r}. Name them in different words."
            )
        found[text] = value
    return found


def _of_typed_dict(schema: Any) -> dict[str, Any]:
    needed = "A TypedDict needs pydantic to say its types as a JSON schema: pip install pydantic"
    with errors_as(UnsupportedError, needed, only=ImportError):
        from pydantic import TypeAdapter
    properties: dict[str, Any] = {}
    for name, stated in get_type_hints(schema, include_extras=True).items():
        said: dict[str, Any] = {}
        hint = get_args(stated)[0] if get_origin(stated) in (Required, NotRequired) else stated
        words = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, str)]
        if words:  # Annotated, with its description in LangChain's way
            said, hint = {"description": words[-1]}, hint.__origin__
        if is_typeddict(hint):
            properties[name] = {**_of_typed_dict(hint), **said}
            continue
        with errors_as(UnsupportedError, f"The type of {name!r} has no JSON schema ({{error}})."):
            properties[name] = {**_inlined(TypeAdapter(hint).json_schema()), **said}
    return {"type": "object", "properties": properties, "required": sorted(schema.__required_keys__)}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Put definitions where they are referred to: a field's own would not be found from the whole."""
    reader = _Reader(schema)

    def walk(value: Any) -> Any:
        if isinstance(value, Mapping):
            if "$ref" in value:
                value = reader.resolved(value)
            return {key: walk(each) for key, each in value.items() if key != "$defs"}
        return [walk(each) for each in value] if isinstance(value, list) else value

    found: dict[str, Any] = walk(schema)
    return found


def _put(found: dict[str, Any], path: tuple[str, ...], value: Any, *, is_more: bool = False) -> None:
    for key in path[:-1]:
        found = found.setdefault(key, {})
    found[path[-1]] = found.get(path[-1], []) + value if is_more else value
