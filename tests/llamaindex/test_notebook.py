"""The notebook runs offline, its committed outputs are there, and its examples do what it says of them."""

import pytest

from tests.notebooks import check_answers, check_outputs, check_run, leaks, read

NOTEBOOK = "03_llamaindex_rag.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq")  # of the kernel's messages
def test_the_notebook_runs_offline_and_puts_out_what_is_committed() -> None:
    text = check_run(NOTEBOOK)
    check_answers(text)
    plain, private = leaks(text)
    assert plain >= 8
    assert private == 0
    assert "0 of 20 answers give a secret away" in text
    assert "image/png" in text
    assert "would fit" in text  # the refusal of what a budget cannot pay
    assert "user: ____" in text  # what traces see


def test_outputs_are_committed_and_hold_no_path_of_a_machine() -> None:
    check_outputs(NOTEBOOK)


def test_each_example_changes_two_lines() -> None:
    [differences] = [cell for cell in read(NOTEBOOK).cells if "unified_diff" in cell.source]
    lines = differences.outputs[0]["text"].splitlines()
    examples = sum(line.startswith("---") for line in lines)
    assert examples == 3
    assert sum(line.startswith("+") for line in lines) == 2 * examples
    assert sum(line.startswith("-") and not line.startswith("---") for line in lines) == examples
