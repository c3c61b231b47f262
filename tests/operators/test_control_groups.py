"""Control groups of commands: where they are made, and that a command begins in its own. Their memory is the kernel's.

A kernel that enforces memory in version 2, in a place that was delegated, is not where these tests run: what it does
with the files is not shown here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from users import as_user, root

from matterstack.operators.local.runner.control_groups import ControlGroup, ControlGroups, _delegated

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
    (home / "matterstack-ms-of-a-killed-runner").mkdir()
    assert as_user(USER, lambda: ControlGroups(str(tree), str(tree / "own")).make("ms-1", 0.5)) == "None"
    assert not list(home.glob("matterstack-*"))


def test_a_command_begins_in_its_group_and_says_why_it_was_killed_there(tmp_path: Path) -> None:
    group = ControlGroup(str(tmp_path), 0.5)
    (tmp_path / "cgroup.procs").write_text("")
    program, argv = group.entering("/bin/echo", ["echo", "a b", "$x"])
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("a b $x\n", "")
    assert (tmp_path / "cgroup.procs").read_text() == "0\n"
    assert group.why_killed() is None
    for kills, why in ((0, "None"), (2, "memory limit: used all of its memory_gib, which is 0.5; the kernel enforced")):
        (tmp_path / "memory.events").write_text(f"low 0\noom 0\noom_kill {kills}\n")
        assert str(group.why_killed()).startswith(why)
