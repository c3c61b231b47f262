"""A real Slurm with limits, shared by the runs of a user: what is too many waits, and nobody asks for each run anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger import check_executions, witnessed
from slurm_lab import ACCOUNTING, Cluster, cluster, mended

import matterstack as ms


@pytest.fixture(scope="module")
def lab() -> Iterator[Cluster]:
    settings = {"SLURM_LAB_ACCT": "1", "SLURM_LAB_EXTRA": "AccountingStorageEnforce=limits"}
    with cluster(27317, ACCOUNTING, SLURM_LAB_CPUS="16", SLURM_LAB_MINJOBAGE="300", **settings) as running:
        yield running


@pytest.fixture
def healthy(lab: Cluster) -> Iterator[Cluster]:
    with mended(lab) as running:
        yield running


def start(base: Path, *tasks: ms.Task, run_id: str = "r", **settings: Any) -> ms.Run:
    operator = ms.SlurmOperator(**{"timeout_s": 15.0, "poll_s": 0.1, **settings})
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, run_id=run_id, operators={"slurm": operator})


def task(base: Path, name: str, command: str = "true", **settings: Any) -> ms.Task:
    return witnessed(name, command, base / "ledger", operator="slurm", **settings)


def gate(base: Path) -> str:
    """Return a command that waits until `base / "go"` is there."""
    return f"while ! [ -e {base}/go ]; do sleep 0.1; done"


def queued(running: Cluster) -> list[str]:
    """Return the names of the jobs that wait or run."""
    return [name for _, name, state in running.jobs() if state in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING")]


# -- more than Slurm takes ---------------------------------------------------------------------


@pytest.fixture
def two_at_once(healthy: Cluster) -> Iterator[Cluster]:
    """Have Slurm take two jobs of this user at once."""
    user = healthy.command("id", "-un").strip()
    healthy.command("sacctmgr", "-i", "modify", "user", user, "set", "maxsubmit=2")
    yield healthy
    healthy.command("sacctmgr", "-i", "modify", "user", user, "set", "maxsubmit=-1")


@pytest.mark.parametrize("pack", [1, 2])
def test_what_slurm_does_not_take_now_is_submitted_later_and_none_fails(
    two_at_once: Cluster, tmp_path: Path, pack: int
) -> None:
    run = start(tmp_path, *(task(tmp_path, f"t{n}", gate(tmp_path)) for n in range(6 * pack)), pack=pack)
    run.step()
    assert len(queued(two_at_once)) == 2
    assert list(run.attempts["status"]).count("SUBMITTING") == 4 * pack
    assert "it is submitted again later: Slurm takes no more jobs now: AssocMaxSubmitJobLimit" in repr(run.explain())
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=90) is ms.RunStatus.COMPLETED
    assert len(run.attempts) == 6 * pack, "none was tried twice"
    check_executions(run, tmp_path / "ledger")


def test_a_job_that_counts_elsewhere_is_not_kept_back(two_at_once: Cluster, tmp_path: Path) -> None:
    two_at_once.command("sacctmgr", "-i", "add", "qos", "other")
    two_at_once.command("sacctmgr", "-i", "modify", "qos", "other", "set", "maxsubmitjobsperuser=1")
    user = two_at_once.command("id", "-un").strip()
    two_at_once.command("sacctmgr", "-i", "modify", "user", user, "set", "maxsubmit=-1", "qos=normal,other")
    two_at_once.command("sbatch", "--hold", "--qos=other", "--wrap", "true")
    tasks = [task(tmp_path, f"a{n}", resources=ms.Resources(qos="other")) for n in range(3)]
    run = start(tmp_path, *tasks, task(tmp_path, "b"))
    run.step()
    assert list(run.attempts["status"]) == ["SUBMITTING"] * 3 + ["SUBMITTED"]
