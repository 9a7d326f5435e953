"""Labels of many documents, and totals from which the known randomness is taken out."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpfusion_core import (
    FusionEngine,
    Message,
    PrivacyBudget,
    PrivacyLedger,
    PrivacyParameterError,
    ScriptedBackend,
    closed_fields,
)
from dpfusion_core.documents import Labeller, Labels, label_folder, label_totals
from dpfusion_core.documents.formats import Columns
from dpfusion_core.privacy import Neighbours
from tests.core.engine.test_choosing import SECRETS, chat, storied_backend
from tests.core.privacy.oracle import Responses, exact_delta, response_divergence

WARD: dict[str, Any] = {"properties": {"ward": {"enum": ["a", "ab", "b"], "description": "ward?"}}}
TWO: dict[str, Any] = {
    "properties": {
        "illness": {"enum": ["asthma", "gout"], "description": "illness?"},
        "smoker": {"type": "boolean", "description": "Does she smoke?"},
    }
}


def filled(engine: FusionEngine, secret: str, **options: Any) -> Any:
    return engine.fill(chat(secret)[:-1], WARD, for_totals=True, epsilon=1.0, curator=True, **options)


@pytest.mark.parametrize("scale", [0.3, 2.0, 8.0], ids=["unsure", "in between", "sure"])
def test_corrected_totals_are_what_the_model_says_whatever_it_says(scale: float) -> None:
    """Exact: on average over the draws, and without an assumption about how sure the model is."""
    engine = FusionEngine(storied_backend(scale))
    fields = closed_fields(WARD)
    results = [filled(engine, secret) for secret in SECRETS]
    [weight] = {result.weights["ward"] for result in results}
    sampled = np.array([result.reports["ward"].sampled for result in results])
    wanted = np.array([result.reports["ward"].private["unit-0"] for result in results])
    expected_raw = sampled.sum(axis=0)
    corrected = (expected_raw - len(results) * (1 - weight) / 3) / weight
    assert corrected == pytest.approx(wanted.sum(axis=0), abs=1e-6)
    labels = [Labels({"ward": result.chosen["ward"]}, result.weights) for result in results]
    totals = label_totals(fields, labels)
    assert sum(each.raw for each in totals) == len(results)
    assert math.fsum(each.estimate for each in totals) == pytest.approx(len(results))


def test_without_a_steady_weight_they_would_not_be() -> None:
    """An unsure model's answers get a larger weight within the same bound."""
    engine = FusionEngine(storied_backend(0.3))
    steady = filled(engine, "alpha")
    own = engine.fill(chat("alpha")[:-1], WARD, epsilon=1.0, curator=True)
    assert own.weights is None
    assert own.reports is not None
    assert own.reports["ward"].lambdas["unit-0"] > 1.02 * steady.weights["ward"]
    assert steady.reports["ward"].lambdas["unit-0"] == pytest.approx(steady.weights["ward"], rel=1e-9)


@pytest.mark.parametrize("relation", ["zero-out", "replace"])
@pytest.mark.parametrize("scale", [0.3, 8.0])
def test_no_neighbours_diverge_by_more_than_reported(scale: float, relation: Neighbours) -> None:
    engine = FusionEngine(storied_backend(scale))
    texts = ["alpha", "____", *(("bravo", "delta") if relation == "replace" else ())]
    results = [filled(engine, text, neighbours=relation) for text in texts]
    rows: list[Responses] = [
        {(i,): p for i, p in enumerate(each.reports["ward"].sampled)} for each in results
    ]
    guarantee = results[0].guarantee
    for row in rows[1:]:
        assert response_divergence(rows[0], row, guarantee.alpha) <= guarantee.charged * (1 + 1e-9)
        assert exact_delta(rows[0], row, guarantee.epsilon) <= guarantee.delta


def test_the_interval_holds_the_number_with_95_percent() -> None:
    """Two-sided: it is not much wider than it has to be, either."""
    rng = np.random.default_rng(7)
    fields = closed_fields({"properties": {"x": {"enum": ["a", "b", "c"]}}})
    weight, count, runs = 0.4, 150, 400
    own = rng.dirichlet([0.3, 0.3, 0.3], size=count)
    drawn_from = (1 - weight) / 3 + weight * own
    wanted = own.sum(axis=0)
    held, width = 0, 0.0
    for _ in range(runs):
        picks = [["a", "b", "c"][rng.choice(3, p=row)] for row in drawn_from]
        totals = label_totals(fields, [Labels({"x": pick}, {"x": weight}) for pick in picks])
        held += sum(each.low <= wanted[i] <= each.high for i, each in enumerate(totals))
        width += sum(each.high - each.low for each in totals)
    sigma = math.sqrt(sum(p * (1 - p) for p in drawn_from[:, 0])) / weight
    assert held / (3 * runs) >= 0.945
    assert width / (3 * runs) < 1.35 * 2 * 1.96 * sigma


def test_questions_do_not_see_earlier_answers() -> None:
    """A wrong label of one field would bend the totals of the next."""
    backend = ScriptedBackend.saying("no")
    FusionEngine(backend).fill([Message("user", "text", True)], TWO, for_totals=True, epsilon=4.0)
    assert ["illness?" in public for public, _ in backend.requests] == [True, False]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prior": "public"}, "prior='uniform'"),
        ({"accounting": "adaptive"}, "accounting='fixed'"),
    ],
)
def test_what_totals_could_not_be_corrected_for_is_refused(options: dict[str, Any], words: str) -> None:
    engine = FusionEngine(storied_backend())
    with pytest.raises(PrivacyParameterError, match=words):
        filled(engine, "alpha", **options)
    with pytest.raises(PrivacyParameterError, match="one privacy unit at a time, and here are 2"):
        engine.fill(chat("alpha", "bravo"), WARD, for_totals=True, epsilon=1.0)


