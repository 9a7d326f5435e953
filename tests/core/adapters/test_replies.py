"""A reply as its chunks come: nothing of a call is shown, and nothing that was shown is taken back."""

from typing import Any

import pytest

from dpfusion_core import FusionEngine, Message, ScriptedBackend
from dpfusion_core.adapters import PrivateTexts, Reply, offered_tools, replies
from dpfusion_core.errors import BackendError
from dpfusion_core.generation import Chunk, GenerationResult

CALL = '{"name": "find", "arguments": {"name": "Ann"}}'
TOOLS = [{"name": "find", "parameters": {"type": "object"}}]
ANN = "Ann Roe of Trondheim has had the gout since May."


def answered(text: str, *, is_private: bool = True, **options: Any) -> tuple[GenerationResult, list[Chunk]]:
    engine = FusionEngine(ScriptedBackend.saying(text))
    messages = [Message("user", ANN, is_private=is_private)]
    options |= {"epsilon": 8.0} if is_private else {}
    return engine.generate(messages, **options), list(engine.stream(messages, **options))


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> PrivateTexts:
    """A memory of its own in the place of the process's."""
    memory = PrivateTexts()
    monkeypatch.setattr(replies, "seen", memory)
    return memory


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("They are well, both of them.", "They are well, both of them.", []),
        (f"Let me see. <tool_call>{CALL}</tool_call>", "Let me see.", ["find"]),
        (f"<tool_call>{CALL}</tool_call> And this: <tool_call>{CALL}</tool_call>", "And this:", ["find"] * 2),
        (CALL, "", ["find"]),
        (f"It is a < b. [TOOL_CALLS] [{CALL}]", "It is a < b.", ["find"]),
        ("{Ann} is well", "{Ann} is well", []),
        ("Almost <tool_cal", "Almost <tool_cal", []),
    ],
)
def test_pieces_are_the_whole_and_never_of_a_call(text: str, content: str, calls: list[str]) -> None:
    result, chunks = answered(text)
    whole, pieces = Reply(TOOLS), Reply(TOOLS)
    assert whole.add(result) == content
    shown = [pieces.add(chunk) for chunk in chunks]
    assert "".join(shown) == pieces.shown == content
    assert not any("find" in piece or "TOOL" in piece for piece in shown)
    for reply in (whole, pieces):
        assert [call.name for call in reply.finished.tool_calls] == calls
        assert (reply.finished.text, reply.finished.content) == (text, content)
        assert reply.finished.finish_reason == ("tool_calls" if calls else "stop")


def test_a_call_has_one_id_however_often_one_asks() -> None:
    reply = Reply(TOOLS)
    reply.add(answered(CALL)[0])
    assert reply.finished.tool_calls[0].id == reply.finished.tool_calls[0].id


def test_what_was_shown_stands_whatever_follows() -> None:
    """The text around a call is put together anew: what was shown in the meantime is not taken back."""
    reply = Reply(TOOLS)
    assert reply.add(Chunk("Well ")) == "Well"
    reply.shown = "Well, then"  # as if more had been shown
    last = answered("Well")[1][-1]
    assert reply.add(last) == ""
    assert reply.shown == "Well, then"


def test_without_tools_nothing_is_held_back() -> None:
    result, chunks = answered(f"So <tool_call>{CALL}")
    reply = Reply(offered_tools({"tools": TOOLS, "tool_choice": "none"}))
    assert "".join(reply.add(chunk) for chunk in chunks) == result.text
    assert reply.finished.finish_reason == "stop"
    assert offered_tools({}) == ()
    assert offered_tools({"tools": TOOLS, "tool_choice": "auto"}) == TOOLS


def test_a_reply_without_its_last_chunk_is_not_finished() -> None:
    reply = Reply()
    reply.add(Chunk("They"))
    assert not reply.is_finished
    with pytest.raises(BackendError, match="without its last chunk"):
        _ = reply.finished


@pytest.mark.parametrize(
    ("options", "is_private", "is_public"),
    [({}, True, True), ({"seed": 1}, True, False), ({}, False, False)],
    ids=["under a guarantee", "with a seed", "with nothing private"],
)
def test_only_a_guarantee_makes_a_quotation_public(
    net: PrivateTexts, options: dict[str, Any], is_private: bool, is_public: bool
) -> None:
    net.remember(ANN)
    reply = Reply()
    reply.add(answered(ANN, is_private=is_private, **options)[0])
    assert net.holds(ANN) is not is_public
    assert reply.finished.is_released is is_public
