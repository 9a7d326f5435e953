"""Settings of the tests of the LlamaIndex integration."""

import asyncio
from collections.abc import Iterator

import pytest
from llama_index.core import Settings

from dpfusion_core.adapters import seen, warn_unstable
from llamaindex_dpfusion.prompts.net import seen_of_units
from llamaindex_dpfusion.seals.sealer import sealer
from tests.llamaindex.recording import HashEmbedding


@pytest.fixture(autouse=True)
def event_loop_of_llama_index() -> Iterator[None]:
    """LlamaIndex makes an event loop where there is none, and leaves it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def settings_of_llama_index() -> Iterator[None]:
    """LlamaIndex's settings and what the process has sealed are global; each test has its own."""
    Settings.embed_model = HashEmbedding()
    Settings._llm = Settings._prompt_helper = None
    yield
    Settings._llm = Settings._prompt_helper = Settings._embed_model = Settings._callback_manager = None
    sealer.forget()
    seen.forget()
    seen_of_units.forget()
    warn_unstable.cache_clear()
