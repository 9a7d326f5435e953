"""Which tool is called, or none, as a choice of its own: the same in both frameworks."""

import json
from typing import Any

import pytest

from dpfusion_core import (
    FusionEngine,
    Message,
    PrivacyBudget,
    PrivacyLedger,
    ScriptedBackend,
    parse_tool_calls,
)
from dpfusion_core.adapters import Call
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import FixedAccountant, PrivacyParameters, rdp_to_epsilon
from dpfusion_core.privacy.combining import both

NOTE = Message("user", "Ann asks how late it is.", is_private=True, unit="ann")
ASK = Message("user", "What now?")
TOOLS: list[dict[str, Any]] = [
    {
        "name": "now",
        "description": "Tells the time.",
        "parameters": {"properties": {"zone": {"enum": ["UTC", "CET"]}}},
    },
    {
        "name": "search",
        "description": "Searches.",
        "parameters": {"properties": {"words": {"type": "string"}}},
    },
]


def engine_that(chooses: str, **more: Any) -> tuple[FusionEngine, ScriptedBackend]:
    """A model that names a step where it sees the note, and answers all else with fixed words."""

    def answer(prompt: str) -> str:
        asked = prompt.rpartition("user\n")[2]
        if "next step?" in asked:
            return chooses if "Ann" in prompt else "search"
        return "CET" if "zone" in asked else "It is late."

    backend = ScriptedBackend.saying(answer, certainty=80.0)
    return FusionEngine(backend, **more), backend


def test_a_tool_is_chosen_by_name() -> None:
    engine, backend = engine_that("now")
    chosen = engine.choose_tool([NOTE, ASK], tools=TOOLS, epsilon=20.0)
    assert (chosen.choice, chosen.guarantee.epsilon, chosen.guarantee.tokens) == ("now", 20.0, 1)
    public = backend.requests[-1][0]
    assert "- now: Tells the time.\n- search: Searches.\n- answer: say the answer" in public


def test_a_call_whose_arguments_are_closed_is_two_choices() -> None:
    engine, _ = engine_that("now")
    result = Call(
        engine, [NOTE, ASK], {"tools": TOOLS, "tool_choice": "choose", "epsilon": 40.0, "max_tokens": 30}
    ).run()
    [call] = parse_tool_calls(result.text, TOOLS).tool_calls
    assert (call.name, call.arguments) == ("now", {"zone": "CET"})
    guarantee = result.guarantee
    assert (guarantee.epsilon, guarantee.tokens) == (40.0, 2)
    assert guarantee.delta == pytest.approx(1e-5)


def test_an_answer_is_written_for_the_other_half(tmp_path: Any) -> None:
    ledger = PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=PrivacyBudget(50.0))
    engine, backend = engine_that("answer", ledger=ledger)
    options: Any = {"tools": TOOLS, "tool_choice": "choose", "epsilon": 40.0, "max_tokens": 12}
    result = Call(engine, [NOTE, ASK], options).run()
    assert parse_tool_calls(result.text, TOOLS).tool_calls == ()
    guarantee = result.guarantee
    assert guarantee.epsilon <= 40.0
    assert (guarantee.max_tokens, guarantee.order, guarantee.mechanism) == (13, None, "fusion")
    assert len(backend.requests) == 2
    assert "next step?" not in backend.requests[-1][0]


def test_where_nothing_is_private_it_is_the_models_own_choice() -> None:
    engine, backend = engine_that("now")
    result = Call(engine, [ASK], {"tools": TOOLS, "tool_choice": "choose", "max_tokens": 12}).run()
    assert result.text == "It is late."
    assert len(backend.requests) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"order": 2.0, "beta": 0.1}, "divides epsilon"),
        ({"epsilon": 8.0, "tools": [{"name": "answer"}]}, "named 'answer'"),
    ],
    ids=str,
)
def test_what_cannot_be_divided_or_named_is_refused(options: dict[str, Any], words: str) -> None:
    engine, backend = engine_that("now")
    said: Any = {"tools": TOOLS, "tool_choice": "choose", **options}
    with pytest.raises(PrivacyParameterError, match=words):
        Call(engine, [NOTE, ASK], said).run()
    assert backend.requests == []


def test_the_engine_says_that_it_is_two_requests() -> None:
    engine, _ = engine_that("now")
    with pytest.raises(PrivacyParameterError, match="choose_tool, then generate"):
        engine.generate([NOTE, ASK], tools=TOOLS, tool_choice="choose", epsilon=8.0)
    with pytest.raises(PrivacyParameterError, match="no tool is given"):
        engine.choose_tool([NOTE, ASK], epsilon=8.0)


def test_two_guarantees_are_never_less_than_their_losses_together() -> None:
    """By basic composition; at one order the Rényi losses would add up to no more."""
    parameters = PrivacyParameters(4.0, 0.05)
    first, second = (FixedAccountant(parameters, 1, size).guarantee(private=True) for size in (3, 20))
    two = both(first, second)
    assert two.epsilon >= rdp_to_epsilon(23 * parameters.bound, 4.0, two.delta)
    assert (two.delta, two.max_tokens) == (2e-5, 23)
    assert json.dumps(two.as_dict())
