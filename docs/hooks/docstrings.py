"""Turns the reStructuredText in docstrings, roles and formulas, into what the pages are written in."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|meth|func|mod|attr|data|exc):`~?([^`]+)`")
_MATH_ROLE = re.compile(r":math:`([^`]+)`", re.DOTALL)
_MATH_BLOCK = re.compile(r"^( *)\.\. math:: *(.*(?:\n\1 +\S.*)*)", re.MULTILINE)
_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


def as_markdown(text: str) -> str:
    """Return a docstring with Markdown in the place of reStructuredText."""
    text = _MATH_BLOCK.sub(lambda found: f"{found[1]}$$\n{found[1]}{found[2].strip()}\n{found[1]}$$", text)
    text = _MATH_ROLE.sub(lambda found: f"${' '.join(found[1].split())}$", text)
    text = _ROLE.sub(lambda found: f"`{found[1].rpartition('.')[2] if '~' in found[0] else found[1]}`", text)
    text = _EXAMPLE.sub("Examples:", text)  # the parser knows the plural as code
    return text.replace("``", "`")


class Docstrings(griffe.Extension):
    """Applies :func:`as_markdown` to every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
