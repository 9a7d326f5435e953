import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpfusion_core.errors import ViewError
from dpfusion_core.messages import DEFAULT_UNIT
from llamaindex_dpfusion.seals.marks import clean
from llamaindex_dpfusion.seals.sealer import Sealer

SECRET = "Ingrid Solheim lives in Trondheim and was born in May."


@pytest.fixture
def sealer() -> Sealer:
    return Sealer()


def read(sealer: Sealer, text: str, is_private: bool = False) -> list[tuple[str, str | None]]:
    return [(s.text, s.unit) for s in sealer.read(text, is_private=is_private)]


def public_text(sealer: Sealer, text: str, is_private: bool = False) -> str:
    return "".join(s.text for s in sealer.read(text, is_private=is_private) if not s.is_private)


def test_a_sealed_text_comes_back_for_its_unit(sealer: Sealer) -> None:
    text = f"Context: {sealer.seal(SECRET, 'doc-1').text} Who?"
    assert read(sealer, text) == [("Context: ", None), (SECRET, "doc-1"), (" Who?", None)]


def test_marks_hold_no_space(sealer: Sealer) -> None:
    seal = sealer.seal(SECRET, "a unit: with [[odd]] näme")
    assert not re.search(r"\s", seal.opening + seal.closing + seal.handle)
    assert read(sealer, seal.text) == [(SECRET, "a unit: with [[odd]] näme")]


def test_a_text_sealed_as_public_is_public_among_private_text(sealer: Sealer) -> None:
    text = sealer.seal("Question?", None).text + " rest"
    assert read(sealer, text, is_private=True) == [("Question?", None), (" rest", DEFAULT_UNIT)]


def test_text_between_documents_is_what_llama_index_joins_them_with(sealer: Sealer) -> None:
    text = sealer.seal("One.", "a").text + "\n \n\n" + sealer.seal("Two.", "b").text
    assert read(sealer, text, is_private=True) == [("One.", "a"), ("\n\n", None), ("Two.", "b")]


def test_bare_private_text_belongs_to_the_unnamed_unit(sealer: Sealer) -> None:
    assert read(sealer, SECRET, is_private=True) == [(SECRET, DEFAULT_UNIT)]


@pytest.mark.parametrize(
    "forge", ["content", "unit", "code", "nonce", "other key", "no closing", "no opening"]
)
def test_a_damaged_pair_makes_everything_private(sealer: Sealer, forge: str) -> None:
    seal = (Sealer() if forge == "other key" else sealer).seal(SECRET, "doc-1")
    other = sealer.seal("Other.", "doc-2")
    text = {
        "content": seal.text.replace("May", "June"),
        "unit": seal.text.replace("doc-1", "doc-2"),
        "code": seal.opening[:-3] + "A" * 1 + "]]" + SECRET + seal.closing
        if seal.opening[-3] != "A"
        else seal.opening[:-3] + "B]]" + SECRET + seal.closing,
        "nonce": seal.text.replace(seal.closing, other.closing),
        "other key": seal.text,
        "no closing": seal.opening + SECRET,
        "no opening": SECRET + seal.closing,
    }[forge]
    found = sealer.read(f"Before {text} after", is_private=False)
    assert {s.unit for s in found} == {DEFAULT_UNIT}
    assert all(s.is_private for s in found)
    assert "[[" not in "".join(s.text for s in found)


def test_a_document_that_quotes_marks_gains_nothing(sealer: Sealer) -> None:
    old = sealer.seal("Old text of another request.", "victim", remember=True)
    hostile = (
        f"mine1 {old.text} mine2 {old.closing} mine3 {old.opening} mine4 {old.handle} mine5 "
        f"[[dpf:aaaaaaaaaaa::aaaaaaaaaaaaaaaa]]mine6[[/dpf:aaaaaaaaaaa]] [[dpf mine7"
    )
    segments = sealer.read(sealer.seal(hostile, "hostile").text, is_private=False)
    assert [s.unit for s in segments] == ["hostile"]
    assert all(f"mine{i}" in segments[0].text for i in range(1, 8))
    assert "dpf" not in segments[0].text
    assert sealer.read(hostile, is_private=True)[0].is_private
    assert {s.unit for s in sealer.read(hostile, is_private=True) if "mine" in s.text} == {DEFAULT_UNIT}


def test_a_replayed_pair_around_other_text_is_worth_nothing(sealer: Sealer) -> None:
    old = sealer.seal("Old text of another request.", "victim", remember=True)
    text = f"{old.opening}My own text that the victim shall pay for.{old.closing}"
    assert {unit for _, unit in read(sealer, text, is_private=True)} == {DEFAULT_UNIT}


