import uuid

import pytest

from dpfusion_core.adapters import DocumentUnit, Marks, document_unit
from dpfusion_core.errors import PrivacyParameterError, ViewError
from dpfusion_core.options import canonical


def test_every_chunk_of_a_source_is_one_unit_whatever_the_index_calls_it() -> None:
    units = {
        document_unit({"source": "hr/cv.txt"}, own_id=str(uuid.uuid4()), parent_id=str(uuid.uuid4()))
        for _ in range(3)
    }
    assert units == {DocumentUnit("hr/cv.txt", is_stable=True)}


@pytest.mark.parametrize("drawn", [uuid.uuid4(), uuid.uuid1()])
def test_ids_that_an_index_draws_are_not_stable(drawn: uuid.UUID) -> None:
    assert not document_unit({"doc_id": str(drawn)}).is_stable
    assert not document_unit({}, parent_id=drawn.hex).is_stable
    assert not document_unit({}, own_id="7").is_stable


def test_a_key_that_the_caller_names_is_taken_at_its_word() -> None:
    drawn = str(uuid.uuid4())
    assert document_unit({"case": drawn, "source": "a"}, key="case") == DocumentUnit(drawn, is_stable=True)
    assert not document_unit({"source": "a"}, key="case", own_id="7").is_stable  # not silently another


def test_a_parent_that_the_user_has_named_is_stable() -> None:
    assert document_unit({}, parent_id="record-17") == DocumentUnit("record-17", is_stable=True)


def test_one_true_flag_makes_private_and_only_the_exact_key_makes_public() -> None:
    assert Marks.read({"is_private": False}, {"isPrivate": 1}).said is True
    assert Marks.read({"private": False}).said is None
    assert Marks.read({"is_private": False}).said is False
    odd: tuple[object, ...] = 0, "", "no", "false", [], 0.0
    assert [Marks.read({"is_private": value}).said for value in odd] == [True] * 6
    assert Marks.read("a string where a mapping should be").said is True
    assert Marks.read(None, {"is_private": None}).said is None
    assert Marks.read({"unit": 7, "unit_is_stable": False}) == Marks((), "7", is_stable=False)
    with pytest.raises(ViewError):
        Marks.read({"unit": "a"}, {"unit": "b"})


def test_spellings_of_one_unit_are_one_unit_and_what_is_no_id_is_refused() -> None:
    spellings = {"unit": "HR/CV-3"}, {"unit": " hr//cv-3 "}, {"unit": "hr\\cv-3"}
    assert Marks.read(*spellings) == Marks((), "hr/cv-3")
    for name in ("", " \u200b", "a" * 5000, 1.5, True, ["a"]):
        with pytest.raises(ViewError) as caught:
            Marks.read({"unit": name})
        assert "aaa" not in str(caught.value)


def test_options_are_read_or_refused() -> None:
    known = {"neighbours", "ledger", "max_tokens"}
    assert canonical({"neighbors": "replace", "max_new_tokens": 5}, known, "a call") == {
        "neighbours": "replace",
        "max_tokens": 5,
    }
    with pytest.raises(PrivacyParameterError, match="Did you mean 'ledger'"):
        canonical({"legder": 1}, known, "a call")
    with pytest.raises(PrivacyParameterError, match="twice"):
        canonical({"max_tokens": 1, "max_new_tokens": 2}, known, "a call")
    with pytest.raises(PrivacyParameterError) as caught:
        canonical({"Ann lives in Oslo": 1}, known, "a call")
    assert "Oslo" not in str(caught.value)
