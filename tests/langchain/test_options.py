"""Options of a model and of a call."""

from typing import Any

import pytest
from langchain_core.tools import tool

from dpfusion_core import PrivacyParameterError
from langchain_dpfusion.options import check_call, engine_options, json_schema, openai_tools
from langchain_dpfusion.settings import ChatSettings


def test_a_call_comes_before_the_model() -> None:
    model = ChatSettings(
        epsilon=8.0,
        delta=1e-6,
        max_tokens=50,
        stop=["a"],
        temperature=0.5,
        top_k=None,
    )
    assert engine_options(model, {}, None) == {
        "epsilon": 8.0,
        "delta": 1e-6,
        "max_tokens": 50,
        "stop": ["a"],
        "temperature": 0.5,
    }
    call = {"order": 2.0, "beta": 0.1, "max_tokens": 5, "temperature": 0}
    assert engine_options(model, call, ["b"]) == {
        "order": 2.0,
        "beta": 0.1,
        "delta": 1e-6,
        "max_tokens": 5,
        "stop": ["b"],
        "temperature": 0,
    }
    assert "stop" not in engine_options(model, {}, [])


def test_tools_and_forms() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    assert (
        engine_options(ChatSettings(), {"tools": tools, "tool_choice": "required"}, None)["tool_choice"]
        == "any"
    )
    assert engine_options(ChatSettings(), {"tools": tools}, None)["tool_choice"] == "auto"
    assert engine_options(ChatSettings(), {"response_format": {"type": "json_object"}}, None)[
        "json_schema"
    ] == {"type": "object"}
    with pytest.raises(PrivacyParameterError):
        engine_options(ChatSettings(), {"tools": ["f"]}, None)


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string"}}},
            {"type": "string"},
        ),
        ({"type": "object", "properties": {}}, {"type": "object", "properties": {}}),
    ],
)
def test_forms_of_a_response_format(form: Any, schema: Any) -> None:
    assert json_schema(form) == schema


@pytest.mark.parametrize(
    "form", ["json", {"type": "json_schema"}, {"type": "json_schema", "json_schema": []}]
)
def test_bad_response_formats(form: Any) -> None:
    with pytest.raises(PrivacyParameterError, match="response_format"):
        json_schema(form)


@pytest.mark.parametrize(
    "kwargs",
    [{"context": "SECRET"}, {"epsilon": "SECRET"}, {"accounting": ["SECRET"]}, {"timeout": "SECRET"}],
)
def test_text_in_options_is_refused_without_being_quoted(kwargs: Any) -> None:
    with pytest.raises(PrivacyParameterError) as caught:
        check_call(kwargs)
    assert "SECRET" not in str(caught.value)


def test_what_langchain_passes_is_let_through() -> None:
    check_call(
        {"stream": True, "ls_structured_output_format": {}, "strict": None, "parallel_tool_calls": False}
    )
    check_call({"epsilon": None, "temperature": 0, "model": "m", "tools": [], "stop": None})


def test_tools_in_any_form() -> None:
    @tool
    def f(x: int) -> int:
        """Return it."""
        return x

    def g(y: str) -> str:
        """Return it."""
        return y

    assert [schema["function"]["name"] for schema in openai_tools([f, g])] == ["f", "g"]
    with pytest.raises(PrivacyParameterError, match="JSON schema"):
        openai_tools([3])
