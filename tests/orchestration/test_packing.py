"""Attempts in archives: all that reads them reads on, and nothing is lost whenever packing ends, or of what."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import matterstack as ms
from matterstack import crash_points
from matterstack.errors import DiskError, RunLockedError, UnsafeFileError
from matterstack.notebook.board import Board
from matterstack.notebook.details import details_html
from matterstack.storage import archives


def squares(n: int) -> Any:
    import numpy

    return numpy.arange(n) ** 2


def total(values: Any) -> int:
    return int(values.sum())


class Three(ms.Campaign):
    """Three iterations; the third uses files and values of the first. A file in the run's directory lets it begin."""

    def initial_state(self) -> Any:
        return 0

    def plan(self, state: Any) -> ms.Workflow | None:
        if state == 3:
            return None
        flow = ms.Workflow()
        flow.add("call", squares, 3000 + state)
        command = "mkdir -p sub && echo $MATTERSTACK_ITERATION > sub/n && echo '{\"e\": 1}' > result.json; echo said"
        flow.add_task(ms.Task("cmd", command))
        if state == 1:
            flow.add_task(ms.Task("gate", operator="human", instructions="go on?"))
        if state == 2:
            flow.add("again", total, flow.reference("call", iteration=0))
            flow.add_task(ms.Task("use", "cat n", files={"n": ms.FromTask("cmd", "sub/n", iteration=0)}))
        return flow

    def analyze(self, state: Any, results: Any) -> Any:
        return state + 1


def made(base: Path) -> ms.Run:
    """Return a run that waits in its second iteration."""
    operators = {"local": ms.LocalOperator(), "human": ms.HumanOperator()}
    run = ms.initialize_run("w", Three(), base_path=base, run_id="r", operators=operators)
    run.wait()
    assert run.iteration == 1
    return run


def directories(run: ms.Run) -> set[str]:
    return {path.name for path in (run.path / "operators" / "local").iterdir() if path.is_dir()}


