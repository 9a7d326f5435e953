"""The embedded demonstration model ``dpfusion-tiny`` and its recipe.

The modules build everything from nothing: :mod:`~dpfusion_core.demo.values`
makes private values, :mod:`~dpfusion_core.demo.fields` and
:mod:`~dpfusion_core.demo.records` put them into sentences,
:mod:`~dpfusion_core.demo.tasks` turns records into conversations,
:mod:`~dpfusion_core.demo.train` trains the model and
:mod:`~dpfusion_core.demo.evaluate` measures it by free generation.  The model
is for demonstration and tests only.
"""

from pathlib import Path

MODEL_NAME = "dpfusion-tiny"
"""Name of the embedded model and of the folder that holds it."""

PLACEHOLDER = "____"
"""What stands for a redacted value; one token of the model's tokenizer."""


def model_path() -> Path:
    """Return the folder of the embedded checkpoint.

    Returns:
        The folder with ``config.json``, the weights and the tokenizer.
    """
    return Path(__file__).resolve().parent / MODEL_NAME


__all__ = ["MODEL_NAME", "PLACEHOLDER", "model_path"]
