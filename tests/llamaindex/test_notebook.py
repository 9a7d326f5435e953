"""The notebook runs offline, its committed outputs are there, and its examples do what it says of them."""

import os
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "03_llamaindex_rag.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def written(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(str(output.get("text") or output.get("data") or output) for output in outputs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq")  # of the kernel's messages
def test_the_notebook_runs_offline_in_two_minutes() -> None:
    notebook = read()
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "core"), str(ROOT)]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # the model is tiny: a second thread costs more than it brings
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    started = time.monotonic()
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(env=env)
    assert time.monotonic() - started < 120
    text = written(notebook)
    assert "10 of 10 answers give a secret away" in text
    assert "\n0 of 10 answers give a secret away" in text
    assert "0 of 20 answers give a secret away" in text
    assert "image/png" in text
    assert "would fit" in text  # the refusal of what a budget cannot pay
    assert "user: ____" in text  # what traces see


def test_outputs_are_committed_and_hold_no_path_of_a_machine() -> None:
    notebook = read()
    text = written(notebook)
    assert all(
        cell.outputs for cell in notebook.cells if cell.cell_type == "code" and "print(" in cell.source
    )
    assert "image/png" in text
    assert str(Path.home()) not in text
    assert "Traceback" not in text


def test_each_example_changes_two_lines() -> None:
    [differences] = [cell for cell in read().cells if "unified_diff" in cell.source]
    lines = differences.outputs[0]["text"].splitlines()
    examples = sum(line.startswith("---") for line in lines)
    assert examples == 3
    assert sum(line.startswith("+") for line in lines) == 2 * examples
    assert sum(line.startswith("-") and not line.startswith("---") for line in lines) == examples
