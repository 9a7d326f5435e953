"""The floors: each part of ``dpfusion_core`` imports only from floors below its own. Imports stay light."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "core" / "dpfusion_core"

# Every part of the package and its floor. A new module or subpackage must be given its floor here.
FLOORS = {
    "errors": 0,
    "units": 0,
    "messages": 0,
    "_validate": 0,
    "numbers": 0,
    "services": 0,
    "threads": 0,
    "tiny": 0,
    "privacy": 1,
    "sampling": 1,
    "placeholders": 1,
    "views": 2,
    "backends": 2,
    "tagging": 2,
    "ledger": 2,
    "decoding": 3,
    "generation": 2,
    "planning": 3,
    "charging": 3,
    "consensus": 3,
    "releases": 3,
    "release_charging": 3,
    "options": 1,
    "tokenization": 0,
    "tool_calling": 1,
    "turns": 1,
    "constraints": 2,
    "choices": 2,
    "closed": 1,
    "engine": 4,
    "dpfusion": 5,
    "compat": 6,
    "documents": 5,
    "audit": 5,
    "adapters": 6,
    "cli": 7,
}

# Imports within a floor: (importer, imported) and why it does no harm.
BESIDE = {
    ("messages", "errors"),  # the exception tree is the lowest of all, it imports nothing
    ("_validate", "errors"),  # likewise
    ("units", "errors"),  # likewise
    ("services", "errors"),  # likewise
    ("messages", "units"),  # the normal form of ids imports nothing but errors
    ("tokenization", "errors"),  # likewise
    ("options", "privacy"),  # what budgets, orders and rules there are, and which can be met
    ("sampling", "options"),  # the checks of its numbers stand with the other options
    ("consensus", "planning"),  # a consensus is planned and charged like a response
    ("consensus", "charging"),
    ("consensus", "releases"),
    ("consensus", "release_charging"),
    ("charging", "planning"),  # what a request may cost comes before its charge
    ("charging", "releases"),  # likewise
    ("charging", "release_charging"),
    ("release_charging", "releases"),
    ("releases", "planning"),  # both find the order of accounts
}

# What privacy/, the pure mathematics, may import beside the standard library.
MATHEMATICS = {"torch", "numpy", "lazy_loader", "opendp"}

# What only loads when it is first used, and so never at the top of a module (type checking aside).
LAZY = {
    "accelerate",
    "httpx",
    "llguidance",
    "langchain",
    "langchain_core",
    "langgraph",
    "llama_index",
    "opendp",
    "presidio_analyzer",
    "psycopg",
    "sqlalchemy",
    "transformers",
}


PACKAGES = {
    "dpfusion_core": PACKAGE,
    "langchain_dpfusion": ROOT / "langchain_dpfusion",
    "llamaindex_dpfusion": ROOT / "llamaindex_dpfusion",
}

LONGEST = 300
"""Lines of a module, beyond which it holds more than one meaning."""


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path) -> list[tuple[str, int]]:
    """Return the absolute names that a file imports anywhere, even in functions, with their lines."""
    package = _module(path) if path.name == "__init__.py" else _module(path).rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            # In `from dpfusion_core import x`, x is a part of the package, or a name of its __init__.
            parts = (
                [alias.name for alias in node.names if alias.name in FLOORS]
                if base == "dpfusion_core"
                else []
            )
            found += [(f"{base}.{part}", node.lineno) for part in parts]
            if len(parts) < len(node.names):
                found.append((base, node.lineno))
    return found


def _part(module: str) -> str | None:
    """Return the part of the package that a module belongs to; None for other packages."""
    names = module.split(".")
    if names[0] != "dpfusion_core":
        return None
    return names[1] if len(names) > 1 else ""


def _sources(*parts: str) -> list[Path]:
    files = (p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py")
    return [p for p in files if not parts or _part(_module(p)) in parts]


def _breach(importer: str, imported: str) -> str | None:
    """Say what is wrong with an import from one part of the package of another, or None."""
    if importer == imported:
        return None
    if imported == "":  # the public names and the version
        return (
            None if importer == "cli" else "imports the package itself, which is above all floors but cli's"
        )
    if imported not in FLOORS:
        return f"imports {imported}, which is on no floor"
    if FLOORS[imported] < FLOORS[importer] or (importer, imported) in BESIDE:
        return None
    return f"imports {imported} of floor {FLOORS[imported]} from floor {FLOORS[importer]}"


def _id(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _run(code: str) -> str:
    """Run code in a new interpreter that sees the working tree, and return what it wrote."""
    path = f"import sys; sys.path[:0] = [{str(PACKAGE.parent)!r}, {str(ROOT)!r}]; "
    done = subprocess.run(
        [sys.executable, "-c", path + code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_part_has_a_floor() -> None:
    parts = {_part(_module(path)) for path in _sources()}
    assert parts - FLOORS.keys() == set()


@pytest.mark.parametrize("path", _sources(*FLOORS), ids=_id)
def test_imports_only_from_floors_below(path: Path) -> None:
    importer = _part(_module(path))
    assert importer is not None
    breaches = []
    for module, line in _imported(path):
        imported = _part(module)
        breach = None if imported is None else _breach(importer, imported)
        if breach:
            breaches.append(f"line {line}: {breach}")
    assert not breaches, breaches


@pytest.mark.parametrize("path", _sources("privacy"), ids=_id)
def test_privacy_is_mathematics_alone(path: Path) -> None:
    allowed = sys.stdlib_module_names | MATHEMATICS | {"dpfusion_core"}
    assert {module.split(".")[0] for module, _ in _imported(path)} - allowed == set()
    parts = {_part(module) for module, _ in _imported(path)}
    assert parts - {None, "privacy", "errors", "_validate", "numbers"} == set()


@pytest.mark.parametrize("path", _sources(), ids=_id)
def test_engine_knows_nothing_of_the_integrations(path: Path) -> None:
    integrations = {"langchain", "langchain_core", "langgraph", "llama_index"}
    integrations |= {"langchain_dpfusion", "llamaindex_dpfusion"}
    assert {module.split(".")[0] for module, _ in _imported(path)} & integrations == set()


@pytest.mark.parametrize("source", ["core", "tests"])
def test_plain_folders_stay_plain(source: str) -> None:
    """With an ``__init__.py`` they would become packages that collide with other people's."""
    assert not (ROOT / source / "__init__.py").exists()


