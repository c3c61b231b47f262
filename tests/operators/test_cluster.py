"""A real Slurm with limits, shared by the runs of a user: what is too many waits, and nobody asks for each run anew."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from crashes import in_child, killed_at
from hypothesis import given
from hypothesis import strategies as st
from ledger import check_executions, starts, witnessed
from slurm_lab import ACCOUNTING, Cluster, Counted, cluster, mended
from slurm_runs import task
from waiting import gate, wait_for

import matterstack as ms
from matterstack.core.limits import Holder
from matterstack.errors import InvalidTaskError
from matterstack.operators.jobs import answers, scheduler
from matterstack.orchestration import job_limits
from matterstack.orchestration.holders import give_back_what_is_over
from matterstack.storage.limits import Ledger
from matterstack.storage.machine import MachineLedger
from matterstack.workspace import doctor


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
    operator = ms.SlurmOperator(**{"timeout_s": 60.0, "poll_s": 0.1, **settings})
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, run_id=run_id, operators={"slurm": operator})


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
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert len(run.attempts) == 6 * pack, "none was tried twice"
    check_executions(run, tmp_path / "ledger")


def test_a_job_that_counts_elsewhere_is_not_kept_back(two_at_once: Cluster, tmp_path: Path) -> None:
    two_at_once.command("sacctmgr", "-i", "add", "qos", "other")
    two_at_once.command("sacctmgr", "-i", "modify", "qos", "other", "set", "maxsubmitjobsperuser=1")
    user = two_at_once.command("id", "-un").strip()
    two_at_once.command("sacctmgr", "-i", "modify", "user", user, "set", "maxsubmit=-1", "qos=normal,other")
    two_at_once.command("sbatch", "--hold", "--qos=other", "--output=/dev/null", "--wrap", "true")
    tasks = [task(tmp_path, f"a{n}", resources=ms.Resources(qos="other")) for n in range(3)]
    run = start(tmp_path, *tasks, task(tmp_path, "b"))
    run.step()
    assert list(run.attempts["status"]) == ["SUBMITTING"] * 3 + ["SUBMITTED"]


# -- one question for all runs -----------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the answers of this test are."""
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime" / "matterstack"


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[[], int]:
    """Return what tells how often squeue was called since the last time."""
    counted = Counted(tmp_path / "counted", monkeypatch, "squeue")
    return lambda: len(counted.take())


def wait_until_running(running: Cluster, many: int) -> None:
    """Wait until all jobs run: an answer that shows one as waiting, which begins then, is rightly asked for anew."""
    wait_for(lambda: running.command("squeue", "-h", "-o", "%T").split() == ["RUNNING"] * many)


@pytest.mark.parametrize("many", [2, 8])
def test_runs_that_share_a_cluster_ask_it_once(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeue: Callable[[], int], many: int
) -> None:
    tasks = task(tmp_path, "a", gate(tmp_path))
    runs = [start(tmp_path, tasks, run_id=f"r{n}", poll_s=600.0) for n in range(many)]
    for run in runs:
        run.step()
    assert squeue() == 0
    wait_until_running(healthy, many)
    squeue()
    for run in runs * 3:
        run.step()
    assert squeue() == 1
    shutil.rmtree(tmp_path / "runtime" / "matterstack")
    monkeypatch.setattr(answers, "_PATIENCE_S", 180.0)  # however long the others take
    with ThreadPoolExecutor(many) as together:  # a process each
        assert list(together.map(lambda run: in_child(run.step), runs)) == [0] * many
    assert squeue() <= 2, "what was asked before one wanted to know is no answer to that one"


def test_what_an_answer_does_not_show_is_asked_for_anew(
    healthy: Cluster, tmp_path: Path, squeue: Callable[[], int]
) -> None:
    first = start(tmp_path, task(tmp_path, "a", gate(tmp_path)), run_id="first", poll_s=600.0)
    first.step()
    wait_until_running(healthy, 1)
    squeue()
    first.step()
    second = start(tmp_path, task(tmp_path, "b", gate(tmp_path)), run_id="second", poll_s=600.0, grace_s=0.0)
    second.step()
    assert squeue() == 1
    second.step()
    assert squeue() == 1, "it was submitted after the answer was given"
    assert second.counts.failed == 0
    assert len(second.attempts) == 1
    first.step()
    assert squeue() == 0


