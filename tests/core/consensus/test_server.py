"""A model behind an address: what is sent, what is tried again, what is told of failures."""

import json
import logging
import pickle
import re
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from dpfusion_core.consensus import ChatServer, Consensus
from dpfusion_core.errors import BackendError, PrivacyParameterError
from dpfusion_core.messages import Message, Segment, ToolCall
from tests.walking import assert_bare

URL = "https://models.example.org/v1"
KEY = "sk-" + "hidden"
SECRET = "xyz" + "zy"
QUESTION = [Message("user", "What is it?")]


def server(answer: Callable[[httpx.Request], Any], **options: Any) -> ChatServer:
    def handle(request: httpx.Request) -> httpx.Response:
        said = answer(request)
        return said if isinstance(said, httpx.Response) else saying(said)

    options = {"max_wait": 0.01, **options}
    return ChatServer(URL, "m", api_key=KEY, transport=httpx.MockTransport(handle), **options)


def saying(text: Any) -> httpx.Response:
    return httpx.Response(200, json={"choices": [{"message": {"role": "assistant", "content": text}}]})


def last(request: httpx.Request) -> str:
    return str(json.loads(request.content)["messages"][-1]["content"])


def test_it_asks_in_openais_form() -> None:
    seen: list[httpx.Request] = []
    chat = [
        Message("system", "Be brief."),
        Message("user", "Find it."),
        Message("assistant", "", tool_calls=(ToolCall("find", {"q": 1}, id="c1"),)),
        Message("tool", "found", tool_call_id="c1"),
        Message("user", [Segment(SECRET, True, "a")]),
        Message("user", "What is it?"),
    ]

    def answer(request: httpx.Request) -> str:
        seen.append(request)
        return "it"

    one = server(answer, more={"seed": 1, "model": "other"})
    assert one.answer([chat], max_tokens=7, json_schema={"type": "array"}) == ["it"]
    [request] = seen
    body = json.loads(request.content)
    assert str(request.url) == f"{URL}/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("m", 7, 0.0, 1)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "array"}
    assert [turn["role"] for turn in body["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert body["messages"][-1]["content"] == f"{SECRET}\n\nWhat is it?"
    assert body["messages"][2]["tool_calls"][0]["function"] == {"name": "find", "arguments": '{"q": 1}'}
    assert body["messages"][3]["tool_call_id"] == "c1"


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_what_may_pass_is_tried_again(status: int) -> None:
    tries: list[int] = []

    def answer(request: httpx.Request) -> Any:
        tries.append(1)
        return httpx.Response(status, headers={"Retry-After": "0"}) if len(tries) < 3 else "it"

    assert server(answer).answer([QUESTION], max_tokens=5) == ["it"]
    assert len(tries) == 3


@pytest.mark.parametrize(
    ("response", "tried", "words"),
    [
        (httpx.Response(401, text=SECRET), 1, "refuses the key"),
        (httpx.Response(404, text=SECRET), 1, "Check base_url and model"),
        (httpx.Response(302, headers={"Location": f"https://evil.example/{SECRET}"}), 1, "redirects"),
        (httpx.Response(400, json={"error": SECRET}), 1, "status 400"),
        (httpx.Response(503, text=SECRET), 3, "status 503; tried 3 times"),
        (httpx.Response(429, headers={"Retry-After": "3600"}), 1, "tried 1 times"),
        (httpx.Response(200, text=SECRET), 1, "something else than a chat completion"),
        (httpx.Response(200, json={"choices": []}), 1, "something else than a chat completion"),
        (httpx.ConnectError(SECRET), 3, "cannot be reached \\(ConnectError\\)"),
        (httpx.ReadTimeout(SECRET), 3, "cannot be reached \\(ReadTimeout\\)"),
        (ValueError(SECRET), 1, "cannot be asked \\(ValueError\\)"),
    ],
    ids=lambda each: (
        type(each).__name__ + str(getattr(each, "status_code", "")) if not isinstance(each, str) else ""
    ),
)
def test_failures_are_told_without_text(
    response: Any, tried: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def answer(request: httpx.Request) -> Any:
        tries.append(1)
        if isinstance(response, Exception):
            raise response
        return response

    one = server(answer, retries=2)
    with caplog.at_level(logging.DEBUG, "dpfusion"), pytest.raises(BackendError, match=words) as caught:
        one.answer([[Message("user", SECRET)]], max_tokens=5)
    assert_bare(caught.value, SECRET)
    assert_bare(caught.value, KEY)
    assert SECRET not in caplog.text
    assert len(tries) == tried
    assert one.answer([QUESTION, QUESTION], max_tokens=5) == [None, None]


def test_it_asks_no_more_than_allowed_at_once() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def answer(request: httpx.Request) -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        return last(request)

    chats = [[Message("user", str(n))] for n in range(12)]
    assert server(answer, at_once=3).answer(chats, max_tokens=5) == [str(n) for n in range(12)]
    assert 1 < most <= 3


def test_it_streams() -> None:
    events = [{"choices": [{"delta": {"content": part}}]} for part in ("It ", "is.")]
    lines = [b": ping", *(b"data: " + json.dumps(each).encode() for each in events), b"data: [DONE]"]
    one = server(lambda request: httpx.Response(200, content=b"\n\n".join(lines)))
    assert list(one.stream(QUESTION, max_tokens=5)) == ["It ", "is."]
    broken = server(lambda request: httpx.Response(200, content=f"data: {SECRET}\n\n".encode()))
    with pytest.raises(BackendError, match="broke off") as caught:
        list(broken.stream(QUESTION, max_tokens=5))
    assert_bare(caught.value, SECRET)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("http://models.example.org/v1", "m"), {}),
        (("models.example.org", "m"), {}),
        ((None, "m"), {}),
        ((URL, ""), {}),
        ((URL, "m"), {"api_key": "two words"}),
        ((URL, "m"), {"api_key": ""}),
        ((URL, "m"), {"at_once": 0}),
        ((URL, "m"), {"timeout": 0}),
        ((URL, "m"), {"retries": -1}),
        ((URL, "m"), {"tls": False}),
        ((URL, "m"), {"tls": ssl._create_unverified_context()}),
    ],
    ids=lambda each: re.sub(r" at 0x\w+", "", repr(each)),  # all workers must find the same names
)
def test_what_would_not_be_safe_is_refused(arguments: Any, options: Any) -> None:
    with pytest.raises(PrivacyParameterError):
        ChatServer(*arguments, **options)


