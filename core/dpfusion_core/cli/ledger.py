"""``dpfusion ledger``: what privacy units may lose and have lost, and whether the record of it is whole."""

import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from dpfusion_core.errors import LedgerError, errors_as
from dpfusion_core.ledger import Account, BudgetPolicy, PrivacyLedger
from dpfusion_core.ledger.files import open_private
from dpfusion_core.ledger.verification import Progress
from dpfusion_core.numbers import at_least, at_most
from dpfusion_core.privacy import Accounting, Neighbours, PrivacyBudget

ledger_app = typer.Typer(
    help="The privacy ledger: budgets, charges, and proof that none was removed.", no_args_is_help=True
)

_Url = Annotated[
    str,
    typer.Option(envvar="DPFUSION_LEDGER_URL", help="SQLAlchemy URL of the ledger: SQLite or PostgreSQL."),
]
_KeyFile = Annotated[
    Path | None,
    typer.Option(help="File with the ledger's key. Default: DPFUSION_LEDGER_KEY, or the file beside it."),
]
_Unit = Annotated[str, typer.Argument(help="Id of the privacy unit, as requests name it.")]
_Epsilon = Annotated[float, typer.Option(help="Budget in nats.")]
_Delta = Annotated[float, typer.Option(help="Probability that goes with epsilon.")]
_ReleaseShare = Annotated[
    float | None, typer.Option(help="Part of delta for releases (consensus): at least 0, below 1.")
]
_URL = "sqlite:///dpfusion-ledger.db"
_PRIVATE = "private: for the curator only"
_ROW = "{:<18}{:>10}{:>15}{:>12}  {:<10}  {:<10}  {}"


@ledger_app.command()
def show(
    unit: Annotated[str | None, typer.Argument(help="Id of a privacy unit; all accounts without it.")] = None,
    url: _Url = _URL,
    key_file: _KeyFile = None,
) -> None:
    """Show what a unit may lose and has lost, or list all accounts by the keyed hash of their ids."""
    with _open(url, key_file, must_exist=True) as ledger:
        if unit is None:
            with _progress("Accounts") as progress:
                _show_accounts(ledger.curator.accounts(progress))
        else:
            _show_account(ledger.account(unit))


@ledger_app.command()
def budget(
    unit: _Unit,
    epsilon: _Epsilon,
    delta: _Delta = 1e-5,
    order: Annotated[
        float | None,
        typer.Option(help="Rényi order of the account; requests need this one or a larger one."),
    ] = None,
    accounting: Annotated[Accounting, typer.Option(help="Of the requests to come.")] = "fixed",
    neighbours: Annotated[Neighbours, typer.Option(help="What the budget is about.")] = "zero-out",
    release_share: _ReleaseShare = None,
    url: _Url = _URL,
    key_file: _KeyFile = None,
) -> None:
    """Open the account of a unit with a budget, before its first request."""
    wanted = PrivacyBudget(epsilon, delta)
    # Rounded down: an account at a slightly smaller order still takes requests at the best one.
    order = max(1.01, math.floor(wanted.best_order() * 100) / 100) if order is None else order
    policy = BudgetPolicy() if release_share is None else BudgetPolicy(release_share=release_share)
    with _open(url, key_file, policy=policy) as ledger:
        account = ledger.curator.open(unit, wanted, order=order, accounting=accounting, neighbours=neighbours)
        _show_account(account)


@ledger_app.command()
def amend(
    unit: _Unit,
    epsilon: _Epsilon,
    reason: Annotated[str, typer.Option(help="Why the budget changes; kept in the log in plain text.")],
    delta: _Delta = 1e-5,
    release_share: _ReleaseShare = None,
    url: _Url = _URL,
    key_file: _KeyFile = None,
) -> None:
    """Change the budget of a unit. The change and its reason stay on record."""
    with _open(url, key_file, must_exist=True) as ledger:
        wanted = PrivacyBudget(epsilon, delta)
        account = ledger.curator.amend(unit, wanted, reason, release_share=release_share)
        _show_account(account)


