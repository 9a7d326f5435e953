"""Which calls are answered by choices, and which are written."""

from typing import Any

import pytest

from dpfusion_core import FusionEngine, Message, ScriptedBackend
from dpfusion_core.adapters import Closed, closed_answer
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.placeholders import fixed_placeholder
from dpfusion_core.tool_calling import parse_tool_calls
from dpfusion_core.views import build_views

RECORD, ASK = Message("user", "Ann lies in ward B.", is_private=True), Message("user", "Where?")
CLOSED = {"properties": {"ward": {"enum": ["A", "B"]}}}
OPEN = {"properties": {"ward": {"enum": ["A", "B"]}, "note": {"type": "string"}}}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}


def tool(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


FILL, FREE, NOW = tool("fill", CLOSED), tool("free", OPEN), tool("now", NOTHING)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, None),
        ({"json_schema": CLOSED}, Closed(schema=CLOSED)),
        ({"json_schema": OPEN}, None),
        ({"json_schema": {"type": "object"}}, None),
        ({"json_schema": {"type": "array"}}, None),
        ({"tools": [FILL], "tool_choice": "fill"}, Closed(schema=CLOSED, tool="fill")),
        ({"tools": [FILL], "tool_choice": "any"}, Closed(schema=CLOSED, tool="fill")),
        ({"tools": [FILL, FREE], "tool_choice": "fill"}, Closed(schema=CLOSED, tool="fill")),
        ({"tools": [FILL, FREE], "tool_choice": "free"}, None),
        ({"tools": [FILL, FREE], "tool_choice": "any"}, None),  # which tool, is a question of its own
        ({"tools": [FILL], "tool_choice": "auto"}, None),
        ({"tools": [FILL], "tool_choice": "none"}, None),
        ({"tools": [FILL]}, None),
        ({"tools": [NOW], "tool_choice": "any"}, None),
        ({"tools": [FILL], "tool_choice": "fill", "json_schema": CLOSED}, None),
    ],
    ids=str,
)
def test_forms_that_leave_few_answers_are_chosen(options: Any, found: Closed | None) -> None:
    assert closed_answer([RECORD, ASK], options) == found
    assert closed_answer([ASK], options) is None  # in public the grammar costs nothing


def test_choices_are_choices_in_public_too_and_are_checked() -> None:
    assert closed_answer([ASK], {}, ["A", "B"]) == Closed(choices=("A", "B"))
    with pytest.raises(PrivacyParameterError, match="at least two"):
        closed_answer([ASK], {}, [])


def test_ready_views_are_written() -> None:
    views = build_views([RECORD, ASK], ScriptedBackend.saying("x").tokenizer, fixed_placeholder())
    assert closed_answer(views, {"json_schema": CLOSED}) is None


def test_the_answer_reads_as_the_model_would_have_written_it() -> None:
    engine = FusionEngine(ScriptedBackend.saying("B"))
    text = '{"ward": "B"}'
    options: Any = {"epsilon": 20.0, "max_tokens": 5, "top_k": 2, "stop": ["B"], "spending": "capped"}
    chunk = Closed(schema=CLOSED).answer(engine, [RECORD, ASK], options)
    assert chunk.text == text
    assert chunk.finish_reason == "stop"
    assert chunk.guarantee is not None
    assert chunk.guarantee.mechanism == "choice"
    assert chunk.prompt_tokens is not None
    assert chunk.prompt_tokens > 10
    called = Closed(schema=CLOSED, tool='fi"ll').answer(engine, [RECORD, ASK], options)
    (call,) = parse_tool_calls(called.text, [tool('fi"ll', CLOSED)]).tool_calls
    assert (call.name, call.arguments) == ('fi"ll', {"ward": "B"})


def test_a_choice_that_somebody_asks_for_reads_its_options() -> None:
    engine = FusionEngine(ScriptedBackend.saying("B"))
    with pytest.raises(PrivacyParameterError, match="no effect on a choice"):
        Closed(choices=("A", "B")).answer(engine, [RECORD, ASK], {"epsilon": 20.0, "max_tokens": 5})
