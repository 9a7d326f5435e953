"""The embedded model's closed answers, lists and writing: its training data, and what it can do."""

import json
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from dpfusion_core.tiny import model_path
from tiny_recipe import card, chats, closed, held_out_requests, lists, tasks, wordlists
from tiny_recipe.cases import Case, Fact
from tiny_recipe.fields import NAME
from tiny_recipe.records import make_case
from tiny_recipe.values import ValueMaker

EVAL = json.loads((model_path() / "eval.json").read_text(encoding="utf-8"))["tasks"]


def records(n: int, seed: int) -> Iterator[tuple[random.Random, ValueMaker, Case, Fact, str]]:
    rng = random.Random(seed)
    maker = ValueMaker(rng)
    made = 0
    while made < n:
        case = make_case(rng, maker, rng.randint(2, 7), wide=True)
        facts = [fact for fact in case.facts if fact.field is not NAME]
        if facts:
            made += 1
            fact = rng.choice(facts)
            yield rng, maker, case, fact, tasks.compose(rng, case, fact)[0]


def unmarked(text: str) -> str:
    return text.replace(chats.OPEN, "").replace(chats.CLOSE, "")


def test_one_choice_alone_is_right_and_all_stand_in_the_request() -> None:
    for rng, maker, case, fact, question in records(150, 1):
        made = closed.choice(rng, maker, question, fact, case.text())
        assert made.right == fact.value == unmarked(made.answer)
        assert made.choices.count(fact.value) == 1
        assert len(made.choices) >= 2
        assert [each for each in made.choices if each in case.text()] == [fact.value]
        listed = made.text.replace('\\"', '"')
        assert all(each in listed for each in made.choices)


def test_yes_is_what_the_record_shows_and_no_what_it_lacks_or_hides() -> None:
    words = []
    for rng, maker, case, fact, _ in records(150, 2):
        open_ = closed.yes_no(rng, maker, case, fact, case.text(), "the person", lambda _: False)
        hidden = closed.yes_no(rng, maker, case, fact, case.text(), "the person", lambda _: True)
        words.append(open_.right.lower())
        assert hidden.right.lower() == "no"
        if open_.right.lower() == "yes" and not any(
            lead in open_.text for lead in ("given", "state", "give", "know")
        ):
            assert any(each.value in open_.text or each.noun in open_.text for each in case.facts)
        assert unmarked(open_.answer).strip(".").lower() == words[-1]
    assert 0.35 <= words.count("yes") / len(words) <= 0.65


def test_lists_hold_what_is_shown_in_the_form_that_is_asked_for() -> None:
    forms = set()
    for rng, _, case, fact, question in records(200, 3):
        asked = rng.choice((None, fact))
        made = lists.items(rng, case, question, asked, lambda each: each.field.kind == "date")
        answer = unmarked(made.answer)
        is_json = "JSON" in made.text
        forms.add(is_json)
        found = json.loads(answer) if is_json else [line for line in answer.split("\n") if line != "none"]
        shown = [each.value for each in case.facts if each.field.kind != "date" and each.field is not NAME]
        assert all(value in shown for value in found)
        assert "{" not in made.text
        if asked and fact.field.kind != "date":
            assert found == [fact.value]
    assert forms == {True, False}


def test_an_answer_written_from_items_holds_each_of_them_with_its_count() -> None:
    rng = random.Random(4)
    for _ in range(150):
        *before, last = lists.written(rng, ValueMaker(rng))
        given = "\n".join(turn.text for turn in before)
        parts = [part.split(chats.CLOSE)[0] for part in last.text.split(chats.OPEN)[1:]]
        assert parts
        assert all(part in given for part in parts)
        assert "{" not in given


def test_every_kind_of_label_and_count_has_values_of_both_pools_and_none_of_both() -> None:
    pools = [ValueMaker(random.Random(5), held_out=held_out, invented=0.0) for held_out in (False, True)]
    for kind in (*wordlists.LABELS, *wordlists.COUNTS):
        seen, other = ({pool.make(kind) for _ in range(300)} for pool in pools)
        assert len(seen) > len(other) >= 2
        assert not seen & other, kind


def test_held_out_requests_are_reproducible() -> None:
    def make() -> list[Any]:
        return [
            *held_out_requests.choices(5, 1), *held_out_requests.yes_no(5, 2, True), *held_out_requests.brief(5, 3),
            *held_out_requests.numbers(5, 4), *held_out_requests.common(5, 5), *held_out_requests.written(5, 6),
            *held_out_requests.items(5, 7, as_json=True), *held_out_requests.items(5, 8, as_json=False),
        ]  # fmt: skip

    assert make() == make()


def test_training_goes_on_from_the_shipped_weights_and_from_where_it_stopped(tmp_path: Path) -> None:
    from tiny_recipe.train import Settings, Trainer

    folder = tmp_path / "model"
    shutil.copytree(model_path(), folder)
    facts = json.loads((folder / "training.json").read_text())
    settings = Settings(minutes=0.03, out=str(folder), threads=1, batch=1024)
    first = Trainer(settings)
    weights = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32).state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.model.state_dict().items())
    first.run()
    again = Trainer(settings)
    assert again.steps == first.steps > facts["steps"]
    assert all(
        torch.equal(a, b) for a, b in zip(again.model.parameters(), first.model.parameters(), strict=True)
    )


def test_the_card_states_every_number_of_the_evaluation() -> None:
    shown = (model_path() / "README.md").read_text(encoding="utf-8")
    assert set(card.TASKS) <= set(EVAL)
    for task, (label, _) in card.TASKS.items():
        assert f"| {label} | {EVAL[task]['rate']:.1%} |" in shown


@pytest.fixture(scope="module")
def generate() -> Any:
    from tiny_recipe.evaluate import Generator

    return Generator(model_path())


def lowest(task: str, n: int) -> float:
    """What a model with the stated rate stays above, but for one sample in a thousand."""
    rate = float(EVAL[task]["rate"])
    return rate - 3.1 * math.sqrt(max(rate * (1 - rate), 0.01) / n) - 0.01


def test_the_right_one_of_five_choices_is_the_likeliest(generate: Any) -> None:
    from tiny_recipe.evaluate_requests import log_likelihoods

    right = 0
    for probe in held_out_requests.choices(60, 77_010):
        row = log_likelihoods(generate, probe, probe.forbidden)
        right += probe.forbidden[row.index(max(row))] == probe.expected[0]
    assert right / 60 >= max(lowest("choice_likelihood", 60), 0.4)


def test_yes_is_likelier_where_it_is_so(generate: Any) -> None:
    from tiny_recipe.evaluate_requests import log_likelihoods

    def mean(true: bool) -> float:
        rows = [
            log_likelihoods(generate, p, ("yes", "no")) for p in held_out_requests.yes_no(40, 77_011, true)
        ]
        return sum(1.0 / (1.0 + math.exp(no - yes)) for yes, no in rows) / 40

    assert mean(True) >= mean(False) + 0.2


def test_an_answer_in_a_few_words_is_the_value_alone(generate: Any) -> None:
    probes = list(held_out_requests.brief(60, 77_012))
    answers = generate([probe.messages for probe in probes], 40)
    right = sum(a.strip(". ") == p.expected[0].strip(". ") for a, p in zip(answers, probes, strict=True))
    assert right / 60 >= lowest("brief", 60)
