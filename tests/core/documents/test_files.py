"""What a run over a folder opens, where it writes, and by what name a ledger knows what it has read."""

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpfusion_core import FusionEngine, PhraseTagger, PrivacyBudget, PrivacyLedger
from dpfusion_core.documents import Privatizer
from dpfusion_core.documents.files import find_files, read_bytes
from dpfusion_core.documents.folder import REPORT, RunSummary, privatize_folder
from dpfusion_core.documents.formats import Columns
from dpfusion_core.documents.journal import FILE
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError, ViewError
from tests.core.toys import saying_backend

TAGGER = PhraseTagger(["xyzzy"])


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def run(source: Path, target: Path, **arguments: Any) -> RunSummary:
    return privatize_folder(source, target, Privatizer(tagger=TAGGER), settings={}, **arguments)


class Charges:
    """Runs under one ledger, and the units that it has been charged for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, 0
        self.ledger = PrivacyLedger(f"sqlite:///{folder}/ledger.db", budget=PrivacyBudget(80.0))

    def __call__(self, source: Path, **arguments: Any) -> RunSummary:
        self.runs += 1
        engine = FusionEngine(saying_backend("ab"), ledger=self.ledger)
        privatizer = Privatizer("dp", tagger=TAGGER, engine=engine, epsilon=4.0, max_tokens=9)
        return privatize_folder(
            source, self.folder / f"out{self.runs}", privatizer, settings={}, columns=Columns(("n",), id="i"),
            **arguments,
        )  # fmt: skip

    def of(self, unit: str) -> int:
        return sum(entry.kind == "reserve" for entry in self.ledger.curator.entries(unit))

    @property
    def count(self) -> int:
        return len(list(self.ledger.curator.accounts()))


@pytest.fixture
def charges(tmp_path: Path) -> Iterator[Charges]:
    made = Charges(tmp_path)
    yield made
    made.ledger.close()


def test_a_file_is_one_unit_from_wherever_the_run_is_started(
    tmp_path: Path, charges: Charges, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "data", {"hr/a.txt": "see xyzzy"})
    (tmp_path / "link").symlink_to(root / "hr")
    monkeypatch.chdir(root)
    for source in (root, root / "hr", root / "hr/a.txt", Path("hr"), Path("hr/../hr/a.txt"), tmp_path / "link",
                   tmp_path / "link/a.txt"):  # fmt: skip
        assert charges(source).done == 1
    assert (charges.count, charges.of(f"{root}/hr/a.txt")) == (1, 7)


def test_two_files_of_one_name_are_two_units(tmp_path: Path, charges: Charges) -> None:
    for corpus in ("one", "two"):
        charges(fill(tmp_path / corpus, {"cv.txt": "see xyzzy"}))
    assert charges.count == 2


def test_a_collection_keeps_its_units_when_it_moves(tmp_path: Path, charges: Charges) -> None:
    charges(fill(tmp_path / "old", {"cv.txt": "see xyzzy"}), collection="HR")
    (tmp_path / "old").rename(tmp_path / "new")
    charges(tmp_path / "new", collection="./hr/")
    charges(tmp_path / "new", collection="hr2")
    assert (charges.of("hr/cv.txt"), charges.of("hr2/cv.txt"), charges.count) == (2, 1, 2)


@pytest.mark.parametrize("collection", ["", "  ", "."])
def test_a_collection_without_a_name_is_refused(tmp_path: Path, collection: str) -> None:
    with pytest.raises(PrivacyParameterError):
        run(fill(tmp_path / "in", {"a.txt": "xyzzy"}), tmp_path / "out", collection=collection)


def test_a_row_keeps_its_unit_when_rows_are_inserted_before_it(tmp_path: Path, charges: Charges) -> None:
    source = fill(tmp_path / "in", {"t.csv": "i,n\n7,see xyzzy\n8,see xyzzy\n"})
    charges(source)
    (source / "t.csv").write_text("i,n\n9,see xyzzy\n7,see xyzzy\n8,see xyzzy\n7,more xyzzy\n")
    charges(source)
    assert [charges.of(f"{source}/t.csv#{i}") for i in (7, 8, 9)] == [3, 2, 1]
    assert charges.count == 3


def test_rows_of_one_id_are_known_again_each_by_itself(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"t.csv": "i,n\n7,xyzzy\n7,a xyzzy\n7 (2),b xyzzy\n"})
    columns = Columns(("n",), ("i",), id="i")
    assert run(source, tmp_path / "out", columns=columns).done == 3
    assert run(source, tmp_path / "out", columns=columns).known == 3
    (source / "t.csv").write_text("i,n\n8,xyzzy\n7,xyzzy\n7,a xyzzy\n7 (2),b xyzzy\n")
    summary = run(source, tmp_path / "out", columns=columns)
    assert (summary.known, summary.done) == (3, 1)
    assert (tmp_path / "out/t.csv").read_text().split() == [
        "i,n",
        "8,____",
        "7,____",
        "7,a",
        "____",
        "7",
        "(2),b",
        "____",
    ]


def test_a_ledger_and_rows_without_ids_exclude_each_other(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"t.jsonl": '{"n": "see xyzzy"}\n', "a.txt": "see xyzzy"})
    with PrivacyLedger(f"sqlite:///{tmp_path}/ledger.db", budget=PrivacyBudget(8.0)) as ledger:
        privatizer = Privatizer(
            "dp", tagger=TAGGER, engine=FusionEngine(saying_backend("ab"), ledger=ledger), epsilon=4.0
        )
        with pytest.raises(PrivacyParameterError, match="--id"):
            privatize_folder(source, tmp_path / "out", privatizer, settings={}, columns=Columns(("n",)))
    assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "out", columns=Columns(("n",))).done == 2  # nothing is charged here


@pytest.mark.parametrize("row", ['{"n": "xyzzy"}', '{"i": "", "n": ""}', '{"i": " "}', '{"i": null}', '{"i": true}',
                                 '{"i": [1]}', '{"i": 1.5}'])  # fmt: skip
def test_a_row_without_an_id_is_told(tmp_path: Path, row: str) -> None:
    source = fill(tmp_path / "in", {"t.jsonl": f'{{"i": 1, "n": "xyzzy"}}\n{row}\n'})
    summary = run(source, tmp_path / "out", columns=Columns(("n",), id="i"))
    assert "Row 2 of t.jsonl has no id" in summary.failed["t.jsonl"]
    assert "xyzzy" not in summary.failed["t.jsonl"]


def test_a_private_column_is_no_id() -> None:
    with pytest.raises(PrivacyParameterError, match="id"):
        Columns(("n",), id="n")


@pytest.fixture
def special(tmp_path: Path) -> Path:
    """An input folder with one file, and everything that is none."""
    outside = fill(tmp_path / "outside", {"secret.txt": "the xyzzy key", "more/deep.txt": "deep xyzzy"})
    source = fill(tmp_path / "in", {"a.txt": "see xyzzy", "sub/b.txt": "b xyzzy"})
    (source / "file.txt").symlink_to(outside / "secret.txt")
    (source / "folder").symlink_to(outside / "more")
    (source / "nowhere.txt").symlink_to(tmp_path / "nothing")
    (source / "circle").symlink_to(source)
    (source / "sub/circle").symlink_to(source / "sub")
    os.mkfifo(source / "pipe.txt")
    here = os.getcwd()
    os.chdir(source)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket.txt")
    finally:
        os.chdir(here)
    return source


def in_time(work: Any) -> Any:
    """Run something that might wait for ever, as a pipe without a writer does."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(work()), daemon=True)
    thread.start()
    thread.join(20.0)
    assert done, "It waits."
    return done[0]


