"""Options are read or refused, and nothing that protects gets lost on the way."""

import copy
import pickle
from typing import Any

import pytest
from llama_index.core import SummaryIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel as PlainModel

from dpfusion_core import FusionEngine, PrivacyBudget, PrivacyLedger
from dpfusion_core.adapters import load_engine
from dpfusion_core.errors import (
    BackendError,
    BudgetExhaustedError,
    PrivacyParameterError,
    RefusedError,
    UnsupportedError,
)
from llamaindex_dpfusion import (
    DPFusionLLM,
    DPFusionNodePostprocessor,
    DPFusionPromptHelper,
    DPFusionRetriever,
    DPFusionSynthesizer,
    DPFusionTransform,
)
from tests.llamaindex.recording import RecordingBackend, documents, recording_llm

CHAT = [ChatMessage("Ann is ill.", additional_kwargs={"is_private": True, "unit": "ann"})]


@pytest.fixture
def ledger() -> Any:
    with PrivacyLedger("sqlite://", budget=PrivacyBudget(8.0), key="k" * 32) as opened:
        yield opened


def spent(ledger: PrivacyLedger) -> int:
    return len({entry.unit for entry in ledger.curator.entries() if entry.kind == "reserve"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accountng": "fixed"}, "Did you mean 'accounting'"),
        ({"legder": None}, "Did you mean 'ledger'"),
        ({"epsilon": -1}, "epsilon"),
        ({"epsilon": 8.0, "beta": 0.1}, "not both"),
        ({"epsilon": "much"}, "epsilon"),
        ({"alpha": 2.0}, "go together"),
        ({"temperature": -1.0, "epsilon": 8.0}, "temperature"),
        ({"unmarked": "perhaps"}, "unmarked"),
        ({"public_roles": ("tool",)}, "unmarked='public'"),
        ({"max_tokens": 5, "max_new_tokens": 6}, "given twice"),
        ({"unit": ""}, "unit"),
        ({"engine": "none"}, "FusionEngine"),
        ({"tagger": "x"}, "Expected tagger"),
        ({"context_window": 0}, "context_window of DPFusionLLM"),
        ({"context_window": True}, "context_window of DPFusionLLM"),
        ({"timeout": True}, "timeout of DPFusionLLM"),
        ({"max_retries": True}, "max_retries of DPFusionLLM"),
        ({"tokenizer": "much"}, "go together"),
        ({"model": 7}, "go together"),
        ({"model": object(), "tokenizer": object(), "device": "cpu"}, "'device' says nothing"),
    ],
)
def test_an_llm_reads_its_options_or_refuses_them(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PrivacyParameterError, match=message) as caught:
        DPFusionLLM(**options)
    assert "much" not in str(caught.value)


def test_names_of_other_models_are_understood() -> None:
    llm = DPFusionLLM(model_name="dpfusion-tiny", max_tokens=7, neighbors="replace", epsilon=8.0)
    assert (llm.model, llm.max_tokens, llm.neighbours) == ("dpfusion-tiny", 7, "replace")
    assert DPFusionLLM(max_completion_tokens=9).max_tokens == 9
    llm, _ = recording_llm()
    raw: Any = llm.chat(CHAT, max_completion_tokens=3).raw
    assert raw["dp_fusion"]["max_tokens"] == 3


@pytest.mark.parametrize("method", ["chat", "complete", "stream_chat", "stream_complete"])
def test_an_unknown_option_of_a_call_is_refused(method: str) -> None:
    llm, backend = recording_llm()
    with pytest.raises(PrivacyParameterError, match="Did you mean 'epsilon'"):
        getattr(llm, method)(CHAT if "chat" in method else "Ann.", epsilonn=3.0)
    assert not backend.calls


WRONG: Any = "Ann"  # for the type checker, of any kind