def test_totals_need_documents_that_were_labelled_alike() -> None:
    fields = closed_fields(WARD)
    some = [Labels({"ward": "a"}, {"ward": weight}) for weight in (0.3, 0.4)]
    with pytest.raises(PrivacyParameterError, match="not labelled alike"):
        label_totals(fields, some)
    with pytest.raises(PrivacyParameterError, match="not labelled alike"):
        label_totals(fields, [Labels({"ward": "a"}, {})])
    assert [each.raw for each in label_totals(fields, [])] == [0, 0, 0]
    [first, *_] = label_totals(fields, [Labels({"ward": "a"}, None)] * 3)
    assert (first.raw, first.estimate, first.low, first.high) == (3, 3.0, 3.0, 3.0)


def knowing_engine(**more: Any) -> FusionEngine:
    def answer(prompt: str) -> str:
        if "smoke?" in prompt:
            return "yes" if "pipe" in prompt else "no"
        return "gout" if "toe" in prompt else "asthma"

    return FusionEngine(ScriptedBackend.saying(answer, certainty=80.0, context_length=400), **more)


def folder(path: Path) -> Path:
    source = path / "in"
    source.mkdir()
    (source / "one.txt").write_text("Her toe hurts.")
    (source / "two.md").write_text("He coughs, and likes his pipe.")
    (source / "rows.csv").write_text("id,text,year\n7,My toe!,2020\n8,,2021\n")
    return source


def test_a_folder_is_labelled_and_gone_on_with(tmp_path: Path) -> None:
    source, out = folder(tmp_path), tmp_path / "out"
    labeller = Labeller(knowing_engine(), TWO, epsilon=60.0)
    columns = Columns(("text",), ("year",), "id")
    summary = label_folder(source, out, labeller, settings={}, columns=columns)
    assert (summary.run.done, summary.run.known, summary.run.failed) == (4, 0, {})
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "labels.csv",
        "rows.csv",
        "report.jsonl",
        "totals.json",
    }
    assert list(csv.DictReader((out / "labels.csv").read_text().splitlines())) == [
        {"document": "one.txt", "illness": "gout", "smoker": "False"},
        {"document": "two.md", "illness": "asthma", "smoker": "True"},
    ]
    rows = list(csv.DictReader((out / "rows.csv").read_text().splitlines()))
    assert rows[0] == {"year": "2020", "illness": "gout", "smoker": "False"}
    written = "".join(path.read_text() for path in out.iterdir() if not path.name.startswith("."))
    assert "toe" not in written
    assert "pipe" not in written
    totals = json.loads((out / "totals.json").read_text())
    assert [(each["field"], each["label"], each["documents"]) for each in totals] == [
        ("illness", "asthma", 4),
        ("illness", "gout", 4),
        ("smoker", "yes", 4),
        ("smoker", "no", 4),
    ]
    assert totals[1]["raw"] >= 2
    again = label_folder(source, out, labeller, settings={}, columns=columns)
    assert (again.run.done, again.run.known) == (0, 4)
    assert again.totals == summary.totals
    (source / "one.txt").write_text("He coughs.")
    third = label_folder(source, out, labeller, settings={}, columns=columns)
    assert (third.run.done, third.run.known) == (1, 3)


def test_a_document_that_does_not_fit_stops_no_other(tmp_path: Path) -> None:
    source, out = folder(tmp_path), tmp_path / "out"
    (source / "long.txt").write_text("word " * 500)
    labeller = Labeller(knowing_engine(), TWO, epsilon=60.0)
    summary = label_folder(source, out, labeller, settings={}, columns=Columns(("text",)))
    assert list(summary.run.failed) == ["long.txt"]
    assert summary.run.done == 4
    assert summary.totals[0].documents == 4


def test_the_ledger_is_charged_once_for_each_document(tmp_path: Path) -> None:
    ledger = PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=PrivacyBudget(3.0))
    source, out = folder(tmp_path), tmp_path / "out"
    (source / "rows.csv").unlink()
    labeller = Labeller(knowing_engine(ledger=ledger), TWO, epsilon=2.0)
    label_folder(source, out, labeller, settings={}, collection="c")
    label_folder(source, out, labeller, settings={}, collection="c")
    [balance] = ledger.account("c/one.txt").balances
    report = json.loads((out / "report.jsonl").read_text().splitlines()[0])
    guarantee = report["guarantee"]
    assert balance.spent == pytest.approx(guarantee["tokens"] * guarantee["loss_per_token"], abs=1e-9)
    summary = label_folder(source, tmp_path / "other", labeller, settings={}, collection="c")
    assert all("BudgetExhaustedError" in reason for reason in summary.run.failed.values())
    assert [each.documents for each in summary.totals] == [0] * 4


def test_bad_arguments(tmp_path: Path) -> None:
    engine = knowing_engine()
    with pytest.raises(PrivacyParameterError, match=r"Open: note\."):
        Labeller(engine, {"properties": {"note": {"type": "string"}}}, epsilon=2.0)
    with pytest.raises(PrivacyParameterError, match="nothing to choose"):
        Labeller(engine, {"properties": {"x": {"const": 1}}}, epsilon=2.0)
    labeller = Labeller(engine, TWO, epsilon=2.0)
    columns = Columns(("text",), ("smoker",))
    with pytest.raises(PrivacyParameterError, match="'smoker' is a kept column"):
        label_folder(folder(tmp_path), tmp_path / "out", labeller, settings={}, columns=columns)
