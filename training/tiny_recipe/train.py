"""Train the demonstration model from nothing.

``python -m tiny_recipe.train --minutes 100 --out DIR`` makes the
tokenizer, trains the model and measures it.  If ``DIR`` holds a run or a copy
of the shipped checkpoint, the training goes on from there.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tiny_recipe.batches import batches
from tiny_recipe.network import build_config, build_model
from tiny_recipe.optim import Muon
from tiny_recipe.tokenizer import build_tokenizer

log = logging.getLogger("dpfusion.demo.train")


@dataclass
class Settings:
    """Settings of a training run."""

    minutes: float = 100.0
    out: str = "dpfusion-tiny"
    seed: int = 7
    width: int = 160
    layers: int = 5
    vocab: int = 2048
    batch: int = 4096
    lr: float = 3e-3
    matrix_lr: float = 0.015
    warmup: int = 60
    decay: float = 0.8
    curriculum: float = 6.0
    save_every: float = 8.0
    threads: int = 2
    bf16: bool = False
    evaluate: int = 300


class Trainer:
    """A training run that can be resumed."""

    def __init__(self, settings: Settings) -> None:
        """Build or resume the model, its tokenizer and the optimisers.

        Args:
            settings: The settings.
        """
        self.s = settings
        self.out = Path(settings.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_num_threads(settings.threads)
        if (self.out / "tokenizer.json").exists():
            self.tokenizer = PreTrainedTokenizerFast.from_pretrained(self.out)
        else:
            self.tokenizer = build_tokenizer(vocab_size=settings.vocab)
            self.tokenizer.save_pretrained(self.out)
        size = -(-len(self.tokenizer) // 64) * 64
        config = build_config(
            size, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id, settings.width, settings.layers
        )
        network: Any = build_model(config, settings.seed)
        self.model = network.to(self.device).train()
        matrices = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in n]
        chosen = {id(p) for p in matrices}
        self.others = [p for p in self.model.parameters() if id(p) not in chosen]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(self.others, lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0),
            Muon(matrices, lr=settings.matrix_lr),
        ]
        self.rates = (settings.lr, settings.matrix_lr)
        self.steps, self.tokens, self.seconds = 0, 0, 0.0
        state_file = self.out / "state.pt"
        if state_file.exists():
            state = torch.load(state_file, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.steps, self.tokens, self.seconds = state["steps"], state["tokens"], state["seconds"]
            log.info("resumed after %d steps, %.1f minutes", self.steps, self.seconds / 60)
        elif (self.out / "model.safetensors").exists():  # a shipped checkpoint: weights, no optimiser state
            weights: Any = LlamaForCausalLM.from_pretrained(self.out, dtype=torch.float32)
            self.model.load_state_dict(weights.state_dict())
            facts = json.loads((self.out / "training.json").read_text(encoding="utf-8"))
            self.steps, self.tokens, self.seconds = facts["steps"], facts["tokens"], 60.0 * facts["minutes"]
            log.info("went on from weights of %d steps, %.1f minutes", self.steps, self.seconds / 60)

    def _loss(self, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.model.model(input_ids=ids).last_hidden_state
        chosen = weights[:, 1:] > 0
        logits = F.linear(hidden[:, :-1][chosen], self.model.lm_head.weight)
        each = F.cross_entropy(logits.float(), ids[:, 1:][chosen], reduction="none")
        w = weights[:, 1:][chosen]
        first = w > 2
        return (each * w).sum() / w.sum(), each[first].mean(), each[w < 1].mean()

    def save(self) -> None:
        """Save the weights in bfloat16, and all that is needed to resume."""
        model = copy.deepcopy(self.model).to("cpu", torch.bfloat16)
        model.generation_config.eos_token_id = [self.tokenizer.eos_token_id, self.tokenizer.pad_token_id]
        model.generation_config.pad_token_id = self.tokenizer.pad_token_id
        model.save_pretrained(self.out)
        state = {
            "model": self.model.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers],
            "steps": self.steps, "tokens": self.tokens, "seconds": self.seconds,
        }  # fmt: skip
        torch.save(state, self.out / "state.tmp")
        (self.out / "state.tmp").replace(self.out / "state.pt")
        facts = {"steps": self.steps, "tokens": self.tokens, "minutes": round(self.seconds / 60, 1)}
        (self.out / "training.json").write_text(
            json.dumps(
                {**facts, "settings": {k: v for k, v in asdict(self.s).items() if k != "out"}}, indent=1
            )
            + "\n"
        )

    def rate(self, share: float) -> float:
        """Return the factor of the learning rates: warm-up, level, linear decay."""
        warm = min(1.0, (self.steps + 1) / self.s.warmup)
        return warm * min(1.0, max(0.01, (1 - share) / self.s.decay))

    def run(self) -> None:
        """Train for the given minutes, in addition to what was resumed."""
        before, start = self.seconds, time.monotonic()
        total = self.s.minutes * 60

        def curriculum() -> float:
            return min(1.0, self.seconds / (60 * self.s.curriculum))

        stream = batches(self.tokenizer.backend_tokenizer, int(self.tokenizer.pad_token_id), self.s.seed + self.steps,
                         self.s.batch, curriculum)  # fmt: skip
        sums, last_log, last_save = torch.zeros(4), 0.0, 0.0
        while (gone := time.monotonic() - start) < total:
            self.seconds = before + gone
            ids, weights = (x.to(self.device) for x in next(stream))
            factor = self.rate(gone / total)
            for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate * factor
            with torch.autocast(self.device, torch.bfloat16, enabled=self.s.bf16):
                loss, first, frame = self._loss(ids, weights)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.others, 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            self.steps += 1
            self.tokens += int((ids != self.tokenizer.pad_token_id).sum())
            sums += torch.tensor([loss.item(), first.item(), frame.item(), 1.0])
            if gone - last_log > 30:
                mean = (sums / sums[3]).tolist()
                log.info("%.1f min, step %d, %.2f Mtok, loss %.3f, first %.3f, frame %.3f, rate %.2f",
                         self.seconds / 60, self.steps, self.tokens / 1e6, *mean[:3], factor)  # fmt: skip
                sums, last_log = torch.zeros(4), gone
            if gone - last_save > 60 * self.s.save_every:
                self.save()
                last_save = gone
        self.seconds = before + time.monotonic() - start
        self.save()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the recipe from the command line."""
    parser = argparse.ArgumentParser(description="Train the demonstration model from nothing.")
    for name, value in asdict(Settings()).items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(value), default=value)
    settings = Settings(**vars(parser.parse_args(arguments)))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    Trainer(settings).run()
    if settings.evaluate:
        from tiny_recipe import evaluate

        evaluate.main(["--model", settings.out, "--n", str(settings.evaluate)])


if __name__ == "__main__":
    main()
