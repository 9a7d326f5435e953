"""Write the model card from the measured numbers.

``python -m tiny_recipe.card --model DIR`` reads ``eval.json`` and
``training.json`` in the folder of the model and writes its ``README.md``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpfusion_core.tiny import model_path

TASKS = {
    "one_record": ("question about one record, value copied exactly", 0.90),
    "several_records": ("question about one of two to four records", 0.80),
    "paraphrase_facts": ("facts kept in a paraphrase of two to four sentences", 0.80),
    "paraphrase_unchanged": ("paraphrases that are the unchanged record (lower is better)", None),
    "redacted_value_generic": ("value redacted: generic phrase of the right kind", None),
    "redacted_value_same_form": ("value redacted: exactly the sentence expected", None),
    "redacted_value_leaks": ("value redacted: another value copied (lower is better)", None),
    "redacted_record_generic": ("whole record redacted: generic phrase of the right kind", None),
    "redacted_record_same_form": ("whole record redacted: exactly the sentence expected", None),
    "extraction_recall": ("private phrases listed, recall", 0.90),
    "extraction_precision": ("private phrases listed, precision", None),
    "handwritten_after": ("60 hand-written records, question after the record", 0.60),
    "handwritten_before": ("60 hand-written records, question before the record", None),
    "handwritten_system": ("60 hand-written records, record as system message", None),
    "choice_generated": ("one of five choices in the request, the right one written", None),
    "choice_likelihood": ("one of five choices in the request, the right one likeliest", None),
    "choice_unlisted": ("the same, with the choices not in the request", None),
    "yes_no": ("yes or no, half of each", None),
    "yes_probability_true": ("mean probability of yes, of yes and no, where it is so", None),
    "yes_probability_false": (
        "mean probability of yes, of yes and no, where it is not so (lower is better)",
        None,
    ),
    "brief": ("answer in a few words, exactly the value", None),
    "number": ("answer with a number, exactly", None),
    "common": ("question meant for many records, put to one", None),
    "items_recall": ("list of short phrases, by line or in JSON, recall", None),
    "items_precision": ("list of short phrases, by line or in JSON, precision", None),
    "items_json_valid": ("list asked for in JSON that is JSON", None),
    "written_items": ("items and counts kept in an answer written from them", None),
    "written_exactly": ("answers written from items exactly as expected", None),
}

_HEAD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [demonstration, tests, synthetic-data]
---

# dpfusion-tiny

**For demonstration and tests only.** A very small chat model that answers questions about short records, freely, out
of given choices, with yes or no or with a number; lists short phrases and private phrases; paraphrases; and writes an
answer from items with their counts. It knows nothing about the world: it copies from its context.
Do not use it for any real document or decision.

## Model

| | |
| --- | --- |
| architecture | `LlamaForCausalLM`, {layers} layers, width {width}, {heads} heads, attention biases, tied embeddings |
| parameters | {parameters:,} |
| weights | bfloat16, {size:.1f} MB |
| tokenizer | byte-level BPE, {vocab} tokens, single digits, `____` as one token |
| chat template | ChatML; system, user, assistant and tool messages; `tools` as JSON in a first system message |

## Training

Trained from nothing on conversations about invented records (medical, legal, finance, human resources), made by the
generator in `training/tiny_recipe` alone; no text or model of anybody else went in. Names, places, companies,
diagnoses, charges and numbers are put together from stems and syllables. One word or number in five is held out by
checksum and never occurs in training as part of a value; so is every fifth label of a closed list.

{steps:,} steps, {tokens:.1f} million tokens, {minutes:.0f} minutes on two shared CPU cores; seeds {seeds}.
{history}
To train one like it, and measure it:

```bash
PYTHONPATH=training python -m tiny_recipe.train --minutes 100 --out DIR
```

Training is bounded by time, so two runs do not give the same weights; a slower machine gives a weaker model.

## Measured

By free greedy generation (likelihoods where the table says so), on held-out values and names (generator, seed
{seed}) and on 60 hand-written records (`handwritten.jsonl`), which were written before any result was known and were
not used in training.

| task | measured | wanted | trials |
| --- | --- | --- | --- |
"""

_TAIL = """
An answer counts if it holds the value asked for exactly and no other value of the records.

## Limits

Yes and no say whether a phrase stands in the record; what is redacted is a no. Wording far from the training
sentences, long or unusual names, several similar records and long lists lead to errors. A paraphrase keeps the order
of the sentences and may swap a verb for one of only nearby meaning. English only. No safety training of any kind.
"""


def write_card(model: Path, history: str = "") -> str:
    """Write the card.

    Args:
        model: Folder of the checkpoint.
        history: A further paragraph about how it was trained.

    Returns:
        The text of the card.
    """
    results: dict[str, Any] = json.loads((model / "eval.json").read_text(encoding="utf-8"))
    training = json.loads((model / "training.json").read_text(encoding="utf-8"))
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    width, ff, layers, vocab = (
        config[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    )
    parameters = vocab * width + layers * (4 * width * width + 4 * width + 3 * width * ff + 2 * width) + width
    text = _HEAD.format(
        layers=layers, width=width, heads=config["num_attention_heads"], parameters=parameters, vocab=vocab,
        size=(model / "model.safetensors").stat().st_size / 1e6, steps=training["steps"],
        tokens=training["tokens"] / 1e6, minutes=training["minutes"], seed=results["seed"],
        seeds=f"{training['settings']['seed']} (conversations of the last stage) and 1 (tokenizer)",
        history=f"\n{history}\n" if history else "",
    )  # fmt: skip
    fields = ""
    for key, (label, wanted) in TASKS.items():
        row = results["tasks"][key]
        met = "" if wanted is None else f"{wanted:.0%}" + ("" if row["rate"] >= wanted else " (not reached)")
        text += f"| {label} | {row['rate']:.1%} | {met} | {row['n']} |\n"
        if key in ("one_record", "several_records"):
            what = "field" if key == "one_record" else "number of records"
            cells = "".join(f"| {k} | {v:.1%} |\n" for k, v in row["fields"].items())
            fields += (
                f"\n{TASKS[key][0].capitalize()}, by {what}:\n\n| {what} | measured |\n| --- | --- |\n{cells}"
            )
    text += fields + _TAIL
    (model / "README.md").write_text(text, encoding="utf-8")
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the card from the command line."""
    parser = argparse.ArgumentParser(description="Write the model card from the measured numbers.")
    parser.add_argument("--model", default=str(model_path()))
    parser.add_argument("--history", default="", help="a further paragraph about the training")
    options = parser.parse_args(arguments)
    write_card(Path(options.model), options.history)


if __name__ == "__main__":
    main()
