"""The secret of a ledger: where it is kept, and what is derived from it."""

import hmac
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
    with errors_as(LedgerError, lambda error: _unread(path, error), only=OSError):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
    if len(content.strip()) < _SHORTEST:
        raise LedgerError(f"The ledger key {path} is damaged (too short). Restore it from a backup.")
    return as_secret(content)


@contextmanager
def made(path: Path) -> Iterator[bytes | None]:
    """Make a key file; give its key, or None if there is a file already.

    The file appears with its whole content or not at all. Until the block ends it is held: ``held`` waits.

    Raises:
        LedgerError: If the file cannot be made.
    """
    secret = secrets.token_hex(32).encode()
    with ExitStack() as stack:
        with errors_as(LedgerError, lambda error: _unmade(path, error), only=OSError):
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
            file = stack.enter_context(os.fdopen(descriptor, "wb"))
            try:
                file.write(secret + b"\n")
                file.flush()
                os.fsync(file.fileno())
                _lock(file.fileno())
                os.link(name, path)
            except FileExistsError:
                secret = b""  # another process was first: its key is the key
            finally:
                os.unlink(name)
        yield secret or None


@contextmanager
def held(path: Path, timeout: float) -> Iterator[None]:
    """Wait until nobody else holds a key file, and hold it.

    Raises:
        LedgerError: If it cannot be opened, or is held for longer than ``timeout`` seconds.
    """
    with ExitStack() as stack:
        with errors_as(LedgerError, lambda error: _unread(path, error), only=OSError):
            file = stack.enter_context(path.open("rb"))
            until = time.monotonic() + timeout
            while not _lock(file.fileno()):
                if time.monotonic() > until:
                    raise LedgerError(f"The ledger was busy for {timeout:g} s: it is being made. Try again.")
                time.sleep(0.01)
        yield


def _lock(descriptor: int) -> bool:
    """Take the lock of a file, which ends with its being closed; return whether it was free."""
    try:
        import fcntl
    except ImportError:  # on Windows two processes must not make one ledger at the same time
        return True
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _unread(path: Path, error: OSError) -> str:
    return f"Cannot read the ledger key {path}: {error.strerror}."


def _unmade(path: Path, error: OSError) -> str:
    return (
        f"Cannot make the ledger key {path}: {error.strerror}. "
        f"Make the directory writable, or give a key ({VARIABLE} or key=)."
    )
