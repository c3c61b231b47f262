"""A real Slurm behind a real sshd whose link is cut: nothing doubled, nothing lost, and ticks that end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crashes import killed_at
from ledger import check_executions, starts, witnessed
from slurm_lab import Cluster, cluster
from ssh_lab import Server, server
from waiting import wait_for

import matterstack as ms
from matterstack.errors import InvalidConfigError


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster(27017, SLURM_LAB_CPUS="16", SLURM_LAB_MINJOBAGE="300") as running:
        yield running


@pytest.fixture(scope="module")
def link(slurm: Cluster) -> Iterator[Server]:
    with server() as running:
        yield running


def operator(root: Path, **settings: Any) -> ms.SlurmOperator:
    return ms.SlurmOperator(
        host="cluster", root=str(root), **{"timeout_s": 60.0, "grace_s": 5.0, "poll_s": 0.1, **settings}
    )


def start(base: Path, root: Path, *tasks: ms.Task, step: bool = True, **settings: Any) -> ms.Run:
    operators = {"slurm": operator(root, **settings)}
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators=operators)
    if step:
        run.step()
    return run


def task(base: Path, name: str = "a", command: str = "true", **settings: Any) -> ms.Task:
    return witnessed(name, command, base / "ledger", operator="slurm", **settings)


def test_attempts_go_out_and_their_outputs_come_home(link: Server, tmp_path: Path) -> None:
    there = tmp_path / "there"
    run = start(
        tmp_path,
        there,
        task(
            tmp_path,
            "a",
            "cat note; echo '{\"energy_eV\": -1}' > result.json; echo x > 'final y.xyz'; echo large > scratch",
            files={"note": "it's $HOME `x`"},
            outputs=["final y.xyz"],
        ),
        task(tmp_path, "b", "echo lost >&2; exit 3", allow_failure=True),
        task(tmp_path, "c", "cat 'final y.xyz'", files={"final y.xyz": ms.FromTask("a", "final y.xyz")}),
    )
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert run.results.loc["0.a", "energy_eV"] == -1
    assert "exit code 3; stderr ends with: lost" in str(run.tasks.loc["0.b", "reason"])
    home = run.path / "operators/slurm"
    assert (home / "0.a.1/stdout.txt").read_text() == "it's $HOME `x`"
    assert (home / "0.c.1/stdout.txt").read_text() == "x\n"
    assert not (home / "0.a.1/scratch").exists()
    assert len(list(there.glob("*/0.a.1/scratch"))) == 1
    check_executions(run, tmp_path / "ledger")


def spectrum(points: int) -> dict[str, Any]:
    import numpy as np

    return {"intensity": np.arange(points), "points": points}


def total(spectra: list[dict[str, Any]], far: float) -> float:
    if far < 0:
        raise ValueError("nothing is that far")
    return float(sum(spectrum["intensity"].sum() for spectrum in spectra))


def test_functions_go_out_and_their_values_come_home(link: Server, tmp_path: Path) -> None:
    flow = ms.Workflow()
    away = ms.task(operator="slurm")
    spectra = flow.map(away(spectrum), [3, 20_000])
    flow.add("total", away(total), list(spectra.values()), 1.0)
    flow.add("bad", away(total).with_options(allow_failure=True), [], -1.0)
    operators = {"slurm": operator(tmp_path / "there", python=sys.executable)}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert run.value("total") == sum(range(3)) + sum(range(20_000))
    assert len(run.value("spectrum-1")["intensity"]) == 20_000
    assert run.tasks.loc["0.bad", "reason"] == "ValueError: nothing is that far, at total line 3"


def test_a_tick_makes_as_many_calls_for_many_jobs_as_for_one(
    link: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    true_start = subprocess.Popen

    def counted(command: Any, *args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        calls.append(command[4])  # behind what has it tell its end: sh -c SCRIPT sh
        return true_start(command, *args, **kwargs)

    run = start(tmp_path, tmp_path / "there", *(task(tmp_path, f"t{i}") for i in range(12)), step=False)
    monkeypatch.setattr(subprocess, "Popen", counted)
    run.step()
    assert calls == ["ssh", "rsync", "ssh", "ssh"]  # its settings, once; files out; jobs submitted; jobs released
    wait_for(lambda: len(list((tmp_path / "there").glob("*/*/.matterstack/exit.json"))) == 12)
    calls.clear()
    run.step()
    assert calls == ["ssh", "rsync"]  # the queue and what they left; results home
    assert run.status is ms.RunStatus.COMPLETED


def test_an_answer_that_runs_share_does_not_keep_results_from_coming_home(link: Server, tmp_path: Path) -> None:
    gate = f"while ! [ -e {tmp_path}/go ]; do sleep 0.1; done"
    run = start(tmp_path, tmp_path / "there", task(tmp_path, "a", gate), poll_s=600.0)
    run.step()
    (tmp_path / "go").write_text("")
    wait_for(lambda: run.step().status is ms.RunStatus.COMPLETED)  # the answer says for ten minutes that it runs
    check_executions(run, tmp_path / "ledger")


def test_chunks_run_there_and_go_on_where_they_stood(slurm: Cluster, link: Server, tmp_path: Path) -> None:
    wait = f"while ! [ -e {tmp_path}/go ]; do sleep 0.1; done"
    tasks = [task(tmp_path, f"t{i}", wait if i == 1 else f"echo {i}", retries=int(i == 1)) for i in range(6)]
    run = start(tmp_path, tmp_path / "there", *tasks, pack=50)
    wait_for(lambda: list((tmp_path / "there").glob("*/0.t1.1/.matterstack/claim/started.json")))
    name = run.attempts["external_id"].iloc[0]
    slurm.command("scancel", f"--name={name}")
    # The job is told later, and a command that may go on at once would end before that.
    wait_for(lambda: {state for _, job, state in slurm.jobs() if job == name} == {"CANCELLED"})
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    attempts = run.attempts.groupby("task_id").size()
    assert attempts.loc["t1"] == 2
    assert attempts.drop("t1").eq(1).all()
    assert (run.path / "operators/slurm/0.t5.1/stdout.txt").read_text() == "5\n"
    check_executions(run, tmp_path / "ledger")


def test_a_chunk_there_is_cancelled(slurm: Cluster, link: Server, tmp_path: Path) -> None:
    tasks = [task(tmp_path, f"t{i}", "sleep 600") for i in range(4)]
    run = start(tmp_path, tmp_path / "there", *tasks, pack=50)
    wait_for(lambda: list((tmp_path / "there").glob("*/0.t0.1/.matterstack/claim/started.json")))
    run.cancel(timeout_s=60)
    assert set(run.attempts["status"]) == {"CANCELLED"}
    assert sum(starts(tmp_path / "ledger").values()) == 1


@pytest.mark.parametrize("how", ["killed", "hanging"])
@pytest.mark.parametrize("when", ["before", "queued", "ended"])
def test_the_link_is_cut(link: Server, tmp_path: Path, how: str, when: str) -> None:
    there = tmp_path / "there"
    run = start(tmp_path, there, task(tmp_path), step=when != "before")
    if when == "ended":
        wait_for(lambda: list(there.glob("*/0.a.1/.matterstack/exit.json")))
    if how == "killed":
        link.cut()
        run.step()
    else:
        impatient = ms.open_run(run.path, operators={"slurm": operator(there, timeout_s=2.0)})
        with link.hanging():
            impatient.step()
        assert "did not end within" in repr(impatient.explain())
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert sum(starts(tmp_path / "ledger").values()) == 1
    check_executions(run, tmp_path / "ledger")


#: Carries a call out, and loses what it said; or does not carry it out.
TREACHEROUS_SSH = """#!/bin/sh
number=$(($(cat {base}/calls) + 1))
echo $number >{base}/calls
if [ $number = {at} ]; then
  [ {how} = never ] || {real} "$@" >/dev/null 2>&1
  echo "Connection reset by peer" >&2
  exit 255
