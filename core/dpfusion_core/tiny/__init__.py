"""The embedded model ``dpfusion-tiny``: for demonstration and tests only. Its card stands beside the weights."""

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
