"""What is raised through ``ChatDPFusion`` carries nothing: no text, no foreign error, in any of its parts."""

import asyncio
import copy
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate

from dpfusion_core import DPFusionError, FusionEngine, ScriptedBackend
from langchain_dpfusion import (
    ChatDPFusion,
    PrivateDocumentFormatter,
    create_private_retriever_tool,
    mark_private,
    private_template,
)
from tests.langchain.leaks import SECRET, Recorder
from tests.langchain.scripted import scripted_backend

MARK: dict[str, Any] = {"is_private": True}
PRIVATE = [mark_private(HumanMessage(f"Her name is {SECRET}.")), HumanMessage("Who?")]


class Quoting(Exception):
    """An error of somebody else, which quotes in every way there is."""

    def __init__(self) -> None:
        super().__init__(SECRET)
        self.add_note(SECRET)
        self.text = SECRET


def raising(*args: Any, **kwargs: Any) -> Any:
    raise Quoting from ValueError(SECRET)


def broken_backend() -> ScriptedBackend:
    backend = scripted_backend("x")
    backend._script = raising
    return backend


INPUTS: dict[str, Any] = {
    "a dict without a role": [{"text": SECRET}],
    "a dict of an unknown role": [{"role": SECRET, "content": SECRET}],
    "a tuple of three": [(SECRET, SECRET, SECRET)],
    "an unknown tuple": [(SECRET, SECRET)],
    "an object": [object()],
    "a number": 7,
    "a mapping": {"messages": SECRET},
    "bytes": SECRET.encode(),
    "content of numbers": [{"role": "user", "content": 7, "name": SECRET}],
    "bad tool calls": [{"role": "ai", "content": SECRET, "tool_calls": [SECRET]}],
    "a tool result without a call": [{"role": "tool", "content": SECRET}],
    "a lone surrogate": [mark_private(HumanMessage(f"{SECRET} \ud800"))],
    "a public surrogate": [HumanMessage(f"{SECRET} \ud800"), *PRIVATE],
    "an image": [HumanMessage([{"type": "image_url", "image_url": {"url": SECRET}}])],
    "a block of no kind": [HumanMessage([{"type": SECRET, "x": SECRET}])],
    "an unknown role": [ChatMessage(content=SECRET, role=SECRET)],
    "a unit on public text": [HumanMessage(SECRET, additional_kwargs={"unit": SECRET})],
    "two units": [HumanMessage(SECRET, additional_kwargs={**MARK, "unit": SECRET}, unit="b")],
    "a unit that is no name": [HumanMessage(SECRET, additional_kwargs={**MARK, "unit": [SECRET]})],
    "private text that calls tools": [
        AIMessage(SECRET, additional_kwargs=MARK, tool_calls=[{"name": SECRET, "args": {}, "id": "1"}])
    ],
    "nothing private": [HumanMessage(SECRET)],
    "nothing": [],
    "too long": [mark_private(HumanMessage(SECRET * 600)), HumanMessage("?")],
    "units that are no list": [HumanMessage("x", additional_kwargs={"dp_fusion_units": [[SECRET]]})],
    "a result within a message": [
        HumanMessage([{"type": "tool_result", "content": [{"type": SECRET}], **MARK}])
    ],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "an unknown option": {SECRET: SECRET},
    "a misspelt option": {"epsilonn": SECRET},
    "a word for a number": {"epsilon": SECRET},
    "an unknown rule": {"unmarked": SECRET},
    "a schema of text": {"response_format": SECRET},
    "tools of text": {"tools": [SECRET]},
    "a tool of text": {"tools": [{"type": "function", "function": {"name": SECRET, "parameters": SECRET}}]},
}
MODELS: dict[str, Callable[[], ChatDPFusion]] = {
    "a broken model": lambda: ChatDPFusion(engine=FusionEngine(broken_backend()), epsilon=8.0),
    "a broken placeholder": lambda: ChatDPFusion(
        engine=FusionEngine(scripted_backend("x"), placeholder=raising), epsilon=8.0
    ),
}
MAKE: Any = ChatDPFusion  # given what it does not take
BUILDS: dict[str, Callable[[], Any]] = {
    "an unknown argument": lambda: MAKE(model="dpfusion-tiny", **{SECRET.replace("-", "_"): SECRET}),
    "a wrong argument": lambda: MAKE(model="dpfusion-tiny", temperature=SECRET),
    "a wrong field": lambda: setattr(chat(), "epsilon", SECRET),
    "an unknown tool": lambda: chat().bind_tools([{SECRET: SECRET}]),
    "a template": lambda: private_template(f"{{{SECRET} oh"),
    "a value that is missing": lambda: private_template("{x}").format_messages(y=SECRET),
    "no documents": lambda: PrivateDocumentFormatter().invoke([SECRET]),  # type: ignore[list-item]
    "a broken unit": lambda: PrivateDocumentFormatter(unit=raising).invoke([Document(SECRET)]),
    "a broken choice": lambda: PrivateDocumentFormatter(raising).invoke([Document(SECRET)]),
    "a broken prompt": lambda: PrivateDocumentFormatter(
        document_prompt=PromptTemplate.from_template("{page_content} {missing}")
    ).invoke([Document(SECRET, metadata={SECRET: SECRET})]),
    "a structured schema": lambda: chat().with_structured_output({SECRET: SECRET}),
}
WAYS: dict[str, Callable[[Any, Any, Any, dict[str, Any]], Any]] = {
    "invoke": lambda llm, value, config, kwargs: llm.invoke(value, config, **kwargs),
    "stream": lambda llm, value, config, kwargs: list(llm.stream(value, config, **kwargs)),
    "batch": lambda llm, value, config, kwargs: llm.batch([value, value], config, **kwargs),
    "ainvoke": lambda llm, value, config, kwargs: asyncio.run(llm.ainvoke(value, config, **kwargs)),
    "astream_events": lambda llm, value, config, kwargs: asyncio.run(_events(llm, value, config, kwargs)),
    "with_retry": lambda llm, value, config, kwargs: llm.with_retry(stop_after_attempt=1).invoke(
        value, config, **kwargs
    ),
}