def content(place: Path) -> dict[str, Any]:
    return {
        path.relative_to(place).as_posix(): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in place.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_what_is_packed_is_read_as_before(tmp_path: Path) -> None:
    run = made(tmp_path)
    home = run.task_directory("cmd", iteration=0)
    (home / "link").symlink_to("sub/n")
    (home / "empty").mkdir()
    (home / "tool.sh").touch(mode=0o755)
    before = {name: content(run.task_directory(name, iteration=0)) for name in ("cmd", "call")}
    tables = run.tasks, run.attempts, run.results
    value = run.value("call", iteration=0)

    done = run.pack()
    assert not done.left
    (one,) = done
    assert (one.iteration, one.archive, one.attempts) == (0, "archives/0.zip", 2)
    assert one.files > 5
    assert directories(run) == {"1.cmd.1", "1.call.1"}
    assert (run.path / one.archive).stat().st_size == one.archive_bytes
    assert "2 attempts of iteration 0 are in archives/0.zip" in repr(done)

    assert all(a.equals(b) for a, b in zip(tables, (run.tasks, run.attempts, run.results), strict=True))
    assert (run.value("call", iteration=0) == value).all()
    assert run.file("cmd", "sub/n", iteration=0).read_text() == "0\n"
    again = run.task_directory("cmd", iteration=0)
    assert {name: content(run.task_directory(name, iteration=0)) for name in before} == before
    assert (again / "empty").is_dir()
    assert (again / "tool.sh").stat().st_mode & 0o111
    assert abs((again / "sub" / "n").stat().st_mtime - one_second(home, run, "sub/n")) <= 2
    with pytest.raises(UnsafeFileError, match="link"):
        run.file("cmd", "link", iteration=0)
    board = Board(run.store)
    board.refresh()
    panel = details_html(run, board, "0.cmd")
    assert "said" in panel
    assert "result.json" in panel
    assert set(run.disk_usage["what"]) >= {"archives", "attempts"}
    assert list(run.events["event"]).count("packed") == 2
    assert run.store.check() == []

    # Steps, and other runs, take what they need of it.
    run.respond("gate", {})
    assert run.wait() is ms.RunStatus.COMPLETED
    assert run.value("again") == sum(n * n for n in range(3000))
    assert run.file("use", "stdout.txt").read_text() == "0\n"
    flow = ms.Workflow([ms.Task("t", "cat n", files={"n": ms.FromTask("cmd", "sub/n", iteration=0, run=run)})])
    flow.add("v", total, flow.reference("call", iteration=0, run=run))
    other = ms.initialize_run("w", flow, base_path=tmp_path, run_id="other")
    assert other.wait() is ms.RunStatus.COMPLETED
    assert other.value("v") == sum(n * n for n in range(3000))

    # The second iteration, and nothing twice; a moved run reads its archives.
    assert [one.iteration for one in run.pack()] == [1]
    assert len(run.pack()) == 0
    moved = run.path.with_name("moved")
    run.path.rename(moved)
    assert ms.open_run(moved).file("cmd", "sub/n", iteration=1).read_text() == "1\n"


def one_second(home: Path, run: ms.Run, name: str) -> float:
    """Return when a file of a packed attempt was made, as its archive has it."""
    import time

    with zipfile.ZipFile(run.path / "archives" / "0.zip") as archive:
        info = archive.getinfo(f"operators/local/{home.name}/{name}")
    return time.mktime((*info.date_time, 0, 0, -1))


def test_unzip_in_the_runs_directory_puts_back_what_was_there(tmp_path: Path) -> None:
    run = made(tmp_path)
    before = content(run.task_directory("cmd", iteration=0))
    run.pack()
    with zipfile.ZipFile(run.path / "archives" / "0.zip") as archive:
        archive.extractall(run.path)
    (run.path / archives.MANIFEST).unlink()
    assert run.task_directory("cmd", iteration=0).is_relative_to(run.path)
    assert content(run.task_directory("cmd", iteration=0)) == before
    # It is the same as in the archive, so it goes again; what was changed since stays, and is told.
    (run.path / "operators" / "local" / "0.cmd.1" / "sub" / "n").write_text("9\n")
    left = " ".join(run.pack().left)
    assert "0.cmd.1 is in archives/0.zip, and its directory is there, and is not the same" in left
    assert run.file("cmd", "sub/n", iteration=0).read_text() == "9\n"


POINTS = ["pack.added", "pack.written", "pack.verified", "pack.named", "pack.noted", "pack.renamed", "pack.removed"]


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_loses_nothing(point: str, tmp_path: Path) -> None:
    run = made(tmp_path)
    before = {name: content(run.task_directory(name, iteration=0)) for name in ("cmd", "call")}
    text = f"import matterstack as ms; ms.open_run({str(run.path)!r}).pack()"
    for hit in (1, 2):
        environment = {**os.environ, "MATTERSTACK_CRASH": f"kill:{point}:{hit}"}
        done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, timeout=60)
        assert done.returncode in (-9, 0), done.stderr
        if hit == 1:
            assert done.returncode == -9
        again = ms.open_run(run.path)
        assert {name: content(again.task_directory(name, iteration=0)) for name in before} == before
        assert again.store.check() == []
    run.pack()
    assert {name: content(run.task_directory(name, iteration=0)) for name in before} == before
    assert directories(run) == {"1.cmd.1", "1.call.1"}
    assert os.listdir(run.path / "archives") == ["0.zip"]


@pytest.mark.parametrize("point", POINTS[:4])
def test_a_full_disk_changes_nothing(point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path)
    before = content(run.path / "operators")
    monkeypatch.setattr(crash_points, "_armed", None)
    crash_points.arm("ENOSPC", point)
    with pytest.raises(DiskError, match="cannot be packed: No space left on device"):
        run.pack()
    monkeypatch.setattr(crash_points, "_armed", None)
    assert content(run.path / "operators") == before
    run.pack()
    assert os.listdir(run.path / "archives") == ["0.zip"]


def test_a_disk_that_is_really_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource
    import signal

    run = made(tmp_path)
    (run.task_directory("cmd", iteration=0) / "big").write_bytes(os.urandom(3_000_000))
    before = content(run.path / "operators")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, old[1]))
    try:
        with pytest.raises((DiskError, OSError)):
            run.pack()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert content(run.path / "operators") == before
    assert os.listdir(run.path / "archives") == []


