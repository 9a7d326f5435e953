"""What the tests of all notebooks need: reading them, running them offline, and comparing what they put out.

The committed outputs are those of a run in which draws repeat, so that a later run can be compared with them.
``PYTHONPATH=core:. python -m tests.notebooks`` writes them anew.
"""

import os
import re
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


# Answers are drawn from the system's generator, and noise from OpenDP's; here from ones with a fixed start.
FIXED_DRAWS = "from tests import draws; draws.repeat(in_turn={in_turn})"
COUNTING = ("01_quickstart.ipynb",)
"""Notebooks that count answers to many records, whose draws must not all be the same."""


def run(name: str, seconds: int = 300) -> Any:
    """Return a notebook as it comes out of a run from the working tree, without the network, draws that repeat."""
    notebook = read(name)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "core"), str(ROOT)]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # the model is tiny: a second thread costs more than it brings
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FIXED_DRAWS.format(in_turn=name in COUNTING)))
    NotebookClient(notebook, timeout=seconds, kernel_name="python3").execute(env=env)
    del notebook.cells[0]
    return notebook


def texts(notebook: Any) -> list[str]:
    """Return the text that each code cell puts out."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return ["".join(str(output.get("text", "")) for output in cell.outputs) for cell in cells]


def check_run(name: str) -> str:
    """Check that a run puts out what is committed; return it."""
    ran, committed = run(name), read(name)
    for cell, (now, before) in enumerate(zip(texts(ran), texts(committed), strict=True)):
        assert now == before, f"code cell {cell} of {name}; if it is right: python -m tests.notebooks"
    return written(ran)


def check_answers(text: str) -> None:
    """Check that the answers make sense: the plain ones tell what is asked for, the private ones talk of it."""
    by_question = re.findall(r"^(\S.*?\?) {2,}(\S.*)$", text, re.MULTILINE)
    assert len(by_question) == 20
    plain, private = by_question[:10], by_question[10:]
    known = set(re.findall(r"\w+", " ".join(question for question, _ in by_question))) | EXPECTED
    for answers in (plain, private):
        words = [word for _, answer in answers for word in re.findall(r"\w+", answer)]
        assert sum(word in known for word in words) > 0.95 * len(words)
        assert all(answer.endswith(".") or len(answer.split()) <= 3 for _, answer in answers)
    assert sum("not stated" in answer for _, answer in private) >= 8


# Words that a sensible answer about the records is made of, beside those of the questions.
EXPECTED = set(
    re.findall(
        r"\w+",
        "The a an the of in at as is was with that not stated to for on which by lives works charged paid pays amounts "
        "city job company offence date amount condition number person day Trondheim Marfan syndrome 1 850 welder "
        "Halden Marine arson 14 March 2025 Girona 12 400 555 0142",
    )
)


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


def joined(outputs: list[Any]) -> list[Any]:
    """Join pieces of one stream: where it is cut depends on the time."""
    found: list[Any] = []
    for output in outputs:
        if (
            found
            and output.output_type == "stream" == found[-1].output_type
            and output.name == found[-1].name
        ):
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def main() -> None:
    """Write the outputs of all notebooks."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = run(path.name)
        for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
            cell.execution_count = number
            cell.metadata.pop("execution", None)
            cell.outputs = joined(cell.outputs)
            for output in cell.outputs:
                if "execution_count" in output:
                    output["execution_count"] = number
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
