"""The inputs of an attempt: whose fault it is that one cannot be placed, and what placing many of them takes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from users import as_user, root

import matterstack as ms
from matterstack.core.attempts import Absent, Attempt, Observation, Seen, Submitted
from matterstack.operators import Operator, results
from matterstack.orchestration import inputs
from matterstack.storage import reader


class Instant(Operator):
    """Carries every task out at once, but `gate`; one whose name begins with `a` gives a text of so many characters."""

    def __init__(self, size: int = 0) -> None:
        self.size = size
        self.open = False

    def submit(self, attempts: Sequence[Attempt]) -> dict[str, Submitted]:
        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> dict[str, Observation]:
        return {
            attempt.token: Observation(Seen.ENDED, ok=True)
            for attempt in attempts
            if self.open or attempt.task_id != "gate"
        }

    def find(self, attempts: Sequence[Attempt]) -> dict[str, Absent]:
        return {attempt.token: Absent() for attempt in attempts}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        return [attempt.token for attempt in attempts]

    def collect_results(self, attempt: Attempt) -> Any:
        (attempt.directory / "out.dat").touch()
        return {"text": attempt.task_id[-1] * self.size} if attempt.task_id.startswith("a") else {}


def make(base: Path, files: dict[str, Any]) -> ms.Run:
    """Return a run in which one task uses files, and others have nothing to do with it."""
    tasks = [
        ms.Task("make", operator="instant"),
        ms.Task("gate", operator="instant"),
        ms.Task("use", operator="instant", dependencies=["make", "gate"], files=files),
        *[ms.Task(f"other{number}", operator="instant", dependencies=["make", "gate"]) for number in range(5)],
    ]
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators={"instant": Instant()}, run_id="r")


def finish(run: ms.Run, damage: Any) -> str:
    """Let the first task end, damage what it left, go on, and return why the one that used it failed."""
    while run.tasks.loc["0.make", "status"] != "COMPLETED":
        run.step()
    damage(run)
    run.operators["instant"].open = True  # type: ignore[attr-defined]
    status = run.wait(timeout_s=30)
    others = set(run.tasks["status"][["0.make", *[f"0.other{number}" for number in range(5)]]])
    return f"{status} {others} {run.tasks.loc['0.use', 'reason']}"


@root
def test_a_file_that_may_not_be_read_fails_the_task_that_wants_it(tmp_path: Path) -> None:
    def act() -> str:
        folder = Path(tempfile.mkdtemp())
        run = make(folder, {"in.dat": ms.FromTask("make", "out.dat")})
        said = finish(run, lambda run: (run.task_directory("make") / "out.dat").chmod(0))
        shutil.rmtree(folder)
        return said

    finish(make(tmp_path, {}), lambda run: None)  # everything is imported
    said = as_user(41001, act)
    assert said == "FAILED {'COMPLETED'} its file in.dat cannot be placed: out.dat of make: Permission denied"


def test_a_kept_file_that_was_cleaned_away_fails_the_task_that_wants_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print(1)")
    run = make(tmp_path, {"script.py": tmp_path / "script.py"})
    said = finish(run, lambda run: shutil.rmtree(run.path / "files"))
    assert said.startswith("FAILED {'COMPLETED'} its file script.py cannot be placed: the run's files/")
    assert said.endswith(" is not there any more")


def test_a_name_that_the_disk_refuses_fails_the_task_that_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems take shorter names than others, as those that encrypt them."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    monkeypatch.setattr(inputs, "copy_inside", fail)
    said = finish(make(tmp_path, {"in.dat": ms.FromTask("make", "out.dat")}), lambda run: None)
    assert said.startswith("FAILED {'COMPLETED'} its file in.dat cannot be placed: ")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.EROFS])
def test_a_trouble_of_the_machine_is_no_fault_of_the_task(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, {"in.dat": ms.FromTask("make", "out.dat")})

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(inputs, "copy_inside", fail)
        run.operators["instant"].open = True  # type: ignore[attr-defined]
        while run.tasks.loc["0.use", "status"] != "SUBMITTED":
            run.step()
        run.step()
        assert run.tasks.loc["0.use", "status"] == "SUBMITTED"
        assert os.strerror(number) in str(run.explain())
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert len(run.attempts) == 8


@pytest.fixture
def small_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_MOST_HELD", 250_000)
    monkeypatch.setattr(reader, "_TASKS_AT_ONCE", 4)


def fan_in(base: Path, width: int, users: int, size: int) -> ms.Run:
    """Return a run in which each of many tasks needs the large results of all of the tasks before."""
    before = [f"a{chr(97 + number)}" for number in range(width)]
    tasks = [
        *[ms.Task(name, operator="instant") for name in before],
        *[ms.Task(f"u{number}", operator="instant", dependencies=before) for number in range(users)],
    ]
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators={"instant": Instant(size)})


def test_large_results_that_many_wait_for_are_held_once(tmp_path: Path) -> None:
    """Ten results of 0.4 MB for twelve tasks: 4 MB are held, and the text of one attempt at a time, and not 48 MB."""
    run = fan_in(tmp_path, 10, 12, 400_000)
    tracemalloc.start()
    try:
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 25_000_000


@pytest.mark.usefixtures("small_hold")
def test_what_is_held_no_longer_is_read_again(tmp_path: Path) -> None:
    run = fan_in(tmp_path, 6, 9, 100_000)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    for number in range(9):
        given = json.loads((run.task_directory(f"u{number}") / "inputs.json").read_text())
        assert {name: entry["data"]["text"] for name, entry in given.items()} == {
            f"a{letter}": letter * 100_000 for letter in "abcdef"
        }


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_results_that_the_machine_cannot_read_now_are_collected_later(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ms.Task("a", "echo '{\"n\": 3}' > result.json", outputs=["result.json"])
    run = ms.initialize_run("w", ms.Workflow([task]), base_path=tmp_path)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(results, "open_inside", fail)
        while os.strerror(number) not in str(run.explain()):
            run.step()
            assert run.status is ms.RunStatus.RUNNING
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert run.results.loc["0.a", "n"] == 3
    assert len(run.attempts) == 1
