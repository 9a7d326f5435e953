"""The mechanism over any chat model: what is asked, what is released, what is written, what is refused."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from dpfusion_core import FusionEngine
from dpfusion_core.consensus import Consensus, FunctionAnswerer, plain_text
from dpfusion_core.errors import BackendError, PrivacyParameterError, UnsupportedError, ViewError
from dpfusion_core.messages import Message, Segment
from dpfusion_core.placeholders import label_placeholder, length_preserving_placeholder
from dpfusion_core.privacy.releasing import Released
from dpfusion_core.views import Views
from tests.core.toys import saying_backend
from tests.walking import assert_bare

SECRET = "xyz" + "zy"


class Clerk:
    """Says what a document says; of public text it says that it does not know."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, messages: Sequence[Message]) -> str:
        texts = [plain_text(message) for message in messages]
        self.asked.append(texts)
        if "What many documents say" in texts[-1]:
            return "Written: " + texts[-1]
        return texts[0].removeprefix("Says ") if texts[0].startswith("Says ") else "I do not know"


def chat(*texts: str, question: str = "What is it?") -> list[Message]:
    documents = [Segment(f"Says {text}", True, f"doc-{number}") for number, text in enumerate(texts)]
    return [Message("user", documents), Message("user", question)]


def test_what_many_say_is_released_and_written_and_what_one_says_is_not() -> None:
    clerk = Clerk()
    result = Consensus(clerk).generate(chat(*["the mill"] * 40, SECRET), epsilon=2.0)
    assert result.items is not None
    [released] = result.items
    assert released.item == "mill"
    assert abs(released.count - 40) < 15
    assert f"- mill (about {released.count} documents)" in result.text
    assert result.text.endswith("What is it?")
    assert SECRET not in repr(result)
    said = result.guarantee
    assert (said.mechanism, said.epsilon, said.delta, said.units, said.retrieval) == (
        "consensus",
        2.0,
        1e-5,
        41,
        None,
    )
    assert said.charged is not None


def test_each_document_is_asked_alone_and_the_writer_sees_none() -> None:
    clerk = Clerk()
    Consensus(clerk).generate(chat(*["a"] * 30, *(f"number {n}" for n in range(3))), epsilon=4.0)
    public, *own, writing = clerk.asked
    assert public[0] == "____"
    assert [texts[0] for texts in own] == ["Says a"] * 30 + [f"Says number {n}" for n in range(3)]
    assert {texts[1] for texts in own} == {public[1]} == {"What is it? In a few words, no sentence."}
    assert "Says" not in "".join(writing)


def test_without_agreement_the_answer_is_the_public_one() -> None:
    result = Consensus(Clerk()).generate(chat(*(f"number {n}" for n in range(40))), epsilon=1.0)
    assert result.items == ()
    assert result.text == "I do not know"
    assert "number" not in repr(result)


def test_what_the_public_answer_says_is_no_news() -> None:
    result = Consensus(Clerk()).generate(chat(*["I do not know"] * 100), epsilon=4.0)
    assert result.items == ()


