"""From private messages to private phrases: whatever goes wrong, what is not shown to be public stays private."""

import logging
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from dpfusion_core import FusionEngine, Message, PhraseTagger, Segment, Span, TaggerError
from dpfusion_core.errors import PrivacyParameterError, ViewError
from dpfusion_core.placeholders import fixed_placeholder, label_placeholder
from dpfusion_core.tagging import FunctionTagger, Narrowing, Tagger, find_spans
from dpfusion_core.tiny import model_path
from dpfusion_core.views import build_views
from tests.core.toys import secretive_backend

ROOT = Path(__file__).resolve().parents[3]
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
    ("message", ["private"] * 4), ("label", ["person", "person", "person", "time"]),
    (lambda span, text: f"{span.label}:{len(text)}", ["person:3", "person:3", "person:3", "time:4"]),
])  # fmt: skip
def test_units(of: Any, expected: list[str]) -> None:
    assert units(Narrowing(People(), units=of), [*private(), *private("It was noon.")]) == expected


def test_units_of_named_documents_stay_apart() -> None:
    messages = [*private("Ann", unit="doc-1"), *private("Ann", unit="doc-2")]
    assert units(Narrowing(People(), units="label"), messages) == ["doc-1/person", "doc-2/person"]
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


AnySpan: Any = Span  # to be made of what it does not take
BAD: list[Any] = [
    ValueError(TEXT), TaggerError("down"), None, 7, "Ann", [(0, 3)], [Span(0, 99)], [Span(3, 3)], [Span(-1, 2)],
    [None], [AnySpan("0", "3")], [Span(True, 3)], [Span(0, 3, TEXT * 9)], [AnySpan(0, 3, None)],
    [Span(0, 3, score=7.0)], "half a JSON",
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
    assert Narrowing(People()).timeout is not None  # waiting for ever is said
    assert Narrowing(People(), timeout=None)(private())[1] == 0


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
    guarantee = engine.generate(private(), alpha=2.0, beta=0.01, max_tokens=2).guarantee
    assert guarantee.tagging == expected
    assert ("did not find is not protected" in str(guarantee)) == (expected == "phrases")


def test_engine_reveals_to_the_public_view_what_the_tagger_did_not_find() -> None:
    engine = FusionEngine(secretive_backend(), tagger=PhraseTagger(["xyzzy"]), placeholder="_")
    result = engine.generate(private("word xyzzy"), alpha=2.0, beta=0.01, max_tokens=1)
    assert result.prompt_tokens == len("<user>word _\n<assistant>")


def test_what_is_private_in_one_message_is_private_in_the_others() -> None:
    class FirstOnly:
        def tag(self, text: str) -> list[Span]:
            return [Span(0, 3, "PERSON")] if text.startswith("Ann") else [Span(0, 4, "ROLE")]

    messages, whole = Narrowing(FirstOnly())([*private("Ann is ill."), *private("Miss Ann called.")])
    assert [s.text for s in messages[1].segments if s.is_private] == ["Miss", "Ann"]
    assert whole == 0


def test_a_text_in_which_nothing_is_found_stays_private_even_if_others_name_its_phrases() -> None:
    class FirstOnly:
        def tag(self, text: str) -> list[Span]:
            return [Span(0, 3)] if text.startswith("Ann") else []

    messages, whole = Narrowing(FirstOnly())([*private("Ann is ill."), *private("So said Ann.")])
    assert (messages[1].segments[0].text, whole) == ("So said Ann.", 1)


def test_spellings_of_a_name_have_one_number() -> None:
    tagger = PhraseTagger(["Zo\u00eb", "ZO\u00cb"], label="PERSON")
    messages, _ = Narrowing(tagger, numbered=True)(private("Zo\u00eb, Zoe\u0308, ZO\u00cb"))
    assert [s.label for s in messages[0].segments if s.is_private] == ["PERSON_1"] * 3


def test_a_tagger_that_never_returns_does_not_keep_the_process_alive() -> None:
    code = (
        "import threading\n"
        "from dpfusion_core import FunctionTagger, Message, Narrowing\n"
        "stuck = FunctionTagger(lambda text: threading.Event().wait())\n"
        "print(Narrowing(stuck, timeout=0.05)([Message('user', 'Ann', is_private=True)])[1])\n"
    )
    path = os.pathsep.join([str(ROOT / "core"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.strip() == "1"


def test_ten_megabytes_are_narrowed() -> None:
    text = f"Ann met Bob at noon. {'x' * 100} " * 85_000
    assert len(text) > 10_000_000
    [message], whole = Narrowing(FunctionTagger(lambda text: [(0, 3)]))(private(text))
    assert sum(segment.is_private for segment in message.segments) == 85_000
    assert whole == 0


ODD = [" ", "\r\n\t", "\x00\x01\xff" * 500, "\u202e\u05d0\u05e0\u05d0", "a" + "\u0301" * 1000]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_texts_stay_private_as_a_whole(text: str) -> None:
    messages, whole = Narrowing(People())(private(text))
    assert (messages[0].segments[0].text, whole) == (text, 1)


def test_a_lone_surrogate_never_reaches_a_tagger() -> None:
    with pytest.raises(ViewError):
        private("\ud800 Ann")
    with pytest.raises(TaggerError, match="surrogate"):
        find_spans(People(), "\ud800 Ann")


OFFSETS = [
    "e\u0301 Ann", "\U0001f469\u200d\u2695\ufe0f Ann", "\r\n\r\nAnn\r\n", "\u05e9\u05dc\u05d5\u05dd Ann \u05d3",
    "\u674e\u96f7 Ann", "\ufb01 Ann", "unAnnounced Ann",
]  # fmt: skip


@pytest.mark.parametrize("text", OFFSETS)
def test_views_of_a_real_tokenizer_differ_in_the_phrase_alone(text: str) -> None:
    """Offsets are of characters and the views are cut as text, so tokens follow exactly."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model_path())
    messages, _ = Narrowing(PhraseTagger(["Ann"]))(private(text))
    views = build_views(messages, tokenizer, fixed_placeholder())
    shown = tokenizer.decode(views.public, clean_up_tokenization_spaces=False)
    revealed = tokenizer.decode(views.private["private"], clean_up_tokenization_spaces=False)
    assert text in revealed
    assert (
        revealed.replace(text, text[:-3] + "____" if text.endswith("Ann") else text.replace("Ann", "____"))
        == shown
    )


def test_a_span_inside_a_token_hides_that_part_alone() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_path())
    text = "The patient was diagnosed."
    span = Span(text.index("agno"), text.index("agno") + 4)
    messages, _ = Narrowing(Broken([span]))(private(text))
    views = build_views(messages, tokenizer, fixed_placeholder())
    assert "was di____sed." in tokenizer.decode(views.public)


class ManyAtOnce(People):
    """Takes batches; fails on whatever holds a word, as a model does on one text of its batch."""

    def __init__(self, fails_on: str = "nothing", missing: int = 0) -> None:
        self.fails_on, self.missing = fails_on, missing
        self.batches: list[int] = []

    def tag_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        self.batches.append(len(texts))
        if any(self.fails_on in text for text in texts):
            raise ValueError(self.fails_on)
        return [self.tag(text) for text in texts][self.missing if len(texts) > 1 else 0 :]


def test_a_tagger_that_takes_batches_is_asked_once_for_all_texts() -> None:
    tagger = ManyAtOnce()
    texts = [*private("Ann came."), *private("Bob came."), *private("At noon.")]
    assert Narrowing(tagger)(texts) == Narrowing(People())(texts)
    assert tagger.batches == [3]


@pytest.mark.parametrize(
    "tagger", [ManyAtOnce("storm"), ManyAtOnce(missing=1)], ids=["fails", "answers for two"]
)
def test_a_batch_that_fails_costs_only_the_text_that_it_fails_on(tagger: ManyAtOnce) -> None:
    texts = [*private("Ann came."), *private("Bob in a storm."), *private("At noon.")]
    narrowed, whole = Narrowing(tagger)(texts)
    assert [sum(s.is_private for s in m.segments) for m in narrowed] == [1, 1, 1]
    assert whole == (tagger.fails_on == "storm")
    assert narrowed[0].segments[1].text == " came."
    assert tagger.batches == [3, 1, 1, 1]


def test_a_batch_that_hangs_leaves_its_texts_private() -> None:
    class Hangs(Stuck):
        def tag_batch(self, texts: Sequence[str]) -> list[Sequence[Span]]:
            return [self.tag(text) for text in texts]

    stuck = Hangs()
    narrowed, whole = Narrowing(stuck, timeout=0.05)([*private(), *private("Bob")])
    stuck.leave.set()
    assert whole == 2
    assert all(segment.is_private for message in narrowed for segment in message.segments)
