"""Within the silence an LLM tells nobody what it reads, and outside of it everybody as before."""

import threading

import llama_index.core
import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index_instrumentation import get_dispatcher

from llamaindex_dpfusion.consensus.quiet import silence, without_callbacks
from tests.llamaindex.readers import Reader
from tests.llamaindex.test_tracing import SECRET, Callbacks, Events, Seen, Spans, seen  # noqa: F401

ASK = [ChatMessage(f"{SECRET} is ill.")]


@pytest.fixture(autouse=True)
def _everywhere(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    Settings.callback_manager = CallbackManager([Callbacks(seen)])
    monkeypatch.setattr(llama_index.core, "global_handler", None)


def test_a_silent_llm_is_seen_by_no_handler(seen: Seen) -> None:  # noqa: F811
    reader = Reader(callback_manager=CallbackManager([Callbacks(seen)]))
    with silence():
        quiet = without_callbacks(reader)
        quiet.chat(ASK)
        list(quiet.stream_chat(ASK))
        root = get_dispatcher()
        root.add_event_handler(Events(seen=seen))
        root.add_span_handler(Spans(seen))
        quiet.chat(ASK)
    assert len(reader.asked) == 3
    assert seen.texts == []
    reader.chat(ASK)
    assert {"LLMChatStartEvent", "LLMCompletionStartEvent", "callback llm"} <= seen.kinds_with(SECRET)


def test_a_global_handler_hears_nothing_either(
    seen: Seen,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(llama_index.core, "global_handler", Callbacks(seen))
    with silence():
        without_callbacks(Reader()).chat(ASK)
    assert seen.texts == []


def test_others_are_traced_meanwhile(seen: Seen) -> None:  # noqa: F811
    public = [ChatMessage("What is the weather?")]
    with silence():
        thread = threading.Thread(target=lambda: Reader().chat(public))
        thread.start()
        thread.join()
        without_callbacks(Reader()).chat(ASK)
    assert "LLMChatStartEvent" in seen.kinds_with("weather")
    assert seen.kinds_with(SECRET) == set()


def test_silence_ends_with_an_error(seen: Seen) -> None:  # noqa: F811
    def fail(prompt: str) -> str:
        raise ValueError(prompt)

    with pytest.raises(ValueError, match=SECRET), silence():
        without_callbacks(Reader(fail)).chat(ASK)
    assert seen.texts == []
    Reader().chat(ASK)
    assert seen.kinds_with(SECRET)
