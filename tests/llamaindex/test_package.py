import subprocess
import sys
from pathlib import Path

import llamaindex_dpfusion

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "llama_index" or name.startswith("llama_index."):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.startswith("llama_index") else find(name, package)
import llamaindex_dpfusion
"""


def test_without_llama_index_the_error_names_the_command() -> None:
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"},
    )
    assert found.returncode
    assert "pip install 'dpfusion[llamaindex]'" in found.stderr.splitlines()[-1]


def test_every_public_name_is_there() -> None:
    for name in llamaindex_dpfusion.__all__:
        assert getattr(llamaindex_dpfusion, name).__doc__
