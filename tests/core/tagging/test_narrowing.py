"""From private messages to private phrases: whatever goes wrong, what is not shown to be public stays private."""

import logging
import threading
import traceback
from collections.abc import Sequence
from typing import Any

import pytest

from dpfusion_core import FusionEngine, Message, PhraseTagger, Segment, Span, TaggerError
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.tagging import Tagger
from dpfusion_core.tagging.narrowing import Narrowing
from dpfusion_core.views import label_placeholder
from tests.core.toys import secretive_backend

TEXT = "Ann met Bob. Ann left."


class People:
    """Tags Ann and Bob as persons, and noon as a time."""

    def tag(self, text: str) -> list[Span]:
        return [
            *PhraseTagger(["Ann", "Bob"], label="PERSON").tag(text),
            *PhraseTagger(["noon"], label="TIME").tag(text),
        ]


class Broken:
    def __init__(self, what: Any) -> None:
        self.what = what

    def tag(self, text: str) -> Sequence[Span]:
        if isinstance(self.what, BaseException):
            raise self.what
        return self.what  # type: ignore[no-any-return]


class Stuck:
    def __init__(self) -> None:
        self.leave = threading.Event()

    def tag(self, text: str) -> Sequence[Span]:
        self.leave.wait(20.0)
        return []


def private(text: str = TEXT, unit: str | None = None) -> list[Message]:
    return [Message("user", text, is_private=True, unit=unit)]


def units(narrowing: Narrowing, messages: list[Message]) -> list[str | None]:
    return [s.unit for m in narrowing(messages)[0] for s in m.segments if s.is_private]


def test_phrases_stay_private_and_the_rest_becomes_public() -> None:
    [message], whole = Narrowing(People())(private())
    assert [(s.text, s.is_private) for s in message.segments] == [
        ("Ann", True), (" met ", False), ("Bob", True), (". ", False), ("Ann", True), (" left.", False),
    ]  # fmt: skip
    assert whole == 0
    assert "".join(s.text for s in message.segments) == TEXT


def test_public_messages_and_segments_are_left_alone() -> None:
    messages = [Message("user", "Ann asks."), Message("user", [Segment("Ann: "), Segment("I met Bob", True)])]
    narrowed, _ = Narrowing(People())(messages)
    assert [(s.text, s.is_private) for m in narrowed for s in m.segments] == [
        ("Ann asks.", False), ("Ann: ", False), ("I met ", False), ("Bob", True),
    ]  # fmt: skip


@pytest.mark.parametrize("of, expected", [
    ("message", ["PRIVATE"] * 4), ("label", ["PERSON", "PERSON", "PERSON", "TIME"]),
    ("entity", ["PERSON_1", "PERSON_2", "PERSON_1", "TIME_1"]),
    (lambda span, text: f"{span.label}:{len(text)}", ["PERSON:3", "PERSON:3", "PERSON:3", "TIME:4"]),
])  # fmt: skip
def test_units(of: Any, expected: list[str]) -> None:
    assert units(Narrowing(People(), units=of), [*private(), *private("It was noon.")]) == expected


def test_units_of_named_documents_stay_apart() -> None:
    messages = [*private("Ann", unit="doc-1"), *private("Ann", unit="doc-2")]
    assert units(Narrowing(People(), units="label"), messages) == ["doc-1/PERSON", "doc-2/PERSON"]
    assert units(Narrowing(People(), units="entity"), messages) == ["doc-1/PERSON_1", "doc-2/PERSON_1"]
    assert units(Narrowing(People()), messages) == ["doc-1", "doc-2"]


def test_numbers_say_which_phrases_are_the_same_entity() -> None:
    narrowed, _ = Narrowing(People(), numbered=True)([*private(), *private("Bob slept till noon.")])
    place = label_placeholder()
    assert [place(s) for m in narrowed for s in m.segments if s.is_private] == [
        "[PERSON_1]", "[PERSON_2]", "[PERSON_1]", "[PERSON_2]", "[TIME_1]",
    ]  # fmt: skip


def test_label_placeholder_falls_back() -> None:
    assert label_placeholder()(Segment("x", True)) == "____"
    assert label_placeholder("?")(Segment("x", True)) == "?"


BAD: list[Any] = [
    ValueError(TEXT), TaggerError("down"), None, 7, "Ann", [(0, 3)], [Span(0, 99)], [Span(3, 3)], [Span(-1, 2)],
    [None],
]  # fmt: skip


@pytest.mark.parametrize("what", BAD, ids=repr)
def test_a_tagger_that_fails_leaves_the_whole_text_private(
    what: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    messages, whole = Narrowing(Broken(what))(private())
    assert [(s.text, s.is_private) for s in messages[0].segments] == [(TEXT, True)]
    assert whole == 1
    with pytest.raises(TaggerError) as caught:
        Narrowing(Broken(what), on_error="raise")(private())
    assert TEXT not in "".join(traceback.format_exception(caught.value)).replace(repr(private()), "")
    assert TEXT not in caplog.text


def test_a_tagger_that_hangs_leaves_the_whole_text_private() -> None:
    stuck = Stuck()
    _, whole = Narrowing(stuck, timeout=0.05)(private())
    assert whole == 1
    with pytest.raises(TaggerError, match=r"0\.05 s"):
        Narrowing(stuck, timeout=0.05, on_error="raise")(private())
    stuck.leave.set()
    assert Narrowing(People(), timeout=5.0)(private())[1] == 0


def test_an_empty_answer_is_trusted_only_on_request() -> None:
    nothing = Broken([])
    messages, whole = Narrowing(nothing)(private())
    assert (messages[0].segments[0].is_private, whole) == (True, 1)
    messages, whole = Narrowing(nothing, trust_empty=True)(private())
    assert (messages[0].segments[0].is_private, whole) == (False, 0)


@pytest.mark.parametrize("answer", [ValueError(TEXT), None, "", 7], ids=repr)
def test_a_unit_function_that_fails_leaves_the_text_private(answer: Any) -> None:
    def name(span: Span, text: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert Narrowing(People(), units=name)(private())[1] == 1
    with pytest.raises(TaggerError) as caught:
        Narrowing(People(), units=name, on_error="raise")(private())
    assert caught.value.__cause__ is None
    assert TEXT not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"units": "word"}, {"on_error": "ignore"}, {"timeout": 0.0}, {"units": None}]
)
def test_bad_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError):
        Narrowing(People(), **change)


@pytest.mark.parametrize("tagger, expected", [
    (None, "none"), (People(), "phrases"), (Broken(ValueError()), "whole message"), (Broken([]), "whole message"),
    (Narrowing(People(), units="label"), "phrases"),
])  # fmt: skip
def test_the_guarantee_says_what_the_tagger_did(tagger: Tagger | Narrowing | None, expected: str) -> None:
    engine = FusionEngine(secretive_backend(), tagger=tagger)
    guarantee = engine.generate(private(), alpha=2.0, beta=0.01, max_new_tokens=2).guarantee
    assert guarantee.tagging == expected
    assert ("did not find is not protected" in str(guarantee)) == (expected == "phrases")


def test_engine_reveals_to_the_public_view_what_the_tagger_did_not_find() -> None:
    engine = FusionEngine(secretive_backend(), tagger=PhraseTagger(["xyzzy"]), placeholder="_")
    result = engine.generate(private("word xyzzy"), alpha=2.0, beta=0.01, max_new_tokens=1)
    assert result.prompt_tokens == len("<user>word _\n<assistant>")