def test_nothing_but_files_of_the_folder_is_opened(special: Path, tmp_path: Path) -> None:
    summary = in_time(lambda: run(special, tmp_path / "out"))
    assert (summary.done, summary.failed) == (2, {})
    assert set(summary.skipped) == {
        "circle",
        "file.txt",
        "folder",
        "nowhere.txt",
        "pipe.txt",
        "socket.txt",
        "sub/circle",
    }
    assert "--follow-symlinks" in summary.skipped["file.txt"]
    text = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.txt"))
    assert "key" not in text
    lines = [json.loads(line) for line in (tmp_path / "out" / REPORT).read_text().splitlines()]
    assert {line["document"] for line in lines if "left out" in line} == set(summary.skipped)


def test_links_are_followed_when_asked_for_and_circles_end(special: Path, tmp_path: Path) -> None:
    summary = in_time(lambda: run(special, tmp_path / "out", follow_symlinks=True))
    assert (summary.done, summary.failed) == (4, {})
    assert set(summary.skipped) == {"circle", "nowhere.txt", "pipe.txt", "socket.txt", "sub/circle"}
    assert (tmp_path / "out/file.txt").read_text() == "the ____ key"
    assert (tmp_path / "out/folder/deep.txt").read_text() == "deep ____"


def test_many_links_to_each_other_are_not_walked_in_every_order(tmp_path: Path) -> None:
    for i in range(12):
        fill(tmp_path / "in", {f"d{i}/a.txt": "xyzzy"})
        for j in range(12):
            (tmp_path / f"in/d{i}/to{j}").symlink_to(tmp_path / f"in/d{j}")
    found = in_time(lambda: find_files(tmp_path / "in", tmp_path / "out", follow_symlinks=True))
    assert len(set(found.files.values())) == 12


