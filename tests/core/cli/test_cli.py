"""The command line, as a user calls it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from transformers import AutoTokenizer

from dpfusion_core.cli import app, main
from dpfusion_core.cli.doctor import run_doctor
from dpfusion_core.cli.numbers import run_calibrate
from dpfusion_core.errors import BackendError
from dpfusion_core.privacy import FixedAccountant, Neighbours, PrivacyBudget, PrivacyParameters
from dpfusion_core.tiny import model_path
from tests.core.models import random_model


def test_doctor_is_content_with_this_installation() -> None:
    console = Console(record=True, width=160)
    assert run_doctor(console)
    text = console.export_text()
    assert all(word in text for word in ("torch", "dpfusion-tiny", "CPU", "Everything needed is there"))
    assert "together: they share" in text


def test_doctor_tells_how_a_models_views_are_computed(tmp_path: Path) -> None:
    random_model("bloom").save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_path()).save_pretrained(tmp_path)
    console = Console(record=True, width=200)
    assert run_doctor(console, str(tmp_path))
    assert "apart: a forward pass for each" in console.export_text()
    assert not run_doctor(console, str(tmp_path / "none"))
    assert "cannot be loaded" in console.export_text()


def test_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpfusion_core.cli.doctor._version", lambda package: None)
    console = Console(record=True, width=160)
    assert not run_doctor(console)
    assert "pip install dpfusion" in console.export_text()


def test_errors_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dpfusion", "demo", "--model", "/no/such/folder"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    captured = capsys.readouterr()
    assert BackendError.__name__ in captured.err
    assert "Traceback" not in captured.err


def test_errors_of_the_file_system_are_told_in_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("Ann", encoding="utf-8")
    (tmp_path / "phrases").write_text("Ann", encoding="utf-8")
    (tmp_path / "file").write_text("", encoding="utf-8")
    target = str(tmp_path / "file" / "out")  # a folder cannot be made in a file
    tagger = f"phrases:{tmp_path / 'phrases'}"
    monkeypatch.setattr(
        sys, "argv", ["dpfusion", "privatize", str(tmp_path / "in"), target, "--tagger", tagger]
    )
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert "Traceback" not in capsys.readouterr().err


def test_brackets_of_an_error_are_not_taken_for_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = tmp_path / "a.txt"
    text.write_text("x", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    monkeypatch.setattr(sys, "argv", ["dpfusion", "tag", str(text)])
    with pytest.raises(SystemExit):
        main()
    assert "pip install 'dpfusion[presidio]'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["doctor", "--help"], ["--version"]])
def test_help_and_version(arguments: list[str]) -> None:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert result.output.strip()


def test_help_does_not_load_transformers() -> None:
    code = (
        "import sys, dpfusion_core.cli as cli\n"
        "try:\n    cli.app(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def run(*arguments: str) -> tuple[int, str]:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, arguments)
    return result.exit_code, " ".join(result.output.split())


def test_calibrate_shows_the_orders_and_settings_that_give_the_epsilon_back() -> None:
    code, text = run("calibrate", "--epsilon", "8", "--max-tokens", "100", "--order", "4")
    assert code == 0
    assert text.count("→") == 1
    assert "cannot be met" in text  # at order 1.5 and 2
    assert "e^8" in text
    assert "zero-out neighbours, fixed accounting" in text
    found = re.search(r"order=(\S+), beta=(\S+) ", text)
    assert found is not None
    code, text = run("epsilon", "--alpha", found[1], "--beta", found[2], "--max-tokens", "100")
    assert code == 0
    assert "epsilon = 8.0 at delta = 1e-05" in text


def test_epsilon_prints_the_number_of_the_specification() -> None:
    code, text = run("epsilon", "--alpha", "2", "--beta", "0.02", "--max-tokens", "100")
    assert code == 0
    assert "epsilon = 14.13 at delta = 1e-05 (order 2, zero-out neighbours, fixed accounting)" in text
    code, text = run("epsilon", "--alpha", "2", "--beta", "0.02", "--max-tokens", "100", "--neighbours", "replace",
                     "--accounting", "adaptive")  # fmt: skip
    assert "epsilon = 18.13" in text  # twice the loss
    assert "replace neighbours, adaptive accounting" in text


def test_calibrate_says_what_would_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dpfusion", "calibrate", "--epsilon", "8", "--order", "2"])
    with pytest.raises(SystemExit):
        main()
    assert "epsilon=10.1267" in capsys.readouterr().err


@pytest.mark.parametrize("epsilon", [8.0, 0.5, 3.0])
@pytest.mark.parametrize(
    "relation, units", [("zero-out", 1), ("zero-out", 7), ("replace", 1), ("replace", 7)]
)
@pytest.mark.parametrize("order", [None, 32.0])
def test_settings_that_calibrate_prints_stay_within_epsilon_when_they_are_typed(
    epsilon: float, relation: Neighbours, units: int, order: float | None
) -> None:
    console = Console(record=True, width=200)
    run_calibrate(console, PrivacyBudget(epsilon), 100, units, order, relation, "fixed")
    printed = re.findall(r"(order|beta|mixing_loss|weight_cap)=([0-9.]+(?:e-[0-9]+)?)", console.export_text())
    settings = {name: float(value) for name, value in printed}
    typed = PrivacyParameters(**settings, neighbours=relation)
    reached = FixedAccountant(typed, units, 100).guarantee(private=True).epsilon
    assert epsilon * (1.0 - 1e-4) < reached <= epsilon