def test_a_unit_has_one_vote_however_often_it_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its items count once, and at most max_items of them: a unit that votes twice turns this red."""
    from dpfusion_core import release_charging

    seen: list[Any] = []

    def release(votes: Any, rule: Any) -> tuple[Released, ...]:
        seen.append((votes, rule))
        return ()

    monkeypatch.setattr(release_charging, "release_votes", release)
    twice = [Segment("one\none\ntwo\nthree", True, "doc"), Segment("\none", True, "doc")]
    others = [Segment("x", True, f"other-{n}") for n in range(60)]
    messages = [Message("user", [*twice, *others]), Message("user", [twice[1], Segment("What?")])]
    Consensus(lambda asked: plain_text(asked[0])).generate(messages, epsilon=4.0, max_items=2)
    [(votes, rule)] = seen
    assert votes == [["one", "two"], *[["x"]] * 60]
    assert rule.max_items == 2


def test_the_order_of_documents_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import Counter

    from dpfusion_core import release_charging

    seen: list[Any] = []

    def release(votes: Any, rule: Any) -> tuple[Released, ...]:
        seen.append(Counter(map(tuple, votes)))
        return ()

    monkeypatch.setattr(release_charging, "release_votes", release)
    texts = ["a"] * 20 + ["b"] * 20 + [SECRET]
    for each in (texts, texts[::-1]):
        Consensus(Clerk()).generate(chat(*each), epsilon=1.0)
    assert seen[0] == seen[1]


def test_a_placeholder_is_not_asked_and_does_not_vote() -> None:
    clerk = Clerk()
    blank = [Segment("____", True, "gone")]
    messages = chat(*["a"] * 30)
    Consensus(clerk).generate([Message("user", [*messages[0].segments, *blank]), messages[1]], epsilon=2.0)
    assert len(clerk.asked) == 1 + 30 + 1  # the public question, the documents, the writing


@pytest.mark.parametrize("bad", ["raise", "none", "nonsense", "empty"])
def test_a_document_that_is_not_answered_contributes_nothing_and_is_not_told_of(
    bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(messages: Sequence[Message]) -> Any:
        text = plain_text(messages[0])
        if SECRET in text:
            if bad == "raise":
                raise ValueError(text)
            return {"none": None, "nonsense": 42, "empty": ""}[bad]
        return Clerk()(messages)

    with caplog.at_level(logging.DEBUG):
        result = Consensus(FunctionAnswerer(answer, at_once=4)).generate(
            chat(*["the mill"] * 40, *[SECRET] * 40), epsilon=2.0
        )
    assert result.items is not None
    assert [each.item for each in result.items] == ["mill"]
    assert result.guarantee.units == 80
    assert SECRET not in caplog.text + repr(result)


def test_an_answerer_that_fails_as_a_whole_is_asked_document_by_document() -> None:
    class Brittle(Clerk):
        def answer(self, conversations: Any, *, max_tokens: int, json_schema: Any = None) -> list[str | None]:
            if len(conversations) > 1 or SECRET in plain_text(conversations[0][0]):
                raise RuntimeError(SECRET)
            return [self(each) for each in conversations]

    result = Consensus(Brittle()).generate(chat(*["the mill"] * 40, SECRET), epsilon=2.0)
    assert result.items is not None
    assert [each.item for each in result.items] == ["mill"]


@pytest.mark.parametrize("when", ["public", "writing", "public none"])
def test_a_model_that_fails_on_public_text_is_an_error_without_text(when: str) -> None:
    def answer(messages: Sequence[Message]) -> Any:
        texts = " ".join(map(plain_text, messages))
        if when == "writing" and "What many documents say" in texts:
            raise ValueError(SECRET)
        if when.startswith("public") and "____" in texts:
            if when == "public":
                raise ValueError(SECRET)
            return None
        return Clerk()(messages)

    with pytest.raises(BackendError, match=r"did not answer|could not answer") as caught:
        Consensus(answer).generate(chat(*["the mill"] * 40), epsilon=2.0)
    assert_bare(caught.value, SECRET)


def test_a_function_that_reads_items_may_fail_for_a_document_but_not_for_the_public_answer() -> None:
    def own(text: str) -> list[str]:
        if text == SECRET:
            raise ValueError(text)
        return [text]

    items = Consensus(Clerk()).generate(chat(*["the mill"] * 40, SECRET), epsilon=2.0, items=own).items
    assert items is not None
    assert [each.item for each in items] == ["mill"]
    with pytest.raises(PrivacyParameterError, match="reads items failed"):
        Consensus(Clerk()).generate(chat(*["a"] * 40), epsilon=2.0, items=lambda text: [text][7:][0])


@pytest.mark.parametrize(
    ("messages", "options", "words"),
    [
        ([Message("user", "Hm?")], {"epsilon": 1.0}, "no text of the request is marked as private"),
        (chat("a"), {"epsilon": 1.0}, "consensus of one document"),
        (chat("a", "b", "c"), {"epsilon": 1.0}, "3 documents are too few"),
        (chat(*["a"] * 16), {"epsilon": 1.0, "max_items": 4}, "16 documents are too few"),
        (chat(*["a"] * 16), {"epsilon": 1e-3}, "too few|too small"),
        (chat(*["a"] * 16), {}, "needs epsilon"),
        (chat(*["a"] * 16), {"epsilon": 1.0, "top_p": 0.5}, "Unknown option 'top_p' of Consensus"),
        (chat(*["a"] * 16), {"epsilon": 1.0, "retreival": "covered"}, "Did you mean 'retrieval'"),
        (chat(*["a"] * 16), {"epsilon": 1.0, "mechanism": "fusion"}, "mechanism"),
    ],
    ids=["no documents", "one", "few", "many items", "tiny epsilon", "none", "sampling", "typo", "fusion"],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(messages: Any, options: Any, words: str) -> None:
    clerk = Clerk()
    with pytest.raises(PrivacyParameterError, match=words):
        Consensus(clerk).stream(messages, **options)
    assert clerk.asked == []


@pytest.mark.parametrize(
    "placeholder", ["____", "[gone]", label_placeholder(), length_preserving_placeholder()]
)
def test_a_covered_number_of_documents_is_told_by_nothing(placeholder: Any) -> None:
    """No error, no field, no text and nothing that is asked publicly tells how many took part, none included."""
    system, question = Message("system", "Be brief."), Message("user", "What is it?")
    found = []
    for texts in (None, [], ["ab"], ["a", "b", "c"]):
        documents = [
            Segment(f"Says {text}", True, f"doc-{n}", label="ABC"[n]) for n, text in enumerate(texts or ())
        ]
        middle = [] if texts is None else [Message("user", documents or "____")]
        clerk = Clerk()
        result = Consensus(clerk, placeholder=placeholder).generate(
            [system, *middle, question], epsilon=1.0, retrieval="covered"
        )
        found.append((result, [asked for asked in clerk.asked if "Says" not in asked[1]]))
    assert found[0] == found[1] == found[2] == found[3]
    result, public = found[0]
    assert [asked[1] for asked in public] == ["____", "____"]  # for its items, and for the answer
    assert result.items == ()
    assert result.guarantee.units is None
    assert result.guarantee.retrieval == "covered"
    assert "a private number of units" in str(result.guarantee)


def test_thousands_of_documents_take_seconds() -> None:
    texts = ["the mill"] * 4000
    started = time.perf_counter()
    messages = [
        *(Message("user", f"Says {text}", True, f"doc-{n}") for n, text in enumerate(texts)),
        chat("")[1],
    ]
    assert Consensus(Clerk()).generate(messages, epsilon=1.0).items
    assert time.perf_counter() - started < 20


def test_it_streams_what_the_model_streams() -> None:
    class Streaming(Clerk):
        def answer(self, conversations: Any, *, max_tokens: int, json_schema: Any = None) -> list[str | None]:
            return [self(each) for each in conversations]

        def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
            yield from ("The ", "mill.")

    chunks = list(Consensus(Streaming()).stream(chat(*["the mill"] * 40), epsilon=2.0))
    assert [chunk.text for chunk in chunks] == ["The ", "mill.", ""]
    assert chunks[-1].items is not None
    assert chunks[-1].guarantee is not None


async def test_it_works_without_blocking_an_event_loop() -> None:
    consensus = Consensus(Clerk())
    result = await consensus.agenerate(chat(*["the mill"] * 40), epsilon=2.0)
    chunks = [chunk async for chunk in consensus.astream(chat(*["the mill"] * 40), epsilon=2.0)]
    assert result.items
    assert chunks[-1].items


def test_json_items_are_asked_for_with_a_schema() -> None:
    class Grammar(Clerk):
        def __init__(self) -> None:
            super().__init__()
            self.schemas: list[Any] = []

        def answer(self, conversations: Any, *, max_tokens: int, json_schema: Any = None) -> list[str | None]:
            self.schemas.append(json_schema)
            return [
                '["The mill", "the well"]' if "Says" in plain_text(each[0]) else "[]"
                for each in conversations
            ]

    clerk = Grammar()
    result = Consensus(clerk).generate(chat(*["x"] * 60), epsilon=4.0, items="json", max_items=2)
    assert result.items is not None
    assert {each.item for each in result.items} == {"mill", "well"}
    assert (
        clerk.schemas[0] == clerk.schemas[1] == {"type": "array", "items": {"type": "string"}, "maxItems": 2}
    )
    assert clerk.schemas[2] is None  # the writing is text


@pytest.mark.parametrize("answerer", [None, 3, "gpt"])
def test_what_cannot_answer_is_refused(answerer: Any) -> None:
    with pytest.raises(PrivacyParameterError, match="Expected an answerer"):
        Consensus(answerer)


def test_ready_views_cannot_be_asked_one_by_one() -> None:
    with pytest.raises(UnsupportedError, match="needs messages"):
        FusionEngine(saying_backend("x")).generate(Views((1,)), mechanism="consensus", epsilon=1.0)


def test_a_conversation_must_end_with_a_question() -> None:
    with pytest.raises(ViewError, match="needs a question"):
        Consensus(Clerk()).generate(chat(*["a"] * 16)[:1], epsilon=1.0)