def test_a_job_that_has_begun_since_the_answer_is_not_taken_for_requeued(
    healthy: Cluster, tmp_path: Path, squeue: Callable[[], int]
) -> None:
    blocker = healthy.command(
        "sbatch", "--parsable", "--cpus-per-task=16", "--output=/dev/null", "--wrap", "sleep 300"
    ).strip()
    wait_for(lambda: "RUNNING" in healthy.command("squeue", "-h", "-o", "%T", "-j", blocker))
    run = start(tmp_path, task(tmp_path, "a", gate(tmp_path)), poll_s=600.0)
    run.step()
    run.step()
    assert run.attempts.loc["0.a.1", "status"] == "SUBMITTED"
    squeue()
    healthy.command("scancel", blocker)
    wait_for(lambda: (run.path / "operators/slurm/0.a.1/.matterstack/claim/started.json").exists())
    run.step()
    assert squeue() == 1
    assert run.attempts.loc["0.a.1", "status"] == "RUNNING"


@pytest.mark.parametrize("spoil", ["garbage", "future", "boot", "link", "open"])
def test_an_answer_that_is_none_is_ignored_and_written_anew(
    healthy: Cluster, tmp_path: Path, squeue: Callable[[], int], folder: Path, spoil: str
) -> None:
    run = start(tmp_path, task(tmp_path, "a", gate(tmp_path)), poll_s=600.0)
    run.step()
    wait_until_running(healthy, 1)
    squeue()
    run.step()
    assert squeue() == 1
    (answer,) = folder.glob("*.json")
    said = json.loads(answer.read_bytes())
    if spoil == "garbage":
        answer.write_bytes(b"\xff{")
    elif spoil == "link":
        answer.rename(tmp_path / "elsewhere")
        answer.symlink_to(tmp_path / "elsewhere")
    elif spoil == "open":
        folder.chmod(0o755)  # others may look: what is in it may be anybody's
    else:
        answer.write_text(json.dumps(said | ({"began_s": 1e12} if spoil == "future" else {"boot": "another"})))
    run.step()
    assert squeue() == 1
    run.step()
    assert squeue() == (1 if spoil == "open" else 0)
    assert run.attempts.loc["0.a.1", "status"] in ("SUBMITTED", "RUNNING")


@pytest.mark.parametrize("point", ["answers.asked", "answers.written"])
def test_who_is_killed_while_it_asks_keeps_nobody_waiting(
    healthy: Cluster, tmp_path: Path, squeue: Callable[[], int], point: str
) -> None:
    tasks = [witnessed("a", gate(tmp_path), tmp_path / f"r{n}", operator="slurm") for n in range(2)]
    runs = [start(tmp_path, one, run_id=f"r{n}", poll_s=600.0) for n, one in enumerate(tasks)]
    for run in runs:
        run.step()
    wait_until_running(healthy, 2)
    assert killed_at(point, 1, runs[0].step)
    squeue()
    for run in runs:
        run.step()
    assert squeue() == (1 if point == "answers.asked" else 0)
    (tmp_path / "go").write_text("")
    for run in runs:
        wait_for(lambda run=run: run.step().status is ms.RunStatus.COMPLETED)
        check_executions(run, tmp_path / run.run_id)


# -- limits of the workspace -------------------------------------------------------------------


