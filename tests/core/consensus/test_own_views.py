"""Own views: what one unit alone is asked."""

from typing import Any

import pytest

from dpfusion_core.consensus import plain_text
from dpfusion_core.consensus.views import (
    OwnViews,
    bare_view,
    public_view,
    question_of,
    speaking_units,
    without_seams,
)
from dpfusion_core.errors import ViewError
from dpfusion_core.messages import Message, Segment, ToolCall
from dpfusion_core.placeholders import fixed_placeholder

ANN, BOB = Segment("Ann is ill.", True, "a"), Segment("Bob is well.", True, "b")
QUESTION = Message("user", "Who is ill?")
BLANK = fixed_placeholder()


def said(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message.role, plain_text(message)) for message in messages]


def test_the_other_units_are_left_out_and_not_replaced() -> None:
    chat = [Message("user", [Segment("Letters:\n"), ANN, BOB]), QUESTION]
    assert said(OwnViews(chat).of("a")) == [("user", "Letters:\nAnn is ill."), ("user", "Who is ill?")]
    assert said(bare_view(chat)) == [("user", "Letters:\n"), ("user", "Who is ill?")]


def test_a_view_is_the_same_whatever_the_others_say() -> None:
    def view(other: str, unit: str) -> list[Message]:
        return OwnViews([Message("user", [ANN, Segment(other, True, "b")]), QUESTION]).of(unit)

    assert view("Bob is well.", "a") == view("x" * 10_000, "a") == view("____", "a")
    assert view("Bob is well.", "b") != view("Bob is ill.", "b")


def test_segments_of_a_unit_in_several_messages_are_all_shown() -> None:
    more = Segment("Ann fell.", True, "a")
    chat = [
        Message("user", [ANN, BOB]),
        Message("assistant", "Go on."),
        Message("user", [more, Segment("Who?")]),
    ]
    assert said(OwnViews(chat).of("a"))[2] == ("user", "Ann fell.Who?")
    assert said(OwnViews(chat).of("b")) == [
        ("user", "Bob is well."),
        ("assistant", "Go on."),
        ("user", "Who?"),
    ]


def test_own_text_stays_marked_so_that_it_does_not_print() -> None:
    assert "Ann is ill" not in repr(OwnViews([Message("user", [ANN, BOB]), QUESTION]).of("a"))


def test_turns_still_take_turns_when_a_message_goes() -> None:
    chat = [
        Message("system", "Be brief."),
        Message("user", [ANN]),
        Message("assistant", "Noted."),
        Message("user", [BOB]),
        Message("assistant", "Noted, too."),
        QUESTION,
    ]
    assert [role for role, _ in said(OwnViews(chat).of("b"))] == ["system", "user", "assistant", "user"]
    assert said(OwnViews(chat).of("b"))[2] == ("assistant", "Noted, too.")
    assert [role for role, _ in said(bare_view(chat))] == ["system", "user"]


def test_a_tools_answer_goes_with_its_call() -> None:
    calls = tuple(ToolCall("find", {"q": q}, id=q) for q in ("one", "two"))
    chat = [
        QUESTION,
        Message("assistant", "", tool_calls=calls),
        Message("tool", [ANN], tool_call_id="one"),
        Message("tool", [BOB], tool_call_id="two"),
        QUESTION,
    ]
    view = OwnViews(chat).of("b")
    assert [call.id for call in view[1].tool_calls] == ["two"]
    assert [message.role for message in view] == ["user", "assistant", "tool", "user"]
    assert [message.role for message in bare_view(chat)] == ["user", "user"]
    # Without an id nobody knows which call it answers: the turn stays.
    nameless = [*chat[:2], Message("tool", [ANN]), Message("tool", [BOB]), QUESTION]
    assert said(OwnViews(nameless).of("b"))[2:4] == [("tool", ""), ("tool", "Bob is well.")]


def test_the_public_view_does_not_show_how_many_units_there_are() -> None:
    one = public_view([Message("user", [ANN]), QUESTION], BLANK)
    two = public_view([Message("user", [ANN, BOB, BOB]), QUESTION], BLANK)
    assert said(one) == said(two) == [("user", "____"), ("user", "Who is ill?")]
    assert not any(message.units for message in two)


@pytest.mark.parametrize("text", ["____", " ____\n", "   "])
def test_a_unit_that_is_the_placeholder_says_nothing(text: str) -> None:
    gone = Segment(text, True, "b")
    assert speaking_units([Message("user", [ANN, gone]), Message("user", [gone])], BLANK) == ("a",)
    assert speaking_units([Message("user", [ANN, gone]), Message("user", [BOB])], BLANK) == ("a", "b")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [Message("user", [ANN])],
        [QUESTION, Message("assistant", "It is")],
        [Message("user", [ANN, Segment(" \n")])],
    ],
    ids=["nothing", "all private", "assistant", "blank"],
)
def test_a_conversation_without_a_public_question_is_refused(messages: Any) -> None:
    with pytest.raises(ViewError, match="needs a question"):
        question_of(messages)


LETTERS = [Segment(f"Letter {n}", True, f"l{n % 3}") for n in range(5)]
QUESTION_IN = Segment("\nWho is ill?")


def corpus(numbers: tuple[int, ...], seam: str, *, is_apart: bool) -> tuple[Message, ...]:
    letters = [LETTERS[n] for n in numbers]
    if is_apart:
        return without_seams([*(Message("user", [letter]) for letter in letters), QUESTION])
    parts = [part for letter in letters for part in (letter, Segment(seam))]
    return without_seams([Message("user", [Segment("Letters:\n"), *parts[:-1], QUESTION_IN])])


@pytest.mark.parametrize("seam", ["\n\n", " ", "\t"])
@pytest.mark.parametrize("is_apart", [False, True])
def test_a_unit_that_joins_changes_nothing_but_its_own_view(seam: str, is_apart: bool) -> None:
    """Else which units take part would show in what is asked of the others, and in public."""
    some = [(0, 1, 3), (0, 1, 2, 3), (2, 0, 1, 3), (0, 1, 3, 2), (0, 3), (0, 2, 3)]
    chats = [corpus(numbers, seam, is_apart=is_apart) for numbers in some]
    assert len({str(said(public_view(chat, BLANK))) for chat in chats}) == 1
    assert len({str(said(bare_view(chat))) for chat in chats}) == 1
    own = {str(said(OwnViews(chat).of("l0"))) for chat in chats}
    assert len(own) == 1
    gap = "\\n\\n" if is_apart else repr(seam)[1:-1]
    assert f"Letter 0{gap}Letter 3" in own.pop()


def test_text_of_a_unit_without_a_blank_stays_together() -> None:
    parts = [Segment("Ann ", True, "a"), Segment("Berg", True, "a"), BOB, Segment(" fell.", True, "a")]
    assert said(OwnViews(without_seams([Message("user", parts), QUESTION])).of("a"))[0][1] == "Ann Berg fell."


def test_public_text_between_documents_stays_where_it_is() -> None:
    chat = [
        Message("user", [ANN, Segment(" and "), BOB, Segment(" \n")]),
        Message("assistant", [ANN]),
        QUESTION,
    ]
    assert [[s.text for s in m.segments] for m in without_seams(chat)] == [
        ["Ann is ill.", " and ", "Bob is well.", " \n"],
        ["Ann is ill."],
        ["Who is ill?"],
    ]
    tools = [Message("tool", [ANN], tool_call_id="1"), Message("tool", [BOB], tool_call_id="2")]
    assert len(without_seams(tools)) == 2
