"""The transformers backend: every row equals its own run alone, on every kind of cache."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpfusion_core import BackendError, TransformersBackend, ViewError
from dpfusion_core.tiny import model_path
from tests.core.models import CharTokenizer, random_model

ARCHITECTURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "rotary positions": ("qwen2", {}, "together"),
    "absolute positions": ("gpt2", {}, "together"),
    "grouped heads": ("llama", {}, "together"),
    "sliding window": ("mistral", {"sliding_window": 8}, "together"),
    "sliding and full layers": ("gemma3", {"sliding_window": 8, "head_dim": 8}, "together"),
    "no position ids": ("bloom", {}, "apart"),
    "recurrent state": ("mamba", {}, "apart"),
}


def prompts(seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)

    def some(count: int) -> list[int]:
        return torch.randint(0, 97, (count,), generator=generator).tolist()

    public = some(20)
    return [
        public,
        public[:7] + some(30) + public[8:],  # longer, leaves the public view early
        public[:15] + some(1),  # shorter, leaves it late
        list(public),  # the same
        some(1) + public,  # shares nothing
        public + some(5),  # goes on where the public view ends
        some(1),
    ]


def alone(model: Any, row: list[int]) -> torch.Tensor:
    device = next(model.parameters()).device
    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([row], device=device)).logits[0, -1].double(), dim=-1)


def assert_rows_equal_their_own_runs(model: Any, passes: str, tolerance: float = 1e-4) -> None:
    rows = prompts()
    backend = TransformersBackend(model, CharTokenizer())
    assert backend.passes == passes
    session = backend.open(rows)
    for token in (5, 11, 17, 3, 42, 8):
        log_probs = torch.log_softmax(session.logits().double(), dim=-1)
        for row, scores in zip(rows, log_probs, strict=True):
            assert (scores - alone(model, row)).abs().max() < tolerance
        session.append(token)
        rows = [[*row, token] for row in rows]


@pytest.mark.parametrize(("architecture", "options", "passes"), ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_each_row_equals_its_own_unbatched_run(
    architecture: str, options: dict[str, Any], passes: str
) -> None:
    assert_rows_equal_their_own_runs(random_model(architecture, **options), passes)


@pytest.mark.gpu
@pytest.mark.parametrize(("architecture", "options", "passes"), ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_each_row_equals_its_own_unbatched_run_on_cuda(
    architecture: str, options: dict[str, Any], passes: str
) -> None:
    assert_rows_equal_their_own_runs(random_model(architecture, **options).to("cuda"), passes)


def test_shared_prefix_is_read_once_and_only_the_last_logits_are_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = random_model("qwen2")
    read: list[tuple[int, ...]] = []
    kept: list[int] = []
    forward = model.forward

    def counting(**inputs: Any) -> Any:
        read.append(tuple(inputs["input_ids"].shape))
        output = forward(**inputs)
        kept.append(output.logits.shape[1])
        return output

    counting.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", counting)
    public = list(range(50))
    backend = TransformersBackend(model, CharTokenizer())
    read.clear()
    kept.clear()
    session = backend.open([public, public[:40] + [90] * 4, public])
    assert read == [(1, 50), (1, 4), (1, 1)]
    session.append(1)
    assert read[3:] == []  # a token that ends the response need not be read
    session.logits()
    assert read[3:] == [(3, 1)]
    assert kept == [1] * 4


def test_logits_are_idempotent_and_closing_frees() -> None:
    session = TransformersBackend(random_model("qwen2"), CharTokenizer()).open([[1, 2], [1, 3]])
    assert torch.equal(session.logits(), session.logits())
    session.close()
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.logits()
    with pytest.raises(BackendError, match="closed"):
        session.append(1)


def test_embedded_model_loads_by_name_path_and_ready() -> None:
    ready = TransformersBackend(
        AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32),
        AutoTokenizer.from_pretrained(model_path()),
    )
    prompt = [[10, 20, 30]]
    expected = ready.open(prompt).logits()
    for name, dtype in (("dpfusion-tiny", "auto"), (str(model_path()), torch.float32)):
        backend = TransformersBackend.from_pretrained(name, dtype=dtype)
        assert torch.allclose(backend.open(prompt).logits(), expected, atol=1e-5)
        assert backend.eos_token_ids == ready.eos_token_ids
        assert backend.vocab_size == expected.shape[1]


def test_checkpoint_saved_and_loaded_with_dtype(tmp_path: Path) -> None:
    random_model("gpt2").save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_path()).save_pretrained(tmp_path)
    backend = TransformersBackend.from_pretrained(str(tmp_path), dtype=torch.float64, device="cpu")
    assert backend.open([[1, 2]]).logits().dtype == torch.float64
    assert backend.context_length == 256
    assert "float64" in backend.fingerprint


def test_several_end_tokens() -> None:
    model = random_model("qwen2")
    model.generation_config.eos_token_id = [3, 4]
    assert TransformersBackend(model, CharTokenizer()).eos_token_ids == {3, 4, CharTokenizer.eos_token_id}


@pytest.mark.parametrize(
    ("rows", "hint"),
    [([], "at least one"), ([[1], []], "empty"), ([[1], [97]], "vocabulary"), ([[-1]], "vocabulary")],
)
def test_prompts_that_do_not_fit(rows: list[list[int]], hint: str) -> None:
    with pytest.raises(BackendError, match=hint):
        TransformersBackend(random_model("qwen2"), CharTokenizer()).open(rows)


def test_what_is_not_a_causal_model_is_refused() -> None:
    with pytest.raises(BackendError, match="causal"):
        TransformersBackend(object(), CharTokenizer())
    with pytest.raises(ViewError, match="tokenizer"):
        TransformersBackend(random_model("qwen2"), None)  # type: ignore[arg-type]


def test_model_that_cannot_be_loaded_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="Check the name"):
        TransformersBackend.from_pretrained(str(tmp_path))
    with pytest.raises(BackendError, match="not both"):
        TransformersBackend.from_pretrained("dpfusion-tiny", device="cpu", device_map="auto")


def test_failing_model_is_reported_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("qwen2")

    def failing(**inputs: Any) -> Any:
        raise RuntimeError("secret 12345")

    failing.__signature__ = inspect.signature(model.forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", failing)
    with pytest.raises(BackendError, match="RuntimeError") as caught:
        TransformersBackend(model, CharTokenizer()).open([[1]])
    assert "12345" not in str(caught.value)
    assert caught.value.__context__ is None
