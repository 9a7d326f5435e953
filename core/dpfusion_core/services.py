"""What clients of services have in common: keys that do not print, addresses that may be asked, waiting."""

import email.utils
import ipaddress
import random
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, errors_as


class Secret:
    """A string that does not print."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "<secret>"

    def reveal(self) -> str:
        """Return the string."""
        return self._value


def checked_key(key: str) -> str:
    """Return a key that can stand in a header.

    Raises:
        PrivacyParameterError: If it cannot.
    """
    if not (isinstance(key, str) and key and key.isascii() and key.isprintable() and " " not in key):
        raise PrivacyParameterError("Expected an api_key of printable ASCII characters without spaces.")
    return key


def checked_url(url: str, *, allow_http: bool = False) -> str:
    """Return an address without the slash at its end.

    Args:
        url: The address.
        allow_http: Whether another machine may be asked without TLS.

    Raises:
        PrivacyParameterError: If it is no address, or private text would be sent there without TLS.
    """
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    is_safe = parts.scheme == "https" or (
        parts.scheme == "http" and (allow_http or _is_loopback(parts.hostname or ""))
    )
    if is_safe and parts.hostname:
        return url.rstrip("/")
    raise PrivacyParameterError(
        "Expected a base_url that begins with https:// (or http:// on this machine): private texts and the "
        "key are sent there."
    )


def seconds_asked(header: str | None) -> float | None:
    """Return how many seconds a service asks to wait: a number, or an HTTP date."""
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        when = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def backoff(tried: int, most: float) -> float:
    """Return how many seconds to wait after so many attempts.

    Jittered, so that many clients do not come back at the same moment.
    """
    return min(0.5 * 2.0 ** (tried - 1), most) * random.uniform(0.5, 1.0)


def load_httpx(what: str) -> Any:
    """Return httpx, or say what needs it.

    Raises:
        UnsupportedError: If it is not installed.
    """
    with errors_as(UnsupportedError, f"{what} needs httpx: pip install 'dpfusion[remote]'", only=ImportError):
        import httpx
    return httpx


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
