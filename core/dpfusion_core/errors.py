"""The exceptions that dpfusion raises.

    DPFusionError
    ├── PrivacyParameterError   a privacy or sampling parameter is missing, out of range or contradictory
    ├── BudgetExhaustedError    a privacy unit has no budget left
    ├── LedgerError             the ledger cannot be reached, read, written or trusted
    ├── TaggerError             the search for private phrases failed
    ├── ViewError               messages cannot be made into prompts (role, template, tokenizer, marker, length)
    ├── BackendError            the model failed or returned something unusable
    └── UnsupportedError        a valid request that this combination of parts cannot serve

Messages of these exceptions never quote the text of a message, private or public, so they may be
logged. Parameter values are quoted; they are not secret.
"""


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
