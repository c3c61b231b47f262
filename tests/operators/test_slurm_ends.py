"""A Slurm with accounting, memory limits and preemption: its own words for how a job ended reach the run."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger import check_executions, starts, witnessed
from slurm_lab import ACCOUNTING, Cluster, Counted, cluster, mended
from waiting import wait_for

import matterstack as ms

GROUPS = Path("/sys/fs/cgroup")
NODE = socket.gethostname().split(".")[0]
EXTRA = f"""\
TaskPlugin=task/cgroup
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=200
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
PartitionName=urgent Nodes={NODE} PriorityTier=10 State=UP OverSubscribe=NO
PartitionName=spare Nodes={NODE} PriorityTier=0 State=UP OverSubscribe=NO PreemptMode=CANCEL GraceTime=0
"""


def limits() -> str:
    """Return the cgroup.conf with which Slurm limits memory on this machine; skip where it cannot."""
    try:
        probe = (GROUPS / "memory" if (GROUPS / "memory").is_dir() else GROUPS) / "matterstack-probe"
        probe.mkdir()
        probe.rmdir()
    except OSError:
        pytest.skip("control groups cannot be made here, so Slurm cannot limit memory")
    version = "v1" if (GROUPS / "memory").is_dir() else "v2\nIgnoreSystemd=yes"
    return f"CgroupPlugin=cgroup/{version}\nCgroupMountpoint={GROUPS}\nConstrainRAMSpace=yes"


@pytest.fixture(scope="module")
def lab() -> Iterator[Cluster]:
    settings = {"SLURM_LAB_EXTRA": EXTRA, "SLURM_LAB_CGROUP": limits(), "SLURM_LAB_ACCT": "1"}
    with cluster(27117, ACCOUNTING, SLURM_LAB_CPUS="4", SLURM_LAB_MINJOBAGE="5", **settings) as running:
        yield running


@pytest.fixture
def healthy(lab: Cluster) -> Iterator[Cluster]:
    with mended(lab) as running:
        yield running


def start(base: Path, *tasks: ms.Task) -> ms.Run:
    operators = {"slurm": ms.SlurmOperator(timeout_s=60.0, grace_s=3.0, poll_s=0.1)}
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators=operators)
    run.step()
    return run


def task(base: Path, command: str, **settings: Any) -> ms.Task:
    return witnessed("a", command, base / "ledger", operator="slurm", **settings)


def first(run: ms.Run) -> tuple[str, str]:
    """Return status and reason of the first attempt."""
    row = run.attempts.loc["0.a.1"]
    return str(row["status"]), str(row["reason"])


def until_running(run: ms.Run) -> None:
    wait_for(lambda: (run.step(), first(run)[0] == "RUNNING")[1])


#: Waits in the first attempt, until it is ended from outside.
ONCE = '[ "$MATTERSTACK_ATTEMPT" = 2 ] || sleep 300'


def test_out_of_memory_and_again_with_more(healthy: Cluster, tmp_path: Path) -> None:
    eat = "python3 -c 'x = bytearray(150 << 20)'"
    memory = ms.Resources(memory_gib=0.06, memory_factor=10)
    run = start(tmp_path, task(tmp_path, eat, resources=memory, retries=3, retry_on={"OUT_OF_MEMORY"}))
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert list(run.attempts["status"]) == ["FAILED", "COMPLETED"]
    assert re.match(r"OUT_OF_MEMORY: ran \S+ of \S+; stderr ends with: Killed", first(run)[1])
    assert starts(tmp_path / "ledger").total() == 2


def test_preempted_and_again(healthy: Cluster, tmp_path: Path) -> None:
    spare = ms.Resources(partition="spare", extra=["--exclusive"])
    run = start(tmp_path, task(tmp_path, ONCE, resources=spare, retries=1, retry_on={"PREEMPTED"}))
    until_running(run)
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--chdir=/tmp", "--wrap=true"]
    healthy.command(*urgent)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert first(run)[0] == "FAILED"
    assert first(run)[1].startswith("PREEMPTED: ran ")
    check_executions(run, tmp_path / "ledger")


def test_the_node_fails_and_comes_back(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, ONCE, retries=1, retry_on={"NODE_FAIL"}))
    until_running(run)
    healthy.command("scontrol", "update", f"nodename={NODE}", "state=down", "reason=test")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert first(run)[0] == "FAILED"
    assert first(run)[1].startswith("NODE_FAIL: ran ")
    check_executions(run, tmp_path / "ledger")


def forgotten(cluster: Cluster, run: ms.Run) -> None:
    """Have the run's job cancelled, and wait until the queue has forgotten it."""
    number = str(run.attempts.loc["0.a.1", "external_id"])
    cluster.command("scancel", number)
    wait_for(lambda: number not in {job for job, _, _ in cluster.jobs()})


def remembered(cluster: Cluster, run: ms.Run) -> None:
    """Wait until the accounting, which is told a little later, knows that the run's job was cancelled."""
    asked = ["sacct", "-n", "-X", "-o", "State", "-j", str(run.attempts.loc["0.a.1", "external_id"])]
    wait_for(lambda: cluster.command(*asked).strip().startswith("CANCELLED"))


def test_accounting_remembers_what_the_queue_has_forgotten(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, ONCE))
    until_running(run)
    forgotten(healthy, run)
    remembered(healthy, run)
    run.step()
    assert first(run)[0] == "FAILED"
    assert re.match(r"CANCELLED: ran 00:0\d:\d\d of \S+", first(run)[1])


def test_accounting_is_asked_once_for_each_run_that_needs_it_and_not_in_each_step(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sacct = Counted(tmp_path / "counted", monkeypatch, "sacct")
    runs = [start(tmp_path / name, task(tmp_path / name, ONCE)) for name in "ab"]
    for run in runs:
        until_running(run)
    assert sacct.take() == [], "what the queue shows needs no accounting"
    for run in runs:
        healthy.command("scancel", str(run.attempts.loc["0.a.1", "external_id"]))
    for run in runs:
        forgotten(healthy, run)
        remembered(healthy, run)
    sacct.take()
    for run in runs * 4:
        run.step()
    assert len(sacct.take()) == len(runs)
    assert [first(run)[0] for run in runs] == ["FAILED"] * 2


def test_accounting_that_does_not_answer_is_no_answer(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, ONCE))
    until_running(run)
    healthy.kill("slurmdbd")
    forgotten(healthy, run)
    for _ in range(3):
        run.step()
    assert first(run)[0] == "RUNNING"
    assert "sacct failed" in repr(run.explain())
    healthy.start("slurmctld")
    wait_for(lambda: (run.step(), first(run)[0] == "FAILED")[1])
    assert first(run)[1].startswith("CANCELLED: ran ")
