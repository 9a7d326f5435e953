"""What every accountant promises, whatever its kind; a new one joins by a line in ``KINDS``."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from dpfusion_core import _validate
from dpfusion_core.errors import PrivacyParameterError
from dpfusion_core.privacy import (
    SPENDING_RULES,
    Accountant,
    AdaptiveAccountant,
    FixedAccountant,
    PrivacyParameters,
    RenyiLoss,
    token_loss,
)
from dpfusion_core.privacy.shares import ShareAccountant

ZERO_OUT, REPLACE = PrivacyParameters(2.0, 0.05), PrivacyParameters(2.0, 0.05, neighbours="replace")
PARAMETERS = [replace(each, weight_cap=cap) for each in (ZERO_OUT, REPLACE) for cap in (1.0, 0.5)]


def by_shares(parameters: PrivacyParameters, num_units: int, max_tokens: int, **more: Any) -> ShareAccountant:
    return ShareAccountant(parameters, num_units, [1.0] * _validate.count(max_tokens, "max_tokens"), **more)


MAKERS: dict[str, Callable[..., Accountant]] = {
    "fixed": FixedAccountant,
    "shares": by_shares,
    **{rule: functools.partial(AdaptiveAccountant, spending=rule) for rule in sorted(SPENDING_RULES)},
}
KINDS: dict[str, Callable[..., Accountant]] = {
    f"{name}, {parameters.neighbours}, cap {parameters.weight_cap}": functools.partial(kind, parameters)
    for parameters in PARAMETERS
    for name, kind in MAKERS.items()
}
UNITS, TOKENS = 3, 4
SECRET = 0.0123456


def parameters_of(accountant: Accountant) -> PrivacyParameters:
    said = accountant.guarantee(private=True)
    return next(
        p for p in PARAMETERS if (p.neighbours, p.weight_cap) == (said.neighbours, said.weight_cap or 1.0)
    )


def floor_of(accountant: Accountant) -> float:
    """Return what a token costs at least, and a little for zero-out neighbours."""
    return token_loss(REPLACE.surcharge, UNITS, 2.0, parameters_of(accountant).weight_cap)


def losses(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))
class TestAccountant:
    """The contract."""

    def start(self, make: Callable[..., Accountant], **more: Any) -> Accountant:
        return make(UNITS, TOKENS, **more)

    def used(self, accountant: Accountant) -> list[float]:
        return [loss.at(2.0) for loss in accountant.used()]

    @pytest.mark.parametrize(
        "size", [(0, 4), (-1, 4), (3, 0), (3, -1), (True, 4), (3, 4.0), ("3", 4), (3, None)], ids=str
    )
    def test_numbers_of_units_and_tokens_are_checked(
        self, make: Callable[..., Accountant], size: Any
    ) -> None:
        with pytest.raises(PrivacyParameterError, match=r"num_units|max_tokens"):
            make(*size)

    @pytest.mark.parametrize("active", [[], [True], [True] * 4, [True, False, 2], [1.0, 1.0, 1.0]], ids=str)
    def test_who_takes_part_is_checked(self, make: Callable[..., Accountant], active: Any) -> None:
        with pytest.raises(PrivacyParameterError, match="active"):
            self.start(make, active=active)

    def test_bounds_are_one_float64_of_at_least_0_for_each_unit(
        self, make: Callable[..., Accountant]
    ) -> None:
        accountant = self.start(make)
        for _ in range(TOKENS):
            bounds = accountant.bounds()
            assert (bounds.shape, bounds.dtype) == ((UNITS,), torch.float64)
            assert bool(((bounds >= 0.0) & bounds.isfinite()).all())
            accountant.charge(losses(0.0, 0.0, 0.0))

    @pytest.mark.parametrize(
        "wrong",
        [
            losses(),
            losses(SECRET),
            losses(SECRET, SECRET),
            losses(SECRET, SECRET, SECRET, SECRET),
            losses(SECRET, SECRET, SECRET)[None],
            losses(SECRET, SECRET, SECRET).float(),
            losses(SECRET, SECRET, -1e-300),
            losses(SECRET, float("nan"), SECRET),
            losses(SECRET, SECRET, float("inf")),
            [SECRET, SECRET, SECRET],
            SECRET,
            None,
        ],
        ids=repr,
    )
    def test_malformed_losses_are_refused_and_not_quoted(
        self, make: Callable[..., Accountant], wrong: Any
    ) -> None:
        accountant = self.start(make)
        before = self.used(accountant)
        with pytest.raises(PrivacyParameterError, match="losses of 3 units") as caught:
            accountant.charge(wrong)
        assert "0123" not in str(caught.value)
        assert (self.used(accountant), accountant.guarantee(private=True).tokens) == (before, 0)

    def test_no_token_beyond_the_last_is_charged_or_allowed(self, make: Callable[..., Accountant]) -> None:
        accountant = self.start(make)
        for _ in range(TOKENS):
            accountant.charge(losses(0.0, 0.0, 0.0))
        before = self.used(accountant)
        for more in (accountant.bounds, lambda: accountant.charge(losses(0.0, 0.0, 0.0))):
            with pytest.raises(PrivacyParameterError, match="max_tokens=4"):
                more()
        assert self.used(accountant) == before
        assert accountant.guarantee(private=True).tokens == TOKENS

    def test_what_is_used_never_falls_and_stays_within_the_guarantee(
        self, make: Callable[..., Accountant]
    ) -> None:
        accountant = self.start(make)
        parameters = parameters_of(accountant)
        size = UNITS, 2.0, parameters.weight_cap
        whole = TOKENS * token_loss(parameters.bound + parameters.surcharge, *size)
        before = self.used(accountant)
        for share in (1.0, 0.0, 0.5, 1.0):
            realised = token_loss(share * accountant.bounds() + parameters.surcharge, *size)
            accountant.charge(realised)
            after = self.used(accountant)
            assert all(new >= old for new, old in zip(after, before, strict=True))
            before = after
        assert max(before) <= whole * (1 + 1e-12)
        if parameters.neighbours == "replace":
            assert max(before) >= whole * (1 - 1e-9)  # what is not lost is charged too

    def test_a_unit_that_takes_no_part_is_allowed_nothing_and_charged_nothing(
        self, make: Callable[..., Accountant]
    ) -> None:
        accountant = self.start(make, active=[True, False, True])
        floor = floor_of(accountant)
        for _ in range(TOKENS):
            bounds = accountant.bounds()
            assert (bounds > 0.0).tolist() == [True, False, True]
            accountant.charge(losses(floor, floor, floor))
        assert [value > 0.0 for value in self.used(accountant)] == [True, False, True]
        guarantee = accountant.guarantee(private=True)
        assert (guarantee.units, guarantee.exhausted) == (UNITS, 1)

    def test_what_is_used_is_known_up_to_the_order_of_the_bounds(
        self, make: Callable[..., Accountant]
    ) -> None:
        for loss in self.start(make).used():
            assert isinstance(loss, RenyiLoss)
            assert loss.max_order == 2.0
            assert loss.at(1.5) <= loss.at(2.0)

    def test_the_guarantee_is_the_same_before_and_after(self, make: Callable[..., Accountant]) -> None:
        accountant = self.start(make)
        before = accountant.guarantee(private=True).epsilon
        floor = floor_of(accountant)
        accountant.charge(losses(floor, floor, floor))
        assert accountant.guarantee(private=True).epsilon == before


@pytest.mark.parametrize("granted", [[], [0.1], [0.1, -1.0], [0.1, float("nan")]], ids=str)
def test_what_a_ledger_grants_is_checked_and_not_quoted(granted: list[float]) -> None:
    with pytest.raises(PrivacyParameterError, match="2 entries of granted") as caught:
        AdaptiveAccountant(ZERO_OUT, 2, 4, granted=granted)
    assert "0.1" not in str(caught.value)


def test_a_rule_that_takes_more_than_it_was_allowed_is_refused() -> None:
    accountant = AdaptiveAccountant(ZERO_OUT, 1, 4)
    accountant.charge(losses(0.39))
    with pytest.raises(PrivacyParameterError, match="fusion rule") as caught:
        accountant.charge(losses(0.0123))
    assert "0.0" not in str(caught.value)
