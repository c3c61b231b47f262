"""Cores, GPUs and memory of this machine, counted over all runs: never over, whatever is killed when."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crashes import ENDED, in_child, killed_at, points_of
from ledger import starts, witnessed

import matterstack as ms
from matterstack.errors import InvalidConfigError, InvalidTaskError, RunStatusError
from matterstack.operators.local.ended import ended
from matterstack.orchestration import reservations
from matterstack.storage import database
from matterstack.storage.machine import MachineLedger
from tests.helpers.runners import kill_runner

#: Says so where more are in at once than may be, or a GPU is there twice.
GUARDED = (
    "mkdir -p {base}/in; touch {base}/in/$MATTERSTACK_TOKEN; "
    "[ $(ls {base}/in | wc -l) -le {most} ] || echo $MATTERSTACK_TOKEN >> {base}/over; "
    'for gpu in $(echo "$CUDA_VISIBLE_DEVICES" | tr , " "); do '
    "mkdir {base}/gpu$gpu || echo $gpu >> {base}/twice; done; "
    "sleep {s}; "
    'for gpu in $(echo "$CUDA_VISIBLE_DEVICES" | tr , " "); do rmdir {base}/gpu$gpu; done; '
    "rm {base}/in/$MATTERSTACK_TOKEN"
)
TELLS = 'echo "$CUDA_VISIBLE_DEVICES|$OMP_NUM_THREADS|$MKL_NUM_THREADS|$OPENBLAS_NUM_THREADS"'
UNTIL = "until [ -e {gate} ]; do sleep 0.02; done"
OVER = (ms.RunStatus.COMPLETED, ms.RunStatus.FAILED)


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where this test's counts are."""
    place = tmp_path / "runtime"
    place.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return place


def task(task_id: str, command: Any = "true", **resources: Any) -> ms.Task:
    return ms.Task(task_id, command, resources=ms.Resources(**resources))


def make(base: Path, run_id: str, tasks: Sequence[ms.Task], **counts: Any) -> ms.Run:
    operators = {"local": ms.LocalOperator(**counts)}
    return ms.initialize_run("w", ms.Workflow(list(tasks)), base_path=base, run_id=run_id, operators=operators)


def held() -> dict[str, int]:
    """Return what is held of this machine."""
    return {share.name: share.amount for share in MachineLedger().standing().shares}


def said(run: ms.Run, task_id: str) -> str:
    return (run.path / f"operators/local/0.{task_id}.1/stdout.txt").read_text().strip()


# -- never over ---------------------------------------------------------------------------------


def drive(path: Path) -> None:
    run = ms.open_run(path)
    while run.status not in OVER:
        run.wait(timeout_s=60)


def check_all_ended(base: Path, runs: Sequence[ms.Run], tasks: int) -> None:
    assert not (base / "over").exists()
    assert not (base / "twice").exists()
    for run in runs:
        run.step()  # killed after its very last commit, it holds something until somebody wants it or steps it
        assert (run.status, len(run.attempts)) == (ms.RunStatus.COMPLETED, tasks)
    assert held() == {}


def test_two_runs_in_two_processes_share_the_cores_and_have_no_gpu_twice(tmp_path: Path) -> None:
    command = GUARDED.format(base=tmp_path, most=2, s=0.1)
    tasks = [task(f"t{n}", command, gpus=n % 2) for n in range(6)]
    runs = [make(tmp_path, name, tasks, cpus=2, gpus=2, max_active=6) for name in "ab"]
    drivers = []
    for run in runs:
        if (pid := os.fork()) == 0:
            code = 1
            try:
                drive(run.path)
                code = 0
            finally:
                os._exit(code)
        drivers.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in drivers] == [0, 0]
    check_all_ended(tmp_path, runs, 6)


def two_runs(base: Path) -> list[Path]:
    base.mkdir()
    command = GUARDED.format(base=base, most=1, s=0)
    made = []
    for name in "ab":
        flow = [
            witnessed(f"t{n}", command, base / "ledger", resources=ms.Resources(gpus=1, memory_gib=1)) for n in range(2)
        ]
        made.append(make(base, name, flow, cpus=1, gpus=1, memory_gib=1).path)
    return made


