"""Local commands and their runner: in which environment, with which limits, and on which machine they start."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from users import as_user, root

import matterstack as ms
from matterstack.operators.local import link
from matterstack.operators.local.link import Link
from matterstack.operators.local.runner import serve
from tests.helpers.runners import kill_runner, runner_of, told_by_runner

LODGERS = (41010, 41011)  # users of whom nothing else runs


def run_of(base: Path, *tasks: ms.Task, run_id: str = "r", operator: ms.LocalOperator | None = None) -> ms.Run:
    """Return a run of tasks."""
    return ms.initialize_run(
        "w", ms.Workflow(tasks), base_path=base, run_id=run_id, operators={"local": operator or ms.LocalOperator()}
    )


def sockets() -> set[str]:
    """Return the sockets that this process has open."""
    names = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return {found for name in names if os.path.islink(name) and (found := os.readlink(name)).startswith("socket:")}


def until(run: ms.Run, told: Callable[[], bool]) -> None:
    """Step a run until it tells something."""
    for _ in run.ticks(timeout_s=60):
        if told():
            return
    raise AssertionError(f"it did not come to that: {run.explain()}")


# -- the environment --------------------------------------------------------------------


def test_a_command_has_the_environment_of_its_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "1")
    monkeypatch.setenv("TOLD", "a secret")
    monkeypatch.delenv("MADE", raising=False)
    say = 'echo "$THREADS, $TOLD, $MADE, $KEY"'
    key = {"KEY": "env:MADE"}
    run = run_of(tmp_path, ms.Task("first", say), ms.Task("second", say, env=key, dependencies=["first"]))
    run.step()
    monkeypatch.setenv("THREADS", "8")
    monkeypatch.setenv("MADE", "new")
    monkeypatch.delenv("TOLD")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert (run.task_directory("first") / "stdout.txt").read_text() == "1, a secret, , \n"
    assert (run.task_directory("second") / "stdout.txt").read_text() == "8, , new, new\n"


def test_what_the_reason_says_to_set_counts_for_a_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    (tmp_path / "tools").mkdir()
    tool = tmp_path / "tools/simulate"
    tool.write_text('#!/bin/sh\necho "$KEY"\n')
    tool.chmod(0o755)
    run = run_of(tmp_path, ms.Task("key", ["simulate"], env={"KEY": "env:MY_KEY"}))
    run.wait(timeout_s=60)
    assert "MY_KEY is not set" in run.tasks.loc["0.key", "reason"]
    monkeypatch.setenv("MY_KEY", "open")
    run.retry().wait(timeout_s=60)
    assert "simulate: command not found" in run.tasks.loc["0.key", "reason"]
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    assert run.retry().wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert (run.task_directory("key") / "stdout.txt").read_text() == "open\n"


def test_any_bytes_in_a_variable_reach_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"AUTHOR", b"Andr\xe9")
    run = run_of(tmp_path, ms.Task("a", 'printf %s "$AUTHOR"'))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert (run.task_directory("a") / "stdout.txt").read_bytes() == b"Andr\xe9"


def test_the_environment_is_sent_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    send = Link._send
    monkeypatch.setattr(Link, "_send", lambda link, message: (sent.append(message), send(link, message)))
    monkeypatch.setenv("STEP", "before")
    names = [f"t{number}" for number in range(6)]
    run = run_of(
        tmp_path,
        *(ms.Task(name, "true", dependencies=names[at - 1 : at] if at else []) for at, name in enumerate(names)),
    )
    until(run, lambda: run.tasks.loc["0.t2", "status"] == "COMPLETED")
    monkeypatch.setenv("STEP", "after")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert sum(message["request"] == "start" for message in sent) == 6
    assert [message["environment"]["STEP"] for message in sent if "environment" in message] == ["before", "after"]


def test_a_command_inherits_nothing_of_its_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "PYTHONHOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/nothing")
    run = run_of(tmp_path, ms.Task("a", "true"), ms.Task("b", "env", dependencies=["a"]))
    run.step()
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    said = (run.task_directory("b") / "stdout.txt").read_text()
    assert "MATTERSTACK_TASK_ID=b\n" in said
    assert not any(line.startswith(("LC_ALL=", "LD_LIBRARY_PATH=")) for line in said.splitlines())


# -- the start of the runner ------------------------------------------------------------


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what puts a shell script before this interpreter, as far as it is started by its name."""
    real, script = sys.executable, tmp_path / "python-of-a-module"

    def put(before: str) -> None:
        script.write_text(f'#!/bin/sh\n{before}\nexec {real} "$@"\n')
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return put


