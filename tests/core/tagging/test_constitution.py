"""A chat model lists the private phrases: strict parsing, retry, and recall of the embedded model."""

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pytest
from rich.console import Console

from dpfusion_core import FusionEngine, Message, Span, TaggerError
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.tagging import ConstitutionTagger, Narrowing, find_spans
from dpfusion_core.tagging.constitution import CONSTITUTIONS, read_constitution
from dpfusion_core.tagging.occurrences import find_phrases
from dpfusion_core.tiny import model_path
from tiny_recipe.evaluate import Generator
from tiny_recipe.held_out import held_out_records

TEXT = "Ann lives in Oslo. Ann is 41."


@dataclass
class Said:
    text: str
    finish_reason: str = "stop"


class Model:
    """Gives prepared answers, one for each question, and remembers the questions."""

    def __init__(self, *answers: str | Said | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def generate(self, messages: Sequence[Message], **options: Any) -> Said:
        assert options["temperature"] == 0.0
        assert not any(message.units for message in messages)
        self.asked.append("".join(segment.text for message in messages for segment in message.segments))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Said) else Said(answer)


def tagger(*answers: str | Said | Exception, **options: Any) -> ConstitutionTagger:
    return ConstitutionTagger(Model(*answers), **{"by_sentence": False, **options})


def phrases(text: str, spans: Sequence[Span]) -> list[str]:
    return [text[span.start : span.end] for span in spans]


@pytest.mark.parametrize("answer", [
    "Ann\nOslo", "- Ann\n- Oslo", "1. Ann\n2) Oslo", '"Ann"\n\u201cOslo\u201d', "Oslo\n\nCarl\n Ann \n- names",
    "Ann,\nOslo;",
])  # fmt: skip
def test_lines_that_stand_in_the_text_are_tagged_wherever_they_stand(answer: str) -> None:
    assert phrases(TEXT, tagger(answer).tag(TEXT)) == ["Ann", "Oslo", "Ann"]


def test_a_mark_that_belongs_to_the_text_is_kept() -> None:
    text = "Flat 3. Oak Road"
    assert phrases(text, tagger("3. Oak Road").tag(text)) == ["3. Oak Road"]


@pytest.mark.parametrize("answer", ["none", "None.", "NONE"])
def test_none_is_an_answer(answer: str) -> None:
    assert tagger(answer).tag(TEXT) == []


MALFORMED = ["", " \n", "Sure! Here is the list:", "Ann, Oslo", '["Ann', Said("Ann\nOslo", "length")]


@pytest.mark.parametrize("answer", MALFORMED, ids=repr)
def test_a_malformed_answer_is_retried_once_and_then_an_error(answer: Any) -> None:
    patient = tagger(answer, "Ann")
    assert phrases(TEXT, patient.tag(TEXT)) == ["Ann", "Ann"]
    with pytest.raises(TaggerError, match="malformed") as caught:
        tagger(answer, answer, "Ann").tag(TEXT)
    assert "Oslo" not in str(caught.value)
    [message], whole = Narrowing(tagger(answer, answer))([Message("user", TEXT, is_private=True)])
    assert (message.segments[0].text, whole) == (TEXT, 1)


