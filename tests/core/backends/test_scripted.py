"""The public scripted model says what it is told, through everything else that is real."""

import pytest

from dpfusion_core import BackendError, FusionEngine, Message, ScriptedBackend

SECRET = "The code word is Zanzibar."
CONVERSATION = [
    Message("user", SECRET, is_private=True, unit="memo-1"),
    Message("user", "What does the memo say?"),
]


def test_it_says_its_text_and_ends() -> None:
    result = FusionEngine(ScriptedBackend.saying("It says hello.")).generate(CONVERSATION, epsilon=8.0)
    assert result.text == "It says hello."
    assert result.finish_reason == "stop"
    assert result.guarantee.units == 1


def test_it_remembers_what_every_view_showed() -> None:
    backend = ScriptedBackend.saying("Yes.")
    FusionEngine(backend).generate(CONVERSATION, epsilon=8.0)
    [(public, private)] = backend.requests
    assert SECRET not in public
    assert SECRET in private
    assert "What does the memo say?" in public


def test_a_function_answers_each_view_by_what_it_shows() -> None:
    """What the private view alone wants to say is kept back: the fusion is real."""
    backend = ScriptedBackend.saying(lambda prompt: "Zanzibar" if "Zanzibar" in prompt else "Nothing.")
    engine = FusionEngine(backend)
    assert engine.generate(CONVERSATION, epsilon=8.0, max_tokens=20).text == "Nothing."
    plain = engine.generate([Message("user", SECRET), Message("user", "What?")], temperature=0.0)
    assert plain.text == "Zanzibar"


def test_it_goes_on_with_a_message_of_the_assistant() -> None:
    backend = ScriptedBackend.saying("the end.")
    result = FusionEngine(backend).generate([*CONVERSATION, Message("assistant", "This is ")], epsilon=8.0)
    assert result.text == "the end."


def test_a_grammar_can_force_other_tokens() -> None:
    backend = ScriptedBackend.saying('{"name": "Bo"}')
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    result = FusionEngine(backend).generate(CONVERSATION, epsilon=8.0, json_schema=schema, max_tokens=40)
    assert result.text.replace(" ", "") == '{"name":"Bo"}'


def test_sessions_are_counted_and_closed() -> None:
    backend = ScriptedBackend.saying("Yes.")
    stream = FusionEngine(backend).stream(CONVERSATION, epsilon=8.0)
    next(stream)
    assert backend.open_sessions == 1
    stream.close()
    assert backend.open_sessions == 0
    session = backend.open([(1,)])
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.logits()
