"""What many records have in common, and how many say yes: how good the answers are at each epsilon.

*Redacted* is the answer without any record, *plain* the vote or count of the same answers without noise.
"""

import math
import random
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpfusion_core import FusionEngine, Message
from dpfusion_core.consensus import Consensus, plain_text
from dpfusion_core.consensus.items import normal_form
from dpfusion_core.consensus.prompts import FEW_WORDS, YES_OR_NO
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import calibrate_counts
from tests.benchmarks.answers import DELTA, EPSILONS, Share
from tiny_recipe.held_out import Record, held_out_records

QUESTIONS = {
    "city": "Where does the person live?",
    "employer": "Where does the person work?",
    "job": "What is the job of the person?",
    "diagnosis": "What is the diagnosis?",
    "drug": "What does the patient take?",
    "charge": "What is the charge?",
    "product": "Which product is it?",
}
"""Questions that many records answer, by the kind of the value asked for."""


@dataclass(frozen=True)
class Corpus:
    """Records of different people, each a privacy unit, and a question to all of them.

    Attributes:
        texts: The records.
        question: Asks for a value that each of them has.
        shared: The value that some of them share; no other one stands in two.
        sharing: How many share it.
    """

    texts: tuple[str, ...]
    question: str
    shared: str
    sharing: int

    @property
    def messages(self) -> list[Message]:
        """The request; every record is private as a whole."""
        records = [Message("user", text, True, f"record-{i}") for i, text in enumerate(self.texts)]
        return [*records, Message("user", self.question)]


def corpora(n: int, size: int, sharing: int, seed: int = 43_000) -> Iterator[Corpus]:
    """Yield corpora of ``size`` records, of which ``sharing`` share a value."""
    rng = random.Random(seed)
    pools: dict[str, list[Record]] = {}
    for record in held_out_records(15 * (size + 20), seed):
        pools.setdefault(record.field, []).append(record)
    kinds = tuple(QUESTIONS)
    for number in range(n):
        kind = kinds[number % len(kinds)]
        found: dict[str, Record] = {}
        for record in rng.sample(pools[kind], len(pools[kind])):
            found.setdefault(record.answer.casefold(), record)
        shared, *records = list(found.values())[: size + 1]
        texts = [
            record.text.replace(record.answer, shared.answer) if place < sharing else record.text
            for place, record in enumerate(records)
        ]
        rng.shuffle(texts)
        yield Corpus(tuple(texts), QUESTIONS[kind], shared.answer, sharing)


class Remembering:
    """The embedded model as one that answers for each document, and never the same question twice.

    So a corpus is read once for all epsilons and all runs.

    Args:
        engine: The model.
    """

    def __init__(self, engine: FusionEngine) -> None:
        self._engine = engine
        self._known: dict[tuple[tuple[str, str], ...], str] = {}
        self._yeses: dict[tuple[tuple[str, str], ...], bool] = {}

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None = None,
    ) -> list[str | None]:
        """Answer conversations greedily."""
        keys = _keys(conversations)
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        for start in range(0, len(new), 32):
            some = new[start : start + 32]
            chats = [[Message(role, text) for role, text in key] for key in some]
            said = self._engine.batch(chats, temperature=0.0, max_tokens=max_tokens)
            self._known.update(zip(some, (each.text for each in said), strict=True))
        return [self._known[key] for key in keys]

    def says_yes(self, conversations: Sequence[Sequence[Message]]) -> list[bool]:
        """Tell for each conversation whether yes is likelier than no."""
        keys = _keys(conversations)
        for key in keys:
            if key not in self._yeses:
                chat = [Message(role, text) for role, text in key]
                chosen = self._engine.choose(chat, ("yes", "no"), temperature=0.0)
                self._yeses[key] = chosen.index == 0
        return [self._yeses[key] for key in keys]


def _keys(conversations: Sequence[Sequence[Message]]) -> list[tuple[tuple[str, str], ...]]:
    return [tuple((each.role, plain_text(each)) for each in chat) for chat in conversations]


