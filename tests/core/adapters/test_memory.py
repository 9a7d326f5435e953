import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpfusion_core.adapters import PrivateTexts
from dpfusion_core.adapters.memory import runs_of

RECORD = "The patient Ann Berg has lived in Oslo since the year 1973 and works as a teacher."

words = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=8), min_size=3, max_size=40)


@pytest.mark.parametrize(
    "text",
    [
        RECORD,
        f"Answer from the context.\n\n{RECORD}\n\nQuestion: where?",
        RECORD.upper().replace(" ", "\n\t"),
        RECORD.replace("Ann", "\uff21nn"),  # another Unicode form
        "patient Ann Berg has lived in Oslo since",  # cut on both sides
    ],
)
def test_text_that_was_private_is_recognised_where_it_comes_back(text: str) -> None:
    texts = PrivateTexts()
    texts.remember(RECORD)
    assert texts.holds(text)


@pytest.mark.parametrize("text", ["", "Where does the patient Ann Berg live?", "Oslo", "since the year 1973"])
def test_other_text_is_not(text: str) -> None:
    texts = PrivateTexts()
    texts.remember(RECORD)
    assert not texts.holds(text)


def test_short_private_texts_are_recognised_as_a_whole() -> None:
    texts = PrivateTexts()
    texts.remember("Ann lives in Oslo.")
    assert texts.holds("Context: Ann lives in Oslo. Who?")
    assert not texts.holds("Ann lives in Bergen.")


def test_words_of_scripts_without_spaces_count_by_the_character() -> None:
    texts = PrivateTexts()
    texts.remember("患者は東京に住んでいます")
    assert texts.holds("次の文脈から答えてください。患者は東京に住んでいます。")
    assert not texts.holds("患者はどこに住んでいますか")


@pytest.mark.parametrize(
    ("record", "question", "pasted"),
    [
        (
            "患者は東京に住んでいて、痛風を患っています。",
            "患者は東京に住んでいますか。",
            "要約してください。患者は東京に住んでいて、痛風を患っています。",
        ),
        ("ผู้ป่วยชื่อสมชายอาศัยอยู่ในกรุงเทพและเป็นโรคเกาต์", "ผู้ป่วยอาศัยอยู่ที่ไหน", "ผู้ป่วยชื่อสมชายอาศัยอยู่ในกรุงเทพและเป็น"),
        (
            "환자는 서울에 살고 있으며 통풍을 앓고 있습니다 라고 합니다",
            "환자는 서울에 살고 있나요?",
            "환자는 서울에 살고 있으며 통풍을 앓고 있습니다 라고",
        ),
        ("ありがとう", "ありがとう", None),
        ("안녕하세요", "안녕하세요", None),
        ("สวัสดีครับ", "สวัสดีครับ", None),
    ],
)
def test_a_question_about_a_record_is_none_of_it_in_any_script(
    record: str, question: str, pasted: str | None
) -> None:
    texts = PrivateTexts()
    texts.remember(record)
    assert not texts.holds(question)
    assert pasted is None or texts.holds(pasted)


def test_what_was_released_is_public() -> None:
    texts = PrivateTexts()
    texts.remember(RECORD)
    texts.release("I read: the patient Ann Berg has lived in Oslo since the year 1973.")
    assert not texts.holds("You said that the patient Ann Berg has lived in Oslo since the year 1973.")
    assert texts.holds(RECORD)  # the rest of it was not


def test_the_oldest_are_forgotten_first_and_memory_stays_bounded() -> None:
    texts = PrivateTexts(capacity=10)
    texts.remember("one two three four five")
    texts.remember(" ".join(f"word{i}" for i in range(100)))
    assert not texts.holds("one two three four five")
    assert texts.holds(" ".join(f"word{i}" for i in range(80, 100)))


@given(words, words, words)
def test_whatever_stands_around_a_private_text_it_is_recognised(
    before: list[str], inner: list[str], after: list[str]
) -> None:
    texts = PrivateTexts()
    texts.remember(" ".join(inner))
    assert texts.holds(" ".join([*before, *inner, *after]))


def test_neither_repr_nor_state_holds_the_text() -> None:
    texts = PrivateTexts()
    texts.remember(RECORD)
    assert "Berg" not in repr(texts)
    assert "berg" not in repr(vars(texts)).lower()


def test_what_a_private_text_repeats_of_public_text_is_passed_over() -> None:
    question = "What does the record say of the patient who lives in Oslo?"
    texts = PrivateTexts()
    texts.remember(f"Results for {question} {RECORD}", known=set(runs_of(f"Be brief.\n{question}")))
    assert not texts.holds(question)
    assert texts.holds(RECORD)
