"""Room on disk: what is shown, what goes, what never goes, and what is said of it afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import matterstack as ms
from matterstack.core.scratch import is_scratch
from matterstack.errors import InvalidTaskError, MissingFileError, RunStatusError, ValueNotReadableError

MAKE = "mkdir -p work/deep; echo wave > WAVECAR; echo t > a.tmp; echo t > work/deep/b.tmp; echo keep > final.xyz"


def names(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*")} - {"stdout.txt", "stderr.txt"}


def run_of(base: Path, *tasks: ms.Task, **more: Any) -> ms.Run:
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, run_id="r", **more)


# -- patterns -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "below the attempt's directory"),
        ("/etc/passwd", "below the attempt's directory"),
        ("../x", "below the attempt's directory"),
        ("a/../../x", "below the attempt's directory"),
        ("a//b", "below the attempt's directory"),
        ("a/", "below the attempt's directory"),
        ("./a", "below the attempt's directory"),
        ("x" * 256, "below the attempt's directory"),
        ("*", "would remove final.xyz, an output"),
        ("*.xyz", "would remove final.xyz, an output"),
        ("**", "would remove final.xyz, an output"),
        ("out", "would remove out/energy.dat, an output"),
        ("out/*", "would remove out/energy.dat, an output"),
        ("*.txt", "would remove stderr.txt, a name of the run's own"),
        ("result.json", "would remove result.json, a name of the run's own"),
        (".matterstack/claim", "would remove .matterstack, a name of the run's own"),
        (".MatterStack/*", "would remove .matterstack, a name of the run's own"),
    ],
)
def test_patterns_that_lead_elsewhere_or_match_what_stays_are_refused(pattern: str, why: str) -> None:
    with pytest.raises(InvalidTaskError, match=why.replace(".", r"\.")):
        ms.Task("t", "true", outputs=["final.xyz", "out/energy.dat"], scratch=[pattern])


def test_the_files_of_a_call_are_no_scratch_of_it() -> None:
    for pattern in ("value.json", "value/*", "task.py", "args/*"):
        with pytest.raises(InvalidTaskError, match="would remove"):
            ms.Workflow().add("t", ms.task(double, scratch=[pattern]), 1)
    assert ms.Task("t", "true", scratch="value.json").scratch == ("value.json",)
    with pytest.raises(InvalidTaskError, match="100 patterns at most"):
        ms.Task("t", "true", scratch=[f"{number}" for number in range(101)])


PARTS = st.sampled_from(["a", "b", "a.tmp", "*", "**", "?", "*.tmp", "[ab]"])


@given(st.lists(PARTS, min_size=1, max_size=6), st.lists(st.sampled_from(["a", "b", "a.tmp", "cc"]), min_size=1))
def test_patterns_mean_what_they_mean_one_by_one(pattern: list[str], path: list[str]) -> None:
    from fnmatch import fnmatchcase

    def matches(pattern: list[str], path: list[str]) -> bool:
        if not pattern:
            return not path
        if pattern[0] == "**":
            return any(matches(pattern[1:], path[skip:]) for skip in range(len(path) + 1))
        return bool(path) and fnmatchcase(path[0], pattern[0]) and matches(pattern[1:], path[1:])

    expected = any(matches(pattern, path[:depth]) for depth in range(1, len(path) + 1))
    assert is_scratch(["/".join(pattern)], "/".join(path)) is expected


# -- scratch goes by itself -----------------------------------------------------------------


def test_scratch_goes_once_all_that_depends_on_the_task_is_completed(tmp_path: Path) -> None:
    wave = {"WAVECAR": ms.FromTask("make", "WAVECAR")}
    run = run_of(
        tmp_path,
        ms.Task("make", MAKE, scratch=["WAVECAR", "**/*.tmp"], outputs=["final.xyz"]),
        ms.Task("use", "cat WAVECAR", files=wave),
        ms.Task("ask", operator="human", instructions="?", dependencies=["make"]),
        operators={"local": ms.LocalOperator(), "human": ms.HumanOperator()},
    )
    run.wait()
    home = run.task_directory("make")
    assert run.tasks.loc["0.use", "status"] == "COMPLETED"
    assert "WAVECAR" in names(home)  # the question is still open
    run.respond("ask", {})
    assert run.wait() is ms.RunStatus.COMPLETED
    assert names(home) == {"final.xyz", "work", "work/deep"}
    events = run.events
    (said,) = events.loc[events["event"] == "cleaned", "reason"]
    assert said.startswith("scratch: 3 files, ")
    with pytest.raises(MissingFileError, match=r"0\.make\.1 has no file WAVECAR any more: it was scratch, and was"):
        run.file("make", "WAVECAR")
    with pytest.raises(MissingFileError, match=r"has left no file OUTCAR; there is: final\.xyz"):
        run.file("make", "OUTCAR")
    assert run.file("make", "final.xyz").read_text() == "keep\n"


def test_scratch_goes_while_the_iteration_goes_on(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        ms.Task("make", MAKE, scratch=["WAVECAR"]),
        ms.Task("use", "cat WAVECAR", files={"WAVECAR": ms.FromTask("make", "WAVECAR")}),
        ms.Task("other", operator="human", instructions="?"),
        operators={"local": ms.LocalOperator(), "human": ms.HumanOperator()},
    )
    assert run.wait() is ms.RunStatus.RUNNING
    assert "WAVECAR" not in names(run.task_directory("make"))
    assert "WAVECAR" in names(run.task_directory("use"))


def test_what_has_failed_may_be_tried_again_and_keeps_its_scratch(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        ms.Task("make", MAKE, scratch=["WAVECAR"]),
        ms.Task("use", "test -e ../../../go && cat WAVECAR", files={"WAVECAR": ms.FromTask("make", "WAVECAR")}),
    )
    assert run.wait() is ms.RunStatus.FAILED
    home = run.task_directory("make")
    assert "WAVECAR" in names(home)
    assert len(run.clean()) == 0
    (run.path / "go").touch()
    assert run.retry("use").wait() is ms.RunStatus.COMPLETED
    assert "WAVECAR" not in names(home)


class Two(ms.Campaign):
    """Two iterations; the second wants scratch of the first."""

    def initial_state(self) -> Any:
        return 0

    def plan(self, state: Any) -> ms.Workflow | None:
        if state == 0:
            use = ms.Task("use", "exit 1", dependencies=["make"], allow_failure=True)
            return ms.Workflow([ms.Task("make", MAKE, scratch=["WAVECAR", "work"]), use])
        if state == 1:
            late = {"x": ms.FromTask("make", "WAVECAR", iteration=0)}
            return ms.Workflow([ms.Task("late", "true", files=late, allow_failure=True)])
        return None

    def analyze(self, state: Any, results: Any) -> Any:
        return state + 1


def test_scratch_goes_at_the_latest_with_the_iteration_and_who_asks_is_told(tmp_path: Path) -> None:
    run = ms.initialize_run("w", Two(), base_path=tmp_path)
    run.wait()
    assert names(run.task_directory("make")) == {"a.tmp", "final.xyz"}
    reason = str(run.tasks.loc["1.late", "reason"])
    assert reason.startswith("make has no file WAVECAR any more: it was scratch, and was removed on ")
    with pytest.raises(InvalidTaskError, match=r"0\.make\.1 has no file WAVECAR any more: it was scratch"):
        run_of(tmp_path, ms.Task("t", "true", files={"x": ms.FromTask("make", "WAVECAR", run=run)}))


KILLED = """
import sys, matterstack as ms
run = ms.open_run(sys.argv[1])
run.wait(timeout_s=30)
"""


@pytest.mark.parametrize("point", ["clean.noted", "clean.removed", "tick.made"])
def test_scratch_is_removed_also_by_who_comes_after_a_kill(point: str, tmp_path: Path) -> None:
    run = run_of(
        tmp_path, ms.Task("make", MAKE, scratch=["WAVECAR", "a.tmp"]), ms.Task("use", "true", dependencies=["make"])
    )
    for hit in range(1, 40):
        environment = {**os.environ, "MATTERSTACK_CRASH": f"kill:{point}:{hit}"}
        command = [sys.executable, "-c", KILLED, str(run.path)]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    assert hit > 1
    assert run.status is ms.RunStatus.COMPLETED
    home = run.task_directory("make")
    assert {"WAVECAR", "a.tmp"}.isdisjoint(names(home))
    with pytest.raises(MissingFileError, match="it was scratch"):
        run.file("make", "WAVECAR")
    assert run.store.check() == []


def test_whatever_stands_in_place_of_scratch_only_its_name_goes(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "precious.tmp").write_text("1")
    (outside / "precious.tmp").write_text("1")
    odd = r"""
