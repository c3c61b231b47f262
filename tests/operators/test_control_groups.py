"""Control groups of commands: where they are made, and that the kernel keeps a command to its memory there.

What the kernel does is shown where it hands memory to this user in version 2, as in a scope of a systemd user session:
``systemd-run --user --scope python -m pytest tests/operators/test_control_groups.py``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from users import as_user, root
from waiting import wait_for

import matterstack as ms
from matterstack.operators.local.runner.control_groups import ControlGroup, ControlGroups, _delegated
from tests.helpers.runners import kill_runner

USER = 12345


@pytest.fixture
def tree() -> Iterator[Path]:
    """Return a tree as the kernel shows it to a user whose session is in ``app.slice/jupyter.scope``."""
    place = Path(tempfile.mkdtemp())
    home = place / "user@12345.service/app.slice"
    (home / "jupyter.scope").mkdir(parents=True)
    (home / "cgroup.subtree_control").write_text("memory pids\n")
    (home / "cgroup.procs").write_text("")
    (place / "own").write_text("1:name=systemd:/x\n0::/user@12345.service/app.slice/jupyter.scope\n")
    for path in (place, *place.rglob("*")):
        os.chown(path, USER, -1)
    yield place
    shutil.rmtree(place)


@root
@pytest.mark.parametrize("lacks", ["nothing", "memory", "ownership", "a group"])
def test_groups_are_made_only_where_that_was_delegated_to_this_user(tree: Path, lacks: str) -> None:
    home = tree / "user@12345.service/app.slice"
    if lacks == "memory":
        (home / "cgroup.subtree_control").write_text("pids\n")
    elif lacks == "ownership":
        os.chown(home, 0, -1)
    elif lacks == "a group":
        (tree / "own").write_text("1:name=systemd:/x\n")
    found = as_user(USER, lambda: _delegated(str(tree), str(tree / "own")))
    assert found == (str(home) if lacks == "nothing" else "None")
    assert _delegated(str(tree), str(tree / "own")) is None, "root's is the system's"


@root
def test_where_the_kernel_takes_no_limit_nothing_is_left_and_memory_is_watched(tree: Path) -> None:
    home = tree / "user@12345.service/app.slice"
    (home / "matterstack-ms-of-another-runner").mkdir()
    assert as_user(USER, lambda: ControlGroups(str(tree), str(tree / "own")).make("ms-1", 0.5)) == "None"
    assert [path.name for path in home.glob("matterstack-*")] == ["matterstack-ms-of-another-runner"]


def test_a_command_begins_in_its_group_as_it_would_without(tmp_path: Path) -> None:
    group = ControlGroup(str(tmp_path))
    (tmp_path / "cgroup.procs").write_text("")
    # Not every shell hands on what none of its variables may be called, as functions that bash exports are.
    environment = {"PATH": os.defpath, "BASH_FUNC_module%%": "() { echo loaded $1; }", "A.B": "c d=e"}
    asked = 'module vasp; printenv A.B; echo "$0,$1,$2"'
    program, argv = group.entering("/bin/bash", ["bash", "-c", asked, "a b", "$x", ""], environment)
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("loaded vasp\nc d=e\na b,$x,\n", "")
    assert (tmp_path / "cgroup.procs").read_text() == "0\n"


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ("low 0\noom 0\noom_kill 0\n", None),
        ("low 0\noom 1\noom_kill 2\n", "memory limit: used all of its memory_gib, which is 0.5; the kernel enforced"),
        ("low 0\noom 0\noom_kill 2\n", None),  # it was the memory of the machine that ran out
        ("\0\n", None),
    ],
)
def test_a_group_says_why_its_command_was_killed(tmp_path: Path, events: str, why: str | None) -> None:
    (tmp_path / "memory.events").write_text(events)
    (tmp_path / "memory.max").write_text(f"{1 << 29}\n")
    said = ControlGroup(str(tmp_path)).end()
    assert said is None if why is None else said is not None and said.startswith(why)


# -- a kernel that enforces it -------------------------------------------------------------------

HOME = _delegated("/sys/fs/cgroup", "/proc/self/cgroup")
kernel = pytest.mark.skipif(HOME is None, reason="never required: control groups that a user may keep to their memory")
EATS = "import time; b = bytearray({mib} << 20); print(len(b) >> 20, flush=True); time.sleep({s})"


def eats(mib: int, s: float = 0) -> list[str]:
    return [sys.executable, "-S", "-c", EATS.format(mib=mib, s=s)]


def task(task_id: str, command: Any, memory_gib: float, **settings: Any) -> ms.Task:
    factor = settings.pop("memory_factor", 1)
    resources = ms.Resources(memory_gib=memory_gib, memory_factor=factor)
    return ms.Task(task_id, command, resources=resources, retry_on=["OUT_OF_MEMORY"], **settings)


def start(base: Path, *tasks: ms.Task) -> ms.Run:
    operators = {"local": ms.LocalOperator(memory_gib=2, max_active=len(tasks))}
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators=operators)


def reasons(run: ms.Run) -> dict[str, str]:
    return {name: str(reason) for name, reason in run.attempts["reason"].items()}


def groups() -> list[Path]:
    return sorted(Path(str(HOME)).glob("matterstack-ms-*"))


@kernel
def test_the_kernel_keeps_a_command_and_all_that_it_starts_to_its_memory(tmp_path: Path) -> None:
    run = start(
        tmp_path,
        task("grows", eats(180), 0.125, memory_factor=2, retries=1),
        task("child", f"{shlex.join(eats(300))}; echo goes on", 0.125),
        task("beside", eats(80, 3), 0.25),
    )
    run.wait(timeout_s=120)
    said = reasons(run)
    enforced = "memory limit: used all of its memory_gib, which is 0.125; the kernel enforced it"
    assert said["0.grows.1"].startswith(enforced)
    assert said["0.child.1"].startswith(enforced)
    assert list(run.tasks["status"]) == ["COMPLETED", "FAILED", "COMPLETED"]
    assert (run.path / "operators/local/0.child.1/stdout.txt").read_text() == "", "all of it was killed"
    assert groups() == []


@kernel
def test_the_bound_outlives_the_runner_and_who_comes_after_says_what_the_kernel_did(tmp_path: Path) -> None:
    go = tmp_path / "go"
    run = start(
        tmp_path,
        task("over", f"until [ -e {go} ]; do sleep 0.05; done; exec {shlex.join(eats(300))}", 0.125),
        task("within", f"until [ -e {go} ]; do sleep 0.05; done; exec {shlex.join(eats(30))}", 0.125),
    )
    run.step()
    wait_for(lambda: (run.step(), list(run.attempts["status"]) == ["RUNNING"] * 2)[1])
    wait_for(lambda: all((group / "cgroup.procs").read_text() for group in groups()))
    kill_runner(run)
    go.write_text("")
    wait_for(lambda: not any((group / "cgroup.procs").read_text() for group in groups()))
    run.wait(timeout_s=60)
    assert reasons(run)["0.over.1"].startswith("memory limit: used all of its memory_gib, which is 0.125; the kernel")
    assert list(run.attempts["status"]) == ["FAILED", "LOST"]
    assert (run.path / "operators/local/0.within.1/stdout.txt").read_text() == "30\n"
    assert groups() == []


def fills(mib: int) -> int:
    return len(bytearray(mib << 20)) >> 20


@kernel
def test_a_call_that_begins_warm_is_kept_to_its_memory_too(tmp_path: Path) -> None:
    flow, call = ms.Workflow(), ms.task(fills, resources=ms.Resources(memory_gib=0.125))
    flow.add("over", call, 300)
    flow.add("within", call, 30)
    operators = {"local": ms.LocalOperator(memory_gib=2, max_active=2)}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    run.wait(timeout_s=120)
    notes = [path.read_text().strip() for path in (run.path / "operators/local").glob("*/.matterstack/start")]
    assert notes == ["warm", "warm"]
    assert reasons(run)["0.over.1"].startswith("memory limit: used all of its memory_gib, which is 0.125; the kernel")
    assert list(run.tasks["status"]) == ["FAILED", "COMPLETED"]
    assert groups() == []
