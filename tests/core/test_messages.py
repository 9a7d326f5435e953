"""Messages and segments: what is private, and what never shows."""

import pytest

from dpfusion_core import Message, Segment, ViewError
from dpfusion_core.messages import DEFAULT_UNIT

SECRET = "Jane Roe of 5 Elm Street"


def test_private_message_is_one_private_segment_of_the_unnamed_unit() -> None:
    assert Message("user", SECRET, is_private=True).segments == (Segment(SECRET, True, DEFAULT_UNIT),)


def test_segments_of_a_private_message_are_all_private() -> None:
    message = Message("user", [Segment("a"), Segment("b", True, "x")], is_private=True, unit="y")
    assert [segment.unit for segment in message.segments] == ["y", "x"]


def test_public_segments_stay_public() -> None:
    message = Message("user", [Segment("a "), Segment("b", True)])
    assert [segment.is_private for segment in message.segments] == [False, True]
    assert message.units == (DEFAULT_UNIT,)


@pytest.mark.parametrize(
    "message",
    [
        Message("user", SECRET, is_private=True),
        Message("user", [Segment(SECRET, True)]),
        Message("user", [Segment(SECRET)], is_private=True),
        Segment(SECRET, True),
    ],
)
def test_repr_shows_no_private_text_and_no_length(message: object) -> None:
    assert "Jane" not in repr(message)
    assert "Elm" not in str(message)
    assert str(len(SECRET)) not in repr(message)


def test_repr_shows_public_text() -> None:
    assert "hello" in repr(Message("user", "hello"))


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("owner", SECRET), "role"),
        ((SECRET, "user"), "role"),
        (("user", "", True), "empty"),
        (("user", SECRET, False, "unit-1"), "public"),
        (("user", [Segment(SECRET)], False, "unit-1"), "public"),
        (("user", [SECRET]), "Segment"),
        (("user", SECRET, "yes"), "is_private"),
        (("user", SECRET, True, ""), "unit"),
        (("user", SECRET + "\ud800", True), "surrogate"),
    ],
)
def test_bad_message_is_refused_without_its_text(arguments: tuple[object, ...], hint: str) -> None:
    with pytest.raises(ViewError, match=hint) as caught:
        Message(*arguments)  # type: ignore[arg-type]
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(("", True), "empty"), ((SECRET, False, "unit"), "public"), ((b"bytes", True), "string")],
)
def test_bad_segment_is_refused_without_its_text(arguments: tuple[object, ...], hint: str) -> None:
    with pytest.raises(ViewError, match=hint) as caught:
        Segment(*arguments)  # type: ignore[arg-type]
    assert "Jane" not in str(caught.value)


def test_empty_public_message_is_allowed() -> None:
    assert Message("user", "").segments == (Segment(""),)