def test_a_trusted_network_is_said_out_loud() -> None:
    ChatServer("http://localhost:8000/v1", "m")
    ChatServer("http://vllm:8000/v1", "m", allow_http=True)


def test_the_key_does_not_print_and_is_not_pickled() -> None:
    one = ChatServer(URL, "m", api_key=KEY)
    assert KEY not in repr(one) + repr(vars(one)) + repr(Consensus(one))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(one)


def documents(*texts: str) -> list[Message]:
    segments = [Segment(text, True, f"doc-{number}") for number, text in enumerate(texts)]
    return [Message("user", segments), *QUESTION]


def test_a_server_that_fails_for_half_of_the_documents_leaves_the_others_their_votes() -> None:
    def answer(request: httpx.Request) -> Any:
        text = json.loads(request.content)["messages"][0]["content"]
        if SECRET in text:
            return httpx.Response(500)
        return "the mill" if "mill" in text else "I do not know"

    one = server(answer, retries=0)
    result = Consensus(one).generate(documents(*["mill"] * 30, *[SECRET] * 30), epsilon=2.0)
    assert result.items is not None
    assert [each.item for each in result.items] == ["mill"]
    assert result.guarantee.units == 60


def test_a_server_that_fails_altogether_is_an_error_before_any_document_is_asked() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> Any:
        asked.append(request.content.decode())
        return httpx.Response(500)

    with pytest.raises(BackendError, match="status 500"):
        Consensus(server(answer, retries=0)).generate(documents(*[SECRET] * 30), epsilon=2.0)
    assert not any(SECRET in each for each in asked)
