"""What is made has the permissions that the user's umask leaves: a group folder works, a private run stays private."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from users import as_user, root

import matterstack as ms
from matterstack import cli
from matterstack.errors import InvalidConfigError

ADA, BEN, CARL = 41001, 41002, 41003
GROUP = 41100


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of a group, setgid, that its members may write; pytest's own lies below one of root's."""
    make(tmp_path)
    step(tmp_path)
    path = Path(tempfile.mkdtemp(prefix="matterstack-modes-"))
    os.chown(path, 0, GROUP)
    path.chmod(0o2775)
    yield path
    shutil.rmtree(path)


def play(user: int, mask: int, home: Path, act: Callable[[], object]) -> str:
    """Do something as a user of the group, with a home and a umask of their own."""
    home.mkdir(exist_ok=True)
    os.chown(home, user, user)

    def at_home() -> object:
        os.umask(mask)
        os.environ |= {"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_STATE_HOME": str(home)}
        os.chdir(home)
        return act()

    return as_user(user, at_home, groups=[] if user == CARL else [GROUP])


def make(folder: Path) -> ms.RunStatus:
    tasks = [ms.Task("a", operator="human", instructions="?"), ms.Task("b", operator="human", instructions="?")]
    run = ms.initialize_run(
        "w", ms.Workflow(tasks), base_path=folder, run_id="r", operators={"human": ms.HumanOperator()}
    )
    run.step()
    run.respond("a", {"status": "COMPLETED"})
    run.step()
    return run.status


def step(folder: Path) -> list[str]:
    run = ms.open_run(folder / "workspaces/w/runs/r")
    ms.trust(run.path)
    run.respond("b", {"status": "COMPLETED"})
    run.wait(timeout_s=30)
    return list(run.tasks["status"])


@root
def test_the_next_of_a_group_steps_the_run(folder: Path) -> None:
    assert play(ADA, 0o002, folder / "ada", lambda: make(folder)) == "RUNNING"
    path = folder / "workspaces/w/runs/r"
    status = {entry.relative_to(path): entry.stat() for entry in path.rglob("*")}
    assert [name for name, found in status.items() if found.st_gid != GROUP or not found.st_mode & stat.S_IWGRP] == []
    assert play(BEN, 0o002, folder / "ben", lambda: step(folder)) == "['COMPLETED', 'COMPLETED']"


@root
def test_a_private_run_is_private(folder: Path) -> None:
    assert play(ADA, 0o077, folder / "ada", lambda: make(folder)) == "RUNNING"
    path = folder / "workspaces/w/runs/r"
    assert [entry for entry in path.rglob("*") if entry.stat().st_mode & 0o077] == []
    assert "Error: " in play(CARL, 0o022, folder / "carl", lambda: step(folder))
    assert play(ADA, 0o077, folder / "ada", lambda: step(folder)) == "['COMPLETED', 'COMPLETED']"


@pytest.mark.parametrize("mask", [0o002, 0o077])
def test_the_files_of_a_runner_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, run_id="r")
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    finally:
        os.umask(before)
    for entry in run.path.rglob("*"):
        expected = (0o777 if entry.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(entry.stat().st_mode) == expected, entry


@pytest.mark.parametrize("mask", [0o777, 0o700, 0o277])
def test_a_umask_that_takes_all_is_named_and_leaves_nothing(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with pytest.raises(InvalidConfigError, match="umask"):
            ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["runner.log", "runner.lock"])
@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_stands_in_place_of_a_file_of_ours_is_named(tmp_path: Path, name: str, kind: str) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, run_id="r")
    place = run.path / "operators" / "local" / name
    place.parent.mkdir(exist_ok=True)
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / "elsewhere")
    run.step()
    troubles = [trouble.reason for trouble in run.store.troubles().values()]
    assert name in str(troubles)
    assert not (tmp_path / "elsewhere").exists()
    if kind == "folder":
        place.rmdir()
    else:
        place.unlink()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def hold(folder: Path) -> int:
    """Begin a task that holds the one license of the workspace."""
    return ask_for_license(folder, "private").step().submitted


def ask_for_license(folder: Path, run_id: str) -> ms.Run:
    task = ms.Task("t", operator="human", instructions="?", resources=ms.Resources(named={"license": 1}))
    operators = {"human": ms.HumanOperator()}
    return ms.initialize_run("w", ms.Workflow([task]), base_path=folder, run_id=run_id, operators=operators)


def look_around(folder: Path) -> str:
    """Step a run that waits for what somebody's private run holds, and look at all that is beside it."""
    mine = ask_for_license(folder, "mine")
    assert mine.step().submitted == 0
    seen = ms.runs("w", folder)
    status = dict(zip(seen["run_id"], seen["status"], strict=True))
    assert status["mine"] == "RUNNING"
    assert status["private"] != status["private"]  # NaN: nobody can tell
    assert ms.find_tasks("w", base_path=folder).attrs["unread"]
    assert "Nothing waits" in str(ms.inbox("w", folder))
    return str(mine.explain())


@root
def test_a_private_run_hides_and_stops_no_other(folder: Path) -> None:
    play(ADA, 0o002, folder / "ada", lambda: ms.set_limits("w", base_path=folder, license=1))
    assert play(ADA, 0o077, folder / "ada", lambda: hold(folder)) == "1"
    said = play(BEN, 0o002, folder / "ben", lambda: look_around(folder))
    assert "held by run private (1)" in said
    assert "the run at runs/private cannot be read" in said
    assert "Permission denied" in said


def command(folder: Path, *words: str) -> tuple[int, str]:
    """Return the exit status of a command, and all that it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return cli.main([words[0], "--base-path", str(folder), *words[1:]]), said.getvalue()


@root
@pytest.mark.parametrize("closed", ["run", "runs"])
def test_a_command_says_that_a_run_is_not_open_to_its_user(folder: Path, closed: str) -> None:
    make(folder)
    all_words = [("status", "w/r"), ("tasks", "w/r"), ("doctor", "w/r"), ("runs", "w")]
    for words in all_words:
        command(folder, *words)  # which imports what it needs
    path = folder / "workspaces/w/runs"
    (path / "r" if closed == "run" else path).chmod(0o700)
    for words in all_words:
        said = play(CARL, 0o022, folder / "carl", lambda words=words: command(folder, *words))
        assert said.startswith("(0, " if words == ("runs", "w") and closed == "run" else "(1, ")
        assert "is not open to you: Permission denied" in said
        assert "backup" not in said
