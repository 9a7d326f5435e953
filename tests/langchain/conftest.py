"""What every test of this folder begins with."""

from collections.abc import Iterator

import pytest

from dpfusion_core.adapters import seen, warn_unstable


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    """Let no test recognise the private texts of another one."""
    seen.forget()
    warn_unstable.cache_clear()
    yield
    seen.forget()
