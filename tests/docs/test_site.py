"""What the site is made of: docstrings as Markdown, numbers as the benchmarks printed them."""

import importlib
import importlib.util
import re
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT

_spec = importlib.util.spec_from_file_location("docstrings", ROOT / "docs" / "hooks" / "docstrings.py")
assert _spec
assert _spec.loader
docstrings: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(docstrings)


@pytest.mark.parametrize(
    "text, expected",
    [
        (":class:`~dpfusion_core.tagging.Narrowing`", "`Narrowing`"),
        (":meth:`TransformersBackend.from_pretrained`", "`TransformersBackend.from_pretrained`"),
        ("``beta``", "`beta`"),
        (":math:`D_a`", "$D_a$"),
        (".. math:: x +\n    y\n\nRest", "$$\nx +\n    y\n$$\n\nRest"),
        ("Example:\n    >>> 1", "Examples:\n    >>> 1"),
    ],
)
def test_docstrings_become_markdown(text: str, expected: str) -> None:
    assert docstrings.as_markdown(text) == expected


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("!!python/name:", "")
    named = set(re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"])))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert named == there


README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_of_the_readme_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("package", ["dpfusion_core", "dpfusion_core.privacy"])
def test_every_public_name_is_in_the_reference(package: str) -> None:
    """These packages load their names at first use, so the reference names them one by one."""
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    listed = re.findall(r"^::: (\w+\.[\w.]+)$", pages, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(importlib.import_module(package).__all__) <= {path.rpartition(".")[2] for path in listed}
    for path in listed:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path
