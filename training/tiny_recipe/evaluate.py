"""Measure a model on the demonstration tasks, by free generation.

``python -m tiny_recipe.evaluate --model DIR --n 300`` prints a table
and writes ``eval.json`` into the folder of the model.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpfusion_core.tiny import model_path
from tiny_recipe import held_out
from tiny_recipe.evaluate_requests import measure_requests
from tiny_recipe.held_out import Probe

HANDWRITTEN = Path(__file__).with_name("handwritten.jsonl")
SEED = 20_000


@dataclass
class Score:
    """Successes and trials, overall and by field."""

    hits: float = 0.0
    trials: float = 0.0
    fields: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))

    def add(self, hits: float, trials: float = 1.0, name: str = "") -> None:
        """Count some trials."""
        self.hits += hits
        self.trials += trials
        if name:
            self.fields[name][0] += hits
            self.fields[name][1] += trials

    def summary(self) -> dict[str, Any]:
        """Return the rate, the number of trials and the rate of each field."""
        out: dict[str, Any] = {"rate": round(self.hits / max(self.trials, 1), 4), "n": int(self.trials)}
        if self.fields:
            out["fields"] = {k: round(a / b, 4) for k, (a, b) in self.fields.items()}
        return out


class Generator:
    """Greedy generation in batches with padding on the left."""

    def __init__(self, model: str | Path, batch: int = 50) -> None:
        """Load a model.

        Args:
            model: Folder of the checkpoint.
            batch: How many prompts are answered at a time.
        """
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.model = network.to(self.device).eval()
        self.batch = batch

    @torch.no_grad()
    def __call__(self, chats: Sequence[Sequence[dict[str, str]]], most: int = 60) -> list[str]:
        """Answer conversations.

        Args:
            chats: The messages of each.
            most: At most how many tokens an answer has.

        Returns:
            The answers, without special tokens.
        """
        prompts = [
            self.tokenizer.apply_chat_template(list(c), tokenize=False, add_generation_prompt=True)
            for c in chats
        ]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers = [""] * len(prompts)
        for start in range(0, len(order), self.batch):
            chunk = order[start : start + self.batch]
            inputs = self.tokenizer(
                [prompts[i] for i in chunk], return_tensors="pt", padding=True, add_special_tokens=False
            )
            inputs = {k: v.to(self.device) for k, v in inputs.items() if k in ("input_ids", "attention_mask")}
            out = self.model.generate(**inputs, max_new_tokens=most, do_sample=False)
            texts = self.tokenizer.batch_decode(
                out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
            for i, text in zip(chunk, texts, strict=True):
                answers[i] = text.strip()
        return answers


def holds(text: str, value: str) -> bool:
    """Tell whether a text holds a value exactly, as a whole."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w|[.,-]\d)", text) is not None


def copied(answer: str, probe: Probe) -> bool:
    """Tell whether an answer holds the value asked for and no other value of the records."""
    rest = answer.replace(probe.expected[0], " ")
    return holds(answer, probe.expected[0]) and not any(holds(rest, x) for x in probe.forbidden)


Sink = Callable[[Probe, str], None]


def evaluate(generate: Generator, n: int, seed: int = SEED, sink: Sink | None = None) -> dict[str, Any]:
    """Measure a model.

    Args:
        generate: The model.
        n: How many probes of each task.
        seed: Seed of the held-out probes.
        sink: Gets each probe with its answer, for inspection.

    Returns:
        The scores of each task.
    """
    scores: dict[str, Score] = defaultdict(Score)

    def run(probes: Sequence[Probe], score: Callable[[Probe, str], None], most: int = 60) -> None:
        for probe, answer in zip(probes, generate([p.messages for p in probes], most), strict=True):
            score(probe, answer)
            if sink:
                sink(probe, answer)

    def answer_of(task: str) -> Callable[[Probe, str], None]:
        return lambda p, a: scores[task].add(copied(a, p), 1, p.field)

    def redacted(task: str) -> Callable[[Probe, str], None]:
        def score(p: Probe, a: str) -> None:
            scores[f"{task}_same_form"].add(a == p.frame)
            scores[f"{task}_generic"].add(holds(a, p.expected[0]))
            scores[f"{task}_leaks"].add(any(holds(a, x) for x in p.forbidden))

        return score

    def paraphrased(p: Probe, a: str) -> None:
        scores["paraphrase_facts"].add(sum(holds(a, v) for v in p.expected), len(p.expected))
        scores["paraphrase_unchanged"].add(a == p.source)

    def extracted(p: Probe, a: str) -> None:
        lines = [x.strip() for x in a.split("\n") if x.strip() and x.strip() != "none"]
        scores["extraction_recall"].add(sum(v in lines for v in p.expected), len(p.expected))
        scores["extraction_precision"].add(sum(x in p.expected for x in lines), len(lines))

    run(list(held_out.one_record(n, seed)), answer_of("one_record"))
    run(list(held_out.several_records(n, seed + 1)), answer_of("several_records"))
    run(list(held_out.redacted_value(n // 2, seed + 2)), redacted("redacted_value"))
    run(list(held_out.redacted_value(n // 2, seed + 3, whole=True)), redacted("redacted_record"))
    run(list(held_out.paraphrases(n // 2, seed + 4)), paraphrased, 200)
    run(list(held_out.extractions(n // 2, seed + 5)), extracted, 160)
    for layout in ("after", "before", "system"):
        run(handwritten(layout), answer_of(f"handwritten_{layout}"))
    measure_requests(generate, n // 2, seed + 100, scores, run)
    return {task: score.summary() for task, score in scores.items()}


def handwritten(layout: str) -> list[Probe]:
    """Read the hand-written records and questions.

    Args:
        layout: ``after`` or ``before`` for the question after or before the
            record in one message, ``system`` for the record as system message.

    Returns:
        The probes.
    """
    probes = []
    for line in HANDWRITTEN.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        record, question = row["record"], row["question"]
        messages = {
            "after": ({"role": "user", "content": f"{record}\n\n{question}"},),
            "before": ({"role": "user", "content": f"{question}\n\n{record}"},),
            "system": ({"role": "system", "content": record}, {"role": "user", "content": question}),
        }[layout]
        probes.append(Probe(messages, (min(row["answers"], key=len),), (), row["field"], "", record))
    return probes


def show(results: dict[str, Any], console: Console) -> None:
    """Print the results as a table."""
    table = Table("task", "rate", "n", "by field")
    for task, row in results.items():
        fields = " ".join(f"{k} {v:.2f}" for k, v in row.get("fields", {}).items())
        table.add_row(task, f"{row['rate']:.3f}", str(row["n"]), fields)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the evaluation from the command line."""
    parser = argparse.ArgumentParser(description="Measure a model on the demonstration tasks.")
    parser.add_argument("--model", default=str(model_path()))
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--out", default="", help="where to write the results; eval.json beside the model by default"
    )
    parser.add_argument("--dump", default="", help="file that gets every prompt and answer")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []

    def sink(probe: Probe, answer: str) -> None:
        rows.append(
            {"messages": probe.messages, "expected": probe.expected, "field": probe.field, "answer": answer}
        )

    results = evaluate(Generator(options.model), options.n, options.seed, sink if options.dump else None)
    show(results, Console(width=180))
    target = Path(options.out or Path(options.model) / "eval.json")
    target.write_text(
        json.dumps({"n": options.n, "seed": options.seed, "greedy": True, "tasks": results}, indent=1) + "\n"
    )
    if options.dump:
        Path(options.dump).write_text(
            "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