import os, pathlib, socket
os.symlink({outside!r}, "linked")
os.symlink({outside!r}, "linked.tmp")
os.symlink({outside!r} + "/precious.tmp", "file.tmp")
os.link({outside!r} + "/precious.tmp", "hard.tmp")
os.mkfifo("fifo.tmp")
socket.socket(socket.AF_UNIX).bind("socket.tmp")
os.mkdir("work")
os.symlink({outside!r}, "work/inner")
open(b"\xff\n\x1b.tmp", "w").close()
open("*.tmp", "w").close()
os.mkdir("read_only"); open("read_only/x.tmp", "w").close()
""".format(outside=str(outside))
    task = ms.Task("odd", ["python", "-c", odd], scratch=["*.tmp", "linked/*", "work", "**/precious.tmp"])
    run = run_of(tmp_path, task)
    assert run.wait() is ms.RunStatus.COMPLETED, run.tasks["reason"]
    home = run.task_directory("odd")
    assert names(home) == {"linked", "read_only", "read_only/x.tmp"} | (
        {"linked/deep", "linked/precious.tmp"} & names(home)
    )
    assert (outside / "precious.tmp").read_text() == "1"
    assert (outside / "deep" / "precious.tmp").read_text() == "1"
    assert "\x1b" not in repr(run.clean())


def test_machinery_that_a_pattern_happens_to_match_stays(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        ms.Task("t", "mkdir .matterstack x; touch .matterstack/a.log x/a.log slurm.out", scratch=["**/*.log", "*.out"]),
    )
    assert run.wait() is ms.RunStatus.COMPLETED
    assert names(run.task_directory("t")) == {".matterstack", ".matterstack/a.log", "x", "slurm.out"}


def test_a_planted_link_in_place_of_an_attempt_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "WAVECAR").touch()
    run = run_of(
        tmp_path,
        ms.Task("make", MAKE, scratch=["WAVECAR"]),
        ms.Task("use", operator="human", instructions="?", dependencies=["make"]),
        operators={"local": ms.LocalOperator(), "human": ms.HumanOperator()},
    )
    run.wait()
    home = run.task_directory("make")
    home.rename(home.with_name("moved"))
    home.symlink_to(outside)
    run.respond("use", {})
    assert run.wait() is ms.RunStatus.COMPLETED
    assert (outside / "WAVECAR").exists()
    (left,) = run.clean(do=True).left
    assert "0.make.1 cannot be looked at" in left
    assert (outside / "WAVECAR").exists()


# -- what a person removes ------------------------------------------------------------------


def double(x: int) -> int:
    return 2 * x


def twice(x: int) -> int:
    import pathlib

    pathlib.Path("big.dat").write_bytes(b"x" * 100_000)
    went = pathlib.Path("../../../went")
    if not went.exists():
        went.touch()
        raise RuntimeError("the first time")
    return 2 * x


def tried_twice(base: Path) -> ms.Run:
    flow = ms.Workflow()
    flow.add("call", ms.task(twice, retries=1), 2)
    flow.add_task(ms.Task("cmd", "echo $MATTERSTACK_ATTEMPT > n; test $MATTERSTACK_ATTEMPT = 2", retries=1))
    run = ms.initialize_run("w", flow, base_path=base, run_id="r")
    assert run.wait() is ms.RunStatus.COMPLETED
    return run


def test_clean_shows_before_it_removes_and_says_so_afterwards(tmp_path: Path) -> None:
    run = tried_twice(tmp_path)
    before = names(run.path)
    shown = run.clean()
    assert names(run.path) == before
    assert not shown.done
    assert "nothing was" in repr(shown)
    assert sorted(shown.frame.index) == ["0.call.1", "0.cmd.1"]
    assert set(shown.frame["why"]) == {"earlier attempt"}
    assert shown.bytes > 0
    assert len(run.clean(earlier_attempts=False)) == 0
    attempts = run.attempts

    done = run.clean(do=True)
    assert done.done
    assert (done.files, done.bytes) == (shown.files, shown.bytes)
    left = {path.name for path in (run.path / "operators" / "local").iterdir() if path.is_dir()}
    assert left == {"0.call.2", "0.cmd.2"}
    assert run.attempts.equals(attempts)
    assert run.value("call") == 4
    assert run.file("cmd", "n").read_text() == "2\n"
    with pytest.raises(MissingFileError, match=r"0\.cmd\.1 has no file n any more: all of that attempt was removed on"):
        run.file("cmd", "n", attempt=1)
    assert len(run.clean(do=True)) == 0
    assert list(run.events["event"]).count("cleaned") == 2
    assert run.store.check() == []


@pytest.mark.parametrize("by", ["restart", "word", "number", "other task"])
def test_what_a_further_attempt_would_begin_from_stays(by: str, tmp_path: Path) -> None:
    command = "test $MATTERSTACK_ATTEMPT != 1 || echo far >CONTCAR; grep -q far POSCAR && test -e go"
    restart = {"POSCAR": "CONTCAR"} if by == "restart" else None
    relax = ms.Task("relax", command, files={"POSCAR": b"near"}, restart=restart, retries=1)
    run = run_of(tmp_path, relax, ms.Task("use", "test -e x", files={"y": b""}))
    run.wait(timeout_s=60)
    if by == "other task":
        run.retry("use", files={"x": ms.FromTask("relax", "CONTCAR", attempt=1)})
    elif by != "restart":
        number = 1 if by == "number" else -1
        run.retry("relax", files={"POSCAR": ms.FromTask("relax", "CONTCAR", attempt=number)}).wait(timeout_s=60)
    run.clean(do=True)
    assert (run.path / "operators/local/0.relax.1/CONTCAR").exists()
    if by != "other task":
        run.retry("relax", files={"go": b"1"})
    run.wait(timeout_s=60)
    assert run.tasks.loc["0.use" if by == "other task" else "0.relax", "status"] == "COMPLETED"


def test_a_value_of_a_removed_attempt_says_that_it_was_removed(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("call", double, 1)
    flow.add_task(ms.Task("gate", "test -e ../../../go"))
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.wait()
    (run.path / "go").touch()
    run.retry("call")
    run.retry("gate").wait()
    assert run.attempts.loc["0.call.1", "status"] == "COMPLETED"
    run.clean(do=True)
    assert run.value("call") == 2
    with pytest.raises(ValueNotReadableError, match=r"0\.call\.1 has no value any more: all of that attempt"):
        run.value("call", attempt=1)


def test_nothing_is_cleaned_while_something_is_under_way(tmp_path: Path) -> None:
    run = run_of(tmp_path, ms.Task("long", "sleep 60"))
    run.step()
    for do in (False, True):
        with pytest.raises(RunStatusError, match=r"1 attempts are under way, as 0\.long\.1"):
            run.clean(do=do)
    run.cancel()


def test_attempts_that_a_person_made_or_that_may_still_live_stay(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        ms.Task("kit", "true", operator="hpc", timeout_s=0.01, retries=1),
        ms.Task("lost", "sleep 30", retries=1),
        operators={"hpc": ms.ManualHPCOperator(), "local": ms.LocalOperator()},
    )
    run.step()
    run.declare_lost("lost")
    while not {"0.kit.2", "0.lost.2"} <= set(run.attempts.index):
        run.step()
    run.cancel(timeout_s=60)
    assert list(run.attempts.loc[["0.kit.1", "0.lost.1"], "status"]) == ["FAILED", "LOST"]
    assert len(run.clean()) == 0


def test_what_cannot_be_removed_is_told_and_the_rest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matterstack.orchestration import cleaning

    run = tried_twice(tmp_path)
    real: Callable[..., None] = cleaning.remove_inside

    def fails(root: Path, relative: str) -> None:
        if "call" in relative:
            raise PermissionError(13, "Permission denied", relative)
        real(root, relative)

    monkeypatch.setattr(cleaning, "remove_inside", fails)
    done = run.clean(do=True)
    assert list(done.frame.index) == ["0.cmd.1"]
    assert "0.call.1 cannot be removed, or not all of it" in done.left[0]
    assert "left: 0.call.1" in repr(done)
    assert "0.call.1" in done._repr_html_()


@pytest.mark.parametrize("point", ["clean.noted", "clean.removed"])
def test_clean_that_is_killed_goes_on_when_it_is_called_again(point: str, tmp_path: Path) -> None:
    run = tried_twice(tmp_path)
    text = f"import sys, matterstack as ms; ms.open_run({str(run.path)!r}).clean(do=True)"
    environment = {**os.environ, "MATTERSTACK_CRASH": f"kill:{point}:1"}
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr
    run.clean(do=True)
    left = {path.name for path in (run.path / "operators" / "local").iterdir() if path.is_dir()}
    assert left == {"0.call.2", "0.cmd.2"}


def test_a_tree_deeper_than_python_recurses_and_than_a_path_may_be_is_removed(tmp_path: Path) -> None:
    deep = "import os\nfor _ in range(450): os.mkdir('deep-folder'); os.chdir('deep-folder')\n"
    run = run_of(tmp_path, ms.Task("deep", ["python", "-c", deep], scratch=["deep-folder"]))
    recurses = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(400)  # what it takes grows with the square of the depth
        assert run.wait() is ms.RunStatus.COMPLETED
        sys.setrecursionlimit(recurses)
        assert sorted(os.listdir(run.task_directory("deep"))) == ["stderr.txt", "stdout.txt"]
    finally:  # pytest could not
        sys.setrecursionlimit(recurses)
        subprocess.run(["rm", "-rf", str(run.path)], check=True)


def test_another_file_system_below_an_attempt_is_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matterstack.orchestration import cleaning

    run = tried_twice(tmp_path)
    real = cleaning.walk_inside

    def elsewhere(root: Path, relative: str) -> Any:  # to mount one takes rights that a test has not
        for path, status in real(root, relative):
            yield path, os.stat_result((*status[:2], status.st_dev + 1, *status[3:]))

    monkeypatch.setattr(cleaning, "walk_inside", elsewhere)
    done = run.clean(do=True)
    assert len(done) == 0
    assert "is another file system" in done.left[0]
    assert (run.path / "operators" / "local" / "0.cmd.1").is_dir()


# -- what there is --------------------------------------------------------------------------


def test_disk_usage_counts_blocks_and_inodes_once_and_by_function(tmp_path: Path) -> None:
    run = tried_twice(tmp_path)
    os.mkfifo(run.task_directory("cmd") / "fifo")
    (run.task_directory("cmd") / "away").symlink_to("/")
    table = run.disk_usage
    du = subprocess.run(["du", "-s", "--block-size=1", str(run.path)], capture_output=True, text=True, check=True)
    inodes = subprocess.run(["du", "-s", "--inodes", str(run.path)], capture_output=True, text=True, check=True)
    own = os.stat(run.path)
    assert table["bytes"].sum() == int(du.stdout.split()[0]) - own.st_blocks * 512
    assert table["files"].sum() == int(inodes.stdout.split()[0]) - 1
    rows = table.set_index(["what", "operator", "function"])
    assert rows.loc[("attempts", "local", "twice"), "attempts"] == 2
    assert rows.loc[("attempts", "local", ""), "attempts"] == 2
    assert rows.loc[("attempts", "local", "twice"), "bytes"] >= 100_000
    assert {"kept files", "operators", "the run"} <= set(table["what"])
    # What programs share is the run's, and costs an attempt nothing.
    shared = run.task_directory("call") / "matterstack_values.py"
    assert shared.stat().st_nlink > 1
    assert table.attrs["not_seen"] == []


def test_scratch_is_kept_with_the_task(tmp_path: Path) -> None:
    task = ms.Task("t", "true", scratch=["*.tmp", "x/y"])
    assert ms.Task.from_json(json.loads(json.dumps(task.to_json()))) == task
