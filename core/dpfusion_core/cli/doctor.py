"""``dpfusion doctor``: what is installed, what it runs on, and what is missing."""

import os
import platform
import sys
from importlib import metadata, util

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dpfusion_core.errors import BackendError
from dpfusion_core.tiny import MODEL_NAME, model_path

_REQUIRED = (
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "safetensors",
    "jinja2",
    "sqlalchemy",
    "typer",
    "rich",
)
_EXTRAS = {
    "langchain": ("langchain_core", "LangChain chat model"),
    "llamaindex": ("llama_index.core", "LlamaIndex LLM"),
    "structured": ("llguidance", "forced tool calls, JSON output"),
    "presidio": ("presidio_analyzer", "pattern recognisers for personal data"),
    "remote": ("httpx", "the Document Privacy service"),
    "agents": ("langgraph", "LangChain agents"),
    "postgres": ("psycopg", "ledger on PostgreSQL"),
}

_VIEWS = {
    "together": "together: they share forward passes, and no bit of one depends on another",
    "apart": "apart: a forward pass for each, since those of a batch would touch",
    "unsafe": "[red]unsafe: the model's numbers do not repeat; it is refused private text[/]",
    None: "[red]cannot be loaded: check the name, the files and the network[/]",
}


def run_doctor(console: Console, model: str = MODEL_NAME) -> bool:
    """Print the table; return whether everything that is needed is there.

    Args:
        console: Where the table goes.
        model: A name or a path; loaded, to see whether its views can share forward passes.
    """
    table = Table("what", "found", title="dpfusion doctor", title_justify="left")
    is_healthy = True
    table.add_row("Python", f"{platform.python_version()} at {sys.prefix}")
    table.add_row("system", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    for package in ("dpfusion", *_REQUIRED):
        version = _version(package)
        is_healthy &= version is not None or package == "dpfusion"
        missing = (
            "[yellow]run from a checkout[/]"
            if package == "dpfusion"
            else "[red]missing: pip install dpfusion[/]"
        )
        table.add_row(package, version or missing)
    table.add_row("device", _device())
    weights = model_path() / "model.safetensors"
    if weights.is_file():
        table.add_row("dpfusion-tiny", f"{weights.stat().st_size / 1e6:.1f} MB at {model_path()}")
    else:
        is_healthy = False
        table.add_row("dpfusion-tiny", "[red]missing: reinstall dpfusion[/]")
    passes = _passes(model)
    is_healthy &= passes is not None
    table.add_row(f"views of {escape(model)}", _VIEWS[passes])
    for extra, (module, purpose) in _EXTRAS.items():
        hint = f"[dim]not installed: pip install 'dpfusion\\[{extra}]'[/]"
        table.add_row(f"{extra} [dim]({purpose})[/]", "installed" if _is_importable(module) else hint)
    console.print(table)
    console.print(
        "Everything needed is there." if is_healthy else "[red]Something needed is missing, see above.[/]"
    )
    return is_healthy


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _passes(model: str) -> str | None:
    from dpfusion_core.backends import TransformersBackend

    try:
        return TransformersBackend.from_pretrained(model).passes
    except (BackendError, OSError, ImportError):
        return None


def _is_importable(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return f"CUDA: {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        return "Apple GPU (not used by default: float64 is missing there)"
    return f"CPU, {torch.get_num_threads()} threads"
