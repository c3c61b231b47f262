"""What Slurm says is proved before it is believed, and whatever surrounds a command, its end is told."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger import check_executions, starts
from slurm_lab import Cluster, cluster, mended
from slurm_runs import status, task, until, until_begun
from waiting import alive, gate, wait_for

import matterstack as ms
from matterstack.errors import InvalidTaskError, OperatorUnreachableError
from matterstack.operators.jobs import site_agent, slurm
from matterstack.operators.jobs.claim import claim_of, end_of
from matterstack.operators.jobs.scheduler import Slurm
from matterstack.operators.jobs.sites import Command, Done, Here
from matterstack.operators.sbatch import check_options


@pytest.fixture(scope="module")
def lab() -> Iterator[Cluster]:
    with cluster(26877, SLURM_LAB_CPUS="16", SLURM_LAB_MINJOBAGE="300") as running:
        yield running


@pytest.fixture
def healthy(lab: Cluster) -> Iterator[Cluster]:
    with mended(lab) as running:
        yield running


def operator(**settings: Any) -> ms.SlurmOperator:
    return ms.SlurmOperator(**{"timeout_s": 60.0, "poll_s": 0.1, "grace_s": 0.5, **settings})


def start(base: Path, *tasks: ms.Task, step: bool = True, **settings: Any) -> ms.Run:
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators={"slurm": operator(**settings)})
    if step:
        run.step()
    return run


def reason(run: ms.Run, name: str = "a") -> str:
    return str(run.tasks.loc[f"0.{name}", "reason"])


class Instead:
    """Programs that stand before those of Slurm for this process; ``$REAL`` in their text is the true one."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        place.mkdir()
        self.real = os.environ["PATH"]
        monkeypatch.setenv("PATH", f"{place}:{self.real}")

    def put(self, name: str, text: str) -> None:
        fresh = self.place / f".{name}"
        fresh.write_text(f"#!/bin/sh\nREAL={shutil.which(name, path=self.real)}\n{text}\n")
        fresh.chmod(0o755)
        fresh.rename(self.place / name)

    def remove(self, name: str) -> None:
        (self.place / name).unlink()


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instead:
    return Instead(tmp_path / "instead", monkeypatch)


