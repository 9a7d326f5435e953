"""Settings of the whole test run."""

import os

import pytest
import torch
from hypothesis import settings

# The models of the tests are tiny: a second thread costs more in waiting than it brings.
torch.set_num_threads(1)


# No deadline: machines are busy at times. Examples are new at every run, but the same in CI, where a
# find should not stop an unrelated change.
settings.register_profile("dpfusion", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("dpfusion")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a CUDA device run wherever there is one."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
