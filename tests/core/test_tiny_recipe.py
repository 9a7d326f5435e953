"""The embedded model: its files, its tokenizer, what it can do, and the generator behind it."""

import json
import math
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpfusion_core.tiny import MODEL_NAME, PLACEHOLDER, model_path
from tiny_recipe import held_out, values

EVAL = json.loads((model_path() / "eval.json").read_text(encoding="utf-8"))["tasks"]
TOOL = {"type": "function", "function": {"name": "lookup", "description": "Find a record.", "parameters": {}}}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_path())


@pytest.fixture(scope="module")
def generate() -> Any:
    from tiny_recipe.evaluate import Generator

    return Generator(model_path())


def test_the_checkpoint_is_small_and_loads() -> None:
    assert model_path().name == MODEL_NAME
    assert sum(f.stat().st_size for f in model_path().iterdir()) <= 12_000_000
    model = AutoModelForCausalLM.from_pretrained(model_path())
    assert model.config.max_position_embeddings >= 2048
    assert str(model.dtype) == "torch.bfloat16"


def test_the_card_states_the_measured_numbers() -> None:
    card = (model_path() / "README.md").read_text(encoding="utf-8")
    assert "demonstration and tests only" in card
    for task in (
        "one_record",
        "several_records",
        "paraphrase_facts",
        "extraction_recall",
        "handwritten_after",
    ):
        assert f"{EVAL[task]['rate']:.1%}" in card


@pytest.mark.parametrize(
    "text",
    [
        "Zoë Łuk 😀👩\u200d🚀 漢字 العربية \U0001f9ea",
        "a\tb\r\n\n  c ",
        "\x00\x7f\ufffd",
        "it's 3.5% — “so”",
        "____ ________",
    ],
)
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_tokens_of_digits_placeholder_and_messages(tokenizer: Any) -> None:
    for text in (PLACEHOLDER, "<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        assert len(tokenizer.encode(text, add_special_tokens=False)) == 1
    assert len(tokenizer.encode("1984", add_special_tokens=False)) == 4
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.padding_side) == (
        "<|endoftext|>",
        "<|im_end|>",
        "left",
    )
    assert tokenizer.bos_token is None


def test_a_value_has_the_same_tokens_everywhere(tokenizer: Any) -> None:
    def same(value: str) -> bool:
        alone = tokenizer.encode(value, add_special_tokens=False)
        inside = tokenizer.encode(f"It is {value}.\n{value}", add_special_tokens=False)
        return (
            inside[-len(alone) :] == alone
            and ",".join(map(str, inside)).count(",".join(map(str, alone))) >= 2
        )

    answers = [record.answer for record in held_out.held_out_records(60, seed=3)]
    assert sum(map(same, answers)) >= 57
    assert all(same(x) for x in answers if not x[:1].islower())


def test_the_loaded_tokenizer_is_the_stored_one(tokenizer: Any) -> None:
    from tokenizers import Tokenizer

    stored = Tokenizer.from_file(str(model_path() / "tokenizer.json"))
    text = "There were no complaints. Parking grade: asthma, 12."
    assert (
        tokenizer.encode(text, add_special_tokens=False) == stored.encode(text, add_special_tokens=False).ids
    )


def test_the_chat_template_renders_messages_tools_and_continuations(tokenizer: Any) -> None:
    chat = [
        {"role": "user", "content": "A"},
        {"role": "system", "content": "B"},
        {"role": "user", "content": "C"},
    ]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>user\nA<|im_end|>\n<|im_start|>system\nB<|im_end|>\n<|im_start|>user\nC<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    with_tools = tokenizer.apply_chat_template(chat, tools=[TOOL], tokenize=False)
    assert with_tools.startswith("<|im_start|>system\n# Tools")
    assert '"name": "lookup"' in with_tools
    merged = tokenizer.apply_chat_template([chat[1], chat[0]], tools=[TOOL], tokenize=False)
    assert merged.startswith("<|im_start|>system\nB\n\n# Tools")
    assert merged.count("<|im_start|>system") == 1
    begun = [*chat, {"role": "assistant", "content": "The city is"}]
    open_end = tokenizer.apply_chat_template(begun, tokenize=False, continue_final_message=True)
    assert open_end.endswith("<|im_start|>assistant\nThe city is")
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "lookup", "arguments": {}}}],
    }
    called = tokenizer.apply_chat_template([*chat, call, {"role": "tool", "content": "7"}], tokenize=False)
    assert "<tool_call>" in called
    assert "<|im_start|>tool\n7<|im_end|>" in called


def test_held_out_records_are_reproducible_and_consistent() -> None:
    records = held_out.held_out_records(60, seed=11)
    assert records == held_out.held_out_records(60, seed=11)
    assert records != held_out.held_out_records(60, seed=12)
    assert {r.field for r in records} == set(held_out.FIELDS)
    for record in records:
        assert record.answer in record.text
        assert record.answer in record.fields.values()
        assert record.answer not in record.redacted
        assert PLACEHOLDER in record.redacted
        assert not any(v in record.all_redacted for v in record.fields.values() if len(v) > 6)


def test_held_out_values_do_not_occur_in_training() -> None:
    import random

    training = values.ValueMaker(random.Random(1))
    other = values.ValueMaker(random.Random(2), held_out=True)
    for kind in values.KINDS:
        seen = {training.make(kind) for _ in range(4000)}
        assert not seen & {other.make(kind) for _ in range(400)}, kind
    words = {training.surname() for _ in range(2000)}
    assert len(words) > 1000


def test_training_conversations_are_reproducible() -> None:
    import random

    from tiny_recipe.tasks import conversation

    def make() -> list[Any]:
        rng = random.Random(5)
        return [conversation(rng, values.ValueMaker(rng)) for _ in range(30)]

    assert make() == make()


def floor(task: str, n: int) -> float:
    """What a model with the stated rate stays above, but for one sample in a thousand."""
    rate = float(EVAL[task]["rate"])
    return rate - 3.1 * math.sqrt(max(rate * (1 - rate), 0.01) / n) - 0.01


def test_the_model_copies_what_it_is_asked_for(generate: Any) -> None:
    from tiny_recipe.evaluate import copied

    probes = list(held_out.one_record(105, seed=77_001))
    answers = generate([p.messages for p in probes], 48)
    assert sum(map(copied, answers, probes)) / len(probes) >= floor("one_record", len(probes))


def test_the_model_copies_nothing_where_the_value_is_redacted(generate: Any) -> None:
    from tiny_recipe.evaluate import holds

    probes = list(held_out.redacted_value(45, seed=77_002))
    answers = generate([p.messages for p in probes], 40)
    good = sum(holds(a, p.expected[0]) for a, p in zip(answers, probes, strict=True))
    assert good / len(probes) >= floor("redacted_value_generic", len(probes))


def test_the_model_lists_private_phrases(generate: Any) -> None:
    probes = list(held_out.extractions(15, seed=77_003))
    answers = generate([p.messages for p in probes], 120)
    found = sum(v in a.split("\n") for a, p in zip(answers, probes, strict=True) for v in p.expected)
    total = sum(len(p.expected) for p in probes)
    assert found / total >= floor("extraction_recall", total) - 0.05
