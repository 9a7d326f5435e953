"""Which fields of a schema are closed, in every form in which a schema is said."""

import enum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from pydantic import BaseModel, Field

from dpfusion_core import PrivacyParameterError, UnsupportedError, closed_fields


class Ward(enum.Enum):
    NORTH = "north"
    SOUTH = "south"


class Patient(BaseModel):
    age: Literal["child", "adult"] = Field(description="Is the patient a child or an adult?")
    score: int = Field(ge=0, le=3)


class Record(BaseModel):
    ward: Ward
    ill: bool
    outcome: Literal["well", "dead"] | None = None
    symptoms: list[Literal["cough", "fever"]]
    patient: Patient
    kind: Literal["record"] = "record"


class Mixed(BaseModel):
    ill: bool
    note: str
    patients: list[Patient]
    weight: float
    count: int
    pair: Annotated[list[Literal["a", "b"]], Field(min_length=1)]


class Part(TypedDict):
    ward: Ward


class Typed(TypedDict):
    ill: Annotated[bool, ..., "Is she ill?"]
    part: Part
    score: NotRequired[Annotated[int, Field(ge=1, le=2)]]
    tags: list[Literal["x", "y"]]


def test_pydantic_classes() -> None:
    fields = closed_fields(Record)
    assert fields.is_closed
    assert [(each.name, each.choices) for each in fields.closed] == [
        ("ward", ("north", "south")),
        ("ill", ("yes", "no")),
        ("outcome", ("well", "dead", "none")),
        ("symptoms[cough]", ("yes", "no")),
        ("symptoms[fever]", ("yes", "no")),
        ("patient.age", ("child", "adult")),
        ("patient.score", ("0", "1", "2", "3")),
    ]
    assert fields.closed[5].description == "Is the patient a child or an adult?"
    value = fields.build(["south", "no", "none", "yes", "no", "adult", "3"])
    assert value == {
        "kind": "record",
        "ward": "south",
        "ill": False,
        "outcome": None,
        "symptoms": ["cough"],
        "patient": {"age": "adult", "score": 3},
    }
    assert Record.model_validate(value).ward is Ward.SOUTH


def test_open_fields_are_named() -> None:
    fields = closed_fields(Mixed)
    assert [each.name for each in fields.closed] == ["ill"]
    assert fields.open == ("note", "patients", "weight", "count", "pair")


def test_typed_dicts() -> None:
    fields = closed_fields(Typed)
    assert [(each.name, each.choices) for each in fields.closed] == [
        ("ill", ("yes", "no")),
        ("part.ward", ("north", "south")),
        ("score", ("1", "2")),
        ("tags[x]", ("yes", "no")),
        ("tags[y]", ("yes", "no")),
    ]
    assert fields.closed[0].description == "Is she ill?"


def test_a_field_that_refers_to_itself_ends() -> None:
    schema = {
        "properties": {"next": {"$ref": "#/$defs/Node"}},
        "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}, "on": {"type": "boolean"}}}},
    }
    assert not closed_fields(schema).is_closed


@pytest.mark.parametrize(
    ("said", "choices"),
    [
        ({"type": "integer", "minimum": 3, "exclusiveMaximum": 6}, ("3", "4", "5")),
        ({"type": "integer", "minimum": -1, "maximum": 9, "multipleOf": 5}, ("0", "5")),
        ({"type": "integer", "minimum": 0, "maximum": 100}, tuple(map(str, range(101)))),
        ({"type": "integer", "minimum": 0, "maximum": 101}, None),
        ({"type": "integer", "minimum": 0, "maximum": 10**9}, None),
        ({"type": "integer", "minimum": 0}, None),
        ({"enum": ["a", 1, 2.5, None]}, ("a", "1", "2.5", "none")),
        ({"enum": ["a", {}]}, None),
        ({"anyOf": [{"enum": ["a"]}, {"type": "boolean"}]}, ("a", "yes", "no")),
        ({"anyOf": [{"enum": ["a"]}, {"type": "string"}]}, None),
        ({"allOf": [{"enum": ["a", "b"]}]}, ("a", "b")),
        ({"type": "number", "minimum": 0, "maximum": 1}, None),
        ({}, None),
        (True, None),
    ],
    ids=str,
)
def test_kinds_of_fields(said: Any, choices: tuple[str, ...] | None) -> None:
    fields = closed_fields({"properties": {"x": said}})
    assert fields.open == (() if choices else ("x",))
    assert [each.choices for each in fields.closed] == ([choices] if choices else [])


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (None, "Expected a schema"),
        ("record", "Expected a schema"),
        ({}, "no fields"),
        ({"properties": {}}, "no fields"),
        ({"enum": ["a", "b"]}, "no fields"),
        ({"properties": {"x": {"enum": ["yes", True]}}}, "both written 'yes'"),
        ({"properties": {"x": {"$ref": "#/$defs/None"}}}, "does not have"),
        ({"properties": {"x": {"$ref": "http://elsewhere"}}}, "does not have"),
        (int, "Expected a schema"),
    ],
    ids=str,
)
def test_what_is_no_schema_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        closed_fields(schema)


def test_a_type_without_a_schema() -> None:
    class Odd(TypedDict):
        x: pytest.MonkeyPatch

    with pytest.raises(UnsupportedError, match="'x' has no JSON schema"):
        closed_fields(Odd)
