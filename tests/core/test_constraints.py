"""Output in a given form, whatever the model wants to say; masks that never see private data."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from dpfusion_core import (
    FusionEngine,
    Message,
    PrivacyParameterError,
    ScriptedBackend,
    UnsupportedError,
    parse_tool_calls,
)
from dpfusion_core.constraints import Grammars, _closed
from dpfusion_core.tiny import model_path
from tests.core.models import CharTokenizer
from tests.core.toys import private_chat, secretive_backend

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"$ref": "#/$defs/Age"},
        "kind": {"enum": ["a", "b"]},
    },
    "required": ["name", "age", "kind"],
    "$defs": {"Age": {"type": "integer", "minimum": 0, "maximum": 150}},
}
TOOLS = [{"name": "save", "parameters": PERSON}, {"name": "stop"}]


def rambling_engine(seed: int = 0) -> FusionEngine:
    """A model that says something random, in public and in private, over a real tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    size = len(tokenizer) + 37  # more columns than tokens, as many models have

    def next_logits(row: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((seed, row)) % 2**31)
        return torch.randn(size, generator=generator, dtype=torch.float64)

    return FusionEngine(ScriptedBackend(next_logits, tokenizer, size, [tokenizer.eos_token_id]))


def ask(seed: int, **options: Any) -> str:
    result = rambling_engine(seed).generate(private_chat(), epsilon=8.0, max_tokens=200, **options)
    assert result.finish_reason == "stop"
    return result.text


def check_person(value: Mapping[str, Any]) -> None:
    assert list(value) == ["name", "age", "kind"]
    assert isinstance(value["name"], str)
    assert 0 <= value["age"] <= 150
    assert value["kind"] in ("a", "b")


@pytest.mark.parametrize("seed", range(8))
def test_a_model_that_rambles_keeps_to_the_schema(seed: int) -> None:
    check_person(json.loads(ask(seed, json_schema=PERSON)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("choice", ["any", "save", "stop"])
def test_a_model_that_rambles_calls_a_tool(seed: int, choice: str) -> None:
    reply = parse_tool_calls(ask(seed, tools=TOOLS, tool_choice=choice), TOOLS)
    [call] = reply.tool_calls
    assert (reply.content, reply.invalid) == ("", ())
    assert choice in ("any", call.name)
    if call.name == "save":
        check_person(call.arguments)
    else:
        assert call.arguments == {}


def test_with_tools_a_schema_leaves_room_for_calls_and_for_nothing_else() -> None:
    kinds = set()
    for seed in range(24):
        text = ask(seed, tools=TOOLS, json_schema=PERSON)
        reply = parse_tool_calls(text, TOOLS)
        kinds.add(bool(reply.tool_calls))
        if reply.tool_calls:
            assert (reply.content, reply.invalid) == ("", ())
        else:
            check_person(json.loads(text))
    assert kinds == {True, False}
    check_person(json.loads(ask(0, tools=TOOLS, tool_choice="none", json_schema=PERSON)))


def test_properties_that_a_schema_does_not_name_are_left_out_unless_it_allows_them() -> None:
    part = {"type": "object", "properties": {"a": {"type": "integer"}}}
    closed = {**part, "additionalProperties": False}
    assert _closed({"anyOf": [part, {"type": "object"}]}) == {"anyOf": [closed, {"type": "object"}]}
    assert _closed({"properties": {"properties": part}})["properties"] == {"properties": closed}
    for open_ in ({**part, "additionalProperties": {"type": "string"}}, {"allOf": [part, part]}):
        assert _closed(open_) == open_


def test_without_a_constraint_it_does_not() -> None:
    result = rambling_engine().generate(private_chat(), epsilon=8.0, max_tokens=60)
    with pytest.raises(ValueError, match=r"JSON|line|value"):
        json.loads(result.text)


def test_both_rows_are_masked_and_the_bound_holds_on_what_is_left() -> None:
    """The mask is the public row's alone: the private row gets the same one, then both are renormalised."""
    engine = rambling_engine(3)
    result = engine.generate(
        private_chat(), alpha=2.0, beta=0.01, max_tokens=200, json_schema=PERSON, curator=True
    )
    assert result.report is not None
    divergences = result.report.divergences["private"]
    assert max(divergences) <= 0.02 + 1e-12
    assert min(divergences) < 1e-12  # where the grammar forces a token nothing is lost
    assert max(divergences) > 0.019


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"type": "string", "pattern": "("}, "text", None])
def test_malformed_schemas_are_refused_before_the_model_is_asked(schema: Any) -> None:
    with pytest.raises(PrivacyParameterError, match="schema"):
        ask(0, tools=[{"name": "x", "parameters": schema or 7}], tool_choice="x")
    if schema is not None:
        with pytest.raises(PrivacyParameterError, match="schema"):
            ask(0, json_schema=schema)


def test_what_the_grammar_library_cannot_do_is_said() -> None:
    with pytest.raises(UnsupportedError, match="unevaluatedProperties"):
        ask(0, json_schema={"type": "object", "unevaluatedProperties": False})


def test_bad_choices_are_refused() -> None:
    with pytest.raises(PrivacyParameterError, match="none of the tools"):
        ask(0, tools=TOOLS, tool_choice="delete")
    with pytest.raises(PrivacyParameterError, match="no tool is given"):
        ask(0, tool_choice="any")
    with pytest.raises(PrivacyParameterError, match="exclude"):
        ask(0, tools=TOOLS, tool_choice="any", json_schema=PERSON)


def test_a_template_without_tools_and_a_slow_tokenizer_are_unsupported() -> None:
    engine = FusionEngine(secretive_backend())
    for choice in ("auto", "any"):
        with pytest.raises(UnsupportedError, match="does not show tools"):
            engine.generate([Message("user", "x")], tools=TOOLS, tool_choice=choice)
    engine.generate([Message("user", "x")], tools=TOOLS, tool_choice="none", max_tokens=1)
    with pytest.raises(UnsupportedError, match="fast tokenizer"):
        Grammars(CharTokenizer(), 100, [1]).json(PERSON)
