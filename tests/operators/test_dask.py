"""A farm on a real Dask cluster, whose client, workers and scheduler die."""

from __future__ import annotations

import hashlib
import os
import platform
import select
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evidence_lab
import pytest
from crashes import killed_at
from dask_lab import Farm
from ledger import check_executions, starts, witnessed
from waiting import gate, wait_for

import matterstack as ms
from matterstack.errors import InvalidConfigError


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    running = Farm(tmp_path)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def operator(farm: Farm) -> Iterator[ms.DaskOperator]:
    made = ms.DaskOperator(farm.address, timeout_s=60.0, grace_s=120.0)
    yield made
    made.close()


def start(base: Path, operator: ms.DaskOperator, *tasks: ms.Task) -> ms.Run:
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators={"dask": operator})


def task(base: Path, name: str, command: str = "true", **settings: Any) -> ms.Task:
    return witnessed(name, command, base / "ledger", operator="dask", **settings)


def until(run: ms.Run, wanted: str, name: str = "a", attempt: int = 1) -> None:
    def look() -> bool:
        run.step()
        select.poll().poll(50)
        return bool(run.attempts.loc[f"0.{name}.{attempt}", "status"] == wanted)

    wait_for(look)


class Watching:
    """Stops what runs and does not converge, and gives it more steps."""

    is_monitor = True
    monitor_every_s = 0.0

    def check(self, directory: Path) -> bool:
        return "not converged" in (directory / "stdout.txt").read_text()

    def correct(self, directory: Path) -> None:
        (directory / "steps").write_text("2")


def test_a_monitor_stops_what_runs_on_a_worker(farm: Farm, tmp_path: Path) -> None:
    operator = ms.DaskOperator(farm.address, timeout_s=60.0, grace_s=120.0, handlers=[Watching()])
    converge = '[ "$(cat steps)" -ge 2 ] || { echo not converged; sleep 1000; }'
    run = start(tmp_path, operator, task(tmp_path, "a", converge, retries=1, files={"steps": "1"}))
    try:
        assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED, run.explain()
    finally:
        operator.close()
    assert list(run.attempts["status"]) == ["FAILED", "COMPLETED"]
    assert run.attempts.loc["0.a.1", "reason"].startswith("stopped by Watching")


def volume_A3(edge_A: float) -> float:
    import sys

    assert not any(name.startswith("matterstack") and "_" not in name for name in sys.modules)
    return edge_A**3


def test_functions_need_nothing_but_python_on_a_worker(farm: Farm, tmp_path: Path) -> None:
    bare = str(Path(sys.base_prefix, "bin", "python3"))  # without the packages of this environment
    operator = ms.DaskOperator(farm.address, timeout_s=60.0, grace_s=120.0, python=f"{bare} -E")
    flow = ms.Workflow()
    flow.map(ms.task(operator="dask")(volume_A3), {"small": 1.0, "large": 2.0})
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"dask": operator})
    try:
        assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    finally:
        operator.close()
    assert run.value("volume_A3-large") == 8.0


def test_what_a_job_was_made_with_is_told_by_the_job(tmp_path: Path, operator: ms.DaskOperator) -> None:
    """The driver reads what stands in two small files, and hashes nothing."""
    odd = "it's $odd.txt"
    flow = ms.Workflow(
        [
            ms.Task("fine", f"printf one >a; printf two >{shlex.quote(odd)}", outputs=["a", odd], operator="dask"),
            ms.Task("set", "printf one >a", outputs=["a"], operator="dask", env={"LOADEDMODULES": 'vasp/6.4:"x"'}),
            ms.Task("bad", "printf one >a; exit 3", outputs=["a"], operator="dask", allow_failure=True),
        ]
    )
    flow.add("call", ms.task(operator="dask", outputs=["value.json"])(volume_A3), 2.0)
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"dask": operator})
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    made = run.made_from("fine")
    assert {one.name: (one.sha256, one.size) for one in made.outputs} == {
        "a": (hashlib.sha256(b"one").hexdigest(), 3),
        odd: (hashlib.sha256(b"two").hexdigest(), 3),
    }
    assert made.environment["host"] == socket.gethostname()
    assert run.made_from("set").environment["modules"] == 'vasp/6.4:"x"'
    assert run.made_from("bad").environment["host"] == socket.gethostname()
    assert list(run.made_from("bad").outputs) == []
    call = run.made_from("call")
    assert call.environment["python"] == platform.python_version()
    assert [one.name for one in call.outputs] == ["result.json", "value.json"]
    assert not call.not_hashed


