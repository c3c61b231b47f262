"""A daemon whose runs depend on others: people, instruments, schedulers, disks and campaigns that hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemon_lab import Daemon, daemon, make
from dask_lab import Farm
from kit_lab import carry, pack
from ledger import check_executions, witnessed
from lying_disk import lying_disk
from slurm_lab import cluster
from waiting import wait_for

import matterstack as ms

HUMAN = {"human": ms.HumanOperator()}
INSTRUMENT = Path(__file__).parent / "helpers/instrument.py"
HANGS = """
import pathlib, time
import matterstack as ms

class Hangs(ms.Campaign):
    def __init__(self, begun): self.begun = begun
    def initial_state(self): return 0
    def plan(self, state):
        if state:
            pathlib.Path(self.begun).touch()
            time.sleep(1000)
        return ms.Workflow([ms.Task("a", "true")])
    def analyze(self, state, results): return 1
"""


def ask() -> ms.Workflow:
    return ms.Workflow([ms.Task("ask", operator="human", instructions="Is it blue?")])


def is_completed(run: ms.Run) -> bool:
    return run.status is ms.RunStatus.COMPLETED


def test_an_instrument_measures(tmp_path: Path) -> None:
    symbols = ("Cu", "Fe", "Al")
    tasks = [ms.Task(s, operator="xrd", parameters={"symbol": s}, outputs=["pattern.csv"]) for s in symbols]
    run = make(tmp_path, "r", ms.Workflow(tasks), operators={"xrd": ms.ExperimentOperator()})
    with daemon(tmp_path):
        command = [sys.executable, str(INSTRUMENT), str(run.path / "operators/xrd"), "--count", "3"]
        subprocess.run(command, check=True, timeout=180)
        wait_for(lambda: is_completed(run))
    assert list(run.results["symbol"]) == list(symbols)
    assert len((run.path / "instrument.ledger").read_text().splitlines()) == 3


def test_kits_are_carried_away_and_brought_back(tmp_path: Path) -> None:
    tasks = [witnessed(name, "echo 1 > E", tmp_path / "ledger", operator="manual", outputs=["E"]) for name in "ab"]
    last = witnessed("c", "cat E", tmp_path / "ledger", files={"E": ms.FromTask("a", "E")})
    operators = {"local": ms.LocalOperator(), "manual": ms.ManualHPCOperator()}
    run = make(tmp_path, "r", ms.Workflow([*tasks, last]), operators=operators)
    with daemon(tmp_path) as it:
        wait_for(lambda: "waits for people" in it.log)
        away = carry(run, tmp_path)
        # One comes in an archive, the other as its HOWTO.txt says: copied into its directory.
        run.import_kits(pack(away, tmp_path / "back.zip", lambda name: name.startswith("0.a.")))
        wait_for(lambda: run.counts.completed == 2)
        subprocess.run(["cp", "-r", f"{away}/0.b.1/.", run.path / "operators/manual/0.b.1"], check=True, timeout=60)
        wait_for(lambda: is_completed(run))
    check_executions(run, tmp_path / "ledger")


def test_jobs_of_slurm(tmp_path: Path) -> None:
    with cluster(27617) as lab:
        tasks = [witnessed(f"t{n}", "sleep 0.5", tmp_path / "ledger", operator="slurm", retries=9) for n in range(4)]
        tasks[3] = witnessed("t3", "true", tmp_path / "ledger", operator="slurm", dependencies=["t0", "t1", "t2"])
        run = make(tmp_path, "r", ms.Workflow(tasks), operators={"slurm": ms.SlurmOperator(poll_s=0.5)})
        with daemon(tmp_path) as it:
            wait_for(lambda: len(lab.jobs()) >= 3)
            it.end(signal.SIGKILL)
        with daemon(tmp_path):
            wait_for(lambda: is_completed(run))
        assert len(lab.jobs()) == 4
    check_executions(run, tmp_path / "ledger")


def test_tasks_of_dask(tmp_path: Path) -> None:
    farm = Farm(tmp_path)
    try:
        tasks = [witnessed(f"t{n}", "sleep 0.5", tmp_path / "ledger", operator="dask") for n in range(4)]
        tasks[3] = witnessed("t3", "true", tmp_path / "ledger", operator="dask", dependencies=["t0", "t1", "t2"])
        run = make(tmp_path, "r", ms.Workflow(tasks), operators={"dask": ms.DaskOperator(farm.address)})
        with daemon(tmp_path):
            wait_for(lambda: is_completed(run))
    finally:
        farm.close()
    check_executions(run, tmp_path / "ledger")


def test_a_disk_that_hangs_holds_up_no_other_workspace(tmp_path: Path) -> None:
    with lying_disk(tmp_path / "disk") as disk:
        away = ms.initialize_run("v", ask(), operators=HUMAN, base_path=disk.path, run_id="r")
        there = [make(tmp_path, f"r{n}", ask(), operators=HUMAN) for n in range(2)]
        server = disk.server.pid
        with daemon(tmp_path, str(disk.path / "workspaces/v")) as it:
            wait_for(lambda: it.log.count("waits for people") == 3)
            os.kill(server, signal.SIGSTOP)
            try:
                # Nothing is started from here meanwhile: that would hang, too, as a database on the disk is open here.
                for run in there:
                    run.respond("ask", {})
                    wait_for(lambda run=run: is_completed(run))
            finally:
                os.kill(server, signal.SIGCONT)
            away.respond("ask", {})
            wait_for(lambda: is_completed(away))
            assert it.end() == 0


@contextmanager
def stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: str) -> Iterator[tuple[Daemon, ms.Run, int]]:
    """Give a daemon with one worker, the run whose campaign hangs in it, and the worker."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/hanging_campaign.py").write_text(HANGS)
    monkeypatch.chdir(tmp_path / "beside")
    monkeypatch.syspath_prepend(tmp_path / "beside")
    from hanging_campaign import Hangs  # type: ignore[import-not-found]

    run = make(tmp_path, "hangs", Hangs(str(tmp_path / "begun")))
    with daemon(tmp_path, "--workers", "1", quick=quick) as it:
        wait_for((tmp_path / "begun").exists)
        (worker,) = it.workers()
        try:
            yield it, run, worker
        finally:
            del sys.modules["hanging_campaign"]
            if Path(f"/proc/{worker}").exists():
                os.kill(worker, signal.SIGKILL)


def test_a_run_that_hangs_in_a_tick_gives_its_turn_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = "from matterstack.daemon import keeper; keeper.STUCK_S = keeper._SLICE_S = 1.0"
    with stuck(tmp_path, monkeypatch, quick) as (it, run, worker):
        others = [make(tmp_path, f"r{n}", ms.Workflow([ms.Task("a", "true")])) for n in range(3)]
        for other in others:
            wait_for(lambda other=other: is_completed(other))
        assert f"has been in one tick for 1 s (pid {worker}); others go on" in it.log
        assert run.counts.completed == 1


def test_a_run_that_hangs_in_a_tick_ends_with_its_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = "from matterstack.daemon import keeper, keepers; keeper.STUCK_S = keepers.STUCK_S = 1.0"
    with stuck(tmp_path, monkeypatch, quick) as (it, run, worker):
        assert it.end() == 0
        wait_for(lambda: not Path(f"/proc/{worker}/cmdline").exists())
        assert f"has been in one tick for 1 s, and was killed (pid {worker})" in it.log
        assert run.store.check() == []
        run.pause()  # nobody holds its lock
