"""``dpfusion calibrate`` and ``dpfusion epsilon``: from epsilon to settings, and back."""

from rich.console import Console
from rich.table import Table

from dpfusion_core.numbers import at_least, at_most
from dpfusion_core.privacy import (
    Accounting,
    FixedAccountant,
    Neighbours,
    PrivacyBudget,
    PrivacyParameters,
    calibrate_beta,
    rdp_to_epsilon,
    response_loss,
)
from dpfusion_core.privacy.calibration import compare_orders
from dpfusion_core.privacy.conversion import best_epsilon

_RELATIONS = {
    "zero-out": "with its text and with a blank in its place",
    "replace": "with any two texts that have the same public view",
}


def run_calibrate(
    console: Console,
    budget: PrivacyBudget,
    max_tokens: int,
    num_units: int,
    order: float | None,
    neighbours: Neighbours,
    accounting: Accounting,
    weight_cap: float | None = None,
) -> None:
    """Print what each order makes of a budget, and the settings to use.

    Raises:
        PrivacyParameterError: If a number is out of range or the target cannot be met.
    """
    if order is None:
        order = round(budget.best_order(), 3)  # to be typed as it stands
    chosen = calibrate_beta(
        budget.epsilon,
        budget.delta,
        max_tokens,
        num_units,
        order,
        neighbours,
        accounting=accounting,
        weight_cap=weight_cap,
    )
    table = Table(
        "",
        "order (alpha)",
        "loss of the response",
        "loss per token",
        "beta",
        title=(
            f"epsilon = {at_most(budget.epsilon)}, delta = {at_most(budget.delta)}: "
            f"{_request(max_tokens, num_units)}"
        ),
        caption="Losses in nats at the order.",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in compare_orders(
        budget, max_tokens, num_units, neighbours, accounting, chosen.order, weight_cap=weight_cap
    ):
        if row.parameters is None:
            table.add_row("", f"{row.order:.4g}", "cannot be met", "", "", style="dim")
            continue
        is_chosen = row.order == chosen.order
        table.add_row(
            "→" if is_chosen else "",
            f"{row.order:.4g}",
            at_most(row.loss, 4),
            at_most(row.loss / max_tokens),
            at_least(row.parameters.beta, 4),
            style="bold" if is_chosen else "",
        )
    console.print(table)
    # Settings to be typed: rounded down, so that they stay within epsilon.
    caps = "" if chosen.mixing_loss is None else f", mixing_loss={at_least(chosen.mixing_loss, 6)}"
    # At the same beta a smaller cap costs more: this one is rounded up.
    caps += "" if chosen.weight_cap == 1.0 else f", weight_cap={at_most(chosen.weight_cap, 6)}"
    settings = f"order={chosen.order}, beta={at_least(chosen.beta, 6)}{caps}"
    console.print(
        f"{settings} ({neighbours} neighbours, {accounting} accounting): {_meaning(budget, neighbours)}",
        highlight=False,
    )


def run_epsilon(
    console: Console, parameters: PrivacyParameters, max_tokens: int, num_units: int, accounting: Accounting
) -> None:
    """Print the epsilon that each order gives for per-token settings, and the one to report.

    Raises:
        PrivacyParameterError: If a number is out of range.
    """
    loss = response_loss(parameters, num_units, max_tokens)
    top, delta = parameters.order, parameters.delta
    if accounting == "fixed":
        epsilon, best = (
            FixedAccountant(parameters, num_units, max_tokens).guarantee(private=True).epsilon,
            best_epsilon(loss.at, top, delta).order,
        )
    else:
        epsilon, best = rdp_to_epsilon(loss.at(top), top, delta), top
    table = Table(
        "",
        "order",
        "loss of the response",
        "epsilon",
        title=f"order = {top:g}, beta = {at_most(parameters.beta)}: {_request(max_tokens, num_units)}",
        caption=f"Losses in nats at the order; epsilon at delta = {at_most(delta)}. Nothing is known above it.",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    shown = {top, best, *(o for o in (1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16, 32, 64, 128) if o < top)}
    for order in sorted(shown):
        value = loss.at(order if accounting == "fixed" else top)
        is_best = order == best
        table.add_row(
            "→" if is_best else "",
            f"{order:.4g}",
            at_most(value, 4),
            at_most(rdp_to_epsilon(value, order, delta)),
            style="bold" if is_best else "",
        )
    console.print(table)
    meaning = "" if epsilon == 0.0 else _meaning(PrivacyBudget(epsilon, delta), parameters.neighbours)
    console.print(
        f"epsilon = {at_most(epsilon)} at delta = {at_most(delta)} (order {best:.4g}, "
        f"{parameters.neighbours} neighbours, {accounting} accounting): {meaning}",
        highlight=False,
    )


def _request(max_tokens: int, num_units: int) -> str:
    tokens = f"{max_tokens} token{'s' if max_tokens != 1 else ''}"
    return f"{tokens}, {num_units} privacy unit{'s' if num_units != 1 else ''}"


def _meaning(budget: PrivacyBudget, neighbours: Neighbours) -> str:
    return (
        "whatever else a reader knows, an answer shifts the odds between the cases that differ in one unit, "
        f"{_RELATIONS[neighbours]}, by a factor of at most e^{at_most(budget.epsilon)}, save with probability "
        f"{at_most(budget.delta)}."
    )