@pytest.mark.parametrize("variable", ["LD_LIBRARY_PATH", "PYTHONHOME"])
def test_the_runner_starts_where_the_interpreter_needs_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpreter: Callable[[str], None], variable: str
) -> None:
    monkeypatch.setenv(variable, "/opt/python")
    monkeypatch.setenv("MY_KEY", "the secret")
    interpreter(f'[ "${variable}${{MY_KEY-}}" = /opt/python ] || exit 127; unset {variable}')
    run = run_of(tmp_path, ms.Task("a", "true"))
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_a_runner_that_ends_at_once_is_told_of_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpreter: Callable[[str], None]
) -> None:
    run = run_of(tmp_path, ms.Task("a", "true"))
    with monkeypatch.context() as broken:
        broken.setenv("PYTHONHOME", str(tmp_path))  # there is no standard library
        run.step()
    assert "ended at once: " in run.store.troubles()["local"].reason
    assert "No module named 'encodings'" in run.store.troubles()["local"].reason
    interpreter("exit 1")
    run.step()
    assert "ended at once: it left no word" in run.store.troubles()["local"].reason  # and not those of the start before
    interpreter("")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert len(run.attempts) == 1


def test_a_runner_that_hangs_at_its_start_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpreter: Callable[[str], None]
) -> None:
    run = run_of(tmp_path, ms.Task("a", "true"))
    interpreter(f"echo $$ > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; exec sleep 1000")
    for longest_s in (0.5, 20.0):  # a busy machine may need more until it hangs
        with monkeypatch.context() as hasty:
            hasty.setattr(link, "_START_S", longest_s)
            run.step()
        assert "it did not start" in run.store.troubles()["local"].reason
        if (tmp_path / "pid").exists():
            break
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
    interpreter("")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_the_runner_imports_nothing_from_where_the_kernel_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('this is no part of Python')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_of(tmp_path, ms.Task("a", "true")).wait(timeout_s=60) is ms.RunStatus.COMPLETED


