"""The Document Privacy service as a tagger: the one tagger that sends texts to another machine."""

import itertools
import json
import logging
import os
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError, TaggerError, errors_as
from dpfusion_core.services import Secret, backoff, checked_key, checked_url, load_httpx, seconds_asked
from dpfusion_core.tagging.compose import SpanCache
from dpfusion_core.tagging.occurrences import find_phrases
from dpfusion_core.tagging.spans import DEFAULT_LABEL, Span
from dpfusion_core.tagging.windows import check_readable

if TYPE_CHECKING:  # loads when the service is first asked
    import httpx

BASE_URL = "https://api.documentprivacy.com"
KEY_VARIABLE = "DOCUMENT_PRIVACY_API_KEY"

log = logging.getLogger("dpfusion")


class DocumentPrivacyTagger:
    """Asks the Document Privacy service for the private phrases of a text, as the published library does.

    **Every text that is tagged is sent to the service.** Where that may not be, use a tagger that runs on
    this machine. Answers are checked like those of any tagger: only phrases that stand in the text count,
    everywhere they stand.

    In :mod:`dpfusion_core.compat` it has its published name, ``Tagger``. One instance may be used by several
    threads; proxies are taken from the environment (``HTTPS_PROXY``).

    Args:
        api_key: The key. Default: the environment variable ``DOCUMENT_PRIVACY_API_KEY``. It never prints,
            and is sent to ``base_url`` alone: redirects are not followed.
        verbose: Whether to log each answer's status and time (logger ``dpfusion``, level INFO); never a
            text.
        base_url: Address of the service.
        timeout: Seconds to wait for a connection, and for each part of an answer.
        retries: How often a request is repeated after status 429, 5xx or a failed connection.
        max_wait: Seconds to wait between two attempts at most; a ``Retry-After`` beyond it ends them.
        label: Label of the spans.
        cache_size: For how many texts answers are remembered.

    Raises:
        PrivacyParameterError: If there is no key, a number is out of range, or ``base_url`` is not https.

    Example:
        >>> tagger = DocumentPrivacyTagger(api_key="sk_...")
        >>> tagger.set_constitution("LEGAL")
        >>> tagger
        DocumentPrivacyTagger('https://api.documentprivacy.com', model='llama3.1-8b', constitution='LEGAL')
    """

    def __init__(
        self,
        api_key: str | None = None,
        verbose: bool = False,
        *,
        base_url: str = BASE_URL,
        timeout: float = 30.0,
        retries: int = 4,
        max_wait: float = 60.0,
        label: str = DEFAULT_LABEL,
        cache_size: int = 256,
    ) -> None:
        self._key = Secret(_checked_key(api_key or os.environ.get(KEY_VARIABLE)))
        self._base_url = checked_url(base_url)
        self._timeout = _validate.positive(timeout, "timeout")
        self._retries = _validate.count(retries, "retries", minimum=0)
        self._max_wait = _validate.positive(max_wait, "max_wait")
        self._model = "llama3.1-8b"
        self._constitution = "HEALTH"
        self._label = label
        self.verbose = verbose
        self._cache = SpanCache(cache_size)
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"DocumentPrivacyTagger({self._base_url!r}, model={self._model!r}, "
            f"constitution={self._constitution!r})"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("A DocumentPrivacyTagger is not pickled: its key would stand in the file.")

    def set_model(self, model: str) -> None:
        """Set the service's model; ``llama3.1-8b`` by default."""
        self._model = _name(model, "model")

    def set_constitution(self, constitution: str) -> None:
        """Set what counts as private: ``HEALTH`` (default), ``LEGAL``, ``FINANCE``."""
        self._constitution = _name(constitution, "constitution")

    def get_available_models(self) -> list[str]:
        """Return the names of the service's models.

        Raises:
            TaggerError: If the service cannot be reached or answers nonsense.
        """
        return _models(self._send("GET", "models", None))

    def extract_private_phrases(self, document: str) -> list[str]:
        """Return the private phrases of a text, as the service names them.

        Raises:
            TaggerError: If the service cannot be reached or answers nonsense. The error quotes neither
                the text nor the answer.
        """
        check_readable(document)
        return _phrases(self._send("POST", "extract", self._question(document))) if document.strip() else []

    def tag(self, text: str) -> list[Span]:
        """Return the spans of the phrases that the service names.

        Raises:
            TaggerError: As :meth:`extract_private_phrases`, and if none of the phrases stands in the text.
        """
        settings = repr(self)
        known = self._cache.get(settings, text)
        return self._remember(settings, text, self.extract_private_phrases(text)) if known is None else known

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _question(self, document: str) -> bytes:
        question = {"document": document, "model": self._model, "type": self._constitution}
        return json.dumps(question).encode()

    def _remember(self, settings: str, text: str, phrases: list[str]) -> list[Span]:
        spans = find_phrases(text, ((phrase, self._label) for phrase in phrases))
        if phrases and not spans:
            raise TaggerError("The Document Privacy service named phrases, but none that stands in the text.")
        self._cache.put(settings, text, spans)
        return spans

    def _send(self, method: str, path: str, body: bytes | None) -> Any:
        """Return what the service answers; trouble that passes is waited out."""
        httpx = _httpx()
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(timeout=self._timeout, follow_redirects=False)
            client: Any = self._client
        for tried in itertools.count(1):
            asked = None
            try:
                answer = client.request(method, self._url(path), content=body, headers=self._headers())
            except httpx.TransportError as error:
                reason = f"cannot be reached ({type(error).__name__})"
            except Exception as error:  # noqa: BLE001  whatever it is, it may quote the key or the text
                raise TaggerError(
                    f"The Document Privacy service cannot be asked ({type(error).__name__})."
                ) from None
            else:
                if answer.status_code != 429 and answer.status_code < 500:
                    if self.verbose:
                        seconds = answer.elapsed.total_seconds()
                        log.info("Document Privacy: %s, status %d, %.2f s", self, answer.status_code, seconds)
                    return _read(answer)
                reason = f"answered with status {answer.status_code}"
                asked = seconds_asked(answer.headers.get("Retry-After"))
            wait = backoff(tried, self._max_wait) if asked is None else asked
            if tried > self._retries or wait > self._max_wait:
                raise TaggerError(
                    f"The Document Privacy service {reason}; tried {tried} times. Try again later."
                )
            time.sleep(wait)

    def _url(self, path: str) -> str:
        return f"{self._base_url}/{path}"

    def _headers(self) -> dict[str, str]:
        return {"X-API-KEY": self._key.reveal(), "Content-Type": "application/json"}


