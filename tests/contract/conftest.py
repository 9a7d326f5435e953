"""What every test of the contract begins with: both frameworks, and a process that has seen nothing."""

from collections.abc import Iterator

import pytest

from dpfusion_core.adapters import seen, warn_unstable
from llamaindex_dpfusion.prompts.net import seen_of_units
from tests.contract.frameworks import FRAMEWORKS, Framework


@pytest.fixture(params=FRAMEWORKS, ids=lambda framework: framework.name)
def framework(request: pytest.FixtureRequest) -> Framework:
    found: Framework = request.param
    return found


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    yield
    seen.forget()
    seen_of_units.forget()
    warn_unstable.cache_clear()
