"""Own items: small strings in one normal form."""

import unicodedata

import pytest

from dpfusion_core.consensus.items import LONGEST_ITEM, normal_form, read_items


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Late delivery", "- late  DELIVERY."),
        ("the price", "3. Price"),
        ("Caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")),
        ("Stra\u00dfe", "STRASSE"),
        ("\u201cno reply\u201d", "* no\u200b reply!"),
        ("12 May", "12\nMay"),
    ],
)
def test_what_means_the_same_is_one_item(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other) != ""


@pytest.mark.parametrize(("one", "other"), [("$40", "40 $"), ("Anna", "Ann"), ("a", "b"), ("3.5", "35")])
def test_what_differs_stays_apart(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


@pytest.mark.parametrize(
    "text", ["The A", " x ", '"2. a b"', "- - a", "An the a x", "\u0130stanbul", "..a.."]
)
def test_the_normal_form_of_a_normal_form_is_itself(text: str) -> None:
    assert normal_form(normal_form(text)) == normal_form(text)


def test_a_huge_answer_is_cut_off() -> None:
    assert len(normal_form("x" * 10_000_000)) == LONGEST_ITEM
    [item] = read_items("y " * 5000, "points")
    assert len(item) <= LONGEST_ITEM


def test_points_are_lines_and_long_lines_are_read_for_their_phrases() -> None:
    assert read_items("- Late delivery\n\n* Late delivery\n- The price", "points") == [
        "late delivery",
        "price",
    ]
    line = "According to the record that was given the reason for the claim was water damage."
    public = "According to the record that was given the reason for the claim is not stated."
    assert read_items(line, "points", public) == ["water damage"]


def test_phrases_are_what_the_public_answer_lacks() -> None:
    public = "The charge is not stated. What is the charge?"
    assert read_items("The charge is theft of services.", "phrases", public) == ["theft of services"]
    assert read_items(public, "phrases", public) == []


def test_json_is_a_list_of_strings_and_else_read_as_points() -> None:
    assert read_items('["A cat", "the dog", 3, null]', "json") == ["cat", "dog"]
    assert read_items("cat\ndog", "json") == ["cat", "dog"]
    assert read_items('{"a": 1}', "json") == ['{"a": 1}']


def test_a_function_is_held_to_the_normal_form_too() -> None:
    assert read_items("x", lambda answer: ["The  Cat", "cat", 5, ""]) == ["cat"]  # type: ignore[list-item]


@pytest.mark.parametrize("answer", ["", "none", "None.", "\n\n", "N/A", "- "])
def test_an_answer_that_says_nothing_has_no_items(answer: str) -> None:
    assert read_items(answer, "points") == []
