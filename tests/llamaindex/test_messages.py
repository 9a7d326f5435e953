from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from dpfusion_core.adapters import seen
from dpfusion_core.errors import RefusedError, UnsupportedError, ViewError
from dpfusion_core.messages import DEFAULT_UNIT, Segment, ToolCall
from llamaindex_dpfusion.prompts.messages import prompt_views, shown, to_core
from llamaindex_dpfusion.prompts.segments import Rule
from llamaindex_dpfusion.seals.sealer import sealer


def units(message: ChatMessage, **options: Any) -> set[str | None]:
    return {segment.unit for segment in to_core([message], Rule(**options))[0].segments}


@pytest.mark.parametrize(
    ("role", "unit"),
    [
        ("user", None),
        ("assistant", None),
        ("model", None),
        ("chatbot", None),
        ("system", None),
        ("developer", None),
        ("tool", DEFAULT_UNIT),
        ("function", DEFAULT_UNIT),
    ],
)
def test_who_is_public_by_default(role: str, unit: str | None) -> None:
    assert units(ChatMessage("Hello.", role=role)) == {unit}


def test_every_role_of_llama_index_is_known() -> None:
    for role in MessageRole:
        assert to_core([ChatMessage("Hello.", role=role)])


@pytest.mark.parametrize(
    ("flag", "unit"),
    [(True, DEFAULT_UNIT), (False, None), ("yes", DEFAULT_UNIT), (0, DEFAULT_UNIT), ("", DEFAULT_UNIT)],
)
@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_a_flag_says_what_a_message_is(role: str, flag: Any, unit: str | None) -> None:
    assert units(ChatMessage("Hello.", role=role, additional_kwargs={"is_private": flag})) == {unit}


def test_a_flagged_message_may_name_its_unit() -> None:
    message = ChatMessage("Hello.", additional_kwargs={"is_private": True, "unit": "ann"})
    assert units(message) == {"ann"}
    message.additional_kwargs["unit"] = 17
    assert units(message) == {"17"}
    message.additional_kwargs["unit"] = ["ann"]
    with pytest.raises(ViewError, match="unit"):
        units(message)


@pytest.mark.parametrize("role", ["user", "system", "assistant"])
def test_the_rule_says_what_a_message_without_a_flag_is(role: str) -> None:
    message = ChatMessage("Be brief.", role=role)
    assert units(message, unmarked="public") == {None}
    assert units(message, unmarked="private") == {DEFAULT_UNIT}
    with pytest.raises(RefusedError, match="is_private=False"):
        units(message, unmarked="strict")
    with pytest.raises(RefusedError, match="nothing in this call is marked private"):
        units(message, unmarked="error")


def test_an_answer_of_ours_is_public_under_every_rule() -> None:
    answer = ChatMessage("It is so.", role="assistant", additional_kwargs={"dp_fusion": {"epsilon": 8.0}})
    for unmarked in ("public", "private", "strict", "error"):
        assert units(answer, unmarked=unmarked) == {None}


@pytest.mark.parametrize(
    "message",
    [
        ChatMessage("Observation: Ann is ill.", role="user"),
        ChatMessage("Thought: I look.\nAction: x\n Observation: Ann is ill.\nAnswer: ill", role="assistant"),
        ChatMessage("Ann is ill.", role="assistant", additional_kwargs={"tool_call_id": "1"}),
        ChatMessage("Ann is ill.", role="tool", additional_kwargs={"tool_call_id": "1"}),
    ],
)
def test_what_a_tool_has_said_is_private_in_whosever_message(message: ChatMessage) -> None:
    for unmarked in ("public", "private", "strict", "error"):
        assert units(message, unmarked=unmarked) == {DEFAULT_UNIT}


@pytest.mark.parametrize(
    "component",
    [
        ChatMessage("<memory>\n<v>\nuser: {talk}\n</v>\n</memory>", role="system"),
        ChatMessage("<memory>{talk}</memory>", role="user"),
        ChatMessage('"Transcript so far: USER: {talk}"', role="user"),
    ],
)
def test_what_a_memory_repeats_of_the_talk_may_be_asked_again(component: ChatMessage) -> None:
    question = "What does the record say of the patient who lives in Oslo?"
    memory = ChatMessage((component.content or "").format(talk=question), role=component.role)
    for _ in range(2):
        _, asked = to_core([memory, ChatMessage(question)], Rule(unmarked="public"))
        assert not asked.units
    record = "The patient Ann Berg has lived in Oslo since the year 1973."
    to_core([ChatMessage(f"Observation: {record}")], Rule(unmarked="public"))  # what a tool has said is known
    with pytest.raises(RefusedError, match="mark was lost"):
        to_core([ChatMessage(record)], Rule(unmarked="public"))


