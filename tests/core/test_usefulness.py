"""Private text is of use: what fusion is for, through the whole engine. Ignoring it would be private, too."""

import math
from collections.abc import Sequence
from typing import Any

import scipy.stats

from dpfusion_core import FusionEngine, Message, PhraseTagger
from dpfusion_core.tagging import split_by_spans
from tests.core.test_decoding import PRIVATE, PUBLIC, SETTINGS, exact_mixture
from tests.core.toys import TOKENS, private_chat, secretive_backend
from tiny_recipe.held_out import Record, held_out_records

RUNS, LENGTH = 500, 10


def test_the_answers_of_an_engine_have_the_frequencies_of_the_exact_mixture() -> None:
    """Two-sided: neither the public model's, nor the private one's, nor another weight's."""
    engine = FusionEngine(secretive_backend(PUBLIC, PRIVATE))
    settings: dict[str, Any] = {"alpha": SETTINGS.order, "beta": SETTINGS.beta, "max_tokens": LENGTH}
    counts = dict.fromkeys(TOKENS, 0)
    for seed in range(RUNS):
        for token in engine.generate(private_chat(), **settings, seed=seed).token_ids:
            counts[token] += 1  # tokens are independent here

    def p_value(row: Sequence[float]) -> float:
        expected = [RUNS * LENGTH * p / math.fsum(row) for p in row]
        return float(scipy.stats.chisquare(list(counts.values()), expected).pvalue)

    assert p_value(exact_mixture()) > 0.01
    for other in (PUBLIC, PRIVATE, exact_mixture(0.5), exact_mixture(1.5)):
        assert p_value(other) < 1e-4


def answers(engine: FusionEngine, record: Record, epsilon: float) -> bool:
    content = split_by_spans(record.text, PhraseTagger([record.answer]).tag(record.text))
    messages = [Message("user", content), Message("user", record.question)]
    return record.answer in engine.generate(messages, epsilon=epsilon, max_tokens=40, seed=1).text


def test_the_embedded_model_answers_from_private_text_where_epsilon_is_large() -> None:
    engine = FusionEngine.from_pretrained("dpfusion-tiny")
    records = held_out_records(24, seed=7)
    rates = {
        epsilon: sum(answers(engine, each, epsilon) for each in records) / 24 for epsilon in (1.0, 2000.0)
    }
    assert rates[1.0] <= 0.2
    assert rates[2000.0] >= 0.6