@pytest.fixture
def sigchld_ignored() -> Iterator[None]:
    """Ignore the end of children, as a program that embeds this Python may: their exit codes are then lost."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


# -- no answer is never "no jobs" --------------------------------------------------------------

HEADING = "JOBID|NAME|STATE|REASON|TIME|TIME_LIMIT"


@pytest.mark.parametrize(
    "queue",
    [
        "exit 0",
        "echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2",
        "echo Welcome to the cluster",
        f"echo '{HEADING}'; echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2",
        f"echo '{HEADING}'; exit 1",
        f"echo '{HEADING}'; kill -KILL $$",
        f"echo '{HEADING}'; grep -q '^sh$' /proc/$PPID/comm && kill -KILL $PPID; exit 1",
    ],
)
def test_a_queue_that_does_not_answer_does_not_say_that_there_are_no_jobs(
    healthy: Cluster, tmp_path: Path, instead: Instead, queue: str
) -> None:
    run = start(tmp_path, task(tmp_path, "a", gate(tmp_path), retries=1), grace_s=0.0)
    until(run, "RUNNING")
    instead.put("squeue", queue)
    for _ in range(4):
        run.step()
    assert status(run) == "RUNNING"
    assert "could not be asked" in repr(run.explain())
    instead.remove("squeue")
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert starts(tmp_path / "ledger").total() == 1


def test_where_the_end_of_children_is_ignored_commands_that_fail_are_known_to(
    healthy: Cluster, tmp_path: Path, instead: Instead, sigchld_ignored: None
) -> None:
    instead.put("scontrol", "exit 1")
    run = start(tmp_path, task(tmp_path, "a", gate(tmp_path), retries=1), grace_s=0.0)
    run.step()
    assert status(run) == "SUBMITTED"
    instead.remove("scontrol")
    until(run, "RUNNING")  # it was not taken for released
    instead.put("squeue", f"echo '{HEADING}'; exit 1")
    for _ in range(4):
        run.step()
    assert status(run) == "RUNNING"
    instead.remove("squeue")
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert starts(tmp_path / "ledger").total() == 1


@pytest.mark.parametrize("pack", [1, 5])
def test_what_began_is_cancelled_before_it_is_given_up(
    healthy: Cluster, tmp_path: Path, instead: Instead, pack: int
) -> None:
    """A queue that denies a running job: there is never a second execution beside the first."""
    first = f"[ $MATTERSTACK_ATTEMPT = 2 ] || {{ {gate(tmp_path)}; }}"
    # Of b, too, the queue will show nothing, and it may be given up if it takes its time.
    run = start(tmp_path, task(tmp_path, "a", first, retries=1), task(tmp_path, "b", retries=9), pack=pack)
    until_begun(run)
    if pack == 1:
        until(run, "COMPLETED", "b")
    name = str(run.attempts.loc["0.a.1", "token" if pack == 1 else "external_id"])
    (number,) = [number for number, job, _ in healthy.jobs() if job == name]
    instead.put("squeue", f"echo '{HEADING}'")
    instead.put("scancel", "echo 'scancel: error: Unable to contact slurm controller' >&2; exit 1")
    wait_for(lambda: (run.step(), "nor lets it be cancelled" in repr(run.explain()))[1])
    assert status(run) == "RUNNING"
    instead.put("scancel", 'echo "$*" >>' + str(tmp_path / "asked") + '; exec $REAL "$@"')
    until(run, "LOST")
    asked = [words for words in (tmp_path / "asked").read_text().splitlines() if number in words.split()]
    assert asked == [f"--name={name} {number}"], "it is asked for once"
    instead.remove("squeue")
    wait_for(lambda: (number, name, "CANCELLED") in healthy.jobs())  # it may be about to end
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert status(run, attempt=2) == "COMPLETED"
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize("pack", [1, 5])
def test_what_runs_is_cancelled_though_the_queue_denies_it(
    healthy: Cluster, tmp_path: Path, instead: Instead, pack: int
) -> None:
    run = start(tmp_path, *(task(tmp_path, name, gate(tmp_path)) for name in "ab"), pack=pack)
    wait_for(lambda: starts(tmp_path / "ledger").total() == (2 if pack == 1 else 1))
    instead.put("squeue", f"echo '{HEADING}'")
    run.cancel(timeout_s=120)
    assert set(run.attempts["status"]) == {"CANCELLED"}
    instead.remove("squeue")
    names = set(run.attempts["token" if pack == 1 else "external_id"])
    # What ends itself when it is asked to, before it is cancelled, has ended well.
    over = {"CANCELLED", "COMPLETING", "COMPLETED"}
    assert {state for _, name, state in healthy.jobs() if name in names} <= over


def test_a_job_that_another_cluster_of_the_federation_has_is_not_over(
    healthy: Cluster, tmp_path: Path, instead: Instead
) -> None:
    run = start(tmp_path, task(tmp_path, "a", gate(tmp_path)))
    until(run, "RUNNING")
    here = "$REAL \"$@\" | sed 's/^\\([0-9]*|[^|]*\\)|[A-Z_]*|/\\1|REVOKED|/'"
    instead.put("squeue", here)
    for _ in range(3):
        run.step()
    assert status(run) == "RUNNING"
    assert "another cluster of the federation has its job" in repr(run.explain())
    # With --federation, the cluster that has it tells of it too.
    instead.put("squeue", f'case "$*" in *--federation*) $REAL "$@";; esac; {here}')
    for _ in range(3):
        run.step()
    assert status(run) == "RUNNING"
    healthy.command("scancel", str(run.attempts.loc["0.a.1", "external_id"]))
    until(run, "FAILED")
    assert reason(run).startswith("CANCELLED: ran")


class Told(Here):
    """A site that notes what it is asked, and answers one thing."""

    def __init__(self, *said: Done) -> None:
        self.said = list(said)
        self.asked: list[Sequence[str]] = []

    def run(self, commands: Sequence[Command], timeout_s: float, stop: str = "") -> list[Done]:
        self.asked += [words for words, _ in commands]
        return [self.said.pop(0) for _ in commands]


SACCT = "JobIDRaw|JobName|State|ExitCode|Elapsed|Timelimit\n"


def test_accounting_is_asked_from_the_submission_on() -> None:
    site = Told(Done(0, SACCT + "7|ms-a|COMPLETED|0:0|00:00:03|00:01:00\n", ""))
    (job,) = Slurm(1.0, site).find(["ms-a"], time.time() - 40 * 86_400)
    assert job.state == "COMPLETED"
    (since,) = [word for word in site.asked[0] if word.startswith("--starttime=now-")]
    assert 40 * 86_400 <= int(since.removeprefix("--starttime=now-")) <= 41 * 86_400


@pytest.mark.parametrize("output", ["", "Welcome\n", SACCT[:20]])
def test_accounting_without_its_heading_is_no_answer(output: str) -> None:
    with pytest.raises(OperatorUnreachableError, match="sacct"):
        Slurm(1.0, Told(Done(0, output, ""))).find(["ms-a"], time.time())


def test_accounting_of_a_federation_tells_of_the_cluster_that_had_the_job() -> None:
    row = "7|ms-a|{}|0:0|00:00:03|00:01:00\n"
    site = Told(
        Done(0, SACCT + row.format("REVOKED"), ""),
        Done(0, SACCT + row.format("TIMEOUT") + row.format("REVOKED"), ""),
    )
    (job,) = Slurm(1.0, site).find(["ms-a"], time.time())
    assert job.state == "TIMEOUT"
    assert "--federation" in site.asked[1]


@given(st.text(), st.integers(0, 255))
def test_the_end_of_a_command_is_read_from_what_it_printed(text: str, code: int) -> None:
    output = f"{text}\nmatterstack-exit: {code}\n"
    assert site_agent.exit_of(output) == (code, text)
    assert site_agent.exit_of(output[:-1]) == (None, output[:-1])
    assert site_agent.exit_of(text)[0] is None or "matterstack-exit:" in text


def test_a_command_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    command = ["sh", "-c", f"echo $$ >{tmp_path}/pid; sleep 600; true"]
    for longest_s in (1.0, 30.0):  # a busy machine may need more until it has begun
        (done,) = Here().run([Command(command)], longest_s)
        assert done.code is None
        assert "did not answer within" in done.error
        pid = (tmp_path / "pid").read_text().strip() if (tmp_path / "pid").exists() else ""
        if pid:
            break
    wait_for(lambda: not alive(int(pid)))


# -- what surrounds a command ------------------------------------------------------------------

#: What may stand before a command without any effect on how it ends.
HARMLESS = {
    "errexit": "set -e",
    "nounset": "set -eu\ncd /",
    "trap": "trap 'exit 7' EXIT",
    "path": "PATH=/nowhere",
    "cd": "cd /tmp",
    "here": "cat >/dev/null <<END\nit's\nEND",
    "python": "export PYTHONHOME=/nowhere",
}


def test_whatever_the_preamble_does_to_its_shell_ends_are_told(healthy: Cluster, tmp_path: Path) -> None:
    operators, tasks = {}, []
    for name, preamble in HARMLESS.items():
        for pack in (1, 2):
            kind = f"{name}{pack}"
            operators[kind] = operator(preamble=preamble, pack=pack)
            command = "echo x >out; echo '{}' >result.json"
            tasks.append(ms.Task(f"{kind}-good", command, operator=kind, outputs=["out"], allow_failure=True))
            tasks.append(ms.Task(f"{kind}-bad", "echo lost >&2; exit 3", operator=kind, allow_failure=True))
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=tmp_path, operators=operators)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    for kind in operators:
        assert run.tasks.loc[f"0.{kind}-good", "status"] == "COMPLETED", (kind, reason(run, f"{kind}-good"))
        assert reason(run, f"{kind}-bad") == "exit code 3; stderr ends with: lost", kind


#: What ends the job before its command begins, and what is told then.
ENDS = {
    "exit": ("echo no licence; exit 9", "exit code 9 before its command had ended; slurm.out ends with: no licence"),
    "zero": ("exit 0", "exit code 0 before its command had ended"),
    "errexit": ("set -e\nfalse", "exit code 1 before its command had ended"),
    "syntax": ("if true", "before its command had ended; slurm.out ends with: "),
    "exec": ("exec true", "exit code 0 before its command had ended"),
    "missing": ("set -eu\necho $NOT_SET_AT_ALL", "NOT_SET_AT_ALL"),
}


def test_a_preamble_that_ends_the_job_fails_its_attempt_with_the_last_words(healthy: Cluster, tmp_path: Path) -> None:
    operators = {kind: operator(preamble=preamble, grace_s=60.0) for kind, (preamble, _) in ENDS.items()}
    tasks = [ms.Task(kind, f"touch {tmp_path}/ran", operator=kind, allow_failure=True) for kind in operators]
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=tmp_path, operators=operators)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    for kind, (_, told) in ENDS.items():
        assert run.tasks.loc[f"0.{kind}", "status"] == "FAILED", kind
        assert told in reason(run, kind)
        assert run.tasks["exit_code"].isna()[f"0.{kind}"], "it is that of the command, which never ran"
    assert not (tmp_path / "ran").exists()


def test_a_preamble_that_ends_every_job_of_a_chunk_is_told(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_MOST_JOBS", 2)
    run = start(tmp_path, task(tmp_path, "a"), task(tmp_path, "b"), pack=2, preamble="echo no licence; exit 9")
    assert run.wait(timeout_s=180) is ms.RunStatus.FAILED
    assert reason(run).endswith("ended 2 times before its turn had come; slurm.out ends with: no licence")
    assert not (tmp_path / "ledger").exists()


def test_what_the_shell_of_a_job_needs_is_no_variable_of_the_command(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["host", "said", "ended", "tries", "asked"]
    for name in names:
        monkeypatch.setenv(name, "mine")
    run = start(tmp_path, task(tmp_path, "a", "echo " + " ".join(f"${name}" for name in names)))
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert (run.task_directory("a") / "stdout.txt").read_text().split() == ["mine"] * len(names)


OUTER = {
    "SLURM_JOB_ID": "999",
    "SLURM_MEM_PER_CPU": "2000",
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
    "SLURM_NTASKS_PER_NODE": "32",
    "SLURM_PROCID": "31",
    "SLURM_HINT": "nomultithread",
    "SLURMD_NODENAME": "elsewhere",
    "PMI_RANK": "31",
    "PMI2_FD": "31",
    "PMIX_NAMESPACE": "slurm.pmix.999.0",
    "SBATCH_ARRAY_INX": "1-9",
    "SBATCH_MEM_BIND": "local",
    "SQUEUE_STATES": "FAILED",
    "SCANCEL_STATE": "SUSPENDED",
    "SACCT_FEDERATION": "1",
}


@pytest.mark.parametrize("pack", [1, 2])
def test_the_job_of_the_notebook_does_not_leak_into_those_it_submits(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: int
) -> None:
    for name, value in {**OUTER, "SBATCH_PARTITION": "short", "MINE": "kept"}.items():
        monkeypatch.setenv(name, value)
    memory = ms.Resources(memory_gib=0.01)
    mine = {"SLURM_HINT": "mine"}
    tasks = [ms.Task(name, "env", operator="slurm", resources=memory, env=mine) for name in ("a", "b")]
    run = start(tmp_path, *tasks, pack=pack)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    text = (run.task_directory("b") / "stdout.txt").read_text()
    seen = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert {name for name, value in OUTER.items() if seen.get(name) == value} == set()
    assert seen["MINE"] == "kept"
    assert seen["SLURM_HINT"] == "mine"
    assert seen["SLURM_JOB_PARTITION"] == "short", "a user said whose time it is"
    assert seen["SLURM_CONF"] == os.environ["SLURM_CONF"]


@pytest.mark.parametrize("pack", [1, 2])
def test_references_to_variables_are_taken_before_any_is_set(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: int
) -> None:
    for name, value in {"LEFT": "the left", "RIGHT": "the 'right'"}.items():
        monkeypatch.setenv(name, value)
    swapped = {"LEFT": "env:RIGHT", "RIGHT": "env:LEFT", "THIRD": "env:LEFT"}
    tasks = [ms.Task(name, 'echo "$LEFT, $RIGHT, $THIRD"', env=swapped, operator="slurm") for name in ("a", "b")]
    lacks = ms.Task("lacks", "true", env={"X": "env:NOT_SET_AT_ALL"}, operator="slurm", allow_failure=True)
    run = start(tmp_path, *tasks, lacks, pack=pack)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert (run.task_directory("b") / "stdout.txt").read_text() == "the 'right', the left, the left\n"
    assert "NOT_SET_AT_ALL" in reason(run, "lacks")
    assert "has to be set: the task needs it" in reason(run, "lacks")


@pytest.mark.parametrize("name", ["b\N{LATIN SMALL LETTER E WITH ACUTE}", "a b", "1", ""])
def test_references_that_are_no_names_for_a_shell_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidTaskError, match="names no variable"):
        start(tmp_path, task(tmp_path), ms.Task("b", "true", env={"X": f"env:{name}"}, operator="slurm"), step=False)


# -- two parties never write one name ----------------------------------------------------------

#: Files that a task may well have, named as ours are in the folder of ours.
THEIRS = {
    "exit.json": '{"exit_code": 0, "ended_at": 1}',
    "left.json": '{"exit_code": 0, "ended_at": 1}',
    "exit.json.new": "x",
    "claim/started.json": '{"started_at": 1, "job": "1"}',
    "cancel": "x",
    "cancelled.json": "x",
    "missing.json": "x",
    "chunk": "ms-chunk-0123456789abcdef0123",
    "chunk.json": "{}",
    "jobs": "1",
    "inputs/deep": "x",
    "released.1": "",
    ".chunk": "x",
    ".missing": "x",
}


@pytest.mark.parametrize("pack", [1, 5])
def test_no_file_of_a_task_is_taken_for_one_of_ours(healthy: Cluster, tmp_path: Path, pack: int) -> None:
    files = {**THEIRS, "job.sh": "echo ran >proof; exit 3"}
    same = " && ".join(f"[ -f {name} ]" for name in files)
    run = start(
        tmp_path,
        task(tmp_path, "a", f"{same} || exit 4; sh ./job.sh", files=files, allow_failure=True),
        task(tmp_path, "b", "sh ./job.sh || cat exit.json", files=files),
        task(tmp_path, "c", "sleep 1"),
        pack=pack,
    )
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert list(run.tasks["status"]) == ["FAILED", "COMPLETED", "COMPLETED"]
    assert reason(run) == "exit code 3"
    assert (run.task_directory("a") / "proof").read_text() == "ran\n"
    assert (run.task_directory("b") / "stdout.txt").read_text() == THEIRS["exit.json"]
    for name, content in files.items():
        assert (run.task_directory("b") / name).read_text() == content
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize("output", [".matterstack/exit.json", ".Matterstack/x"])
def test_a_name_of_ours_is_no_output(tmp_path: Path, output: str) -> None:
    with pytest.raises(InvalidTaskError, match="a name of the run's own"):
        start(tmp_path, task(tmp_path, outputs=[output]), step=False)


# -- whose fault it is -------------------------------------------------------------------------


def test_an_end_that_cannot_be_read_for_the_moment_is_not_taken_for_none(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, "a"), task(tmp_path, "b", "exit 3", allow_failure=True), grace_s=0.0)
    for name in "ab":
        wait_for((run.task_directory(name) / ".matterstack/exit.json").exists)
    (attempt, _) = [run._session.attempt(live) for live in run._session.store.snapshot(time.time()).live]
    with ExitStack() as taken:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        with pytest.raises(OSError, match="Too many open files"):
            end_of(attempt)
    assert end_of(attempt) is not None
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED


@pytest.mark.parametrize(
    ("said", "job"), [("17", "17"), ("17_4", "17_4"), ("--user=ada", ""), ("17 18", ""), (17, "17")]
)
def test_a_claim_names_a_job_or_none(tmp_path: Path, said: object, job: str) -> None:
    """The id goes to scancel, and whoever can write into the attempt's directory can write it."""
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    run.step()
    (attempt,) = [run._session.attempt(live) for live in run._session.store.snapshot(time.time()).live]
    claim = run.task_directory("a") / ".matterstack/claim"
    claim.mkdir(parents=True)
    (claim / "started.json").write_text(json.dumps({"started_at": 1.0, "job": said}))
    assert claim_of(attempt) == (1.0, job)


