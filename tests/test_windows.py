"""What Windows can do, tried by python.org's Python for it under Wine, on runs that Linux makes and goes on with."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import windows_lab
from kit_lab import execute
from no_skips import NOT_REQUIRED

import matterstack as ms

pytestmark = pytest.mark.skipif(
    not windows_lab.is_there(),
    reason=f"{NOT_REQUIRED}there is no wine, or no Python for Windows (tests/helpers/windows_lab.py makes it)",
)
CANNOT = (
    "MatterStack on Windows cannot run commands and functions itself; it can look at runs, take answers of people, "
    "carry kits: step the run on Linux, which WSL is, where all of it goes on as it stands. See docs/platforms.md"
)
YES_OR_NO = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
OPERATORS = {"local": ms.LocalOperator, "human": ms.HumanOperator, "manual": ms.ManualHPCOperator}

ALL_OF_IT = """
import sys
from pathlib import Path
import matterstack as ms
from matterstack.cli import main
from matterstack.errors import PlatformError, RunLockedError, UntrustedRunError
from matterstack.storage.run_lock import RunLock
assert sys.platform == "win32"
path, base, out = map(Path, sys.argv[1:])

run = ms.open_run(path)
assert dict(zip(run.tasks["task_id"], run.tasks["status"]))["here"] == "COMPLETED"
assert list(ms.runs("w", base_path=base)["run_id"]) == [run.run_id]
assert len(ms.find_tasks("w", base_path=base)) == len(run.tasks) == 6
assert run.results["energy_eV"].tolist() == [-3.7]
assert len(run.events) and len(run.attempts) and len(run.inbox()) == 3
assert run.file("here", "stdout.txt").read_bytes() == b"hi\\n"
assert run.value("here") == {"energy_eV": -3.7}
for shown in (run.dag(), run.watch(), run.table(), run.browse("here"), ms.watch("w", base_path=base)):
    assert shown._repr_mimebundle_()
assert main(["status", str(path)]) == main(["verify", str(path)]) == main(["check", str(path)]) == 0
assert main(["files", str(path), "here"]) == main(["explain", str(path)]) == 0

run.respond("ask", {"ok": True})
(run.task_directory("in_a_file") / "response.json").write_text('{"ok": true}')
assert run.export_kits(out / "kits.zip") == ["0.carried.1"]
try:
    run.step()
except UntrustedRunError:
    ms.trust(path)
with RunLock(path / "run.lock"):
    try:
        ms.open_run(path).step()
    except RunLockedError as error:
        assert error.holder["user"], error
report = run.step()
assert report.completed == 2, report
assert (path / "run.lock").exists()
assert run.verify() and len(run.disk_usage)
try:
    ms.initialize_run("other", ms.Workflow([ms.Task("a", "true")]), base_path=base)
except PlatformError as error:
    print(error)
assert not (base / "workspaces/other").exists()
exported = run.export(out / "exported")
assert ms.open_run(exported).verify()
assert run.export(out / "exported.zip", zip=True).is_file()
print(run.explain())
"""

HOME_AGAIN = """
import sys
from pathlib import Path
import matterstack as ms
run = ms.open_run(sys.argv[1])
print(run.import_kits(sys.argv[2]))
run.step()
assert dict(zip(run.tasks["task_id"], run.tasks["status"]))["carried"] == "COMPLETED", run.tasks
assert not list(Path(sys.argv[1]).glob("operators/.import*"))
"""


def make(base: Path, *tasks: ms.Task) -> ms.Run:
    operators = {name: operator() for name, operator in OPERATORS.items()}
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators=operators)
    run.wait(timeout_s=180)
    return run


def asked(name: str, **more: object) -> ms.Task:
    return ms.Task(name, operator="human", instructions="Is it fine?", schema=YES_OR_NO, **more)


def pack(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in sorted(folder.rglob("*")):
            zipped.write(path, path.relative_to(folder))


def test_one_looks_answers_carries_kits_and_makes_a_tick_and_linux_goes_on(tmp_path: Path) -> None:
    run = make(
        tmp_path / "base",
        ms.Task("here", """echo hi; echo '{"energy_eV": -3.7}' > result.json"""),
        asked("ask"),
        asked("in_a_file"),
        ms.Task("carried", "echo hi > out", operator="manual", outputs=["out"]),
        ms.Task(
            "made_there",
            "cat note > out",
            operator="manual",
            files={"note": "a\nb\n"},
            outputs=["out"],
            dependencies=["ask"],
        ),
        ms.Task("later", "echo hi", dependencies=["ask"]),
    )
    out = tmp_path / "out"
    out.mkdir()

    done = windows_lab.run(ALL_OF_IT, run.path, tmp_path / "base", out)

    assert done.returncode == 0, done.stderr
    assert CANNOT in done.stdout
    assert "MatterStack on Windows cannot begin runs; it can look at runs" in done.stdout
    assert ms.open_run(out / "exported").verify()
    carried = tmp_path / "carried"
    with zipfile.ZipFile(out / "kits.zip") as kits:
        kits.extractall(carried)
    assert execute(carried / "0.carried.1").returncode == 0
    pack(carried, out / "home.zip")
    done = windows_lab.run(HOME_AGAIN, run.path, out / "home.zip")
    assert done.returncode == 0, done.stderr

    assert execute(run.path / "operators/manual/0.made_there.1").returncode == 0
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert run.file("made_there", "out").read_bytes() == b"a\nb\n"
    assert set(run.tasks["attempt"]) == {1}
    by = dict(zip(run.tasks["task_id"], run.tasks["reason"], strict=True))
    assert by["in_a_file"] == "answered by somebody"
    assert not ms.StoreReader(run.path / "state.sqlite").check()


LINKS = """
import sys
from pathlib import Path
from matterstack import files
from matterstack.errors import UnsafeFileError
root = Path(sys.argv[1])
for act in (
    lambda: files.read_inside(root, "mounted/version", 1000),
    lambda: files.read_inside(root, "folder/mounted/version", 1000),
    lambda: files.list_inside(root, "mounted"),
    lambda: files.write_inside(root, "mounted/written", b""),
    lambda: files.rename_inside(root, "file", "mounted/renamed"),
    lambda: list(files.walk_inside(root, "mounted")),
    lambda: files.remove_inside(root, "mounted/self"),
    lambda: files.link_inside(root, "mounted/version", root / "linked"),
):
    try:
        print("NOT REFUSED", act())
    except UnsafeFileError as error:
        assert "is a link" in str(error), error