@pytest.mark.parametrize("package", ["dpfusion_core", "dpfusion_core.privacy", "dpfusion_core.cli"])
def test_import_is_light(package: str) -> None:
    written = _run(f"import {package}; print(*sorted(m for m in sys.modules if '.' not in m))")
    assert set(written.split()) & LAZY == set()


@pytest.mark.parametrize(
    "code, heavy",
    [
        (
            "import dpfusion_core; dpfusion_core.__version__",
            {"torch", "numpy", "pydantic", "sqlalchemy", "jinja2"},
        ),
        ("import dpfusion_core.cli", {"torch", "numpy", "transformers"}),
        ("from dpfusion_core.cli.ledger import ledger_app", {"torch", "numpy", "transformers"}),
    ],
)
def test_names_load_at_their_first_use(code: str, heavy: set[str]) -> None:
    """Whoever asks for ``--help``, a version or the ledger does not wait for torch."""
    assert heavy & set(_run(f"{code}; print(*sys.modules)").split()) == set()


def test_public_names_are_sorted_and_resolve() -> None:
    package = importlib.import_module("dpfusion_core")
    assert package.__all__ == sorted(package.__all__)
    assert len(package.__all__) == len(set(package.__all__))
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def _imports_of(tree: ast.AST, package: str, modules: set[str]) -> set[str]:
    """Return the modules of one package that a file imports, in functions and for type checking too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            inner = {f"{base}.{alias.name}" for alias in node.names}
            # In `from package import x`, x is a module, or a name of the package itself.
            found |= (inner & modules) | ({base} if inner - modules else set())
    return found & modules


def _graph(root: Path) -> dict[str, set[str]]:
    """Return what each module of a package imports. What a module's ``__getattr__`` loads is for others."""
    files = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        graph[name] = _imports_of(tree, package, set(files)) - {name}
    return graph


