"""The command line: ``dpfusion demo``, ``dpfusion doctor``."""

from typing import Annotated

import typer
from rich.console import Console

from dpfusion_core import __version__
from dpfusion_core.errors import DPFusionError

app = typer.Typer(
    help="Differentially private text generation for private prompts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        Console().print(f"dpfusion {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Differentially private text generation for private prompts."""


@app.command()
def demo(
    model: Annotated[str, typer.Option(help="Name or path of the model; the default is embedded.")] = (
        "dpfusion-tiny"
    ),
    question: Annotated[str | None, typer.Option(help="Another question about the record.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Largest number of tokens of an answer.")] = 32,
) -> None:
    """Ask about a private record: plainly, redacted, and with DP-Fusion at two settings."""
    from dpfusion_core.cli.demo import run_demo

    run_demo(Console(), model, question, max_tokens)


@app.command()
def doctor() -> None:
    """Show versions, device and extras, and say what is missing."""
    from dpfusion_core.cli.doctor import run_doctor

    if not run_doctor(Console()):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; errors of the library are told in one line."""
    try:
        app()
    except DPFusionError as error:
        Console(stderr=True).print(f"[bold red]{type(error).__name__}[/]: {error}", highlight=False)
        raise SystemExit(1) from None
