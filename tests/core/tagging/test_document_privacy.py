"""The client of the Document Privacy service, against a real server on this machine that misbehaves."""

import json
import logging
import pickle
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import dpfusion_core
from dpfusion_core import DPFusion, Message, Span, TaggerError, compat
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError
from dpfusion_core.tagging import DocumentPrivacyTagger, Narrowing, Tagger

KEY = "sk_verysecret"
TEXT = "Ann Lee lives in Oslo. Ann Lee is 41."

Reply = tuple[int, dict[str, str], bytes]


def reply(value: Any, status: int = 200, **headers: str) -> Reply:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return status, {name.replace("_", "-"): text for name, text in headers.items()}, body


GOOD = reply({"private_phrases": ["Ann Lee", "Oslo"]})


class Service:
    """A server that gives prepared replies in turn, the last one for ever."""

    def __init__(self) -> None:
        self.replies: list[Reply | None] = [GOOD]  # None: hang up
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections: set[Any] = set()
        self.delay = 0.0
        self.waiting = self.most_at_once = self.answered = 0
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.seen.append((self.command, self.path, dict(self.headers), body))
                service.connections.add(self.client_address)
                with service._lock:
                    service.waiting += 1
                    service.most_at_once = max(service.most_at_once, service.waiting)
                time.sleep(service.delay)
                with service._lock:
                    service.waiting -= 1
                    service.answered += 1
                current = service.replies.pop(0) if len(service.replies) > 1 else service.replies[0]
                if current is None:
                    self.close_connection = True
                    return
                status, headers, content = current
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                if int(headers.get("Content-Length", len(content))) != len(content):
                    self.close_connection = True

            do_GET = do_POST = answer

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *error: None  # type: ignore[method-assign]  # clients that hang up
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Service() as started:
        yield started


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Do not wait between attempts; note how long it would have been."""
    noted: list[float] = []
    clock = types.SimpleNamespace(sleep=noted.append)
    monkeypatch.setattr("dpfusion_core.tagging.document_privacy.time", clock)
    return noted


@pytest.fixture
def tagger(service: Service) -> Iterator[DocumentPrivacyTagger]:
    with DocumentPrivacyTagger(KEY, base_url=service.url, cache_size=0) as made:
        yield made


def test_asks_as_the_published_library_does(service: Service, tagger: DocumentPrivacyTagger) -> None:
    assert tagger.extract_private_phrases(TEXT) == ["Ann Lee", "Oslo"]
    tagger.set_model("big")
    tagger.set_constitution("LEGAL")
    tagger.extract_private_phrases(TEXT)
    service.replies = [reply(["llama3.1-8b", "big"])]
    assert tagger.get_available_models() == ["llama3.1-8b", "big"]
    assert [(method, path) for method, path, _, _ in service.seen] == [("POST", "/extract")] * 2 + [
        ("GET", "/models")
    ]
    assert json.loads(service.seen[0][3]) == {"document": TEXT, "model": "llama3.1-8b", "type": "HEALTH"}
    assert json.loads(service.seen[1][3]) == {"document": TEXT, "model": "big", "type": "LEGAL"}
    assert all(headers["X-API-KEY"] == KEY for _, _, headers, _ in service.seen)
    assert service.seen[0][2]["Content-Type"] == "application/json"


def test_default_address_and_published_name() -> None:
    assert compat.Tagger is DocumentPrivacyTagger
    assert "https://api.documentprivacy.com" in repr(compat.Tagger(api_key=KEY, verbose=True))


def test_the_most_natural_name_is_not_the_service() -> None:
    """It is what any tagger is, and cannot be made."""
    assert dpfusion_core.Tagger is Tagger
    assert dpfusion_core.DocumentPrivacyTagger is DocumentPrivacyTagger
    assert {name for name, value in vars(dpfusion_core).items() if value is DocumentPrivacyTagger} == {
        "DocumentPrivacyTagger"
    }
    with pytest.raises(TypeError):
        dpfusion_core.Tagger(api_key=KEY)  # type: ignore[call-arg, misc]


def test_the_names_of_the_published_library_are_in_one_place() -> None:
    names = {"DPFusion", "Tagger", "generate_dp_text", "compute_epsilon_single_group", "compute_dp_epsilon"}
    assert set(compat.__all__) == names
    for name in names - {"Tagger"}:
        assert getattr(compat, name) is getattr(dpfusion_core, name)


def test_tags_every_occurrence_of_what_stands_in_the_text(
    service: Service, tagger: DocumentPrivacyTagger
) -> None:
    service.replies = [reply({"private_phrases": ["Ann Lee", "Carl", ""]})]
    assert tagger.tag(TEXT) == [Span(0, 7), Span(23, 30)]


def test_quick_start_of_the_published_library(service: Service) -> None:
    tagger = compat.Tagger(api_key=KEY, base_url=service.url)
    tagger.set_constitution("LEGAL")
    dpf = DPFusion(model="dpfusion-tiny", tagger=tagger)
    dpf.add_message("user", TEXT, is_private=True)
    dpf.add_message(
        "user", "I just passed the document to you, you can paraphrase it for privacy.", is_private=False
    )
    dpf.add_message("assistant", "Here is the paraphrased document:", is_private=False)
    dpf.run_tagger()
    assert "Oslo" in dpf.private_context
    assert "Oslo" not in dpf.public_context
    assert "lives in" in dpf.public_context
    output = dpf.generate(alpha=2.0, beta=0.01, max_tokens=4)
    assert output["guarantee"].private
    tagger.close()


def test_connections_are_reused(service: Service, tagger: DocumentPrivacyTagger) -> None:
    for _ in range(3):
        tagger.tag(TEXT)
    assert len(service.connections) == 1


BUSY = reply(b"busy", 429)


@pytest.mark.parametrize("trouble", [BUSY, reply(b"", 500), reply(b"<html>", 503), None], ids=repr)
def test_passing_trouble_is_waited_out(
    service: Service, tagger: DocumentPrivacyTagger, waits: list[float], trouble: Reply | None
) -> None:
    service.replies = [trouble, trouble, GOOD]
    assert len(tagger.tag(TEXT)) == 3
    assert len(service.seen) == 3
    assert 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1.0  # backs off


def test_retry_after_is_honoured(service: Service, tagger: DocumentPrivacyTagger, waits: list[float]) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    service.replies = [
        reply(b"", 429, Retry_After="7"), reply(b"", 503, Retry_After=date), reply(b"", 429, Retry_After="soon"), GOOD,
    ]  # fmt: skip
    tagger.tag(TEXT)
    assert waits[0] == 7.0
    assert 20.0 < waits[1] <= 30.0
    assert waits[2] <= 2.0


def test_a_service_that_is_busy_for_ever_is_given_up(
    service: Service, tagger: DocumentPrivacyTagger, waits: list[float]
) -> None:
    service.replies = [BUSY]
    with pytest.raises(TaggerError, match="429; tried 5 times"):
        tagger.tag(TEXT)
    service.replies = [reply(b"", 429, Retry_After="3600")]
    with pytest.raises(TaggerError, match="tried 1 times"):
        tagger.tag(TEXT)
    assert max(waits) <= 60.0


NONSENSE: dict[str, Reply] = {
    "html": reply(b"<html>Ann Lee</html>", Content_Type="text/html"),
    "half a JSON": reply(b'{"private_phrases": ["Ann Le'),
    "cut off": reply(b'{"private', Content_Length="500"),
    "not utf-8": reply(b"\xff\xfe\x00"),
    "null": reply(None),
    "a list": reply(["Ann Lee"]),
    "no phrases": reply({"phrases": ["Ann Lee"]}),
    "phrases are null": reply({"private_phrases": None}),
    "a string": reply({"private_phrases": "Ann Lee"}),
    "numbers": reply({"private_phrases": [1]}),
    "other phrases": reply({"private_phrases": ["Carl"]}),
    "401": reply({"detail": f"bad key {KEY}"}, 401),
    "403": reply(b"", 403),
    "404": reply(b"Ann Lee", 404),
    "422": reply({"detail": TEXT}, 422),
    "204": reply(b"", 204),
    "deep": reply(b"[" * 100_000),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_a_typed_error_and_leaves_the_text_private(
    service: Service, waits: list[float], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service.replies = [NONSENSE[name]]
    with DocumentPrivacyTagger(KEY, verbose=True, base_url=service.url, retries=1) as tagger:
        with pytest.raises(TaggerError) as caught:
            tagger.tag(TEXT)
        shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(tagger)
        assert KEY not in shown
        assert "Ann Lee" not in shown
        assert caught.value.__cause__ is caught.value.__context__ is None
        [message], whole = Narrowing(tagger)([Message("user", TEXT, is_private=True)])
        assert (message.segments[0].text, message.segments[0].is_private, whole) == (TEXT, True, 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_key_and_text_do_not_follow_a_redirect(
    service: Service, tagger: DocumentPrivacyTagger, status: int
) -> None:
    with Service() as other:
        service.replies = [reply(b"", status, Location=f"{other.url}/extract")]
        with pytest.raises(TaggerError, match="redirects"):
            tagger.tag(TEXT)
        assert len(service.seen) == 1
        assert not other.seen


def test_a_service_that_is_not_there(waits: list[float]) -> None:
    with DocumentPrivacyTagger(KEY, base_url="http://127.0.0.1:9", retries=2) as tagger:
        with pytest.raises(TaggerError, match="reached") as caught:
            tagger.tag(TEXT)
        assert len(waits) == 2
        assert TEXT not in "".join(traceback.format_exception(caught.value))


def test_a_service_that_does_not_answer(service: Service) -> None:
    service.delay = 1.0
    tagger = DocumentPrivacyTagger(KEY, base_url=service.url, timeout=0.1, retries=0)
    with tagger, pytest.raises(TaggerError, match="ReadTimeout"):
        tagger.tag(TEXT)


def test_answers_are_remembered_by_model_and_constitution(service: Service) -> None:
    with DocumentPrivacyTagger(KEY, base_url=service.url) as tagger:
        tagger.tag(TEXT)
        tagger.tag(TEXT)
        assert len(service.seen) == 1
        tagger.set_constitution("LEGAL")
        tagger.tag(TEXT)
        assert len(service.seen) == 2


def test_empty_texts_are_not_sent(service: Service, tagger: DocumentPrivacyTagger) -> None:
    assert tagger.tag("") == tagger.tag(" \n") == []
    assert tagger.extract_private_phrases("\t") == []
    assert not service.seen


def test_unreadable_texts_are_not_sent(service: Service, tagger: DocumentPrivacyTagger) -> None:
    for text in ("\ud800", None):
        with pytest.raises(TaggerError):
            tagger.extract_private_phrases(text)  # type: ignore[arg-type]
    assert not service.seen


def test_text_travels_unchanged(service: Service, tagger: DocumentPrivacyTagger) -> None:
    text = "e\u0301 \u00e9 \U0001f600 \u05d3\u05d5\u05d3 \r\n\x00 \u2028 " + "x" * 10_000_000
    service.replies = [reply({"private_phrases": ["\u05d3\u05d5\u05d3"]})]
    assert tagger.extract_private_phrases(text) == ["\u05d3\u05d5\u05d3"]
    assert json.loads(service.seen[0][3])["document"] == text


def test_key_from_the_environment_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCUMENT_PRIVACY_API_KEY", raising=False)
    with pytest.raises(PrivacyParameterError, match="DOCUMENT_PRIVACY_API_KEY"):
        DocumentPrivacyTagger()
    monkeypatch.setenv("DOCUMENT_PRIVACY_API_KEY", KEY)
    tagger = DocumentPrivacyTagger()
    assert KEY not in repr(tagger) + str(tagger) + repr(vars(tagger))
    with pytest.raises(TypeError):
        pickle.dumps(tagger)


@pytest.mark.parametrize("key", ["a b", "a\nX-Evil: 1", "\u00e9", ""])
def test_bad_keys_are_refused_without_quoting(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCUMENT_PRIVACY_API_KEY", raising=False)
    with pytest.raises(PrivacyParameterError) as caught:
        DocumentPrivacyTagger(key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://example.com", "ftp://x", "example.com", "", "http://127.0.0.1.example.com"]
)
def test_keys_are_not_sent_in_the_clear(url: str) -> None:
    with pytest.raises(PrivacyParameterError, match="https"):
        DocumentPrivacyTagger(KEY, base_url=url)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"retries": -1}, {"max_wait": -1.0}, {"cache_size": -1}])
def test_bad_numbers(options: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError):
        DocumentPrivacyTagger(KEY, **options)


@pytest.mark.parametrize("name", ["", " ", "a\nb", None])
def test_bad_names(name: Any) -> None:
    tagger = DocumentPrivacyTagger(KEY)
    setters: list[Callable[[Any], None]] = [tagger.set_model, tagger.set_constitution]
    for setter in setters:
        with pytest.raises(PrivacyParameterError):
            setter(name)


def test_proxy_of_the_environment_is_used(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key and the text go to the proxy that the host's administrator has named, and nowhere else."""
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HTTP_PROXY", service.url)
    with DocumentPrivacyTagger(KEY, base_url="http://127.0.0.1:9", retries=0) as tagger:
        assert tagger.tag(TEXT)
    assert service.seen[0][1] == "http://127.0.0.1:9/extract"


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(UnsupportedError, match=r"dpfusion\[remote\]"):
        DocumentPrivacyTagger(KEY).tag(TEXT)
