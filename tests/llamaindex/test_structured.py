import asyncio
from typing import Any

import pytest
from llama_index.core import SummaryIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.prompts import PromptTemplate, RichPromptTemplate
from llama_index.core.response_synthesizers import Refine
from pydantic import BaseModel

from dpfusion_core.errors import BackendError
from llamaindex_dpfusion import DPFusionNodePostprocessor
from llamaindex_dpfusion.answers.structured import DPFusionStructuredLLM
from tests.llamaindex.recording import QUESTION, check, documents, recording_llm

SECRET = "Ingrid Solheim lives in Trondheim."
PROMPT = PromptTemplate("Context: {context_str} Query: {query_str}")
ARGUMENTS: dict[str, Any] = {"context_str": SECRET, "query_str": "Where?"}


class City(BaseModel):
    name: str
    size: int = 0


JSON = '{"name": "Oslo", "size": 7}'
ANSWER = City(name="Oslo", size=7)


def predict(llm: Any, method: str, prompt: Any = PROMPT, **options: Any) -> list[Any]:
    async def ask() -> list[Any]:
        found = await getattr(llm, method)(City, prompt, **options, **ARGUMENTS)
        return [item async for item in found] if "stream" in method else [found]

    if method.startswith("a"):
        return asyncio.run(ask())
    found = getattr(llm, method)(City, prompt, **options, **ARGUMENTS)
    return list(found) if "stream" in method else [found]


@pytest.mark.parametrize("prefix", ["", "a"])
@pytest.mark.parametrize("method", ["structured_predict", "stream_structured_predict"])
@pytest.mark.parametrize(
    "template", [PROMPT, RichPromptTemplate("Context: {{context_str}} Query: {{query_str}}")]
)
def test_the_answer_is_an_object_and_the_arguments_are_sealed(
    method: str, prefix: str, template: Any
) -> None:
    llm, backend = recording_llm(JSON, max_tokens=80)
    found = predict(llm, prefix + method, template)
    assert found[-1] == ANSWER
    assert isinstance(found[-1], City)
    [call] = backend.calls
    assert "Context: ____ Query: Where?" in call.public
    assert '"size"' in call.public
    assert SECRET in call.private["private"]


def test_a_streamed_object_grows() -> None:
    llm, _ = recording_llm(JSON, max_tokens=80)
    found = predict(llm, "stream_structured_predict")
    assert len(found) > 2
    assert [item.size for item in found][-1] == 7
    assert {item.name for item in found} <= {None, "", "O", "Os", "Oslo"}


def test_the_answer_obeys_the_schema_whatever_the_model_wants() -> None:
    class Yes(BaseModel):
        is_so: bool

    llm, _ = recording_llm("No JSON at all, never.", max_tokens=60, seed=1)
    assert isinstance(llm.structured_predict(Yes, PROMPT, **ARGUMENTS).is_so, bool)


def test_an_answer_that_is_cut_says_what_to_do() -> None:
    llm, _ = recording_llm(JSON)
    with pytest.raises(BackendError, match="raise max_tokens") as caught:
        predict(llm, "structured_predict", llm_kwargs={"max_tokens": 3})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("method", ["chat", "achat", "stream_chat", "astream_chat"])
def test_a_structured_llm_chats(method: str) -> None:
    llm, backend = recording_llm(JSON, max_tokens=80)
    structured = llm.as_structured_llm(City)
    assert isinstance(structured, DPFusionStructuredLLM)
    chat = [ChatMessage(SECRET, additional_kwargs={"is_private": True, "unit": "i"}), ChatMessage("Where?")]

    async def ask() -> Any:
        found = await getattr(structured, method)(chat)
        return [item async for item in found][-1] if "stream" in method else found

    if method.startswith("a"):
        response = asyncio.run(ask())
    else:
        found = getattr(structured, method)(chat)
        response = [*found][-1] if "stream" in method else found
    assert response.raw == ANSWER
    assert list(backend.calls[0].private) == ["i"]
    assert "Ingrid" not in backend.calls[0].public
    if "stream" not in method:
        assert response.message.additional_kwargs["dp_fusion"]["units"] == 1