def test_sealed_text_keeps_its_unit_in_any_message() -> None:
    for role in MessageRole:
        text = sealer.seal("Ann is ill.", "ann").text
        assert "ann" in units(ChatMessage(f"Text {text}", role=role))


def test_a_damaged_seal_makes_a_public_message_private() -> None:
    text = sealer.seal("Ann is ill.", "ann").text[:-1]
    assert units(ChatMessage(f"Text {text}")) == {DEFAULT_UNIT}


@pytest.mark.parametrize(
    "block", [ImageBlock(url="http://x/y.png"), AudioBlock(url="http://x"), DocumentBlock(url="http://x")]
)
def test_media_are_refused(block: Any) -> None:
    with pytest.raises(UnsupportedError, match=type(block).__name__):
        to_core([ChatMessage(role="user", blocks=[TextBlock(text="See:"), block])])


def test_calls_of_tools_come_through() -> None:
    blocks = [
        ThinkingBlock(content="hm"),
        TextBlock(text="I look."),
        ToolCallBlock(tool_call_id="7", tool_name="find", tool_kwargs={"q": "x"}),
    ]
    call, answer = to_core(
        [
            ChatMessage(role="assistant", blocks=blocks),
            ChatMessage("Found.", role="tool", additional_kwargs={"tool_call_id": "7"}),
        ]
    )
    assert call.tool_calls == (ToolCall("find", {"q": "x"}, "7"),)
    assert call.segments[0].text == "I look."
    assert answer.tool_call_id == "7"


def test_the_arguments_of_a_call_are_text_like_any_other() -> None:
    def calling(**flags: Any) -> ChatMessage:
        blocks = [ToolCallBlock(tool_call_id="7", tool_name="find", tool_kwargs={"q": ["Ann is very ill."]})]
        return ChatMessage(role="assistant", blocks=blocks, additional_kwargs=flags)

    for message, unmarked in [(calling(is_private=True), "public"), (calling(), "private")]:
        with pytest.raises(ViewError, match="cannot call tools"):
            units(message, unmarked=unmarked)
    with pytest.raises(RefusedError, match="is_private=False"):
        units(calling(), unmarked="strict")
    for unmarked in ("public", "private", "strict"):
        assert units(calling(is_private=False), unmarked=unmarked) == set()
        assert units(calling(dp_fusion={"epsilon": 8.0}), unmarked=unmarked) == set()
    seen.remember("Ann is very ill.")
    with pytest.raises(RefusedError, match="mark was lost"):
        units(calling(), unmarked="public")


def test_an_empty_message_is_no_error() -> None:
    assert to_core([ChatMessage("", role="tool"), ChatMessage(role="assistant")])[0].segments == ()


def test_additional_kwargs_do_not_reach_the_model() -> None:
    [message] = to_core([ChatMessage("Hello.", additional_kwargs={"secret": "x", "is_private": False})])
    assert [s.text for s in message.segments] == ["Hello."]


def test_traces_see_placeholders() -> None:
    messages = to_core([ChatMessage("Ann.", additional_kwargs={"is_private": True}), ChatMessage("Who?")])
    assert [m.content for m in shown(messages, lambda segment: "____")] == ["____", "Who?"]


class Words:
    bos_token = "<s>"

    def __call__(
        self, text: str, add_special_tokens: bool = True, verbose: bool = True
    ) -> dict[str, list[int]]:
        ids = [sum(map(ord, word)) for word in text.split()]
        return {"input_ids": ([1] if add_special_tokens else []) + ids}


def test_a_ready_prompt_never_begins_twice() -> None:
    def placeholder(segment: Segment) -> str:
        return "____"

    tokenizer: Any = Words()
    assert prompt_views([Segment("a b")], tokenizer, placeholder).public[0] == 1
    assert prompt_views([Segment("<s> a b")], tokenizer, placeholder).public.count(1) == 0
    views = prompt_views([Segment("a "), Segment("x", True, "u"), Segment(" b")], tokenizer, placeholder)
    assert views.units == ("u",)
    assert views.private["u"] != views.public
