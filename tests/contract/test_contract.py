"""One contract for both frameworks; the oracle is the core, asked the same without a framework."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from dpfusion_core import FusionEngine, Message, PrivacyBudget, PrivacyLedger, ScriptedBackend
from dpfusion_core.errors import (
    BackendError,
    BudgetExhaustedError,
    PrivacyParameterError,
    RefusedError,
    ViewError,
)
from tests.contract.frameworks import WAYS, Framework, Turn

ANSWER = "They are both well, in the north."
ANN = Turn("Ann Roe of Trondheim has had the gout since May.", {"is_private": True, "unit": "ann"})
BO = Turn("Bo Lie of Bergen owes forty kroner to the baker.", {"is_private": True, "unit": "bo"})
ASK = Turn("How are they?")
TURNS = [Turn("Be brief.", role="system"), ANN, BO, ASK]
TOOL = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Finds a record.",
        "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
}


def backend_saying(says: str | Callable[[str], str] = ANSWER) -> ScriptedBackend:
    return ScriptedBackend.saying(says, context_length=2048)


def core_messages(turns: list[Turn]) -> list[Message]:
    return [
        Message(t.role, t.text, is_private=bool(t.flags.get("is_private")), unit=t.flags.get("unit"))
        for t in turns
    ]


def opened_ledger(epsilon: float = 8.0) -> PrivacyLedger:
    return PrivacyLedger("sqlite://", budget=PrivacyBudget(epsilon), key="k" * 32)


def spent(ledger: PrivacyLedger, unit: str) -> list[tuple[float, float]]:
    return [(balance.order, balance.spent) for balance in ledger.account(unit).balances]


class Failing:
    """Fails in the model for the first so many requests, after some tokens."""

    def __init__(self, failures: int, after: int = 0, delay: float = 0.0) -> None:
        self.backend = backend_saying()
        self.left, self.after, self.delay, self.seen = failures, after, delay, 0
        script, open_session = self.backend._script, self.backend.open

        def opening(prompts: Any) -> Any:
            self.seen += 1
            self.left -= 1
            return open_session(prompts)

        def logits(prompt: Any, said: Any) -> Any:
            time.sleep(self.delay)
            if self.left >= 0 and len(said) >= self.after:
                raise ArithmeticError(ANN.text)
            return script(prompt, said)

        self.backend._script, self.backend.open = logits, opening  # type: ignore[method-assign]


# --- What the model sees, what is charged, what is said of it ---


@pytest.mark.parametrize("way", WAYS)
def test_views_answer_and_guarantee_are_those_of_the_core(framework: Framework, way: str) -> None:
    ours, theirs = backend_saying(), backend_saying()
    expected = FusionEngine(ours).generate(core_messages(TURNS), epsilon=8.0)
    reply = framework.ask(framework.model(FusionEngine(theirs), epsilon=8.0), TURNS, way)
    assert theirs.requests == ours.requests
    public, of_ann, of_bo = theirs.requests[0]
    assert "Trondheim" not in public
    assert "Trondheim" in of_ann
    assert "Trondheim" not in of_bo
    assert reply.text == expected.text == ANSWER
    assert reply.guarantee == expected.guarantee.as_dict()
    assert reply.finish_reason == expected.finish_reason
    assert reply.tokens == (expected.prompt_tokens, expected.guarantee.tokens)
    assert theirs.open_sessions == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "options", [{"epsilon": 2.0}, {"alpha": 4.0, "beta": 0.001}, {"epsilon": 2.0, "accounting": "adaptive"}]
)
def test_the_charge_is_that_of_the_core(framework: Framework, way: str, options: dict[str, Any]) -> None:
    with opened_ledger() as ours, opened_ledger() as theirs:
        FusionEngine(backend_saying(), ledger=ours).generate(core_messages(TURNS), **options)
        framework.ask(framework.model(FusionEngine(backend_saying(), ledger=theirs), **options), TURNS, way)
        for unit in ("ann", "bo"):
            assert spent(theirs, unit) == spent(ours, unit)
            assert any(amount > 0 for _, amount in spent(theirs, unit))
        assert len(list(theirs.curator.accounts())) == 2


def test_an_option_of_the_call_comes_before_the_model_s(framework: Framework) -> None:
    expected = FusionEngine(backend_saying()).generate(core_messages(TURNS), epsilon=2.0)
    model = framework.model(FusionEngine(backend_saying()), alpha=4.0, beta=0.01)
    assert framework.ask(model, TURNS, epsilon=2.0).guarantee == expected.guarantee.as_dict()


# --- Marks ---


@pytest.mark.parametrize(
    ("flags", "unit"),
    [
        ({"is_private": True}, "private"),
        ({"is_private": 0}, "private"),
        ({"is_private": "no"}, "private"),
        ({"is_private": []}, "private"),
        ({"IsPrivate": True}, "private"),
        ({"private": False, "is_private": True}, "private"),
        ({"is_private": True, "unit": " ANN\\x "}, "ann/x"),
        ({"is_private": True, "unit": 7}, "7"),
        ({"is_private": False}, None),
    ],
    ids=str,
)
def test_marks_have_one_polarity(framework: Framework, flags: dict[str, Any], unit: str | None) -> None:
    backend = backend_saying()
    with opened_ledger() as ledger:
        model = framework.model(FusionEngine(backend, ledger=ledger), epsilon=1.0)
        framework.ask(model, [Turn(ANN.text, flags), BO, ASK])
        assert ("Trondheim" in backend.requests[0][0]) is (unit is None)
        charged = ledger.account("bo").balances
        assert charged
        assert len(list(ledger.curator.accounts())) == (1 if unit is None else 2)
        if unit is not None:
            assert any(amount > 0 for _, amount in spent(ledger, unit))


@pytest.mark.parametrize("flags", [{"unit": "ann"}, {"unit": "ann", "is_private": False}], ids=str)
def test_a_unit_without_privacy_is_an_error(framework: Framework, flags: dict[str, Any]) -> None:
    backend = backend_saying()
    model = framework.model(FusionEngine(backend), epsilon=8.0)
    with pytest.raises(ViewError, match="names a unit but is not private"):
        framework.ask(model, [Turn(ANN.text, flags), BO, ASK])
    assert not backend.requests


@pytest.mark.parametrize("unit", ["", " ", ["ann"], True], ids=str)
def test_a_unit_that_is_no_name_is_an_error(framework: Framework, unit: Any) -> None:
    model = framework.model(FusionEngine(backend_saying()), epsilon=8.0)
    with pytest.raises(ViewError, match=r"non-empty string|id of a unit is empty"):
        framework.ask(model, [Turn(ANN.text, {"is_private": True, "unit": unit}), ASK])


def test_what_tools_have_said_is_private_whatever_the_rule(framework: Framework) -> None:
    backend = backend_saying()
    model = framework.model(FusionEngine(backend), epsilon=8.0, unmarked="public")
    framework.ask(model, [ASK, Turn("calling", role="assistant"), Turn(ANN.text, role="tool")])
    public, private = backend.requests[0]
    assert "Trondheim" not in public
    assert "Trondheim" in private


@pytest.mark.parametrize(
    ("unmarked", "is_private"), [("public", False), ("private", True), ("error", False), (None, False)]
)
def test_unmarked_text_is_what_the_rule_says(
    framework: Framework, unmarked: str | None, is_private: bool
) -> None:
    backend = backend_saying()
    framework.ask(framework.model(FusionEngine(backend), epsilon=8.0, unmarked=unmarked), [BO, ASK])
    assert (ASK.text not in backend.requests[0][0]) is is_private


# --- Refusals ---


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("turns", "options", "error", "words"),
    [
        ([ASK], {"epsilon": 8.0}, RefusedError, "nothing in this call is marked private"),
        ([ANN, ASK], {"epsilon": 8.0, "unmarked": "strict"}, RefusedError, "does not say whether"),
        ([ANN, ASK], {}, PrivacyParameterError, "no privacy parameters"),
        ([ANN, ASK], {"epsilon": 8.0, "temperature": 0.0}, PrivacyParameterError, "temperature"),
    ],
    ids=["nothing private", "strict", "no parameters", "greedy"],
)
def test_refused_alike(
    framework: Framework,
    way: str,
    turns: list[Turn],
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    backend = backend_saying()
    with pytest.raises(error, match=words):
        framework.ask(framework.model(FusionEngine(backend), **options), turns, way)
    assert not backend.requests


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilonn": 8.0}, "Did you mean 'epsilon'"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": True}, "epsilon"),
        ({"alpha": True, "beta": 0.1}, "alpha"),
        ({"epsilon": 8.0, "alpha": 2.0, "beta": 0.1}, "epsilon"),
        ({"unmarked": "publik"}, "unmarked"),
        ({"max_tokens": 0}, "max"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 2.0}, "top_p"),
        ({"placeholder": 7}, "placeholder"),
    ],
    ids=str,
)
def test_a_model_is_not_made_of_bad_options(
    framework: Framework, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        framework.model(model="dpfusion-tiny", **options)


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_option_of_a_call_is_answered_with_the_nearest_name(
    framework: Framework, way: str
) -> None:
    backend = backend_saying()
    model = framework.model(FusionEngine(backend), epsilon=8.0)
    with pytest.raises(PrivacyParameterError, match=r"'max_tokns' of a call.* 'max_tokens'"):
        framework.ask(model, TURNS, way, max_tokns=7)
    assert not backend.requests


def test_other_names_of_options_are_read(framework: Framework) -> None:
    model = framework.model(FusionEngine(backend_saying("word " * 50)), epsilon=8.0, max_new_tokens=9)
    assert framework.ask(model, TURNS).guarantee["tokens"] == 9
    assert framework.ask(model, TURNS, max_completion_tokens=3).guarantee["tokens"] == 3


@pytest.mark.parametrize("way", WAYS)
def test_a_spent_budget_is_an_error_that_names_the_unit(framework: Framework, way: str) -> None:
    backend = backend_saying("and so on " * 10)
    with opened_ledger(2.0) as ledger:
        model = framework.model(FusionEngine(backend, ledger=ledger), epsilon=1.9, max_tokens=8)
        framework.ask(model, [ANN, ASK])
        before = spent(ledger, "ann")
        with pytest.raises(BudgetExhaustedError) as caught:
            framework.ask(model, [ANN, ASK], way)
        assert caught.value.units == ("ann",)
        assert caught.value.largest_share is not None
        assert spent(ledger, "ann") == before
    assert len(backend.requests) == 1


def test_a_ledger_takes_no_unit_that_an_index_draws_anew(framework: Framework) -> None:
    backend = backend_saying()
    with opened_ledger() as ledger:
        model = framework.model(FusionEngine(backend, ledger=ledger), epsilon=1.0)
        drawn = "7d444840-9dc0-41d1-b245-5ffdce74fad2"
        with pytest.raises(RefusedError, match="may change when it is indexed again"):
            framework.ask_about(model, {}, drawn, ANN.text, ASK.text)
        assert not backend.requests
        framework.ask_about(model, {"source": "hr/ann.txt"}, drawn, ANN.text, ASK.text)
        assert any(amount > 0 for _, amount in spent(ledger, "hr/ann.txt"))
    assert len(backend.requests) == 1


@pytest.mark.parametrize("way", WAYS)
def test_private_text_that_comes_back_without_its_mark_is_refused(framework: Framework, way: str) -> None:
    backend = backend_saying()
    model = framework.model(FusionEngine(backend), epsilon=8.0)
    framework.ask(model, TURNS)
    with pytest.raises(RefusedError, match=r"Message 1 \(role 'user'\) is not marked"):
        framework.ask(model, [Turn(f"I have read: {ANN.text}"), BO, ASK], way)
    assert len(backend.requests) == 1
    framework.ask(model, [Turn(ANN.text, {"is_private": False}), BO, ASK], way)  # the caller's word binds


def test_what_was_released_under_a_guarantee_is_public(framework: Framework) -> None:
    quoted = "Ann Roe of Trondheim has had the gout since May."
    backend = backend_saying(quoted)
    model = framework.model(FusionEngine(backend), epsilon=8.0)
    reply = framework.ask(model, TURNS)
    assert reply.text == quoted
    framework.ask(model, [Turn(quoted), BO, ASK])
    assert quoted in backend.requests[1][0]


# --- Time, failures ---


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_of_the_model_is_a_bare_error(framework: Framework, way: str) -> None:
    failing = Failing(failures=1)
    with pytest.raises(BackendError) as caught:
        framework.ask(framework.model(FusionEngine(failing.backend), epsilon=8.0), TURNS, way)
    error: BaseException = caught.value
    assert "Ann" not in str(error)
    assert (error.__cause__, error.__context__) == (None, None)
    assert failing.backend.open_sessions == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_failed_before_its_first_token_is_tried_again(framework: Framework, way: str) -> None:
    failing = Failing(failures=2)
    model = framework.model(FusionEngine(failing.backend), epsilon=8.0, max_retries=2)
    assert framework.ask(model, TURNS, way).text == ANSWER
    assert failing.seen == 3


@pytest.mark.parametrize("way", WAYS)
def test_what_was_shown_is_not_drawn_again(framework: Framework, way: str) -> None:
    failing = Failing(failures=1, after=2)
    model = framework.model(FusionEngine(failing.backend), epsilon=8.0, max_retries=5)
    if way.endswith("whole"):  # nothing was shown
        assert framework.ask(model, TURNS, way).text == ANSWER
        assert failing.seen == 2
        return
    with pytest.raises(BackendError):
        framework.ask(model, TURNS, way)
    assert failing.seen == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_given_up_in_time_on_one_clock_for_all_attempts(framework: Framework, way: str) -> None:
    slow = Failing(failures=1000, delay=0.05)
    model = framework.model(FusionEngine(slow.backend), epsilon=8.0, timeout=0.1, max_retries=1000)
    with pytest.raises(BackendError):
        framework.ask(model, TURNS, way)
    assert slow.seen < 10


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_takes_too_long_says_so(framework: Framework, way: str) -> None:
    slow = Failing(failures=0, delay=0.05)
    model = framework.model(FusionEngine(slow.backend), epsilon=8.0, timeout=0.1, max_retries=3)
    with pytest.raises(BackendError, match=r"not finished within timeout=0\.1"):
        framework.ask(model, TURNS, way)
    assert slow.seen == 1
    assert slow.backend.open_sessions == 0


# --- Pieces, tools ---


@pytest.mark.parametrize("way", ["pieces", "apieces"])
def test_a_stream_says_what_the_whole_answer_says(framework: Framework, way: str) -> None:
    model = framework.model(FusionEngine(backend_saying()), epsilon=8.0)
    whole, streamed = framework.ask(model, TURNS), framework.ask(model, TURNS, way)
    assert len(streamed.pieces) > 3
    assert streamed.text == whole.text
    assert streamed.guarantee == whole.guarantee
    assert (streamed.finish_reason, streamed.tokens) == (whole.finish_reason, whole.tokens)


@pytest.mark.parametrize("way", WAYS)
def test_the_text_of_a_call_is_held_back(framework: Framework, way: str) -> None:
    says = 'Let me see. <tool_call>\n{"name": "find", "arguments": {"name": "Ann"}}\n</tool_call>'
    model = framework.model(FusionEngine(backend_saying(says)), epsilon=8.0)
    reply = framework.ask(model, TURNS, way, tools=[TOOL])
    assert reply.text == "Let me see."
    assert not any("tool_call" in piece or "<" in piece for piece in reply.pieces)
    assert reply.tool_calls == (("find", {"name": "Ann"}),)
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize("way", WAYS)
def test_where_no_tool_may_be_called_no_text_is_held_back(framework: Framework, way: str) -> None:
    says = 'So <tool_call>\n{"name": "find", "arguments": {"name": "Ann"}}\n</tool_call> it is.'
    model = framework.model(FusionEngine(backend_saying(says)), epsilon=8.0)
    reply = framework.ask(model, TURNS, way, tools=[TOOL], tool_choice="none")
    assert reply.text == says
    assert reply.tool_calls == ()
    assert reply.finish_reason == "stop"


# --- Answers out of few ---

ALONE = [ANN, ASK]  # one unit, whose answer is sure at a large epsilon
WARDS = ["ward A", "ward B"]
FORM = {
    "type": "object",
    "properties": {"ill": {"type": "boolean"}, "ward": {"enum": ["A", "B"]}},
    "required": ["ill", "ward"],
}
FILL = {"type": "function", "function": {"name": "fill", "description": "Fills a form.", "parameters": FORM}}


def of_the_form(prompt: str) -> str:
    return "B" if "ward" in prompt.rsplit("<user>", 1)[-1] else "yes"


@pytest.mark.parametrize("way", WAYS)
def test_a_choice_is_that_of_the_core(framework: Framework, way: str) -> None:
    ours, theirs = backend_saying("ward B"), backend_saying("ward B")
    with opened_ledger(20.0) as of_core, opened_ledger(20.0) as of_framework:
        engine = FusionEngine(ours, ledger=of_core)
        expected = engine.choose(core_messages(ALONE), WARDS, epsilon=20.0, prior="uniform")
        model = framework.model(
            FusionEngine(theirs, ledger=of_framework), epsilon=20.0, max_tokens=7, top_k=3
        )
        reply = framework.ask(model, ALONE, way, choices=WARDS)
        assert spent(of_framework, "ann") == spent(of_core, "ann")
    assert theirs.requests == ours.requests
    assert reply.pieces == ("ward B",)
    assert reply.guarantee == expected.guarantee.as_dict()
    assert reply.guarantee["mechanism"] == "choice"
    assert reply.finish_reason == "stop"
    assert reply.tokens == (expected.prompt_tokens, 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"choices": []}, "at least two choices"),
        ({"choices": ["one"]}, "at least two choices"),
        ({"choices": ["one", " one"]}, "are the same"),
        ({"choices": WARDS, "max_tokens": 7}, "no effect on a choice"),
        ({"choices": WARDS, "prior": "flat"}, "prior"),
        ({"choices": WARDS, "tools": [TOOL]}, "Ask for one of them"),
        ({"choices": WARDS, "json_schema": FORM}, "Ask for one of them"),
    ],
    ids=str,
)
def test_what_is_no_choice_is_refused_alike(
    framework: Framework, way: str, call: dict[str, Any], words: str
) -> None:
    backend = backend_saying()
    with pytest.raises(PrivacyParameterError, match=words):
        framework.ask(framework.model(FusionEngine(backend), epsilon=8.0), TURNS, way, **call)
    assert not backend.requests


@pytest.mark.parametrize("way", WAYS)
def test_an_object_of_closed_fields_is_that_of_the_core(framework: Framework, way: str) -> None:
    ours, theirs = backend_saying(of_the_form), backend_saying(of_the_form)
    expected = FusionEngine(ours).fill(core_messages(ALONE), FORM, epsilon=40.0)
    model = framework.model(FusionEngine(theirs), epsilon=40.0, max_tokens=5, top_k=3)
    reply = framework.ask(model, ALONE, way, json_schema=FORM)
    assert theirs.requests == ours.requests
    assert json.loads(reply.text) == expected.value == {"ill": True, "ward": "B"}
    assert reply.guarantee == expected.guarantee.as_dict()
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("way", WAYS)
def test_a_call_with_closed_arguments_is_that_of_the_core(framework: Framework, way: str) -> None:
    expected = FusionEngine(backend_saying(of_the_form)).fill(core_messages(ALONE), FORM, epsilon=40.0)
    model = framework.model(FusionEngine(backend_saying(of_the_form)), epsilon=40.0)
    reply = framework.ask(model, ALONE, way, tools=[FILL], tool_choice="any")
    assert reply.tool_calls == (("fill", expected.value),)
    assert reply.guarantee == expected.guarantee.as_dict()
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")
