"""The command line: ``dpfusion demo``, ``privatize``, ``label``, ``tag``, ``calibrate``, ``ledger`` and others."""

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from dpfusion_core import __version__
from dpfusion_core.cli import documents, labels
from dpfusion_core.cli.ledger import ledger_app
from dpfusion_core.cli.options import shown
from dpfusion_core.errors import DPFusionError
from dpfusion_core.privacy import Accounting, Neighbours

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


app.add_typer(ledger_app, name="ledger")
app.command()(documents.privatize)
app.command()(labels.label)
app.command()(documents.tag)


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
) -> None:
    """Ask 32 private records four questions, and show beside each answer what an attacker learns from it."""
    from dpfusion_core.cli.demo import run_demo

    run_demo(Console(), model)


_MaxTokens = Annotated[int, shown("max_tokens")]
_Units = Annotated[int, typer.Option(min=1, help="Number of privacy units of a request.")]
_Delta = Annotated[float, shown("delta")]
_Relation = Annotated[Neighbours, shown("neighbours")]
_Accounting = Annotated[Accounting, shown("accounting")]
_Cap = Annotated[float | None, shown("weight_cap")]


@app.command()
def calibrate(
    epsilon: Annotated[float, shown("epsilon")],
    delta: _Delta = 1e-5,
    max_tokens: _MaxTokens = 256,
    units: _Units = 1,
    order: Annotated[float | None, shown("order", "--order", "--alpha")] = None,
    neighbours: _Relation = "zero-out",
    accounting: _Accounting = "fixed",
    weight_cap: _Cap = None,
) -> None:
    """Turn an epsilon into the order and the largest beta within it."""
    from dpfusion_core.cli.numbers import run_calibrate
    from dpfusion_core.privacy import PrivacyBudget

    run_calibrate(
        Console(), PrivacyBudget(epsilon, delta), max_tokens, units, order, neighbours, accounting, weight_cap
    )


@app.command()
def epsilon(
    order: Annotated[float, shown("order", "--order", "--alpha")],
    beta: Annotated[float, shown("beta")],
    delta: _Delta = 1e-5,
    max_tokens: _MaxTokens = 256,
    units: _Units = 1,
    neighbours: _Relation = "zero-out",
    accounting: _Accounting = "fixed",
    mixing_loss: Annotated[float | None, shown("mixing_loss")] = None,
    weight_cap: _Cap = None,
) -> None:
    """Turn an order (the paper's alpha) and beta into the epsilon that they guarantee."""
    from dpfusion_core.cli.numbers import run_epsilon
    from dpfusion_core.options import Options
    from dpfusion_core.planning import stated_parameters

    said = Options(
        order=order,
        beta=beta,
        delta=delta,
        neighbours=neighbours,
        mixing_loss=mixing_loss,
        weight_cap=weight_cap,
    )
    parameters = stated_parameters(said, units)
    run_epsilon(Console(), parameters, max_tokens, units, accounting)


@app.command()
def doctor(
    model: Annotated[
        str, typer.Option(help="A model to load, to see whether its views can share forward passes.")
    ] = "dpfusion-tiny",
) -> None:
    """Show versions, device, extras and how a model computes views, and say what is missing."""
    from dpfusion_core.cli.doctor import run_doctor

    if not run_doctor(Console(), model):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; errors of the library and of the file system are told in one line."""
    try:
        app()
    except (DPFusionError, OSError) as error:
        told = Text.assemble((type(error).__name__, "bold red"), f": {error}")
        Console(stderr=True).print(told, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None