@pytest.fixture
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the queue asked for each time, so that a test need not wait for ten seconds to pass."""
    monkeypatch.setattr(job_limits, "_QUEUE_AGE_S", 0.0)


def counted(running: Cluster) -> int:
    """Return how many jobs count against MaxSubmitJobs."""
    return len(running.command("squeue", "-h", "--array", "-o", "%i").splitlines())


def held(base: Path) -> int:
    return Ledger(base / "workspaces/w").standing().held("slurm_jobs@localhost")


def test_jobs_of_all_runs_and_all_others_of_the_user_count(
    healthy: Cluster, tmp_path: Path, folder: Path, asked_anew: None
) -> None:
    ms.set_limits("w", base_path=tmp_path, slurm_jobs=4)
    beside = ["sbatch", "--hold", "--parsable", "--output=/dev/null"]
    healthy.command(*beside, "--wrap", "true")
    array = healthy.command(*beside, "--array=0-1", "--wrap", "true").strip()
    runs = [
        start(tmp_path, *(task(tmp_path, f"{name}{n}", gate(tmp_path)) for n in range(3)), run_id=name) for name in "ab"
    ]
    for run in runs * 2:
        run.step()
    assert counted(healthy) == 4
    assert held(tmp_path) == 1
    said = repr(runs[1].explain())
    assert "it waits for slurm_jobs@localhost: 1 of 4 are held by run a (1)" in said
    assert "3 are jobs of yours that no run of the workspace holds" in said
    healthy.command("scancel", array)
    wait_for(lambda: counted(healthy) == 2)
    for run in runs * 2:
        run.step()
    assert counted(healthy) == 4
    assert held(tmp_path) == 3, "one is somebody else's"
    (tmp_path / "go").write_text("")
    for run in runs:
        wait_for(lambda run=run: (run.step(), counted(healthy) <= 4, run.counts.completed == 3)[2])
        assert len(run.attempts) == 3
        assert not run.counts.failed
    assert held(tmp_path) == 0
    assert starts(tmp_path / "ledger").total() == 6


def test_the_queue_is_asked_once_in_a_while_by_all_and_not_at_all_without_the_limit(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(job_limits, "_QUEUE_AGE_S", 600.0)  # however long the steps take
    squeue = Counted(tmp_path / "counted", monkeypatch, "squeue")
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    runs = [start(tmp_path, *(task(tmp_path, f"t{n}") for n in range(3)), run_id=f"r{m}") for m in range(3)]
    runs[0].step()
    assert squeue.take() == []
    ms.set_limits("w", base_path=tmp_path, slurm_jobs=0)
    for run in runs[1:] * 3:
        run.step()
    assert [call for call in squeue.take() if "--array" in call] == ["squeue " + " ".join(scheduler._COUNT[1:])]
    runs[1].explain()
    assert squeue.take() == [], "to look asks nobody"


def test_a_queue_that_does_not_answer_has_room_for_nothing(
    healthy: Cluster, tmp_path: Path, folder: Path, asked_anew: None
) -> None:
    ms.set_limits("w", base_path=tmp_path, slurm_jobs=9)
    run = start(tmp_path, task(tmp_path, "a"))
    impatient = ms.open_run(run.path, operators={"slurm": ms.SlurmOperator(timeout_s=1.0)})
    with healthy.stopped("slurmctld"):
        assert impatient.step().submitted == 0
    assert run.tasks.loc["0.a", "status"] == "PENDING"
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED


def test_a_job_that_packs_several_is_one_until_the_last_of_them_is_over(
    healthy: Cluster, tmp_path: Path, folder: Path, asked_anew: None
) -> None:
    ms.set_limits("w", base_path=tmp_path, slurm_jobs=1)
    commands = ["true", gate(tmp_path), "true", "true", "true", "true"]
    run = start(tmp_path, *(task(tmp_path, f"t{n}", command) for n, command in enumerate(commands)), pack=3)
    run.step()
    assert list(run.attempts["status"]) == ["SUBMITTED"] * 3
    assert held(tmp_path) == 1
    wait_for(lambda: (run.step(), run.tasks.loc["0.t0", "status"] == "COMPLETED")[1])
    assert not give_back_what_is_over(Ledger(tmp_path / "workspaces" / "w"))
    run.step()
    assert (held(tmp_path), counted(healthy), len(run.attempts)) == (1, 1, 3)
    (tmp_path / "go").write_text("")
    wait_for(lambda: (run.step(), counted(healthy) <= 1, run.counts.completed == 6)[2])
    assert len(run.attempts) == 6
    assert held(tmp_path) == 0
    check_executions(run, tmp_path / "ledger")


def test_what_was_submitted_before_the_limit_was_set_counts_too(
    healthy: Cluster, tmp_path: Path, folder: Path, asked_anew: None
) -> None:
    ms.set_limits("w", base_path=tmp_path, vasp_license=5)
    licensed = ms.Resources(named={"vasp_license": 1})
    first = start(tmp_path, task(tmp_path, "a", gate(tmp_path), resources=licensed), run_id="first")
    first.step()
    ms.set_limits("w", base_path=tmp_path, slurm_jobs=1)
    second = start(tmp_path, task(tmp_path, "b"), run_id="second")
    assert second.step().submitted == 0
    (tmp_path / "go").write_text("")
    for run in (first, second):
        assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED


def test_where_nobody_can_tell_what_is_held_jobs_wait(healthy: Cluster, tmp_path: Path, folder: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, slurm_jobs=1)
    ledger = tmp_path / "workspaces/w/limits.sqlite"
    kept = ledger.read_bytes()
    ledger.write_bytes(b"damaged")
    run = start(tmp_path, task(tmp_path, "a"))
    assert run.step().submitted == 0
    assert "what is held cannot be read" in repr(run.explain())
    ledger.write_bytes(kept)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED


# -- limits of the machine beside them ------------------------------------------------------------


def start_both(base: Path) -> ms.Run:
    """Return a run of a job and two commands that share a license, and a job and a command that do without."""
    ms.set_limits("w", base_path=base, slurm_jobs=1, license=1)
    wants = ms.Resources(named={"license": 1})
    flow = [task(base, "job0", resources=wants), task(base, "job1")]
    flow += [witnessed(name, "true", base / "ledger", resources=wants) for name in ("command0", "command1")]
    flow.append(witnessed("free", "true", base / "ledger"))
    operators = {"slurm": ms.SlurmOperator(timeout_s=60, poll_s=0.1), "local": ms.LocalOperator(cpus=1)}
    return ms.initialize_run("w", ms.Workflow(flow), base_path=base, run_id="r", operators=operators)


def amounts_held(base: Path) -> dict[str, int]:
    """Return what is held of all limits, of both kinds."""
    shares = [*Ledger(base / "workspaces/w").standing().shares, *MachineLedger().standing().shares]
    return {share.name: share.amount for share in shares}


def never_over(base: Path) -> None:
    assert all(amount == 1 for amount in amounts_held(base).values())


@pytest.mark.parametrize("hit", [1, 2])
def test_killed_between_the_two_ledgers_nothing_stays_taken(
    healthy: Cluster, tmp_path: Path, folder: Path, asked_anew: None, hit: int
) -> None:
    run = start_both(tmp_path)
    path = run.path
    assert killed_at("limits.reserved", hit, lambda: ms.open_run(path).wait(timeout_s=180))
    wait_for(lambda: (run.step(), never_over(tmp_path), run.status is ms.RunStatus.COMPLETED)[2])
    assert amounts_held(tmp_path) == {}
    check_executions(run, tmp_path / "ledger")


def test_jobs_and_commands_of_a_run_take_what_they_want_of_both_kinds_together_or_nothing(
    healthy: Cluster, tmp_path: Path, folder: Path, asked_anew: None
) -> None:
    run = start_both(tmp_path)
    ledger = tmp_path / "workspaces/w/limits.sqlite"
    kept = ledger.read_bytes()
    ledger.write_bytes(b"damaged")
    assert run.step().submitted == 1, "the one that wants nothing of that ledger"
    assert {share.name: share.amount for share in MachineLedger().standing().shares} == {"cpus": 1}
    said = {one.what: one.why for one in run.explain()}
    assert all("what is held cannot be read" in said[f"task {name}"] for name in ("job0", "job1", "command0"))
    ledger.write_bytes(kept)
    wait_for(lambda: (run.step(), never_over(tmp_path), run.status is ms.RunStatus.COMPLETED)[2])
    assert amounts_held(tmp_path) == {}
    check_executions(run, tmp_path / "ledger")


def taken_ago(base: Path, seconds: float) -> None:
    """Have all that was taken lie back so long, however long it took until now."""
    with contextlib.closing(sqlite3.connect(base / "workspaces/w/limits.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE reservations SET since = ?", (time.time() - seconds,))


@pytest.mark.parametrize("pack", [1, 3])
def test_no_more_is_submitted_a_minute_by_all_runs(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, pack: int
) -> None:
    sbatch = Counted(tmp_path / "counted", monkeypatch, "sbatch")
    ms.set_limits("w", base_path=tmp_path, slurm_jobs=100, slurm_submissions_per_min=3)
    runs = [
        start(tmp_path, *(task(tmp_path, f"{name}{n}") for n in range(2 * pack)), run_id=name, pack=pack)
        for name in "ab"
    ]
    for run in runs:
        run.step()
    assert len(sbatch.take()) == 3
    said = repr(runs[1].explain())
    assert "slurm_submissions_per_min@localhost: 3 of 3 were taken within a minute by run a (2), this run (1)" in said
    wait_for(lambda: (runs[0].step(), runs[0].status is ms.RunStatus.COMPLETED)[1])
    taken_ago(tmp_path, 30)
    runs[1].step()
    assert sbatch.take() == [], "that they are over makes no room"
    taken_ago(tmp_path, 61)
    runs[1].step()
    assert len(sbatch.take()) == 1
    assert runs[1].wait(timeout_s=180) is ms.RunStatus.COMPLETED


def take(base: Path, **amounts: int) -> None:
    """Have another run take of the limits of the cluster ``hpc``."""
    with Ledger(base / "workspaces/w").granting(Holder("other", "runs/other", 1.0), time.time()) as granting:
        assert granting.ask("ms-other", "0.t.1", {f"{name}@hpc": amount for name, amount in amounts.items()}, 0)


def test_each_cluster_has_its_amount_and_one_may_have_its_own(
    healthy: Cluster, tmp_path: Path, folder: Path, asked_anew: None
) -> None:
    ms.set_limits("w", base_path=tmp_path, slurm_jobs=2, slurm_submissions_per_min=3)
    take(tmp_path, slurm_jobs=2, slurm_submissions_per_min=3)
    run = start(tmp_path, *(task(tmp_path, f"t{n}", gate(tmp_path)) for n in range(4)))
    run.step()
    run.step()
    assert counted(healthy) == 2
    assert "it waits for slurm_jobs@localhost: 2 of 2 are held by this run (2)" in repr(run.explain())
    table = ms.limits("w", tmp_path).set_index("name")
    assert table["held"].to_dict() == {
        "slurm_jobs": 0,
        "slurm_jobs@hpc": 2,
        "slurm_jobs@localhost": 2,
        "slurm_submissions_per_min": 0,
        "slurm_submissions_per_min@hpc": 3,
        "slurm_submissions_per_min@localhost": 2,
    }
    assert table["amount"].to_dict() == {name: 2 if "jobs" in name else 3 for name in table.index}
    assert table.loc["slurm_jobs@localhost", "waiting"] == run.run_id
    ms.set_limits("w", base_path=tmp_path, **{"slurm_jobs@localhost": 3})
    run.step()
    assert counted(healthy) == 3, "the rate of this cluster is used up, too"
    ms.set_limits("w", base_path=tmp_path, **{"slurm_jobs@localhost": 2, "slurm_submissions_per_min@localhost": None})
    (found,) = [why for why in doctor(tmp_path / "workspaces/w")[1] if "run other" not in why]
    assert "3 of slurm_jobs@localhost are held, and the limit is 2" in found
    assert "ms.set_limits('w', **{'slurm_jobs@localhost': ...}" in found
    (tmp_path / "go").write_text("")
    taken_ago(tmp_path, 61)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert ms.limits("w", tmp_path).set_index("name")["held"]["slurm_jobs@hpc"] == 2


def test_a_cluster_that_does_not_answer_keeps_nothing_from_another(
    healthy: Cluster, tmp_path: Path, folder: Path, asked_anew: None
) -> None:
    ms.set_limits("w", base_path=tmp_path, slurm_jobs=1)
    flow = ms.Workflow([witnessed("far", "true", tmp_path / "ledger", operator="far"), task(tmp_path, "near")])
    operators = {"far": ms.SlurmOperator(host="nowhere.invalid", timeout_s=15), "slurm": ms.SlurmOperator(timeout_s=60)}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    run.step()
    assert list(run.tasks["status"]) == ["PENDING", "SUBMITTED"]
    assert list(run.attempts["task_id"]) == ["near"]


def test_a_cluster_may_have_a_limit_where_others_have_none(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, asked_anew: None
) -> None:
    squeue = Counted(tmp_path / "counted", monkeypatch, "squeue")
    ms.set_limits("w", base_path=tmp_path, **{"slurm_jobs@hpc": 0})
    run = start(tmp_path, task(tmp_path, "a"))
    assert run.step().submitted == 1
    assert squeue.take() == []


@pytest.mark.parametrize(
    "name", ["furnace@hpc", "slurm_jobs@", "slurm_jobs@a b", "slurm_jobs@-v", "@hpc", "slurm_jobs@\n"]
)
def test_what_is_no_limit_of_a_cluster_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidTaskError, match=r"no limit of a cluster: .*'slurm_jobs@hpc'|no name of a resource"):
        ms.set_limits("w", base_path=tmp_path, **{name: 1})
    assert not (tmp_path / "workspaces/w/limits.sqlite").exists()
    with pytest.raises(InvalidTaskError, match="no name of a resource"):
        ms.Resources(named={"slurm_jobs@hpc": 1})


POINTS = ["limits.reserved", "submit.submitted", "submit.stored"]


@pytest.mark.parametrize("point", [*POINTS, "limits.given_back"])
def test_who_is_killed_leaves_no_place_taken_and_none_twice(
    healthy: Cluster, tmp_path: Path, folder: Path, asked_anew: None, point: str
) -> None:
    ms.set_limits("w", base_path=tmp_path, slurm_jobs=1, slurm_submissions_per_min=100)
    run = start(tmp_path, task(tmp_path, "a"), task(tmp_path, "b"))
    path = run.path
    killed = killed_at(point, 1, lambda: ms.open_run(path).wait(timeout_s=180))
    assert killed
    wait_for(lambda: (run.step(), counted(healthy) <= 1, run.status is ms.RunStatus.COMPLETED)[2])
    assert len(run.attempts) == 2
    assert held(tmp_path) == 0
    check_executions(run, tmp_path / "ledger")


@given(st.text() | st.lists(st.sampled_from(["RUNNING", "PENDING", "|", "\n", "a", "STATE|NAME"])).map("".join))
def test_a_list_that_counts_jobs_may_be_any_text(text: str) -> None:
    assert len(scheduler.parse_count(text)) <= text.count("|")