async def _events(llm: Any, value: Any, config: Any, kwargs: dict[str, Any]) -> Any:
    return [event async for event in llm.astream_events(value, config, version="v2", **kwargs)]


def chat(**options: Any) -> ChatDPFusion:
    return ChatDPFusion(
        engine=FusionEngine(scripted_backend("No.")), **{"epsilon": 8.0, "max_tokens": 20} | options
    )


def walk(error: BaseException | None) -> Iterator[BaseException]:
    if error is not None:
        yield error
        yield from walk(error.__cause__)
        yield from walk(error.__context__)


def check(error: BaseException) -> None:
    """Check everything that hangs on an error, but the frames: those belong to the caller."""
    assert isinstance(error, DPFusionError)
    for part in walk(error):
        held = [str(part), repr(part), *map(repr, part.args), *getattr(part, "__notes__", [])]
        held += [repr(part.__dict__), repr(pickle.dumps(part)), repr(copy.copy(part))]
        held += [repr(getattr(part, name, None)) for name in ("object", "obj", "doc", "input", "name")]
        assert SECRET not in "".join(held)
        assert isinstance(part, DPFusionError)  # nothing foreign hangs on it
    assert SECRET not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", INPUTS)
def test_hostile_input(case: str, way: str) -> None:
    recorder = Recorder()
    with pytest.raises(DPFusionError) as caught:
        WAYS[way](chat(), INPUTS[case], {"callbacks": [recorder]}, {})
    check(caught.value)
    assert SECRET not in recorder.text("on_llm_error") + recorder.text("on_chain_error")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", OPTIONS)
def test_hostile_options(case: str, way: str) -> None:
    recorder = Recorder()
    with pytest.raises(DPFusionError) as caught:
        WAYS[way](chat(), PRIVATE, {"callbacks": [recorder]}, OPTIONS[case])
    check(caught.value)
    assert SECRET not in recorder.text()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", MODELS)
def test_hostile_parts(case: str, way: str) -> None:
    recorder = Recorder()
    with pytest.raises(DPFusionError) as caught:
        WAYS[way](MODELS[case](), PRIVATE, {"callbacks": [recorder]}, {})
    check(caught.value)
    assert SECRET not in recorder.text()


@pytest.mark.parametrize("case", BUILDS)
def test_hostile_arguments(case: str) -> None:
    with pytest.raises(DPFusionError) as caught:
        BUILDS[case]()
    check(caught.value)


def test_a_batch_survives_what_a_model_raises() -> None:
    llm = ChatDPFusion(engine=FusionEngine(broken_backend()), epsilon=8.0)
    answers: list[Any] = llm.batch([PRIVATE, [object()], PRIVATE], return_exceptions=True)  # type: ignore[list-item]
    assert len(answers) == 3
    for answer in answers:
        check(answer)


def test_tools_in_a_prompt_that_fail_to_convert() -> None:
    prompt = ChatPromptTemplate.from_messages([("human", "{x}")])
    message: BaseMessage = ToolMessage(SECRET, tool_call_id="1")
    with pytest.raises(DPFusionError) as caught:
        (prompt | chat(temperature=0)).invoke({"x": message})
    check(caught.value)


def test_a_retriever_of_the_tool_may_raise_what_it_likes() -> None:
    """The error of a retriever is the application's: it passes as it is."""
    broken: Any = _Broken()
    with pytest.raises(Exception, match="retriever"):
        create_private_retriever_tool(broken, "search", "Search.").invoke({"query": "x"})


class _Broken:
    def invoke(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("retriever")
