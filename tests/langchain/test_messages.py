"""Where ``is_private`` and ``unit`` are read, and what is refused."""

import pickle
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.load import dumpd, load
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
    merge_message_runs,
    message_to_dict,
    messages_from_dict,
    trim_messages,
)
from langchain_core.prompts import ChatPromptTemplate, HumanMessagePromptTemplate, MessagesPlaceholder
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from dpfusion_core import Message, Segment, ToolCall, UnsupportedError, ViewError
from dpfusion_core.adapters import Unmarked
from dpfusion_core.errors import RefusedError
from dpfusion_core.messages import DEFAULT_UNIT
from langchain_dpfusion import PrivateDocumentFormatter, private_template
from langchain_dpfusion.conversation import admit
from langchain_dpfusion.marked_messages import mark_private, private_block
from langchain_dpfusion.reading import has_private, hide, read, to_core

FLAG: dict[str, Any] = {"is_private": True}


def one(message: BaseMessage, unmarked: Unmarked = "public") -> Message:
    (translated,) = to_core([message], unmarked)
    return translated


def privacy(message: BaseMessage, unmarked: Unmarked = "public") -> list[bool]:
    return [segment.is_private for segment in one(message, unmarked).segments]


class Flagged(HumanMessage):
    is_private: bool = True


class Unreadable:
    def __bool__(self) -> bool:
        raise RuntimeError("no")


PLACES = {
    "additional_kwargs": HumanMessage("x", additional_kwargs=FLAG),
    "response_metadata": AIMessage("x", response_metadata=FLAG),
    "attribute": HumanMessage("x", is_private=True),
    "field of a subclass": Flagged(content="x"),
    "extras of a block": HumanMessage([{"type": "text", "text": "x", "extras": FLAG}]),
    "block itself": HumanMessage([{"type": "text", "text": "x", **FLAG}]),
    "message over blocks": HumanMessage(["x"], additional_kwargs=FLAG),
    "message over a block that says public": HumanMessage(
        [{"type": "text", "text": "x", "extras": {"is_private": False}}], additional_kwargs=FLAG
    ),
    "one place against another": HumanMessage(
        "x", additional_kwargs={"is_private": False}, response_metadata=FLAG
    ),
    "extras against the block": HumanMessage(
        [{"type": "text", "text": "x", "is_private": False, "extras": FLAG}]
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_one_true_value_anywhere_makes_a_message_private(place: str) -> None:
    assert privacy(PLACES[place]) == [True]


@pytest.mark.parametrize("value", [1, "yes", "false", [0], 2.5, Unreadable(), {"a": 1}])
def test_any_true_or_unreadable_value_means_private(value: object) -> None:
    assert privacy(HumanMessage("x", additional_kwargs={"is_private": value})) == [True]


@pytest.mark.parametrize("key", ["isPrivate", "IS_PRIVATE", "is-private", "private", "Private"])
def test_a_misspelt_flag_means_private(key: str) -> None:
    assert privacy(HumanMessage("x", additional_kwargs={key: True})) == [True]
    assert privacy(HumanMessage([{"type": "text", "text": "x", "extras": {key: True}}])) == [True]


def test_extras_that_cannot_be_read_mean_private() -> None:
    assert privacy(HumanMessage([{"type": "text", "text": "x", "extras": "is_private"}])) == [True]


@pytest.mark.parametrize("value", [False, None])
def test_false_and_nothing_do_not_mean_private(value: object) -> None:
    assert privacy(HumanMessage("x", additional_kwargs={"is_private": value})) == [False]


@pytest.mark.parametrize("value", [0, "", "no", "false", []])
def test_what_only_resembles_false_means_private(value: object) -> None:
    assert privacy(HumanMessage("x", additional_kwargs={"is_private": value})) == [True]


def test_only_the_exact_flag_makes_public_against_the_default() -> None:
    assert privacy(HumanMessage("x", additional_kwargs={"is_private": False}), "private") == [False]
    assert privacy(HumanMessage("x", additional_kwargs={"private": False}), "private") == [True]
    assert privacy(HumanMessage("x", response_metadata={"is_private": False}), "private") == [True]
    assert privacy(HumanMessage("x", additional_kwargs={"is_private": None}), "private") == [True]


def test_blocks_are_private_one_by_one() -> None:
    message = HumanMessage(
        [private_block("Ann", "a"), " met ", private_block("Bo"), {"type": "text", "text": "."}]
    )
    assert one(message).segments == (
        Segment("Ann", True, "a"),
        Segment(" met "),
        Segment("Bo", True, DEFAULT_UNIT),
        Segment("."),
    )


def test_a_block_may_say_that_it_is_public_against_the_default() -> None:
    blocks: list[Any] = ["a", {"type": "text", "text": "b", "extras": {"is_private": False}}]
    assert privacy(HumanMessage(blocks), "private") == [True, False]


def test_a_unit_of_the_message_holds_for_its_private_blocks() -> None:
    message = HumanMessage(
        [private_block("x"), private_block("y", "b"), "z"], additional_kwargs={"unit": "a"}
    )
    assert [s.unit for s in one(message).segments] == ["a", "b", None]


@pytest.mark.parametrize("place", ["additional_kwargs", "response_metadata"])
def test_a_unit_is_read_beside_the_flag(place: str) -> None:
    assert one(HumanMessage("x", **{place: {"is_private": True, "unit": 17}})).units == ("17",)
    assert one(HumanMessage("x", is_private=True, unit="a")).units == ("a",)


def test_a_unit_in_the_metadata_of_a_public_message_is_something_else() -> None:
    assert one(AIMessage("x", response_metadata={"unit": "tokens"})).units == ()


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("x", additional_kwargs={"unit": "a"}),
        HumanMessage([{"type": "text", "text": "x", "extras": {"unit": "a"}}]),
        HumanMessage("x", additional_kwargs={"is_private": True, "unit": ""}),
        HumanMessage("x", additional_kwargs={"is_private": True, "unit": ["a"]}),
        HumanMessage("x", additional_kwargs={"is_private": True, "unit": "a"}, unit="b"),
        ChatMessage(content="x", role="stranger"),
        RemoveMessage(id="1"),
        AIMessage("x", additional_kwargs=FLAG, tool_calls=[{"name": "f", "args": {}, "id": "1"}]),
    ],
)
def test_contradictions_are_refused(message: BaseMessage) -> None:
    with pytest.raises(ViewError):
        to_core([message])


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,SECRET"}},
        {"type": "image", "base64": "SECRET", "mime_type": "image/png"},
        {"type": "file", "base64": "SECRET", "mime_type": "application/pdf"},
        {"type": "SECRET"},
        {"type": "text"},
    ],
)
def test_what_is_no_text_is_refused_and_not_quoted(block: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        to_core([HumanMessage([block])])
    assert "SECRET" not in str(caught.value)


RULES: dict[Unmarked, list[bool]] = {
    # human, tool, foreign answer, own answer, system
    "public": [False, True, False, False, False],
    "private": [True, True, True, False, True],
}


@pytest.mark.parametrize("unmarked", RULES)
def test_unmarked_text(unmarked: Unmarked) -> None:
    conversation: list[AnyMessage] = [
        HumanMessage("x"),
        ToolMessage("x", tool_call_id="1"),
        AIMessage("x"),
        AIMessage("x", response_metadata={"dp_fusion": {"epsilon": 1.0}}),
        SystemMessage("x"),
    ]
    assert [privacy(message, unmarked) == [True] for message in conversation] == RULES[unmarked]


def test_a_system_message_may_be_private() -> None:
    assert one(mark_private(SystemMessage("x"), "a")).segments == (Segment("x", True, "a"),)


def test_roles() -> None:
    conversation = [
        SystemMessage("s"),
        HumanMessage("h", name="Ann"),
        AIMessage("a", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "1"}]),
        ToolMessage("t", tool_call_id="1", additional_kwargs={"is_private": False}),
        FunctionMessage(content="f", name="g", additional_kwargs={"is_private": False}),
        ChatMessage(content="c", role="user"),
        AIMessageChunk(content="k"),
    ]
    assert to_core(conversation) == [
        Message("system", "s"),
        Message("user", "h", name="Ann"),
        Message("assistant", "a", tool_calls=(ToolCall("f", {"x": 1}, "1"),)),
        Message("tool", "t", tool_call_id="1"),
        Message("tool", "f", name="g"),
        Message("user", "c"),
        Message("assistant", "k"),
    ]


