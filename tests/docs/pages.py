"""Runs the code blocks of a Markdown page in order and compares what they print with what the page shows."""

import contextlib
import doctest
import io
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sybil import Document, Example, Sybil
from sybil.parsers.markdown import CodeBlockParser
from typer.testing import CliRunner

from dpfusion_core import DPFusionError
from dpfusion_core.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
FENCE = re.compile(r"^[ ]*```(\w*)", re.MULTILINE)
NOT_RUN = re.compile(
    r"\*Not run by the tests: [^*]+\.\*\n\n[ ]*\Z"
)  # stands right above the block, for readers
SHOWN_ONLY = {"mermaid"}  # drawings
LANGUAGES = ("python", "text", "console", "sh")
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass
class Printed:
    """What a block has printed and the page has not shown yet."""

    text: str = ""
    line: int = 0


class PageRunner:
    """Runs one page; names live on from block to block.

    Args:
        page: The Markdown file.
        update: Whether to write what was printed into the page where it shows something else.
    """

    def __init__(self, page: Path, update: bool = False) -> None:
        self.page = page
        self.update = update
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.printed = Printed()
        self.outputs: list[tuple[int, int, str]] = []
        parsers = [CodeBlockParser(language, self._evaluate) for language in LANGUAGES]
        self.document: Document = Sybil(parsers).parse(page)

    @property
    def blocks(self) -> list[Example]:
        """The blocks of the page, in order."""
        return list(self.document.examples())

    def run(self) -> None:
        """Run every block.

        Raises:
            AssertionError: If a block fails, or prints what the page does not show.
        """
        for example in self.blocks:
            example.evaluate()
        self._check_all_is_shown()
        if self.outputs:
            text = self.page.read_text(encoding="utf-8")
            for start, end, output in reversed(self.outputs):
                text = text[:start] + output + text[end:]
            self.page.write_text(text, encoding="utf-8")

    def _evaluate(self, example: Example) -> None:
        language = example.region.lexemes["arguments"]
        if self.is_marked(example):
            return
        if language != "text":
            self._check_all_is_shown()
        getattr(self, f"_{language}")(example)

    def is_marked(self, example: Example) -> bool:
        """Return whether the page says, right above a block, why it is not run."""
        return bool(NOT_RUN.search(self.document.text[: example.start]))

    def _python(self, example: Example) -> None:
        # The line numbers of the page, so that a traceback points there.
        source = "\n" * example.line + str(example.parsed)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(source, str(self.page), "exec", dont_inherit=True), self.names)
        self.printed = Printed(out.getvalue(), example.line)

    def _console(self, example: Example) -> None:
        """Run ``$ dpfusion ...`` lines in this process; what follows each is what it prints."""
        shown = str(example.parsed)
        parts = re.split(r"^\$ (.*)\n", shown, flags=re.MULTILINE)
        assert not parts[0].strip(), f"{self._place(example.line)}: a console block begins with $"
        printed = ""
        for command, _ in zip(parts[1::2], parts[2::2], strict=True):
            printed += f"$ {command}\n{dpfusion(command)}"
        self._compare(example, printed)

    def _sh(self, example: Example) -> None:
        """Check commands that install or build: their targets and extras exist."""
        for line in str(example.parsed).splitlines():
            words = shlex.split(line, comments=True)
            if not words:
                continue
            place = self._place(example.line)
            if words[0] == "make":
                assert words[1] in make_targets(), f"{place}: no such target: {words[1]}"
            else:
                assert words[:2] == ["pip", "install"], f"{place}: cannot be checked: {line}"
                for extra in re.findall(r"\[([\w,]+)\]", line):
                    assert set(extra.split(",")) <= extras(), f"{place}: no such extra: {extra}"

    def _text(self, example: Example) -> None:
        printed, self.printed = self.printed.text, Printed()
        assert printed, f"{self._place(example.line)}: the page shows an output, but nothing was printed"
        self._compare(example, printed)

    def _compare(self, example: Example, printed: str) -> None:
        shown = str(example.parsed)
        if doctest.OutputChecker().check_output(shown, printed, OPTIONS):
            return
        if self.update:
            source = example.region.lexemes["source"]
            start = example.start + source.offset
            self.outputs.append((start, start + len(source.text), printed.rstrip("\n") + "\n"))
            return
        raise AssertionError(f"{self._place(example.line)}\nshown:\n{shown}\nprinted:\n{printed}")

    def _check_all_is_shown(self) -> None:
        left, self.printed = self.printed, Printed()
        place = self._place(left.line)
        assert not left.text.strip(), f"{place}: the page does not show what this prints:\n{left.text}"

    def _place(self, line: int) -> str:
        return f"{self.page.name}:{line}"


def dpfusion(command: str) -> str:
    """Run a ``dpfusion`` command line and return what it prints."""
    words = shlex.split(command)
    assert words[0] == "dpfusion", f"cannot be run: {command}"
    result = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}).invoke(app, words[1:])
    if isinstance(result.exception, DPFusionError):  # as main() tells it
        return f"{result.stdout}{type(result.exception).__name__}: {result.exception}\n"
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def extras() -> set[str]:
    """Return the extras that the distribution has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])
