"""One unit has one id, however it is spelt."""

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpfusion_core import Message, PrivacyParameterError, Segment, ViewError
from dpfusion_core.units import LONGEST, has_prefix, unit_id, unit_prefix

# Text in which what the rule folds is frequent.
SPELLINGS = st.lists(
    st.one_of(
        st.sampled_from(
            ["/", "//", "\\", ".", "..", " ", "\t", "\u00a0", "\u200b", "\ufeff", "\n", ":", "s3"]
        ),
        st.sampled_from(
            ["e\u0301", "é", "É", "ß", "ẞ", "İ", "\u0131", "\u017f", "Å", "\u0345", "\u1fb4", "hr", "HR"]
        ),
        st.text(max_size=4),
    )
).map("".join)


def folded(name: str) -> str | None:
    """The normal form; None if there is none."""
    try:
        return unit_id(name)
    except PrivacyParameterError:
        return None


@pytest.mark.parametrize(
    ("spellings", "normal"),
    [
        (["hr/cv-3", "HR/cv-3", "./hr/cv-3", " hr/cv-3 ", "hr//cv-3", "hr\\cv-3", ".\\HR\\.\\cv-3"], "hr/cv-3"),
        (["hr/cv-3/", "x/../hr/cv-3", "hr/x/../cv-3", "hr / cv-3", "hr/\u200bcv-3", "\ufeffhr/cv-3\r\n"], "hr/cv-3"),
        (["Zoë", "Zoe\u0308", "ZOË", "zo\u200be\u0308"], "zoë"),
        (["STRASSE", "Straße", "STRAẞE"], "strasse"),
        (["Jane  Roe", "jane\troe", "\u00a0Jane\u2003Roe"], "jane roe"),
        (["/srv/HR//cv-3", "//srv/hr/cv-3", "/../srv/hr/cv-3", "\\srv\\hr\\cv-3"], "/srv/hr/cv-3"),
        (["../hr/cv-3", "./../hr/cv-3", "../x/../hr/cv-3"], "../hr/cv-3"),
        (["../../a", ".././../a"], "../../a"),
        (["C:\\Docs\\a.txt", "c:/docs/a.txt", "C:\\\\docs\\\\a.txt"], "c:/docs/a.txt"),
        (["https://Host//a/./b", "HTTPS://host/a/b/", "https://host /x/../../a/b", "https:\\\\host\\a\\b"], "https://host/a/b"),
        (["https://host", "https://Host/", "https://host/.."], "https://host"),
        (["/srv/a", "file:///srv/a", "FILE:////srv//a", "file://localhost/srv/a", "file:// /srv/a"], "/srv/a"),
        (["C:\\a", "file:///C:/a", "file://localhost/c:/a"], "c:/a"),
        (["file://host/a", "FILE://Host//a"], "file://host/a"),
        (["♥", "♥\ufe0f", "♥\u034f", "\u3164♥\ufe0f", "♥\U000e0100", "\u115f♥"], "♥"),
        (["s3+x://bucket/a"], "s3+x://bucket/a"),
        (["private"], "private"),
        (["/"], "/"),
        (["a\udcffb"], "a\udcffb"),  # a file's name that is no text
    ],
)  # fmt: skip
def test_all_spellings_of_a_unit_are_one_id(spellings: list[str], normal: str) -> None:
    assert {unit_id(each) for each in spellings} == {normal}


@pytest.mark.parametrize(
    ("one", "other"), [("hr/cv-3", "hr/cv-30"), ("a b", "ab"), ("/a", "a"), ("../a", "a"), ("é", "e")]
)
def test_what_differs_stays_apart(one: str, other: str) -> None:
    assert unit_id(one) != unit_id(other)


@pytest.mark.parametrize(
    "name", ["", " ", "\t\n", ".", "./", "././", "\u200b", "a/..", "\x00", "a" * (LONGEST + 1)]
)
def test_an_id_without_content_and_one_that_is_a_text_are_refused(name: str) -> None:
    for call in (unit_id, unit_prefix):
        with pytest.raises(PrivacyParameterError) as caught:
            call(name)
        assert len(str(caught.value)) < 200
    with pytest.raises(ViewError):
        Segment("x", is_private=True, unit=name)
    with pytest.raises(ViewError):
        Message("user", "x", is_private=True, unit=name)


def test_an_id_that_grows_too_long_is_refused_like_one_that_is() -> None:
    assert unit_id("ß" * (LONGEST // 2)) == "s" * LONGEST
    with pytest.raises(PrivacyParameterError, match="more than"):
        unit_id("ß" * (LONGEST // 2 + 1))


@pytest.mark.parametrize("name", [None, 3, b"a", ["a"]])
def test_what_is_no_string_is_refused(name: object) -> None:
    with pytest.raises(PrivacyParameterError, match="string"):
        unit_id(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["\u0300\u0316" * 10**6, " " * 10**7, "../" * 10**6, "a/" * (LONGEST // 2)])
def test_hostile_ids_take_no_time(name: str) -> None:
    start = time.perf_counter()
    folded(name)
    folded(name[:LONGEST])
    assert time.perf_counter() - start < 1.0


@given(SPELLINGS)
@example("\u1fb4\u0345")
@example("İ/../.\u200b./x")
@example(". .")
def test_a_normal_form_stays_what_it_is(name: str) -> None:
    normal = folded(name)
    if normal is not None:
        assert unit_id(normal) == normal
        assert normal == unicodedata.normalize("NFC", normal).strip()
        assert "\\" not in normal


@given(SPELLINGS)
def test_unicode_forms_and_spellings_of_paths_make_no_difference(name: str) -> None:
    normal = folded(name)
    for form in ("NFC", "NFD"):
        assert folded(unicodedata.normalize(form, name)) == normal
    assert folded(f" {name}\n") == normal
    assert folded(name.casefold()) == normal
    assert folded(name.replace("/", "\\")) == normal
    if normal is not None and not normal.startswith("/"):
        assert folded(f"./{name}") in (normal, folded(normal.replace("://", ":/", 1)))


@given(SPELLINGS, SPELLINGS)
def test_what_is_below_a_folder_has_its_prefix(folder: str, name: str) -> None:
    above, whole = folded(folder), folded(f"{folder}/{name}")
    if above is not None and ".." not in name and whole is not None:
        assert has_prefix(whole, unit_prefix(f"{folder}/"))
        assert has_prefix(above, unit_prefix(f"{folder}/"))


def test_a_prefix_keeps_its_slash() -> None:
    assert unit_prefix(" ./HR\\ ") == "hr/"
    assert unit_prefix("HR") == "hr"
    assert unit_prefix("/") == "/"
    assert not has_prefix("hr-old", "hr/")
    assert has_prefix("hr-old", "hr")


def test_messages_hold_units_in_normal_form() -> None:
    assert Segment("x", is_private=True, unit=" HR/cv-3 ").unit == "hr/cv-3"
    parts = [Segment("a", is_private=True, unit="./HR/cv-3"), Segment("b", is_private=True)]
    message = Message("user", parts, unit="HR\\cv-3")
    assert (message.unit, message.units) == ("hr/cv-3", ("hr/cv-3",))
