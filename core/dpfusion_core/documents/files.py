"""Which files a run reads and where it writes: inside of its two folders, and files alone.

Neither a symbolic link nor a pipe, socket or device is opened because it lies in the input folder: a link
may lead to any file of the machine, and a pipe keeps a run waiting for ever.
"""

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, ViewError

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True)
class Found:
    """What lies in an input folder.

    Attributes:
        files: The files, by their path in the folder, with ``/``. The values have no link in them.
        left_out: Why something is not read, by its path in the folder.
    """

    files: dict[str, Path] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def find_files(source: Path, target: Path, *, follow_symlinks: bool) -> Found:
    """Return the files to read; hidden ones are left out.

    Args:
        source: The input, a folder or a file; where it leads if it is a link, for the caller has named it.
        target: The output folder.
        follow_symlinks: Whether links in the folder are followed.

    Raises:
        PrivacyParameterError: If there is nothing to read, or source and target overlap.
    """
    inside, outside = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    mode = _mode(inside)
    if mode is None:
        raise PrivacyParameterError(f"There is no {source}.")
    if stat.S_ISREG(mode):
        if outside in (inside, inside.parent):
            raise PrivacyParameterError("The output folder must not be the one that the input is in.")
        return Found({source.name or inside.name: inside})
    if not stat.S_ISDIR(mode):
        raise PrivacyParameterError(f"{source} is neither a folder nor a file.")
    if outside.is_relative_to(inside) or inside.is_relative_to(outside):
        raise PrivacyParameterError("Input and output must be two folders, neither of them in the other.")
    found = Found()
    for path, reason in _walk(inside, follow_symlinks, {inside}):
        name, real = path.relative_to(inside).as_posix(), Path(os.path.realpath(path))
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if reason is not None:
            found.left_out[shown] = reason
        elif real.is_relative_to(outside):
            found.left_out[shown] = "a symbolic link into the output folder"
        elif shown != name:
            found.left_out[shown] = "its name is not in UTF-8"
        else:
            found.files[name] = real
    if not found.files and not found.left_out:
        raise PrivacyParameterError(f"There is no file in {source}.")
    return found


def read_bytes(path: Path, name: str) -> bytes:
    """Return what a file holds, which must be a file when it is opened, whatever it was before.

    Raises:
        ViewError: If it is no file.
        OSError: If it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW | _NO_WAIT)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ViewError(f"{name} is not a file.")
        return file.read()


def check_outputs(target: Path, names: Iterable[str]) -> None:
    """Refuse an output folder in which a link leads what would be written out of it.

    Raises:
        UnsupportedError: If there is one.
    """
    for name in names:
        path = target / name
        for each in (path, *path.parents):
            if each == target:
                break
            if each.is_symlink():
                raise UnsupportedError(
                    f"{each} is a symbolic link, and what is written there would lie elsewhere. Remove it, or "
                    "choose another output folder."
                )


def replace_file(target: Path, name: str, text: str) -> None:
    """Write an output file, for its owner alone, so that it is there with its whole content or not at all.

    Raises:
        UnsupportedError: If a link is in the way.
        OSError: If it cannot be written.
    """
    check_outputs(target, [name])
    path, data = target / name, text.encode("utf-8")
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, made = tempfile.mkstemp(prefix=".dpfusion-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise


def _walk(folder: Path, follow: bool, seen: set[Path]) -> Iterator[tuple[Path, str | None]]:
    """Yield what is not hidden, with the reason if it is not to be read."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_symlink() and not follow:
            yield path, "a symbolic link; --follow-symlinks reads where it leads"
            continue
        mode = _mode(path)
        if mode is None:
            yield path, "a symbolic link that leads nowhere"
        elif stat.S_ISDIR(mode):
            real = Path(os.path.realpath(path))
            if real in seen:  # there may be links in circles
                yield path, "a folder that is read under another name"
                continue
            seen.add(real)
            yield from _walk(path, follow, seen)
        elif stat.S_ISREG(mode):
            yield path, None
        else:
            yield path, "neither a file nor a folder"


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = error.strerror
    raise PrivacyParameterError(f"Cannot look at {path}: {reason}.")
