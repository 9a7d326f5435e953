"""``dpfusion privatize`` and ``dpfusion tag``: whole documents, and what is private in them."""

import json
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dpfusion_core.documents.chunks import Level
from dpfusion_core.errors import PrivacyParameterError, ViewError, errors_as
from dpfusion_core.privacy import Neighbours, PrivacyBudget
from dpfusion_core.tagging import (
    CONSTITUTIONS,
    ConstitutionTagger,
    DocumentPrivacyTagger,
    Narrowing,
    PhraseTagger,
    PresidioTagger,
    Span,
    Tagger,
    TokenClassificationTagger,
    UnionTagger,
    find_spans,
)
from dpfusion_core.views import (
    Placeholder,
    fixed_placeholder,
    label_placeholder,
    length_preserving_placeholder,
)

_COLOURS = (
    "black on yellow",
    "black on cyan",
    "black on green",
    "white on magenta",
    "white on red",
    "white on blue",
)
_TAGGERS = (
    "What finds the private phrases; give it several times to unite what they find. presidio or presidio:LANGUAGE: "
    "patterns. phrases:FILE: one phrase per line. tokens:MODEL: a token-classification model. constitution:NAME: the "
    "model of --tagger-model under LEGAL, HEALTH, FINANCE, or the text of a file. document-privacy:NAME: the "
    "web service, which gets the documents."
)
_TaggerSpecs = Annotated[list[str] | None, typer.Option("--tagger", help=_TAGGERS, show_default="presidio")]
_TaggerModel = Annotated[
    str, typer.Option(help="Chat model of constitution taggers; the default is embedded.")
]


