"""``dpfusion ledger``, as a privacy officer calls it."""

import json
import os
import stat
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from dpfusion_core.cli.ledger import ledger_app
from dpfusion_core.errors import LedgerError, PrivacyParameterError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.privacy.budget import PrivacyBudget, RenyiLoss
from tests.core.ledger.helpers import tamper

COMMANDS = ("show", "budget", "amend", "export", "verify")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/ledger.db"
    monkeypatch.setenv("DPFUSION_LEDGER_URL", url)
    monkeypatch.setenv("COLUMNS", "160")
    return url


@pytest.fixture
def used(url: str) -> str:
    """A ledger with a fixed and an adaptive account."""
    with PrivacyLedger(url, budget=PrivacyBudget(8.0, 1e-5)) as ledger:
        asked = RenyiLoss(4.0, lambda order: 1.25)
        ledger.reserve({"doc-17": asked}, order=4.0, note={"neighbours": "zero-out"})
        ledger.reserve({"doc-18": asked}, order=4.0, accounting="adaptive")
    return url


def call(*arguments: str) -> Result:
    return CliRunner().invoke(ledger_app, list(arguments))


def well(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_show_tells_budget_and_charges_with_everything_a_number_needs(used: str) -> None:
    text = well("show", "doc-17")
    for part in ("1.25", "4.87", "3.62", "epsilon = 8", "delta = 1e-05", "fixed", "neighbours = zero-out"):
        assert part in text
    assert "curator" not in text


def test_show_labels_adaptive_numbers_as_private(used: str) -> None:
    assert well("show", "doc-18").count("private: for the curator only") == 4
    listing = well("show")
    assert listing.count("private: for the curator only") == 1
    assert "doc-1" not in listing  # hashes only


def test_budget_opens_an_account_near_the_best_order(url: str) -> None:
    assert "epsilon = 8.0, delta = 1e-05, accounting = fixed, neighbours = zero-out" in well(
        "budget", "doc-1", "--epsilon", "8"
    )
    well("budget", "doc-2", "--epsilon", "8", "--delta", "1e-6", "--order", "6", "--accounting", "adaptive")
    with PrivacyLedger(url) as ledger:
        [balance] = ledger.account("doc-1").balances
        assert 0 <= PrivacyBudget(8.0, 1e-5).best_order() - balance.order <= 0.01
        assert ledger.account("doc-2").balances[0].order == 6.0
        assert ledger.account("doc-2").accounting == "adaptive"
    assert isinstance(call("budget", "doc-1", "--epsilon", "9").exception, PrivacyParameterError)
    assert call("budget", "doc-3", "--epsilon", "8", "--accounting", "guess").exit_code == 2
    assert "neighbours = replace" in well("budget", "doc-4", "--epsilon", "8", "--neighbours", "replace")


def test_the_split_of_delta_is_shown_and_changed_on_record(used: str) -> None:
    assert "releases  delta = 0.0 of 1e-06 spent" in well("show", "doc-17")
    changed = well("amend", "doc-17", "--epsilon", "9", "--reason", "many counts", "--release-share", "0.5")
    assert "releases  delta = 0.0 of 5e-06 spent" in changed
    assert "of 2e-06 spent" in well("budget", "new", "--epsilon", "9", "--release-share", "0.2")
    assert call("budget", "x", "--epsilon", "9", "--release-share", "1").exit_code != 0


def test_amend_needs_a_reason_and_keeps_it(used: str) -> None:
    assert call("amend", "doc-17", "--epsilon", "9").exit_code == 2
    assert "epsilon = 9" in well("amend", "doc-17", "--epsilon", "9", "--reason", "longer study")
    assert "longer study" in well("export")


def test_export_writes_lines_of_json_and_the_head_apart(used: str, tmp_path: Path) -> None:
    result = call("export")
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert [entry["kind"] for entry in entries] == ["open", "reserve", "open", "reserve"]
    head = f"4:{entries[-1]['hash']}"
    assert result.stderr == f"head {head}\n"
    assert well("export", "--output", str(tmp_path / "log.jsonl")) == ""
    assert (tmp_path / "log.jsonl").read_text() == result.stdout
    assert f"head {head}" in well("verify", "--head", head)
    assert isinstance(call("export", "--output", str(tmp_path / "no/where")).exception, LedgerError)


def test_an_export_is_its_owners_alone(used: str, tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text("old")
    there.chmod(0o644)
    before = os.umask(0o022)
    try:
        for path in (there, tmp_path / "new.jsonl"):
            well("export", "--output", str(path))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert len(path.read_text().splitlines()) == 4
    finally:
        os.umask(before)
    well("export", "--output", "/dev/null")


def test_verify_fails_when_something_is_wrong(used: str) -> None:
    assert "ok: 4 entries" in well("verify")
    tamper(used, "UPDATE dpfusion_balances SET spent = 0")
    result = call("verify")
    assert result.exit_code == 1
    assert result.stdout.count("is not what the log says") == 2
    assert "ok" not in result.stdout
    assert call("verify", "--head", "9:" + "0" * 64).exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [("show",), ("show", "a"), ("export",), ("verify",), ("amend", "a", "--epsilon", "9", "--reason", "x")],
)
def test_looking_at_a_ledger_that_is_not_there_does_not_make_one(
    url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = call(*arguments)
    assert isinstance(result.exception, LedgerError)
    assert "There is no ledger at" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_key_may_be_in_another_file(used: str, tmp_path: Path) -> None:
    (tmp_path / "ledger.db.key").rename(tmp_path / "elsewhere")
    assert isinstance(call("verify").exception, LedgerError)
    assert "ok" in well("verify", "--key-file", str(tmp_path / "elsewhere"))
    assert "no key file" in str(call("verify", "--key-file", str(tmp_path / "nowhere")).exception)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_has_a_help_text(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    text = well(command, "--help")
    assert "--url" in text
    commands = getattr(get_command(ledger_app), "commands")  # noqa: B009 - typer brings its own click
    assert set(commands) == set(COMMANDS)
    assert commands[command].help
    assert all(getattr(parameter, "help", None) for parameter in commands[command].params)
