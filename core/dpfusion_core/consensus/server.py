"""A model that is served already, inside the trust boundary, behind an address in OpenAI's form."""

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from dpfusion_core import _validate
from dpfusion_core.consensus.answerers import each_or_none
from dpfusion_core.consensus.views import plain_text
from dpfusion_core.errors import BackendError, PrivacyParameterError, errors_as
from dpfusion_core.messages import Message
from dpfusion_core.services import Secret, backoff, checked_key, checked_url, load_httpx, seconds_asked
from dpfusion_core.turns import joined

if TYPE_CHECKING:  # loads when the server is first asked
    import httpx

_OVERLOADED = (408, 409, 425, 429)


class ChatServer:
    """Asks a server that speaks OpenAI's chat completions: vLLM, llama.cpp, Ollama, TGI, a gateway.

    **The server reads every private document.** It must stand inside the trust boundary: it may not log,
    train on or keep what it is asked. Nothing here protects the documents from it.

    One instance may be used by several threads. Proxies and certificates are taken from the environment
    (``HTTPS_PROXY``, ``SSL_CERT_FILE``).

    Args:
        base_url: Address of the server, with its version: ``"https://models.example.org/v1"``. It begins with
            https, unless it is this machine, or ``allow_http`` says that the network is trusted.
        model: The model's name there.
        api_key: The key, if it wants one. It never prints, and is sent to ``base_url`` alone: redirects are not
            followed.
        at_once: How many documents it is asked about at a time.
        timeout: Seconds to wait for a connection, and for each part of an answer.
        retries: How often a conversation is asked again after a status such as 429 or 5xx, or a failed
            connection.
        max_wait: Seconds to wait between two attempts at most; a ``Retry-After`` beyond it ends them.
        temperature: How freely tokens are drawn; 0 answers alike for all documents.
        allow_http: Whether another machine may be asked without TLS.
        tls: What certificates to trust; by default those of this machine.
        more: Further fields of every request, such as ``{"seed": 1}``.
        transport: An ``httpx`` transport, for tests.

    Raises:
        PrivacyParameterError: If an argument is out of range, or private text would be sent without TLS.

    Example:
        >>> ChatServer("https://models.example.org/v1", "llama-3.3-70b", api_key="sk-1")
        ChatServer('https://models.example.org/v1', model='llama-3.3-70b')
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        at_once: int = 8,
        timeout: float = 60.0,
        retries: int = 3,
        max_wait: float = 30.0,
        temperature: float = 0.0,
        allow_http: bool = False,
        tls: ssl.SSLContext | None = None,
        more: Mapping[str, Any] | None = None,
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        self._base_url = checked_url(base_url, allow_http=allow_http)
        if not (isinstance(model, str) and model.strip()):
            raise PrivacyParameterError("Expected the name of the server's model.")
        if tls is not None and not (isinstance(tls, ssl.SSLContext) and tls.verify_mode == ssl.CERT_REQUIRED):
            raise PrivacyParameterError("Expected tls to be an ssl.SSLContext that verifies the server.")
        self._model = model
        self._key = None if api_key is None else Secret(checked_key(api_key))
        self._at_once = _validate.count(at_once, "at_once")
        self._timeout = _validate.positive(timeout, "timeout")
        self._retries = _validate.count(retries, "retries", minimum=0)
        self._max_wait = _validate.positive(max_wait, "max_wait")
        self._temperature = _validate.temperature(temperature)
        self._tls = tls
        self._more = dict(more or {})
        self._transport = transport
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ChatServer({self._base_url!r}, model={self._model!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A ChatServer is not pickled: its key would stand in the file.")

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None = None,
    ) -> list[str | None]:
        """Answer conversations, several at a time; see :class:`Answerer`.

        Raises:
            BackendError: If one conversation alone is asked and cannot be answered; it quotes no text.
        """
        form: dict[str, Any] = {}
        if json_schema is not None:
            named = {"name": "answer", "schema": dict(json_schema), "strict": True}
            form = {"response_format": {"type": "json_schema", "json_schema": named}}

        def ask(messages: Sequence[Message]) -> str | None:
            answer = self._ask({**self._body(messages, max_tokens), **form})
            with errors_as(
                BackendError, "The model's server answered something else than a chat completion."
            ):
                content = answer.json()["choices"][0]["message"]["content"]
            return content if isinstance(content, str) else None

        return each_or_none(ask, conversations, self._at_once)

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        """Yield the pieces of one answer.

        Raises:
            BackendError: If the server cannot be asked, or breaks off.
        """
        body = {**self._body(messages, max_tokens), "stream": True}
        answer = self._ask(body, is_stream=True)
        try:
            lines = answer.iter_lines()
            while True:
                with errors_as(BackendError, "The model's server broke off its answer ({error})."):
                    line = next(lines, "data: [DONE]")
                    if line.startswith("data:") and line[5:].strip() == "[DONE]":
                        return
                    piece = _piece(line)
                if piece:
                    yield piece
        finally:
            answer.close()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _body(self, messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
        return {
            **self._more,
            "model": self._model,
            "messages": [_turn(message) for message in joined(messages)],
            "max_tokens": max_tokens,
            "temperature": self._temperature,
        }

    def _ask(self, body: Mapping[str, Any], *, is_stream: bool = False) -> Any:
        httpx = load_httpx("A ChatServer")
        client = self._open(httpx)
        headers = {"Authorization": f"Bearer {self._key.reveal()}"} if self._key else {}
        request = client.build_request(
            "POST", f"{self._base_url}/chat/completions", json=dict(body), headers=headers
        )
        for tried in range(1, self._retries + 2):
            asked = None
            with errors_as(BackendError, "The model's server cannot be asked ({error})."):
                answer = _sent(client, request, httpx, is_stream=is_stream)
            if isinstance(answer, str):
                reason = answer
            elif answer.status_code == 200:
                return answer
            else:
                status = answer.status_code
                answer.close()
                if status not in _OVERLOADED and status < 500:
                    raise BackendError(f"The model's server answered with status {status}.{_advice(status)}")
                reason = f"answered with status {status}"
                asked = seconds_asked(answer.headers.get("Retry-After"))
            wait = backoff(tried, self._max_wait) if asked is None else asked
            if tried > self._retries or wait > self._max_wait:
                break
            time.sleep(wait)
        raise BackendError(f"The model's server {reason}; tried {tried} times.")

    def _open(self, httpx: Any) -> Any:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    timeout=self._timeout,
                    follow_redirects=False,
                    verify=True if self._tls is None else self._tls,
                    transport=self._transport,
                    limits=httpx.Limits(max_connections=self._at_once + 1),
                )
            return self._client


def _sent(client: Any, request: Any, httpx: Any, *, is_stream: bool) -> Any:
    """Return the server's answer, or why there is none that may be had by asking again."""
    try:
        return client.send(request, stream=is_stream)
    except httpx.TransportError as error:
        return f"cannot be reached ({type(error).__name__})"


def _turn(message: Message) -> dict[str, Any]:
    """Return a message in OpenAI's form."""
    turn: dict[str, Any] = {"role": message.role, "content": plain_text(message)}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id or call.name,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
            }
            for call in message.tool_calls
        ]
    more = {"tool_call_id": message.tool_call_id, "name": message.name}
    return turn | {key: value for key, value in more.items() if value is not None}


def _piece(line: str) -> str:
    """Return the text of a server-sent event."""
    if not line.startswith("data:"):
        return ""
    choices = json.loads(line[5:])["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""


def _advice(status: int) -> str:
    if status in (401, 403):
        return " It refuses the key: check api_key."
    if 300 <= status < 400:
        return (
            " It redirects: neither the key nor the text is sent there; if it is right, give it as base_url."
        )
    if status == 404:
        return " Check base_url and model."
    return ""
