"""Small models for tests: real architectures with random weights, and a tokenizer of characters."""

from typing import Any

import torch


class CharTokenizer:
    """One token per character of a small alphabet, with a chat template in Python."""

    alphabet = "\n abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:?!_<>|$-'"
    chat_template = "in Python"
    eos_token_id = len(alphabet)

    def apply_chat_template(
        self,
        conversation: Any,
        /,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Any = None,
        tokenize: bool = False,
        **options: Any,
    ) -> str:
        """Render ``<role>text`` lines."""
        lines = [f"<{message['role']}>{message['content']}" for message in conversation]
        if add_generation_prompt:
            lines.append("<assistant>")
        return "\n".join(lines)

    def __call__(self, text: Any, /, **options: Any) -> dict[str, list[int]]:
        """Map characters to their places in the alphabet; unknown ones to 0."""
        return {"input_ids": [max(self.alphabet.find(character), 0) for character in text]}

    def decode(self, token_ids: Any, /, **options: Any) -> str:
        """Map places in the alphabet to characters; the end token to nothing."""
        return "".join(self.alphabet[i] for i in token_ids if i < len(self.alphabet))


def random_model(architecture: str, vocab_size: int = 97, **overrides: Any) -> Any:
    """Return a tiny causal language model of a real architecture with random weights."""
    import transformers

    sizes: dict[str, Any] = {"vocab_size": vocab_size, "bos_token_id": None, "eos_token_id": None}
    if architecture == "gpt2":  # absolute positions
        config: Any = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, **sizes)
    elif architecture == "bloom":  # no position ids: ALiBi
        config = transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **sizes)
    elif architecture == "mamba":  # a recurrent state instead of keys and values
        config = transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, **sizes)
    else:
        sizes |= {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
        }
        config = {
            "llama": transformers.LlamaConfig,
            "mistral": transformers.MistralConfig,  # sliding window
            "gemma2": transformers.Gemma2Config,  # sliding window, capped attention scores
            "gemma3": transformers.Gemma3TextConfig,
            "phi": transformers.PhiConfig,
            "phi3": transformers.Phi3Config,
            "qwen2": transformers.Qwen2Config,
            "mixtral": transformers.MixtralConfig,  # mixtures of experts
            "qwen2_moe": transformers.Qwen2MoeConfig,
        }[architecture](**{**sizes, **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
    if architecture != "mamba":  # whose recurrence would blow up
        with torch.no_grad():  # random initialisation is too flat for a difference to show
            for parameter in model.parameters():
                parameter.mul_(3.0)
    return model.eval()
