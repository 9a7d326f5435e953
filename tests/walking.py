"""Looks for a secret in everything that hangs on an exception."""

import traceback
from collections.abc import Iterator


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all errors that hang on it, as cause, as context, in a group or as an attribute."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if any(each is known for known in found):
            continue
        found.append(each)
        yield each
        hanging = [each.__cause__, each.__context__, *getattr(each, "exceptions", ()), *vars(each).values()]
        waiting += [other for other in hanging if isinstance(other, BaseException)]


def shown(error: BaseException) -> str:
    """Return every text that an error, and what hangs on it, can be made to show."""
    texts = []
    for each in chain(error):
        texts += [str(each), repr(each), type(each).__name__, *map(repr, each.args)]
        texts += [repr(vars(each)), *getattr(each, "__notes__", ())]
        texts += traceback.TracebackException.from_exception(each, capture_locals=False).format()
        texts += [repr(getattr(each, name, "")) for name in ("object", "doc", "msg", "filename", "value")]
    # The source lines of tests stand in tracebacks; secrets are put together so that they do not.
    return "\n".join(texts)


def assert_bare(error: BaseException, secret: str) -> None:
    """Assert that an error of ours tells nothing: no secret anywhere, no other error behind it."""
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not getattr(error, "__notes__", ())
    assert secret not in shown(error)
