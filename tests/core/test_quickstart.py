"""The first notebook runs offline, puts out what is committed, and its answers are what it says of them."""

import re

import pytest

from tests.notebooks import check_outputs, check_run

NOTEBOOK = "01_quickstart.ipynb"


def number(pattern: str, text: str) -> float:
    [found] = re.findall(pattern, text)
    return float(found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq")  # of the kernel's messages
def test_the_notebook_runs_offline_and_its_answers_are_worth_having() -> None:
    text = check_run(NOTEBOOK)
    assert "a city that is not stated" in text  # free text about one record
    plain, redacted = number(r"plain (\d+)%", text), number(r"redacted (\d+)%", text)
    told = {epsilon: number(rf"epsilon {epsilon}: (\d+)%", text) for epsilon in (1, 2, 3)}
    assert redacted < 35 < told[1] < told[2] <= told[3] <= plain
    assert told[2] > 75
    assert re.search(r"nausea: about \d+ records", text)
    assert "told: []" in text  # what one record alone says
    low, high = number(r"between (\d+) and", text), number(r"and (\d+) with 95 %", text)
    assert low <= number(r"(\d+) live in Trondheim", text) <= high
    assert "3 refused" in text
    [curve] = re.findall(r"0\.25: .*4: \S+", text)
    shares = [float(share) for share in re.findall(r": (\d\.\d\d)", curve)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.9


def test_outputs_are_committed_and_hold_no_path_of_a_machine() -> None:
    check_outputs(NOTEBOOK)
