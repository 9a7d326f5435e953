"""No error holds private text: not in its words, nor in what it was raised from, nor in its notes."""

import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import SummaryIndex
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.prompts import PromptTemplate, RichPromptTemplate
from llama_index.core.schema import Document, NodeWithScore, TextNode

from dpfusion_core import FusionEngine
from dpfusion_core.errors import DPFusionError
from llamaindex_dpfusion import (
    DPFusionLLM,
    DPFusionNodePostprocessor,
    DPFusionPromptHelper,
    DPFusionTransform,
)
from tests.llamaindex.recording import RecordingBackend, recording_llm, tokenizer

SECRET = "Ingrid Solheim"
TEXT = f"{SECRET} is ill \ud800."  # no tokenizer reads a lone surrogate
PRIVATE = {"is_private": True, "unit": "i"}


def failing(*args: Any, **kwargs: Any) -> Any:
    raise ValueError(f"{SECRET} {args} {kwargs}")


class Unreadable:
    def __str__(self) -> str:
        raise KeyError(SECRET)


class FailingBackend(RecordingBackend):
    def open(self, prompts: Any) -> Any:
        raise AssertionError(self.tokenizer.decode(list(prompts[-1])), SECRET)


def failing_llm() -> DPFusionLLM:
    engine = FusionEngine(FailingBackend(lambda prompt: "Yes.", None))
    return DPFusionLLM(engine=engine, alpha=2.0, beta=0.01)


class FailingTokenizer:
    chat_template = None

    def __getattr__(self, name: str) -> Any:
        return getattr(tokenizer(), name)

    def __call__(self, text: str, **options: Any) -> Any:
        raise RuntimeError(text, SECRET)


def unreadable_llm() -> DPFusionLLM:
    llm, backend = recording_llm(has_ledger=False)
    backend.tokenizer = FailingTokenizer()
    return llm


def sealing(**options: Any) -> Any:
    return DPFusionNodePostprocessor(**options).postprocess_nodes([NodeWithScore(node=TextNode(text=SECRET))])


def message(text: str, **flags: Any) -> ChatMessage:
    block = TextBlock.model_construct(block_type="text", text=text)
    return ChatMessage(role="user", blocks=[block], additional_kwargs=flags)


def ask(template: Any, **arguments: Any) -> str:
    return recording_llm()[0].predict(template, **arguments)


CASES: dict[str, Any] = {
    "surrogate in a chat": lambda: recording_llm()[0].chat([message(TEXT, **PRIVATE)]),
    "surrogate in a prompt": lambda: recording_llm()[0].complete(TEXT),
    "surrogate in a template": lambda: ask(PromptTemplate("{d}"), d=TEXT),
    "unit that is text": lambda: recording_llm()[0].chat([message(SECRET, is_private=True, unit=[SECRET])]),
    "unknown option": lambda: recording_llm()[0].chat([message(SECRET, **PRIVATE)], nothing=SECRET),
    "options of a model": lambda: DPFusionLLM(epsilon=SECRET),
    "failing model": lambda: failing_llm().chat([message(f"{SECRET} is ill.", **PRIVATE)]),
    "failing model, streamed": lambda: list(failing_llm().stream_complete(SECRET)),
    "failing tokenizer": lambda: unreadable_llm().complete(SECRET),
    "failing packing": lambda: DPFusionPromptHelper.from_llm(unreadable_llm()).repack(
        PromptTemplate("{x}"), [SECRET]
    ),
    "failing unit": lambda: sealing(unit=failing),
    "failing public": lambda: sealing(public=failing),
    "unit key": lambda: sealing(unit="case"),
    "failing function": lambda: ask(PromptTemplate("{d}", function_mappings={"d": failing}), d=SECRET),
    "unreadable argument": lambda: ask(PromptTemplate("{d}"), d=Unreadable()),
    "computing template": lambda: ask(RichPromptTemplate("{{ d[:3] }}"), d=SECRET),
    "failing template": lambda: ask(RichPromptTemplate("{{ d }}{{ 1 / 0 }}"), d=SECRET),
    "nothing marked": lambda: recording_llm()[0].chat([ChatMessage(SECRET)]),
    "too long": lambda: recording_llm(context_length=60)[0].complete(f"{SECRET} is ill. " * 40),
    "unknown id": lambda: (
        SummaryIndex.from_documents([Document(text=f"{SECRET} is ill.")])
        .as_query_engine(llm=recording_llm()[0], node_postprocessors=[DPFusionNodePostprocessor()])
        .query("Who?")
    ),
    "transform": lambda: DPFusionTransform(failing_llm())([Document(text=SECRET, doc_id="d")]),
}


def everything(error: BaseException | None) -> Iterator[Any]:
    while error is not None:
        yield from (error.args, str(error), repr(error), error.__dict__, getattr(error, "__notes__", None))
        yield from (getattr(error, name, None) for name in ("object", "doc", "name"))
        yield from everything(error.__cause__)
        error = error.__context__


@pytest.mark.parametrize("case", CASES)
def test_an_error_holds_no_text(case: str) -> None:
    with pytest.raises(DPFusionError) as caught:
        CASES[case]()
    for thing in everything(caught.value):
        assert SECRET not in str(thing)
    assert SECRET not in "".join(traceback.format_exception_only(caught.value))
