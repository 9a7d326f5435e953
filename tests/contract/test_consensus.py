"""What many documents say, alike in both frameworks and in the core."""

from typing import Any

import pytest

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger, ScriptedBackend
from dpfusion_core.consensus import Consensus, plain_text
from dpfusion_core.errors import BackendError, PrivacyParameterError, RefusedError
from dpfusion_core.messages import Message
from tests.contract.frameworks import WAYS, Framework, Turn
from tests.llamaindex.readers import city_of

CITIES = ["Oslo"] * 40 + ["Bergen"]
LETTERS = [
    Turn(f"Person {n} of our town lives in {city}.", {"is_private": True, "unit": f"p-{n}"})
    for n, city in enumerate(CITIES)
]
ASK = Turn("Where do they live?")
TURNS = [*LETTERS, ASK]
ANSWER = "They live in oslo."


def core_messages() -> list[Message]:
    private = [Message("user", turn.text, is_private=True, unit=turn.flags["unit"]) for turn in LETTERS]
    return [*private, Message("user", ASK.text)]


def without_noise(guarantee: dict[str, Any]) -> dict[str, Any]:
    return {**guarantee, "items": [item["item"] for item in guarantee["items"]]}


@pytest.mark.parametrize("way", WAYS)
def test_the_answer_the_items_and_the_guarantee_are_those_of_the_core(framework: Framework, way: str) -> None:
    core = Consensus(lambda messages: city_of("\n".join(map(plain_text, messages))))
    expected = core.generate(core_messages(), epsilon=4.0)
    model, reader = framework.over(city_of, epsilon=4.0)
    reply = framework.ask(model, TURNS, way)
    assert reply.text == expected.text == ANSWER
    # Frameworks cannot see who has chosen the documents, so they promise nothing of that.
    said = {**expected.guarantee.as_dict(), "retrieval": "not covered"}
    assert without_noise(reply.guarantee) == {**said, "items": ["oslo"]}
    assert reply.finish_reason == expected.finish_reason
    assert len(reader.asked) == len(LETTERS) + 2
    assert all(prompt.count("Person ") <= 1 for prompt in reader.asked)
    assert "Person" not in reader.asked[0] + reader.asked[-1]


@pytest.mark.parametrize("way", WAYS)
def test_a_model_of_ours_takes_the_mechanism_as_an_option(framework: Framework, way: str) -> None:
    engine = FusionEngine(ScriptedBackend.saying(city_of))
    reply = framework.ask(framework.model(engine, epsilon=4.0, mechanism="consensus"), TURNS, way)
    assert without_noise(reply.guarantee)["items"] == ["oslo"]
    assert reply.text == ANSWER
    assert (reply.guarantee["mechanism"], reply.guarantee["units"]) == ("consensus", len(LETTERS))


@pytest.mark.parametrize("way", WAYS)
def test_the_charge_is_that_of_the_core(framework: Framework, way: str) -> None:
    def opened() -> PrivacyLedger:
        return PrivacyLedger("sqlite://", budget=PrivacyBudget(4.0), key="k" * 32)

    with opened() as ours, opened() as theirs:
        say = lambda messages: city_of("\n".join(map(plain_text, messages)))  # noqa: E731
        Consensus(say, ledger=ours).generate(core_messages(), epsilon=1.0)
        model, _ = framework.over(city_of, epsilon=1.0, ledger=theirs)
        framework.ask(model, TURNS, way)
        for unit in ("p-0", "p-40"):
            assert theirs.account(unit).balances == ours.account(unit).balances
            assert theirs.account(unit).spent_epsilon > 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("turns", "options", "error", "words"),
    [
        ([ASK], {"epsilon": 1.0}, RefusedError, "nothing in this call is marked private"),
        (TURNS[-2:], {"epsilon": 1.0}, PrivacyParameterError, "one document"),
        (TURNS[-4:], {"epsilon": 0.5}, PrivacyParameterError, "documents"),
        (TURNS, {}, PrivacyParameterError, "epsilon"),
    ],
    ids=["nothing private", "one", "few", "no epsilon"],
)
def test_refused_alike_before_any_document_is_asked(
    framework: Framework,
    way: str,
    turns: list[Turn],
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    model, reader = framework.over(city_of, **options)
    with pytest.raises(error, match=words):
        framework.ask(model, turns, way)
    assert not reader.asked


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilonn": 1.0}, "Did you mean 'epsilon'"),
        ({"temperature": 0.5}, "temperature"),
        ({"mechanism": "fusion"}, "mechanism"),
        ({"at_once": 0}, "at_once"),
        ({"answer_timeout": 0}, "answer_timeout"),
        ({"max_items": 0}, "max_items"),
        ({"items": "lists"}, "items"),
    ],
    ids=str,
)
def test_it_is_not_made_of_bad_options(framework: Framework, options: dict[str, Any], words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        framework.over(city_of, **{"epsilon": 1.0, **options})


@pytest.mark.parametrize("way", WAYS)
def test_a_document_for_which_the_model_fails_has_no_vote_and_nobody_is_told(
    framework: Framework, way: str
) -> None:
    def flaky(prompt: str) -> str:
        if "Person 1" in prompt:  # 1, and 10 to 19
            raise ValueError(prompt)
        return city_of(prompt)

    model, reader = framework.over(flaky, epsilon=4.0)
    reply = framework.ask(model, TURNS, way)
    [item] = reply.guarantee["items"]
    assert 15 < item["count"] < 40
    assert reply.guarantee["units"] == len(LETTERS)
    assert len(reader.asked) == len(LETTERS) + 2


@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_fails_is_a_bare_error(framework: Framework, way: str) -> None:
    def fail(prompt: str) -> str:
        raise ValueError(f"Ann {prompt}")

    model, _ = framework.over(fail, epsilon=4.0)
    with pytest.raises(BackendError) as caught:
        framework.ask(model, TURNS, way)
    assert "Ann" not in repr(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