@pytest.mark.parametrize(
    "make",
    [
        lambda llm: DPFusionNodePostprocessor(vualt=True),
        lambda llm: DPFusionRetriever(SummaryIndex([]).as_retriever(), verbos=True),
        lambda llm: DPFusionSynthesizer(llm=llm, streamng=True),
        lambda llm: DPFusionTransform(llm, batchsize=3),
        lambda llm: DPFusionPromptHelper(contextwindow=300),
        lambda llm: DPFusionPromptHelper.from_llm(llm, chunk_overlap=0.1),
        lambda llm: llm.model_copy(update={"epsilonn": 1.0}),
        lambda llm: llm.model_copy(update={"alpha": 0.5}),
        lambda llm: setattr(llm, "alpha", 0.5),
        lambda llm: setattr(llm, "tagger", "Ann"),
        lambda llm: setattr(llm, "context_window", 0),
        lambda llm: DPFusionTransform(WRONG),
        lambda llm: DPFusionTransform(llm, metadata_keys="Ann"),
        lambda llm: DPFusionTransform(llm, keep_ids="Ann"),
        lambda llm: DPFusionTransform(llm, batch_size=0),
        lambda llm: DPFusionTransform(llm, batch_size=True),
        lambda llm: DPFusionTransform(llm, instruction=""),
        lambda llm: DPFusionTransform(llm)(WRONG),
        lambda llm: DPFusionTransform(llm)([WRONG]),
        lambda llm: DPFusionNodePostprocessor(vault="Ann"),
        lambda llm: DPFusionRetriever(WRONG),
        lambda llm: DPFusionRetriever(SummaryIndex([]).as_retriever(), sealing=WRONG),
        lambda llm: DPFusionSynthesizer("Ann", llm=llm),
        lambda llm: DPFusionSynthesizer(llm=WRONG),
        lambda llm: DPFusionSynthesizer(llm=MockLLM()),
        lambda llm: DPFusionSynthesizer(llm=llm, sealing=WRONG),
        lambda llm: DPFusionPromptHelper.from_llm(MockLLM()),
        lambda llm: DPFusionPromptHelper.from_llm(llm, chunk_overlap_ratio=3),
        lambda llm: llm.as_structured_llm("Ann"),
        lambda llm: llm.chat("Ann"),
        lambda llm: llm.chat(None),
        lambda llm: llm.chat([{"role": "user", "content": "Ann"}]),
        lambda llm: llm.complete(None),
    ],
)
def test_every_part_reads_its_options_or_refuses_them(make: Any) -> None:
    llm, backend = recording_llm()
    with pytest.raises(PrivacyParameterError) as caught:
        make(llm)
    assert "Ann" not in str(caught.value)
    assert not backend.calls


@pytest.mark.parametrize(
    "ask",
    [
        lambda llm: llm.predict("Ann"),
        lambda llm: llm.structured_predict(PlainModel, "Ann"),
        lambda llm: llm.structured_predict(dict, PromptTemplate("Ann")),
    ],
)
def test_what_is_no_template_or_no_model_is_refused_where_engines_cannot_swallow_it(ask: Any) -> None:
    llm, backend = recording_llm()
    with pytest.raises(RefusedError, match="Expected"):
        ask(llm)
    assert not backend.calls


@pytest.mark.parametrize(
    "option", [{"device": "abacus"}, {"dtype": "float7"}, {"model_kwargs": {"trust": 1}}]
)
def test_what_the_model_cannot_be_loaded_with_is_an_error_of_ours(option: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match="cannot be loaded"):
        _ = DPFusionLLM(epsilon=8.0, **option).engine


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda llm: llm.model_copy(deep=True)])
def test_a_deep_copy_has_settings_of_its_own_and_shares_model_and_ledger(copied: Any) -> None:
    engine = FusionEngine(RecordingBackend(lambda prompt: "Yes.", None))
    llm = DPFusionLLM(engine=engine, epsilon=8.0, stop=["x"])
    other = copied(llm)
    assert other.engine is engine
    other.epsilon, other.stop[0] = 2.0, "y"
    assert (llm.epsilon, llm.stop) == (8.0, ["x"])
    loaded = DPFusionLLM(epsilon=8.0, placeholder=lambda segment: "...")
    assert copied(loaded).engine.backend is loaded.engine.backend
    assert copied(loaded).placeholder is loaded.placeholder
    assert copied(DPFusionTransform(llm)).llm.engine is engine


def test_a_named_model_is_loaded_once_for_all() -> None:
    one, two = DPFusionLLM(epsilon=1.0), DPFusionLLM(epsilon=8.0, placeholder="...")
    assert one.engine.backend is two.engine.backend is load_engine("dpfusion-tiny").backend


@pytest.mark.parametrize("name", ["ledger", "tagger", "placeholder", "tokenizer", "model", "device"])
def test_a_ready_engine_and_parts_of_another_are_refused(name: str, ledger: PrivacyLedger) -> None:
    engine = FusionEngine(RecordingBackend(lambda prompt: "Yes.", None))
    with pytest.raises(PrivacyParameterError, match=name):
        DPFusionLLM(engine=engine, **{name: ledger if name == "ledger" else "x"})
    llm = DPFusionLLM(engine=engine)
    with pytest.raises(PrivacyParameterError, match=name):
        setattr(llm, name, ledger if name == "ledger" else "x")