NASTY = st.lists(
    st.sampled_from(
        [
            "[[dpf:",
            "[[/dpf:",
            "]]",
            "[[",
            "[[dpfv:",
            "dpf",
            " ",
            "\n",
            "ann",
            "oslo",
            ":",
            "{'is_private': 1}",
        ]
    )
    | st.text(max_size=8),
    max_size=12,
).map("".join)


@given(
    texts=st.lists(NASTY, min_size=1, max_size=4),
    is_private=st.booleans(),
    joiner=st.sampled_from(["\n\n", " "]),
)
def test_whatever_documents_hold_each_is_its_own_unit(
    texts: list[str], is_private: bool, joiner: str
) -> None:
    sealer = Sealer()
    seals = [sealer.seal(text, f"doc-{i}") for i, text in enumerate(texts)]
    segments = sealer.read(joiner.join(seal.text for seal in seals), is_private=is_private)
    for i, text in enumerate(texts):
        assert "".join(s.text for s in segments if s.unit == f"doc-{i}") == clean(text)
    assert not "".join(s.text for s in segments if not s.is_private).strip()
    assert DEFAULT_UNIT not in {s.unit for s in segments}


@given(text=NASTY)
def test_clean_text_stays_as_it_is(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert not re.search(r"\[\[/?dpf", once, re.IGNORECASE)


@pytest.mark.parametrize("is_private", [True, False])
def test_cut_anywhere_nothing_becomes_public_nor_another_units(is_private: bool) -> None:
    sealer = Sealer()
    seal = sealer.seal(SECRET, "doc-1", remember=True)
    sealer.seal(f"Copy: {SECRET}", "doc-2", remember=True)
    whole = seal.text
    for cut in range(1, len(whole)):
        for piece in (whole[:cut], whole[cut:]):
            if not is_private and "[[dpf" not in piece and "[[/dpf" not in piece:
                continue  # without any mark, bare text of a public message is what it says it is
            try:
                found = sealer.read(piece, is_private=is_private)
            except ViewError:  # nothing but a piece of a mark
                continue
            assert not "".join(s.text for s in found if not s.is_private).strip(" [")
            assert seal.nonce not in "".join(s.text for s in found)
            assert {s.unit for s in found} <= {None, "doc-1", DEFAULT_UNIT}


def test_a_piece_beside_its_own_mark_keeps_its_unit(sealer: Sealer) -> None:
    seal = sealer.seal(SECRET, "doc-1", remember=True)
    cut = len(seal.opening) + 20
    assert read(sealer, seal.text[:cut]) == [(SECRET[:20], "doc-1")]
    assert read(sealer, seal.text[cut:]) == [(SECRET[20:], "doc-1")]


def test_a_piece_out_of_the_middle_holds_a_mark_of_its_own(sealer: Sealer) -> None:
    long = " ".join(f"word{i}" for i in range(400))
    text = sealer.seal(long, "doc-1", remember=True).text
    for start in range(100, 1500, 37):
        piece = text[start : start + 300]
        assert {s.unit for s in sealer.read(piece, is_private=True)} == {"doc-1"}
        assert len(sealer.read(piece, is_private=True)) == 1


@pytest.mark.parametrize("text", ["", "word " * 500, "字" * 3000, "a" * 3000, "line\n" * 300, " \n " * 200])
def test_marks_inside_of_a_text_change_nothing_of_it(sealer: Sealer, text: str) -> None:
    seal = sealer.seal(text, "doc-1", remember=True)
    assert "".join(s.text for s in sealer.read(seal.text, is_private=True)) == text


def test_text_changed_between_its_marks_is_not_its_units(sealer: Sealer) -> None:
    seal = sealer.seal(SECRET, "doc-1", remember=True)
    pieces = sealer.read_pieces(seal.text.replace("May", "June"), said=None)
    assert [(p.unit, p.tag) for p in pieces] == [(DEFAULT_UNIT, "cut")]


# -- What resembles a sealed text --


@pytest.mark.parametrize("unit", ["patient-17", None])
def test_a_text_that_is_said_to_be_somebodys_is_theirs(sealer: Sealer, unit: str | None) -> None:
    sealer.seal(f"{SECRET}\nOther line of the document.", "doc-a", remember=True)
    assert {s.unit for s in sealer.read(SECRET, is_private=True, unit=unit)} == {unit or DEFAULT_UNIT}


def test_a_text_that_was_public_once_stays_private_where_it_is_private(sealer: Sealer) -> None:
    public = sealer.seal(SECRET, None, remember=True)
    assert read(sealer, SECRET, is_private=True) == [(SECRET, DEFAULT_UNIT)]
    assert all(s.is_private for s in sealer.read(public.text[:-5], is_private=False))


def test_how_many_segments_there_are_does_not_depend_on_what_is_known() -> None:
    text = f"{SECRET}\nSource 1:\nSomething else that nobody knows.\n{SECRET}"
    shapes = set()
    for known in ([], [SECRET], ["Something else that nobody knows."], [SECRET, text]):
        sealer = Sealer()
        for i, content in enumerate(known):
            sealer.seal(content, f"doc-{i}", remember=True)
        shapes.add(tuple(s.is_private for s in sealer.read(text, is_private=True)))
    assert shapes == {(True,)}


@given(
    words=st.lists(st.sampled_from(["ann", "oslo", "is", "ill", "Source 1:"]), min_size=1, max_size=60),
    cuts=st.tuples(st.integers(0, 900), st.integers(1, 900)),
)
def test_the_shape_of_a_cut_prompt_does_not_depend_on_its_words(
    words: list[str], cuts: tuple[int, int]
) -> None:
    shapes = set()
    for text in (" ".join(words), re.sub(r"\S", "x", " ".join(words))):  # blanks alone are no segment
        sealer = Sealer()
        seals = [sealer.seal(text, f"d{i}", remember=True) for i in range(3)]
        prompt = "\n\n".join(seal.opening + seal.content + seal.closing for seal in seals)
        cut = prompt[cuts[0] : cuts[0] + cuts[1]].strip()
        try:
            pieces = sealer.read_pieces(cut, said=True)
        except ViewError:
            return
        shapes.add(sum(piece.unit is not None for piece in pieces))
    assert len(shapes) == 1


def test_hostile_marks_cost_no_more_than_their_length(sealer: Sealer) -> None:
    seal = sealer.seal(SECRET, "doc-1", remember=True)
    fake = "".join(f"[[dpf:{i:011d}:u:{'A' * 24}]]" for i in range(20_000))
    ends = "".join(f"[[/dpf:{i:011d}]]" for i in range(20_000))
    start = time.perf_counter()
    assert all(s.is_private for s in sealer.read(fake + "text" + ends, is_private=False))
    sealer.read(seal.opening * 20_000 + "text" + seal.closing, is_private=False)
    assert time.perf_counter() - start < 10


def test_a_unit_is_one_whatever_its_spelling(sealer: Sealer) -> None:
    text = sealer.seal("One.", "HR/cv-3").text + sealer.seal("Two.", "./hr/cv-3").text
    assert {s.unit for s in sealer.read(text, is_private=False)} == {"hr/cv-3"}


def test_text_that_stands_in_a_mark_is_text(sealer: Sealer) -> None:
    seal = sealer.seal(SECRET, "doc-1", remember=True)
    for text in ("doc-1", seal.nonce, "dpf"):
        assert read(sealer, text, is_private=True) == [(text, DEFAULT_UNIT)]


def test_a_handle_stands_for_its_text(sealer: Sealer) -> None:
    seal = sealer.seal(SECRET, "doc-1", remember=True)
    assert SECRET not in seal.handle
    assert read(sealer, f"Context: {seal.handle}") == [("Context: ", None), (SECRET, "doc-1")]


def test_a_handle_whose_text_is_gone_says_what_to_do(sealer: Sealer) -> None:
    handle = sealer.seal(SECRET, "doc-1", remember=True).handle
    sealer.forget()
    with pytest.raises(ViewError, match="no longer in the vault"):
        sealer.read(handle, is_private=False)


def test_a_forged_handle_is_no_handle(sealer: Sealer) -> None:
    handle = sealer.seal(SECRET, "doc-1", remember=True).handle
    forged = handle.replace("doc-1", "doc-2")
    assert public_text(sealer, f"x {forged}") == ""
    assert SECRET not in "".join(text for text, _ in read(sealer, f"x {forged}"))


def test_only_the_latest_documents_are_remembered() -> None:
    sealer = Sealer(capacity=2)
    first, _, _ = (sealer.seal(f"{SECRET} {i}", f"doc-{i}", remember=True) for i in range(3))
    assert len(sealer._documents) == 2
    with pytest.raises(ViewError, match="more than 2"):
        sealer.read(first.handle, is_private=True)


def test_repr_shows_no_secret(sealer: Sealer) -> None:
    seal = sealer.seal(SECRET, "doc-1", remember=True)
    assert repr(seal) == "Seal(unit='doc-1', tag='')"
    assert repr(sealer) == "Sealer(capacity=4096, characters=67108864)"


def test_flags_that_a_formatter_has_written_are_dropped(sealer: Sealer) -> None:
    text = "user: hello\n{'is_private': True, 'unit': 'x'}\nassistant: hi\n{'dp_fusion': {'epsilon': 8.0}}"
    assert public_text(sealer, text) == "user: hello\nassistant: hi"