def consensus(
    answerer: Remembering, size: int, sharing: int, n: int, epsilons: Sequence[float] = EPSILONS
) -> dict[str, Share]:
    """Return how often the answer says the fact that ``sharing`` of ``size`` records share.

    *Redacted* is the answer without any record, *plain* whether the fact wins the vote without noise.
    """
    mechanism = Consensus(answerer)
    found: dict[str, list[float]] = {}
    for corpus in corpora(n, size, sharing):
        shared = normal_form(corpus.shared)

        def says(text: str, shared: str = shared) -> float:
            return float(shared in text.casefold())

        blank = [Message("user", "____"), Message("user", corpus.question)]
        [public] = answerer.answer([blank], max_tokens=32)
        found.setdefault("redacted", []).append(says(public or ""))
        for epsilon in epsilons:
            try:
                said = mechanism.generate(
                    corpus.messages, epsilon=epsilon, delta=DELTA, max_items=1, max_tokens=32
                )
            except (
                PrivacyParameterError
            ):  # so few documents cannot reach the threshold: told before anything is spent
                continue
            found.setdefault(f"{epsilon:g}", []).append(says(said.text))
        chats = [
            [Message("user", text), Message("user", f"{corpus.question} {FEW_WORDS}")]
            for text in corpus.texts
        ]
        votes = Counter(normal_form(each or "") for each in answerer.answer(chats, max_tokens=48))
        found.setdefault("plain", []).append(says(votes.most_common(1)[0][0]))
    return {name: Share.of(values) for name, values in found.items()}


def alone(answerer: Remembering, runs: int, size: int = 16, epsilon: float = 2.0) -> int:
    """Return in how many runs the answer told what one record of ``size`` alone says."""
    mechanism = Consensus(answerer)
    some = list(corpora(20, size, 1))
    told = 0
    for run in range(runs):
        corpus = some[run % len(some)]
        result = mechanism.generate(corpus.messages, epsilon=epsilon, delta=DELTA, max_items=1, max_tokens=32)
        told += any(normal_form(corpus.shared) in each.item for each in result.items or ())
    return told


def counts(answerer: Remembering, n: int, size: int = 64) -> dict[str, Share]:
    """Return how often a count of ``size`` records is within 5 of the truth.

    *Redacted* counts the blank record, which says the same each time, *plain* the answers without noise.
    """
    mechanism = Consensus(answerer)
    found: dict[str, list[float]] = {}
    for number in range(n):
        sharing = 6 + 13 * number % (size - 12)
        [corpus] = corpora(1, size, sharing, seed=44_000 + number)
        question = f"Does the record mention {corpus.shared}?"

        def near(value: float, sharing: int = sharing) -> float:
            return float(abs(value - sharing) <= 5)

        chats = [
            [Message("user", text), Message("user", f"{question} {YES_OR_NO}")]
            for text in ("____", *corpus.texts)
        ]
        redacted, *said = answerer.says_yes(chats)
        found.setdefault("redacted", []).append(near(size * redacted))
        found.setdefault("plain", []).append(near(sum(said)))
        for epsilon in EPSILONS:
            counted = mechanism.count(question, corpus.messages[:-1], epsilon=epsilon, delta=DELTA)
            found.setdefault(f"{epsilon:g}", []).append(near(counted.value))
    return {name: Share.of(values) for name, values in found.items()}


def count_errors(answerer: Remembering, epsilon: float, runs: int = 400) -> tuple[float, float]:
    """Return the root mean square error of a count against that without noise, and the noise's own."""
    mechanism = Consensus(answerer)
    [corpus] = corpora(1, 64, 32, seed=44_500)
    question = f"Does the record mention {corpus.shared}?"
    chats = [[Message("user", text), Message("user", f"{question} {YES_OR_NO}")] for text in corpus.texts]
    truth = sum(answerer.says_yes(chats))
    errors = [
        mechanism.count(question, corpus.messages[:-1], epsilon=epsilon, delta=DELTA).value - truth
        for _ in range(runs)
    ]
    return math.sqrt(statistics.fmean(error**2 for error in errors)), calibrate_counts(
        epsilon, DELTA
    ).distribution.deviation
