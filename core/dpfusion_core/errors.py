"""The exceptions that dpfusion raises.

    DPFusionError
    ├── PrivacyParameterError   a privacy or sampling parameter is missing, out of range or contradictory
    ├── BudgetExhaustedError    a privacy unit has no budget left
    ├── LedgerError             the ledger cannot be reached, read, written or trusted
    ├── TaggerError             the search for private phrases failed
    ├── ViewError               messages cannot be made into prompts (role, template, tokenizer, marker, length)
    ├── BackendError            the model failed or returned something unusable
    ├── UnsupportedError        a valid request that this combination of parts cannot serve
    ├── RefusedError            one of the above that is no ValueError: for hosts that swallow those
    └── Cancelled               work was stopped on request; nothing of it is released

Messages of these exceptions never quote the text of a message, private or public, so they may be
logged. Parameter values are quoted; they are not secret.

Errors of others (a model, a tokenizer, a template, a tagger, a tool, a framework) may quote anything.
They are turned into ours in one place, :class:`errors_as`, and leave nothing behind: no text, no
cause, no context, no notes.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn


class DPFusionError(Exception):
    """Base class of every error that dpfusion raises on purpose."""


class PrivacyParameterError(DPFusionError, ValueError):
    """A privacy or sampling parameter is missing, out of range or contradictory."""


class BudgetExhaustedError(DPFusionError):
    """A privacy unit has no budget left for the request.

    Attributes:
        units: The units that cannot pay, by the caller's own ids.
        largest_share: What would fit: the largest share of the asked loss, in [0, 1], that every
            unit of the request could still pay. None if it is not known.
    """

    def __init__(
        self, message: str, *, units: tuple[str, ...] = (), largest_share: float | None = None
    ) -> None:
        super().__init__(message)
        self.units = units
        self.largest_share = largest_share

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args, {"units": self.units, "largest_share": self.largest_share}


class LedgerError(DPFusionError, RuntimeError):
    """The ledger cannot be reached, read, written or trusted: nothing may be generated."""


class TaggerError(DPFusionError):
    """A tagger raised, timed out, or returned spans that do not fit the text."""


class ViewError(DPFusionError, ValueError):
    """Messages cannot be made into prompts: role, template, tokenizer, marker or length."""


class BackendError(DPFusionError, RuntimeError):
    """The model failed or returned something that is not a distribution."""


class UnsupportedError(DPFusionError, NotImplementedError):
    """A valid request that this combination of parts cannot serve."""


class RefusedError(DPFusionError, RuntimeError):
    """A request was refused before anything was computed: it would not have protected what it should.

    Also raised in place of ``PrivacyParameterError`` and ``ViewError``, with the same message, where a
    host would swallow those: they are ``ValueError`` too.

    Attributes:
        error: The error in whose place it stands, if any.
    """

    def __init__(self, reason: "str | DPFusionError") -> None:
        super().__init__(str(reason))
        self.error = reason if isinstance(reason, DPFusionError) else None

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.error or str(self),)


class Cancelled(DPFusionError):
    """Work was stopped on request; nothing of it is released."""


class errors_as:  # in lower case: it reads like contextlib.suppress
    """Turn the errors of others into one of ours, without their text, cause, context or notes.

    Stands around any call of code that is not ours and may have seen private text; around ``await`` too,
    but not around ``yield``. Errors of ours pass, with whatever they were raised from taken off. What
    ends a task or the program passes as it is: ``KeyboardInterrupt``, ``SystemExit``, ``GeneratorExit``,
    ``CancelledError``.

    Args:
        kind: Makes the error from its message.
        message: What it says. ``{error}`` stands for the name of the foreign error's class. A function
            gets the error and says it in words that quote nothing.
        only: Errors of other types pass as they are. Narrow this only where none of those could quote
            private text.
        ours: Which errors of ours pass; others of ours are turned too, and their message is kept.

    Example:
        >>> with errors_as(TaggerError, "The tagger failed ({error})."):
        ...     raise ValueError("Jane Roe is ill")
        Traceback (most recent call last):
        dpfusion_core.errors.TaggerError: The tagger failed (ValueError).
    """

    def __init__(
        self,
        kind: Callable[[str], DPFusionError],
        message: str | Callable[[Any], str],
        *,
        only: type[Exception] | tuple[type[Exception], ...] = Exception,
        ours: type[DPFusionError] = DPFusionError,
    ) -> None:
        self._kind = kind
        self._message = message
        self._only = only
        self._ours = ours

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, self._ours):
            _bare(error)
        elif isinstance(error, self._only) or _is_panic(error):
            said = self._message
            name = f"{error_name(error)}: {error}" if isinstance(error, DPFusionError) else error_name(error)
            text = _words(said, error) if callable(said) else said.replace("{error}", name)
            del error, traceback  # debuggers that show local variables would show it
            raise_bare(self._kind(text))


def raise_bare(error: DPFusionError) -> NoReturn:
    """Raise an error without cause, context and notes, even while another error is handled.

    ``raise ... from None`` does not do: it leaves the other error, with its text, in ``__context__``.
    """
    try:
        raise error
    finally:
        _bare(error)


def error_name(error: BaseException | None) -> str:
    """Return the name of an error's class: all that may be told of a foreign error.

    Even a name may be made from text: one that is long or not plain is withheld.

    Example:
        >>> error_name(KeyError("Jane Roe"))
        'KeyError'
    """
    name = type(error).__name__
    return name if name.isascii() and name.isidentifier() and len(name) <= _LONGEST_NAME else "Exception"


_LONGEST_NAME = 60


def _words(say: Callable[[Any], str], error: BaseException | None) -> str:
    """Return what a function says of an error, whose own ``__str__`` may raise and quote text."""
    try:
        return say(error)
    except Exception:  # noqa: BLE001  of somebody else's class
        return f"A part of somebody else failed ({error_name(error)})."


def _bare(error: BaseException) -> None:
    error.__cause__ = error.__context__ = None
    error.__dict__.pop("__notes__", None)


def _is_panic(error: BaseException | None) -> bool:
    """Whether it is a panic of Rust code, as of a tokenizer: not an ``Exception``, and it quotes text."""
    return type(error).__module__ == "pyo3_runtime"
