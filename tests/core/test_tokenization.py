"""Streams of text: whole characters, nothing of a stop string, nothing lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from dpfusion_core import PrivacyParameterError
from dpfusion_core.tiny import model_path
from dpfusion_core.tokenization import Detokenizer
from tests.core.models import CharTokenizer


class ByteTokenizer:
    """One token per byte, so that characters span tokens and may be broken."""

    chat_template = None

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        raise AssertionError("not needed")

    def __call__(self, text: str, **options: Any) -> Any:
        raise AssertionError("not needed")

    def decode(self, token_ids: list[int], **options: Any) -> str:
        return bytes(token_ids).decode("utf-8", errors="replace")


@pytest.fixture(scope="module")
def tiny() -> Any:
    return AutoTokenizer.from_pretrained(model_path())


def pieces(stream: Detokenizer, ids: list[int]) -> list[str]:
    parts = []
    for token in ids:
        parts.append(stream.push(token))
        if stream.is_stopped:
            break
    return [*parts, stream.finish()]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=30))
def test_bytes_come_back_as_whole_characters(text: str) -> None:
    parts = pieces(Detokenizer(ByteTokenizer()), list(text.encode()))
    assert "".join(parts) == text
    assert all("\ufffd" not in part for part in parts) or "\ufffd" in text


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=30))
def test_tokens_of_a_real_tokenizer_come_back(tiny: Any, text: str) -> None:
    ids = tiny(text, add_special_tokens=False)["input_ids"]
    assert "".join(pieces(Detokenizer(tiny), ids)) == tiny.decode(ids, skip_special_tokens=True)


@given(st.lists(st.integers(0, 255), max_size=40))
def test_broken_bytes_are_valid_unicode(ids: list[int]) -> None:
    parts = pieces(Detokenizer(ByteTokenizer()), ids)
    assert "".join(parts).encode("utf-8").decode("utf-8") == bytes(ids).decode("utf-8", errors="replace")


@given(
    text=st.text(alphabet="abc", max_size=30),
    stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_text_ends_before_the_first_stop_string_and_never_shows_half_of_it(
    text: str, stops: list[str]
) -> None:
    tokenizer = CharTokenizer()
    stream = Detokenizer(tokenizer, stops)
    ids = tokenizer(text)["input_ids"]
    shown = ""
    seen = ""
    for token in ids:
        seen += tokenizer.alphabet[token]
        shown += stream.push(token)
        ends = [seen.find(stop) for stop in stops if stop in seen]
        assert seen.startswith(shown)
        if ends:
            assert stream.is_stopped
            assert shown == seen[: min(ends)]
            break
        assert not stream.is_stopped
        held = seen[len(shown) :]
        assert any(stop.startswith(held) for stop in stops)  # what is held back could become one
    else:
        assert shown + stream.finish() == text
        return
    assert stream.finish() == ""


def test_held_back_text_is_released_when_it_was_no_stop_string() -> None:
    stream = Detokenizer(CharTokenizer(), ["abc"])
    ids = CharTokenizer()("abab-")["input_ids"]
    assert [stream.push(token) for token in ids] == ["", "", "ab", "", "ab-"]


def test_stop_string_across_token_boundaries_of_a_real_tokenizer(tiny: Any) -> None:
    ids = tiny("The city is Oslo.\nThe end", add_special_tokens=False)["input_ids"]
    parts = pieces(Detokenizer(tiny, [".\nThe"]), ids)
    assert "".join(parts) == "The city is Oslo"


@pytest.mark.parametrize("stop", ["abc", [""], [b"x"]])
def test_bad_stop_strings(stop: Any) -> None:
    with pytest.raises(PrivacyParameterError, match="stop"):
        Detokenizer(CharTokenizer(), stop)
