"""An export: the same bytes for the same run, of one moment, whole or not there; and itself a run to go on with."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from crashes import in_child
from evidence_lab import HOSTILE, answer, copied
from older import run_of_version_1
from small_disk import fill

import matterstack as ms
from matterstack import crash_points
from matterstack.errors import DiskError, ExportError, UntrustedRunError
from matterstack.evidence.sums import is_evidence, sums_of


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def unzipped(path: Path) -> Path:
    """Unzip an export beside itself, and return the one thing that this leaves there."""
    before = set(path.parent.iterdir())
    with zipfile.ZipFile(path) as archive:
        archive.extractall(path.parent)
    (home,) = set(path.parent.iterdir()) - before
    return home


@pytest.mark.parametrize("files", ["all", "declared", "none"])
def test_an_export_opens_as_a_run_and_verifies(files: str, packed: ms.Run, tmp_path: Path) -> None:
    before = contents(packed.path)
    there = packed.export(tmp_path / "e.zip", zip=True, files=files)
    assert contents(packed.path) == before
    run = ms.open_run(unzipped(there))
    assert (run.status, run.run_id) == (packed.status, packed.run_id)
    assert run.tasks.equals(packed.tasks)
    found = run.verify()
    assert found, found
    left_out = found.counts.get("left out", 0)
    assert left_out == {"all": 0, "declared": 1, "none": 14}[files]
    if files == "all":
        assert run.value("relax-Al", iteration=0)["a_ang"] == packed.value("relax-Al", iteration=0)["a_ang"]
        own = sum(map(is_evidence, sums_of(run.path)))
        assert found.counts == {**(was := packed.verify().counts), "as recorded": was["as recorded"] + own}


def test_what_others_take_goes_along_and_what_commands_print_does_not(tmp_path: Path) -> None:
    maker = ms.Task("make", "echo 1 > taken.txt; echo 2 > left.txt; echo a secret")
    user = ms.Task("use", "cat in.txt", files={"in.txt": ms.FromTask("make", "taken.txt")})
    run = ms.initialize_run("w", ms.Workflow([maker, user]), base_path=tmp_path)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    home = run.export(tmp_path / "e") / "operators/local/0.make.1"
    assert sorted(path.name for path in home.iterdir() if path.is_file()) == ["taken.txt"]


def test_the_same_run_gives_the_same_bytes(ended: ms.Run, tmp_path: Path) -> None:
    """Also in another process, with another seed of hashes, from another folder, time zone and umask."""
    program = "import matterstack as ms, sys; ms.open_run(sys.argv[1]).export('e.zip', zip=True, files='all')"
    (tmp_path / "other").mkdir()
    moved = copied(ended, tmp_path)
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    command = ["sh", "-c", 'umask 077; exec "$@"', "-", sys.executable, "-c", program, str(moved.path)]
    subprocess.run(command, check=True, cwd=tmp_path / "other", env=environment, timeout=120)
    here = ended.export(tmp_path / "e.zip", zip=True, files="all")
    home = unzipped(here)
    assert contents(unzipped(tmp_path / "other/e.zip")) == contents(home)
    assert here.read_bytes() == (tmp_path / "other/e.zip").read_bytes()
    assert contents(ended.export(tmp_path / "folder", files="all")) == contents(home)
    assert contents(ms.open_run(home).export(tmp_path / "again", files="all")) == contents(home)


@pytest.mark.parametrize("files", ["declared", "none"])
def test_an_export_of_an_export_still_says_what_was_left_out(files: str, packed: ms.Run, tmp_path: Path) -> None:
    first = ms.open_run(packed.export(tmp_path / "1", files=files))
    second = ms.open_run(first.export(tmp_path / "2", files="all"))
    third = ms.open_run(second.export(tmp_path / "3", files=files))
    assert first.verify()
    assert first.verify().counts == second.verify().counts == third.verify().counts
    made_in = [json.loads((run.path / "evidence.json").read_text())["software"] for run in (first, third)]
    assert made_in[0]["python"]
    assert made_in[0] == made_in[1]


def test_a_zip_file_unpacks_into_one_folder_whatever_it_is_called(
    ended: ms.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = ["-rf", ".hidden.zip", "zwei W\xf6rter \u202e.zip"]
    made = [ended.export(name, zip=True, files="none") for name in odd]
    assert made == [tmp_path / name for name in odd]
    assert len({path.read_bytes() for path in made}) == 1
    assert unzipped(made[0]).name == "metals-first"
    with pytest.raises(ExportError, match="something at"):
        ended.export()  # what was unzipped is called as an export is that nobody names


def test_a_strangers_run_does_not_say_where_it_is_written(
    ended: ms.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(ended, tmp_path)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as store, store:
        store.execute("UPDATE runs SET workspace = '../outside'")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path, as_zip in ((None, False), (None, True), ("e.zip", True)):
        with pytest.raises(ExportError, match=r"'\.\./outside' is not a valid workspace name"):
            run.export(path, zip=as_zip)
    assert sorted(path.name for path in tmp_path.rglob("*") if not path.is_relative_to(run.path)) == ["here"]
    assert run.export("e").is_dir()


def test_a_run_of_long_names_is_exported_by_a_name_that_can_be_unzipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ms.initialize_run("w" * 128, ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, run_id="r" * 128)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert unzipped(run.export(zip=True)).name == f"{'w' * 128}-{'r' * 71}"


def test_nothing_in_an_export_tells_where_it_was_made(ended: ms.Run, tmp_path: Path) -> None:
    home = ended.export(tmp_path / "e")
    mine = (str(ended.path.parents[4]).encode(), str(Path.cwd()).encode(), str(Path.home()).encode() + b"/")
    for path in home.rglob("*"):
        if path.is_file() and path.name not in ("state.sqlite", "HOWTO.txt") and "operators" not in path.parts:
            assert not [place for place in mine if place in path.read_bytes()], path


def test_what_is_there_already_is_left_as_it_is(ended: ms.Run, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e.zip").write_text("mine")
    for name, as_zip in (("e", False), ("e.zip", True)):
        with pytest.raises(ExportError, match=r"something at .* already"):
            ended.export(tmp_path / name, zip=as_zip)
    with pytest.raises(ExportError, match="in the directory of the run itself"):
        ended.export(ended.path / "e")
    (tmp_path / "into").symlink_to(ended.path)
    with pytest.raises(ExportError, match="in the directory of the run itself"):
        ended.export(tmp_path / "into/e")
    (tmp_path / "into").unlink()
    with pytest.raises(ExportError, match="no name of a file"):
        ended.export(tmp_path / "a\0b")
    with pytest.raises(ExportError, match="would be a directory"):
        ended.export(tmp_path / "hand.ZIP")
    assert not (tmp_path / "hand.ZIP").exists()
    with pytest.raises(ExportError, match="no directory"):
        ended.export(tmp_path / "nowhere/e")
    with pytest.raises(ExportError, match="'all', 'declared', 'none'"):
        ended.export(tmp_path / "f", files="some")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "e.zip"]
    assert list((tmp_path / "e").iterdir()) == []


@pytest.mark.parametrize(
    ("as_zip", "point"),
    [(False, "export.begun"), (False, "export.filled"), (True, "export.filled"), (True, "export.whole")],
)
def test_a_kill_leaves_nothing_that_looks_like_an_export_or_that_stays(
    as_zip: bool, point: str, ended: ms.Run, tmp_path: Path
) -> None:
    before = contents(ended.path)
    code = in_child(lambda: ended.export(tmp_path / "e", zip=as_zip), lambda: crash_points.arm("kill", point))
    assert code == -signal.SIGKILL
    assert {path.name[0] for path in tmp_path.iterdir()} == {"."}
    assert contents(ended.path) == before
    ended.export(tmp_path / "e", zip=as_zip)
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_a_name_of_255_bytes_is_taken_and_what_a_kill_left_of_it_goes(ended: ms.Run, tmp_path: Path) -> None:
    name = "\u00fc" * 127 + "e"
    code = in_child(lambda: ended.export(tmp_path / name), lambda: crash_points.arm("kill", "export.begun"))
    assert code == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    ended.export(tmp_path / name, files="none")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_kill_after_an_export_has_its_name_leaves_that_whole(ended: ms.Run, tmp_path: Path) -> None:
    code = in_child(lambda: ended.export(tmp_path / "e"), lambda: crash_points.arm("kill", "export.named"))
    assert code == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ExportError, match="something at"):
        ended.export(tmp_path / "e")
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    assert ms.open_run(tmp_path / "e").verify()


def test_what_others_have_by_such_a_name_stays(ended: ms.Run, tmp_path: Path) -> None:
    """An export that is under way, of another target or of another machine, a link, a file."""
    precious = tmp_path / "precious"
    (precious / "mine").mkdir(parents=True)
    (tmp_path / f".e.{'0' * 12}.partial").symlink_to(precious)
    (tmp_path / f".e.{'1' * 12}.partial").write_text("mine")
    elsewhere = tmp_path / f".e.{'2' * 12}.partial"
    elsewhere.mkdir()
    (elsewhere / "lock").write_text("another-machine")
    linked = tmp_path / f".e.{'3' * 12}.partial"
    linked.mkdir()
    (linked / "lock").symlink_to(precious / "lock")
    for name in (".ee.000000000000.partial", ".e.0.partial", ".e.000000000000.partial.d"):
        (tmp_path / name).mkdir()
    before = set(tmp_path.rglob("*"))
    ended.export(tmp_path / "e", files="none")
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "e")} == before


def test_of_two_exports_at_once_one_is_written_and_nothing_else_is_left(
    ended: ms.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(point: str) -> None:
        if point == "export.filled":
            monkeypatch.setattr(crash_points, "_armed", None)
            ended.export(tmp_path / "e", files="none")
            assert list(tmp_path.glob(".e.*.partial/export/evidence.json"))  # of the one that is under way

    monkeypatch.setattr(crash_points, "_armed", meanwhile)
    with pytest.raises(ExportError, match="somebody else made"):
        ended.export(tmp_path / "e", files="all")
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    assert json.loads((tmp_path / "e/evidence.json").read_text())["files"]["which"] == "none"


@pytest.mark.parametrize("point", ["export.begun", "export.filled", "export.whole"])
def test_a_full_disk_leaves_nothing(point: str, ended: ms.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_points, "_armed", None)
    crash_points.arm("ENOSPC", point)
    with pytest.raises(DiskError, match="nothing was written"):
        ended.export(tmp_path / "e", zip=True, files="none")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_on_a_disk_leaves_nothing_there_and_a_kill_does_not_fill_it(
    small_disk: Path, tmp_path: Path
) -> None:
    command = "head -c 9000000 /dev/zero > big; head -c 1600000 /dev/urandom > fits"
    flow = ms.Workflow([ms.Task("a", command, outputs=["fits"])])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.wait(timeout_s=180)
    for as_zip in (False, True):
        with pytest.raises(DiskError, match="nothing was written"):
            run.export(small_disk / "e", zip=as_zip, files="all")
        assert list(small_disk.iterdir()) == []
    ballast = fill(small_disk, 10_000)
    with pytest.raises(DiskError, match="/e cannot be written: there is no room for a copy of the database"):
        run.export(small_disk / "e")
    ballast.unlink()
    code = in_child(lambda: run.export(small_disk / "e"), lambda: crash_points.arm("kill", "export.filled"))
    assert code == -signal.SIGKILL
    assert run.export(small_disk / "e").is_dir()  # there is room for one
    assert [path.name for path in small_disk.iterdir()] == ["e"]


@pytest.mark.parametrize("files", ["all", "declared", "none"])
def test_a_colleague_goes_on_from_an_export_of_a_run_that_waits(
    files: str, asked: ms.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = unzipped(asked.export(tmp_path / "e.zip", zip=True, files=files))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state of a colleague"))
    run = ms.open_run(home)
    with pytest.raises(UntrustedRunError):
        run.step()
    ms.trust(home)
    run = ms.open_run(home)
    answer(run)
    while run.iteration == 0:
        run.step()
    run.step()
    assert run.campaign_state["picked"] == "Cu"
    assert [request.name for request in run.inbox()] == ["1.refine.1"]
    assert asked.iteration == 0
    assert run.verify()


def test_an_export_is_of_one_moment_while_the_run_goes_on(tmp_path: Path) -> None:
    """What runs is not run again by whoever goes on elsewhere: it is lost there, and may be retried."""
    gate, ran = tmp_path / "gate", tmp_path / "ran"
    command = f"while [ ! -e {gate} ]; do sleep 0.02; done; echo ran >> {ran}"
    run = ms.initialize_run("w", ms.Workflow([ms.Task("slow", command)]), base_path=tmp_path)
    while run.attempts.empty or run.attempts["status"].iloc[0] != "RUNNING":
        run.step()
    home = run.export(tmp_path / "e")
    gate.touch()
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    ms.trust(home)
    other = ms.open_run(home)
    assert other.attempts["status"].iloc[0] == "RUNNING"
    assert other.wait(timeout_s=180) is ms.RunStatus.FAILED
    assert other.attempts["status"].iloc[0] == "LOST"
    assert ran.read_text() == "ran\n"


def test_the_tables_read_back_as_they_are(ended: ms.Run, tmp_path: Path) -> None:
    import pandas as pd

    pytest.importorskip("pyarrow")
    home = ended.export(tmp_path / "e")
    tasks = pd.read_csv(home / "tables/tasks.csv", index_col="task")
    assert list(tasks.index) == list(ended.tasks.index)
    assert pd.Timestamp(tasks.loc["0.bands", "ended_at"]) == ended.tasks.loc["0.bands", "ended_at"]
    results = pd.read_parquet(home / "tables/results.parquet").set_index("task")
    assert results["energy_eV"].tolist()[:2] == ended.results["energy_eV"].tolist()[:2]
    outputs = pd.read_csv(home / "tables/outputs.csv")
    (bands,) = outputs[outputs["name"] == "bands.txt"].to_dict("records")
    assert hashlib.sha256((home / bands["path"]).read_bytes()).hexdigest() == bands["sha256"]
    answers = pd.read_csv(home / "tables/answers.csv")
    assert hashlib.sha256((home / answers["path"][0]).read_bytes()).hexdigest() == answers["sha256"][0]


def test_the_record_is_as_its_schema_says(asked: ms.Run, packed: ms.Run, tmp_path: Path) -> None:
    import jsonschema

    for number, run in enumerate((asked, packed)):
        home = run.export(tmp_path / str(number), files="none" if number else "all")
        schema = json.loads((home / "evidence.schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        record: Any = json.loads((home / "evidence.json").read_text())
        jsonschema.validate(record, schema)
        for one in record["files"]["included"]:
            content = (home / one["path"]).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (one["bytes"], one["sha256"])
    assert [one["task"] for one in record["tasks"]] == list(packed.tasks.index)


def test_an_export_of_a_strangers_run_writes_nowhere_else(packed: ms.Run, tmp_path: Path) -> None:
    """An archive with a member that leads elsewhere, and names in the database that do."""
    run = copied(packed, tmp_path)
    archive = run.path / "archives/0.zip"
    evil = "operators/local/0.bands.1/../../../../planted"
    with zipfile.ZipFile(archive) as old:
        content = {name: old.read(name) for name in old.namelist()}
    manifest = json.loads(content["MANIFEST.json"])
    content[evil] = b"planted"
    manifest["sha256"][evil] = hashlib.sha256(b"planted").hexdigest()
    content["MANIFEST.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(archive, "w") as new:
        for name, member in content.items():
            new.writestr(name, member)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as store, store:
        store.execute("UPDATE attempts SET reason = ?", (HOSTILE,))
        store.execute("UPDATE outputs SET name = '../../../../planted' WHERE name = 'bands.txt'")
    before = contents(tmp_path)
    for files in ("declared", "all"):
        home = run.export(tmp_path / files, files=files)
        assert not list(home.rglob("planted"))
        assert "<script>alert" not in (home / "report.html").read_text()
    written = {path for path in contents(tmp_path) if not path.startswith(("declared/", "all/"))}
    assert written == set(before)


def test_a_database_without_sense_is_refused_whole(ended: ms.Run, tmp_path: Path) -> None:
    run = copied(ended, tmp_path)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as store, store:
        store.execute("UPDATE attempts SET ended_at = 'never'")
    with pytest.raises(ExportError, match="makes no sense"):
        run.export(tmp_path / "e")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_database_that_is_read_from_a_private_copy_is_exported_too(tmp_path: Path) -> None:
    """One of an older schema, and one whose writer was killed in the middle of a commit; neither is changed."""
    old = ms.open_run(run_of_version_1(tmp_path))
    before = contents(old.path)
    home = old.export(tmp_path / "old")
    assert contents(old.path) == before
    assert ms.open_run(home).tasks.equals(old.tasks)
    torn = ms.initialize_run("w", ms.Workflow([ms.Task(f"t{n}", "true") for n in range(40)]), base_path=tmp_path)
    stepped = ms.open_run(torn.path)
    assert in_child(stepped.step, lambda: crash_points.arm("kill", "store.commit")) == -signal.SIGKILL
    assert (torn.path / "state.sqlite-journal").stat().st_size > 0
    before = contents(torn.path)
    home = torn.export(tmp_path / "torn")
    assert contents(torn.path) == before
    assert len(ms.open_run(home).tasks) == 40
    assert sorted(path.name for path in home.iterdir() if path.name.startswith("state")) == ["state.sqlite"]


def test_links_and_pipes_are_left_out_and_named(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", "echo 1 > out.txt; ln -s /etc/passwd link; mkfifo pipe", outputs=["out.txt"])])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.wait(timeout_s=180)
    home = run.export(tmp_path / "e", files="all")
    record = json.loads((home / "evidence.json").read_text())
    assert [Path(one["path"]).name for one in record["files"]["left_out"]] == ["link", "pipe"]
    assert not [path for path in home.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
