"""The decoding loop: real runs follow the exact distribution, and every token is charged."""

import itertools
import math
import random

import pytest
import scipy.stats
import torch

from dpfusion_core.decoding import Protection, decode
from dpfusion_core.privacy import FixedAccountant, MixtureRule, PrivacyParameters
from dpfusion_core.sampling import Sampling
from tests.core.toys import EOS, LETTERS, TOKENS, secretive_backend

PUBLIC = (0.5, 0.3, 0.15, 0.05)
PRIVATE = (0.05, 0.15, 0.2, 0.6)
SETTINGS = PrivacyParameters(order=2.0, beta=0.05)
PROMPTS = [[0], [0, *secretive_backend().tokenizer("xyzzy")["input_ids"]]]


def protection(max_tokens: int = 2) -> Protection:
    return Protection(MixtureRule(SETTINGS.order), FixedAccountant(SETTINGS, 1, max_tokens))


def run(rng: random.Random, max_tokens: int = 2, eos: float = 0.0) -> list[int]:
    session = secretive_backend(PUBLIC, PRIVATE, eos).open(PROMPTS)
    tokens = decode(
        session,
        PROMPTS[0],
        protection=protection(max_tokens),
        sampling=Sampling(),
        rng=rng,
        max_tokens=max_tokens,
        eos_token_ids={EOS},
    )
    return [token.id for token in tokens]


def exact_mixture(stretch: float = 1.0) -> list[float]:
    """Solve for lambda by bisection on the formulas of the specification, in plain floats."""

    def excess(weight: float) -> float:
        mixed = [(1 - weight) * q + weight * p for q, p in zip(PUBLIC, PRIVATE, strict=True)]
        forward = math.fsum(m**2 / q for m, q in zip(mixed, PUBLIC, strict=True))
        reverse = math.fsum(q**2 / m for m, q in zip(mixed, PUBLIC, strict=True))
        return math.log(max(forward, reverse)) - SETTINGS.bound

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) <= 0 else (low, middle)
    weight = min(1.0, stretch * low)
    return [(1 - weight) * q + weight * p for q, p in zip(PUBLIC, PRIVATE, strict=True)]


def test_frequencies_of_real_runs_fit_the_exact_distribution_and_no_wider_lambda() -> None:
    rng = random.Random(11)
    runs = 1500
    pairs = list(itertools.product(range(4), repeat=2))
    counts = dict.fromkeys(pairs, 0)
    for _ in range(runs):
        first, second = run(rng)
        counts[TOKENS.index(first), TOKENS.index(second)] += 1

    def p_value(mixture: list[float]) -> float:
        expected = [runs * mixture[a] * mixture[b] for a, b in pairs]
        return float(scipy.stats.chisquare(list(counts.values()), expected).pvalue)

    assert p_value(exact_mixture()) > 0.01
    assert p_value(exact_mixture(stretch=1.5)) < 1e-4
    assert p_value(exact_mixture(stretch=0.5)) < 1e-4


def test_every_token_is_charged_before_it_is_seen() -> None:
    guard = protection(max_tokens=3)
    session = secretive_backend().open(PROMPTS)
    tokens = decode(
        session,
        PROMPTS[0],
        protection=guard,
        sampling=Sampling(),
        rng=random.Random(0),
        max_tokens=3,
    )
    for count, _ in enumerate(tokens, start=1):
        assert guard.accountant.guarantee(private=True).tokens == count
    assert guard.accountant.guarantee(private=True).tokens == 3


def test_end_of_sequence_ends_and_is_charged() -> None:
    assert run(random.Random(0), max_tokens=9, eos=1.0) == [EOS]


def test_diagnostics_of_each_token_hold_the_bound_and_do_not_show() -> None:
    tokens = list(
        decode(
            secretive_backend().open(PROMPTS),
            PROMPTS[0],
            protection=protection(),
            sampling=Sampling(),
            rng=random.Random(0),
            max_tokens=2,
        )
    )
    for token in tokens:
        assert token.diagnostics is not None
        assert token.diagnostics.divergences.tolist() == pytest.approx([SETTINGS.bound], rel=1e-6)
        assert token.diagnostics.lambdas.item() > 0.1
        assert "tensor" not in repr(token)


def test_public_request_is_plain_sampling_and_greedy_takes_the_largest() -> None:
    tokens = decode(
        secretive_backend().open(PROMPTS[:1]),
        PROMPTS[0],
        protection=None,
        sampling=Sampling(temperature=0.0),
        rng=random.Random(0),
        max_tokens=3,
    )
    assert [LETTERS[TOKENS.index(token.id)] for token in tokens] == ["a", "a", "a"]


def test_truncation_by_the_public_view_bounds_the_private_one_too() -> None:
    """With top_k=1 the public view keeps ``a`` alone; the private view's favourite must not come up."""
    tokens = decode(
        secretive_backend().open(PROMPTS),
        PROMPTS[0],
        protection=Protection(MixtureRule(2.0), FixedAccountant(PrivacyParameters(2.0, 50.0), 1, 20)),
        sampling=Sampling(top_k=1),
        rng=random.Random(0),
        max_tokens=20,
    )
    assert {token.id for token in tokens} == {TOKENS[0]}


def test_ample_bound_gives_the_private_model() -> None:
    log_q, log_p = (torch.tensor(row, dtype=torch.float64).log() for row in (PUBLIC, PRIVATE))
    fused = MixtureRule(2.0).fuse(log_q, log_p[None], torch.tensor([50.0], dtype=torch.float64))
    assert fused.log_probs.exp().tolist() == pytest.approx(PRIVATE)
