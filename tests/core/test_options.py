"""One place says what a request may ask for; every way in reads it there."""

from dataclasses import MISSING, fields
from typing import Any, get_type_hints

import pytest

from dpfusion_core import FusionEngine, Options
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.messages import Message
from dpfusion_core.options import (
    ALIASES,
    NAMES,
    GenerationOptions,
    canonical,
    default_of,
    help_of,
    merge_options,
    of_parts,
    read_options,
)
from tests.core.toys import secretive_backend

CHAT = [Message("user", "secret", True), Message("user", "what?")]


def test_every_option_has_a_default_and_a_help() -> None:
    assert all(each.default is not MISSING for each in fields(Options))
    assert all(help_of(name).endswith(".") for name in NAMES)
    assert {*NAMES, "alpha"} == GenerationOptions.__annotations__.keys()
    assert ALIASES["alpha"] == "order"
    assert set(of_parts("budget", "accounting", "sampling", "form", "choice", "consensus", "engine")) == set(
        NAMES
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"alpha": 0.5, "beta": 0.1}, "1 < alpha < inf"),  # under the caller's name
        ({"order": 0.5, "beta": 0.1}, "1 < order < inf"),
        ({"alpha": 2.0, "order": 2.0, "beta": 0.1}, "given twice"),
        ({"max_new_tokens": 0}, "max_new_tokens >= 1"),
        ({"epsilonn": 1.0}, "Did you mean 'epsilon'"),
        ({"max_new_token": 5}, "Did you mean 'max_tokens'"),
        ({"beta": 0.1}, "go together"),
        ({"epsilon": 8.0, "beta": 0.1}, "not both"),
        ({"epsilon": 1.0, "order": 2.0}, "cannot be certified at order 2"),
        ({"responses": 2}, "responses goes with epsilon"),
        ({"epsilon": 1.0, "mixing_loss": 0.1}, "mixing_loss"),
        ({"spending": "constant"}, "'growing', 'accrued' or 'capped'"),
        ({"temperature": 1e-9}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"seed": -1}, "seed"),
        ({"delta": None}, "delta"),
        ({"stop": "end"}, "stop"),
        ({"stop": None}, "stop"),
        ({"max_items": 2}, "max_items has no effect with mechanism='fusion'"),
        ({"items": "phrases"}, "items has no effect"),
        (
            {"mechanism": "consensus", "order": 2.0, "beta": 0.1},
            "order has no effect with mechanism='consensus'",
        ),
        ({"mechanism": "consensus", "epsilon": 1.0, "spending": "accrued"}, "spending has no effect"),
        ({"mechanism": "consensus", "epsilon": 1.0, "tool_choice": "any"}, "tool_choice has no effect"),
        ({"mechanism": "consensus", "epsilon": 1.0, "curator": True}, "curator has no effect"),
        ({"mechanism": "consensus", "epsilon": 1.0, "max_items": 0}, "max_items >= 1"),
        ({"mechanism": "consensus", "epsilon": 1.0, "items": "lists"}, "'points', 'phrases' or 'json'"),
        ({"mechanism": "consent"}, "'fusion' or 'consensus'"),
        ({"retrieval": "covered"}, "needs mechanism='consensus'"),
        ({"retrieval": "top-k"}, "'covered' or 'not covered'"),
    ],
    ids=repr,
)
def test_what_no_request_may_ask_for_is_refused_when_it_is_read(given: dict[str, Any], words: str) -> None:
    with pytest.raises(PrivacyParameterError, match=words):
        read_options(given, "a request")


def test_the_engine_plans_once_and_understands_the_papers_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from dpfusion_core.engine import requests
    from dpfusion_core.planning import make_plan

    plans: list[Any] = []

    def plan(*given: Any) -> Any:
        plans.append(given)
        return make_plan(*given)

    monkeypatch.setattr(requests, "make_plan", plan)
    engine = FusionEngine(secretive_backend())
    ours = engine.generate(CHAT, order=2.0, beta=0.1, max_tokens=3, seed=1)
    papers = engine.generate(CHAT, alpha=2.0, beta=0.1, max_new_tokens=3, seed=1)  # type: ignore[call-arg]
    assert ours == papers
    assert len(plans) == 2


