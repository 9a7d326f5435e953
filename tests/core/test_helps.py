"""The private text helps, as far as the budget allows: without this, answering from the redacted prompt would pass."""

import pytest
import torch

from dpfusion_core import FusionEngine, Message
from dpfusion_core.privacy.mixing import largest_mixing_weight
from tests.core.toys import secretive_backend

RECORD = Message("user", "The patient is Ingrid Solheim. She lives in Trondheim.", is_private=True)
CONVERSATION = [
    Message("system", "Answer the question from the record."),
    RECORD,
    Message("user", "Where does the patient live?"),
]
ANSWERS = 10


@pytest.fixture(scope="module")
def engine() -> FusionEngine:
    return FusionEngine.from_pretrained("dpfusion-tiny")


def told(engine: FusionEngine, beta: float, accounting: str = "fixed") -> int:
    """Return how many answers say where the patient lives."""
    answers = (
        engine.generate(
            CONVERSATION,
            alpha=2.0,
            beta=beta,
            max_new_tokens=16,
            seed=seed,
            accounting=accounting,  # type: ignore[typeddict-item]
        ).text
        for seed in range(ANSWERS)
    )
    return sum("Trondheim" in answer for answer in answers)


@pytest.mark.parametrize("accounting", ["fixed", "adaptive"])
def test_a_large_budget_tells_and_a_small_one_does_not(engine: FusionEngine, accounting: str) -> None:
    assert told(engine, 20.0, accounting) >= ANSWERS - 1
    assert told(engine, 0.01, accounting) == 0


def test_the_answer_moves_by_the_weight_that_the_bound_allows() -> None:
    """A thousand first tokens of a toy model, against the exact mixture and against the public distribution."""
    public, private = (0.5, 0.3, 0.15, 0.05), (0.05, 0.15, 0.2, 0.6)
    engine = FusionEngine(secretive_backend(public, private))
    messages = [Message("user", "xyzzy", is_private=True), Message("user", "what?")]
    alpha, beta, draws = 2.0, 0.1, 1000
    q, p = (torch.tensor(row, dtype=torch.float64) for row in (public, private))
    bound = torch.tensor([alpha * beta], dtype=torch.float64)
    weight = largest_mixing_weight(q.log(), p.log()[None], bound, alpha).item()
    expected = (1.0 - weight) * public[3] + weight * private[3]
    assert expected > public[3] + 0.06
    found = engine.batch(
        [messages] * draws, each=[{"seed": i} for i in range(draws)], alpha=alpha, beta=beta, max_new_tokens=1
    )
    share = sum(result.text == "d" for result in found) / draws
    deviation = (expected * (1.0 - expected) / draws) ** 0.5
    assert abs(share - expected) < 4.0 * deviation
    assert share > public[3] + 4.0 * deviation
