"""Capped weights: what all contributions to a token have in common costs no unit anything.

If no unit's text gets more than the weight ``L``, each contribution holds ``(1 - L) q``. That part of the mean
is the same whatever a unit's text is, so that the text speaks in the rest alone, and there diluted
(docs/theory.md, section 3, formula 1c).
"""

import math

from dpfusion_core import _validate


def dilution(num_units: int, weight_cap: float) -> float:
    r"""Return by how much less than its own weight a unit's text weighs in the part of the mean that it moves.

    .. math:: N \kappa = N - L (N - 1) = N (1 - L) + L, \qquad \kappa = \text{the share of that part}

    Args:
        num_units: Number ``N`` of units of the request, those that were zeroed out included.
        weight_cap: ``L``, above 0: no unit's weight is larger. 1 is no cap.

    Returns:
        A number from 1 (one unit, or no cap) to ``N``.

    Raises:
        PrivacyParameterError: If a number is out of range.

    Example:
        >>> dilution(8, 0.5), dilution(8, 1.0), dilution(1, 0.5)
        (4.5, 1.0, 1.0)
    """
    _validate.count(num_units, "num_units")
    _validate.share(weight_cap, "weight_cap")
    if num_units == 1:
        return 1.0
    return num_units * (1.0 - weight_cap) + weight_cap  # a sum of positive terms: no digits are lost


def mixing_loss_of(weight_cap: float, num_units: int) -> float:
    r"""Return what capped weights cost a unit on top of its divergence under replace neighbours.

    .. math:: c_\infty = -\log\left( 1 - \frac{L}{N \kappa} \right)

    (docs/theory.md, section 3, formula 3c).

    Args:
        weight_cap: ``L``, above 0.
        num_units: Number ``N`` of units of the request.

    Returns:
        Nats per token; infinite without a cap.

    Raises:
        PrivacyParameterError: If a number is out of range.

    Example:
        >>> round(mixing_loss_of(0.5, 8), 4), round(mixing_loss_of(0.5, 1), 4)
        (0.1178, 0.6931)
    """
    weight = weight_cap / dilution(num_units, weight_cap)
    return math.inf if weight >= 1.0 else -math.log1p(-weight)


def weight_cap_of(mixing_loss: float, num_units: int) -> float:
    """Return the cap that costs ``mixing_loss``: the inverse of :func:`mixing_loss_of`.

    Raises:
        PrivacyParameterError: If a number is out of range.

    Example:
        >>> round(weight_cap_of(0.1178, 8), 2)
        0.5
    """
    _validate.count(num_units, "num_units")
    weight = -math.expm1(-_validate.positive(mixing_loss, "mixing_loss"))
    return weight * num_units / (1.0 + weight * (num_units - 1))


def default_weight_cap(num_units: int) -> float:
    """Return a good cap for a number of units; 1, none, for one.

    Example:
        >>> default_weight_cap(1), default_weight_cap(8)
        (1.0, 0.5)
    """
    return 1.0 if _validate.count(num_units, "num_units") == 1 else 0.5