def test_a_followed_file_is_the_unit_that_it_is_elsewhere(tmp_path: Path, charges: Charges) -> None:
    root = fill(tmp_path / "data", {"a.txt": "see xyzzy"})
    source = fill(tmp_path / "in", {"b.txt": "see xyzzy"})
    (source / "link.txt").symlink_to(root / "a.txt")
    charges(source, follow_symlinks=True)
    charges(root)
    assert charges.of(f"{root}/a.txt") == 2


def test_a_pipe_as_the_input_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")

    def refused() -> bool:
        with pytest.raises(PrivacyParameterError, match="neither"):
            run(tmp_path / "pipe.txt", tmp_path / "out")
        return True

    assert in_time(refused)


def test_a_file_that_is_exchanged_after_the_walk_is_not_opened(tmp_path: Path) -> None:
    fill(tmp_path, {"secret.txt": "key"})
    (tmp_path / "a.txt").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(tmp_path / "b.txt")
    with pytest.raises(OSError, match="symbolic"):
        read_bytes(tmp_path / "a.txt", "a.txt")

    def refused() -> bool:
        with pytest.raises(ViewError):
            read_bytes(tmp_path / "b.txt", "b.txt")
        return True

    assert in_time(refused)


@pytest.mark.parametrize("name", ["sub", "sub/b.txt", REPORT, FILE])
def test_nothing_is_written_where_a_link_in_the_output_leads(tmp_path: Path, name: str) -> None:
    source = fill(tmp_path / "in", {"a.txt": "see xyzzy", "sub/b.txt": "b xyzzy"})
    elsewhere = tmp_path / "elsewhere"
    target = tmp_path / "out"
    (target / name).parent.mkdir(parents=True)
    if name == "sub":
        elsewhere.mkdir()
    (target / name).symlink_to(elsewhere)
    with pytest.raises(UnsupportedError, match="symbolic link"):
        run(source, target)
    assert not elsewhere.is_file()
    assert not (elsewhere.is_dir() and list(elsewhere.iterdir()))
    assert not (target / "a.txt").exists()


def test_what_a_run_writes_is_for_its_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        source = fill(tmp_path / "in", {"a.txt": "see xyzzy", "sub/b.txt": "b xyzzy"})
        run(source, tmp_path / "out")
        (tmp_path / "out" / FILE).chmod(0o644)  # as an earlier version, or a copy, may have left it
        run(source, tmp_path / "out")
    finally:
        os.umask(old)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"a.txt", "b.txt", REPORT, FILE}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_an_input_that_is_called_like_the_report_is_told(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {REPORT: '{"n": "xyzzy"}\n', "a.txt": "xyzzy"})
    summary = run(source, tmp_path / "out", columns=Columns(("n",)))
    assert list(summary.failed) == [REPORT]


def test_a_name_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a.txt": "xyzzy"})
    Path(os.fsdecode(os.fsencode(source) + b"/\xff.txt")).write_text("xyzzy")
    summary = run(source, tmp_path / "out")
    assert summary.done == 1
    assert list(summary.skipped.values()) == ["its name is not in UTF-8"]