def _read(answer: Any) -> Any:
    """Return the JSON of an answer, or say what is wrong with it without quoting it."""
    status = answer.status_code
    if status in (401, 403):
        raise TaggerError(
            f"The Document Privacy service refuses the key (status {status}). Check api_key or {KEY_VARIABLE}."
        )
    if 300 <= status < 400:
        raise TaggerError(
            "The Document Privacy service redirects to another address. Neither the key nor the text is "
            "sent there; if it is right, give it as base_url."
        )
    if status != 200:
        raise TaggerError(f"The Document Privacy service answered with status {status}.")
    with errors_as(TaggerError, "The Document Privacy service answered something else than JSON."):
        return answer.json()


def _phrases(answer: Any) -> list[str]:
    phrases = answer.get("private_phrases") if isinstance(answer, dict) else None
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise TaggerError("The Document Privacy service answered without a list of private phrases.")
    return [phrase for phrase in phrases if phrase.strip()]


def _models(answer: Any) -> list[str]:
    models = answer.get("models") if isinstance(answer, dict) else answer
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise TaggerError("The Document Privacy service answered without a list of models.")
    return models


def _checked_key(key: str | None) -> str:
    if not key:
        raise PrivacyParameterError(f"Expected an api_key, or one in the environment as {KEY_VARIABLE}.")
    return checked_key(key)


def _name(value: str, what: str) -> str:
    if not (isinstance(value, str) and value.strip() and value.isprintable()):
        raise PrivacyParameterError(f"Expected the name of a {what}.")
    return value


def _httpx() -> Any:
    return load_httpx("The Document Privacy service")
