"""Epsilon from a list of realised divergences, with the published library's function signatures."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, overload

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy.conversion import rdp_to_epsilon
from dpfusion_core.privacy.loss import token_loss

Convention = Literal["exact", "paper"]


def compute_epsilon_single_group(
    divergences: Sequence[float],
    alpha: float,
    delta: float,
    beta: float | None = None,
    *,
    convention: Convention = "exact",
) -> dict[str, float]:
    r"""Return epsilon for one privacy unit, from its realised divergences and from their bound.

    ``theoretical`` is a differential privacy guarantee, ``empirical`` is **not**: it is a function
    of the private data, a diagnostic for the data curator that must not be released.

    ``convention="exact"``: zero-out neighbours, docs/theory.md, formulas (1) and (4):
    ``sum_t d_t`` (or ``T alpha beta``) converted at ``alpha``.
    ``convention="paper"``, for comparison only (docs/theory.md, section 7):
    ``(4/alpha) sum_t d_t`` (or ``4 beta T``) plus ``log(1/delta)/(alpha-1)``. For ``alpha > 4`` this
    counts less than the loss; it is not sound there.

    Args:
        divergences: Realised divergence of each token in nats at order ``alpha``, the first included.
        alpha: Rényi order, above 1.
        delta: Probability in (0, 1). With ``convention="exact"`` at least 1e-9, as everywhere; the paper's
            formulas only compute its numbers, whatever delta is.
        beta: If given, each divergence was bounded by ``alpha * beta``.
        convention: ``"exact"`` or ``"paper"``.

    Returns:
        ``empirical`` and, if ``beta`` is given, ``theoretical`` epsilon in nats; ``T``, the number
        of tokens.

    Raises:
        PrivacyParameterError: If a value is out of range.

    Example:
        >>> result = compute_epsilon_single_group([0.04] * 100, alpha=2.0, delta=1e-5, beta=0.02)
        >>> round(result["theoretical"], 2)
        14.13
        >>> paper = compute_epsilon_single_group([0.04] * 100, 2.0, 1e-5, convention="paper")
        >>> round(paper["empirical"], 2)
        19.51
    """
    _check(alpha, delta, convention)
    values = _divergences(divergences)
    scale = 1.0 if convention == "exact" else 4.0 / alpha
    result: dict[str, float] = {
        "empirical": _convert(scale * math.fsum(values), alpha, delta, convention),
        "T": len(values),
    }
    if beta is not None:
        worst = len(values) * alpha * _validate.non_negative(beta, "beta")
        result["theoretical"] = _convert(scale * worst, alpha, delta, convention)
    return result


@overload
def compute_dp_epsilon(
    divergences: Mapping[str, Sequence[float]],
    alpha: float,
    delta: float,
    mode: Literal["global"] = "global",
    *,
    convention: Convention = "exact",
) -> float: ...
@overload
def compute_dp_epsilon(
    divergences: Mapping[str, Sequence[float]],
    alpha: float,
    delta: float,
    mode: Literal["per_group"],
    *,
    convention: Convention = "exact",
) -> dict[str, float]: ...
def compute_dp_epsilon(
    divergences: Mapping[str, Sequence[float]],
    alpha: float,
    delta: float,
    mode: Literal["global", "per_group"] = "global",
    *,
    convention: Convention = "exact",
) -> float | dict[str, float]:
    r"""Return epsilon for several units whose contributions were averaged.

    From realised divergences the result is a diagnostic for the data curator and **not** a
    differential privacy guarantee; from constant bounds (``[alpha * beta] * T``) it is one.

    ``convention="exact"``: docs/theory.md, formulas (1) and (4), zero-out neighbours.
    ``convention="paper"``, for comparison only (docs/theory.md, section 7):
    ``sum_t log((m-1)/m + e^((alpha-1) 4 d_t)/m)/(alpha-1) + log(1/delta)/(alpha-1)``.

    Args:
        divergences: Unit to the divergence of each token in nats; all of one length. The key
            ``"PUBLIC"`` is ignored.
        alpha: Rényi order, above 1.
        delta: Probability in (0, 1). With ``convention="exact"`` at least 1e-9, as everywhere; the paper's
            formulas only compute its numbers, whatever delta is.
        mode: ``"global"``: one epsilon from the largest divergence of each token.
            ``"per_group"``: one epsilon for each unit.
        convention: ``"exact"`` or ``"paper"``.

    Returns:
        Epsilon in nats, or a dict of them by unit.

    Raises:
        PrivacyParameterError: If a value is out of range, the lengths differ, or no unit is given.

    Example:
        >>> round(compute_dp_epsilon({"a": [0.04] * 100}, 2.0, 1e-5, convention="paper"), 2)
        27.51
        >>> round(compute_dp_epsilon({"a": [0.04] * 100}, 2.0, 1e-5), 2)
        14.13
    """
    _check(alpha, delta, convention)
    if mode not in ("global", "per_group"):
        raise PrivacyParameterError(f"Expected mode 'global' or 'per_group', got {mode!r}.")
    units = {unit: _divergences(row) for unit, row in divergences.items() if unit != "PUBLIC"}
    if not units:
        raise PrivacyParameterError("Expected at least one private unit, got none.")
    if len({len(row) for row in units.values()}) != 1:
        raise PrivacyParameterError("Expected lists of divergences of one length, got different ones.")
    scale = 1.0 if convention == "exact" else 4.0

    def epsilon(row: Sequence[float]) -> float:
        loss = math.fsum(token_loss(scale * d, len(units), alpha) for d in row)
        return _convert(loss, alpha, delta, convention)

    if mode == "per_group":
        return {unit: epsilon(row) for unit, row in units.items()}
    return epsilon([max(column) for column in zip(*units.values(), strict=True)])


def _convert(loss: float, alpha: float, delta: float, convention: Convention) -> float:
    if convention == "paper":
        return loss + math.log(1.0 / delta) / (alpha - 1.0)
    return rdp_to_epsilon(loss, alpha, delta)


def _check(alpha: float, delta: float, convention: str) -> None:
    _validate.order(alpha)
    if convention not in ("exact", "paper"):
        raise PrivacyParameterError(f"Expected convention 'exact' or 'paper', got {convention!r}.")
    if convention == "paper":
        _validate.probability(delta, "delta")
    else:
        _validate.delta(delta)


def _divergences(values: Sequence[float]) -> list[float]:
    return [_validate.non_negative(float(value), "divergence") for value in values]
