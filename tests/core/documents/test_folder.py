"""Runs over folders: what is read and written, and what is charged when a run is interrupted."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dpfusion_core import FusionEngine, PhraseTagger, PrivacyBudget, PrivacyLedger
from dpfusion_core.documents import Privatizer
from dpfusion_core.documents.folder import REPORT, RunSummary, privatize_folder
from dpfusion_core.documents.formats import Columns
from dpfusion_core.documents.journal import FILE, Entry, Journal
from dpfusion_core.errors import PrivacyParameterError, UnsupportedError
from dpfusion_core.tagging import Narrowing
from tests.core.toys import saying_backend

ROOT = Path(__file__).resolve().parents[3]
TAGGER = PhraseTagger(["xyzzy"])


def fill(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def run(
    source: Path, target: Path, settings: Any = None, columns: Columns | None = None, **arguments: Any
) -> RunSummary:
    privatizer = Privatizer(tagger=TAGGER, **arguments)
    return privatize_folder(source, target, privatizer, settings=settings or {}, columns=columns)


def report(target: Path) -> dict[str, dict[str, Any]]:
    lines = (target / REPORT).read_text().splitlines()
    return {(row := json.loads(line))["document"]: row for line in lines}


def test_texts_keep_their_paths_and_every_byte_that_is_public(tmp_path: Path) -> None:
    source = fill(
        tmp_path / "in", a_txt="\ufeffsee xyzzy\r\nand\n", sub__b_md="# xyzzy \u00e9\n", c_TXT="xyzzy"
    )
    summary = run(source, tmp_path / "out")
    assert (summary.done, summary.failed, summary.skipped) == (3, {}, {})
    assert (tmp_path / "out/a.txt").read_bytes() == "\ufeffsee ____\r\nand\n".encode()
    assert (tmp_path / "out/sub/b.md").read_text() == "# ____ \u00e9\n"
    assert (tmp_path / "out/c.TXT").read_text() == "____"


def test_a_single_file_is_a_folder_of_one(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", a_txt="see xyzzy")
    run(source / "a.txt", tmp_path / "out")
    assert (tmp_path / "out/a.txt").read_text() == "see ____"


def test_csv_with_chosen_columns(tmp_path: Path) -> None:
    table = 'id,note,secret,more\r\n1,"see xyzzy,\nhere",42,xyzzy\r\n2,,43,"a ""xyzzy"""\r\n'
    source = fill(tmp_path / "in", t_csv=table)
    run(source, tmp_path / "out", columns=Columns(("note", "more"), ("id",)))
    with (tmp_path / "out/t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"id": "1", "note": "see ____,\nhere", "more": "____"}, {"id": "2", "note": "", "more": 'a "____"'},
    ]  # fmt: skip
    assert "42" not in (tmp_path / "out/t.csv").read_text()  # not named, so not shown
    assert report(tmp_path / "out")["t.csv#1"]["spans"] == {"PRIVATE": 2}


def test_jsonl_with_chosen_columns(tmp_path: Path) -> None:
    lines = '{"id": 1, "note": "xyzzy \u2028 \u00e9", "x": {"y": 1}}\n\n{"id": 2, "z": 3}\n'
    source = fill(tmp_path / "in", t_jsonl=lines)
    run(source, tmp_path / "out", columns=Columns(("note",), ("id", "x")))
    rows = [json.loads(line) for line in (tmp_path / "out/t.jsonl").read_text().split("\n") if line]
    assert rows == [{"id": 1, "note": "____ \u2028 \u00e9", "x": {"y": 1}}, {"id": 2, "note": ""}]


BAD: dict[str, tuple[str | bytes, str]] = {
    "a.txt": (b"\xff\xfe\x00xyzzy", "UTF-8"),
    "b.csv": ("id,note\n1\n", "CSV"),
    "c.csv": ("id,note\n1,xyzzy,3\n", "CSV"),
    "d.csv": ('id,note\n1,"xyzzy', "CSV"),
    "e.csv": ("id,other\n1,xyzzy\n", "no column 'note'"),
    "f.jsonl": ('{"note": "xyzzy"', "JSON object"),
    "g.jsonl": ("[1]\n", "JSON object"),
    "h.jsonl": ('{"note": 7}\n', "not a text"),
    "i.jsonl": ('{"note": "\\ud800 xyzzy"}\n', "surrogate"),
    "j.jsonl": ("[" * 100_000, "JSON object"),
}


