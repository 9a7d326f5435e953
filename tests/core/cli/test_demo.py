"""The demonstration shows what it says: answers that help, beside an attacker who stays below the ceiling."""

import random
import re
from collections.abc import Iterator

import pytest
import torch
from rich.console import Console

from dpfusion_core import FusionEngine
from dpfusion_core.cli.demo import LOOSEST, Line, ask_count, ask_most, ask_wards, paraphrase, run_demo
from dpfusion_core.cli.records import CITY, SHARED, patients
from dpfusion_core.privacy import MixtureRule, releasing
from tests.draws import repeating

RECORDS = patients()
ALONE = {each.effect for each in RECORDS if sum(other.effect == each.effect for other in RECORDS) == 1}


@pytest.fixture(autouse=True)
def draws(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in repeating(in_turn=True):
        monkeypatch.setattr(module, name, value)


@pytest.fixture(scope="module")
def engine() -> Iterator[FusionEngine]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield FusionEngine.from_pretrained("dpfusion-tiny")
    torch.set_num_threads(threads)


def check_wards(lines: list[Line]) -> None:
    right = {line.name: line.right or 0.0 for line in lines}
    assert right["plain model"] > 0.9
    assert right["redacted only"] < 0.35  # one in five by chance
    assert 0.35 < right["epsilon 1"] < 0.75 < right["epsilon 2"]


def check_most(lines: list[Line]) -> None:
    said = {line.name: line.answer for line in lines}
    assert said["plain model"] == f"{SHARED} (18 of 32)"
    assert SHARED not in said["redacted only"]
    assert SHARED in said["epsilon 1"]
    assert SHARED in said["epsilon 2"]
    assert not any(alone.removeprefix("a ") in answer for alone in ALONE for answer in said.values())


def check_attackers(lines: list[Line], least: float) -> None:
    for line in lines[2:]:
        assert line.attacker is not None
        assert line.most is not None
        assert least < line.attacker <= line.most + 1e-9
    assert all(line.attacker is None for line in lines[:2])


def test_a_ward_is_told_as_well_as_epsilon_allows(engine: FusionEngine) -> None:
    lines = list(ask_wards(engine, RECORDS))
    check_wards(lines)
    check_attackers(lines, 0.45)


def test_what_most_share_is_said_and_what_one_says_is_not(engine: FusionEngine) -> None:
    lines = list(ask_most(engine, RECORDS))
    check_most(lines)
    check_attackers(lines, 0.6)


def test_a_count_is_near(engine: FusionEngine) -> None:
    lines = list(ask_count(engine, RECORDS))
    plain, redacted, *noisy = ([int(each) for each in re.findall(r"\d+", line.answer)] for line in lines)
    assert abs(plain[0] - sum(each.city == CITY for each in RECORDS)) <= 3
    assert redacted[0] in (0, len(RECORDS))
    for value, _, low, high in noisy:
        assert low <= plain[0] <= high
        assert low <= value <= high
        assert high - low <= 12
    check_attackers(lines, 0.6)


def test_a_paraphrase_tells_little_of_one_record(engine: FusionEngine) -> None:
    plain, redacted, fused = paraphrase(engine, RECORDS)
    assert plain.right is not None
    assert redacted.right == 0.0
    assert plain.right > 0.4
    assert fused.right is not None
    assert fused.right < 0.2
    assert not any(value in redacted.answer for value in RECORDS[0].values)


def test_a_weight_of_nothing_would_be_seen(engine: FusionEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    fuse = MixtureRule.fuse
    monkeypatch.setattr(
        MixtureRule, "fuse", lambda self, public, private, bounds: fuse(self, public, private, 0.0 * bounds)
    )
    with pytest.raises(AssertionError):
        check_wards(list(ask_wards(engine, RECORDS)))


def test_a_vote_of_nothing_would_be_seen(engine: FusionEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releasing, "threshold", lambda rule: lambda counts: {})
    with pytest.raises(AssertionError):
        check_most(list(ask_most(engine, RECORDS)))


def test_the_whole_of_it_is_shown() -> None:
    console = Console(record=True, width=130)
    random.seed(0)
    run_demo(console, "dpfusion-tiny")
    text = console.export_text()
    assert all(value in text for value in RECORDS[0].values if value in RECORDS[0].text)
    assert "private view" in text
    assert "public view" in text
    assert [text.count(f"{number}  ") > 0 for number in (1, 2, 3, 4)] == [True] * 4
    assert text.count("at most") == 6
    assert max(float(each) for each in re.findall(r"epsilon (\d+)", text)) == LOOSEST <= 8.0
