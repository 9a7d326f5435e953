"""The network of the demonstration model and its initialisation."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

ROPE_THETA = 1e6
# Heads of the first layer: how many tokens each looks back, and which projection of that token it passes on.
_LOOK_BACK = ((1, 0), (2, 1), (1, 1), (3, 2), (2, 2))


def build_config(vocab_size: int, eos: int, pad: int, width: int = 160, layers: int = 5) -> LlamaConfig:
    """Describe the network.

    Args:
        vocab_size: Size of the vocabulary.
        eos: Id of the token that ends a message.
        pad: Id of the padding token.
        width: Size of the residual stream; a multiple of 32.
        layers: Number of layers.

    Returns:
        The configuration.
    """
    return LlamaConfig(
        vocab_size=vocab_size, hidden_size=width, intermediate_size=int(width * 2.6) // 32 * 32,
        num_hidden_layers=layers, num_attention_heads=width // 32, num_key_value_heads=width // 32,
        max_position_embeddings=2048, tie_word_embeddings=True, attention_bias=True, bos_token_id=None,
        eos_token_id=eos, pad_token_id=pad,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
    )  # fmt: skip


def _orthogonal(size: int, generator: torch.Generator) -> Tensor:
    basis: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    return basis


@torch.no_grad()
def initialise(model: LlamaForCausalLM, seed: int) -> None:
    """Initialise the weights with a circuit that continues repeated text.

    In the first layer, heads look one to three tokens back, set through the
    biases of queries and keys under the rotary embedding.  In the second,
    heads match the last tokens with what came before each earlier position,
    and pass on the token found there.  All of it stays trainable; without it
    a small network takes very long to find how to copy.

    Args:
        model: The model to initialise.
        seed: Seed of the random weights.
    """
    g = torch.Generator().manual_seed(seed)
    config = model.config
    d, layers = config.hidden_size, config.num_hidden_layers
    for name, p in model.named_parameters():
        if "embed" in name:
            p.copy_(torch.randn(p.shape, generator=g) * d**-0.5)
        elif p.ndim == 2:
            scale = 0.3 if "o_proj" in name else 0.2 if "down_proj" in name else 1.0
            p.copy_(
                torch.randn(p.shape, generator=g)
                * scale
                * p.shape[1] ** -0.5
                * (1 if scale == 1 else 1.5 / (2 * layers) ** 0.5)
            )
        elif "bias" in name:
            p.zero_()
    _plant_circuit(model, g)


def _plant_circuit(model: LlamaForCausalLM, g: torch.Generator) -> None:
    config = model.config
    d, heads = config.hidden_size, config.num_attention_heads
    hd, half = d // heads, d // heads // 2
    turns = ROPE_THETA ** (-torch.arange(half) / half)
    slow = [i for i in range(half) if turns[i] < 1.5e-3]
    dims = slow + [i + half for i in slow]
    n, fast, strength = len(dims), 5, 7.0
    projections = [_orthogonal(d, g)[:n] for _ in range(3)]
    basis = _orthogonal(d, g)
    look = model.model.layers[0].self_attn
    spaces: list[Tensor] = []
    for h, (back, which) in enumerate(_LOOK_BACK):
        rows, angle = slice(h * hd, (h + 1) * hd), turns[:fast] * back
        look.k_proj.bias[h * hd : h * hd + fast] = strength
        look.q_proj.bias[h * hd : h * hd + fast] = strength * torch.cos(angle)
        look.q_proj.bias[h * hd + half : h * hd + half + fast] = -strength * torch.sin(angle)
        look.q_proj.weight[rows] *= 0.05
        look.k_proj.weight[rows] *= 0.05
        look.v_proj.weight[rows] = 0
        look.v_proj.weight[h * hd : h * hd + n] = projections[which]
        space = basis[:, h * n : (h + 1) * n]
        look.o_proj.weight[:, rows] = 0
        look.o_proj.weight[:, h * hd : h * hd + n] = space * (0.7 / n**0.5)
        spaces.append(space)
    match = model.model.layers[1].self_attn
    out = _orthogonal(d, g)
    for h in range(heads - 1):
        rows = slice(h * hd, (h + 1) * hd)
        query, key = torch.zeros(hd, d), torch.zeros(hd, d)
        query[dims] = 2.2 * (projections[0] + 0.7 * spaces[2].T + 0.5 * spaces[4].T)
        key[dims] = 2.2 * (spaces[0].T + 0.7 * spaces[1].T + 0.5 * spaces[3].T)
        match.q_proj.weight[rows] = query + 0.1 * torch.randn(hd, d, generator=g) * d**-0.5
        match.k_proj.weight[rows] = key + 0.1 * torch.randn(hd, d, generator=g) * d**-0.5
        match.v_proj.weight[rows] = out[rows]
        match.o_proj.weight[:, rows] = out[rows].T * 0.8


def build_model(config: LlamaConfig, seed: int) -> LlamaForCausalLM:
    """Build and initialise the model.

    Args:
        config: Its configuration.
        seed: Seed of the random weights.

    Returns:
        The model in single precision.
    """
    model: LlamaForCausalLM = LlamaForCausalLM(config)
    initialise(model, seed)
    return model