def test_two_that_pack_at_once_pack_once(tmp_path: Path) -> None:
    run = made(tmp_path)
    text = (
        "import sys, matterstack as ms\n"
        f"run = ms.open_run({str(run.path)!r})\n"
        "try: print(len(run.pack()))\n"
        "except ms.errors.RunLockedError: print('locked')\n"
    )
    command = [sys.executable, "-c", "import matterstack.errors\n" + text]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted(one.communicate(timeout=60)[0].strip() for one in both)
    assert said.count("1") == 1, said
    assert set(said) <= {"0", "1", "locked"}
    assert os.listdir(run.path / "archives") == ["0.zip"]
    with run._session.locked(), pytest.raises(RunLockedError):
        ms.open_run(run.path).pack()


def test_what_no_archive_keeps_is_left_and_told(tmp_path: Path) -> None:
    run = made(tmp_path)
    home = run.task_directory("cmd", iteration=0)
    os.mkfifo(home / "fifo")
    done = run.pack()
    assert done.left == ("0.cmd.1: fifo is a device, a pipe or a socket, which an archive does not keep",)
    assert directories(run) == {"0.cmd.1", "1.cmd.1", "1.call.1"}
    (home / "fifo").unlink()
    for name in (b"\xff", b"new\nline", b"back\\slash", b"x\x1b[31m"):
        odd = os.path.join(os.fsencode(home), name)
        open(odd, "w").close()
        (left,) = run.pack().left
        assert "is no name that an archive keeps" in left
        assert "\x1b" not in left
        os.unlink(odd)
    # Names that are only unusual are kept; the second archive of an iteration has a name of its own.
    for kept in ("ä ö", "'\"<b>&", "-rf", "*", "CON", "a" * 255):
        (home / kept).write_text(kept)
    before = content(home)
    assert [one.archive for one in run.pack()] == ["archives/0-2.zip"]
    assert content(run.task_directory("cmd", iteration=0)) == before


def test_links_in_place_of_directories_are_not_followed(tmp_path: Path) -> None:
    run = made(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    home = run.task_directory("cmd", iteration=0)
    home.rename(tmp_path / "taken")
    home.symlink_to(outside)
    (left,) = run.pack().left
    assert left.startswith("0.cmd.1: ")
    (run.path / "operators" / "local" / ".packed.x").symlink_to(outside)
    run.pack()
    assert (outside / "precious").exists()
    home.unlink()
    (tmp_path / "taken").rename(home)
    shutil.rmtree(run.path / "archives")
    (run.path / "archives").symlink_to(outside)
    with pytest.raises((UnsafeFileError, DiskError)):
        run.pack()
    assert os.listdir(outside) == ["precious"]
    assert home.is_dir()


def test_what_changes_while_it_is_packed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path)
    home = run.task_directory("cmd", iteration=0)
    real = archives.Archive.finish

    def finish(archive: archives.Archive, iteration: int) -> str:
        (home / "late").write_text("late")
        return real(archive, iteration)

    monkeypatch.setattr(archives.Archive, "finish", finish)
    assert run.pack().left == ("0.cmd.1 was changed while it was packed",)
    assert (home / "late").read_text() == "late"
    assert directories(run) == {"0.cmd.1", "1.cmd.1", "1.call.1"}


