"""``dpfusion privatize`` and ``dpfusion tag``, as a user calls them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpfusion_core.cli import app
from dpfusion_core.errors import DPFusionError

TEXT = "Ann (ann@example.com) lives in Oslo. Call (212) 555-0147.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text(TEXT)
    (tmp_path / "in/t.csv").write_text('id,note\n7,"to ann@example.com"\n')
    (tmp_path / "names").write_text("Ann\n\nOslo\n")
    return tmp_path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    if isinstance(result.exception, DPFusionError):
        raise result.exception
    return result.exit_code, result.output


def test_redact_a_folder_twice(folder: Path) -> None:
    source, target = folder / "in", folder / "out"
    options = [
        "--columns",
        "note",
        "--keep",
        "id",
        "--tagger",
        "presidio",
        "--tagger",
        f"phrases:{folder / 'names'}",
    ]
    code, output = run("privatize", source, target, *options, "--placeholder", "numbered")
    assert code == 0
    assert "2 documents privatised, 0 done before" in output
    assert (target / "a.txt").read_text() == (
        "[PRIVATE_1] ([EMAIL_ADDRESS_1]) lives in [PRIVATE_2]. Call [PHONE_NUMBER_1].\n"
    )
    assert (target / "t.csv").read_text() == "id,note\n7,to [EMAIL_ADDRESS_1]\n"
    code, output = run("privatize", source, target, *options, "--placeholder", "numbered")
    assert (code, "0 documents privatised, 2 done before" in output) == (0, True)
    with pytest.raises(DPFusionError, match="placeholder"):
        run("privatize", source, target, *options, "--placeholder", "label")


def test_dp_with_a_ledger(folder: Path) -> None:
    url = f"sqlite:///{folder / 'ledger.db'}"
    arguments = ["privatize", folder / "in/a.txt", folder / "out", "--level", "dp", "--epsilon", 8, "--max-tokens", 12,
                 "--tagger", f"phrases:{folder / 'names'}", "--ledger", url]  # fmt: skip
    for _ in range(2):
        code, output = run(*arguments)
        assert code == 0
        assert "epsilon = 8.0 at delta = 1e-05, zero-out neighbours" in output
    assert "1 done before" in output
    (line,) = (folder / "out/report.jsonl").read_text().splitlines()
    assert json.loads(line)["guarantee"]["epsilon"] == 8.0
    code, output = run("ledger", "show", folder / "in/a.txt", "--url", url)
    assert code == 0


def test_paraphrase(folder: Path) -> None:
    names = f"phrases:{folder / 'names'}"
    code, _ = run(
        "privatize", folder / "in/a.txt", folder / "out", "--level", "paraphrase", "--tagger", names
    )
    assert code == 0
    text = (folder / "out/a.txt").read_text()
    assert "Ann" not in text
    assert "Oslo" not in text


def test_failures_are_told_and_the_exit_code_says_so(folder: Path) -> None:
    (folder / "in/b.txt").write_bytes(b"\xff\xfe")
    (folder / "in/c.bin").write_bytes(b"x")
    code, output = run("privatize", folder / "in", folder / "out", "--columns", "note")
    assert code == 1
    assert "failed b.txt: ViewError" in output
    assert "left out c.bin" in output
    assert (folder / "out/a.txt").exists()


def test_tag_shows_the_text_and_counts(folder: Path) -> None:
    code, output = run("tag", folder / "in/a.txt")
    assert code == 0
    assert "Ann (ann@example.com) lives in Oslo." in output
    assert "EMAIL_ADDRESS" in output
    (folder / "plain.txt").write_text("hello [bold]x[/] \x1b[31m\r\n")
    code, output = run("tag", folder / "plain.txt")
    assert "Nothing private was found." in output
    assert "[bold]x[/]" in output
    assert "\x1b[31m" not in output  # a text cannot steer the terminal


def test_tag_writes_json_without_text(folder: Path) -> None:
    code, output = run("tag", "--json", folder / "in/a.txt", "--tagger", f"phrases:{folder / 'names'}")
    assert code == 0
    rows = [json.loads(line) for line in output.splitlines()]
    assert [(TEXT[row["start"] : row["end"]], row["label"]) for row in rows] == [
        ("Ann", "PRIVATE"),
        ("ann", "PRIVATE"),
        ("Oslo", "PRIVATE"),
    ]
    assert "Oslo" not in output


def test_tag_with_the_embedded_model(folder: Path) -> None:
    (folder / "record.txt").write_text("The patient lives in Trondheim.")
    code, output = run("tag", "--json", folder / "record.txt", "--tagger", "constitution:HEALTH")
    assert code == 0
    assert [json.loads(line)["start"] for line in output.splitlines()] == [21]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["privatize", "IN", "OUT", "--level", "dp"], "--epsilon"),
        (["privatize", "IN", "OUT", "--epsilon", "8"], "leave out"),
        (["privatize", "IN", "OUT", "--max-tokens", "8"], "--max-tokens has no effect at level 'redact'"),
        (["privatize", "IN", "OUT", "--temperature", "1.0", "--chunk", "100"], "--temperature"),
        (["privatize", "IN", "OUT", "--model", "dpfusion-tiny"], "--model"),
        (["privatize", "IN", "OUT", "--ledger", "sqlite://"], "--ledger"),
        (["privatize", "IN", "OUT", "--level", "paraphrase", "--delta", "1e-6"], "--delta"),
        (["privatize", "IN", "OUT", "--level", "dp", "--epsilon", "8", "--budget", "9"], "--ledger"),
        (["privatize", "IN", "OUT", "--tagger-model", "dpfusion-tiny"], "constitution"),
        (["tag", "IN/a.txt", "--tagger-model", "dpfusion-tiny"], "constitution"),
        (["privatize", "IN", "OUT", "--tagger", "magic"], "Unknown tagger"),
        (["privatize", "IN", "OUT", "--tagger", "phrases:/no/such/file"], "Cannot read"),
        (["privatize", "IN", "IN", "--tagger", "presidio"], "neither"),
        (["tag", "/no/such/file"], "Cannot read"),
        (["tag", "IN"], "Cannot read"),
    ],
)
def test_bad_arguments(folder: Path, arguments: list[str], words: str) -> None:
    places = {"IN": str(folder / "in"), "OUT": str(folder / "out")}
    with pytest.raises(DPFusionError, match=words):
        run(*(places.get(argument, argument) for argument in arguments))


def test_options_that_no_command_has_are_refused_with_the_nearest_name(folder: Path) -> None:
    code, output = run("privatize", folder / "in", folder / "out", "--epsilonn", "8")
    assert code == 2
    assert "--epsilon" in output.replace("--epsilonn", "")
    assert not (folder / "out").exists()


def test_a_ledger_named_by_the_environment_is_for_the_levels_that_use_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPFUSION_LEDGER_URL", f"sqlite:///{folder / 'ledger.db'}")
    code, _ = run("privatize", folder / "in/a.txt", folder / "out", "--tagger", f"phrases:{folder / 'names'}")
    assert code == 0


def test_a_collection_names_units_and_rows_need_an_id(folder: Path) -> None:
    url = f"sqlite:///{folder / 'ledger.db'}"
    options = ["--level", "dp", "--epsilon", 4, "--budget", 8, "--max-tokens", 12, "--ledger", url,
               "--tagger", "presidio", "--columns", "note"]  # fmt: skip
    with pytest.raises(DPFusionError, match="--id"):
        run("privatize", folder / "in", folder / "out", *options)
    assert not (folder / "ledger.db").exists()
    code, _ = run(
        "privatize", folder / "in", folder / "out", *options, "--id", "id", "--collection", "Clinic A"
    )
    assert code == 0
    for unit in ("clinic a/a.txt", "clinic a/t.csv#7"):
        code, output = run("ledger", "show", unit, "--url", url)
        assert (code, "reserve" in output or "4" in output) == (0, True)


def test_links_are_left_out_unless_asked_for(folder: Path) -> None:
    (folder / "secret.txt").write_text("Ann and the key")
    (folder / "in/link.txt").symlink_to(folder / "secret.txt")
    names = f"phrases:{folder / 'names'}"
    _, output = run("privatize", folder / "in/", folder / "out", "--columns", "note", "--tagger", names)
    assert "left out link.txt: a symbolic link" in output
    assert not (folder / "out/link.txt").exists()
    run(
        "privatize", folder / "in", folder / "o2", "--columns", "note", "--tagger", names, "--follow-symlinks"
    )
    assert (folder / "o2/link.txt").read_text() == "____ and the key"