def test_a_ledger_that_is_set_later_is_charged(ledger: PrivacyLedger) -> None:
    llm = DPFusionLLM(epsilon=1.0, max_tokens=2)
    llm.chat(CHAT)
    assert spent(ledger) == 0
    llm.ledger = ledger
    llm.chat(CHAT)
    assert spent(ledger) == 1
    other = llm.model_copy(update={"ledger": None})
    other.chat([ChatMessage("Bob.", additional_kwargs={"is_private": True, "unit": "bob"})])
    assert spent(ledger) == 1


def test_a_pickle_never_loses_a_ledger_and_leaves_the_llm_as_it_is(ledger: PrivacyLedger) -> None:
    llm = DPFusionLLM(epsilon=1.0, max_tokens=2, ledger=ledger)
    with pytest.raises(UnsupportedError, match="ledger"):
        pickle.dumps(llm)
    llm.chat(CHAT)
    assert spent(ledger) == 1
    plain = DPFusionLLM(epsilon=1.0, max_tokens=2)
    before = dict(plain.__dict__)
    assert pickle.loads(pickle.dumps(plain)).epsilon == 1.0
    assert plain.__dict__ == before
    assert copy.copy(llm).ledger is ledger


def test_a_dictionary_never_loses_a_ledger(ledger: PrivacyLedger) -> None:
    llm = DPFusionLLM(epsilon=1.0, max_tokens=2, ledger=ledger)
    data = llm.to_dict()
    with pytest.raises(PrivacyParameterError, match=r"ledger=\.\.\."):
        DPFusionLLM.from_dict(data)
    back = DPFusionLLM.from_dict(data, ledger=ledger)
    back.chat(CHAT)
    assert spent(ledger) == 1
    assert back.epsilon == 1.0
    assert DPFusionLLM.from_dict(DPFusionLLM("dpfusion-tiny", max_tokens=3).to_dict()).max_tokens == 3


def test_the_unnamed_unit_has_a_name_and_its_error_says_what_helps(ledger: PrivacyLedger) -> None:
    llm = DPFusionLLM(epsilon=7.0, max_tokens=2, ledger=ledger)
    llm.complete("Ann is ill.")
    with pytest.raises(BudgetExhaustedError, match=r"DPFusionLLM\(unit=") as caught:
        llm.complete("Ann is ill.")
    assert "skip_condense" in str(caught.value)
    assert caught.value.units == ("private",)
    llm.model_copy(update={"unit": "Session/17"}).complete("Ann is ill.")
    llm.model_copy(update={"unit": "session/18"}).predict(PromptTemplate("{context_str}"), context_str="Ann")
    assert ledger.account("session/17").spent_epsilon > 0


def test_a_document_of_a_transform_is_its_stable_source_or_an_error() -> None:
    llm, backend = recording_llm("Somebody.")
    DPFusionTransform(llm)(documents(1))
    assert backend.ledger.charges == [("doc-0",)]
    [document] = documents(1)
    with pytest.raises(Exception, match=r"DPFusionTransform\(unit="):
        DPFusionTransform(llm)([type(document)(text="Ann is ill.")])
    DPFusionTransform(llm, unit="case")([type(document)(text="Ann is ill.", metadata={"case": "C7"})])
    assert backend.ledger.charges == [("doc-0",), ("c7",)]


@pytest.mark.parametrize("change", [{"public_arguments": "existing_answer"}, {"complete_policy": "publick"}])
def test_what_is_set_later_is_checked_like_what_is_given(change: dict[str, Any]) -> None:
    llm = DPFusionLLM(epsilon=8.0)
    ((name, value),) = change.items()
    for setting in (lambda: setattr(llm, name, value), lambda: llm.model_copy(update=change)):
        with pytest.raises(PrivacyParameterError, match=f"{name} of DPFusionLLM"):
            setting()
    assert getattr(llm, name) == getattr(DPFusionLLM(), name)


def test_a_structured_llm_takes_no_options_that_nobody_reads() -> None:
    with pytest.raises(PrivacyParameterError, match="'epsilon' of as_structured_llm"):
        DPFusionLLM(epsilon=8.0).as_structured_llm(PlainModel, epsilon=1.0)
