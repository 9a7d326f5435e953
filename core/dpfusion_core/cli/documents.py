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

from dpfusion_core.cli.options import with_options
from dpfusion_core.cli.taggers import load_engine, make_tagger, read_text
from dpfusion_core.documents.chunks import Level
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.numbers import at_most
from dpfusion_core.options import default_of, of_parts
from dpfusion_core.placeholders import (
    Placeholder,
    fixed_placeholder,
    label_placeholder,
    length_preserving_placeholder,
)
from dpfusion_core.privacy import PrivacyBudget
from dpfusion_core.tagging import Narrowing, Span, find_spans
from dpfusion_core.tagging.narrowing import TIMEOUT

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


# What has no effect at a level, by the names of the parameters.
_SAMPLING = tuple(
    name for name in of_parts("sampling") if name != "max_tokens"
)  # which a document has for itself
_MODEL = ("model", "max_tokens", "chunk", *_SAMPLING)
_BUDGET = (*of_parts("budget"), "ledger", "budget")
_IDLE: dict[Level, tuple[str, ...]] = {"redact": (*_MODEL, *_BUDGET), "paraphrase": _BUDGET, "dp": ()}


@with_options(*of_parts("budget"), *_SAMPLING)
def privatize(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder or file: txt, md, jsonl, csv.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the outputs and report.jsonl.")],
    level: Annotated[Level, typer.Option(help="redact, paraphrase or dp.")] = "redact",
    tagger: _TaggerSpecs = None,
    tagger_model: _TaggerModel = "dpfusion-tiny",
    model: Annotated[str, typer.Option(help="Model of paraphrase and dp; the default is embedded.")] = (
        "dpfusion-tiny"
    ),
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a rewritten document, at most.")
    ] = None,
    chunk: Annotated[int, typer.Option(min=50, help="Characters that the model reads at a time.")] = 1500,
    columns: Annotated[str | None, typer.Option(help="Of tables: columns to privatise, with commas.")] = None,
    keep: Annotated[
        str | None, typer.Option(help="Of tables: public columns to copy. All others are left out.")
    ] = None,
    row_id: Annotated[
        str | None,
        typer.Option("--id", help="Of tables: the column that says whose a row is; its values are public."),
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option(
            help="Name of the input folder in the ids of privacy units, in the place of its path: it stays when the "
            "folder moves."
        ),
    ] = None,
    follow_symlinks: Annotated[
        bool, typer.Option("--follow-symlinks", help="Follow symbolic links in the input folder.")
    ] = False,
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
        float, typer.Option(help="Seconds for each document after which a tagger has failed.")
    ] = TIMEOUT,
    ledger: Annotated[
        str | None,
        typer.Option(envvar="DPFUSION_LEDGER_URL", help="Level dp: SQLAlchemy URL of a ledger to charge."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Epsilon of accounts that the ledger opens; by default --epsilon.")
    ] = None,
    *,
    options: dict[str, Any],
) -> None:
    """Privatise documents: redact them, paraphrase what is redacted, or rewrite them with DP-Fusion.

    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    from dpfusion_core.documents.folder import privatize_folder
    from dpfusion_core.documents.formats import Columns
    from dpfusion_core.documents.privatizer import Privatizer

    _check_used(context, level, tagger, ledger)
    epsilon, delta = options.get("epsilon"), options.get("delta", default_of("delta"))
    if level == "dp" and not options.keys() & {"epsilon", "order", "beta"}:
        raise PrivacyParameterError("Level dp needs --epsilon, what a document may lose, for example 8.")
    opening = epsilon if budget is None else budget
    if ledger is not None and level == "dp" and opening is None:
        raise PrivacyParameterError("A ledger needs --budget, the epsilon of its accounts, or --epsilon.")
    specs = tagger or ["presidio"]
    if level != "redact":
        options |= {"max_tokens": max_tokens, "chunk": chunk}
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
        engine=None if level == "redact" else load_engine(model, make_ledger(ledger, opening, delta)),
        placeholder=_placeholder(placeholder),
        **options,
    )
    settings = {
        "level": level, "taggers": specs, "tagger model": tagger_model, "units": units, "placeholder": placeholder,
        "on tagger error": on_tagger_error, "trust empty": trust_empty,
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
            columns=Columns(split_names(columns), split_names(keep), row_id),
            collection=collection,
            follow_symlinks=follow_symlinks,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    out = Console()
    noun = "document" if summary.done == 1 else "documents"
    out.print(f"{summary.done} {noun} privatised, {summary.known} done before, in {target}.", highlight=False)
    if epsilon is not None:
        out.print(
            f"Each with epsilon = {at_most(epsilon)} at delta = {at_most(delta)}, "
            f"{options.get('neighbours', default_of('neighbours'))} neighbours.",
            highlight=False,
        )
    for name, reason in summary.skipped.items():
        out.print(Text(f"left out {name}: {reason}", "yellow"))
    for name, reason in summary.failed.items():
        out.print(Text(f"failed {name}: {reason}", "red"))
    if summary.failed:
        raise typer.Exit(1)


def tag(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A text in UTF-8; - for standard input.")],
    tagger: _TaggerSpecs = None,
    tagger_model: _TaggerModel = "dpfusion-tiny",
    as_json: Annotated[
        bool, typer.Option("--json", help="Write offsets and labels as lines of JSON.")
    ] = False,
) -> None:
    """Show in colour what is private in a text."""
    _check_tagger_model(context, tagger)
    text = read_text(file)
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


def _is_given(context: typer.Context, name: str) -> bool:
    """Tell whether an option stands on the command line. What the environment says is for every command."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _check_used(context: typer.Context, level: Level, tagger: list[str] | None, ledger: str | None) -> None:
    """Refuse options that have no effect.

    Raises:
        PrivacyParameterError: If there is one.
    """
    flags = {each.name: each.opts[0] for each in context.command.params}
    idle = [flags[name] for name in _IDLE[level] if _is_given(context, name)]
    if idle:
        raise PrivacyParameterError(
            f"{', '.join(idle)} {'has' if len(idle) == 1 else 'have'} no effect at level {level!r}: leave out, or "
            f"choose --level {'dp' if level == 'paraphrase' else 'paraphrase or dp'}."
        )
    if ledger is None and _is_given(context, "budget"):
        raise PrivacyParameterError(
            "--budget is for the accounts of a ledger: give --ledger, or leave it out."
        )
    _check_tagger_model(context, tagger)


def _check_tagger_model(context: typer.Context, specs: list[str] | None) -> None:
    is_asked = any(spec.partition(":")[0] == "constitution" for spec in specs or ())
    if _is_given(context, "tagger_model") and not is_asked:
        raise PrivacyParameterError(
            "--tagger-model is for --tagger constitution:NAME: give such a tagger, or leave it out."
        )


def make_ledger(url: str | None, epsilon: float | None, delta: float) -> Any:
    """Return the ledger at a URL, whose accounts are opened with a budget; None without a URL."""
    from dpfusion_core.ledger import PrivacyLedger

    if url is None or epsilon is None:
        return None
    return PrivacyLedger(url, budget=PrivacyBudget(epsilon, delta))


def _placeholder(name: str) -> Placeholder:
    if name in ("label", "numbered"):
        return label_placeholder()
    return length_preserving_placeholder() if name == "length" else fixed_placeholder(name)


def split_names(text: str | None) -> tuple[str, ...]:
    """Return the names in a text with commas."""
    return tuple(name for name in map(str.strip, (text or "").split(",")) if name)


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
