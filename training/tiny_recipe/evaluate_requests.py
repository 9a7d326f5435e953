"""Measure closed answers, lists and writing: by free generation, and closed ones by sequence likelihood as well."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tiny_recipe import held_out_requests as probes
from tiny_recipe.held_out import Probe

if TYPE_CHECKING:
    from tiny_recipe.evaluate import Generator, Score

Run = Callable[[Sequence[Probe], Callable[[Probe, str], None], int], None]


@torch.no_grad()
def log_likelihoods(generate: Generator, probe: Probe, choices: Sequence[str]) -> list[float]:
    """Score whole answers.

    Args:
        generate: The model.
        probe: The request.
        choices: The answers.

    Returns:
        Log-probability of each, with the token that ends it, in nats.
    """
    tokenizer: Any = generate.tokenizer
    prompt = tokenizer.apply_chat_template(list(probe.messages), tokenize=False, add_generation_prompt=True)
    head = tokenizer.encode(prompt, add_special_tokens=False)
    rows = [[*tokenizer.encode(c, add_special_tokens=False), tokenizer.eos_token_id] for c in choices]
    longest = max(map(len, rows))
    ids = torch.tensor([head + r + [tokenizer.pad_token_id] * (longest - len(r)) for r in rows])
    logits = generate.model(ids.to(generate.device)).logits[:, len(head) - 1 : -1].float()
    each = logits.log_softmax(-1).gather(2, ids[:, len(head) :, None].to(logits.device))[..., 0]
    return [float(each[i, : len(r)].sum()) for i, r in enumerate(rows)]


def _lines(answer: str) -> list[str]:
    return [x.strip() for x in answer.split("\n") if x.strip()]


def _strings(answer: str) -> list[str] | None:
    try:
        found = json.loads(answer)
    except ValueError:
        return None
    return found if isinstance(found, list) and all(isinstance(x, str) for x in found) else None


def measure_requests(generate: Generator, n: int, seed: int, scores: dict[str, Score], run: Run) -> None:
    """Measure the requests beside free questions.

    Args:
        generate: The model.
        n: How many probes of each task.
        seed: Seed of the held-out probes.
        scores: Gets the scores.
        run: Answers probes and scores each answer.
    """

    def exactly(task: str) -> Callable[[Probe, str], None]:
        return lambda p, a: scores[task].add(a.strip(". ") == p.expected[0].strip(". "))

    def within(task: str) -> Callable[[Probe, str], None]:
        return lambda p, a: scores[task].add(p.expected[0] in a)

    listed = list(probes.choices(n, seed))
    run(listed, exactly("choice_generated"), 40)
    for task, chosen in (
        ("choice_likelihood", listed),
        ("choice_unlisted", probes.choices(n, seed, listed=False)),
    ):
        for probe in chosen:
            row = log_likelihoods(generate, probe, probe.forbidden)
            best = max(range(len(row)), key=row.__getitem__)
            scores[task].add(probe.forbidden[best] == probe.expected[0])
    for word, true in (("true", True), ("false", False)):
        asked = list(probes.yes_no(n // 2, seed + 1 + true, true))
        run(asked, lambda p, a: scores["yes_no"].add(a.lower().strip(". ") == p.expected[0].lower()), 8)
        for probe in asked:
            yes, no = log_likelihoods(generate, probe, ("yes", "no"))
            scores[f"yes_probability_{word}"].add(1.0 / (1.0 + torch.tensor(no - yes).exp().item()))
    run(list(probes.brief(n, seed + 3)), exactly("brief"), 40)
    run(list(probes.numbers(n, seed + 4)), exactly("number"), 24)
    run(list(probes.common(n, seed + 5)), within("common"), 48)

    def found(expected: Sequence[str], got: Sequence[str]) -> None:
        scores["items_recall"].add(sum(v in got for v in expected), len(expected))
        scores["items_precision"].add(sum(x in expected for x in got), len(got))

    def as_json(p: Probe, a: str) -> None:
        got = _strings(a)
        scores["items_json_valid"].add(got is not None)
        found(json.loads(p.expected[0]), got or [])

    run(
        list(probes.items(n // 2, seed + 6, as_json=False)),
        lambda p, a: found(_lines(p.expected[0]), _lines(a)),
        120,
    )
    run(list(probes.items(n // 2, seed + 7, as_json=True)), as_json, 120)

    def wrote(p: Probe, a: str) -> None:
        scores["written_items"].add(sum(v in a for v in p.expected), len(p.expected))
        scores["written_exactly"].add(a == p.frame)

    run(list(probes.written(n, seed + 8)), wrote, 100)