class Disk:
    """A handler that meets a fault of the disk, and mends nothing otherwise."""

    def __init__(self, fault: int) -> None:
        self.fault, self.asked = fault, 0

    def check(self, directory: Path) -> bool:
        return True

    def correct(self, directory: Path) -> str:
        self.asked += 1
        if self.asked == 1:
            raise OSError(self.fault, os.strerror(self.fault))
        return "nothing"


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EROFS, errno.EIO, errno.ESTALE])
def test_a_fault_of_the_disk_while_an_attempt_is_prepared_is_tried_again(
    healthy: Cluster, tmp_path: Path, fault: int
) -> None:
    handler = Disk(fault)
    run = start(tmp_path, task(tmp_path, "a", "[ $MATTERSTACK_ATTEMPT = 2 ]", retries=1), handlers=[handler])
    wait_for(lambda: (run.step(), handler.asked == 1)[1])
    assert status(run, attempt=2) == "SUBMITTING"
    assert os.strerror(fault) in repr(run.explain())
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert len(run.attempts) == 2


@pytest.mark.parametrize("pack", [1, 2])
def test_an_end_that_a_full_disk_does_not_take_is_written_again(healthy: Cluster, tmp_path: Path, pack: int) -> None:
    full = "ln -s /dev/full .matterstack/exit.json.new; exit 3"
    tasks = [task(tmp_path, "a", full, allow_failure=True), task(tmp_path, "b")]
    run = start(tmp_path, *tasks, pack=pack, grace_s=30.0)
    new = run.task_directory("a") / ".matterstack/exit.json.new"
    wait_for(new.is_symlink)
    for _ in range(3):
        run.step()
    assert status(run) in ("SUBMITTED", "RUNNING")
    new.unlink()
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert reason(run) == "exit code 3"