def _on_circles(graph: dict[str, set[str]]) -> set[str]:
    """Return the modules that import themselves by way of others."""

    def below(name: str) -> set[str]:
        found: set[str] = set()
        rest = list(graph[name])
        while rest:
            each = rest.pop()
            if each not in found:
                found.add(each)
                rest += graph[each]
        return found

    return {name for name in graph if name in below(name)}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other(package: str) -> None:
    """Imports for type checking count: whoever reads a circle must read all of it to understand a part."""
    graph = _graph(PACKAGES[package])
    assert len(graph) > 20
    assert _on_circles(graph) == set()


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("from parts import b", "from parts.a import A"),
        ("from parts.b import B", "from . import a"),
        ("import parts.b", "def f():\n    from .a import A"),
        ("from .b import B", "if TYPE_CHECKING:\n    from parts.a import A"),
    ],
)
def test_a_circle_is_found(tmp_path: Path, one: str, two: str) -> None:
    root = tmp_path / "parts"
    root.mkdir()
    for name, text in (("__init__", ""), ("a", one), ("b", two)):
        (root / f"{name}.py").write_text(text, encoding="utf-8")
    assert _on_circles(_graph(root)) == {"parts.a", "parts.b"}
    (root / "b.py").write_text("", encoding="utf-8")
    assert _on_circles(_graph(root)) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_is_long(package: str) -> None:
    root = PACKAGES[package]
    names = [path.relative_to(root.parent).as_posix() for path in root.rglob("*.py")]
    lengths = {name: len((root.parent / name).read_text(encoding="utf-8").splitlines()) for name in names}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


@pytest.mark.parametrize("package", ["langchain_dpfusion", "llamaindex_dpfusion"])
def test_public_names_of_the_integrations_are_sorted(package: str) -> None:
    """Read, not imported: the integrations need their extras."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    assigned = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            assigned[node.target.id] = node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned[node.targets[0].id] = node.value
    names = ast.literal_eval(assigned["__all__"])
    assert names == sorted(set(names))


@pytest.mark.parametrize(
    ("importer", "imported"),
    [("privacy", "engine"), ("views", "backends"), ("engine", "engine2"), ("ledger", "cli"), ("engine", "")],
)
def test_a_breach_of_the_floors_is_found(importer: str, imported: str) -> None:
    assert _breach(importer, imported)


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("import dpfusion_core.engine", "dpfusion_core.engine"),
        ("from dpfusion_core import engine", "dpfusion_core.engine"),
        ("from dpfusion_core.engine import FusionEngine", "dpfusion_core.engine"),
        ("from dpfusion_core import engine, FusionEngine", "dpfusion_core.engine"),
        ("from dpfusion_core import engine, FusionEngine", "dpfusion_core"),
        ("from .. import engine", "dpfusion_core.engine"),
        ("from ..engine import FusionEngine", "dpfusion_core.engine"),
        ("from .loss import token_loss", "dpfusion_core.privacy.loss"),
        ("def f():\n    import dpfusion_core.engine", "dpfusion_core.engine"),
    ],
)
def test_every_way_to_import_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, module: str
) -> None:
    package = tmp_path / "dpfusion_core"
    (package / "privacy").mkdir(parents=True)
    file = package / "privacy" / "example.py"
    file.write_text(line, encoding="utf-8")
    monkeypatch.setitem(globals(), "PACKAGE", package)
    assert module in {name for name, _ in _imported(file)}
