"""What people get from ``pip install dpfusion``: the wheel and nothing else."""

import email.parser
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"dpfusion_core", "langchain_dpfusion", "llamaindex_dpfusion"}
EXTRAS = {
    "agents",
    "all",
    "dev",
    "docs",
    "langchain",
    "llamaindex",
    "notebooks",
    "postgres",
    "presidio",
    "remote",
    "structured",
}
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="session")
def wheel_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, once, from the working tree and without the network."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(wheel_path: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(wheel_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def names(wheel: zipfile.ZipFile) -> set[str]:
    return set(wheel.namelist())


def _dist_info(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (
        n for n in wheel.namelist() if n.split("/")[0].endswith(".dist-info") and n.endswith(f"/{name}")
    )
    return wheel.read(path).decode("utf-8")


@pytest.fixture(scope="session")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return email.parser.Parser().parsestr(_dist_info(wheel, "METADATA"))


def test_top_level_is_the_three_packages_and_no_core(names: set[str]) -> None:
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES


def test_wheel_is_for_any_python_and_platform(wheel_path: Path) -> None:
    assert wheel_path.name.startswith("dpfusion-")
    assert wheel_path.name.endswith("-py3-none-any.whl")


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_say_that_they_are_typed(names: set[str], package: str) -> None:
    assert f"{package}/py.typed" in names


@pytest.mark.parametrize(
    "folder",
    ["core/dpfusion_core", "langchain_dpfusion", "llamaindex_dpfusion"],
    ids=lambda f: f.split("/")[-1],
)
def test_every_file_of_a_package_is_in_the_wheel(names: set[str], folder: str) -> None:
    base = ROOT / folder
    files = {
        f"{base.name}/{path.relative_to(base).as_posix()}"
        for path in base.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert files
    assert files - names == set()


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"],
)
def test_embedded_model_is_in_the_wheel(wheel: zipfile.ZipFile, name: str) -> None:
    assert wheel.getinfo(f"dpfusion_core/tiny/dpfusion-tiny/{name}").file_size > 0


def test_nothing_that_only_developers_need_is_in_the_wheel(names: set[str]) -> None:
    for name in names:
        parts = name.split("/")
        assert not {"tests", "training", "tiny_recipe"} & set(parts)
        assert "__pycache__" not in parts
        assert not name.endswith((".pyc", ".ipynb", ".sqlite"))


def test_wheel_stays_small(wheel_path: Path) -> None:
    assert wheel_path.stat().st_size < 20 * MEGABYTE


def test_metadata_names_the_licence_and_carries_its_text(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert _dist_info(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_metadata_names_the_extras_and_the_python(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS
    assert metadata["Requires-Python"] == ">=3.11"


def test_integrations_are_not_required_without_an_extra(metadata: Message) -> None:
    always = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert always
    assert not [
        line for line in always if line.startswith(("langchain", "langgraph", "llama", "presidio", "httpx"))
    ]


def test_version_is_the_one_the_package_states(metadata: Message) -> None:
    import dpfusion_core

    assert metadata["Version"] == dpfusion_core.__version__


def test_command_line_entry_point(wheel: zipfile.ZipFile) -> None:
    assert "dpfusion = dpfusion_core.cli:main" in _dist_info(wheel, "entry_points.txt").splitlines()


def test_check_wheel_contents_finds_no_fault(wheel_path: Path) -> None:
    command = [sys.executable, "-m", "check_wheel_contents", str(wheel_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_packages_import_from_the_wheel_alone(wheel_path: Path, tmp_path: Path) -> None:
    """With nothing of the working tree on the path: the wheel is complete, and brings no ``core``."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel_path) as opened:
        opened.extractall(site)
    code = (
        "import importlib.util, sys; "
        f"others = [p for p in sys.path if not p.startswith({str(ROOT)!r}) or 'site-packages' in p]; "
        f"sys.path = [{str(site)!r}, *others]; "
        "import dpfusion_core, langchain_dpfusion, llamaindex_dpfusion; "
        "from dpfusion_core.tiny import model_path; "
        f"assert dpfusion_core.__file__.startswith({str(site)!r}), dpfusion_core.__file__; "
        "assert (model_path() / 'model.safetensors').is_file(); "
        "assert importlib.util.find_spec('core') is None"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
