"""Sampling: public truncation, public processors, and an unbiased draw."""

import math
import random
from typing import Any

import pytest
import scipy.stats
import torch

from dpfusion_core import BackendError, PrivacyParameterError
from dpfusion_core.sampling import Sampling, draw, public_change

NAN, INF = math.nan, math.inf


def rows(*logits: list[float]) -> torch.Tensor:
    return torch.tensor(logits, dtype=torch.float32)


def kept(log_probs: torch.Tensor) -> list[list[int]]:
    return [(row > -INF).nonzero().flatten().tolist() for row in log_probs]


def test_temperature_divides_the_logits() -> None:
    log_probs = Sampling(temperature=0.5).log_probs(rows([0.0, 1.0]))
    assert log_probs.dtype == torch.float64
    assert log_probs[0].exp().tolist() == pytest.approx([1 / (1 + math.e**2), 1 - 1 / (1 + math.e**2)])


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(top_k=2), [0, 1]),
        (Sampling(top_p=0.6), [0, 1]),  # .5 is not enough, .8 is
        (Sampling(top_p=0.5), [0]),
        (Sampling(min_p=0.29), [0, 1, 2]),
        (Sampling(top_k=3, top_p=0.6, min_p=0.9), [0]),
        (Sampling(top_k=100, top_p=1.0, min_p=0.0), [0, 1, 2, 3]),
    ],
)
def test_truncation_keeps_what_the_public_row_selects(sampling: Sampling, expected: list[int]) -> None:
    public = [math.log(p) for p in (0.5, 0.3, 0.15, 0.05)]
    private = [math.log(p) for p in (0.01, 0.01, 0.01, 0.97)]
    log_probs = sampling.log_probs(rows(public, private))
    assert kept(log_probs) == [expected, expected]
    assert log_probs.exp().sum(dim=1).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("bad", [[NAN, 0.0], [INF, 0.0], [-INF, -INF]])
def test_unusable_logits_of_any_row_raise(bad: list[float]) -> None:
    for logits in (rows(bad, [0.0, 0.0]), rows([0.0, 0.0], bad)):
        with pytest.raises(BackendError, match="unusable"):
            Sampling().log_probs(logits)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": NAN},
        {"temperature": INF},
        {"temperature": 1e-9},
        {"temperature": "hot"},
        {"top_k": 0},
        {"top_k": True},
        {"top_k": 1.5},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": NAN},
        {"min_p": -0.1},
        {"min_p": 2},
    ],
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(PrivacyParameterError, match=next(iter(options))):
        Sampling(**options)


def test_processors_see_public_data_alone_and_change_every_row_alike() -> None:
    seen: list[tuple[list[list[int]], list[int]]] = []

    def ban_one(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append((input_ids.tolist(), list(scores.shape)))
        scores[:, 1] = -INF
        scores[:, 2] += 3.0
        return scores

    logits = rows([0.0, 1.0, 2.0], [5.0, 6.0, 7.0])
    change = public_change([ban_one], [8, 9], logits[0])
    assert seen == [([[8, 9]], [1, 3])]
    assert change is not None
    assert change.tolist() == [0.0, -INF, 3.0]
    expected = torch.log_softmax(rows([0.0, -INF, 5.0], [5.0, -INF, 10.0]).double(), dim=-1)
    assert torch.allclose(Sampling().log_probs(logits, change), expected)


def test_transformers_processors_fit() -> None:
    from transformers import LogitsProcessorList, NoBadWordsLogitsProcessor, RepetitionPenaltyLogitsProcessor

    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(2.0)])
    change = public_change([processors, NoBadWordsLogitsProcessor([[0]])], [2], torch.tensor([1.0, 1.0, 4.0]))
    assert change is not None
    assert change.tolist() == [-INF, 0.0, -2.0]


def test_processor_of_another_shape_is_refused() -> None:
    with pytest.raises(BackendError, match="shape"):
        public_change([lambda ids, scores: scores[:, :1]], [0], torch.zeros(3))


def test_draw_has_the_right_frequencies_and_the_test_would_notice_wrong_ones() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05], dtype=torch.float64)
    rng = random.Random(7)
    counts = torch.bincount(
        torch.tensor([draw(probabilities.log(), rng) for _ in range(20_000)]), minlength=5
    )
    assert counts[1] == 0
    support = probabilities > 0
    observed = counts[support].numpy()

    def p_value(expected: torch.Tensor) -> float:
        return float(scipy.stats.chisquare(observed, (expected[support] * 20_000).numpy()).pvalue)

    assert p_value(probabilities) > 0.01
    wrong = torch.tensor([0.48, 0.0, 0.32, 0.15, 0.05], dtype=torch.float64)
    assert p_value(wrong) < 0.001


class Edge(random.Random):
    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def random(self) -> float:
        return self._value


@pytest.mark.parametrize("u", [0.0, 0.25, 1.0 - 2.0**-53])
@pytest.mark.parametrize("probabilities", [[0.0, 1.0, 0.0], [0.0, 0.5, 0.0, 0.5, 0.0], [1.0]])
def test_draw_never_hits_a_token_of_probability_zero(u: float, probabilities: list[float]) -> None:
    log_probs = torch.tensor(probabilities, dtype=torch.float64).log()
    assert probabilities[draw(log_probs, Edge(u))] > 0.0
