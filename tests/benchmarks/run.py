"""Benchmarks: the fusion of one token, fused decoding beside plain ``generate``, the ledger, and what a
budget buys.

Every figure is a median and stands beside something measured in the same run, because times on
another machine are other times. Run with ``make bench``, or some of them:
``make bench BENCH_ARGS="fusion ledger"``.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config
from transformers.utils import logging

from dpfusion_core import FusionEngine, Message, TransformersBackend
from dpfusion_core.privacy import MixtureRule
from dpfusion_core.tiny import model_path
from dpfusion_core.views import Views

VOCABULARY = 151_936
PROMPT, TOKENS = 256, 16


def median_ms(run: Callable[[], object], repeats: int = 31) -> float:
    """Return the median time of a call in milliseconds, after a warm-up."""
    run()
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def fusion_of_one_token(console: Console) -> None:
    """Time ``MixtureRule.fuse`` on one core, beside the log-softmax of the same rows."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    table = Table(
        "views",
        "units",
        "alpha",
        "ms",
        "times log-softmax",
        title=f"Fusion of one token, V={VOCABULARY:,}, 1 core",
    )
    logits = 3.0 * torch.randn(VOCABULARY, dtype=torch.float64, generator=generator)
    log_q = torch.log_softmax(logits, dim=-1)

    def private(kind: str, units: int) -> torch.Tensor:
        if kind == "the same":
            return log_q.expand(units, -1).clone()
        noise = torch.randn(units, VOCABULARY, dtype=torch.float64, generator=generator)
        rows = logits + (0.5 if kind == "all tokens differ" else 1e-3) * noise
        if kind == "one secret token":
            rows[:, 7] = logits.max() + 12.0
        return torch.log_softmax(rows, dim=-1)

    for kind in ("the same", "one secret token", "all tokens differ"):
        for units, alpha in ((1, 2.0), (1, 8.0), (4, 2.0)):
            log_p = private(kind, units)
            bounds = torch.full((units,), 0.01 * alpha, dtype=torch.float64)
            rule = MixtureRule(alpha)

            def fuse(
                rule: MixtureRule = rule, log_p: torch.Tensor = log_p, bounds: torch.Tensor = bounds
            ) -> object:
                return rule.fuse(log_q, log_p, bounds)

            taken = median_ms(fuse)
            rows = torch.cat([log_q[None], log_p])
            plain = median_ms(lambda rows=rows: torch.log_softmax(rows, dim=-1))  # type: ignore[misc]
            table.add_row(kind, str(units), f"{alpha:g}", f"{taken:.1f}", f"{taken / plain:.0f}")
    console.print(table)


def decoding_beside_generate(console: Console) -> None:
    """Time fused decoding beside ``generate`` of the same model with as many rows."""
    logging.disable_progress_bar()
    torch.set_num_threads(os.cpu_count() or 1)
    table = Table(
        "model",
        "rows",
        "generate, ms/token",
        "dpfusion, ms/token",
        "ratio",
        title="Decoding beside plain generate",
    )
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    torch.manual_seed(0)
    wide = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    models: dict[str, Any] = {
        "dpfusion-tiny": AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32),
        f"random Qwen2, V={VOCABULARY:,}": AutoModelForCausalLM.from_config(wide),
    }
    for name, model in models.items():
        model.eval()
        backend = TransformersBackend(model, tokenizer)
        model.generation_config.eos_token_id = None
        backend.__dict__["eos_token_ids"] = frozenset()  # both must run to the last token
        engine = FusionEngine(backend)
        for units in (1, 4):
            prompts = torch.randint(5, 1000, (units + 1, PROMPT))
            prompts[1:, : PROMPT // 2] = prompts[0, : PROMPT // 2]
            public, *private = (tuple(row.tolist()) for row in prompts)
            views = Views(public, {str(unit): ids for unit, ids in enumerate(private)})

            def fused(views: Views = views, engine: FusionEngine = engine) -> object:
                return engine.generate(views, alpha=2.0, beta=0.01, max_tokens=TOKENS)

            def plain(prompts: torch.Tensor = prompts, model: Any = model) -> object:
                mask = torch.ones_like(prompts)
                return model.generate(
                    prompts, attention_mask=mask, max_new_tokens=TOKENS, do_sample=True, pad_token_id=0
                )

            theirs, ours = (median_ms(call, repeats=3) / TOKENS for call in (plain, fused))
            table.add_row(name, str(units + 1), f"{theirs:.1f}", f"{ours:.1f}", f"{ours / theirs:.2f}")
    console.print(table)


def batch_beside_one_by_one(console: Console) -> None:
    """Time a batch of conversations beside the same ones after each other."""
    table = Table(
        "conversations", "one by one, s", "batch, s", "ratio", title="Batches of private conversations"
    )
    torch.set_num_threads(os.cpu_count() or 1)
    engine = FusionEngine(TransformersBackend.from_pretrained("dpfusion-tiny"))
    engine.backend.__dict__["eos_token_ids"] = frozenset()
    for size in (1, 4, 16):
        conversations = [
            [Message("user", f"Patient {i} lives in Oslo.", is_private=True), Message("user", "Where?")]
            for i in range(size)
        ]

        def alone(conversations: list[list[Message]] = conversations) -> object:
            return [engine.generate(c, alpha=2.0, beta=0.01, max_tokens=TOKENS) for c in conversations]

        def together(conversations: list[list[Message]] = conversations) -> object:
            return engine.batch(conversations, alpha=2.0, beta=0.01, max_tokens=TOKENS)

        theirs, ours = (median_ms(call, repeats=3) / 1e3 for call in (alone, together))
        table.add_row(str(size), f"{theirs:.2f}", f"{ours:.2f}", f"{ours / theirs:.2f}")
    console.print(table)


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.benchmarks import accuracy, facts, ledger, overhead, units, utility

    benchmarks = {
        "fusion": fusion_of_one_token,
        "decoding": decoding_beside_generate,
        "batch": batch_beside_one_by_one,
        "ledger": ledger.reserve_and_settle,
        "overhead": overhead.translation,
        "accuracy": accuracy.print_all,
        "facts": facts.facts_of_documents,
        "utility": utility.print_all,
        "units": units.print_all,
    }
    unknown = set(names) - benchmarks.keys()
    if unknown:
        raise SystemExit(f"Unknown benchmark {sorted(unknown)[0]!r}: choose from {', '.join(benchmarks)}.")
    for name, run in benchmarks.items():
        if not names or name in names:
            run(Console(width=130))


if __name__ == "__main__":
    main(sys.argv[1:])
