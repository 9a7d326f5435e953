"""Numbers for people: a bound is never shown smaller than it is, what is left never larger."""

import ast
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpfusion_core.numbers import as_asked, at_least, at_most
from dpfusion_core.privacy import (
    Accounting,
    AdaptiveAccountant,
    FixedAccountant,
    PrivacyParameters,
    calibrate_beta,
)

magnitudes = st.floats(min_value=5e-324, max_value=1.7e308)


@given(value=magnitudes, digits=st.integers(3, 9))
@example(value=0.00413, digits=3)
@example(value=7.999999999984846, digits=3)
@example(value=0.9999999, digits=3)
@example(value=1.0000001, digits=3)
@example(value=5e-324, digits=3)
@example(value=1.7976931348623157e308, digits=3)
def test_what_is_shown_is_on_the_safe_side_and_within_one_percent(value: float, digits: int) -> None:
    up, down = float(at_most(value, digits)), float(at_least(value, digits))
    assert down <= value <= up
    if value > 1e-320:  # below, doubles are further apart than that
        assert up <= value * 1.01
        assert down >= value * 0.99


@given(value=magnitudes)
def test_three_significant_digits_below_one_and_two_decimals_above(value: float) -> None:
    shown = at_most(value)
    if value >= 1.0:
        assert round(float(shown), 2) == float(shown) or value > 1e13
    elif value > 1e-300:
        assert float(f"{float(shown):.2e}") == float(shown)


@pytest.mark.parametrize(
    "value, shown",
    [
        (0.00413, "0.00413"),
        (0.004130000001, "0.00414"),
        (7.999999999984846, "8.0"),
        (8.0, "8.0"),
        (14.125601, "14.13"),
        (1e-5, "1e-05"),
        (1.0000001e-5, "1.01e-05"),
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (0.99951, "1.0"),
        (math.inf, "inf"),
    ],
)
def test_how_bounds_are_shown(value: float, shown: str) -> None:
    assert at_most(value) == shown


def test_what_is_not_a_number_is_shown_as_such() -> None:
    assert at_most(math.nan) == at_least(math.nan) == "nan"


@given(asked=st.floats(1e-3, 1e3), gap=st.floats(0.0, 1e-2))
def test_only_rounding_is_taken_for_what_was_asked(asked: float, gap: float) -> None:
    told = as_asked(asked - gap, asked)
    assert told >= asked - gap
    assert told in (asked, asked - gap)
    assert told == asked - gap or gap <= 2e-9 * max(1.0, asked)
    assert as_asked(asked + 1e-6, asked) > asked


@given(epsilon=st.floats(1e-12, 1e6), delta=st.floats(1e-9, 0.1), order=st.floats(1.01, 256.0))
def test_the_sentence_of_a_guarantee_never_promises_more_than_it_holds(
    epsilon: float, delta: float, order: float
) -> None:
    whole = FixedAccountant(PrivacyParameters(2.0, 0.02), 1, 100).guarantee(private=True)
    said = str(replace(whole, epsilon=epsilon, delta=delta, order=order))
    found = re.search(r"epsilon = (\S+) at delta = (\S+) \(order (\S+),", said)
    assert found is not None
    shown = [float(each) for each in found.groups()]
    assert epsilon <= shown[0] <= epsilon * 1.01
    assert delta <= shown[1] <= delta * 1.01
    assert order * 0.9999 <= shown[2] <= order
    assert f"e^{found.group(1)}," in said
    assert f"probability {found.group(2)}:" in said


def test_0_00413_is_not_printed_as_0_00() -> None:
    whole = FixedAccountant(PrivacyParameters(2.0, 0.02), 1, 100).guarantee(private=True)
    assert "epsilon = 0.00413 at" in str(replace(whole, epsilon=0.00413))


@pytest.mark.parametrize("kind", [FixedAccountant, AdaptiveAccountant])
def test_what_was_asked_for_and_met_is_what_is_reported(kind: type[FixedAccountant]) -> None:
    accounting: Accounting = "fixed" if kind is FixedAccountant else "adaptive"
    for asked in (8.0, 0.1, 1 / 3, 16.0):
        parameters = calibrate_beta(asked, 1e-5, 100, accounting=accounting)
        assert kind(parameters, 1, 100).guarantee(private=True).epsilon < asked
        assert kind(parameters, 1, 100, asked=asked).guarantee(private=True).epsilon == asked
        # Not what was asked for: a response that costs less, or more.
        assert kind(parameters, 1, 90, asked=asked).guarantee(private=True).epsilon < asked
        assert kind(parameters, 1, 110, asked=asked).guarantee(private=True).epsilon > asked


ROOT = Path(__file__).parents[2]
BOUNDS = re.compile(r"epsilon|delta|beta|loss|spent|left|bound|budget|rho|smallest")


def test_no_bound_is_formatted_in_another_way() -> None:
    """Format specifications round to the nearest: of a bound, that is to the wrong side half of the time."""
    found = []
    for package in ("core/dpfusion_core", "langchain_dpfusion", "llamaindex_dpfusion"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
                    shown = ast.unparse(node.value)
                    if BOUNDS.search(shown) and "order" not in shown:
                        found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {shown}")
    assert found == []