@pytest.mark.parametrize("with_postprocessor", [True, False])
@pytest.mark.parametrize("kind", ["output_cls", "llama_index's own"])
def test_query_engines_answer_with_objects(kind: str, with_postprocessor: bool) -> None:
    docs = documents(2)
    llm, backend = recording_llm(JSON, max_tokens=80)
    sealing: Any = [DPFusionNodePostprocessor()] if with_postprocessor else []
    if kind == "output_cls":
        options: dict[str, Any] = {"llm": llm, "output_cls": City}
    else:
        options = {"llm": StructuredLLM(llm=llm, output_cls=City)}
    engine = SummaryIndex.from_documents(docs).as_query_engine(node_postprocessors=sealing, **options)
    answer: Any = engine.query(QUESTION)
    assert answer.response == ANSWER
    if with_postprocessor:
        check(backend, docs, strangers=("private",))
    assert not any(word in call.public for call in backend.calls for d in docs for word in d.text.split())
    assert all(call.private for call in backend.calls)


@pytest.mark.parametrize("stream", [False, True])
def test_the_structured_llms_templates_are_sealed(stream: bool) -> None:
    llm, backend = recording_llm(JSON, max_tokens=80)
    structured = llm.as_structured_llm(City)
    if stream:
        assert list(structured.stream(PROMPT, **ARGUMENTS))[-1] == ANSWER.model_dump_json()
    else:
        assert structured.predict(PROMPT, **ARGUMENTS) == ANSWER.model_dump_json()
        assert asyncio.run(structured.apredict(PROMPT, **ARGUMENTS)) == ANSWER.model_dump_json()
    for call in backend.calls:
        assert "Context: ____ Query: Where?" in call.public


@pytest.mark.parametrize("program", [FunctionCallingProgram, LLMTextCompletionProgram])
def test_what_a_program_has_filled_in_itself_is_private_as_a_whole(program: Any) -> None:
    calling = f'<tool_call>\n{{"name": "City", "arguments": {JSON}}}\n</tool_call>'
    llm, backend = recording_llm(
        calling if program is FunctionCallingProgram else JSON, max_tokens=120, system_prompt="Be brief."
    )
    made = program.from_defaults(output_cls=City, prompt=PROMPT, llm=llm)
    assert made(**ARGUMENTS) == ANSWER
    assert asyncio.run(made.acall(**ARGUMENTS)) == ANSWER
    for call in backend.calls:
        assert "Ingrid" not in call.public
        assert "Where?" not in call.public
        assert SECRET in call.private["private"]
    assert "Be brief." in backend.calls[0].public


def test_refine_with_answer_filtering_keeps_documents_private() -> None:
    docs = documents(2)
    arguments = '{"query_satisfied": true, "answer": "Yes."}'
    answer = f'<tool_call>\n{{"name": "StructuredRefineResponse", "arguments": {arguments}}}\n</tool_call>'
    llm, backend = recording_llm(answer, max_tokens=150)
    nodes = DPFusionNodePostprocessor().postprocess_nodes(
        SummaryIndex.from_documents(docs).as_retriever().retrieve(QUESTION)
    )
    refine = Refine(llm=llm, structured_answer_filtering=True)
    assert str(refine.synthesize(QUESTION, nodes)) == "Yes."
    check(backend, docs, strangers=("private",))


@pytest.mark.parametrize("unmarked", ["error", "strict", "private", "public"])
@pytest.mark.parametrize(("policy", "shown"), [("public", SECRET), ("redact", "____")])
def test_whoever_sets_the_policy_has_said_what_a_bare_prompt_is(
    policy: str, shown: str, unmarked: Any
) -> None:
    llm, backend = recording_llm(JSON, max_tokens=80, complete_policy=policy, unmarked=unmarked)
    assert llm.as_structured_llm(City).complete(f"Context: {SECRET}").raw == ANSWER
    [call] = backend.calls
    assert shown in call.public
    assert (SECRET in call.public) == (policy == "public")
    assert not call.private