fi
exec {real} "$@"
"""


@pytest.mark.parametrize("how", ["lost", "never"])
@pytest.mark.parametrize("at", range(2, 7))  # files out, submitted, released, looked at, results home
@pytest.mark.parametrize("pack", [1, 50])
def test_the_reply_of_each_call_is_lost(
    link: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, at: int, pack: int
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "calls").write_text("0")
    treacherous = TREACHEROUS_SSH.format(base=tmp_path, at=at, how=how, real=link.state / "bin/ssh")
    (tmp_path / "bin/ssh").write_text(treacherous)
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    # A copy whose reply is lost takes all of its time.
    run = start(tmp_path, tmp_path / "there", task(tmp_path, "a"), task(tmp_path, "b"), pack=pack, timeout_s=15.0)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert int((tmp_path / "calls").read_text()) >= at
    assert (run.attempts["status"] == "COMPLETED").all()
    assert len(run.attempts) == 2
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize("point", ["submit.prepared", "submit.submitted", "submit.stored", "collect.begin"])
def test_the_driver_is_killed(link: Server, tmp_path: Path, point: str) -> None:
    run = start(tmp_path, tmp_path / "there", task(tmp_path), step=False)
    killed_at(point, 1, lambda: ms.open_run(run.path).wait(timeout_s=180))
    assert ms.open_run(run.path).wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")


#: Fails the first copy home.
FAILING_SSH = """#!/bin/sh
case "$*" in *"rsync --server --sender"*) mkdir {base}/failed 2>/dev/null && exit 255;; esac
exec {real} "$@"
"""


def test_a_copy_that_fails_is_none_where_the_end_of_children_is_ignored(
    link: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(FAILING_SSH.format(base=tmp_path, real=link.state / "bin/ssh"))
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        run = start(tmp_path, tmp_path / "there", task(tmp_path, "a", "echo x >out", outputs=["out"]))
        assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED, str(run.explain())
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert (tmp_path / "failed").exists()
    assert len(run.attempts) == 1
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize("pack", [1, 5])
def test_names_of_a_tasks_files_are_its_own_there_too(link: Server, tmp_path: Path, pack: int) -> None:
    ended = '{"exit_code": 0, "ended_at": 1}'
    files = {"job.sh": "echo ran >proof; exit 3", "exit.json": ended, "left.json": ended, "cancel": "", "claim/x": "",
             "inputs/deep": "x", ".rsync-partial/x": "x", ".x.partial": "x"}  # fmt: skip
    same = " && ".join(f"[ -f {name} ]" for name in files)
    run = start(
        tmp_path,
        tmp_path / "there",
        task(tmp_path, "a", f"{same} || exit 4; sh ./job.sh", files=files, allow_failure=True),
        task(tmp_path, "b", f"{same} || exit 4; sh ./job.sh || true", files=files, outputs=["proof"]),
        pack=pack,
    )
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert run.tasks.loc["0.a", "reason"] == "exit code 3"
    assert (run.task_directory("b") / "proof").read_text() == "ran\n"
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize("pack", [1, 5])
def test_an_attempt_that_cannot_be_brought_there_fails_alone_and_names_the_file(
    link: Server, tmp_path: Path, pack: int
) -> None:
    there = tmp_path / "there"
    files = {"structure.cif": "x"}
    run = start(
        tmp_path,
        there,
        task(tmp_path, "first"),
        task(tmp_path, "a", files=files, dependencies=["first"], allow_failure=True),
        task(tmp_path, "b", files=files, dependencies=["first"]),
        pack=pack,
    )
    # A folder that is not empty stands there where the file has to be.
    (place,) = there.glob("*/0.first.1")
    (place.parent / "0.a.1/structure.cif/in the way").mkdir(parents=True)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED, str(run.explain())
    assert list(run.tasks["status"]) == ["COMPLETED", "FAILED", "COMPLETED"]
    assert "it cannot be brought to cluster" in str(run.tasks.loc["0.a", "reason"])
    assert "structure.cif" in str(run.tasks.loc["0.a", "reason"])
    check_executions(run, tmp_path / "ledger")


def test_an_attempt_whose_directory_was_removed_here_holds_up_no_other(link: Server, tmp_path: Path) -> None:
    wait = f"while ! [ -e {tmp_path}/go ]; do sleep 0.1; done"
    run = start(tmp_path, tmp_path / "there", *(task(tmp_path, name, wait, allow_failure=True) for name in "ab"))
    wait_for(lambda: len(starts(tmp_path / "ledger")) == 2)
    shutil.rmtree(run.task_directory("a"))
    run.step()
    assert "could not be asked" not in repr(run.explain())
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert run.tasks.loc["0.b", "status"] == "COMPLETED"
    check_executions(run, tmp_path / "ledger")


#: Hangs once, when so many bytes have come from there; notes how many do.
HALTING_SSH = """#!/bin/sh
case "$*" in *"rsync --server --sender"*) {real} "$@" | {python} -c '
import os, time
came = 0
while chunk := os.read(0, 65536):
    os.write(1, chunk)
    came += len(chunk)
    if came > 2000000 and not os.path.exists("{base}/halted"):
        open("{base}/halted", "w").close()
        time.sleep(600)
