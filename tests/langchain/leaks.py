"""Everything that LangChain can carry away from a call, searched for a planted secret."""

import json
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import MagicMock

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumps
from langsmith import Client

SECRET = "Quetzalcoatl-7731"


class Recorder(BaseCallbackHandler):
    """Keeps what every callback is given, as text in every form that a handler could make of it."""

    run_inline = True
    raise_error = True

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def text(self, prefix: str = "") -> str:
        return "\n".join(text for name, text in self.events if name.startswith(prefix))


def _recording(name: str) -> Any:
    def record(self: Recorder, *args: Any, **kwargs: Any) -> None:
        self.events.append((name, as_text((args, kwargs))))

    return record


for _name in dir(BaseCallbackHandler):
    if _name.startswith("on_"):
        setattr(Recorder, _name, _recording(_name))


def as_text(value: Any) -> str:
    """Return a value in the forms that loggers, tracers and stores make of it."""
    forms = [repr(value), str(value)]
    for form in (
        lambda: dumps(value),
        lambda: repr(pickle.dumps(value)),
        lambda: json.dumps(value, default=_plain),
    ):
        try:
            forms.append(form())
        except Exception:  # noqa: BLE001, S112  not every value has every form
            continue
    return "\n".join(forms)


def _plain(value: Any) -> Any:
    return (
        value.model_dump()
        if hasattr(value, "model_dump")
        else vars(value)
        if hasattr(value, "__dict__")
        else str(value)
    )


class Sent:
    """What a LangSmith client would have sent."""

    def __init__(self) -> None:
        self.session = MagicMock()

    @property
    def text(self) -> str:
        return "\n".join(str(call) for call in self.session.request.mock_calls)

    def options(self) -> dict[str, Any]:
        return {
            "session": self.session,
            "api_key": "none",
            "api_url": "http://localhost:1",
            "auto_batch_tracing": False,
            "info": {},
        }

    def client(self) -> Client:
        return Client(**self.options())


@contextmanager
def log_records() -> Iterator[list[str]]:
    """Collect every log record of the process, at every level."""
    texts: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(self.format(record) + repr(record.__dict__))

    root, handler = logging.getLogger(), Handler(level=0)
    level = root.level
    root.addHandler(handler)
    root.setLevel(0)
    try:
        yield texts
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
