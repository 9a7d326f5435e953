"""The README quotes the benchmark, and nothing that is shown has an epsilon above 8."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

RESULTS = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def tables(text: str) -> list[list[dict[str, str]]]:
    """Return the rows of each Markdown table by column."""
    found: list[list[dict[str, str]]] = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        head, _, *rows = (
            [cell.strip() for cell in line.strip("| ").split("|")] for line in block.splitlines()
        )
        found.append([dict(zip(head, row, strict=False)) for row in rows])
    return found


def test_the_table_of_the_readme_quotes_the_benchmark() -> None:
    [measured] = [rows for rows in tables(RESULTS) if rows and "plain" in rows[0]]
    by_question = {row["question"]: row for row in measured}
    [quoted] = [rows for rows in tables(README) if rows and "plain" in rows[0]]
    assert len(quoted) >= 5
    for row in quoted:
        full = by_question[row["question"]]
        for column, cell in row.items():
            assert full[column].split(" ")[0] == cell or column == "question", (row, full)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: str(page.relative_to(ROOT)))
def test_no_epsilon_that_is_shown_is_above_8(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = [float(number) for number in re.findall(r"(?:epsilon ?=? ?|e\^)(\d+(?:\.\d+)?)", text)]
    assert max(shown, default=0.0) <= 8.0
