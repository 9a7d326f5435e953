"""Answers out of few: choices, and objects whose fields are all closed."""

import asyncio
import logging
from typing import Annotated, Any, Literal, TypedDict

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel, Field

from dpfusion_core import FusionEngine, ScriptedBackend
from dpfusion_core.adapters import closed
from dpfusion_core.errors import BackendError, PrivacyParameterError, RefusedError
from langchain_dpfusion import ChatDPFusion, private_template
from tests.langchain.leaks import SECRET, Recorder

RECORD = HumanMessage(SECRET, additional_kwargs={"is_private": True, "unit": "ann"})
ASK = HumanMessage("Is she ill?")
EPSILON = 20.0  # a sure model is right but for one time in e^20


class Grade(BaseModel):
    """How the record is graded."""

    ill: bool = Field(description="Is she ill?")
    ward: Literal["A", "B"]


class GradeDict(TypedDict):
    """How the record is graded."""

    ill: Annotated[bool, ..., "Is she ill?"]
    ward: Literal["A", "B"]


GRADE_JSON = {
    "title": "Grade",
    "description": "How the record is graded.",
    "type": "object",
    "properties": {"ill": {"type": "boolean"}, "ward": {"enum": ["A", "B"]}},
    "required": ["ill", "ward"],
}


class Letter(BaseModel):
    """A letter about the record."""

    ill: bool
    text: str


def answering(prompt: str) -> str:
    return "B" if "ward" in prompt.rsplit("<user>", 1)[-1] else "yes"


def model(says: Any = "yes", **options: Any) -> tuple[ChatDPFusion, ScriptedBackend]:
    backend = ScriptedBackend.saying(says, context_length=2048)
    return ChatDPFusion(engine=FusionEngine(backend), **{"epsilon": EPSILON, **options}), backend


def guarantee_of(message: BaseMessage) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["dp_fusion"]
    return found


def asked(chain: Any, way: str, given: Any) -> list[Any]:
    if way == "invoke":
        return [chain.invoke(given)]
    if way == "ainvoke":
        return [asyncio.run(chain.ainvoke(given))]
    if way == "stream":
        return list(chain.stream(given))
    if way == "astream":

        async def gathered() -> list[Any]:
            return [piece async for piece in chain.astream(given)]

        return asyncio.run(gathered())
    if way == "batch":
        found: list[Any] = chain.batch([given, given])
        assert found[0] == found[1]
        return found[:1]
    found = asyncio.run(chain.abatch([given, given]))
    return found[:1]


WAYS = ("invoke", "ainvoke", "stream", "astream", "batch", "abatch")


@pytest.mark.parametrize("way", WAYS)
def test_a_model_answers_with_one_of_several_choices(way: str) -> None:
    llm, backend = model()
    assert asked(llm.with_choices(["no", "yes"]), way, [RECORD, ASK]) == ["yes"]
    public, private = backend.requests[0]
    assert SECRET not in public
    assert SECRET in private


def test_the_message_behind_a_choice_has_its_guarantee() -> None:
    llm, _ = model()
    found = llm.with_choices(["no", "yes"], include_raw=True, epsilon=2.0).invoke([RECORD, ASK])
    assert found["parsed"] in ("yes", "no")
    assert found["raw"].text == found["parsed"]
    said = guarantee_of(found["raw"])
    assert (said["mechanism"], said["epsilon"], said["tokens"], said["units"]) == ("choice", 2.0, 1, 1)
    assert found["raw"].response_metadata["finish_reason"] == "stop"
    assert found["raw"].usage_metadata["input_tokens"] > 0


def test_settings_of_text_say_nothing_of_a_choice_and_options_that_do_are_read() -> None:
    llm, _ = model(max_tokens=50, top_k=3, stop=["x"], prior="public")
    assert llm.with_choices(["no", "yes"], prior="uniform").invoke([RECORD, ASK]) == "yes"
    assert llm.with_choices(["no", "yes"], temperature=0.5).invoke([RECORD, ASK]) == "yes"
    assert llm.bind(choices=["no", "yes"]).invoke([RECORD, ASK]).text == "yes"


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ([], "at least two"),
        (["yes"], "at least two"),
        (["yes", " yes "], "the same"),
        ("yes", "a list of texts"),
    ],
)
def test_what_is_no_choice_is_refused_when_it_is_bound(choices: Any, words: str) -> None:
    llm, backend = model()
    with pytest.raises(PrivacyParameterError, match=words):
        llm.with_choices(choices)
    with pytest.raises(PrivacyParameterError, match=words):
        llm.invoke([RECORD, ASK], choices=choices)
    assert not backend.requests


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_tokens": 5}, "max_tokens has no effect on a choice"),
        ({"top_k": 5}, "top_k has no effect"),
        ({"stop": ["x"]}, "stop has no effect"),
        ({"priorr": "public"}, "Did you mean 'prior'"),
        ({"prior": "flat"}, "prior"),
        ({"tools": [GRADE_JSON], "tool_choice": "any"}, "Ask for one of them|Expected a tool"),
        ({"response_format": GRADE_JSON}, "Ask for one of them"),
    ],
    ids=str,
)
def test_options_that_say_nothing_of_a_choice_are_refused(options: dict[str, Any], words: str) -> None:
    llm, backend = model()
    with pytest.raises(PrivacyParameterError, match=words):
        llm.with_choices(["yes", "no"], **options).invoke([RECORD, ASK])
    assert not backend.requests