def test_a_farm_of_small_tasks(tmp_path: Path, operator: ms.DaskOperator) -> None:
    tasks = [task(tmp_path, f"t{i}", f"echo '{{\"i\": {i}}}' > result.json") for i in range(60)]
    bad = [task(tmp_path, "bad", "echo lost >&2; exit 3", allow_failure=True)]
    after = [task(tmp_path, "after", "cat inputs.json", dependencies=[t.task_id for t in tasks])]
    run = start(tmp_path, operator, *tasks, *bad, *after)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert list(run.results["i"].dropna()) == list(range(60))
    assert run.tasks.loc["0.bad", "reason"] == "exit code 3; stderr ends with: lost"
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize("point", ["submit.prepared", "submit.submitted", "store.commit", "tick.made"])
def test_the_client_is_killed(tmp_path: Path, farm: Farm, operator: ms.DaskOperator, point: str) -> None:
    run = start(tmp_path, operator, *(task(tmp_path, f"t{i}") for i in range(5)))
    killed_at(point, 1, lambda: ms.open_run(run.path).step())
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")
    assert sum(starts(tmp_path / "ledger").values()) == 5


def test_a_worker_is_killed_and_its_commands_go_on(tmp_path: Path, farm: Farm, operator: ms.DaskOperator) -> None:
    run = start(tmp_path, operator, *(task(tmp_path, f"t{i}", gate(tmp_path)) for i in range(4)))
    run.step()
    wait_for(lambda: sum(starts(tmp_path / "ledger").values()) == 4)
    for worker in farm.workers:
        farm.kill(worker)
    farm.start_worker()
    for _ in range(5):
        run.step()
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")
    assert sum(starts(tmp_path / "ledger").values()) == 4


def test_the_scheduler_is_killed_and_another_takes_its_place(
    tmp_path: Path, farm: Farm, operator: ms.DaskOperator
) -> None:
    run = start(tmp_path, operator, *(task(tmp_path, f"t{i}", gate(tmp_path)) for i in range(8)))
    run.step()
    wait_for(lambda: sum(starts(tmp_path / "ledger").values()) == 4)  # the others wait their turn
    farm.kill(farm.scheduler)
    for worker in farm.workers:
        farm.kill(worker)
    operator.timeout_s = 5.0
    run.step()
    assert set(run.tasks["status"]) == {"SUBMITTED"}, "unreachable is not failed"
    assert "could not be asked" in repr(run.explain())
    operator.timeout_s = 60.0
    farm.start_scheduler()
    farm.start_worker()
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")
    assert sum(starts(tmp_path / "ledger").values()) == 8


def test_cancelling_ends_what_runs_and_takes_back_what_waits(
    tmp_path: Path, farm: Farm, operator: ms.DaskOperator
) -> None:
    forever = f"sleep 600.{os.getpid()}"  # others may sleep on this machine
    run = start(tmp_path, operator, *(task(tmp_path, f"t{i}", forever) for i in range(6)))
    run.step()
    wait_for(lambda: sum(starts(tmp_path / "ledger").values()) == 4)
    run.cancel(timeout_s=60)
    assert set(run.attempts["status"]) == {"CANCELLED"}
    assert sum(starts(tmp_path / "ledger").values()) == 4
    # What was killed is over a moment later.
    wait_for(lambda: forever not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout)


def test_a_command_that_is_killed_with_all_that_belongs_to_it_is_lost(tmp_path: Path, farm: Farm) -> None:
    operator = ms.DaskOperator(farm.address, timeout_s=60.0, grace_s=2.0)
    run = start(tmp_path, operator, task(tmp_path, "a", "kill -KILL -$(ps -o pgid= -p $$ | tr -d ' ')"))
    try:
        until(run, "LOST")
    finally:
        operator.close()
    assert "left no exit code" in str(run.attempts.loc["0.a.1", "reason"])
    assert sum(starts(tmp_path / "ledger").values()) == 1