def test_blocks_that_repeat_tool_calls_are_left_out() -> None:
    message = AIMessage(
        ["a", {"type": "tool_use", "id": "1", "name": "f", "input": {}}],
        tool_calls=[{"name": "f", "args": {}, "id": "1"}],
    )
    assert one(message).content == "a"


def test_results_of_tools_in_a_human_message_are_tool_messages() -> None:
    block = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "x"}], **FLAG}
    result, rest = to_core([HumanMessage([block, "y"])])
    assert (result.role, result.tool_call_id, result.units) == ("tool", "1", (DEFAULT_UNIT,))
    assert rest == Message("user", "y")


def test_mark_private_keeps_the_unit_through_merges() -> None:
    messages: list[BaseMessage] = [
        mark_private(HumanMessage(text), unit) for text, unit in [("x", "a"), ("y", "b")]
    ]
    (merged,) = merge_message_runs(messages)
    assert one(merged).units == ("a", "b")
    assert not any("unit" in message.additional_kwargs for message in messages)


def test_has_private() -> None:
    assert has_private([HumanMessage([private_block("x")])])
    assert not has_private([HumanMessage("x")])
    assert has_private([ToolMessage("x", tool_call_id="1")])
    assert has_private([HumanMessage([{"type": "image", "url": "u"}])])  # unreadable


# --- The marks survive what LangChain does to messages ---


class Holder(BaseModel):
    message: HumanMessage


