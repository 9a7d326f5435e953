"""Rows do not touch: a row has equal bits whatever stands in the others, lengths included."""

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from dpfusion_core import BackendError, FusionEngine, Message, TransformersBackend
from dpfusion_core.backends import probe as probing
from tests.core.models import CharTokenizer, random_model

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 160}
JOINING: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", SIZES),
    "llama": ("llama", SIZES),
    "gpt2": ("gpt2", {}),
    "phi": ("phi", SIZES),
    "mistral": ("mistral", SIZES | {"sliding_window": 16}),
    "gemma2": ("gemma2", SIZES | {"sliding_window": 16, "head_dim": 16, "attn_implementation": "eager"}),
    "gemma3": ("gemma3", SIZES | {"sliding_window": 16, "head_dim": 16}),
}
DTYPES = [torch.float32, torch.bfloat16]

SECRETS = [
    "ann has a cold",
    "",  # nothing
    "____",  # begins, and ends, as the placeholder
    "____ and more",
    "a much longer text, with many words, that goes on for more than a window of attention. " * 2,
    "x",
    "Ann has a cold",
]


def quantized(model: Any) -> Any:
    """Return the model with int8 products whose scale is the whole batch's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather sell another package
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


class Padding(transformers.Qwen2ForCausalLM):
    """A model in which rows touch by their lengths alone, as where they are padded."""

    def forward(self, input_ids: Any, position_ids: Any, past_key_values: Any, **options: Any) -> Any:
        """Scale by the longest row."""
        output = super().forward(input_ids, None, position_ids, past_key_values, **options)
        output.logits = output.logits * (1.0 + 1e-5 * position_ids.max())
        return output


def mixing() -> Any:
    """Return a model in which rows touch by what stands in them."""
    model = random_model("qwen2")
    model.lm_head.register_forward_hook(lambda m, i, out: out + 1e-4 * out.mean(dim=0, keepdim=True))
    return model


def padding() -> Any:
    """Return a random :class:`Padding`."""
    model = Padding(random_model("qwen2").config)
    return model.eval()


def long_rotation() -> Any:
    """Return a model whose rotation is another for the whole batch once one row is long."""
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_type": "longrope"}
    rope = {**factors, "rope_theta": 10000.0}
    return random_model("phi3", rope_parameters=rope, pad_token_id=0, original_max_position_embeddings=100)


TOUCHING: dict[str, Callable[[], Any]] = {
    "dynamic int8": lambda: quantized(random_model("qwen2", **SIZES)),
    "mixtral": lambda: random_model("mixtral", **SIZES, num_local_experts=4),
    "qwen2_moe": lambda: random_model("qwen2_moe", **SIZES, num_experts=8, num_experts_per_tok=2),
    "mean of the batch": mixing,
    "longest row": padding,
    "rotation by the longest row": long_rotation,
}


def conversation(secret: str, unit: str = "a") -> list[Message]:
    """Return a conversation with one private text."""
    return [Message("user", secret, is_private=True, unit=unit), Message("user", "What is it?")]


def rows_of(backend: TransformersBackend, secrets: list[str], steps: int = 5) -> list[torch.Tensor]:
    """Return each view's logits over some tokens, ``[steps, vocab]``; the first is the public view."""
    ids = [
        CharTokenizer()(f"<user>{text}\nWhat is it?<assistant>")["input_ids"] for text in ["____", *secrets]
    ]
    session = backend.open(ids)
    found = []
    for token in range(steps):
        session.append(token)
        found.append(session.logits())
    session.close()
    return list(torch.stack(found, dim=1))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Return what will hold every distribution that a token is drawn from."""
    from dpfusion_core import decoding, sampling

    seen: list[torch.Tensor] = []
    draw = sampling.draw

    def recording(log_probs: torch.Tensor, rng: Any) -> int:
        seen.append(log_probs.clone())
        return draw(log_probs, rng)

    monkeypatch.setattr(decoding, "draw", recording)
    return seen


def assert_public_rows_are_one(backend: TransformersBackend) -> None:
    found = [rows_of(backend, [secret])[0] for secret in SECRETS]
    assert all(torch.equal(each, found[0]) for each in found)
    # A private row beside another one; the same for the public one beside two.
    found = [torch.stack(rows_of(backend, [SECRETS[0], secret])[:2]) for secret in SECRETS]
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("architecture", "options"), JOINING.values(), ids=JOINING)
def test_a_row_has_equal_bits_beside_any_others(
    architecture: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    backend = TransformersBackend(random_model(architecture, **options).to(dtype), CharTokenizer())
    assert backend.passes == "together"
    assert "views together" in backend.fingerprint
    assert_public_rows_are_one(backend)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_with_beta_0_no_bit_of_the_output_tells_of_the_private_text(
    dtype: torch.dtype, drawn: list[torch.Tensor]
) -> None:
    engine = FusionEngine(TransformersBackend(random_model("qwen2", **SIZES).to(dtype), CharTokenizer()))
    options: dict[str, Any] = {"alpha": 20.0, "beta": 0.0, "max_tokens": 6, "seed": 1}
    found = []
    for secret in [*SECRETS[2:], "y"]:
        drawn.clear()
        engine.generate(conversation(secret), **options)
        found.append(torch.stack(drawn))
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_other_conversations_of_a_batch_do_not_show(dtype: torch.dtype, drawn: list[torch.Tensor]) -> None:
    """Neither in the public nor in the private distributions: both are in the fused ones."""
    engine = FusionEngine(TransformersBackend(random_model("qwen2", **SIZES).to(dtype), CharTokenizer()))
    each: list[Any] = [{"beta": 0.0}, {"beta": 0.5, "alpha": 2.0, "max_tokens": 9}]
    found = []
    for secret in SECRETS[2:]:
        drawn.clear()
        engine.batch(
            [conversation(secret), conversation("bob is ill", "b")],
            each=[{"alpha": 20.0, "max_tokens": 6, "seed": 1, **own} for own in each],  # type: ignore[typeddict-item]
        )
        found.append(torch.stack(drawn))
    assert found[0].shape[0] == 15
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize("make", TOUCHING.values(), ids=TOUCHING)
def test_a_model_whose_rows_touch_gets_a_pass_for_each_view(
    make: Callable[[], Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make()
    backend = TransformersBackend(model, CharTokenizer())
    assert backend.passes == "apart"
    assert "views apart" in backend.fingerprint
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
    assert "slower" in caplog.text
    assert_public_rows_are_one(backend)
    # The same in passes together: what the probe must see is there to be seen.
    monkeypatch.setattr(probing, "_are_apart", lambda backend: True)
    deceived = TransformersBackend(model, CharTokenizer())
    assert deceived.passes == "together"
    with pytest.raises(AssertionError):
        assert_public_rows_are_one(deceived)


def test_views_can_be_kept_in_passes_of_their_own() -> None:
    backend = TransformersBackend(random_model("qwen2"), CharTokenizer(), separate_views=True)
    assert backend.passes == "apart"
    assert_public_rows_are_one(backend)
    assert TransformersBackend.from_pretrained("dpfusion-tiny", separate_views=True).passes == "apart"


@pytest.mark.parametrize("smallest", [1, 3], ids=["any pass", "passes of choices"])
def test_a_model_that_does_not_repeat_its_numbers_gets_no_private_text(smallest: int) -> None:
    model = random_model("qwen2")
    calls: list[int] = []

    def drift(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return output * (1.0 + 1e-5 * len(calls)) if output.shape[0] >= smallest else output

    model.lm_head.register_forward_hook(drift)
    backend = TransformersBackend(model, CharTokenizer())
    assert backend.passes == "unsafe"
    with pytest.raises(BackendError, match="read before"):
        backend.open([[1, 2], [1, 3]])
    assert backend.open([[1, 2]]).logits().shape == (1, 97)


def test_a_model_that_is_changed_is_probed_again() -> None:
    model = random_model("qwen2")
    backend = TransformersBackend(model, CharTokenizer())
    read: list[Any] = []
    model.register_forward_pre_hook(lambda module, arguments: read.append(1))
    _ = backend.passes
    assert not read
    model.to(torch.bfloat16)
    assert backend.passes == "together"
    assert read
    assert "bfloat16" in backend.fingerprint


def test_the_models_own_attention_is_left_as_it_was() -> None:
    model = random_model("qwen2")
    before = model.config._attn_implementation
    backend = TransformersBackend(model, CharTokenizer())
    prompt = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        expected = model(prompt).logits
    rows_of(backend, SECRETS[:2])
    with torch.no_grad():
        assert torch.equal(model(prompt).logits, expected)
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("architecture", ["mixtral", "qwen2_moe"])
def test_mixtures_of_experts_never_share_passes(architecture: str) -> None:
    """In bfloat16 rounding may hide that the shapes of their products depend on what stands in the rows."""
    model = random_model(architecture, **SIZES, num_experts_per_tok=2).to(torch.bfloat16)
    assert TransformersBackend(model, CharTokenizer()).passes == "apart"


def test_threads_with_backends_of_their_own_may_share_a_model() -> None:
    model = random_model("qwen2")
    backends = [TransformersBackend(model, CharTokenizer()) for _ in range(3)]
    expected = torch.stack(rows_of(backends[0], SECRETS[:3], steps=20))
    found: list[torch.Tensor] = []

    def ask(backend: TransformersBackend) -> None:
        for _ in range(3):
            found.append(torch.stack(rows_of(backend, SECRETS[:3], steps=20)))

    threads = [threading.Thread(target=ask, args=(backend,)) for backend in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 9
    assert all(torch.equal(each, expected) for each in found)


def test_rows_beyond_a_pass_go_in_groups_of_public_size(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = TransformersBackend(random_model("qwen2"), CharTokenizer())
    secrets = [f"number {i} {'x' * i}" for i in range(70)]
    sizes: list[int] = []
    forward = backend.forward

    def counting(**inputs: Any) -> Any:
        sizes.append(inputs["input_ids"].shape[0])
        return forward(**inputs)

    monkeypatch.setattr(backend, "forward", counting)
    found = rows_of(backend, secrets, steps=2)
    assert sizes[71:] == [32, 32, 7] * 2
    assert torch.equal(found[0], rows_of(backend, [*secrets[1:], "another"], steps=2)[0])
    for i in (1, 33, 70):
        alone = rows_of(backend, secrets[i - 1 : i], steps=2)[1]
        assert torch.allclose(found[i], alone, atol=1e-4)
