"""Tools in templates, and calls in replies."""

import json

import pytest
from transformers import AutoTokenizer

from dpfusion_core import Message, PrivacyParameterError, ToolCall, ViewError, parse_tool_calls
from dpfusion_core.placeholders import fixed_placeholder
from dpfusion_core.tiny import model_path
from dpfusion_core.tool_calling import as_tool_choice, check_tools, supports_tools, visible_length
from dpfusion_core.views import render
from tests.core.models import CharTokenizer

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}},
    {"name": "now"},
]
CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'


def calls(text: str) -> list[tuple[str, object]]:
    return [(call.name, dict(call.arguments)) for call in parse_tool_calls(text, TOOLS).tool_calls]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (f"<tool_call>{CALL}</tool_call>", ""),
        (f"<tool_call>\n{CALL}\n</tool_call>", ""),
        (f"I look.\n<tool_call>{CALL}</tool_call>", "I look."),
        (f"<tool_call>{CALL}", ""),  # the end token came before the closing tag
        (f"[TOOL_CALLS] [{CALL}]", ""),
        (CALL, ""),
        (f"<|python_tag|>{CALL.replace('arguments', 'parameters')}", ""),
        (json.dumps({"name": "weather", "arguments": '{"city": "Oslo"}'}), ""),
    ],
)
def test_calls_are_found_in_every_form(text: str, content: str) -> None:
    assert calls(text) == [("weather", {"city": "Oslo"})]
    assert parse_tool_calls(text, TOOLS).content == content


def test_several_calls_keep_their_order_and_have_ids_of_their_own() -> None:
    reply = parse_tool_calls(
        f'<tool_call>{CALL}</tool_call> <tool_call>{{"name": "now", "arguments": {{}}}}</tool_call>', TOOLS
    )
    assert [call.name for call in reply.tool_calls] == ["weather", "now"]
    assert len({call.id for call in reply.tool_calls}) == 2
    assert calls(f"[TOOL_CALLS][{CALL}, {CALL}]") == [("weather", {"city": "Oslo"})] * 2


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("{", "JSON"),
        ("[]", "JSON"),
        ('{"name": "weather"}', "JSON"),
        ('{"name": "delete", "arguments": {}}', "offered"),
        ('{"name": ["weather"], "arguments": {}}', "offered"),
        ('{"name": "weather", "arguments": [1]}', "object"),
        ('{"name": "weather", "arguments": "no JSON"}', "object"),
    ],
)
def test_what_is_no_call_is_invalid_and_not_lost(body: str, error: str) -> None:
    reply = parse_tool_calls(f"<tool_call>{body}</tool_call>", TOOLS)
    assert reply.tool_calls == ()
    [invalid] = reply.invalid
    assert invalid.text == body
    assert error in invalid.error


def test_other_text_stays_as_it_is() -> None:
    for text in ("Oslo.", '{"city": "Oslo"}', "[1, 2]", " a "):
        assert parse_tool_calls(text, TOOLS).content == text
    assert parse_tool_calls(CALL, []).content == CALL  # no tool was offered


@pytest.mark.parametrize(
    "tools", [["x"], [{}], [{"name": ""}], [{"name": "a", "parameters": 1}], [{"name": "a"}] * 2]
)
def test_malformed_tools_are_refused(tools: list[object]) -> None:
    with pytest.raises(PrivacyParameterError):
        check_tools(tools)


def test_whether_a_template_shows_tools_is_tried() -> None:
    assert supports_tools(AutoTokenizer.from_pretrained(model_path()))
    assert not supports_tools(CharTokenizer())  # it takes tools and ignores them
    without = AutoTokenizer.from_pretrained(model_path())
    without.chat_template = None
    assert not supports_tools(without)
    without.chat_template = "{{ raise_exception('no') }}"
    assert not supports_tools(without)


def test_calls_and_answers_reach_the_template() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    messages = [
        Message("user", "Weather?"),
        Message("assistant", "", tool_calls=(ToolCall("weather", {"city": "Oslo"}, "c1"),)),
        Message("tool", "Rain.", is_private=True, tool_call_id="c1", name="weather"),
    ]
    prompt = render(messages, tokenizer, fixed_placeholder(), None, TOOLS)
    assert CALL in prompt
    assert '"now"' in prompt
    assert "Rain." not in prompt
    assert "Rain." in render(messages, tokenizer, fixed_placeholder(), {"private"}, TOOLS)


def test_private_messages_cannot_call_tools() -> None:
    with pytest.raises(ViewError, match="cannot call tools"):
        Message("assistant", "x", is_private=True, tool_calls=(ToolCall("weather", {"city": "secret"}),))
    with pytest.raises(ViewError, match="cannot call tools"):
        Message("assistant", [], is_private=True, tool_calls=(ToolCall("weather", {"city": "secret"}),))
    with pytest.raises(ViewError, match="ToolCall"):
        Message("assistant", "", tool_calls=({"name": "weather"},))  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", [7, {}, {"function": 1}, {"function": {"name": 1}}])
def test_a_choice_of_another_form_is_refused(choice: object) -> None:
    with pytest.raises(PrivacyParameterError, match="tool_choice"):
        as_tool_choice(choice)
    assert [as_tool_choice(c) for c in ("any", True, False, "now", {"name": "now"})] == [
        "any", "any", "auto", "now", "now",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", [f"I look. <tool_call>{CALL}</tool_call>", f"So: [TOOL_CALLS] [{CALL}]", CALL, "a < b [c] {d}"]
)
def test_a_stream_never_shows_a_part_of_a_call(text: str) -> None:
    content = parse_tool_calls(text, TOOLS).content
    shown = 0
    for end in range(len(text) + 1):
        shown = max(shown, visible_length(text[:end]))
        assert content.startswith(text[:shown])
    assert shown >= len(content) - 2
