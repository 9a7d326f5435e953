"""Options are read or refused: where they are given, when they are set later, and in copies and dumps."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.load import dumps, loads
from langchain_core.messages import HumanMessage
from langchain_core.vectorstores import InMemoryVectorStore

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger, ScriptedBackend, UnsupportedError
from dpfusion_core.errors import PrivacyParameterError
from langchain_dpfusion import (
    ChatDPFusion,
    DPDocumentTransformer,
    DPFusionMiddleware,
    PrivateDocumentFormatter,
    create_private_retriever_tool,
    mark_private,
    private_template,
)
from tests.langchain.records import Letters
from tests.langchain.scripted import scripted_engine

PRIVATE = [mark_private(HumanMessage("She lives in Oslo."), "ann"), HumanMessage("Where?")]


def ledger() -> PrivacyLedger:
    return PrivacyLedger("sqlite://", budget=PrivacyBudget(8.0), key="k" * 32)


def tiny(**options: Any) -> ChatDPFusion:
    given: dict[str, Any] = {"model": "dpfusion-tiny", "epsilon": 2.0, "max_tokens": 3, **options}
    return ChatDPFusion(**given)


def guarantee(llm: Any, **call: Any) -> dict[str, Any]:
    found: dict[str, Any] = llm.invoke(PRIVATE, **call).response_metadata["dp_fusion"]
    return found


MISSPELT = {
    "epsilonn": "epsilon",
    "accountng": "accounting",
    "neighbour": "neighbours",
    "max_token": "max_tokens",
    "max_new_token": "max_tokens",
    "temprature": "temperature",
    "on_exausted": "on_exhausted",
    "unmarkd": "unmarked",
}
PLACES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "constructor": lambda given: tiny(**given),
    "bind": lambda given: tiny().bind(**given),
    "a second bind": lambda given: tiny().bind(epsilon=1.0).bind(**given),
    "invoke": lambda given: tiny().invoke(PRIVATE, **given),
    "stream": lambda given: list(tiny().stream(PRIVATE, **given)),
    "batch": lambda given: tiny().batch([PRIVATE], **given),
    "with_structured_output": lambda given: tiny().with_structured_output({"title": "x"}, **given),
    "bind_tools": lambda given: tiny().bind_tools([], **given),
    "field": lambda given: setattr(tiny(), *next(iter(given.items()))),
    "model_copy": lambda given: tiny().model_copy(update=given),
}


@pytest.mark.parametrize("name", MISSPELT)
@pytest.mark.parametrize("place", PLACES)
def test_a_misspelt_option_is_refused_with_the_right_name(place: str, name: str) -> None:
    with pytest.raises(PrivacyParameterError, match=f"'{MISSPELT[name]}'"):
        PLACES[place]({name: 1})


@pytest.mark.parametrize(
    ("build", "right"),
    [
        (lambda: tiny(legder=None), "ledger"),
        (lambda: DPFusionMiddleware(private_tool=()), "private_tools"),  # type: ignore[call-arg]
        (lambda: DPFusionMiddleware(on_exausted="end"), "on_exhausted"),  # type: ignore[call-arg]
        (lambda: PrivateDocumentFormatter(privat=None), "private"),  # type: ignore[call-arg]
        (lambda: PrivateDocumentFormatter(units="source"), "unit"),  # type: ignore[call-arg]
        (lambda: create_private_retriever_tool(None, "a", "b", unitt="x"), "unit"),  # type: ignore[arg-type, call-arg]
        (lambda: DPDocumentTransformer(tiny(), instructions="x"), "instruction"),  # type: ignore[call-arg]
        (lambda: private_template("{x}", publik=[]), "public"),  # type: ignore[call-arg]
        (lambda: DPDocumentTransformer(tiny()).transform_documents([Document("x")], epsilo=1), "epsilon"),
    ],
)
def test_everything_else_that_takes_options_does_so_too(build: Any, right: str) -> None:
    with pytest.raises(PrivacyParameterError, match=f"'{right}'"):
        build()


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_new_tokens"])
def test_the_length_has_the_names_that_others_give_it(name: str) -> None:
    given: dict[str, Any] = {"model": "dpfusion-tiny", "epsilon": 2.0, name: 2}
    assert guarantee(ChatDPFusion(**given))["max_tokens"] == 2
    assert guarantee(tiny(), **{name: 2})["max_tokens"] == 2
    assert guarantee(tiny().bind(**{name: 2}))["max_tokens"] == 2
    assert guarantee(tiny().model_copy(update={name: 2}))["max_tokens"] == 2
    llm = tiny()
    setattr(llm, name, 2)
    assert guarantee(llm)["max_tokens"] == 2


def test_the_model_has_the_name_that_others_give_it() -> None:
    make: Any = ChatDPFusion
    assert make(model_name="dpfusion-tiny").model_name == "dpfusion-tiny"
    assert guarantee(tiny(neighbors="replace"))["neighbours"] == "replace"
    with pytest.raises(PrivacyParameterError, match="twice"):
        make(model="dpfusion-tiny", model_name="dpfusion-tiny")


@pytest.mark.parametrize(
    "options",
    [
        {"ledger": ledger()},
        {"placeholder": "[x]"},
        {"device": "cpu"},
        {"dtype": "float32"},
        {"device_map": "auto"},
        {"model_kwargs": {"revision": "main"}},
    ],
)
def test_what_a_ready_engine_cannot_read_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError, match="ready"):
        ChatDPFusion(engine=scripted_engine("x"), **options)
    llm = ChatDPFusion(engine=scripted_engine("x"), epsilon=8.0)
    ((name, value),) = options.items()
    with pytest.raises(PrivacyParameterError, match="ready"):
        setattr(llm, name, value)
    with pytest.raises(PrivacyParameterError, match="ready"):
        llm.model_copy(update=options)
    llm.invoke(PRIVATE)  # as it was


# --- Set after the first use ---


def test_a_field_that_is_set_after_the_first_use_takes_effect() -> None:
    llm, account = tiny(), ledger()
    llm.invoke(PRIVATE)
    llm.epsilon = 4.0
    assert guarantee(llm)["epsilon"] == pytest.approx(4.0)
    llm.ledger = account
    llm.invoke(PRIVATE)
    assert account.account("ann").spent_epsilon == pytest.approx(4.0)
    llm.unmarked = "strict"
    with pytest.raises(Exception, match="strict"):
        llm.invoke(PRIVATE)
    llm.unmarked = None
    llm.ledger = None
    before = account.account("ann").spent_epsilon
    llm.invoke(PRIVATE)
    assert account.account("ann").spent_epsilon == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("epsilon", -1.0), ("epsilon", "much"), ("order", 2.0), ("ledger", "file.db"), ("unmarked", "privat")],
)
def test_a_field_that_is_set_to_what_it_cannot_be_is_refused_and_stays(name: str, value: Any) -> None:
    llm = tiny()
    before = getattr(llm, name)
    with pytest.raises(PrivacyParameterError):
        setattr(llm, name, value)
    assert getattr(llm, name) == before
    assert guarantee(llm)["epsilon"] == pytest.approx(2.0)


# --- No ledger is lost without a word ---


def test_copies_keep_the_ledger() -> None:
    account = ledger()
    llm = tiny(ledger=account)
    for copied in (
        llm.model_copy(),
        llm.model_copy(deep=True),
        copy.copy(llm),
        copy.deepcopy(llm),
        llm.model_copy(update={"max_tokens": 2}),
        llm.bind(max_tokens=2).bound,
        llm.with_config(tags=["a"]).bound,
    ):
        assert copied.ledger is account
    other = ledger()
    assert llm.model_copy(update={"ledger": other}).ledger is other


@pytest.mark.filterwarnings("ignore:The function `loads` is in beta")
def test_dumps_and_pickles_do_not_give_a_model_without_its_ledger() -> None:
    llm = tiny(ledger=ledger())
    with pytest.raises(UnsupportedError, match="ledger cannot be pickled"):
        pickle.dumps(llm)
    llm.invoke(PRIVATE)  # and is as it was
    with pytest.raises(PrivacyParameterError, match="ledger"):
        ChatDPFusion(**llm.model_dump())
    with pytest.raises(PrivacyParameterError, match="ledger"):
        ChatDPFusion(**json.loads(llm.model_dump_json()))
    with pytest.raises(NotImplementedError):
        loads(dumps(llm), allowed_objects="all")
    without = tiny()
    assert ChatDPFusion(**without.model_dump()).epsilon == 2.0


# --- The unit of a document ---


def index_of(texts: dict[str, str], **metadata: str) -> InMemoryVectorStore:
    """Index files, two chunks each, as a loader and a splitter do it."""
    store = InMemoryVectorStore(Letters())
    for path, text in texts.items():
        chunks = [Document(half, metadata={"source": path, **metadata}) for half in text.split(" | ")]
        store.add_documents(chunks)
    return store


FILES = {
    "records/ann.txt": "Ann lives in Oslo. | Ann is ill with gout.",
    "records/bo.txt": "Bo lives in Lima. | Bo owes money.",
}


def test_a_file_that_is_indexed_again_is_the_same_unit() -> None:
    account = ledger()
    seen: set[str] = set()
    ids: set[str] = set()
    llm = ChatDPFusion(
        engine=FusionEngine(ScriptedBackend.saying("No."), ledger=account), epsilon=2.0, max_tokens=5
    )
    for _ in range(3):
        retriever = index_of(FILES).as_retriever(search_kwargs={"k": 4})
        found = retriever.invoke("Ann")
        ids |= {str(document.id) for document in found}
        for message in (
            *PrivateDocumentFormatter().invoke(found),
            *private_template("{context}").format_messages(context=found),
            create_private_retriever_tool(retriever, "search", "Search.").invoke(
                {"name": "search", "args": {"query": "Ann"}, "id": "1", "type": "tool_call"}
            ),
        ):
            seen |= {block["extras"]["unit"] for block in message.content if block["extras"]["is_private"]}
        answer = llm.invoke(PrivateDocumentFormatter().invoke(found))
        assert answer.response_metadata["dp_fusion"]["units"] == 2
    assert len(ids) == 12
    assert seen == set(FILES)
    assert len(list(account.curator.accounts())) == 2
    assert account.account("records/ann.txt").spent_epsilon > 2.0  # three answers add up


@pytest.mark.parametrize(
    "mend", ["source", lambda document: document.metadata["source"], lambda document: document.id]
)
def test_an_id_that_is_not_stable_and_a_ledger_exclude_each_other(mend: Any) -> None:
    llm = ChatDPFusion(engine=scripted_engine("No.", ledger=ledger()), epsilon=2.0, max_tokens=5)
    nameless = [Document("Ann is ill.", id="5f1c")]
    with pytest.raises(Exception, match="unit='source'") as caught:
        llm.invoke(PrivateDocumentFormatter().invoke(nameless))
    assert type(caught.value).__name__ == "RefusedError"
    with pytest.raises(Exception, match="unit='source'"):
        DPDocumentTransformer(llm).transform_documents(nameless)
    named = [Document("Ann is ill.", id="5f1c", metadata={"source": "a.txt"})]
    assert llm.invoke(PrivateDocumentFormatter(unit=mend).invoke(named)).text == "No."


@pytest.mark.parametrize("unit", [None, "patient", lambda document: None])
def test_without_a_ledger_it_is_a_warning_once(unit: Any) -> None:
    llm = ChatDPFusion(engine=scripted_engine("No."), epsilon=2.0, max_tokens=5)
    messages = PrivateDocumentFormatter(unit=unit).invoke([Document("Ann is ill.", id="5f1c")])
    with pytest.warns(UserWarning, match="unit='source'"):
        llm.invoke(messages)
    llm.invoke(messages)  # warnings are errors in these tests


def test_a_document_of_a_hidden_or_copied_message_stays_unstable() -> None:
    from langchain_dpfusion.reading import hide, read

    (message,) = PrivateDocumentFormatter().invoke([Document("Ann is ill.", id="5f1c")])
    cut = message.model_copy(update={"content": "Ann"})
    for each in (message, hide(message), cut, hide(cut)):
        (turn,) = read(each)
        assert [(piece.unit, piece.is_stable) for piece in turn.pieces] == [("5f1c", False)]


@pytest.mark.parametrize(
    "configure",
    [
        lambda llm: llm.with_config(epsilon=1.0),
        lambda llm: llm.with_config({"max_tokens": 5}),
        lambda llm: llm.bind(stop=["x"]).with_config(epsilon=1.0),
        lambda llm: llm.with_retry().with_config(unmarked="private"),
    ],
)
def test_options_that_a_config_does_not_hold_are_refused(configure: Any) -> None:
    llm = ChatDPFusion(model="dpfusion-tiny", epsilon=8.0)
    with pytest.raises(PrivacyParameterError, match="bind"):
        configure(llm)
    assert llm.with_config(tags=["a"], run_name="b").config["tags"] == ["a"]
