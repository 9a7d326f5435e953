"""``dpfusion demo``: four questions to 32 private records, each answer beside what an attacker learns from it."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from dpfusion_core.cli.attack import guess_of_choice, guess_of_presence, most_of_choice, most_of_presence
from dpfusion_core.cli.records import CITY, WARDS, Patient, patients
from dpfusion_core.engine import FusionEngine
from dpfusion_core.messages import Message, Segment
from dpfusion_core.options import GenerationOptions
from dpfusion_core.privacy import calibrate_counts, calibrate_votes
from dpfusion_core.tagging import PhraseTagger, split_by_spans
from dpfusion_core.tiny import MODEL_NAME

EPSILONS = (1, 2)
DELTA = 1e-5
WARD = "In which ward does the patient lie?"
MOST = "What is the most common symptom?"
COUNTED = f"Does the patient live in {CITY}?"
PARAPHRASE = "Paraphrase the text."
LOOSEST = 8.0  # of the paraphrase alone, which hardly tells anything at less


@dataclass(frozen=True)
class Line:
    """One way to answer a question.

    Attributes:
        name: Which.
        answer: What it says.
        right: How often it is right; None where that is no number.
        attacker: How often an attacker guesses right from it.
        most: The most that any attacker can, by epsilon.
    """

    name: str
    answer: str
    right: float | None = None
    attacker: float | None = None
    most: float | None = None


def run_demo(console: Console, model: str) -> None:
    """Print the demonstration.

    Args:
        console: Where to print.
        model: Name or path of the model.

    Raises:
        DPFusionError: If the model cannot be loaded or fails.
    """
    started = time.perf_counter()
    quiet_transformers()
    if model == MODEL_NAME:
        torch.set_num_threads(1)  # it is so small that threads only wait for each other
    with console.status(f"Loading {model}"):
        engine = FusionEngine.from_pretrained(model)
    records = patients()
    console.print(Rule(f"{len(records)} private records"))
    console.print(_shown(_segments(records[0])), Text(f"... and {len(records) - 1} more", style="dim"), "")
    parts = (
        (WARD, "one of five answers, from each record", "the ward", ask_wards),
        (MOST, "what many say is told, what one says is not", "who is in", ask_most),
        (f"How many live in {CITY}?", "one yes or no of each record", "who is in", ask_count),
        ("Paraphrase a letter", "token by token, what one letter says stays secret", "", paraphrase),
    )
    for number, (question, what, secret, ask) in enumerate(parts, start=1):
        with console.status(question):
            lines = list(ask(engine, records))
        console.print(Text(f"{number}  {question}", style="bold"))
        console.print(_table(what, secret, lines), "")
    seconds = time.perf_counter() - started
    console.print(
        f"[dim]{model} on this machine, nothing sent anywhere, {seconds:.0f} s. delta = {DELTA:g}.[/]",
        highlight=False,
    )


def ask_wards(engine: FusionEngine, records: Sequence[Patient]) -> Iterator[Line]:
    """Yield how many wards are told rightly: plainly, redacted, and at each epsilon."""
    plain = [engine.choose(_asked(each.text, WARD), WARDS, temperature=0.0).choice for each in records]
    yield _told("plain model", plain, records)
    hidden = [_asked(_redacted(each), WARD) for each in records]
    redacted = [engine.choose(each, WARDS, temperature=0.0).choice for each in hidden]
    yield _told("redacted only", redacted, records)
    for epsilon in EPSILONS:
        said = [
            engine.choose(_asked(_segments(each), WARD), WARDS, epsilon=epsilon, delta=DELTA).choice
            for each in records
        ]
        likely = []
        for ward in WARDS:  # the attacker knows all of the first record but its ward
            guessed = replace(records[0], ward=ward)
            chosen = engine.choose(
                _asked(_segments(guessed), WARD), WARDS, epsilon=epsilon, delta=DELTA, curator=True
            )
            likely.append(chosen.report.sampled if chosen.report else ())
        yield _told(
            f"epsilon {epsilon}",
            said,
            records,
            guess_of_choice(likely),
            most_of_choice(epsilon, len(WARDS)),
        )


def ask_most(engine: FusionEngine, records: Sequence[Patient]) -> Iterator[Line]:
    """Yield what is said of all records together, with the noisy counts that were released."""
    chats = [_asked(each.text, f"{MOST} In a few words, no sentence.") for each in records]
    answers = engine.batch(chats, temperature=0.0, max_tokens=12)
    [(item, votes)] = Counter(each.text.strip(" .\n").lower() for each in answers).most_common(1)
    yield Line("plain model", f"{item} ({votes} of {len(records)})")
    public = engine.generate(_asked("____", MOST), temperature=0.0, max_tokens=24)
    yield Line("redacted only", public.text.strip())
    for epsilon in EPSILONS:
        result = engine.generate(
            _corpus(records, MOST),
            mechanism="consensus",
            epsilon=epsilon,
            delta=DELTA,
            max_items=1,
            max_tokens=24,
            temperature=0.2,
        )
        counts = ", ".join(f"{each.item} (about {each.count})" for each in result.items or ())
        noise = calibrate_votes(epsilon, DELTA).distribution
        yield Line(
            f"epsilon {epsilon}",
            f"{result.text.strip()}  [{counts or 'nothing released'}]",
            None,
            guess_of_presence(noise),
            most_of_presence(epsilon),
        )


def ask_count(engine: FusionEngine, records: Sequence[Patient]) -> Iterator[Line]:
    """Yield for how many records the answer is yes: without noise, redacted, and at each epsilon."""
    asked = f"{COUNTED} Answer yes or no."

    def yes(texts: Sequence[str]) -> int:
        chats = [_asked(each, asked) for each in texts]
        return sum(each.index == 0 for each in engine.choose_batch(chats, ("yes", "no"), temperature=0.0))

    yield Line("plain model", str(yes([each.text for each in records])))
    yield Line("redacted only", f"{yes([_redacted(each) for each in records])}: every record reads the same")
    for epsilon in EPSILONS:
        found = engine.count(COUNTED, _corpus(records), epsilon=epsilon, delta=DELTA)
        noise = calibrate_counts(epsilon, DELTA).distribution
        yield Line(
            f"epsilon {epsilon}",
            f"{found.value}, 95 % sure: {found.low} to {found.high}",
            None,
            guess_of_presence(noise),
            most_of_presence(epsilon),
        )


def paraphrase(engine: FusionEngine, records: Sequence[Patient]) -> Iterator[Line]:
    """Yield the first letter in other words, and how many facts the paraphrases of all letters keep."""
    kinds: list[tuple[str, list[list[Message]], GenerationOptions]] = [
        ("plain model", [_asked(each.letter, PARAPHRASE) for each in records], {"temperature": 0.0}),
        (
            "redacted only",
            [_asked(_redacted(each, each.letter), PARAPHRASE) for each in records],
            {"temperature": 0.0},
        ),
        (
            f"epsilon {LOOSEST:g}",
            [_asked(_segments(each, each.letter), PARAPHRASE) for each in records],
            {"epsilon": LOOSEST, "delta": DELTA},
        ),
    ]
    for name, chats, options in kinds:
        options["max_tokens"] = 56
        texts = [each.text.strip() for each in engine.batch(chats, **options)]
        kept = [
            value in text
            for text, each in zip(texts, records, strict=True)
            for value in each.values
            if value in each.letter
        ]
        yield Line(name, texts[0], sum(kept) / len(kept))


def quiet_transformers() -> None:
    """Keep the progress bars of ``transformers`` off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _told(
    name: str,
    said: Sequence[str],
    records: Sequence[Patient],
    attacker: float | None = None,
    most: float | None = None,
) -> Line:
    right = sum(ward == each.ward for ward, each in zip(said, records, strict=True))
    return Line(name, f"{right} of {len(records)}", right / len(records), attacker, most)


