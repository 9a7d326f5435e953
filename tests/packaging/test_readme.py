"""The README's code runs as it stands."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpfusion_core import Message
from dpfusion_core.tiny import model_path

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()
    asyncio.set_event_loop(None)


def test_every_python_block_runs_in_order(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    event_loop: asyncio.AbstractEventLoop,
) -> None:
    monkeypatch.chdir(tmp_path)  # the ledger is a file
    asyncio.set_event_loop(event_loop)  # LlamaIndex would make one and leave it open
    names: dict[str, Any] = {
        "document": "The applicant was born in 1973 and lives in Les Salles-sur-Verdon.",
        "messages": [Message("user", "He lives in Oslo.", is_private=True), Message("user", "Where?")],
        "model": AutoModelForCausalLM.from_pretrained(model_path()),
        "tokenizer": AutoTokenizer.from_pretrained(model_path()),
        "retriever": RunnableLambda(
            lambda query: [Document("The patient lives in Trondheim.", metadata={"source": "record-17.txt"})]
        ),
    }
    assert len(BLOCKS) == 10
    for block in BLOCKS:
        exec(compile(block, str(README), "exec"), names)
    assert "epsilon = " in capsys.readouterr().out


def test_the_two_commands_stand_at_the_top() -> None:
    top = README.read_text(encoding="utf-8").splitlines()[:10]
    assert any(line.startswith("make demo") for line in top)
    assert any(line.startswith("make test") for line in top)
