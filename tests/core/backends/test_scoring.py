"""Whole continuations: the model's own probabilities, in batches that no other view takes part in."""

import itertools
from typing import Any

import pytest
import torch

from dpfusion_core import BackendError, TransformersBackend
from dpfusion_core.backends.rows import ROWS_PER_PASS
from tests.core.models import CharTokenizer, random_model

ARCHITECTURES = ("llama", "gpt2", "mistral", "gemma2", "gemma3", "bloom", "mamba", "mixtral")
PUBLIC = [5, 6, 7, 8, 9, 10, 11]
PRIVATE = [5, 6, 7, 40, 41, 42, 43, 44, 45, 46, 10, 11]
CHOICES = [[20], [20, 21], [22, 23, 24, 25], [26, 20]]
ENDS = {1, 2}


def expected(model: Any, prompt: list[int], tokens: list[int], ends: set[int]) -> float:
    """One pass over everything, without a cache."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0]
    rows = logits.double().log_softmax(-1)[len(prompt) - 1 :]
    total = sum(float(rows[i, token]) for i, token in enumerate(tokens))
    return total + (float(rows[-1, sorted(ends)].logsumexp(0)) if ends else 0.0)


@pytest.mark.parametrize("ends", [ENDS, set()], ids=["to the end", "open"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_the_models_own(architecture: str, ends: set[int]) -> None:
    overrides = {"sliding_window": 6} if architecture in ("mistral", "gemma2", "gemma3") else {}
    model = random_model(architecture, **overrides)
    backend = TransformersBackend(model, CharTokenizer())
    session = backend.open([PUBLIC, PRIVATE])
    before = session.logits().clone()
    found = session.score(CHOICES, ends)
    assert found.dtype == torch.float64
    for row, prompt in zip(found.tolist(), (PUBLIC, PRIVATE), strict=True):
        assert row == pytest.approx([expected(model, prompt, each, ends) for each in CHOICES], rel=1e-3)
    # The session stays where it is, and goes on.
    assert torch.equal(session.logits(), before)
    session.append(30)
    said = session.score(CHOICES[:2], ends)
    wanted = [expected(model, [*PRIVATE, 30], each, ends) for each in CHOICES[:2]]
    assert said[1].tolist() == pytest.approx(wanted, rel=1e-3)
    session.close()


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral", "mixtral"])
def test_no_bit_of_a_view_depends_on_another(architecture: str) -> None:
    """Neither on its text nor on its length, nor on how many there are."""
    backend = TransformersBackend(random_model(architecture), CharTokenizer())
    others = [[], [PRIVATE], [PRIVATE[:9]], [[50] * 60], [[51] * 30, PRIVATE]]
    scores = [backend.open([PUBLIC, *each]).score(CHOICES, ENDS)[0] for each in others]
    assert all(torch.equal(a, b) for a, b in itertools.pairwise(scores))
    beside = [backend.open([PUBLIC, PRIVATE, *each]).score(CHOICES, ENDS)[1] for each in others]
    assert all(torch.equal(a, b) for a, b in itertools.pairwise(beside))


def test_many_choices_go_in_batches_of_bounded_size() -> None:
    model = random_model("llama")
    backend = TransformersBackend(model, CharTokenizer())
    choices = [[20 + i // 30, 20 + i % 30] for i in range(3 * ROWS_PER_PASS + 1)]
    session = backend.open([PUBLIC])
    shapes = []
    forward = backend.forward
    backend.forward = lambda **inputs: shapes.append(inputs["input_ids"].shape) or forward(**inputs)  # type: ignore[method-assign, func-returns-value]
    found = session.score(choices, ENDS)
    assert [shape[0] for shape in shapes] == [ROWS_PER_PASS] * 3 + [1]
    wanted = [expected(model, PUBLIC, each, ENDS) for each in choices]
    assert found[0].tolist() == pytest.approx(wanted, rel=1e-3)


def test_a_closed_session_scores_nothing() -> None:
    session = TransformersBackend(random_model("llama"), CharTokenizer()).open([PUBLIC])
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.score(CHOICES, ENDS)