def test_a_chunk_whose_files_were_removed_fails_alone(healthy: Cluster, tmp_path: Path) -> None:
    wide = ms.Resources(cpus_per_task=2)  # so that these are a chunk of their own
    run = start(
        tmp_path,
        task(tmp_path, "a", gate(tmp_path), resources=wide, allow_failure=True),
        task(tmp_path, "b", resources=wide, allow_failure=True),
        task(tmp_path, "c"),
        task(tmp_path, "d"),
        pack=2,
    )
    until_begun(run)
    name = str(run.attempts.loc["0.a.1", "external_id"])
    shutil.rmtree(run.path / "operators/slurm/.chunks" / name)
    healthy.command("scancel", f"--name={name}")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert list(run.tasks["status"]) == ["FAILED", "FAILED", "COMPLETED", "COMPLETED"]
    assert f".chunks/{name} is gone" in reason(run, "b")
    check_executions(run, tmp_path / "ledger")


def test_a_run_whose_chunk_lost_its_files_can_be_cancelled(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, *(task(tmp_path, name, gate(tmp_path)) for name in "ab"), pack=2)
    until_begun(run)
    shutil.rmtree(run.path / "operators/slurm/.chunks")
    run.cancel(timeout_s=120)
    assert set(run.attempts["status"]) == {"CANCELLED"}
    assert starts(tmp_path / "ledger").total() == 1


# -- options of sbatch -------------------------------------------------------------------------


def known_options() -> list[str]:
    """Return the long options that the sbatch of this machine knows."""
    said = subprocess.run(["sbatch", "--help"], capture_output=True, text=True, check=True).stdout
    return sorted(set(re.findall(r"--[a-z][a-z-]+[a-z]", said)))


OURS = ["array", "begin", "chdir", "clusters", "dependency", "error", "gid", "help", "hold", "job-name", "no-requeue",
        "output", "parsable", "quiet", "requeue", "test-only", "uid", "usage", "version", "wait", "wrap"]  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_no_beginning_of_an_option_of_ours_is_left_to_sbatch(healthy: Cluster, name: str) -> None:
    for length in range(1, len(name) + 1):
        with pytest.raises(InvalidTaskError, match=f"--{name}"):
            check_options([f"--{name[:length]}=x"], "options")


def test_the_other_options_of_sbatch_are_the_users(healthy: Cluster) -> None:
    known = known_options()
    assert len(known) > 50
    refused = set()
    for option in known:
        try:
            check_options([f"{option}=1"], "options")
        except InvalidTaskError:
            refused.add(option[2:])
    assert refused == {*OURS, "comment"} - {"test-only"}  # which it does not tell of
