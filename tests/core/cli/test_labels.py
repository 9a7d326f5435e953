"""``dpfusion label``, as a user calls it."""

import json
from pathlib import Path

import pytest

from dpfusion_core.errors import PrivacyParameterError, ViewError
from tests.core.cli.test_documents import run

SCHEMA = {
    "properties": {
        "diagnosis": {"enum": ["asthma", "gout", "lupus"], "description": "What is the diagnosis?"},
    }
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    notes = [f"The patient has {name}. The home town is Oslo." for name in ["gout"] * 6 + ["asthma"] * 3]
    for i, note in enumerate(notes):
        (tmp_path / f"in/{i}.txt").write_text(note)
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    return tmp_path


def test_a_folder_is_labelled_twice(folder: Path) -> None:
    command = ["label", folder / "in", folder / "out", "--schema", folder / "schema.json", "--epsilon", 9]
    code, said = run(*command)
    assert code == 0, said
    assert "9 documents labelled, 0 done before" in said
    assert "epsilon = 9.0 at delta = 1e-05" in said
    rows = {line.split()[1]: line.split()[2] for line in said.splitlines() if line.startswith(" diagnosis")}
    totals = json.loads((folder / "out/totals.json").read_text())
    assert {each["label"]: str(each["raw"]) for each in totals} == rows
    assert int(rows["gout"]) >= 5
    code, again = run(*command)
    assert "0 documents labelled, 9 done before" in again
    assert (folder / "out/labels.csv").read_text().splitlines()[0] == "document,diagnosis"


def test_bad_input(folder: Path) -> None:
    places = [folder / "in", folder / "out"]
    with pytest.raises(PrivacyParameterError, match="Labels need --epsilon"):
        run("label", *places, "--schema", folder / "schema.json")
    with pytest.raises(PrivacyParameterError, match="--budget is for"):
        run("label", *places, "--schema", folder / "schema.json", "--epsilon", 2, "--budget", 4)
    with pytest.raises(ViewError, match="Cannot read"):
        run("label", *places, "--schema", folder / "none.json", "--epsilon", 2)
    (folder / "bad.json").write_text("{")
    with pytest.raises(PrivacyParameterError, match=r"bad\.json is no JSON"):
        run("label", *places, "--schema", folder / "bad.json", "--epsilon", 2)
    (folder / "open.json").write_text('{"properties": {"note": {"type": "string"}}}')
    with pytest.raises(PrivacyParameterError, match=r"Open: note\."):
        run("label", *places, "--schema", folder / "open.json", "--epsilon", 2)
    assert not (folder / "out").exists()