SURVIVED: dict[str, Any] = {
    "dumpd": lambda m: load(dumpd(m), allowed_objects="all"),
    "message_to_dict": lambda m: messages_from_dict([message_to_dict(m)])[0],
    "deepcopy": lambda m: m.model_copy(deep=True),
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "pydantic": lambda m: Holder.model_validate(Holder(message=m).model_dump()).message,
    "dict input": lambda m: convert_to_messages(
        [{"role": "user", "content": m.content, "additional_kwargs": m.additional_kwargs}]
    )[0],
    "merge, private first": lambda m: merge_message_runs([m, HumanMessage(["y"])])[0],
    "merge, public first": lambda m: merge_message_runs([HumanMessage(["y"]), m])[0],
    "trim": lambda m: trim_messages([m], max_tokens=10, token_counter=len)[0],
    "placeholder of a template": lambda m: (
        ChatPromptTemplate.from_messages([MessagesPlaceholder("h")]).invoke({"h": [m]}).to_messages()[0]
    ),
    "content blocks": lambda m: HumanMessage(content_blocks=m.content_blocks),
    "content copied": lambda m: HumanMessage(m.content),
    "content replaced": lambda m: m.model_copy(update={"content": "y"}),
    "content replaced by blocks": lambda m: m.model_copy(update={"content": [{"type": "text", "text": "y"}]}),
    "content replaced after dumpd": lambda m: load(dumpd(m), allowed_objects="all").model_copy(
        update={"content": "y"}
    ),
    "content replaced after a pickle": lambda m: pickle.loads(pickle.dumps(m)).model_copy(
        update={"content": "y"}
    ),
    "split": lambda m: trim_messages(
        [m],
        max_tokens=3,
        token_counter=lambda ms: sum(len(str(each.text)) for each in ms),
        text_splitter=list,
        allow_partial=True,
    )[0],
    "checkpoint": lambda m: _through(JsonPlusSerializer(), m),
    "strict checkpoint": lambda m: _through(JsonPlusSerializer(allowed_msgpack_modules=None), m),
    "content replaced after a strict checkpoint": lambda m: _through(
        JsonPlusSerializer(allowed_msgpack_modules=None), m
    ).model_copy(update={"content": "y"}),
}


def _through(serializer: JsonPlusSerializer, message: BaseMessage) -> Any:
    return serializer.loads_typed(serializer.dumps_typed({"messages": [message]}))["messages"][0]


OURS: dict[str, BaseMessage] = {
    "mark_private": mark_private(HumanMessage("a secret"), "a"),
    "formatter": PrivateDocumentFormatter(unit="source").invoke(
        [Document("a secret", metadata={"source": "a"})]
    )[0],
    "template": private_template("{x} is it", unit="a").format_messages(x="a secret")[0],
    "hidden": hide(mark_private(HumanMessage("a secret"), "a")),
}


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
@pytest.mark.parametrize("ours", OURS)
@pytest.mark.parametrize("way", SURVIVED)
def test_marks_survive(way: str, ours: str) -> None:
    message = OURS[ours]
    after = SURVIVED[way](message)
    assert isinstance(after, BaseMessage)
    assert "a" in one(after).units  # a merge may make more private, never less


@pytest.mark.parametrize("ours", OURS)
def test_strict_checkpoints_bring_back_messages_of_the_same_kind(ours: str) -> None:
    again: Any = _through(JsonPlusSerializer(allowed_msgpack_modules=None), OURS[ours])
    kind: Any = type(OURS[ours]).__mro__[1] if ours in ("formatter", "template") else type(OURS[ours])
    assert isinstance(again, kind)
    assert one(again) == one(OURS[ours])


@pytest.mark.parametrize(
    "kind", [ToolMessage("a secret", tool_call_id="1"), AIMessage("a secret"), SystemMessage("a secret")]
)
def test_marks_of_other_kinds_survive(kind: BaseMessage) -> None:
    message = mark_private(kind, "a")
    again = _through(JsonPlusSerializer(allowed_msgpack_modules=None), message)
    for after in (again, again.model_copy(update={"content": "y"}), hide(message)):
        assert type(after) is type(kind)
        assert one(after).units == ("a",)


def test_text_of_several_units_that_was_split_stays_private_and_meets_no_ledger() -> None:
    documents = [Document("Ann is ill.", metadata={"source": name}) for name in ("a", "b")]
    (message,) = PrivateDocumentFormatter().invoke(documents)
    cut = message.model_copy(update={"content": "Ann is"})
    assert one(cut).units == (DEFAULT_UNIT,)
    with pytest.raises(RefusedError, match="unit="):
        admit(read(cut), "public", has_ledger=True)
    assert one(merge_message_runs([HumanMessage("q"), message])[0]).units == ("a", "b")


def test_marks_of_a_template_survive() -> None:
    template = HumanMessagePromptTemplate.from_template("{x}", additional_kwargs=FLAG)
    (message,) = ChatPromptTemplate.from_messages([template]).invoke({"x": "{braces}"}).to_messages()
    assert one(message).segments == (Segment("{braces}", True, DEFAULT_UNIT),)
