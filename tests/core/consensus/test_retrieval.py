"""Retrieval within the guarantee: what another document says or scores changes nothing for this one."""

import itertools
import math
from collections import Counter
from typing import Any

import pytest

from dpfusion_core import releases
from dpfusion_core.consensus import Consensus, documents_message, passing, plain_text
from dpfusion_core.consensus.views import OwnViews, public_view, without_seams
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.messages import Message
from dpfusion_core.placeholders import fixed_placeholder

QUESTION = Message("user", "What is it?")
SCORES = {"a": 0.9, "b": 0.5, "c": 0.1, "d": math.nan, "e": None, "f": -math.inf, "g": math.inf}


def test_a_document_passes_by_its_own_score_alone() -> None:
    for size in range(len(SCORES) + 1):
        for some in itertools.combinations(SCORES.items(), size):
            assert passing(some, 0.5) == [name for name, _ in some if name in "abg"]
            assert passing(some, 0.5, closer="lower") == [name for name, _ in some if name in "bcf"]


@pytest.mark.parametrize(
    ("threshold", "options"),
    [(math.nan, {}), (math.inf, {}), (True, {}), ("0.5", {}), (None, {}), (0.5, {"closer": "nearer"})],
)
def test_a_threshold_is_a_finite_number(threshold: Any, options: Any) -> None:
    with pytest.raises(PrivacyParameterError):
        passing([], threshold, **options)


def test_what_is_asked_of_a_document_does_not_tell_who_else_takes_part() -> None:
    texts = [("one", "First."), ("two", "Second."), ("one", "Third."), ("three", "Fourth.")]
    views = set()
    for others in itertools.product((False, True), repeat=3):
        taken = [
            each
            for each, is_in in zip(texts, (others[0], others[1], others[0], others[2]), strict=True)
            if is_in
        ]
        chat = without_seams([documents_message(taken), QUESTION])
        public = tuple(map(plain_text, public_view(chat, fixed_placeholder())))
        assert public == ("____", "What is it?")
        if others[0]:
            views.add(tuple(map(plain_text, OwnViews(chat).of("one"))))
    assert len(views) == 1


def test_who_does_not_pass_changes_the_votes_of_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contributions on neighbouring inputs differ by those of one document and nothing else."""
    from dpfusion_core import release_charging

    seen: list[Counter[tuple[str, ...]]] = []

    def release(votes: Any, rule: Any) -> tuple[()]:
        seen.append(Counter(map(tuple, votes)))
        return ()

    monkeypatch.setattr(release_charging, "release_votes", release)
    corpus = [(f"doc-{n}", f"Item {n}.", n / 10) for n in range(10)]
    for _, text, _ in [("", "", 0.0), *corpus]:
        scored = [((unit, said), None if said == text else score) for unit, said, score in corpus]
        chat = [documents_message(passing(scored, 0.4)), QUESTION]
        Consensus(lambda messages: plain_text(messages[0])).generate(chat, epsilon=1.0, retrieval="covered")
    whole, *without = seen
    assert sum(whole.values()) == 6
    for number, votes in enumerate(without):
        assert sum((whole - votes).values()) == (1 if number >= 4 else 0)
        assert not votes - whole


def test_a_plan_of_private_participation_names_no_number() -> None:
    from dpfusion_core.options import Options

    plan = releases.plan_votes(
        Options(epsilon=1.0, mechanism="consensus"), ["a"], None, max_items=1, is_participation_private=True
    )
    assert plan.guarantee(1).units is None