open("{base}/came", "w").write(str(came))
';; *) exec {real} "$@";; esac
"""


def test_a_copy_that_takes_longer_than_its_time_goes_on_where_it_stood(
    link: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    large = "head -c 4000000 /dev/urandom >large; cksum <large"
    run = start(tmp_path, there, task(tmp_path, "a", large, outputs=["large"]))
    wait_for(lambda: list(there.glob("*/0.a.1/.matterstack/exit.json")))
    (tmp_path / "bin").mkdir()
    halting = HALTING_SSH.format(base=tmp_path, real=link.state / "bin/ssh", python=sys.executable)
    (tmp_path / "bin/ssh").write_text(halting)
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    for longest_s in (2.0, 10.0, 60.0):  # a busy machine may need more until it has begun
        impatient = ms.open_run(run.path, operators={"slurm": operator(there, timeout_s=longest_s)})
        impatient.step()
        if (tmp_path / "halted").exists():
            break
    assert "what it left is not home yet" in repr(impatient.explain())
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED, str(run.explain())
    assert int((tmp_path / "came").read_text()) < 3_000_000, "it began anew"
    home = run.task_directory("a")
    with open(home / "large", "rb") as copy:
        summed = subprocess.run(["cksum"], stdin=copy, capture_output=True, check=True).stdout
    assert summed == (home / "stdout.txt").read_bytes()
    assert not [path.name for path in home.iterdir() if path.name.startswith(".large")], "halves are left over"


def test_an_unknown_host_key_is_refused(link: Server, tmp_path: Path) -> None:
    known = link.state / ".ssh/known_hosts"
    content = known.read_text()
    link.cut()
    known.write_text("")
    try:
        run = start(tmp_path, tmp_path / "there", task(tmp_path))
        assert "Host key verification failed" in repr(run.explain())
        assert "Log in once by hand" in repr(run.explain())
    finally:
        known.write_text(content)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize("wrong", [{"host": "-oProxyCommand=x"}, {"host": "a b"}, {"host": "h", "root": "$(x)"},
                                   {"host": "h", "root": "a/../b"}, {"host": "h", "python": ""}])  # fmt: skip
def test_hosts_that_are_options_in_disguise_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidConfigError):
        ms.SlurmOperator(**wrong)  # type: ignore[arg-type]
