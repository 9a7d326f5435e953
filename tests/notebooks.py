"""What the tests of all notebooks need: reading them, and running them offline."""

import os
import re
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]


def read(name: str) -> Any:
    """Return a notebook as it is committed."""
    return nbformat.read(ROOT / "notebooks" / name, as_version=4)


def written(notebook: Any) -> str:
    """Return all that the cells of a notebook have put out."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(str(output.get("text") or output.get("data") or output) for output in outputs)


def run(name: str, seconds: float = 120.0) -> str:
    """Run a notebook from the working tree, without the network, in limited time; return what it puts out."""
    notebook = read(name)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "core"), str(ROOT)]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # the model is tiny: a second thread costs more than it brings
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    started = time.monotonic()
    NotebookClient(notebook, timeout=round(seconds), kernel_name="python3").execute(env=env)
    assert time.monotonic() - started < seconds
    return written(notebook)


def leaks(text: str) -> list[int]:
    """Return how many of 10 answers gave a secret away, each time that a notebook counts them."""
    return [int(count) for count in re.findall(r"(\d+) of 10 answers give a secret away", text)]


def check_outputs(name: str) -> None:
    """Check that the outputs are committed, and hold no path of a machine."""
    notebook = read(name)
    text = written(notebook)
    assert all(
        cell.outputs for cell in notebook.cells if cell.cell_type == "code" and "print(" in cell.source
    )
    assert "image/png" in text
    assert str(Path.home()) not in text
    assert "Traceback" not in text