def go_round(paths: Sequence[Path]) -> None:
    """Step both in turn, until they are over."""
    runs = [ms.open_run(path) for path in paths]
    while any(run.status not in OVER for run in runs):
        for run in runs:
            run.wait(timeout_s=0)
            assert all(amount <= {"memory_mib": 1024, "cpus": 2}.get(name, 1) for name, amount in held().items())


def test_killed_at_every_point_of_two_runs_that_share_one_core(tmp_path: Path) -> None:
    paths = two_runs(tmp_path / "first")
    points = points_of(partial(go_round, paths), tmp_path / "points")
    mine = [(point, hit) for point, hit in points if point.startswith("limits.") and hit == 1]
    assert {point for point, _ in mine} == {"limits.made", "limits.reserved", "limits.giving_back", "limits.given_back"}
    killed = 0
    for point, hit in [*mine, ("submit.submitted", 1)]:
        shutil.rmtree(tmp_path / "runtime/matterstack", ignore_errors=True)
        base = tmp_path / f"{point}.{hit}"
        paths = two_runs(base)
        killed += killed_at(point, hit, partial(go_round, paths))
        assert in_child(partial(go_round, paths)) == ENDED
        check_all_ended(base, [ms.open_run(path) for path in paths], 2)
        assert sorted(starts(base / "ledger").values()) == [1, 1, 1, 1]
    assert killed == 5


# -- what nobody steps --------------------------------------------------------------------------


def begun(run: ms.Run, task_id: str) -> str:
    """Return the token of an attempt, when its command has begun, which says so in a file, and its run knows it."""
    home = run.path / f"operators/local/0.{task_id}.1"
    while not (home / "begun").exists() or run.attempts.loc[home.name, "status"] != "RUNNING":
        run.wait(timeout_s=0.02)
    return str(run.attempts.loc[home.name, "token"])