@ledger_app.command()
def export(
    output: Annotated[Path | None, typer.Option(help="File to write; standard output without it.")] = None,
    url: _Url = _URL,
    key_file: _KeyFile = None,
) -> None:
    """Write the log as lines of JSON, and its head (for a later verify) on standard error."""
    head = "0:" + "0" * 64
    with _open(url, key_file, must_exist=True) as ledger:
        with errors_as(LedgerError, lambda error: f"Cannot write {output}: {error.strerror}.", only=OSError):
            file = sys.stdout if output is None else open_private(output)
        try:
            with _progress("Entries") as progress:
                for last, line in ledger.curator.lines(progress=progress):
                    file.write(f"{line}\n")
                    head = last
        finally:
            if output is not None:
                file.close()
    Console(stderr=True, soft_wrap=True).print(f"head {head}", highlight=False)


@ledger_app.command()
def verify(
    head: Annotated[
        str | None,
        typer.Option(help="SEQ:HASH that verify or export printed earlier; it must still be there."),
    ] = None,
    url: _Url = _URL,
    key_file: _KeyFile = None,
) -> None:
    """Examine whether anything was changed in or removed from the log, and the balances against it."""
    with _open(url, key_file, must_exist=True) as ledger, _progress("Verifying") as progress:
        found = ledger.curator.verify(head, progress)
    console = Console(soft_wrap=True)
    for problem in found.problems:
        console.print(f"[red]problem[/]: {problem}", highlight=False)
    if not found.ok:
        raise typer.Exit(1)
    console.print(f"[green]ok[/]: {found.entries} entries", highlight=False)
    console.print(f"head {found.head}", highlight=False)
    console.print("[dim]Note the head elsewhere: a later verify can be asked whether it is still there.[/]")


def _open(
    url: str, key_file: Path | None, must_exist: bool = False, policy: BudgetPolicy | None = None
) -> PrivacyLedger:
    from dpfusion_core.ledger import keys, place

    parsed = place.parse_url(url)
    if must_exist and parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise LedgerError(
            f"There is no ledger at {place.describe(url)}. Name it with --url or DPFUSION_LEDGER_URL."
        )
    key = None if key_file is None else keys.read_file(key_file)
    if key_file is not None and key is None:
        raise LedgerError(f"There is no key file {key_file}.")
    return PrivacyLedger(url, key=key, budget=policy)


def _show_account(account: Account) -> None:
    is_private = account.accounting == "adaptive"
    label = f"\n{_PRIVATE}" if is_private else ""
    table = Table(title=f"Unit {account.unit}", title_justify="left")
    for title in ("order", "budget (nats)", f"spent (nats){label}", f"left (nats){label}"):
        table.add_column(title, justify="right")
    table.add_column("in use")
    for each in account.balances:
        left = max(0.0, each.budget - each.spent)
        amounts = at_most(each.budget, 6), at_most(each.spent, 6), at_least(left, 6)
        numbers = (f"{each.order:g}", *amounts)
        table.add_row(*numbers, "yes" if each.is_open else "closed")
    console = Console()
    console.print(table)
    share = f", {account.shares} orders share delta" if account.shares > 1 else ""
    console.print(
        f"budget  epsilon = {at_most(account.epsilon)}, delta = {at_most(account.delta)}, "
        f"accounting = {account.accounting}, neighbours = {account.neighbours}{share}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"releases  delta = {at_most(account.release_spent)} of {at_least(account.release_delta)} spent"
        + (f" ({_PRIVATE})" if is_private else ""),
        highlight=False,
        soft_wrap=True,
    )
    spent = f"spent   epsilon = {at_most(account.spent_epsilon)} of {at_most(account.epsilon)}"
    console.print(spent + (f" ({_PRIVATE})" if is_private else ""), highlight=False, soft_wrap=True)


def _show_accounts(accounts: Iterable[Account]) -> None:
    # Written line by line: there may be a million.
    typer.echo("Accounts")
    typer.echo(
        _ROW.format(
            "unit (keyed hash)", "epsilon", "spent epsilon", "delta", "accounting", "neighbours", "orders"
        )
    )
    is_private = False
    for account in accounts:
        numbers = account.epsilon, account.spent_epsilon, account.delta
        orders = ", ".join(f"{each.order:g}" for each in account.balances if each.is_open)
        kind = account.accounting, account.neighbours
        sys.stdout.write(_ROW.format(account.unit[:16], *map(at_most, numbers), *kind, orders) + "\n")
        is_private = is_private or account.accounting == "adaptive"
    if is_private:
        typer.echo(f"What adaptive accounts have spent is {_PRIVATE}.")


@contextmanager
def _progress(title: str) -> Iterator[Progress | None]:
    """Show how far it is on standard error, if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