def test_an_archive_that_does_not_hold_what_was_written_is_no_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path)
    before = content(run.path / "operators")

    def spoil(point: str) -> None:
        if point == "pack.written":
            (partial,) = (run.path / "archives").glob(".*.partial")
            data = bytearray(partial.read_bytes())
            data[len(data) // 3] ^= 0xFF
            partial.write_bytes(data)

    monkeypatch.setattr(crash_points, "_armed", spoil)
    with pytest.raises(UnsafeFileError, match=r"cannot be read again|does not hold what was written"):
        run.pack()
    monkeypatch.setattr(crash_points, "_armed", None)
    assert content(run.path / "operators") == before
    assert os.listdir(run.path / "archives") == []


def test_a_damaged_or_lost_archive_is_named_and_stops_nothing_else(tmp_path: Path) -> None:
    run = made(tmp_path)
    run.pack()
    path = run.path / "archives" / "0.zip"
    whole = path.read_bytes()
    for number, bad in enumerate((whole[: len(whole) // 2], b"", b"PK" * 500, whole[:200] + b"\0" * 400 + whole[600:])):
        path.unlink()
        path.write_bytes(bad)
        os.utime(path, ns=(number, number))
        with pytest.raises(UnsafeFileError, match="archive"):
            [run.value("call", iteration=0), run.file("cmd", "sub/n", iteration=0)]
    board = Board(run.store)
    board.refresh()
    path.unlink()
    assert "is not there any more" in details_html(run, board, "0.cmd")
    os.mkfifo(path)
    with pytest.raises(UnsafeFileError):
        run.file("cmd", "sub/n", iteration=0)
    run.respond("gate", {})
    assert run.wait() is ms.RunStatus.FAILED
    assert "archives/0.zip" in str(run.tasks.loc["2.use", "reason"])
    assert run.tasks.loc["2.cmd", "status"] == "COMPLETED"
    path.unlink()
    path.write_bytes(whole)
    assert run.retry().wait() is ms.RunStatus.COMPLETED


@pytest.mark.parametrize("name", ["../evil", "/evil", "operators/local/0.cmd.1/../../../../evil", "a\\..\\b"])
def test_a_planted_archive_writes_nothing_elsewhere(name: str, tmp_path: Path) -> None:
    import json

    run = made(tmp_path)
    run.pack()
    path = run.path / "archives" / "0.zip"
    place = "operators/local/0.cmd.1"
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo(f"{place}/out")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(tmp_path))
        archive.writestr(f"{place}/out/evil", "1")
        archive.writestr(f"{place}/{name}" if name[0] in "./a" else name, "1")
        archive.writestr(archives.MANIFEST, json.dumps({"sha256": {}, "kept": {f"{place}/k": "../../../etc/passwd"}}))
    with pytest.raises((UnsafeFileError, OSError)):
        run.file("cmd", "sub/n", iteration=0)
    assert not (tmp_path / "evil").exists()
    assert not Path("/evil").exists()


def test_a_member_that_was_changed_is_not_believed(tmp_path: Path) -> None:
    run = made(tmp_path)
    run.pack()
    path = run.path / "archives" / "0.zip"
    with zipfile.ZipFile(path) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in members:
            archive.writestr(info, b"8\n" if info.filename.endswith("/sub/n") else data)
    with pytest.raises(UnsafeFileError, match="does not hold what was put into it"):
        run.file("cmd", "sub/n", iteration=0)


def test_an_archive_that_nothing_refers_to_goes_only_if_all_of_it_is_there(tmp_path: Path) -> None:
    run = made(tmp_path)
    shutil.copy(run.path / "state.sqlite", tmp_path / "before")
    run.pack()
    shutil.copy(tmp_path / "before", run.path / "state.sqlite")  # somebody puts a backup back
    again = ms.open_run(run.path)
    assert len(again.pack()) == 0
    assert os.listdir(run.path / "archives") == ["0.zip"]
    with zipfile.ZipFile(run.path / "archives" / "0.zip") as archive:
        archive.extractall(run.path)
    assert [one.archive for one in again.pack()] == ["archives/0.zip"]
    assert again.file("cmd", "sub/n", iteration=0).read_text() == "0\n"


def test_copies_go_with_the_process(tmp_path: Path) -> None:
    run = made(tmp_path)
    run.pack()
    text = (
        "import os, matterstack as ms\n"
        f"run = ms.open_run({str(run.path)!r})\n"
        "home = run.task_directory('cmd', iteration=0)\n"
        "if not os.fork(): raise SystemExit\n"
        "os.wait(); assert home.is_dir(); print(home)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not Path(done.stdout.strip()).exists()
    assert not list(tmp_path.glob("matterstack-unpacked-*"))


def test_no_room_to_unpack_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path)
    run.pack()
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="set TMPDIR to where there is") as caught:
        run.file("cmd", "sub/n", iteration=0)
    assert caught.value.errno == errno.ENOSPC
