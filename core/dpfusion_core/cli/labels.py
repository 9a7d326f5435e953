"""``dpfusion label``: closed fields of many documents, and their totals."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dpfusion_core.cli.documents import make_ledger, split_names
from dpfusion_core.cli.options import with_options
from dpfusion_core.cli.taggers import load_engine, read_text
from dpfusion_core.errors import PrivacyParameterError, errors_as
from dpfusion_core.numbers import at_most
from dpfusion_core.options import default_of, of_parts


@with_options(*of_parts("budget"), "temperature", "seed")
def label(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder or file: txt, md, jsonl, csv.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the labels, totals and report.")],
    schema: Annotated[Path, typer.Option(help="JSON schema of an object whose fields are all closed.")],
    model: Annotated[str, typer.Option(help="The model; the default is embedded.")] = "dpfusion-tiny",
    columns: Annotated[str | None, typer.Option(help="Of tables: columns to read, with commas.")] = None,
    keep: Annotated[
        str | None, typer.Option(help="Of tables: public columns to copy. All others are left out.")
    ] = None,
    row_id: Annotated[
        str | None,
        typer.Option("--id", help="Of tables: the column that says whose a row is; its values are public."),
    ] = None,
    collection: Annotated[
        str | None, typer.Option(help="Name of the input folder in the ids of privacy units.")
    ] = None,
    follow_symlinks: Annotated[
        bool, typer.Option("--follow-symlinks", help="Follow symbolic links in the input folder.")
    ] = False,
    ledger: Annotated[
        str | None, typer.Option(envvar="DPFUSION_LEDGER_URL", help="SQLAlchemy URL of a ledger to charge.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Epsilon of accounts that the ledger opens; by default --epsilon.")
    ] = None,
    *,
    options: dict[str, Any],
) -> None:
    """Label documents: choose each field of a schema within epsilon, and count the labels.

    Each document is private as a whole. A run that was interrupted goes on where it stopped when the same command is
    given again. Totals are given raw, and with the randomness of the labels taken out.
    """
    from dpfusion_core.documents import Labeller, label_folder
    from dpfusion_core.documents.formats import Columns

    epsilon, delta = options.get("epsilon"), options.get("delta", default_of("delta"))
    if not options.keys() & {"epsilon", "order", "beta"}:
        raise PrivacyParameterError("Labels need --epsilon, what a document may lose, for example 2.")
    opening = epsilon if budget is None else budget
    if ledger is None and budget is not None:
        raise PrivacyParameterError(
            "--budget is for the accounts of a ledger: give --ledger, or leave it out."
        )
    if ledger is not None and opening is None:
        raise PrivacyParameterError("A ledger needs --budget, the epsilon of its accounts, or --epsilon.")
    with errors_as(PrivacyParameterError, f"{schema} is no JSON ({{error}}).", only=ValueError):
        said = json.loads(read_text(schema))
    labeller = Labeller(load_engine(model, make_ledger(ledger, opening, delta)), said, **options)
    settings = {"schema": said, "model": model, **options}
    bar = Progress(
        TextColumn("Labelling"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("documents", total=None)
        summary = label_folder(
            source,
            target,
            labeller,
            settings=settings,
            columns=Columns(split_names(columns), split_names(keep), row_id),
            collection=collection,
            follow_symlinks=follow_symlinks,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    out, run = Console(), summary.run
    noun = "document" if run.done == 1 else "documents"
    out.print(f"{run.done} {noun} labelled, {run.known} done before, in {target}.", highlight=False)
    if epsilon is not None:
        out.print(
            f"Each with epsilon = {at_most(epsilon)} at delta = {at_most(delta)}, "
            f"{options.get('neighbours', default_of('neighbours'))} neighbours. The totals cost nothing more.",
            highlight=False,
        )
    table = Table("field", "label", "raw", "estimate", "95 %", box=None)
    for each in summary.totals:
        interval = f"{each.low:.0f} to {each.high:.0f}"
        table.add_row(each.field, each.label, str(each.raw), f"{each.estimate:.0f}", interval)
    out.print(table)
    out.print("Estimates are of what the model itself says; what it gets wrong is in them.", highlight=False)
    for name, reason in run.skipped.items():
        out.print(Text(f"left out {name}: {reason}", "yellow"))
    for name, reason in run.failed.items():
        out.print(Text(f"failed {name}: {reason}", "red"))
    if run.failed:
        raise typer.Exit(1)