assert not files.is_folder(root / "mounted") and files.is_folder(root / "folder")
"""


def test_no_link_is_followed_out_of_a_run(tmp_path: Path) -> None:
    """A link to where something is mounted is what Wine shows as Windows' own links."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("hi")
    for place in ("mounted", "folder/mounted"):
        (tmp_path / place).symlink_to("/proc")
    done = windows_lab.run(LINKS, tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "mounted"]


NAMES = """
import sys
from pathlib import Path
from matterstack import files
from matterstack.errors import UnsafeFileError
root = Path(sys.argv[1])
for name in ("a:b", "CON", "aux.txt", "x.", "x ", "a\\\\b", "conin$", "..", "what?", "a\\tb", 'a"b', "nul.tar.gz"):
    for path in (name, f"in/{name}", f"{name}/in"):
        try:
            files.write_inside(root, path, b"x")
            print("WRITTEN", path)
        except UnsafeFileError as error:
            assert "cannot give to a file" in str(error), error
        try:
            print("READ", path, files.read_inside(root, path, 10))
        except UnsafeFileError as error:
            pass
for name in ("console", "com10", "a.b", "\\u00e9\\u4e2d\\U0001f600", "x" * 200, ".dot", "a b"):
    files.write_inside(root, f"in/{name}", name.encode(), new=True)
    assert files.read_inside(root, f"in/{name}", 1000) == name.encode()
    try:
        files.write_inside(root, f"in/{name}", b"other", new=True)
        print("WRITTEN OVER", name)
    except FileExistsError:
        pass
assert len(files.list_inside(root, "in")) == 7
content = bytes(range(256)) * 9000
files.write_inside(root, "in/a.b", content)
assert files.read_inside(root, "in/a.b", len(content)) == content
for number in range(300):
    files.write_new(f"{root}/many/{number:0100d}", b"")
assert [name for name, _ in files.list_inside(root, "many")] == [f"{number:0100d}" for number in range(300)]
files.remove_inside(root, "many")
assert not (root / "many").exists()
"""


def test_a_name_that_windows_does_not_have_is_refused_and_others_are_whole(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    done = windows_lab.run(NAMES, tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert sorted(os.listdir(tmp_path)) == ["in"]
    assert {path.name: path.read_bytes() for path in tmp_path.glob("in/*") if path.name != "a.b"} == {
        name: name.encode() for name in ("console", "com10", "é中😀", "x" * 200, ".dot", "a b")
    }


STEP = "import sys, matterstack as ms; ms.trust(sys.argv[1]); print(ms.open_run(sys.argv[1]).step().completed)"
LOOK = """
import os, sys, tempfile, matterstack as ms
tempfile.tempdir = sys.argv[2]  # where nobody else leaves anything
run = ms.open_run(sys.argv[1])
print(run.tasks["status"].tolist())
del run
import gc; gc.collect()
print([name for name in os.listdir(tempfile.gettempdir()) if name.startswith("matterstack-")])
"""


def test_a_process_that_is_killed_there_in_the_middle_of_a_commit_has_changed_nothing(tmp_path: Path) -> None:
    run = make(tmp_path, asked("ask"), asked("then", dependencies=["ask"]))
    (run.task_directory("ask") / "response.json").write_text(json.dumps({"ok": True}))
    done = windows_lab.run(STEP, run.path, MATTERSTACK_CRASH="kill:store.commit:1")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert (run.path / "state.sqlite-journal").stat().st_size
    (tmp_path / "temporary").mkdir()
    looked = windows_lab.run(LOOK, run.path, tmp_path / "temporary")
    before = ["SUBMITTED", "PENDING"]
    assert looked.stdout.splitlines() == [str(before), "[]"], looked.stderr
    assert windows_lab.run(STEP, run.path).stdout == "1\n"
    (run.task_directory("then") / "response.json").write_text(json.dumps({"ok": True}))
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert set(run.tasks["attempt"]) == {1}