def test_nothing_private_is_told_to_callbacks() -> None:
    llm, _ = model()
    recorder = Recorder()
    chain = ChatPromptTemplate(
        [private_template("Record: {record}"), ("human", "{question}")]
    ) | llm.with_choices(["yes", "no"])
    bare = llm.with_choices(["yes", "no"], include_raw=True)
    assert bare.invoke([RECORD, ASK], {"callbacks": [recorder]})["parsed"] == "yes"
    assert recorder.events
    assert SECRET not in recorder.text()
    assert chain.invoke({"record": SECRET, "question": "Is she ill?"}) == "yes"


def test_a_call_in_which_nothing_is_private_is_refused_as_ever() -> None:
    llm, backend = model()
    with pytest.raises(RefusedError, match="nothing in this call is marked private"):
        llm.with_choices(["yes", "no"]).invoke([ASK])
    assert not backend.requests
    public, _ = model(epsilon=None)
    assert public.with_choices(["yes", "no"]).invoke([ASK]) == "yes"  # ordinary, at no cost


def test_a_cache_tells_choices_apart() -> None:
    llm, backend = model(cache=InMemoryCache())
    for _ in range(2):
        assert llm.with_choices(["yes", "no"]).invoke([RECORD, ASK]) == "yes"
    assert len(backend.requests) == 1
    assert llm.with_choices(["yes", "never"]).invoke([RECORD, ASK]) == "yes"
    assert len(backend.requests) == 2


def test_a_router_takes_a_choice() -> None:
    """As in a graph: a runnable decides where to go by the text of a choice."""
    llm, _ = model("billing")
    route = llm.with_choices(["billing", "complaints"]) | RunnableLambda(lambda chosen: {"goto": chosen})
    assert route.invoke([RECORD, HumanMessage("Who should answer?")]) == {"goto": "billing"}


def test_a_model_that_fails_is_asked_again_and_then_says_so() -> None:
    backend = ScriptedBackend.saying("yes")
    opens, script = [], backend.open

    def opening(prompts: Any) -> Any:
        opens.append(prompts)
        if len(opens) < 3:
            raise ArithmeticError(SECRET)
        return script(prompts)

    backend.open = opening  # type: ignore[method-assign]
    llm = ChatDPFusion(engine=FusionEngine(backend), epsilon=EPSILON)
    with pytest.raises(BackendError) as caught:
        llm.with_choices(["yes", "no"]).invoke([RECORD, ASK])
    assert SECRET not in str(caught.value)
    patient = llm.model_copy(update={"max_retries": 1})
    assert patient.with_choices(["yes", "no"]).invoke([RECORD, ASK]) == "yes"


# --- Objects whose fields are all closed ---


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_closed_objects_are_chosen_field_by_field(method: Any, way: str) -> None:
    llm, backend = model(answering, max_tokens=5, top_k=2)
    chain = llm.with_structured_output(Grade, method=method)
    (found,) = asked(chain, way, [RECORD, ASK])[-1:]
    assert found == Grade(ill=True, ward="B")
    assert all(SECRET not in public and SECRET in private for public, private in backend.requests)


@pytest.mark.parametrize("schema", [GradeDict, GRADE_JSON], ids=["typed dict", "json"])
@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_every_form_of_a_schema_is_closed_alike(schema: Any, method: Any) -> None:
    llm, _ = model(answering, epsilon=2 * EPSILON)
    found: Any = llm.with_structured_output(schema, method=method, include_raw=True).invoke([RECORD, ASK])
    assert found["parsed"] == {"ill": True, "ward": "B"}
    assert found["parsing_error"] is None
    said = guarantee_of(found["raw"])
    assert (said["mechanism"], said["max_tokens"], said["epsilon"]) == ("choice", 2, 2 * EPSILON)
    reason = "tool_calls" if method == "function_calling" else "stop"
    assert found["raw"].response_metadata["finish_reason"] == reason
    assert len(found["raw"].tool_calls) == (method == "function_calling")


def test_a_tool_that_must_be_called_gets_chosen_arguments() -> None:
    llm, _ = model(answering, epsilon=2 * EPSILON)
    answer = llm.bind_tools([Grade], tool_choice="any").invoke([RECORD, ASK])
    assert isinstance(answer, AIMessage)
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("Grade", {"ill": True, "ward": "B"})
    ]
    assert guarantee_of(answer)["mechanism"] == "choice"


def test_a_public_conversation_is_answered_by_the_grammar() -> None:
    llm, _ = model('{"ill": true, "ward": "A"}', epsilon=None, temperature=0.0)
    found: Any = llm.with_structured_output(Grade, method="json_schema", include_raw=True).invoke([ASK])
    assert found["parsed"] == Grade(ill=True, ward="A")
    assert guarantee_of(found["raw"])["mechanism"] == "fusion"


def test_a_mixed_schema_says_once_what_could_be_chosen(caplog: pytest.LogCaptureFixture) -> None:
    closed._say_mixed.cache_clear()
    llm, _ = model('{"ill": true, "text": "Dear Sir"}', max_tokens=40)
    chain = llm.with_structured_output(Letter, method="json_schema", include_raw=True)
    with caplog.at_level(logging.WARNING, "dpfusion"):
        found: Any = chain.batch([[RECORD, ASK]] * 2)[0]
    assert guarantee_of(found["raw"])["mechanism"] == "fusion"
    (said,) = [record.getMessage() for record in caplog.records if "closed fields" in record.getMessage()]
    assert "(ill)" in said
    assert "(text)" in said
    assert "max_tokens=40" in said