@pytest.fixture
def ignored_children() -> Iterator[None]:
    """Let the kernel reap children unseen, as some libraries do."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("ignored_children")
def test_a_kernel_that_ignores_its_children_starts_a_runner(tmp_path: Path) -> None:
    assert run_of(tmp_path, ms.Task("a", "true")).wait(timeout_s=60) is ms.RunStatus.COMPLETED


# -- whose directory it is --------------------------------------------------------------


def test_one_operator_serves_two_runs(tmp_path: Path) -> None:
    operator = ms.LocalOperator(max_active=1)
    one, two = (run_of(tmp_path, ms.Task("a", f"echo {name}"), run_id=name, operator=operator) for name in ("x", "y"))
    one.step()
    two.step()
    assert [run.wait(timeout_s=60) for run in (one, two)] == [ms.RunStatus.COMPLETED] * 2
    assert [(run.task_directory("a") / "stdout.txt").read_text() for run in (one, two)] == ["x\n", "y\n"]


@pytest.mark.parametrize("by", ["removal", "move"])
def test_a_cell_that_makes_its_run_anew_is_run_again(tmp_path: Path, by: str) -> None:
    operator = ms.LocalOperator(max_active=1)
    before = sockets()  # of tests before, and closed whenever the garbage of these is collected
    opened = []
    for number in range(3):
        run = run_of(tmp_path, ms.Task("a", f"echo {number}"), operator=operator)
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED, run.tasks["reason"].tolist()
        assert (run.task_directory("a") / "stdout.txt").read_text() == f"{number}\n"
        opened.append(len(sockets() - before))
        if by == "removal":
            shutil.rmtree(run.path)
        else:
            run.path.rename(tmp_path / f"kept-{number}")
    assert opened[0] == opened[2]  # the connection to what is gone is closed


def test_a_run_that_was_moved_is_gone_on_with_by_the_same_operator(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    operator = ms.LocalOperator(max_active=1)
    run = run_of(tmp_path, ms.Task("a", f"cat {tmp_path}/gate"), operator=operator)
    run.step()
    run.path.rename(tmp_path / "elsewhere")
    moved = ms.open_run(tmp_path / "elsewhere", operators={"local": operator})
    moved.step()
    (tmp_path / "gate").write_text("through\n")
    assert moved.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert len(moved.attempts) == 1


# -- limits -----------------------------------------------------------------------------


def test_few_files_are_enough_and_the_claim_is_held(tmp_path: Path, interpreter: Callable[[str], None]) -> None:
    interpreter("ulimit -n 64")
    os.mkfifo(tmp_path / "gate")
    run = run_of(tmp_path, ms.Task("a", f"cat {tmp_path}/gate"))
    until(run, lambda: run.attempts["started_at"].notna().all())
    kill_runner(run)
    with open(run.task_directory("a") / "stdout.txt", "rb") as claim, pytest.raises(BlockingIOError):
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the command holds it, though its runner is gone
    run.cancel()


def test_a_runner_whose_files_are_used_up_by_connections_goes_on(
    tmp_path: Path, interpreter: Callable[[str], None]
) -> None:
    interpreter("ulimit -n 64")
    os.mkfifo(tmp_path / "gate")
    tasks = [ms.Task("a", f"cat {tmp_path}/gate"), ms.Task("b", "true", dependencies=["a"])]
    run = run_of(tmp_path, *tasks, operator=ms.LocalOperator(max_active=1))
    run.step()
    address, connections = told_by_runner(run)["address"], []
    for _ in range(80):
        connections.append(socket.socket(socket.AF_UNIX))
        connections[-1].connect(f"\0{address}")
    until(run, lambda: run.attempts["started_at"].notna().all())
    (tmp_path / "gate").write_text("through\n")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED, run.explain()
    assert len(run.attempts) == 2
    for connection in connections:
        connection.close()


def live(run: ms.Run) -> list[tuple[str, str]]:
    """Return status and reason of each attempt."""
    return [(str(status), str(reason)) for status, reason in run.attempts[["status", "reason"]].itertuples(index=False)]


def fork_runner(directory: Path, _: float) -> None:
    """Start a runner as a fork of this process: the interpreter may lie where only root can read it."""
    directory.mkdir(parents=True, exist_ok=True)
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(done, 3)
            os.closerange(4, 1000)
            serve.start("3", str(directory))
        finally:
            os._exit(0)
    os.close(done)
    os.read(ready, 1)
    os.close(ready)
    os.waitpid(child, 0)


@root
@pytest.mark.parametrize("room", [0, 1], ids=["not even for a shell", "for a shell and nothing more"])
def test_where_no_other_process_can_be_started_attempts_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    before_all = run_of(tmp_path, ms.Task("a", "true"))  # the other user can import nothing
    before_all.step()
    assert before_all.explain()
    until(before_all, lambda: live(before_all) == [("COMPLETED", "nan")])
    monkeypatch.setattr(link, "_start_runner", fork_runner)

    def act() -> object:
        os.mkfifo(f"{base}/gate")
        waits = ms.Task("waits", f"cat {base}/gate")
        work = ms.Task("work", "/bin/true; echo done", dependencies=["waits"], retries=1)
        run = run_of(Path(base), waits, work, operator=ms.LocalOperator(max_active=1))
        until(run, lambda: run.attempts["started_at"].notna().all())
        runner = runner_of(run)
        before = resource.prlimit(runner, resource.RLIMIT_NPROC)
        resource.prlimit(runner, resource.RLIMIT_NPROC, (2 + room, before[1]))  # this process, and the runner
        try:
            Path(base, "gate").write_text("through\n")
            until(run, lambda: "no room for another process" in live(run)[-1][1])
            assert "no room for another process" in repr(run.explain())
            seen = live(run)[1:]
            journal = (run.path / "operators/local/journal.jsonl").read_bytes()
            for _ in run.ticks(timeout_s=1.5):
                pass
            assert live(run)[1:] == seen
            assert (run.path / "operators/local/journal.jsonl").read_bytes() == journal
        finally:
            resource.prlimit(runner, resource.RLIMIT_NPROC, before)
        return run.wait(timeout_s=60), *(status for status, _ in seen), seen[0][1], len(run.attempts)

    with tempfile.TemporaryDirectory() as base:  # pytest's own are for one user
        os.chown(base, LODGERS[room], LODGERS[room])
        said = as_user(LODGERS[room], act)
    assert "RunStatus.COMPLETED" in said, said
    # An attempt that has begun is over, as its command may have done something; the next one waits until there is room.
    assert ("'FAILED', 'SUBMITTED', " in said) == (room == 1), said
    assert ("exit code 2; stderr ends with" in said and "fork" in said) == (room == 1), said
    assert said.endswith(f", {2 + room})"), said


# -- which machine it is ----------------------------------------------------------------


def say(run: ms.Run, **facts: str) -> None:
    """Have the runner's record say something else."""
    with open(run.path / "operators/local/runner.lock", "r+", encoding="utf-8") as lock:
        holder = json.load(lock) | facts
        lock.seek(0)
        json.dump(holder, lock)
        lock.truncate()


def test_a_machine_that_was_renamed_is_the_same_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    run = run_of(tmp_path, ms.Task("a", f"cat {tmp_path}/gate"))
    run.step()
    say(run, host="laptop.of-before")
    again = ms.open_run(run.path)
    again.step()
    assert not again.store.troubles()
    (tmp_path / "gate").write_text("through\n")
    assert again.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_a_runner_in_another_network_namespace_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    run = run_of(tmp_path, ms.Task("a", f"cat {tmp_path}/gate"))
    run.step()
    machine = told_by_runner(run)["machine"]
    say(run, host="host", machine=f"{machine.split()[0]} 1")
    again = ms.open_run(run.path)
    again.step()
    assert "on host, or in a container there" in again.store.troubles()["local"].reason
    say(run, machine=machine)
    (tmp_path / "gate").write_text("through\n")
    assert again.wait(timeout_s=60) is ms.RunStatus.COMPLETED
