from typing import Any

import pytest

from dpfusion_core.adapters import PrivateTexts, Said, Unmarked, decide, effective_unmarked
from dpfusion_core.adapters import memory as net
from dpfusion_core.errors import PrivacyParameterError, RefusedError

SECRET = "The patient Ann Berg has lived in Oslo since 1973."
QUESTION = Said("Where does the patient live?", "user", message=2)
RULES: list[Unmarked] = ["error", "strict", "private", "public"]


def settled(
    *pieces: Said, unmarked: Unmarked = "error", memory: PrivateTexts | None = None, **more: Any
) -> list[bool]:
    return decide(pieces, unmarked, mends="Mark it.", memory=memory or PrivateTexts(), **more)


def test_a_call_that_protects_nothing_is_refused_by_default() -> None:
    with pytest.raises(RefusedError, match="nothing in this call is marked private"):
        settled(Said(SECRET, "system"), QUESTION)


def test_one_private_stretch_lets_the_others_be_public() -> None:
    assert settled(Said(SECRET, "user", mark=True), QUESTION) == [True, False]


def test_strict_wants_every_message_to_say_what_it_is() -> None:
    pieces = Said(SECRET, "user", mark=True), QUESTION
    with pytest.raises(RefusedError, match=r"Message 2 \(role 'user'\)"):
        settled(*pieces, unmarked="strict")
    said = Said("Where?", "user", mark=False, message=2)
    assert settled(pieces[0], said, unmarked="strict") == [True, False]


def test_private_covers_system_messages_but_no_answer_of_ours() -> None:
    own = Said("It is not stated.", "assistant", is_own=True)
    foreign = Said("She lives in Oslo.", "assistant")
    assert settled(Said(SECRET, "system"), own, foreign, QUESTION, unmarked="private") == [
        True,
        False,
        True,
        True,
    ]


def test_public_is_the_callers_word() -> None:
    assert settled(Said(SECRET, "system"), QUESTION, unmarked="public") == [False, False]


@pytest.mark.parametrize("unmarked", RULES)
def test_tool_results_are_private_and_marks_bind_under_every_rule(unmarked: Unmarked) -> None:
    pieces = Said("found", "tool"), Said("list", "tool", mark=False), Said("a", "user", mark=True)
    assert settled(*pieces, unmarked=unmarked) == [True, False, True]


@pytest.mark.parametrize("unmarked", ["error", "public"])
@pytest.mark.parametrize("mark, role", [(True, "user"), (None, "tool")])
def test_private_text_that_comes_back_unmarked_is_refused(
    unmarked: Unmarked, mark: bool | None, role: Any
) -> None:
    memory = PrivateTexts()
    settled(Said(SECRET, role, mark=mark), QUESTION, unmarked=unmarked, memory=memory)
    back = Said(f"Summary so far: {SECRET}", "system")
    with pytest.raises(RefusedError, match="was private before"):
        settled(back, Said("a", "user", mark=True), unmarked=unmarked, memory=memory)


def test_what_the_caller_says_binds_whatever_is_recognised() -> None:
    memory = PrivateTexts()
    memory.remember(SECRET)
    assert settled(Said(SECRET, "user", mark=False), memory=memory) == [False]
    assert settled(Said(SECRET, "user", mark=True), memory=memory) == [True]
    assert settled(Said(SECRET, "user"), unmarked="private", memory=memory) == [True]


def test_a_refused_call_leaves_nothing_in_the_net() -> None:
    memory = PrivateTexts()
    with pytest.raises(RefusedError):
        settled(Said(SECRET, "user", mark=True), QUESTION, unmarked="strict", memory=memory)
    assert not memory.holds(SECRET)


def test_an_unstable_unit_and_a_ledger_exclude_each_other() -> None:
    pieces = Said(SECRET, "user", mark=True, is_stable=False), QUESTION
    assert settled(*pieces, has_ledger=False) == [True, False]
    with pytest.raises(RefusedError, match="indexed again"):
        settled(*pieces, has_ledger=True)


def test_empty_text_is_nothing_to_refuse() -> None:
    assert settled(Said(" ", "system"), Said("", "user")) == [False, False]


@pytest.mark.parametrize("unmarked", ["error", "strict", "public"])
def test_errors_do_not_quote_text(unmarked: Unmarked) -> None:
    memory = PrivateTexts()
    memory.remember(SECRET)
    with pytest.raises(RefusedError) as caught:
        settled(Said(SECRET, "user"), unmarked=unmarked, memory=memory)
    assert "Berg" not in str(caught.value)


def test_the_rule_by_default_follows_the_budget() -> None:
    assert effective_unmarked(None, has_budget=True) == "error"
    assert effective_unmarked(None, has_budget=False) == "public"
    assert effective_unmarked("private", has_budget=False) == "private"
    with pytest.raises(PrivacyParameterError, match="unmarked"):
        effective_unmarked("none", has_budget=True)  # type: ignore[arg-type]


def test_a_long_conversation_is_read_in_proportion_to_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    read = [0]
    words = net._words

    def counted(text: str) -> tuple[str, ...]:
        read[0] += len(text)
        return words(text)

    monkeypatch.setattr(net, "_words", counted)

    def characters(turns: int) -> int:
        read[0] = 0
        texts = [" ".join(f"word{turn}x{i}" for i in range(20)) for turn in range(2 * turns)]
        pieces = [Said(text, "user" if i % 2 else "tool") for i, text in enumerate(texts)]
        settled(*pieces)
        return read[0]

    assert characters(80) < 5 * characters(20)
