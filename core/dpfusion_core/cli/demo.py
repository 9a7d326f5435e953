"""``dpfusion demo``: one private record, one question, four answers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from dpfusion_core.engine import FusionEngine
from dpfusion_core.generation import GenerationResult
from dpfusion_core.messages import Message, Segment
from dpfusion_core.numbers import at_most
from dpfusion_core.options import GenerationOptions
from dpfusion_core.tagging import PhraseTagger, split_by_spans
from dpfusion_core.tiny import MODEL_NAME

RECORD = (
    "The patient is Ingrid Solheim. She was born in 1968 and lives in Trondheim. "
    "She was diagnosed with Marfan syndrome. The bill came to $2,450."
)
SECRETS = ("Ingrid Solheim", "1968", "Trondheim", "Marfan syndrome", "$2,450")
QUESTION = "What was the patient diagnosed with?"
SYSTEM = "Answer the question from the record."


@dataclass(frozen=True)
class _Setting:
    title: str
    beta: float
    meaning: str


SETTINGS = (
    _Setting("DP-Fusion, strict", 0.01, "The record may move each token by next to nothing."),
    _Setting("DP-Fusion, loose", 0.5, "The record may move each token noticeably."),
)


def run_demo(console: Console, model: str, question: str | None, max_tokens: int) -> None:
    """Print the demonstration.

    Args:
        console: Where to print.
        model: Name or path of the model.
        question: The question; a default one if None.
        max_tokens: Largest number of tokens of an answer.

    Raises:
        DPFusionError: If the model cannot be loaded or fails.
    """
    started = time.perf_counter()
    quiet_transformers()
    if model == MODEL_NAME:
        torch.set_num_threads(1)  # it is so small that threads only wait for each other
    with console.status(f"Loading {model}"):
        engine = FusionEngine.from_pretrained(model)
    record = split_by_spans(RECORD, PhraseTagger(SECRETS).tag(RECORD))
    asked = question or QUESTION
    console.print(Rule("A private record"))
    views = Table.grid(expand=True)
    for _ in range(2):
        views.add_column(ratio=1)
    views.add_row(_view("Private view", record, True), _view("Public view", record, False))
    console.print(views)
    console.print(Text.assemble(("Question  ", "bold"), asked), "")

    def ask(content: str | Sequence[Segment], **options: object) -> GenerationResult:
        messages = [Message("system", SYSTEM), Message("user", content), Message("user", asked)]
        settings: GenerationOptions = {"max_tokens": max_tokens, **options}  # type: ignore[typeddict-item]
        with console.status("Generating"):
            return engine.generate(messages, **settings)

    plain = ask(RECORD, temperature=0.0)
    console.print(
        _answer("Plain model", plain, "No protection: the model read the record and may repeat it.")
    )
    redacted = ask("".join("____" if s.is_private else s.text for s in record), temperature=0.0)
    console.print(
        _answer(
            "Redacted only", redacted, "The model never saw what was blanked out: it cannot tell, nor use it."
        )
    )
    for setting in SETTINGS:
        result = ask(record, order=2.0, beta=setting.beta)
        title = f"{setting.title} (order=2, beta={at_most(setting.beta)})"
        console.print(_answer(title, result, f"{setting.meaning} {result.guarantee}"))
    seconds = time.perf_counter() - started
    console.print(
        f"[dim]{model} on this machine, nothing sent anywhere, {seconds:.1f} s.[/]", highlight=False
    )


def quiet_transformers() -> None:
    """Keep the progress bars of ``transformers`` off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _view(title: str, record: Sequence[Segment], is_revealed: bool) -> RenderableType:
    text = Text()
    for segment in record:
        if not segment.is_private:
            text.append(segment.text)
        elif is_revealed:
            text.append(segment.text, style="bold red")
        else:
            text.append("____", style="bold green")
    return Panel(text, title=title)


def _answer(title: str, result: GenerationResult, meaning: str) -> RenderableType:
    answer = Text(result.text.strip() or "(no text)")
    for secret in SECRETS:
        answer.highlight_words([secret], style="bold red")
    return Group(Panel(answer, title=title, title_align="left"), Text(meaning, style="italic"), "")
