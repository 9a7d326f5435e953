r"""The one normal form of a privacy unit's id.

A unit is known by its id for ever, so what means the same thing must be the same id: an account that is
split in two has two budgets. Joining two ids is always safe, it only costs utility. The rule:

1. Characters that control or do not show (Unicode's Cc, Cf and what it lets be ignored: a zero-width space, a
   byte order mark, a variation selector) are dropped, white space but for one blank between words too.
2. Case is folded and the result is in Unicode's normal form C.
3. ``\`` is ``/``. The id is then read as a path: blanks around a name, empty names (``//``, a ``/`` at the
   end) and ``.`` are dropped; ``..`` takes away the name before it. A URL's scheme, ``//`` and host stay, and
   so does a ``/`` at the beginning; ``file://`` on this host is the path behind it.

An id of which nothing is left is refused, and one of more than ``LONGEST`` characters.
"""

import re
import unicodedata

from dpfusion_core.errors import PrivacyParameterError

LONGEST = 4096
"""Characters that a unit's id may have. Beyond it, an id is some text that was given by mistake."""

# What may be ignored where it cannot be shown, but for Cf (DerivedCoreProperties, Default_Ignorable_Code_Point).
_IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_FILE = re.compile(r"file:// *(?:localhost *)?(?:[/ ]+(?=[a-z]:)|(?=/))")
_HOST = re.compile(r"([a-z][a-z0-9+.-]+://)([^/]*)")  # a scheme has two letters or more: one is a drive


def unit_id(name: str) -> str:
    r"""Return the normal form of a unit's id; that of a normal form is itself.

    Args:
        name: The id as a caller or a document's source spells it.

    Returns:
        The id that messages, accounts and guarantees use.

    Raises:
        PrivacyParameterError: If ``name`` is no string, nothing is left of it, or it is too long.

    Example:
        >>> unit_id(" HR/cv-3 ") == unit_id("./hr//cv-3") == unit_id("hr\\cv-3")
        True
        >>> unit_id("https://Host/a/../b/")
        'https://host/b'
    """
    if not isinstance(name, str):
        raise PrivacyParameterError(f"Expected the id of a unit to be a string, got {type(name).__name__}.")
    folded = "" if len(name) > LONGEST else _as_path(_folded(name))
    if len(name) > LONGEST or len(folded) > LONGEST:
        raise PrivacyParameterError(
            f"The id of a unit has more than {LONGEST} characters. Name the unit by something shorter that "
            "stays the same, such as a digest of the id."
        )
    if not folded:
        raise PrivacyParameterError(
            "The id of a unit is empty, or white space and dots alone. Name what it stands for."
        )
    return folded


def unit_prefix(name: str) -> str:
    """Return the normal form of a prefix of units' ids; a ``/`` at its end stays.

    ``hr/`` holds ``hr`` and all that is below it, ``hr`` holds ``hr-old`` too.

    Raises:
        PrivacyParameterError: As ``unit_id``.
    """
    prefix = unit_id(name)
    is_folder = name.replace("\\", "/").rstrip().endswith("/")
    return f"{prefix}/" if is_folder and not prefix.endswith("/") else prefix


def has_prefix(unit: str, prefix: str) -> bool:
    """Return whether a unit belongs to a prefix, both in normal form."""
    return f"{unit}/".startswith(prefix)


def _folded(name: str) -> str:
    words = _IGNORED.sub("", name).split()  # Unicode's white space, tabs and ends of lines included
    shown = ("".join(c for c in word if unicodedata.category(c) not in ("Cc", "Cf")) for word in words)
    text = " ".join(word for word in shown if word)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _as_path(text: str) -> str:
    text = text.replace("\\", "/")
    file = _FILE.match(text)
    text = text[file.end() :] if file else text
    host = _HOST.match(text)
    start, rest = (host[1] + host[2].strip(), text[host.end() :]) if host else ("", text)
    root = "/" if rest.startswith("/") else ""
    names: list[str] = []
    for part in rest.split("/"):
        each = part.strip()
        if each == ".." and names and names[-1] != "..":
            names.pop()
        elif each == ".." and root:
            continue  # there is nothing above the root
        elif each not in ("", "."):
            names.append(each)
    return start + root + "/".join(names) if names or not start else start