def test_what_cannot_be_read_fails_alone_and_without_a_word_of_it(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", good_txt="xyzzy", picture_png=b"\x89PNG xyzzy")
    for name, (content, _) in BAD.items():
        (source / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    summary = run(source, tmp_path / "out", columns=Columns(("note",)))
    assert summary.done == 1
    assert list(summary.skipped) == ["picture.png"]
    assert {name.split("#")[0] for name in summary.failed} == set(BAD)
    for name, reason in summary.failed.items():
        assert BAD[name.split("#")[0]][1] in reason
        assert "xyzzy" not in reason
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [FILE, "good.txt", REPORT]
    assert "xyzzy" not in (tmp_path / "out" / REPORT).read_text()


def test_tables_need_columns(tmp_path: Path) -> None:
    summary = run(fill(tmp_path / "in", t_csv="a,b\n1,2\n"), tmp_path / "out")
    assert "--columns" in summary.failed["t.csv"]
    with pytest.raises(PrivacyParameterError):
        Columns(("a",), ("a",))


def test_folders_that_overlap_are_refused(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", a_txt="xyzzy")
    for target in (source, source / "out", tmp_path):
        with pytest.raises(PrivacyParameterError, match="neither"):
            run(source, target)
    with pytest.raises(PrivacyParameterError, match="must not be"):
        run(source / "a.txt", source)
    (tmp_path / "empty" / "x").mkdir(parents=True)
    with pytest.raises(PrivacyParameterError, match="no file"):
        run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(PrivacyParameterError, match="There is no"):
        run(tmp_path / "nothing", tmp_path / "out")


def test_the_journal_holds_no_private_text_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    run(fill(tmp_path / "in", a_txt="see xyzzy"), tmp_path / "out")
    path = tmp_path / "out" / FILE
    assert b"xyzzy" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


def test_a_second_run_does_nothing_and_a_changed_document_is_done_again(tmp_path: Path) -> None:
    source, target = fill(tmp_path / "in", a_txt="see xyzzy", b_txt="xyzzy"), tmp_path / "out"
    run(source, target)
    (target / "b.txt").unlink()  # what is in the journal is written again
    summary = run(source, target)
    assert (summary.done, summary.known) == (0, 2)
    assert (target / "b.txt").read_text() == "____"
    fill(source, a_txt="now xyzzy is here")
    summary = run(source, target)
    assert (summary.done, summary.known) == (1, 1)
    assert (target / "a.txt").read_text() == "now ____ is here"


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", a_txt="xyzzy")
    run(source, tmp_path / "out", {"epsilon": 8.0})
    with pytest.raises(PrivacyParameterError, match="epsilon"):
        run(source, tmp_path / "out", {"epsilon": 4.0})
    with pytest.raises(PrivacyParameterError, match="columns"):
        run(source, tmp_path / "out", {"epsilon": 8.0}, Columns(("a",)))


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    source, target = fill(tmp_path / "in", a_txt="xyzzy"), tmp_path / "out"
    seen: list[str] = []

    def again(done: int, total: int) -> None:
        with pytest.raises(UnsupportedError, match="another run"):
            run(source, target)
        seen.append("refused")

    privatize_folder(source, target, Privatizer(tagger=TAGGER), settings={}, on_progress=again)
    assert seen == ["refused"]
    assert run(source, target).known == 1


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    target = fill(tmp_path / "out")
    target.mkdir()
    (target / FILE).write_text("this is not a database, whatever it is called" * 100)
    with pytest.raises(UnsupportedError):
        run(fill(tmp_path / "in", a_txt="xyzzy"), target)


def test_a_full_disk_stops_the_run_and_nothing_is_released(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, {})) as journal:
        [pages] = journal._connection.execute("PRAGMA page_count").fetchone()
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(UnsupportedError, match="full") as caught:
            journal.enter("a.txt", ["Ann lives in Oslo."], Entry(["She lives there. " * 1000], {}))
        assert "Ann" not in str(caught.value)
        assert journal.find("a.txt", ["Ann lives in Oslo."]) is None


def ledger_at(path: Path, epsilon: float = 8.0) -> PrivacyLedger:
    return PrivacyLedger(f"sqlite:///{path}", budget=PrivacyBudget(epsilon), key=b"k" * 32)


def test_each_output_is_charged_once_to_its_own_account(tmp_path: Path) -> None:
    source, target = (
        fill(
            tmp_path / "in",
            a_txt="see xyzzy",
            t_jsonl='{"i": "x", "n": "see xyzzy"}\n{"i": 7, "n": "xyzzy"}\n',
        ),
        tmp_path / "out",
    )
    with ledger_at(tmp_path / "ledger.db") as ledger:
        engine = FusionEngine(saying_backend("ab"), ledger=ledger)
        for _ in range(3):
            summary = run(
                source, target, columns=Columns(("n",), id="i"), level="dp", engine=engine, epsilon=8.0,
                max_tokens=9,
            )  # fmt: skip
            assert summary.failed == {}
        for name in ("a.txt", "t.jsonl#x", "t.jsonl#7"):
            assert [entry.kind for entry in ledger.curator.entries(f"{source}/{name}")] == [
                "open",
                "reserve",
                "settle",
            ]
    guarantee = report(target)["t.jsonl#1"]["guarantee"]
    assert guarantee["epsilon"] == 8.0
    assert guarantee["neighbours"] == "zero-out"


def test_columns_of_a_row_share_one_guarantee(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", t_csv="a,b\nsee xyzzy here,and xyzzy there\n")
    engine = FusionEngine(saying_backend("ab"))
    run(
        source,
        tmp_path / "out",
        columns=Columns(("a", "b")),
        level="dp",
        engine=engine,
        epsilon=8.0,
        max_tokens=30,
    )
    row = report(tmp_path / "out")["t.csv#1"]
    assert row["chunks"] == 2
    assert row["guarantee"]["max_tokens"] in (29, 30)
    assert row["guarantee"]["epsilon"] == 8.0


def test_a_document_whose_budget_is_spent_fails_alone(tmp_path: Path) -> None:
    source, target = fill(tmp_path / "in", a_txt="see xyzzy", b_txt="see xyzzy"), tmp_path / "out"
    opened = PrivacyLedger(f"sqlite:///{tmp_path / 'ledger.db'}", key=b"k" * 32)
    with opened as ledger:
        ledger.curator.open(f"{source}/a.txt", PrivacyBudget(4.0), order=4.0)
        ledger.curator.open(f"{source}/b.txt", PrivacyBudget(8.0), order=PrivacyBudget(8.0).best_order())
        engine = FusionEngine(saying_backend("ab"), ledger=opened)
        summary = run(source, target, level="dp", engine=engine, epsilon=8.0, max_tokens=9)
    assert summary.done == 1
    assert "BudgetExhaustedError" in summary.failed["a.txt"]
    assert not (target / "a.txt").exists()


SLOW = """
import sys, time
from pathlib import Path
from dpfusion_core import FusionEngine, PhraseTagger, ScriptedBackend
from dpfusion_core.documents import Privatizer
from dpfusion_core.documents.folder import privatize_folder
from tests.core.documents.test_folder import ledger_at
from tests.core.toys import saying_backend

inner = saying_backend("abcd")
def slowly(row):
    time.sleep(0.004)
    return inner.score(row, ())
root = Path(sys.argv[1])
backend = ScriptedBackend(slowly, inner.tokenizer, inner.vocab_size, eos_token_ids=inner.eos_token_ids)
with ledger_at(root / "ledger.db", 24.0) as ledger:
    privatizer = Privatizer("dp", tagger=PhraseTagger(["xyzzy"]), engine=FusionEngine(backend, ledger=ledger),
                            epsilon=8.0, max_tokens=9)
    print("ready", flush=True)
    privatize_folder(root / "in", root / "out", privatizer, settings={"epsilon": 8.0})
"""


def entered(target: Path) -> dict[str, str]:
    """Read what the journal has, as another process that looks after a crash would."""
    if not (target / FILE).exists():
        return {}
    connection = sqlite3.connect(f"file:{target / FILE}?mode=ro", uri=True)
    try:
        return dict(connection.execute("SELECT name, texts FROM documents").fetchall())
    except sqlite3.OperationalError:  # not made yet
        return {}
    finally:
        connection.close()


def test_runs_that_are_killed_go_on_and_nothing_released_is_charged_twice(tmp_path: Path) -> None:
    names = [f"{i:02}.txt" for i in range(12)]
    for name in names:
        fill(tmp_path / "in", **{name.replace(".", "_"): f"see xyzzy in {name}"})
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    charges: dict[str, dict[str, int]] = {}
    kills = 0
    for attempt in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        if attempt < 3:
            time.sleep(0.25 + 0.13 * attempt)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        else:
            assert process.wait(60) == 0
        process.stdout.close()
        before = charges.get("entered", {})
        now = dict.fromkeys(entered(tmp_path / "out"), 1)
        assert before.keys() <= now.keys()
        counts = dict.fromkeys(names, 0)
        if (tmp_path / "ledger.db").exists():  # a run may be killed before its first charge
            with ledger_at(tmp_path / "ledger.db", 24.0) as ledger:
                for n in names:
                    counts[n] = sum(e.kind == "reserve" for e in ledger.curator.entries(f"{tmp_path}/in/{n}"))
        for name in before:  # what was released before this run was not charged by it
            assert counts[name] == charges["counts"][name]
        for name in now:  # what is released has been charged
            assert counts[name] >= 1
        charges = {"entered": now, "counts": counts}
        if attempt >= 3:
            break
    assert kills >= 1
    assert charges["entered"].keys() == set(names)
    assert all(1 <= charges["counts"][name] <= 1 + kills for name in names)
    assert sum(charges["counts"].values()) <= len(names) + kills
    assert all((tmp_path / "out" / name).read_text() for name in names)
    assert len(report(tmp_path / "out")) == len(names)


def test_a_crash_between_the_journal_and_the_file_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = fill(tmp_path / "in", a_txt="see xyzzy"), tmp_path / "out"
    with ledger_at(tmp_path / "ledger.db") as ledger:
        arguments: dict[str, Any] = {
            "level": "dp",
            "engine": FusionEngine(saying_backend("ab"), ledger=ledger),
        }
        arguments |= {"epsilon": 8.0, "max_tokens": 9}
        with monkeypatch.context() as patched:

            def crash(target: Path, name: str, text: str) -> None:
                raise KeyboardInterrupt

            patched.setattr("dpfusion_core.documents.folder.replace_file", crash)
            with pytest.raises(KeyboardInterrupt):
                run(source, target, **arguments)
        assert not (target / "a.txt").exists()
        assert run(source, target, **arguments).known == 1
        assert (target / "a.txt").read_text() == "ab"
        assert [entry.kind for entry in ledger.curator.entries(f"{source}/a.txt")] == [
            "open",
            "reserve",
            "settle",
        ]


def test_a_crash_while_a_file_is_written_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = fill(tmp_path / "in", a_txt="see xyzzy"), tmp_path / "out"

    def crash(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dpfusion_core.documents.files.os.fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            run(source, target)
    assert [path.name for path in target.iterdir()] == [FILE]


def test_narrowing_is_passed_on(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", a_txt="nothing")
    trusting = Privatizer(tagger=Narrowing(TAGGER, trust_empty=True))
    privatize_folder(source, tmp_path / "out", trusting, settings={})
    assert (tmp_path / "out/a.txt").read_text() == "nothing"
