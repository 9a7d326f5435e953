"""What the code cites of the theory page is there."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

THEORY = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
SECTIONS = set(re.findall(r"^## (\d+)\. ", THEORY, re.MULTILINE))
FORMULAS = set(re.findall(r"\\tag\{(\d+)\}", THEORY))
SOURCES = [
    path
    for folder in ("core", "langchain_dpfusion", "llamaindex_dpfusion", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name != "test_citations.py"
]
# Docstrings wrap: white space between the words may be a line break.
CITATION = re.compile(
    r"docs/theory\.md,\s+(?:section\s+(\d+)|(?=formula))(?:,?\s*formulas?\s+(\(?\d+\)?(?:\s+and\s+\(?\d+\)?)*))?"
)


def test_the_page_has_the_sections_and_formulas_that_it_promises() -> None:
    assert {str(n) for n in range(1, 10)} <= SECTIONS
    assert {"1", "2", "3", "4"} <= FORMULAS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_citations_name_what_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "THEORY" not in text, "cite docs/theory.md, section N"
    citations = CITATION.findall(text)
    assert len(citations) == text.count("docs/theory.md"), "name a section or a formula"
    assert {section for section, _ in citations} - {""} <= SECTIONS
    assert {n for _, formulas in citations for n in re.findall(r"\d+", formulas)} <= FORMULAS


def test_the_code_cites_the_page() -> None:
    cited = {c for path in SOURCES for c in CITATION.findall(path.read_text(encoding="utf-8"))}
    assert len(cited) >= 6