@pytest.mark.parametrize("error", [ValueError(TEXT), TaggerError("down"), RuntimeError(TEXT)], ids=repr)
def test_a_model_that_fails(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(TaggerError) as caught:
        tagger(error).tag(TEXT)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert TEXT not in str(caught.value) + caplog.text


def test_sentences_are_read_too_and_can_only_add() -> None:
    model = Model("Ann", "Oslo", Said("", "length"))
    assert phrases(TEXT, ConstitutionTagger(model).tag(TEXT)) == ["Ann", "Oslo", "Ann"]
    assert [question.split("\n")[0] for question in model.asked] == [TEXT, "Ann lives in Oslo.", "Ann is 41."]


def test_one_sentence_is_read_once() -> None:
    model = Model("Oslo")
    ConstitutionTagger(model).tag("He lives in Oslo.")
    assert len(model.asked) == 1


def test_long_texts_are_read_in_windows_and_tagged_as_a_whole() -> None:
    text = "\n\n".join(f"Paragraph {i} says nothing about anybody at all." for i in range(9)) + "\n\nAnn."
    model = Model("none", "none", "Ann", "Ann", "Ann", "Ann", "Ann")
    spans = ConstitutionTagger(model, window=200, by_sentence=False).tag("Ann wrote this. " + text)
    assert len(model.asked) > 2
    assert max(map(len, model.asked)) < 200 + 2000
    assert phrases("Ann wrote this. " + text, spans) == ["Ann", "Ann"]


def test_answers_are_remembered() -> None:
    asked_once = tagger("Ann")
    assert asked_once.tag(TEXT) == asked_once.tag(TEXT)


def test_empty_texts_are_not_asked_about() -> None:
    assert tagger().tag("") == tagger().tag(" \n\t") == []


@pytest.mark.parametrize("text", [None, b"Ann", "\ud800Ann"], ids=repr)
def test_what_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(TaggerError):
        tagger().tag(text)


def test_constitutions_name_what_the_field_names() -> None:
    def source(name: str) -> str:
        return (resources.files("dpfusion_core.tagging") / "constitutions" / f"{name}.txt").read_text("utf-8")

    for entity in ("PERSON", "CODE", "LOC", "ORG", "DEM", "DATETIME", "QUANTITY", "MISC"):
        assert f"# {entity}:" in source("legal")
    for letter in "ABCDEFGHIJKLMNOPQR":  # the 18 identifiers
        assert f"# ({letter})\n- " in source("health")
    assert "PCI DSS" in source("finance")
    assert "Gramm-Leach-Bliley" in source("finance")


@pytest.mark.parametrize("name", [*CONSTITUTIONS, "# why\n- codenames of projects\n\n- bids"])
def test_the_model_is_told_the_constitution_without_comments(name: str) -> None:
    model = Model("Ann")
    ConstitutionTagger(model, name, by_sentence=False).tag(TEXT)
    assert read_constitution(name) in model.asked[0]
    assert "#" not in model.asked[0]


@pytest.mark.parametrize("options", [
    {"constitution": ""}, {"constitution": "# nothing"}, {"window": 10}, {"max_tokens": 0}, {"cache_size": -1},
])  # fmt: skip
def test_bad_arguments(options: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError):
        tagger(**options)


def test_repr_and_the_traceback_show_no_text() -> None:
    broken = tagger("", "")
    assert "Oslo" not in repr(broken)
    with pytest.raises(TaggerError) as caught:
        find_spans(broken, TEXT)
    assert "Oslo" not in "".join(traceback.format_exception(caught.value))


class Batched:
    """The embedded model, many conversations at a time."""

    def __init__(self) -> None:
        self.ask = Generator(model_path())

    def generate(self, messages: Sequence[Message], **options: Any) -> Said:
        return self.batch([messages], **options)[0]

    def batch(self, chats: Sequence[Sequence[Message]], max_tokens: int, **options: Any) -> list[Said]:
        turns = [[{"role": m.role, "content": str(m.content)} for m in chat] for chat in chats]
        return [Said(answer) for answer in self.ask(turns, max_tokens)]


def covered(text: str, spans: Sequence[Span], value: str) -> bool:
    """Whether a value is tagged wherever it stands."""
    places = find_phrases(text, [(value, "X")])
    return bool(places) and all(any(s.start <= p.start and p.end <= s.end for s in spans) for p in places)


def tag_all(tagger: ConstitutionTagger, texts: Sequence[str]) -> list[list[Span]]:
    """Tag many texts; one on which the tagger fails counts as one in which nothing was found."""
    try:
        return tagger.tag_batch(texts)
    except TaggerError:
        half = len(texts) // 2
        return [*tag_all(tagger, texts[:half]), *tag_all(tagger, texts[half:])] if half else [[]]


RULES = "- names, dates, places, organisations, numbers, amounts and other identifying details"


@pytest.mark.parametrize(("constitution", "count", "least"), [(RULES, 200, 0.95), ("HEALTH", 40, 0.93)])
def test_embedded_model_finds_95_percent_of_the_private_phrases(
    constitution: str, count: int, least: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """The built-in constitution, of which every line is read with every sentence, on fewer records."""
    records = held_out_records(count, seed=2024)
    tagger = ConstitutionTagger(Batched(), constitution, max_tokens=96, batch_size=1000)
    tagged = list(zip(records, tag_all(tagger, [record.text for record in records]), strict=True))
    hits = [
        covered(record.text, spans, value) for record, spans in tagged for value in record.fields.values()
    ]
    # What stays public, of all that is no private value: tagging everything would find everything.
    length = sum(len(record.text) - sum(map(len, record.fields.values())) for record in records)
    public = sum(len(record.text) - sum(span.end - span.start for span in spans) for record, spans in tagged)
    rules = "own rules" if constitution == RULES else constitution
    with capsys.disabled():
        Console().print(
            f"\nConstitutionTagger on dpfusion-tiny, {rules}, {count} held-out records: found "
            f"{sum(hits) / len(hits):.1%} of {len(hits)} phrases; {public / length:.1%} of the rest stays public",
            highlight=False,
        )
    assert sum(hits) / len(hits) >= least
    assert public / length >= 0.9


def test_models_with_a_batch_are_asked_many_questions_at_a_time() -> None:
    sizes: list[int] = []

    class Many(Model):
        def batch(self, chats: Sequence[Sequence[Message]], **options: Any) -> list[Said]:
            sizes.append(len(chats))
            return [self.generate(chat, **options) for chat in chats]

    text = "Ann is here. Bob too. Carl as well. Dora left. Emil stays."
    model = Many("Ann", "Ann", "Bob", "Carl", "Dora", "Emil")
    assert phrases(text, ConstitutionTagger(model, batch_size=2).tag(text)) == [
        "Ann",
        "Bob",
        "Carl",
        "Dora",
        "Emil",
    ]
    assert sizes == [2, 2, 1]


def test_engine_is_a_model() -> None:
    engine = FusionEngine.from_pretrained("dpfusion-tiny")
    record = held_out_records(1, seed=7)[0]
    alone = ConstitutionTagger(engine, batch_size=1, cache_size=0).tag(record.text)
    spans = ConstitutionTagger(engine, batch_size=4).tag(record.text)
    assert alone == spans  # reading many at a time changes nothing
    assert any(covered(record.text, spans, value) for value in record.fields.values())


_: Callable[[FusionEngine], ConstitutionTagger] = ConstitutionTagger