def test_a_mistake_is_found_before_the_tagger_is_asked() -> None:
    def tagger(text: str) -> list[Any]:
        raise AssertionError("The tagger was asked.")

    from dpfusion_core.tagging import FunctionTagger

    engine = FusionEngine(secretive_backend(), tagger=FunctionTagger(tagger))
    with pytest.raises(PrivacyParameterError, match="cannot be certified"):
        engine.generate(CHAT, epsilon=1e-9)


@pytest.mark.parametrize(
    ("own", "said", "merged"),
    [
        ({"alpha": 2.0, "beta": 0.1, "top_k": 3}, {"epsilon": 8.0}, {"top_k": 3, "epsilon": 8.0}),
        (
            {"epsilon": 8.0, "responses": 2, "order": 4.0},
            {"alpha": 2.0, "beta": 0.1},
            {"order": 2.0, "beta": 0.1},
        ),
        ({"epsilon": 8.0, "order": 4.0}, {"epsilon": 2.0}, {"epsilon": 2.0, "order": 4.0}),
        ({"order": 2.0, "beta": 0.1}, {"beta": 0.2}, {"order": 2.0, "beta": 0.2}),
        ({"epsilon": 8.0, "order": 4.0}, {"beta": 0.2}, {"beta": 0.2}),  # which the engine refuses
    ],
)
def test_a_call_takes_the_place_of_the_other_way_to_say_a_budget(
    own: dict[str, Any], said: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert merge_options(own, said) == merged


def test_the_fields_of_frameworks_have_the_types_of_the_options() -> None:
    from dpfusion_core.adapters.fields import OptionFields

    own, theirs = get_type_hints(OptionFields), get_type_hints(Options)
    named = {"stop": list[str] | None}  # dumped and loaded again it stays equal
    assert own == {name: named.get(name, theirs[name] | None) for name in OptionFields.model_fields}
    assert OptionFields().model_dump(exclude_none=True) == {}


def test_names_that_are_no_options_stay_unknown() -> None:
    with pytest.raises(PrivacyParameterError, match="Did you mean 'order'"):
        canonical({"alpah": 2.0}, NAMES, "a call")


@pytest.mark.parametrize("name", of_parts("budget", "accounting", "sampling", "form"))
def test_an_option_that_is_written_once_is_reachable_everywhere(name: str) -> None:
    """A new option that one of the ways in forgets turns this red."""
    import typer.main

    from dpfusion_core.adapters.fields import OptionFields
    from dpfusion_core.cli import app
    from dpfusion_core.documents.options import check_options
    from langchain_dpfusion import ChatDPFusion
    from langchain_dpfusion.options import check_call
    from llamaindex_dpfusion import DPFusionLLM
    from llamaindex_dpfusion.options import engine_options

    value = {
        "order": 2.0,
        "beta": 0.1,
        "epsilon": 8.0,
        "stop": ["x"],
        "seed": 1,
        "tools": [],
        "json_schema": {},
    }
    given = {name: value.get(name, default_of(name))}
    is_form = name in of_parts("form")
    if not is_form:
        assert name in OptionFields.model_fields
        assert name in ChatDPFusion.model_fields
        assert name in DPFusionLLM.model_fields
        assert check_call(given) == given
    model = dict.fromkeys(DPFusionLLM.model_fields)
    assert name in engine_options(model, given) or given[name] is None or name == "tool_choice"
    if name in of_parts("accounting") or name == "max_tokens":
        return  # a document is charged as a whole, and its length is an argument of its own
    if not is_form:
        command = typer.main.get_command(app).commands["privatize"]  # type: ignore[attr-defined]
        [flag] = [each for each in command.params if each.name == name]
        assert flag.help == help_of(name)
    assert name in check_options("dp", {"epsilon": 8.0, **given}, [])