def privatize(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder or file: txt, md, jsonl, csv.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the outputs and report.jsonl.")],
    level: Annotated[Level, typer.Option(help="redact, paraphrase or dp.")] = "redact",
    tagger: _TaggerSpecs = None,
    tagger_model: _TaggerModel = "dpfusion-tiny",
    model: Annotated[str, typer.Option(help="Model of paraphrase and dp; the default is embedded.")] = (
        "dpfusion-tiny"
    ),
    epsilon: Annotated[
        float | None, typer.Option(help="Level dp: what a document may lose, in nats.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Level dp: probability for epsilon.")] = 1e-5,
    neighbours: Annotated[Neighbours, typer.Option(help="Level dp: the neighbour relation.")] = "zero-out",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a rewritten document, at most.")
    ] = None,
    chunk: Annotated[int, typer.Option(min=50, help="Characters that the model reads at a time.")] = 1500,
    temperature: Annotated[float, typer.Option(min=0.0, help="Of paraphrase and dp.")] = 1.0,
    columns: Annotated[str | None, typer.Option(help="Of tables: columns to privatise, with commas.")] = None,
    keep: Annotated[
        str | None, typer.Option(help="Of tables: public columns to copy. All others are left out.")
    ] = None,
    placeholder: Annotated[
        str,
        typer.Option(help="A text, or label, numbered, length: [PERSON], [PERSON_1], as long as the text."),
    ] = "____",
    units: Annotated[
        Literal["message", "label", "entity"], typer.Option(help="Privacy units: the document, or its parts.")
    ] = "message",
    on_tagger_error: Annotated[
        Literal["private", "raise"], typer.Option(help="If a tagger fails: hide the whole text, or fail.")
    ] = "private",
    trust_empty: Annotated[
        bool, typer.Option("--trust-empty", help="A text in which nothing is found is public.")
    ] = False,
    tagger_timeout: Annotated[
        float | None, typer.Option(help="Seconds after which a tagger has failed.")
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(envvar="DPFUSION_LEDGER_URL", help="Level dp: SQLAlchemy URL of a ledger to charge."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Epsilon of accounts that the ledger opens; by default --epsilon.")
    ] = None,
) -> None:
    """Privatise documents: redact them, paraphrase what is redacted, or rewrite them with DP-Fusion.

    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    from dpfusion_core.documents.folder import privatize_folder
    from dpfusion_core.documents.formats import Columns
    from dpfusion_core.documents.levels import Privatizer

    if level == "dp" and epsilon is None:
        raise PrivacyParameterError("Level dp needs --epsilon, what a document may lose, for example 8.")
    specs = tagger or ["presidio"]
    options: dict[str, Any] = {}
    if level != "redact":
        options |= {"temperature": temperature, "max_tokens": max_tokens}
    if epsilon is not None:
        options |= {"epsilon": epsilon, "delta": delta, "neighbours": neighbours}
    narrowing = Narrowing(
        make_tagger(specs, tagger_model),
        units=units,
        numbered=placeholder == "numbered",
        on_error=on_tagger_error,
        trust_empty=trust_empty,
        timeout=tagger_timeout,
    )
    privatizer = Privatizer(
        level,
        tagger=narrowing,
        engine=None if level == "redact" else _engine(model, _ledger(ledger, budget or epsilon, delta)),
        placeholder=_placeholder(placeholder),
        chunk=chunk,
        **options,
    )
    settings = {
        "level": level, "taggers": specs, "tagger model": tagger_model, "units": units, "placeholder": placeholder,
        "on tagger error": on_tagger_error, "trust empty": trust_empty, "chunk": chunk,
        **({} if level == "redact" else {"model": model}), **options,
    }  # fmt: skip
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("Privatising"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
    with bar:
        task = bar.add_task("documents", total=None)
        summary = privatize_folder(
            source,
            target,
            privatizer,
            settings=settings,
            columns=Columns(_names(columns), _names(keep)),
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    out = Console()
    noun = "document" if summary.done == 1 else "documents"
    out.print(f"{summary.done} {noun} privatised, {summary.known} done before, in {target}.", highlight=False)
    if epsilon is not None:
        out.print(
            f"Each with epsilon = {epsilon:g} at delta = {delta:g}, {neighbours} neighbours.", highlight=False
        )
    for name in summary.skipped:
        out.print(Text(f"left out {name}: neither txt, md, jsonl nor csv", "yellow"))
    for name, reason in summary.failed.items():
        out.print(Text(f"failed {name}: {reason}", "red"))
    if summary.failed:
        raise typer.Exit(1)


def tag(
    file: Annotated[Path, typer.Argument(help="A text in UTF-8; - for standard input.")],
    tagger: _TaggerSpecs = None,
    tagger_model: _TaggerModel = "dpfusion-tiny",
    as_json: Annotated[
        bool, typer.Option("--json", help="Write offsets and labels as lines of JSON.")
    ] = False,
) -> None:
    """Show in colour what is private in a text."""
    text = _read(file)
    spans = find_spans(make_tagger(tagger or ["presidio"], tagger_model), text) if text.strip() else []
    console = Console(highlight=False, soft_wrap=True)
    if as_json:
        for span in spans:
            row = {"start": span.start, "end": span.end, "label": span.label, "score": round(span.score, 4)}
            sys.stdout.write(json.dumps(row) + "\n")
        return
    styles = {
        label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(dict.fromkeys(s.label for s in spans))
    }
    console.print(_coloured(text, spans, styles))
    table = Table("label", "spans", box=None)
    for label, count in sorted(Counter(span.label for span in spans).items()):
        table.add_row(Text(f" {label} ", styles[label]), str(count))
    console.print(table if spans else "Nothing private was found.")


def make_tagger(specs: list[str], model: str) -> Tagger:
    """Return the tagger that the command line asks for.

    Args:
        specs: Kinds of taggers, with what they need behind a colon.
        model: The chat model of constitution taggers.

    Raises:
        PrivacyParameterError: If a kind is unknown or lacks what it needs.
    """
    taggers = [_tagger(*spec.partition(":")[::2], model) for spec in specs]
    return taggers[0] if len(taggers) == 1 else UnionTagger(*taggers)


def _tagger(kind: str, value: str, model: str) -> Tagger:
    if kind == "presidio":
        return PresidioTagger(value or "en")
    if kind == "phrases" and value:
        return PhraseTagger([line for line in _read(Path(value)).splitlines() if line.strip()])
    if kind == "tokens" and value:
        return TokenClassificationTagger(value)
    if kind == "constitution":
        rules = value or "HEALTH"
        return ConstitutionTagger(_engine(model), rules if rules in CONSTITUTIONS else _read(Path(rules)))
    if kind == "document-privacy":
        service = DocumentPrivacyTagger()
        service.set_constitution(value or "HEALTH")
        return service
    raise PrivacyParameterError(
        f"Unknown tagger {kind!r}: use presidio, phrases:FILE, tokens:MODEL, constitution:NAME or "
        "document-privacy:NAME."
    )


def _engine(model: str, ledger: Any = None) -> Any:
    import torch

    from dpfusion_core.cli.demo import quiet_transformers
    from dpfusion_core.engine import FusionEngine
    from dpfusion_core.tiny import MODEL_NAME

    quiet_transformers()
    if model == MODEL_NAME:
        torch.set_num_threads(1)  # it is so small that threads only wait for each other
    return FusionEngine.from_pretrained(model, ledger=ledger)


def _ledger(url: str | None, epsilon: float | None, delta: float) -> Any:
    from dpfusion_core.ledger import PrivacyLedger

    if url is None or epsilon is None:
        return None
    return PrivacyLedger(url, budget=PrivacyBudget(epsilon, delta))


def _placeholder(name: str) -> Placeholder:
    if name in ("label", "numbered"):
        return label_placeholder()
    return length_preserving_placeholder() if name == "length" else fixed_placeholder(name)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name for name in map(str.strip, (text or "").split(",")) if name)


def _read(file: Path) -> str:
    with errors_as(ViewError, lambda error: f"Cannot read {file}: {error.strerror}.", only=OSError):
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    with errors_as(ViewError, f"{file} is not a text in UTF-8."):
        return data.decode("utf-8")


def _coloured(text: str, spans: list[Span], styles: dict[str, str]) -> Text:
    shown, position = Text(), 0
    for span in spans:
        shown.append(_printable(text[position : span.start]))
        shown.append(_printable(text[span.start : span.end]), styles[span.label])
        position = span.end
    return shown.append(_printable(text[position:]))


def _printable(text: str) -> str:
    """Return a text that cannot steer the terminal."""
    text = text.replace("\r\n", "\n")
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)
