"""What an import loads, and what is said if something is missing."""

import subprocess
import sys
from pathlib import Path

import langchain_dpfusion

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> str:
    path = f"import sys; sys.path[:0] = [{str(ROOT / 'core')!r}, {str(ROOT)!r}]; "
    done = subprocess.run(
        [sys.executable, "-c", path + code], capture_output=True, text=True, check=False, timeout=120
    )
    return done.stdout + done.stderr


def test_public_names_resolve() -> None:
    assert [name for name in langchain_dpfusion.__all__ if not hasattr(langchain_dpfusion, name)] == []
    assert not hasattr(langchain_dpfusion, "nothing")


def test_the_import_loads_neither_agents_nor_models() -> None:
    loaded = run("import langchain_dpfusion; print(*sorted(m for m in sys.modules if '.' not in m))").split()
    assert "langchain_core" in loaded
    assert not {"langchain", "langgraph", "transformers", "llguidance", "langchain_classic"} & set(loaded)


def test_a_missing_extra_names_the_command() -> None:
    assert "pip install 'dpfusion[agents]'" in run(
        "sys.modules['langchain'] = None; from langchain_dpfusion import DPFusionMiddleware"
    )
    assert "pip install 'dpfusion[langchain]'" in run(
        "sys.modules['langchain_core'] = None; import langchain_dpfusion"
    )