def test_what_ended_in_a_run_that_nobody_steps_is_given_back_by_who_waits(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    dead = make(tmp_path, "dead", [task("t", f"touch begun; {UNTIL.format(gate=gate)}")], cpus=1)
    token = begun(dead, "t")
    waits = make(tmp_path, "waits", [task("t")], cpus=1)
    assert waits.step().submitted == 0
    (blocker,) = waits.explain()
    assert f"it waits for 1 cpu of this machine: 1 of 1 are held by run dead ({dead.path}) (1), since " in blocker.why
    home = dead.path / "operators/local"
    assert ended(home, {token: "0.t.1"}) == set()
    gate.touch()
    while ended(home, {token: "0.t.1"}) != {token}:
        assert list(dead.attempts["status"]) == ["RUNNING"]
    assert ms.open_run(waits.path).wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert list(dead.attempts["status"]) == ["RUNNING"], "nobody has stepped it"
    assert dead.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert held() == {}


def test_what_outlives_its_runner_is_held_until_nothing_of_it_is_alive(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    dead = make(tmp_path, "dead", [task("t", f"touch begun; {UNTIL.format(gate=gate)}")], cpus=1)
    token = begun(dead, "t")
    kill_runner(dead)
    waits = make(tmp_path, "waits", [task("t")], cpus=1)
    assert [waits.step().submitted for _ in range(3)] == [0, 0, 0], "the first one looks at those that hold something"
    pid = int(dead.attempts["external_id"].iloc[0].partition(":")[0])
    os.killpg(pid, signal.SIGKILL)
    home = dead.path / "operators/local"
    while ended(home, {token: "0.t.1"}) != {token}:
        assert ms.open_run(waits.path).step().submitted == 0 or ended(home, {token: "0.t.1"}) == {token}
    assert ms.open_run(waits.path).wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert list(dead.attempts["status"]) == ["RUNNING"]


def test_what_was_never_handed_over_is_held_and_named(tmp_path: Path) -> None:
    dead = make(tmp_path, "dead", [task("t")], cpus=1)
    assert killed_at("submit.prepared", 1, dead.step)
    waits = make(tmp_path, "waits", [task("t")], cpus=1)
    assert waits.step().submitted == 0
    assert f"held by run dead ({dead.path}) (1), since" in repr(waits.explain())
    with pytest.raises(RunStatusError, match="1 of its attempts that hold something are not over"):
        ms.release_reservations("w", "dead", tmp_path)
    said = subprocess.run(
        [sys.executable, "-m", "matterstack", "doctor", str(tmp_path / "workspaces/w")],
        capture_output=True,
        text=True,
    )
    assert (said.returncode, f"1 cpu: run dead ({dead.path}), since " in said.stdout) == (0, True)
    shutil.rmtree(dead.path)
    (blocker,) = waits.explain()
    assert "ms.release_reservations('w', run_id='dead'" in blocker.remedy
    assert ms.release_reservations("w", "dead", tmp_path) == 1
    assert waits.wait(timeout_s=30) is ms.RunStatus.COMPLETED


def test_what_a_run_holds_goes_with_it_when_it_is_moved_and_not_with_a_copy(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = make(tmp_path, "r", [task("t", f"touch begun; {UNTIL.format(gate=gate)}")], cpus=1)
    begun(run, "t")
    copy = run.path.with_name("copy")
    shutil.copytree(run.path, copy)
    ms.trust(copy)
    for _ in range(3):  # its attempt is nowhere
        ms.open_run(copy).step()
    assert held() == {"cpus": 1}
    (share,) = MachineLedger().standing().shares
    assert share.holder.place == str(run.path)
    moved = tmp_path / "moved"
    shutil.move(run.path, moved)
    ms.open_run(moved).step()
    (share,) = MachineLedger().standing().shares
    assert share.holder.place == str(moved)
    gate.touch()
    assert ms.open_run(moved).wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert held() == {}


# -- what a task gets ---------------------------------------------------------------------------


def test_cores_and_gpus_are_told_to_each_task(tmp_path: Path) -> None:
    tasks = [
        task("one", TELLS),
        task("two", TELLS, tasks=2, cpus_per_task=3, gpus=2),
        ms.Task("own", TELLS, env={"OMP_NUM_THREADS": "7"}),
    ]
    run = make(tmp_path, "r", tasks, cpus=6, gpus=2)
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert [said(run, name) for name in ("one", "two", "own")] == ["|1|1|1", "0,1|3|3|3", "|7|1|1"]


def test_the_gpus_are_those_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = tmp_path / "gate"
    command = f"touch begun; {TELLS}; {UNTIL.format(gate=gate)}"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8932f937")
    first = make(tmp_path, "first", [task("t", command, gpus=1), task("none", TELLS)], gpus=2)
    begun(first, "t")
    second = make(tmp_path, "second", [task("t", TELLS, gpus=1)], gpus=2)
    assert second.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert [said(first, "t"), said(second, "t")] == ["3|||", "GPU-8932f937|||"]
    alike = make(tmp_path, "alike", [task("t", gpus=2)], gpus=2)
    assert alike.step().submitted == 0
    assert "it waits for 2 gpus of this machine: 1 of 2 are held by run first" in repr(alike.explain())
    with pytest.raises(InvalidTaskError, match="wants 3 gpus of this machine"):
        make(tmp_path, "more", [task("t", gpus=3)], gpus=4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    apart = make(tmp_path, "apart", [task("t", TELLS, gpus=1)], gpus=1)
    assert apart.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert said(apart, "t") == "5|||"
    gate.touch()
    assert first.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert said(first, "none") == "|||"


def test_tasks_behind_those_that_wait_for_a_gpu_go_on(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    other = make(tmp_path, "other", [task("t", f"touch begun; {UNTIL.format(gate=gate)}", gpus=1)], gpus=1)
    begun(other, "t")
    tasks = [*(task(f"hot{n}", gpus=1) for n in range(9)), task("cold"), task("large", memory_gib=1)]
    run = make(tmp_path, "r", tasks, gpus=1, max_active=2, memory_gib=1)
    for _ in run.ticks(timeout_s=60):
        if run.counts.completed == 2:
            break
    assert set(run.tasks[run.tasks["status"] == "COMPLETED"]["task_id"]) == {"cold", "large"}
    gate.touch()
    assert other.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_tasks_behind_those_that_wait_for_a_gpu_find_the_limits_of_the_workspace(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    gate = tmp_path / "gate"
    other = make(tmp_path, "other", [task("t", f"touch begun; {UNTIL.format(gate=gate)}", gpus=1)], gpus=1)
    begun(other, "t")
    tasks = [*(task(f"hot{n}", gpus=1) for n in range(9)), task("named", named={"furnace": 1})]
    run = make(tmp_path, "r", tasks, gpus=1, max_active=2)
    for _ in run.ticks(timeout_s=60):
        if run.counts.completed == 1:
            break
    assert set(run.tasks[run.tasks["status"] == "COMPLETED"]["task_id"]) == {"named"}
    gate.touch()
    assert other.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


@ms.task
def threads() -> str:
    """Return what a call finds."""
    import os

    return f"{os.environ['OMP_NUM_THREADS']}|{os.environ['CUDA_VISIBLE_DEVICES']}"


def test_a_call_that_begins_warm_finds_what_it_may_use(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("one", threads)
    flow.add("two", threads.with_options(resources=ms.Resources(cpus_per_task=2, gpus=1)))
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(cpus=4, gpus=1)})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert [run.value("one"), run.value("two")] == ["1|", "2|0"]
    notes = (run.path / "operators/local").glob("*/.matterstack/start")
    assert [note.read_text().strip() for note in notes] == ["warm", "warm"]


def test_a_run_whose_operator_has_less_asks_against_its_own_amount(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    large = make(tmp_path, "large", [task("t", f"touch begun; {UNTIL.format(gate=gate)}", cpus_per_task=2)], cpus=4)
    begun(large, "t")
    small = make(tmp_path, "small", [task("t")], cpus=2)
    assert small.step().submitted == 0
    also = make(tmp_path, "also", [task("t")], cpus=4)
    assert also.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    gate.touch()
    assert large.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert small.wait(timeout_s=30) is ms.RunStatus.COMPLETED


def test_both_kinds_of_limits_are_taken_together_or_not_at_all(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    gate = tmp_path / "gate"
    wants: dict[str, Any] = {"named": {"furnace": 1}}
    first = make(tmp_path, "first", [task("t", f"touch begun; {UNTIL.format(gate=gate)}", **wants)], cpus=2)
    begun(first, "t")
    second = make(tmp_path, "second", [task("hot", **wants), task("cold"), task("late", **wants)], cpus=2)
    assert second.step().submitted == 1, "one core is free, and the furnace is not"
    said = {one.what: one.why.partition(":")[0] for one in second.explain() if one.what.startswith("task")}
    assert said == {"task hot": "it waits for furnace", "task late": "it waits for furnace"}
    assert second.tasks.set_index("task_id").loc["cold", "status"] != "PENDING"
    third = make(tmp_path, "third", [task("t", **wants)], cpus=1)
    assert third.step().submitted == 0
    assert ms.limits("w", tmp_path)["by"].iloc[0] == "first (1)"
    gate.touch()
    go_round([first.path, second.path, third.path])
    for run in (first, second, third):
        run.step()
        assert run.status is ms.RunStatus.COMPLETED
    assert held() == {}
    assert ms.limits("w", tmp_path)["held"].iloc[0] == 0


# -- memory -------------------------------------------------------------------------------------

EATS = [sys.executable, "-S", "-c", "import time; x = bytearray(300 << 20); time.sleep({s})"]


def test_a_task_that_takes_more_memory_than_it_says_is_stopped_and_gets_more_next_time(tmp_path: Path) -> None:
    eats = [*EATS[:-1], EATS[-1].format(s="1.5 if __import__('os').environ['MATTERSTACK_ATTEMPT'] == '2' else 60")]
    resources = ms.Resources(memory_gib=0.2, memory_factor=9)
    greedy = ms.Task("t", eats, resources=resources, retries=1, retry_on=["OUT_OF_MEMORY"])
    run = make(tmp_path, "r", [greedy], memory_gib=1)
    run.step()
    assert held() == {"memory_mib": 205}
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    reason = run.attempts["reason"].iloc[0]
    watched = r"0\.\d+ GiB, and its memory_gib is 0\.2; it was watched"
    enforced = r"all of its memory_gib, which is 0\.2; the kernel enforced it"
    assert re.match(f"memory limit: used ({watched}|{enforced})", reason)
    assert "run.retry(task, resources={'memory_gib': ...})" in reason


def test_memory_that_processes_share_counts_once(tmp_path: Path) -> None:
    forks = "import os, time; x = bytearray(b'1') * (150 << 20); [os.fork() for _ in range(2)]; time.sleep(1.5)"
    run = make(tmp_path, "r", [task("t", [sys.executable, "-S", "-c", forks], memory_gib=0.25)], memory_gib=1)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED, run.explain()


def test_memory_is_left_alone_where_it_is_not_counted(tmp_path: Path) -> None:
    run = make(tmp_path, "r", [task("t", [*EATS[:-1], EATS[-1].format(s=1.2)], memory_gib=0.1)], cpus=1)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


# -- what is refused beforehand, and what is said ------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        (
            {"cpus_per_task": 2, "tasks": 2},
            r"'t' wants 4 cpus of this machine.* 'local' may use 2 cpus.*cpus=4",
        ),
        ({"gpus": 2}, r"'t' wants 2 gpus of this machine, of which 'local' may use 1 gpu.*gpus=2"),
        ({"memory_gib": 1.5}, r"'t' wants 1.5 GiB of memory of this machine.* may use 1 GiB of memory.*memory_gib=1.5"),
    ],
)
def test_what_can_never_fit_is_refused_before_anything_starts(
    tmp_path: Path, resources: dict[str, Any], text: str
) -> None:
    counts: dict[str, Any] = {"cpus": 2, "gpus": 1, "memory_gib": 1}
    operators = {"local": ms.LocalOperator(**counts)}
    with pytest.raises(InvalidTaskError, match=text):
        make(tmp_path, "r", [task("t", **resources)], **counts)
    assert not list((tmp_path / "workspaces/w/runs").glob("*"))
    (error,) = ms.preview(ms.Workflow([task("t", **resources)]), operators=operators).errors
    assert "of this machine" in error
    run = make(tmp_path, "r", [task("t", "exit 1")], **counts)
    assert run.wait(timeout_s=30) is ms.RunStatus.FAILED
    with pytest.raises(InvalidTaskError, match=text):
        run.retry("t", resources=resources)
    run.retry("t", command="true")
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED


def test_a_later_plan_that_wants_too_much_pauses_the_run(tmp_path: Path) -> None:
    class Second(ms.Campaign):
        def initial_state(self) -> int:
            return 0

        def plan(self, state: int) -> ms.Workflow | None:
            return ms.Workflow([task("t", cpus_per_task=1 + state)]) if state < 2 else None

        def analyze(self, state: int, results: object) -> int:
            return state + 1

    operators = {"local": ms.LocalOperator(cpus=1)}
    run = ms.initialize_run("w", Second(), base_path=tmp_path, operators=operators)
    assert run.wait(timeout_s=30) is ms.RunStatus.PAUSED
    assert "wants 2 cpus of this machine" in (run.reason or "")
    run.configure("local", cpus=2)
    assert run.resume().wait(timeout_s=30) is ms.RunStatus.COMPLETED


def test_an_amount_that_was_lowered_lets_its_tasks_wait_and_say_so(tmp_path: Path) -> None:
    run = make(tmp_path, "r", [task("t", cpus_per_task=2)], cpus=2)
    run.configure("local", cpus=1)
    assert run.step().submitted == 0
    (blocker,) = run.explain()
    assert "wants 2 cpus of this machine, of which its operator may use 1 cpu" in blocker.why
    assert blocker.remedy == "run.configure('local', cpus=...)"
    run.configure("local", cpus=None)
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED


def test_who_counts_gpus_says_which_and_a_task_does_not(tmp_path: Path) -> None:
    with pytest.raises(InvalidTaskError, match="'t' sets CUDA_VISIBLE_DEVICES"):
        make(tmp_path, "r", [ms.Task("t", "true", env={"CUDA_VISIBLE_DEVICES": "0"})], gpus=1)


@pytest.mark.parametrize(
    "counts",
    [
        *[{"cpus": cpus} for cpus in (0, 1.5, True, 2**70)],
        *[{"gpus": gpus} for gpus in (-1, "1", 10**9)],
        *[{"memory_gib": memory_gib} for memory_gib in (0, "1", float("nan"), 1e300)],
    ],
)
def test_an_amount_that_makes_no_sense(counts: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfigError, match=f"{next(iter(counts))} must be"):
        ms.LocalOperator(**counts)


# -- the file, and what it costs ------------------------------------------------------------------


def test_the_file_is_of_this_user_alone_and_of_this_boot(tmp_path: Path, runtime: Path) -> None:
    run = make(tmp_path, "r", [task("t")], cpus=1)
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    (ledger,) = (runtime / "matterstack").glob("*.sqlite")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert ledger.name == f"machine-{boot}.sqlite"
    assert stat.S_IMODE((runtime / "matterstack").stat().st_mode) == 0o700


@pytest.mark.parametrize("what", ["link", "open to others", "file"])
def test_a_place_that_is_not_ours_alone_is_not_believed(tmp_path: Path, runtime: Path, what: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    home = runtime / "matterstack"
    if what == "link":
        home.symlink_to(elsewhere)
    elif what == "file":
        home.write_text("")
    else:
        home.mkdir()
        home.chmod(0o755)
    run = make(tmp_path, "r", [task("t")], cpus=1)
    assert run.step().submitted == 0
    assert f"{home} is no directory of yours alone" in repr(run.explain())
    assert not list(elsewhere.iterdir())
    home.rename(tmp_path / "away")
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED


def test_a_file_that_cannot_be_used_is_told_of_once_and_lets_a_loop_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow = ms.Workflow([ms.Task(name, "true") for name in "ab"])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(cpus=1)})
    assert run.step().submitted == 1
    MachineLedger().path.write_bytes(b"damaged" * 1000)
    rested = 0
    for report in run.ticks():
        if report.live == 0 and not report.progressed:
            assert report.look_again_s, "it would go round without a pause"
            rested += 1
        if rested == 3:
            break
    assert len([one for one in caplog.messages if "is no database" in one]) == 1
    MachineLedger().path.unlink()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_where_the_place_of_the_file_goes_with_a_login_session_another_one_is_taken(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = ms.Workflow([ms.Task(name, "true") for name in "ab"])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(cpus=1)})
    assert run.step().submitted == 1
    shutil.rmtree(runtime)
    later = tmp_path / "later"
    later.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(later))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert MachineLedger().path.parent == later / "matterstack"
    assert held() == {}


def test_without_these_settings_nothing_of_it_is_looked_at(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AssertionError("nobody counts")

    names: list[str] = []
    connect = database.connect

    def noted(path: Path, mode: str, *rest: float) -> database.Connection:
        names.append(path.name)
        return connect(path, mode, *rest)

    monkeypatch.setattr(reservations, "MachineLedger", refuse)
    monkeypatch.setattr(database, "connect", noted)
    run = make(tmp_path, "r", [task("t", TELLS, cpus_per_task=2, gpus=1, memory_gib=0.5)])
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert "|5||" in said(run, "t")
    assert set(names) == {"state.sqlite"}
    assert not list(runtime.iterdir())
    assert "cpus" not in (run.path / "config.json").read_text()
