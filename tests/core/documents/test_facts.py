"""Facts first, then text: what is charged, what the model is shown, and what is kept."""

from typing import Any

import pytest

from dpfusion_core import (
    BudgetExhaustedError,
    FusionEngine,
    PhraseTagger,
    PrivacyBudget,
    PrivacyLedger,
    PrivacyParameterError,
    ScriptedBackend,
    privatize,
)
from dpfusion_core.documents import Privatizer

TAGGER = PhraseTagger({"Ann Roe": "PERSON", "asthma": "ILLNESS"})
TEXT = "Ann Roe came in May. She has asthma.\n"
SCHEMA: dict[str, Any] = {
    "properties": {
        "diagnosis": {"enum": ["gout", "asthma", "lupus"], "description": "What is the diagnosis?"},
        "smoker": {"type": "boolean", "description": "Does she smoke?"},
        "signs": {"type": "array", "items": {"enum": ["cough", "fever"]}, "description": "Is there"},
    }
}


def engine_that(writes: str, **more: Any) -> tuple[FusionEngine, ScriptedBackend]:
    """A model that knows what it is shown, and writes the same text whatever that is."""

    def answer(prompt: str) -> str:
        asked = prompt.rpartition("user\n")[2]
        if "diagnosis?" in asked:
            return "asthma" if "asthma" in prompt.rpartition("diagnosis?")[0] else "not stated"
        if "yes or no" in asked or "smoke?" in asked:
            return "yes" if "cough" in asked else "no"
        return writes

    backend = ScriptedBackend.saying(answer, certainty=80.0)
    return FusionEngine(backend, **more), backend


def test_facts_are_chosen_and_the_text_is_written_from_what_is_public() -> None:
    engine, backend = engine_that("A patient came in May with asthma.")
    document = privatize(TEXT, "dp", tagger=TAGGER, engine=engine, schema=SCHEMA, epsilon=60.0)
    assert document.report.facts == {"diagnosis": "asthma", "smoker": False, "signs": ["cough"]}
    *questions, written = backend.requests
    assert [len(views) for views in questions] == [2] * 4
    [public] = written  # no private view: the text is post-processing
    assert "Ann" not in public
    assert "She has ____. The diagnosis is asthma. Smoker: no. The signs include cough.\n" in public
    # What the text leaves out is said behind it.
    assert document.text == "A patient came in May with asthma. Smoker: no. The signs include cough.\n"
    guarantee = document.report.guarantee
    assert guarantee is not None
    assert (guarantee.epsilon, guarantee.mechanism, guarantee.tokens) == (60.0, "choice", 4)
    assert (guarantee.tagging, document.report.as_dict()["facts"]) == ("phrases", document.report.facts)


def test_a_value_within_another_word_does_not_count_as_said() -> None:
    engine, _ = engine_that("The goutte was asthmatic.")
    document = privatize(TEXT, "dp", tagger=TAGGER, engine=engine, schema=SCHEMA, epsilon=60.0)
    assert "The diagnosis is asthma." in document.text


def test_the_ledger_is_charged_for_the_facts_alone(tmp_path: Any) -> None:
    ledger = PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=PrivacyBudget(5.0))
    engine, backend = engine_that("Nothing.", ledger=ledger)
    privatizer = Privatizer("dp", tagger=TAGGER, engine=engine, schema=SCHEMA, epsilon=4.0)
    _, report = privatizer([TEXT], "doc-1")
    assert report.guarantee is not None
    [balance] = ledger.account("doc-1").balances
    assert report.guarantee.charged is not None
    assert balance.spent == pytest.approx(report.guarantee.charged, abs=1e-9)
    asked = len(backend.requests)
    with pytest.raises(BudgetExhaustedError):
        privatizer([TEXT], "doc-1")
    assert len(backend.requests) == asked


def test_facts_of_several_parts_and_of_a_document_without_phrases() -> None:
    engine, _ = engine_that("Nothing.")
    privatizer = Privatizer("dp", tagger=TAGGER, engine=engine, schema=SCHEMA, epsilon=60.0)
    (first, second), report = privatizer([TEXT, ""])
    assert (first, second) == ("Nothing. The diagnosis is asthma. Smoker: no. The signs include cough.\n", "")
    _, report = privatizer(["She came in May."])
    assert report.guarantee is not None
    assert (report.tagging, report.guarantee.units) == ("whole message", 1)


@pytest.mark.parametrize(
    ("level", "options", "words"),
    [
        ("paraphrase", {"schema": SCHEMA}, "no fact can be chosen"),
        ("redact", {"schema": SCHEMA}, "no fact can be chosen"),
        ("dp", {"epsilon": 2.0, "schema": {"properties": {"x": {"type": "string"}}}}, r"Open: x\."),
        ("dp", {"epsilon": 2.0, "shares": {"x": 1.0}}, "shares is for the facts of a schema"),
        ("dp", {"epsilon": 2.0, "prior": "public"}, "prior is for the facts of a schema"),
        ("dp", {"epsilon": 2.0, "schema": "x"}, "Expected a schema"),
    ],
    ids=str,
)
def test_bad_arguments(level: Any, options: dict[str, Any], words: str) -> None:
    engine, backend = engine_that("Nothing.")
    with pytest.raises(PrivacyParameterError, match=words):
        privatize(TEXT, level, tagger=TAGGER, engine=engine, **options)
    assert backend.requests == []
