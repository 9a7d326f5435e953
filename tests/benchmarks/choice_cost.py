"""What a choice costs beside the forward passes that it cannot do without.

Those are one pass over each view's prompt, a private one from where it leaves the public one, and one pass over each
view's batch of choices. Run with ``python tests/benchmarks/choice_cost.py``.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config
from transformers.cache_utils import DynamicCache

from dpfusion_core import FusionEngine, Message, TransformersBackend
from dpfusion_core.choices import write_choices
from dpfusion_core.placeholders import fixed_placeholder
from dpfusion_core.tiny import model_path
from dpfusion_core.views import Views, build_views

REPEATS = 15
CHOICES = ("asthma", "gout", "lupus", "anaemia", "measles")
WORDS = "The patient came in May and was seen by the doctor on duty. "


def cost_of_a_choice(console: Console) -> None:
    """Print the median times of a choice and of its forward passes, and their ratio."""
    torch.set_num_threads(1)
    tokenizer: Any = AutoTokenizer.from_pretrained(model_path())
    wide = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=512, intermediate_size=1408, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=2,
    )  # fmt: skip
    models: dict[str, Any] = {
        "dpfusion-tiny": AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32),
        "random Qwen2, 8 layers of 512": AutoModelForCausalLM.from_config(wide),
    }
    table = Table(
        "model", "prompt", "units", "passes, ms", "choice, ms", "ratio", title="One of five, 1 core"
    )
    for name, model in models.items():
        backend = TransformersBackend(model.eval(), tokenizer)
        engine = FusionEngine(backend)
        for units in (1, 4):
            messages = [
                *(Message("user", WORDS * 4 + f"It was {i}.", True, f"u{i}") for i in range(units)),
                Message("user", WORDS * 4 + "What is the diagnosis?"),
            ]
            views = build_views(messages, tokenizer, fixed_placeholder())
            choice = partial(engine.choose, messages, CHOICES, epsilon=2.0)
            passes, whole = _medians(_passes(model, backend, views), choice)
            shown = f"{1e3 * passes:.1f}", f"{1e3 * whole:.1f}", f"{whole / passes:.2f}"
            table.add_row(name, str(len(views.public)), str(units), *shown)
    console.print(table)


def _passes(model: Any, backend: TransformersBackend, views: Views) -> Callable[[], None]:
    """Return what runs the bare passes of a choice, and nothing else."""
    ids = write_choices(CHOICES, backend.tokenizer, views.public, backend.eos_token_ids).plain
    length = max(map(len, ids))
    batch = torch.tensor([[*each, *[each[-1]] * (length - len(each))] for each in ids])
    shared = [
        next(i for i, (a, b) in enumerate(zip(views.public, each, strict=False)) if a != b)
        for each in views.private.values()
    ]

    @torch.inference_mode()
    def run() -> None:
        public = model(torch.tensor([views.public]), use_cache=True, logits_to_keep=1).past_key_values
        rows = [(public, 0)]
        for each, begin in zip(views.private.values(), shared, strict=True):
            cache = DynamicCache()
            for number, layer in enumerate(public.layers):
                cache.update(layer.keys[:, :, :begin], layer.values[:, :, :begin], number)
            model(torch.tensor([each[begin:]]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            rows.append((cache, begin))
        for cache, _ in rows:
            cache.batch_repeat_interleave(len(CHOICES))
            model(batch, past_key_values=cache, use_cache=True)

    return run


def _medians(*runs: Callable[[], object]) -> list[float]:
    """Return the median times of several runs, which take turns, so that a busy moment is every one's."""
    times: list[list[float]] = [[] for _ in runs]
    for repeat in range(REPEATS + 2):
        for run, found in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if repeat >= 2:
                found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


if __name__ == "__main__":
    cost_of_a_choice(Console(width=110))
