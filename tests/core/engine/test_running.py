"""Several requests together: each as if it were alone."""

import asyncio
import threading
from typing import Any

import pytest
import torch

from dpfusion_core import (
    BackendError,
    BudgetExhaustedError,
    FusionEngine,
    GenerationResult,
    Message,
    PrivacyBudget,
    PrivacyLedger,
    PrivacyParameterError,
    TransformersBackend,
    ViewError,
)
from tests.core.models import CharTokenizer, random_model
from tests.core.toys import private_chat, secretive_backend

TEXTS = ["ann has a cold", "bob", "the third one is much longer than the other ones", "x"]
CONVERSATIONS = [
    [Message("user", text, is_private=True, unit=f"doc-{i}"), Message("user", "what? " * i)]
    for i, text in enumerate(TEXTS)
]
OPTIONS: dict[str, Any] = {"alpha": 2.0, "beta": 0.05, "seed": 5}


def texts(results: list[Any]) -> list[str]:
    assert all(isinstance(result, GenerationResult) for result in results), results
    return [result.text for result in results]


@pytest.mark.parametrize("architecture", ["qwen2", "gpt2", "mamba"])
def test_a_batch_answers_as_its_requests_would_alone(architecture: str) -> None:
    engine = FusionEngine(TransformersBackend(random_model(architecture), CharTokenizer()))
    each: list[Any] = [{"max_tokens": n} for n in (12, 5, 9, 1)]  # they end one after the other
    together = engine.batch(CONVERSATIONS, each=each, **OPTIONS)
    alone = [engine.generate(c, **OPTIONS, **own) for c, own in zip(CONVERSATIONS, each, strict=True)]
    assert texts(together) == texts(list(alone))
    assert together == alone  # guarantees too


def test_a_token_of_a_batch_takes_one_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("qwen2")
    backend = TransformersBackend(model, CharTokenizer())
    rows: list[int] = []
    forward = backend.forward

    def counting(**inputs: Any) -> Any:
        rows.append(inputs["input_ids"].shape[0])
        return forward(**inputs)

    monkeypatch.setattr(backend, "forward", counting)
    FusionEngine(backend).batch(CONVERSATIONS, max_tokens=6, **OPTIONS)
    assert [n for n in rows if n > 1] == [
        8
    ] * 5  # four requests, two views each; the first token is the prompt's


def test_an_error_ends_the_batch_or_its_own_request_alone() -> None:
    budget = PrivacyBudget(8.0, 1e-5)
    options: dict[str, Any] = {"alpha": 4.0, "beta": 0.01, "max_tokens": 10}
    bad = [Message("user", "y", is_private=True, unit="poor")]
    with PrivacyLedger("sqlite://", budget=budget) as ledger:
        engine = FusionEngine(secretive_backend(), ledger=ledger)
        ledger.curator.open("poor", budget, order=4.0)
        ledger.curator.amend("poor", PrivacyBudget(3.2, 1e-5), "a test")
        conversations: list[list[Message]] = [CONVERSATIONS[0], bad, [], CONVERSATIONS[1]]
        found = engine.batch(conversations, return_exceptions=True, **options)
        assert [type(each) for each in found] == [
            GenerationResult,
            BudgetExhaustedError,
            ViewError,
            GenerationResult,
        ]
        assert ledger.account("doc-0").balances[0].spent == pytest.approx(0.4, abs=1e-10)
        with pytest.raises(ViewError):  # nothing has begun
            engine.batch(conversations, **options)
        with pytest.raises(BudgetExhaustedError, match="'poor'"):
            engine.batch([CONVERSATIONS[0], bad], **options)
        assert ledger.curator.verify().ok
    assert engine.backend.open_sessions == 0  # type: ignore[attr-defined]


def test_a_model_that_fails_on_one_request_frees_all() -> None:
    backend = secretive_backend()
    score = backend.score

    def failing(prompt: tuple[int, ...], said: tuple[int, ...]) -> torch.Tensor:
        if len(prompt) + len(said) > 120:
            raise BackendError("No.")
        return score(prompt, said)

    backend.score = failing  # type: ignore[method-assign]
    long = private_chat("z" * 100)
    found = FusionEngine(backend).batch(
        [private_chat(), long, private_chat()], alpha=2.0, beta=0.01, max_tokens=5, return_exceptions=True
    )
    assert [type(each) for each in found] == [GenerationResult, BackendError, GenerationResult]
    with pytest.raises(BackendError):
        FusionEngine(backend).batch([private_chat(), long], alpha=2.0, beta=0.01, max_tokens=5)
    assert backend.open_sessions == 0


def test_a_forward_pass_that_fails_fails_for_all_that_were_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may have changed some layers of their common cache and not others."""
    backend = TransformersBackend(random_model("qwen2"), CharTokenizer())
    forward, batches = backend.forward, []

    def failing_once(**inputs: Any) -> Any:
        output = forward(**inputs)
        if inputs["input_ids"].shape[0] > 2:
            batches.append(inputs)
            if len(batches) == 2:
                raise BackendError("Out of memory, say.")
        return output

    monkeypatch.setattr(backend, "forward", failing_once)
    found = FusionEngine(backend).batch(CONVERSATIONS, max_tokens=6, return_exceptions=True, **OPTIONS)
    assert [type(each) for each in found] == [BackendError] * 4


def test_options_of_each_must_be_as_many() -> None:
    with pytest.raises(PrivacyParameterError, match="2 conversations, got 1"):
        FusionEngine(secretive_backend()).batch([private_chat()] * 2, each=[{}], alpha=2.0, beta=0.1)
    assert FusionEngine(secretive_backend()).batch([]) == []


async def test_an_async_batch_does_the_same_and_can_be_cancelled() -> None:
    backend = secretive_backend()
    engine = FusionEngine(backend)
    options: dict[str, Any] = {"alpha": 2.0, "beta": 0.01, "max_tokens": 6, "seed": 3}
    assert await engine.abatch([private_chat()] * 3, **options) == engine.batch(
        [private_chat()] * 3, **options
    )
    begun = threading.Event()
    score = backend.score

    def slow(prompt: tuple[int, ...], said: tuple[int, ...]) -> torch.Tensor:
        begun.set()
        return score(prompt, said)

    backend.score = slow  # type: ignore[method-assign]
    task = asyncio.create_task(engine.abatch([private_chat()] * 3, **{**options, "max_tokens": 10_000}))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.open_sessions == 0