def _segments(record: Patient, text: str = "") -> list[Segment]:
    text = text or record.text
    return split_by_spans(text, PhraseTagger(record.values).tag(text))


def _redacted(record: Patient, text: str = "") -> str:
    return "".join("____" if each.is_private else each.text for each in _segments(record, text))


def _asked(content: str | Sequence[Segment], question: str) -> list[Message]:
    return [Message("user", content), Message("user", question)]


def _corpus(records: Sequence[Patient], *questions: str) -> list[Message]:
    documents = [Message("user", each.text, True, f"patient-{place}") for place, each in enumerate(records)]
    return [*documents, *(Message("user", each) for each in questions)]


def _shown(record: Sequence[Segment]) -> Table:
    """Show a record as the private view and the public view have it."""
    views = Table.grid(expand=True)
    for _ in range(2):
        views.add_column(ratio=1)
    private, public = Text(), Text()
    for segment in record:
        private.append(segment.text, style="bold red" if segment.is_private else "")
        public.append(
            "____" if segment.is_private else segment.text, style="bold green" if segment.is_private else ""
        )
    views.add_row(Panel(private, title="private view"), Panel(public, title="public view"))
    return views


def _table(what: str, secret: str, lines: Sequence[Line]) -> Table:
    table = Table(box=None, expand=True, header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column(what, ratio=1)
    table.add_column(f"an attacker guesses {secret}" if secret else "facts kept", width=30)
    for line in lines:
        answer, guess = Text(line.answer), Text("")
        if not secret and line.right is not None:
            guess = Text.assemble((_bar(line.right), "green"), f" {line.right:.0%}")
        elif line.right is not None:
            answer = Text.assemble(f"{line.answer:8} ", (_bar(line.right, 16), "green"))
        if line.attacker is not None and line.most is not None:
            guess = Text.assemble(
                (_bar(line.attacker), "red"), f" {line.attacker:.0%}, at most {line.most:.0%}"
            )
        table.add_row(line.name, answer, guess)
    return table


def _bar(share: float, width: int = 12) -> str:
    return "█" * round(share * width) + "░" * (width - round(share * width))