def test_no_file_of_a_task_is_taken_for_one_of_ours(tmp_path: Path, operator: ms.DaskOperator) -> None:
    ended = '{"exit_code": 0, "ended_at": 1}'
    files = {"job.sh": "echo ran >proof; exit 3", "job.out": "x", "exit.json": ended, "cancel": "", "claim/alive": "",
             "missing.json": "", "inputs/deep": "x"}  # fmt: skip
    same = " && ".join(f"[ -f {name} ]" for name in files)
    bad = task(tmp_path, "a", f"{same} || exit 4; sh ./job.sh", files=files, allow_failure=True)
    good = task(tmp_path, "b", f"{same} || exit 4; sh ./job.sh || cat exit.json", files=files, outputs=["proof"])
    run = start(tmp_path, operator, bad, good)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert run.tasks.loc["0.a", "reason"] == "exit code 3"
    assert (run.task_directory("b") / "stdout.txt").read_text() == ended
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize(
    ("preamble", "ends", "told"),
    [
        ("set -eu\ncd /tmp\ntrap 'exit 7' EXIT", "exit 3", "exit code 3"),
        ("echo no licence; exit 9", "true", "exit code 9 before its command had ended; job.out ends with: no licence"),
        ("exit 0", "true", "exit code 0 before its command had ended"),
    ],
)
def test_whatever_the_preamble_does_the_end_is_told(
    tmp_path: Path, farm: Farm, preamble: str, ends: str, told: str
) -> None:
    operator = ms.DaskOperator(farm.address, timeout_s=60.0, grace_s=120.0, preamble=preamble)
    run = start(tmp_path, operator, task(tmp_path, "a", ends), task(tmp_path, "b", "touch done", outputs=["done"]))
    try:
        run.wait(timeout_s=180)
    finally:
        operator.close()
    assert run.tasks.loc["0.a", "reason"] == told
    assert run.tasks.loc["0.b", "status"] == ("COMPLETED" if ends != "true" else "FAILED")


def test_what_has_not_begun_and_lost_its_directory_is_lost(tmp_path: Path, operator: ms.DaskOperator) -> None:
    run = start(tmp_path, operator, *(task(tmp_path, f"t{i}", gate(tmp_path), allow_failure=True) for i in range(6)))
    run.step()
    wait_for(lambda: sum(starts(tmp_path / "ledger").values()) == 4)
    waits = next(i for i in range(6) if not (run.task_directory(f"t{i}") / ".matterstack/claim").exists())
    shutil.rmtree(run.task_directory(f"t{waits}"))
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert "its directory is gone" in str(run.tasks.loc[f"0.t{waits}", "reason"])
    assert (run.tasks["status"] == "COMPLETED").sum() == 5


def test_no_secret_stays_in_a_run_on_dask_nor_in_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TOKEN", evidence_lab.SECRET)
    farm = Farm(tmp_path, workers=1)
    operator = ms.DaskOperator(farm.address)
    try:
        run = start(tmp_path, operator, evidence_lab.signed("dask"))
        assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
        evidence_lab.assert_no_secret_stays(run, tmp_path)
    finally:
        operator.close()
        farm.close()


def test_a_command_that_takes_its_time_to_end_is_waited_for(tmp_path: Path, operator: ms.DaskOperator) -> None:
    last = f"trap '' TERM; sleep 1.5; touch {tmp_path}/over; exit 0"
    slow = f'trap "{last}" TERM; touch {tmp_path}/begun; while :; do sleep 0.1; done'
    run = start(tmp_path, operator, ms.Task("a", slow, operator="dask"))
    until(run, "RUNNING")
    wait_for((tmp_path / "begun").exists)
    run.cancel(timeout_s=60)
    assert run.attempts.loc["0.a.1", "status"] == "CANCELLED"
    assert (tmp_path / "over").exists(), "it was called cancelled while it ran"


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "here"},
        {"address": "tcp://x:1", "max_queued": 0},
        {"address": "tcp://x:1", "grace_s": -1},
        {"address": "tcp://x:1", "preamble": None},
    ],
)
def test_settings_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(InvalidConfigError):
        ms.DaskOperator(**wrong)
