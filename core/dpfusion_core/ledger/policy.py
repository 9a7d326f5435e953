"""Which budget a privacy unit gets, and at which Rényi orders it is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.ledger import amounts
from dpfusion_core.numbers import at_most
from dpfusion_core.privacy.budget import PrivacyBudget, smallest_epsilon
from dpfusion_core.units import has_prefix, unit_id, unit_prefix


@dataclass(frozen=True)
class BudgetPolicy:
    r"""The budgets of units that the ledger meets for the first time.

    Why a unit's account has one order unless ``orders`` says otherwise: requests may depend on the
    responses to earlier ones. Going on while the losses at *some* order :math:`a` are within
    :math:`B_\delta(a)` is then not :math:`(\epsilon, \delta)`-differentially private, because the
    responses can decide which order is the one that holds: some of them use up :math:`\delta` at one
    order, the others use it up once more at another. It is sound if the orders share
    :math:`\delta`. With :math:`B_i` the budget of order :math:`a_i` for :math:`(\epsilon, \delta_i)`,
    let :math:`O_i` be the sequences of responses at whose end order :math:`a_i` holds. On :math:`O_i`
    the process is the one that stops when order :math:`a_i` is used up, a Rényi filter (Feldman and
    Zrnic 2021), hence for every event :math:`S`

    .. math:: P(S \cap O_i) \le e^\epsilon Q(S \cap O_i) + \delta_i,

    and the sum over :math:`i` gives :math:`(\epsilon, \sum_i \delta_i)`. So each of ``K`` orders gets
    ``delta / K``. The price is small, ``log(K) / (a - 1)`` nats of the budget at order ``a``.

    Adaptive accounts are always kept at one order, that of the first request: the Rényi filter of
    docs/theory.md, section 4 works at one.

    Attributes:
        default: Budget of every unit that no collection names; None for no budget.
        collections: Budgets by prefix of the unit's id, both in their normal form; the longest prefix
            that fits is used. ``hr/`` holds what is below ``hr``, ``hr`` holds ``hr-old`` too.
        orders: Rényi orders at which fixed accounts are kept. None for one, the order of the first
            request, which has all of delta. Name several if requests will use different ones.
        release_share: Part of every delta that is for releases (:mod:`dpfusion_core.privacy.release`), each of
            which has a delta of its own; the rest is for the conversion of Rényi loss. It is set down when an
            account is opened. With 0 no release can be charged.

    Raises:
        PrivacyParameterError: If a value is out of range.

    Example:
        >>> policy = BudgetPolicy(PrivacyBudget(8.0), {"hr/": PrivacyBudget(4.0), "hr/pay/": PrivacyBudget(2.0)})
        >>> [policy.budget_for(unit).epsilon for unit in ("doc-17", "./HR/cv-3", "hr/pay/2024")]
        [8.0, 4.0, 2.0]
    """

    default: PrivacyBudget | None = None
    collections: Mapping[str, PrivacyBudget] = field(default_factory=dict)
    orders: Sequence[float] | None = None
    release_share: float = 0.1

    def __post_init__(self) -> None:
        budgets = [*self.collections.values(), *([] if self.default is None else [self.default])]
        if not all(isinstance(budget, PrivacyBudget) for budget in budgets):
            raise PrivacyParameterError("Expected every budget of a policy to be a PrivacyBudget.")
        check_share(self.release_share)
        collections = {unit_prefix(prefix): budget for prefix, budget in self.collections.items()}
        if len(collections) < len(self.collections):
            raise PrivacyParameterError("Two keys of collections are spellings of one prefix. Keep one.")
        object.__setattr__(self, "collections", MappingProxyType(collections))
        if self.orders is not None:
            orders = tuple(sorted({_validate.order(order, "orders") for order in self.orders}))
            if not orders:
                raise PrivacyParameterError("Expected at least one order in orders, or None.")
            object.__setattr__(self, "orders", orders)

    def budget_for(self, unit: str) -> PrivacyBudget | None:
        """Return the budget of a unit, or None if the policy has none for it.

        Raises:
            PrivacyParameterError: If ``unit`` is no id.
        """
        name = unit_id(unit)
        prefixes = [prefix for prefix in self.collections if has_prefix(name, prefix)]
        return self.collections[max(prefixes, key=len)] if prefixes else self.default


def check_share(share: float) -> float:
    """Return the part of delta that is for releases, or raise ``PrivacyParameterError``."""
    if not 0.0 <= _validate.unit_interval(share, "release_share") < 1.0:
        raise PrivacyParameterError(f"Expected 0 <= release_share < 1, got {share!r}.")
    return float(share)


def conversion_delta(delta: float, release_share: float, shares: int = 1) -> float:
    """Return what is left of an account's delta for the conversion of Rényi loss at one of its orders.

    Raises:
        PrivacyParameterError: If it is too little.
    """
    part = amounts.split_delta(delta, release_share)[0] / shares
    if part < _validate.SMALLEST_DELTA:
        raise PrivacyParameterError(
            f"delta={delta} is too small to be split: release_share={release_share} of it is for releases, and "
            f"{shares} order{'s share' if shares > 1 else ' has'} the rest, at least {_validate.SMALLEST_DELTA:g} "
            "each. Use a larger delta, fewer orders, or release_share=0 where no releases are asked for."
        )
    return part


def split(
    budget: PrivacyBudget, orders: Sequence[float], shares: int, release_share: float
) -> dict[float, int]:
    """Return the budget at each order, delta shared equally: amounts of 1e-12 nats, rounded down.

    Args:
        budget: What may be lost in all.
        orders: Rényi orders.
        shares: Into how many parts delta's part for the conversion is divided; at least the number of orders.
        release_share: Part of delta that is for releases.

    Returns:
        The orders at which some loss, however small, can be certified, with their budgets.

    Raises:
        PrivacyParameterError: If there is no such order.
    """
    part = PrivacyBudget(budget.epsilon, conversion_delta(budget.delta, release_share, shares))
    found = {order: amount for order in orders if (amount := amounts.budget(part.loss_at(order))) > 0}
    if not found:
        order = max(orders)
        needed = min(smallest_epsilon(each, part.delta) for each in orders)
        shared = f", shared by {shares} orders" if shares > 1 else ""
        raise PrivacyParameterError(
            f"epsilon={budget.epsilon} cannot be certified at order {order:g} with "
            f"delta={budget.delta}{shared}: the conversion alone costs {at_most(needed)}. Use a larger "
            f"epsilon, or a larger order: one near {budget.best_order():.3g} has the most room."
        )
    return found
