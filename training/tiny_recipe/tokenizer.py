"""The tokenizer of the demonstration model and its chat template."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dpfusion_core.tiny import PLACEHOLDER
from tiny_recipe.chats import CLOSE, OPEN
from tiny_recipe.tasks import conversation
from tiny_recipe.values import KINDS, ValueMaker

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

CHAT_TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] + '\\n\\n' }}
    {%- endif %}
    {{- '# Tools\\n\\nYou may call these functions:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '\\n</tools>\\n\\nTo call one, answer with' }}
    {{- ' <tool_call>{"name": NAME, "arguments": ARGUMENTS}</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if not (tools and loop.first and message['role'] == 'system') %}
        {{- '<|im_start|>' + message['role'] + '\\n' }}
        {%- if message['content'] %}
            {{- message['content'] }}
        {%- endif %}
        {%- for call in message['tool_calls'] or [] %}
            {%- set call = call['function'] or call %}
            {{- '\\n<tool_call>' + ({'name': call['name'], 'arguments': call['arguments']} | tojson) + '</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def frame_words(seed: int, samples: int = 4000, most: int = 320) -> list[str]:
    """Find the frequent lower-case words with which no value begins.

    Only these words carry their space in one token, so that every value has
    the same tokens after a space as at the start of a line.

    Args:
        seed: Seed of the sample.
        samples: How many conversations to count.
        most: How many words to return at most.

    Returns:
        The words, most frequent first.
    """
    rng = random.Random(seed)
    maker = ValueMaker(rng)
    counts: Counter[str] = Counter()
    initial: set[str] = set()
    for _ in range(samples):
        for turn in conversation(rng, maker):
            outside = re.sub(f"{OPEN}[^{CLOSE}]*{CLOSE}", "", turn.text)
            counts.update(re.findall(r"(?<= )[a-z]+(?![\w'-])", outside))
            initial.update(re.findall(f"{OPEN}([a-z]+)", turn.text))
    for kind in KINDS:
        for _ in range(samples):
            initial.update(re.findall(r"^[a-z]+", maker.make(kind)))
    initial -= {"a", "an", "none"}
    return [x for x, n in counts.most_common() if x not in initial and n > 20 and len(x) < 12][:most]


def _corpus(seed: int, samples: int) -> Iterator[str]:
    rng = random.Random(seed)
    maker = ValueMaker(rng)
    for i in range(samples):
        maker.invented = (0.1, 0.3)[i % 2]
        yield "\n".join(turn.clean for turn in conversation(rng, maker))


def build_tokenizer(seed: int = 1, vocab_size: int = 2048, samples: int = 12000) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE tokenizer on generated conversations.

    Args:
        seed: Seed of the corpus.
        vocab_size: Size of the vocabulary, the placeholder included.
        samples: How many conversations the corpus has.

    Returns:
        The tokenizer with its chat template.
    """
    words = "|".join(sorted(frame_words(seed), key=len, reverse=True))
    pattern = rf" (?:{words})(?![\p{{L}}'])|'s(?!\p{{L}})|\p{{L}}+|\p{{N}}|\s|[^\s\p{{L}}\p{{N}}]"
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[PAD, START, END],
        show_progress=False,
    )
    core.train_from_iterator(_corpus(seed, samples), trainer)
    core.add_tokens([AddedToken(PLACEHOLDER, normalized=False)])
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core, eos_token=END, pad_token=PAD, padding_side="left",
        model_max_length=2048, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
