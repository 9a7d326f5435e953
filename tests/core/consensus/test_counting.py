"""Counts and measures over any chat model."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from dpfusion_core import FusionEngine
from dpfusion_core.consensus import Consensus, FunctionAnswerer, plain_text
from dpfusion_core.consensus.counts import is_yes, read_number
from dpfusion_core.errors import BudgetExhaustedError, PrivacyParameterError, ViewError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.messages import Message, Segment
from dpfusion_core.privacy import PrivacyBudget
from tests.core.engine.test_consensus import answering

SECRET = "xyz" + "zy"
LETTERS = {f"letter-{n}": "It came late." if n < 70 else "All is well." for n in range(100)}
BILLS = {f"bill-{n}": f"Pay {n + 1} euros." for n in range(200)}


def judge(messages: Sequence[Message]) -> str:
    return "Yes." if "late" in plain_text(messages[0]) else "No."


def clerk(messages: Sequence[Message]) -> str:
    return plain_text(messages[0])


def test_a_count_is_noisy_and_says_how_noisy() -> None:
    results = [Consensus(judge).count("Was it late?", LETTERS, epsilon=1.0) for _ in range(60)]
    values = [each.value for each in results]
    assert len(set(values)) > 1
    # Laplace noise of scale 1: a standard deviation of 1.36 on whole numbers.
    assert 0.7 < math.sqrt(sum((value - 70) ** 2 for value in values) / 60) < 2.4
    assert sum(each.low <= 70 <= each.high for each in results) >= 50
    assert all(each.high - each.low < 12 for each in results)
    said = results[0].guarantee
    assert (said.mechanism, said.epsilon, said.units, said.private) == ("count", 1.0, 100, True)


def test_each_document_is_asked_alone_in_the_same_words() -> None:
    seen: list[list[str]] = []

    def answer(messages: Sequence[Message]) -> str:
        seen.append([plain_text(each) for each in messages])
        return "no"

    Consensus(answer).count("Was it late?", ["one", "two"], epsilon=1.0)
    assert seen == [["one", "Was it late? Answer yes or no."], ["two", "Was it late? Answer yes or no."]]
    seen.clear()
    Consensus(answer).measure("How much?", ["one"], lower=0, upper=9, epsilon=1.0)
    assert seen == [["one", "How much? Answer with the number only."]]


def test_a_document_says_yes_once_whatever_its_segments() -> None:
    late = Segment("It came late.", True, "a")
    chat = [Message("user", [late, Segment(" and "), late]), Message("user", [late])] * 50
    found = [Consensus(judge).count("Was it late?", chat, epsilon=4.0).value for _ in range(20)]
    assert sum(found) / 20 < 3


@pytest.mark.parametrize(
    ("statistic", "true", "slack"), [("mean", 100.5, 25), ("sum", 20100, 2500), ("median", 100.5, 25)]
)
def test_a_measure_is_near_the_truth(statistic: Any, true: float, slack: float) -> None:
    found = Consensus(clerk).measure("How much?", BILLS, lower=0, upper=200, statistic=statistic, epsilon=4.0)
    assert abs(found.value - true) < slack
    assert found.guarantee.mechanism == "measure"
    if statistic == "median":
        assert found.low is None
        assert found.rank_error is not None
    else:
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high


def test_numbers_are_clipped_and_those_without_do_not_count() -> None:
    bills = {**BILLS, **{f"big-{n}": "Pay 999999999 euros." for n in range(20)}, "mute": "Nothing."}
    found = Consensus(clerk).measure("How much?", bills, lower=0, upper=200, statistic="sum", epsilon=8.0)
    assert abs(found.value - (20100 + 20 * 200)) < 1000
    ninth = Consensus(clerk).measure(
        "How much?", BILLS, lower=0, upper=200, statistic="quantile", quantile=0.9, epsilon=8.0
    )
    assert 160 < ninth.value <= 200


def test_a_document_on_which_the_model_or_the_reader_fails_is_not_told_of() -> None:
    def answer(messages: Sequence[Message]) -> str:
        if SECRET in plain_text(messages[0]):
            raise ValueError(SECRET)
        return judge(messages)

    letters = {**LETTERS, "bad": SECRET}
    asks = Consensus(FunctionAnswerer(answer, at_once=3))
    assert 60 < asks.count("Was it late?", letters, epsilon=4.0).value < 80

    def read(text: str) -> float:
        if text == "Pay 7 euros.":
            raise ValueError(text)
        return math.nan if "8" in text else 50.0

    found = Consensus(clerk).measure("How much?", BILLS, lower=0, upper=100, read=read, epsilon=4.0)
    assert abs(found.value - 50) < 10


@pytest.mark.parametrize(
    ("documents", "arguments", "kind", "words"),
    [
        ({}, {}, PrivacyParameterError, "no documents"),
        ([], {}, PrivacyParameterError, "no documents"),
        ([Message("user", "public")], {}, PrivacyParameterError, "no documents"),
        ("text", {}, ViewError, "Expected documents"),
        (None, {}, ViewError, "Expected documents"),
        ([1], {}, ViewError, "to be a string"),
        (LETTERS, {"epsilon": None}, PrivacyParameterError, "needs epsilon"),
        (LETTERS, {"epsilon": -1.0}, PrivacyParameterError, "epsilon"),
        (LETTERS, {"epsilon": 1e-7}, PrivacyParameterError, "too small"),
        (LETTERS, {"max_items": 2}, PrivacyParameterError, "Unknown option 'max_items'"),
        (LETTERS, {"epsilonn": 2}, PrivacyParameterError, "Did you mean 'epsilon'"),
    ],
    ids=repr,
)
def test_what_cannot_be_counted_is_refused_before_anything_is_asked(
    documents: Any, arguments: Any, kind: type[Exception], words: str
) -> None:
    def never(messages: Sequence[Message]) -> str:
        raise AssertionError("A document was asked.")

    asks = Consensus(FunctionAnswerer(never))
    with pytest.raises(kind, match=words):
        asks.count("Was it late?", documents, **{"epsilon": 1.0, **arguments})
    with pytest.raises(kind, match=words):
        asks.measure("How much?", documents, lower=0, upper=1, **{"epsilon": 1.0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lower": 1, "upper": 0}, "lower < upper"),
        ({"lower": 1, "upper": 1}, "lower < upper"),
        ({"lower": math.nan, "upper": 1}, "finite number lower"),
        ({"lower": 0, "upper": math.inf}, "finite number upper"),
        ({"lower": 0, "upper": 1, "statistic": "mode"}, "Expected statistic"),
        ({"lower": 0, "upper": 1, "statistic": "quantile"}, "quantile goes with"),
        ({"lower": 0, "upper": 1, "quantile": 0.5}, "quantile goes with"),
        ({"lower": 0, "upper": 1, "statistic": "quantile", "quantile": 1.5}, "quantile"),
        ({"lower": 0, "upper": 1, "read": "float"}, "a function from an answer"),
    ],
    ids=repr,
)
def test_what_cannot_be_measured_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        Consensus(clerk).measure("How much?", BILLS, epsilon=1.0, **arguments)


@pytest.mark.parametrize("question", ["", " ", None])
def test_there_must_be_a_question(question: Any) -> None:
    with pytest.raises(ViewError, match="Expected a question"):
        Consensus(judge).count(question, LETTERS, epsilon=1.0)


def test_counts_and_measures_are_charged_to_the_documents() -> None:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(2.0, 1e-5)) as ledger:
        asks = Consensus(judge, ledger=ledger)
        with pytest.raises(PrivacyParameterError, match="by ids that stay the same"):
            asks.count("Was it late?", ["one", "two"], epsilon=1.0)
        asks.count("Was it late?", LETTERS, epsilon=1.0, accounting="adaptive")
        spent = [ledger.account(f"letter-{n}").balances[0].spent for n in (0, 99)]
        assert spent[0] > 0.0 == spent[1]  # a document that says no has nothing to lose
        asks.measure("How much?", {"bill": "7"}, lower=0, upper=9, epsilon=2.0)
        with pytest.raises(BudgetExhaustedError):
            asks.measure("How much?", {"bill": "7"}, lower=0, upper=9, epsilon=2.0)


def test_where_participation_is_private_nobody_is_as_good_as_some() -> None:
    asks = Consensus(judge)
    results = [
        asks.count("Was it late?", documents, epsilon=1.0, retrieval="covered")
        for documents in ({}, {"a": "late"}, {"a": "late", "b": "well"})
    ]
    assert len({str(each.guarantee) for each in results}) == 1
    assert results[0].guarantee.units is None
    empty = asks.measure("How much?", {}, lower=0, upper=10, epsilon=1.0, retrieval="covered")
    assert 0 <= empty.value <= 10


def test_a_blank_document_takes_part_and_says_nothing() -> None:
    found = Consensus(lambda messages: "yes").count("Any?", dict.fromkeys("abc", ""), epsilon=8.0)
    assert found.value <= 2
    assert found.guarantee.units == 3


async def test_they_do_not_block_an_event_loop() -> None:
    asks = Consensus(judge)
    assert (await asks.acount("Was it late?", LETTERS, epsilon=4.0)).value > 50
    assert (await asks.ameasure("How much?", {"a": "5"}, lower=0, upper=9, epsilon=4.0)).high is not None


def test_the_engine_counts_by_the_likelihood_of_yes() -> None:
    engine = FusionEngine(answering({"LATE": "Yes", "MUTE": "maybe"}, otherwise="no"))
    documents = ["LATE"] * 60 + ["fine"] * 40 + ["x" * 200]
    found = [engine.count("Was it late?", documents, epsilon=8.0).value for _ in range(3)]
    assert all(50 < value < 70 for value in found)


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("12", 12),
        ("-3.5 degrees", -3.5),
        ("\u22124", -4),
        ("1,250,000", 1250000),
        ("none", None),
        ("", None),
        ("a1b", 1),
    ],
)
def test_numbers_are_read_from_answers(answer: str, number: float | None) -> None:
    assert read_number(answer) == number


@pytest.mark.parametrize(
    ("answer", "yes"),
    [("YES!", True), (" yes, because", True), ("no", False), ("I say yes", False), ("", False)],
)
def test_yes_is_what_begins_with_yes(answer: str, yes: bool) -> None:
    assert is_yes(answer) is yes
