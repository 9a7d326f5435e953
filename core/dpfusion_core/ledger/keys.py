"""The secret of a ledger: where it is kept, and what is derived from it."""

import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from dpfusion_core.errors import LedgerError, PrivacyParameterError, errors_as

VARIABLE = "DPFUSION_LEDGER_KEY"
_SHORTEST = 16  # bytes; unit ids are easy to guess, so the key must not be


class Keyring:
    """The keys of one ledger. ``repr`` shows none of them.

    Args:
        secret: The secret they are derived from.

    Attributes:
        fingerprint: Tells keys apart without telling them.
        entities: From which a tagger's ids of entities are made.
    """

    def __init__(self, secret: bytes) -> None:
        self._units = hmac.digest(secret, b"dpfusion ledger: units", "sha256")
        self.entities = hmac.digest(secret, b"dpfusion ledger: entities", "sha256")
        self._log = hmac.new(hmac.digest(secret, b"dpfusion ledger: log", "sha256"), digestmod="sha256")
        self.fingerprint = hmac.digest(secret, b"dpfusion ledger: fingerprint", "sha256").hex()[:32]

    def unit(self, unit: str) -> str:
        """Return what stands for a unit in the ledger."""
        return hmac.digest(self._units, unit.encode("utf-8", "surrogatepass"), "sha256").hex()

    def seal(self, text: str) -> str:
        """Return the authentication code of a log entry."""
        code = self._log.copy()  # cheaper than to begin with the key
        code.update(text.encode("utf-8"))
        return code.hexdigest()


def as_secret(key: str | bytes) -> bytes:
    """Return a caller's key as bytes.

    Raises:
        PrivacyParameterError: If it is too short. The key is not quoted.
    """
    secret = key.encode("utf-8") if isinstance(key, str) else key
    if not isinstance(secret, bytes) or len(secret.strip()) < _SHORTEST:
        raise PrivacyParameterError(
            f"Expected a ledger key of at least {_SHORTEST} bytes, for example from "
            "`python -c 'import secrets; print(secrets.token_hex(32))'`."
        )
    return secret.strip()


def from_environment() -> bytes | None:
    """Return the key that the environment names, or None."""
    key = os.environ.get(VARIABLE)
    return as_secret(key) if key else None


def read_file(path: Path) -> bytes | None:
    """Return the key in a file, or None if there is no such file.

    Raises:
        LedgerError: If the file cannot be read or holds no key.
    """
    with errors_as(
        LedgerError, lambda error: f"Cannot read the ledger key {path}: {error.strerror}.", only=OSError
    ):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
    if len(content.strip()) < _SHORTEST:
        raise LedgerError(f"The ledger key {path} is damaged (too short). Restore it from a backup.")
    return as_secret(content)


def read_or_make_file(path: Path) -> bytes:
    """Return the key in a file, and make it first if there is none.

    The file appears with its whole content or not at all, and if two processes make it at once, both
    get the same key.

    Raises:
        LedgerError: If the file cannot be read or made.
    """
    found = read_file(path)
    if found is not None:
        return found
    with errors_as(LedgerError, lambda error: _unmade(path, error), only=OSError):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_hex(32).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # another process was first: its key is the key
                os.link(name, path)
        finally:
            os.unlink(name)
    made = read_file(path)
    if made is None:
        raise LedgerError(f"The ledger key {path} was removed while it was made.")
    return made


def _unmade(path: Path, error: OSError) -> str:
    return (
        f"Cannot make the ledger key {path}: {error.strerror}. "
        f"Make the directory writable, or give a key ({VARIABLE} or key=)."
    )
