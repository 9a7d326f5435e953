"""Every code block of the README and of docs/ runs as it stands and prints what the page shows."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import FENCE, LANGUAGES, NOT_RUN, PAGES, ROOT, SHOWN_ONLY, PageRunner
from tests.draws import repeating

UPDATE = bool(
    os.environ.get("DPFUSION_UPDATE_DOCS")
)  # write what was printed into the pages; then read the diff


@pytest.fixture
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """LlamaIndex would make a loop and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def fixed_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws that repeat, so that a page can show an answer. Readers' own answers are drawn anew each time."""
    for module, name, value in repeating():
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("event_loop", "fixed_draws")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run_and_print_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # pages write files
    PageRunner(page, update=UPDATE).run()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_escapes(page: Path) -> None:
    openings = FENCE.findall(page.read_text(encoding="utf-8"))[::2]
    assert set(openings) <= {*LANGUAGES, *SHOWN_ONLY}  # one without a language would not be looked at
    assert len(PageRunner(page).blocks) == sum(language not in SHOWN_ONLY for language in openings)


def test_blocks_that_are_not_run_are_few() -> None:
    pages = map(PageRunner, PAGES)
    marked = [block for page in pages for block in page.blocks if page.is_marked(block)]
    assert len(marked) <= 4
    # The words of the mark stand nowhere else: a mark that is out of place would silence nothing.
    words = sum(page.read_text(encoding="utf-8").count("*Not run by the tests") for page in PAGES)
    assert words == len(marked)


def page_of(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


@pytest.mark.parametrize(
    "text, reason",
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "shown:\n2"),
        ("```python\nprint(1)\n```\n", "does not show"),
        ("```python\nprint(1)\n```\n\n```python\nx = 1\n```\n", "does not show"),
        ("```python\nx = 1\n```\n\n```text\n1\n```\n", "nothing was printed"),
        ("```python\nassert False, 'it fails'\n```\n", "it fails"),
        ("```sh\nmake nonsense\n```\n", "no such target"),
        ("```sh\npip install 'dpfusion[nonsense]'\n```\n", "no such extra"),
        ("```sh\nrm -rf build\n```\n", "cannot be checked"),
        ("```console\n$ dpfusion --version\ndpfusion 0.0.0\n```\n", "shown:"),
    ],
)
def test_a_false_page_is_found(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        PageRunner(page_of(tmp_path, text)).run()


def test_a_true_page_passes(tmp_path: Path) -> None:
    PageRunner(page_of(tmp_path, "```python\nprint(1)\n```\n\n```text\n1\n```\n")).run()


def test_a_marked_block_is_not_run(tmp_path: Path) -> None:
    text = "*Not run by the tests: it downloads a model.*\n\n```python\n1 / 0\n```\n"
    PageRunner(page_of(tmp_path, text)).run()


def test_the_two_commands_stand_at_the_top_of_the_readme() -> None:
    top = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:15]
    assert any(line.startswith("make demo") for line in top)
    assert any(line.startswith("make test") for line in top)
    assert not list(NOT_RUN.finditer("\n".join(top)))
