"""The runner of local commands: it dies, is doubled, is copied, is lied to, and what commands leave running ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger import check_executions, starts, witnessed
from waiting import alive, wait_for

import matterstack as ms
from matterstack.core.attempts import Attempt, Refused, Submitted
from matterstack.operators.local.link import Link
from matterstack.operators.local.runner import journal, orphans, processes
from matterstack.operators.local.runner.control_groups import ControlGroups
from matterstack.operators.local.runner.messages import flaw
from tests.helpers.runners import kill_runner, kill_runner_once_told, runner_of

_WAIT_S = 120.0
#: Starts a process that has nothing of its attempt's any more, and writes its id into the file ``child``.
HIDDEN = f"""
    echo 'import os, time; os.closerange(0, 300); file = open("child", "w"); file.write(str(os.getpid())); file.close()
time.sleep(1000)' > hidden.py
    setsid env -i {sys.executable} hidden.py &
"""


class Held:
    """A run of one command that tells its process id, and ends when it is let go.

    Parameters
    ----------
    base : pathlib.Path
    before : str
        Of the command, before it tells.
    """

    def __init__(self, base: Path, before: str = "true", **settings: Any) -> None:
        self.base = base
        self.ledger = base / "ledger"
        os.mkfifo(base / "gate")
        command = f"{before}\necho $$ > {base}/part; mv {base}/part {base}/pid; read word < {base}/gate"
        flow = ms.Workflow([witnessed("x", command, self.ledger, **settings)])
        operators = {"local": ms.LocalOperator(max_active=2, kill_grace_s=0.2)}
        self.run = ms.initialize_run("w", flow, base_path=base, run_id="r", operators=operators)
        self.run.step()
        self.pid = self.read("pid")

    def read(self, name: str) -> int:
        """Return the process id that a file will hold."""
        return int(wait_for(lambda: (self.base / name).exists() and (self.base / name).read_text().strip(), name))

    def let_go(self) -> None:
        with open(self.base / "gate", "w") as gate:
            gate.write("go\n")


# -- the runner is killed --------------------------------------------------------------------

#: A busy machine may need more than the first until a command has begun.
_LIMITS_S = (1.5, 30.0)
#: Has a command write its process id into a file of its directory.
TELLS = "echo $$ > part; mv part pid"


def begun_within(base: Path, limit_s: float, command: str) -> tuple[ms.Run, int]:
    """Return a run of a command that tells, whose runner was killed, and its process id.

    That is 0 where its time limit was over before the runner was: then how it ended may not be known.
    """
    base.mkdir()
    task = ms.Task("x", command, resources=ms.Resources(walltime_s=limit_s))
    operators = {"local": ms.LocalOperator(kill_grace_s=0.2)}
    run = ms.initialize_run("w", ms.Workflow([task]), base_path=base, operators=operators)
    return run, kill_runner_once_told(run, run.path / "operators/local/0.x.1/pid", limit_s)


@pytest.mark.parametrize("clears", ["nothing", "its environment"])
def test_a_time_limit_is_kept_by_the_next_runner(tmp_path: Path, clears: str) -> None:
    command = f"{TELLS}; exec {'env -i ' if clears == 'its environment' else ''}sleep 1000"
    for limit_s in _LIMITS_S:
        over = time.monotonic() + limit_s
        run, pid = begun_within(tmp_path / str(limit_s), limit_s, command)
        if pid:
            break
    assert alive(pid) or time.monotonic() > over, "it goes on, where it took no longer until now"
    assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.FAILED
    (attempt,) = run.attempts.to_dict("records")
    assert attempt["status"] == "FAILED"
    assert attempt["reason"] == f"time limit: it was stopped after {limit_s:g} s"
    assert attempt["ended_at"] is not None
    assert not alive(pid)


def test_a_time_limit_is_kept_while_nobody_is_connected(tmp_path: Path) -> None:
    for limit_s in _LIMITS_S:
        over = time.monotonic() + limit_s
        run, pid = begun_within(tmp_path / str(limit_s), limit_s, f"trap '' TERM; {TELLS}; exec sleep 1000")
        if pid:
            break
    # A driver that asks once, and ends: what it has started stays for the limit.
    program = "import sys, matterstack as ms; print(ms.open_run(sys.argv[1]).step().live)"
    asked = subprocess.run([sys.executable, "-c", program, str(run.path)], capture_output=True, text=True)
    assert asked.stdout == "1\n" or time.monotonic() > over, asked.stderr
    wait_for(lambda: not alive(pid), "its time limit was lost")
    run.wait(timeout_s=_WAIT_S)
    assert run.attempts["reason"].iloc[0] == f"time limit: it was stopped after {limit_s:g} s"


def test_an_orphan_that_only_its_lock_shows_is_alive_and_can_be_cancelled(tmp_path: Path) -> None:
    closes = f"exec {processes.FIRST_FD}>&-"
    held = Held(tmp_path, f"env -i setsid bash -c '{closes}; echo $$ > {tmp_path}/child; exec sleep 1000' &")
    child = held.read("child")
    kill_runner(held.run)
    os.kill(held.pid, signal.SIGKILL)
    with open(held.run.path / "operators/local/journal.jsonl", "r+") as file:  # the same file, but without its start
        lines = [line for line in file if not line.startswith('["start"')]
        file.seek(0)
        file.truncate()
        file.writelines(lines)
    for _ in range(3):
        assert held.run.step().live == 1
    assert list(held.run.attempts["status"]) == ["RUNNING"]
    held.run.cancel(timeout_s=_WAIT_S)
    assert list(held.run.attempts["status"]) == ["CANCELLED"]
    assert not alive(child)


def test_what_an_orphan_leaves_is_stopped_when_its_first_process_is_over(tmp_path: Path) -> None:
    held = Held(tmp_path, f"setsid sh -c 'echo $$ > {tmp_path}/child; exec sleep 1000' &", retries=1)
    child = held.read("child")
    kill_runner(held.run)
    held.run.step()
    assert alive(child)
    (tmp_path / "child").unlink()
    held.let_go()
    second = wait_for(lambda: held.run.step() and (tmp_path / "child").exists() and held.read("child"), "no retry")
    assert not alive(child)
    assert held.run.attempts["status"].iloc[0] == "LOST"
    held.let_go()
    assert held.run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED
    assert not alive(second)


def killed_before_it_noted_the_start(base: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> ms.Run:
    """Return a run of one command with a retry, whose runner was killed between starting it and noting its id."""
    flow = ms.Workflow([witnessed("x", command, base / "ledger", retries=1)])
    run = ms.initialize_run("w", flow, base_path=base)
    monkeypatch.setenv("MATTERSTACK_CRASH_RUNNER", "kill:runner.started:1")
    run.step()
    monkeypatch.delenv("MATTERSTACK_CRASH_RUNNER")
    wait_for(lambda: not alive(runner_of(run)), "the runner was not killed")
    return run


@pytest.mark.parametrize("clears", ["nothing", "its environment"])
def test_what_a_command_left_is_not_taken_for_it_where_its_start_was_not_noted(
    tmp_path: Path, clears: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear = "env -i " if clears == "its environment" else ""
    left = f"{clear}setsid sh -c 'echo $$ >> {tmp_path}/left; exec sleep 1000' &"
    run = killed_before_it_noted_the_start(tmp_path, f"{left} until test -s {tmp_path}/left; do :; done", monkeypatch)
    assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED
    assert list(run.attempts["status"]) == ["LOST", "COMPLETED"]
    check_executions(run, tmp_path / "ledger")
    assert not any(alive(int(line)) for line in (tmp_path / "left").read_text().split())


def test_a_command_whose_start_was_not_noted_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "gate")
    command = f"setsid sleep 1000 & echo $$ > {tmp_path}/pid; read word < {tmp_path}/gate"
    run = killed_before_it_noted_the_start(tmp_path, command, monkeypatch)
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), "no start"))
    for _ in range(3):
        assert run.step().live == 1
    assert alive(pid)
    assert run.attempts["external_id"].iloc[0] == f"{pid}:{processes.start_time(pid)}"
    run.cancel(timeout_s=_WAIT_S)
    assert not alive(pid)


def test_cancel_ends_an_orphan_with_all_that_descends_from_it(tmp_path: Path) -> None:
    held = Held(tmp_path, f"trap '' TERM; cd {tmp_path}; {HIDDEN}")
    child = held.read("child")
    kill_runner(held.run)
    held.run.cancel(timeout_s=_WAIT_S)
    assert list(held.run.attempts["status"]) == ["CANCELLED"]
    assert not alive(child)
    assert not alive(held.pid)


class Claims:
    """Commands that hold the locks of claims, as a killed runner leaves them.

    Parameters
    ----------
    base : pathlib.Path
    count : int
    """

    def __init__(self, base: Path, count: int) -> None:
        self.processes = []
        self.attempts = []
        for number in range(count):
            directory = base / str(number)
            directory.mkdir()
            out = os.open(directory / "stdout.txt", os.O_WRONLY | os.O_CREAT)
            fcntl.flock(out, fcntl.LOCK_EX)
            self.processes.append(subprocess.Popen(["sleep", "1000"], pass_fds=[out], env={}))
            os.close(out)
            self.attempts.append((f"ms-{number}", directory.name, journal.Records()))

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Claims]:
    monkeypatch.chdir(tmp_path)  # as a runner works in the operator's directory
    made = Claims(tmp_path, 20)
    yield made
    made.close()


def test_many_orphans_are_found_in_one_pass_over_the_processes(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    listed = processes.processes
    monkeypatch.setattr(processes, "processes", lambda: passes.append(1) or listed())
    found = orphans.Orphans(ControlGroups())
    found.find(claims.attempts)
    assert len(found.known) == len(claims.processes)
    assert len(passes) == 1
    found.find(claims.attempts)
    assert len(passes) == 1, "those that are known are only looked at"
    found.stop([token for token, _, _ in claims.attempts], "cancelled")
    assert len(passes) == 2
    for process in claims.processes:
        assert process.wait(timeout=_WAIT_S) == -signal.SIGTERM
    assert len(found.find(claims.attempts)) == len(claims.processes)
    assert len(passes) == 3
    assert found.known == {}


# -- two runners -----------------------------------------------------------------------------


class Eager(ms.LocalOperator):
    """Hands over all at once, so that the runner has a queue."""

    def max_live(self, directory: Path) -> int:
        return 100


@pytest.mark.parametrize("how", ["removed", "replaced"])
@pytest.mark.parametrize("output", ["kept", "rotated"])
def test_a_runner_whose_lock_file_is_gone_starts_nothing_more(tmp_path: Path, how: str, output: str) -> None:
    ledger = tmp_path / "ledger"
    os.mkfifo(tmp_path / "gate")
    rotate = "mv stdout.txt old.txt" if output == "rotated" else "true"
    first = f"{rotate}; touch {tmp_path}/began; read word < {tmp_path}/gate"
    flow = ms.Workflow([witnessed("a", first, ledger), *(witnessed(f"b{n}", "true", ledger) for n in range(4))])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": Eager(max_active=1)})
    run.step()
    wait_for((tmp_path / "began").exists, "it did not start")
    old = runner_of(run)
    lock = run.path / "operators/local/runner.lock"
    lock.unlink()
    if how == "replaced":
        lock.touch()
    other = ms.open_run(run.path, operators={"local": ms.LocalOperator(max_active=1)})

    def over() -> bool:
        other.step()
        return (other.tasks["status"] == "COMPLETED").sum() == 4

    wait_for(over, "the other runner does not take over")
    assert runner_of(run) != old
    assert other.tasks.loc["0.a", "status"] == "SUBMITTED"
    with open(tmp_path / "gate", "w") as gate:
        gate.write("go\n")
    wait_for(lambda: not alive(old), "the old runner does not leave")
    assert "starts nothing more" in (run.path / "operators/local/runner.log").read_text()
    assert other.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED
    assert list(other.attempts["status"]) == ["COMPLETED"] * 5, "how the first one ended was journalled"
    check_executions(other, ledger)


class Kept(ms.LocalOperator):
    """Says that it has handed attempts over, and keeps them."""

    handed: Sequence[Attempt] = ()

    def submit(self, attempts: Sequence[Attempt]) -> dict[str, Submitted | Refused]:
        self.handed = attempts
        return {attempt.token: Submitted() for attempt in attempts}


def test_what_a_killed_driver_had_sent_is_heard_before_another_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = Kept()
    flow = ms.Workflow([witnessed("x", "true", tmp_path / "ledger")])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": operator})
    run.step()
    (attempt,) = operator.handed
    directory = run.path / "operators/local"
    killed, other = Link(directory, 1), Link(directory, 1)
    other.ask("ask", [])
    pid = runner_of(run)
    os.kill(pid, signal.SIGSTOP)
    other._send({"request": "ask", "number": 0, "attempts": []})  # so that it is the first to be heard
    killed.start([operator._job(attempt)])
    wait = Link._await

    def go_on(link: Link, event: int, deadline: float) -> None:
        os.kill(pid, signal.SIGCONT)
        wait(link, event, deadline)

    monkeypatch.setattr(Link, "_await", go_on)
    other.ask("cancel", [attempt])
    assert other.known[attempt.token]["event"] == "ended", "not absent: it would be started still"
    other.ask("ask", [])
    assert starts(tmp_path / "ledger").total() == 0


def test_who_comes_while_a_runner_leaves_is_heard_by_it_or_by_the_next(tmp_path: Path) -> None:
    for passed_ms in range(0, 24, 2):
        link = Link(tmp_path, 1)
        link.ask("ask", [])
        link.close()  # it has nothing to do any more, and leaves
        time.sleep(passed_ms / 1000)  # what is tested: at any instant


# -- what commands leave ---------------------------------------------------------------------

STRAYS = {
    "session in a session": """
        cat > stray.sh <<END
        setsid sh -c 'echo \\$\\$ > child; exec sleep 1000' &
        exec sleep 1000
END
        setsid sh stray.sh &""",
    "cleared": "setsid env -i sh -c 'echo $$ > child; exec sleep 1000' &",
    "hidden": HIDDEN,
    "stopped": """
        setsid sh -c 'echo $$ > child; exec sleep 1000' &
        until [ -s child ]; do :; done; kill -STOP $(cat child)""",
}


@pytest.mark.parametrize("kind", STRAYS)
def test_what_a_command_leaves_is_gone_when_it_ends_and_before_the_next_attempt(tmp_path: Path, kind: str) -> None:
    command = (
        '[ "$MATTERSTACK_ATTEMPT" = 1 ] || { kill -0 "$(cat ../0.x.1/child)" && exit 7; exit 0; }\n'
        f"{STRAYS[kind]}\nuntil [ -s child ]; do :; done; exit 1"
    )
    flow = ms.Workflow([ms.Task("x", command, retries=1)])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(max_active=1)})
    assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED
    assert list(run.attempts["exit_code"]) == [1, 0]
    assert not alive(int((run.task_directory("x", attempt=1) / "child").read_text()))


@pytest.mark.parametrize("kind", ["session in a session", "cleared"])
def test_what_a_command_left_is_gone_when_it_is_cancelled(tmp_path: Path, kind: str) -> None:
    other = ms.Task("other", "exec sleep 1000")  # it runs beside
    flow = ms.Workflow([ms.Task("x", f"{STRAYS[kind]}\nexec sleep 1000"), other])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(max_active=2)})
    run.step()
    child = run.task_directory("x") / "child"
    pid = int(wait_for(lambda: child.exists() and child.read_text().strip(), "it did not start"))
    run.cancel(timeout_s=_WAIT_S)
    assert run.status is ms.RunStatus.CANCELLED
    assert list(run.attempts["status"]) == ["CANCELLED", "CANCELLED"]
    assert not alive(pid)


def test_what_one_command_leaves_is_no_reason_to_stop_that_of_another(tmp_path: Path) -> None:
    held = Held(tmp_path, f"setsid sh -c 'echo $$ > {tmp_path}/child; exec sleep 1000' & true")
    child = held.read("child")
    short = ms.Workflow([ms.Task("x", "setsid sleep 1000 &")])
    run = ms.initialize_run("w", short, base_path=tmp_path / "other")
    assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED
    assert alive(child)
    held.let_go()
    assert held.run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED
    assert not alive(child)


INNER = """if True:
    import os, sys
    import matterstack as ms
    command = f"echo $$ > {sys.argv[1]}.part; mv {sys.argv[1]}.part {sys.argv[1]}; exec sleep 1000"
    run = ms.initialize_run("inner", ms.Workflow([ms.Task("y", command)]), base_path=os.path.dirname(sys.argv[1]))
    run.step()
    if sys.argv[2] == "waits":
        run.wait()
    while not os.path.exists(sys.argv[1]):
        os.sched_yield()
"""


@pytest.mark.parametrize("way", ["it ends", "it is cancelled", "its runner is killed, and it is cancelled"])
def test_commands_of_a_run_within_a_task_end_with_that_task(tmp_path: Path, way: str) -> None:
    place = tmp_path / "inner"
    command = [sys.executable, "-c", INNER, str(place), "ends" if way == "it ends" else "waits"]
    run = ms.initialize_run("outer", ms.Workflow([ms.Task("x", command)]), base_path=tmp_path)
    if way == "it ends":
        assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED
    else:
        run.step()
    pid = int(wait_for(lambda: place.exists() and place.read_text().strip(), "it did not start"))
    if way != "it ends":
        if "killed" in way:
            kill_runner(run)
        assert alive(pid)
        run.cancel(timeout_s=_WAIT_S)
        assert run.status is ms.RunStatus.CANCELLED
    assert not alive(pid)
    (inner,) = (tmp_path / "workspaces/inner/runs").glob("*/operators/local/runner.lock")
    assert not alive(json.loads(inner.read_text())["pid"])


# -- a copy ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shows", ["its environment", "its lock alone"])
def test_a_file_that_got_the_inode_of_a_removed_one_is_not_taken_for_it(tmp_path: Path, shows: str) -> None:
    """An attempt has removed its stdout.txt and ended; the file system gives that inode to the next attempt's."""
    new = tmp_path / "run" / "0.new.1"
    new.mkdir(parents=True)
    with open(new / "stdout.txt", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        mark = processes.file_mark(os.fstat(file.fileno()))
        names = {"MATTERSTACK_TOKEN": "ms-new", "MATTERSTACK_CLAIM": mark} if shows == "its environment" else {}
        command = subprocess.Popen(["/bin/sleep", "1000"], env=names, pass_fds=[file.fileno()])
    try:
        gone = processes.Traces("ms-gone", {mark}, "0.gone.1")
        assert processes.search([gone]) == {"ms-gone": {}}
        found = processes.search([gone, processes.Traces("ms-new", {mark}, "0.new.1")])
        assert found["ms-gone"] == {}
        assert list(found["ms-new"]) == [command.pid]
        (new / "stdout.txt").unlink()
        new.parent.rename(tmp_path / "moved")
        assert list(processes.search([processes.Traces("ms-new", {mark}, "0.new.1")])["ms-new"]) == [command.pid]
    finally:
        command.kill()
        command.wait()


@pytest.mark.parametrize("runner", ["lives", "killed"])
@pytest.mark.parametrize("output", ["kept", "rotated"])
def test_cancelling_a_copy_leaves_the_commands_of_the_original_alone(tmp_path: Path, runner: str, output: str) -> None:
    held = Held(tmp_path, "mv stdout.txt old.txt" if output == "rotated" else "true")
    copy = tmp_path / "copy"
    shutil.copytree(held.run.path, copy)
    if runner == "killed":
        kill_runner(held.run)
    ms.trust(copy)
    copied = ms.open_run(copy)
    copied.cancel(timeout_s=_WAIT_S)
    assert list(copied.attempts["status"]) == ["CANCELLED"]
    assert alive(held.pid)
    assert held.run.step().live == 1
    held.let_go()
    status = held.run.wait(timeout_s=_WAIT_S)
    assert status is (ms.RunStatus.COMPLETED if runner == "lives" else ms.RunStatus.FAILED)
    assert starts(held.ledger).total() == 1
    assert list(held.run.attempts["status"]) == ["COMPLETED" if runner == "lives" else "LOST"]


IN_A_CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c"]
#: A command that holds no lock; when it runs, its runner is killed, and the container goes on until it is told to end.
BEGIN = """
import json, os, signal, sys
import matterstack as ms
run = ms.open_run(sys.argv[1])
for _ in run.ticks(timeout_s=120):
    if list(run.attempts["status"]) == ["RUNNING"] and os.path.exists(sys.argv[2]):
        break
os.kill(json.loads((run.path / "operators/local/runner.lock").read_text())["pid"], signal.SIGKILL)
print("began", flush=True)
sys.stdin.read()
"""
LOOK = """
import sys
import matterstack as ms
run = ms.open_run(sys.argv[1])
for _ in run.ticks(timeout_s=float(sys.argv[2])):
    pass
row = run.attempts.iloc[0]
print(row["status"], row["reason"])
"""


def look_from_another_container(run: ms.Run, seconds: float) -> str:
    command = [*IN_A_CONTAINER, LOOK, str(run.path), str(seconds)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_command_in_another_container_is_not_called_gone_because_it_is_not_seen(tmp_path: Path) -> None:
    if subprocess.run([*IN_A_CONTAINER, ""], check=False, capture_output=True).returncode:
        pytest.skip("no process namespace can be made here")
    running = tmp_path / "running"
    hides = f"exec bash -c 'exec 198>&- >/dev/null 2>&1; touch {running}; sleep 1000; true'"
    run = ms.initialize_run("w", ms.Workflow([ms.Task("t", hides, retries=0)]), base_path=tmp_path)
    container = subprocess.Popen(
        [*IN_A_CONTAINER, BEGIN, str(run.path), str(running)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert container.stdout is not None
        assert container.stdout.readline() == b"began\n"
        said = look_from_another_container(run, 1)
        assert said.startswith("RUNNING it was started in another container")
        assert "moving stdout.txt out of 0.t.1" in said
    finally:
        container.communicate()
    output = run.path / "operators/local/0.t.1/stdout.txt"
    output.rename(output.with_name("old.txt"))
    assert look_from_another_container(run, _WAIT_S).startswith("LOST")


# -- the journal -----------------------------------------------------------------------------

TOKEN = "ms-0123"
END = {
    "event": "ended",
    "token": TOKEN,
    "exit_code": 0,
    "reason": None,
    "note": None,
    "external_id": "7:8",
    "started_at": 1.0,
    "ended_at": 2.0,
}
_NUMBERS = [10**30, -(10**30), 1e300, float("nan"), float("inf"), True, -1, 0, 1.5, None]
_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([TOKEN, *_NUMBERS]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(END)) | st.text(), inner),
    max_leaves=4,
)
_RECORDS = (
    st.tuples(st.sampled_from(["claim", "start", "end", "free"]), st.just(TOKEN), _VALUES, _VALUES, _VALUES, _VALUES)
    .map(list)
    .flatmap(lambda whole: st.integers(0, 6).map(lambda length: whole[:length]))
)
_ENDS = st.dictionaries(st.sampled_from(list(END)), _VALUES).map(lambda changed: ["end", TOKEN, END | changed])


@settings(max_examples=60)
@given(st.lists(_VALUES | _RECORDS | _ENDS, max_size=4))
def test_whatever_a_line_holds_what_is_taken_from_it_is_whole(lines: list[Any]) -> None:
    records = journal.Records()
    for line in lines:
        records.take(json.dumps(line).encode(), TOKEN, "1:2")
    assert records.end is None or (flaw(records.end) is None and records.end["token"] == TOKEN)
    assert type(records.pid) is int
    assert 0 <= records.pid <= 1 << 22
    assert records.limit_s is None or 0 <= records.limit_s < 1e13
    for value in (*records.start, records.started_at or 0.0, records.grace_s):
        assert 0 <= value < 1e17
    json.dumps(orphans.Orphan(TOKEN, "nowhere", records).message(), allow_nan=False).encode()


@given(st.binary())
def test_whatever_bytes_a_line_has_nothing_is_taken_from_them(line: bytes) -> None:
    records = journal.Records()
    records.take(line, TOKEN, "1:2")
    assert (records.claimed, records.pid, records.end) == (False, 0, None)


LIES: list[dict[str, Any]] = [
    {"exit_code": 10**30},
    {"exit_code": "zero"},
    {"ended_at": 1e300},
    {"ended_at": None},
    {"started_at": "x"},
    {"reason": "\ud800"},
    {"reason": {"a": 1}},
    {"event": "begun"},
]
BAD: list[Any] = [
    ["end", TOKEN],
    ["end", TOKEN, "x"],
    ["start", TOKEN, 1],
    ["start", TOKEN, 10**30, 1, 1, 1.0],
    ["start", TOKEN, -1, 0, 1 << 50, 1.0],
    ["end", TOKEN, {"event": "ended"}],
    ["end", TOKEN, {**END, "token": "ms-another"}],
    *(["end", TOKEN, END | lie] for lie in LIES),
    {"end": TOKEN},
]


def test_lines_that_are_no_records_disturb_neither_their_attempt_nor_another(tmp_path: Path) -> None:
    held = Held(tmp_path)
    token = held.run.attempts["token"].iloc[0]
    kill_runner(held.run)
    lines = [json.dumps(line) for line in BAD]
    with open(held.run.path / "operators/local/journal.jsonl", "a") as file:
        file.write("\n".join([*lines, f'["x","{TOKEN}",' + "[" * 200_000, ""]).replace(TOKEN, token))
    for _ in range(3):
        assert held.run.step().live == 1
    assert held.run.attempts["reason"].iloc[0].startswith("it goes on although")
    assert held.run.store.troubles() == {}
    held.let_go()
    held.run.wait(timeout_s=_WAIT_S)
    assert list(held.run.attempts["status"]) == ["LOST"]


@pytest.fixture
def long_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> journal.Journal:
    """Return a journal of many attempts, the last of which has ended, read in blocks of some lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(journal, "_BLOCK", 1000)
    lines = [f'["claim","ms-{number:04x}"]\n' for number in range(5000)]
    lines.insert(2000, f'["end","{TOKEN}",{json.dumps("x" * 5000)}]\n')  # no record is that long
    lines.append(f'["claim","{TOKEN}"]\n["end","{TOKEN}",{json.dumps(END)}]\n')
    Path("journal.jsonl").write_text("".join(lines))
    return journal.Journal()


def test_a_long_journal_is_read_once(long_journal: journal.Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    size = Path("journal.jsonl").stat().st_size
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *what: read.append(len(data := pread(*what))) or data)
    assert long_journal.recorded([TOKEN])[TOKEN].end == END
    assert long_journal.recorded(["ms-0007", "ms-unheard-of"])["ms-0007"].claimed
    assert sum(read) == 2 * size, "what is asked first is searched for"
    assert max(read) <= 1000
    read.clear()
    assert long_journal.recorded([TOKEN])[TOKEN].end == END
    assert not long_journal.recorded(["ms-unheard-of"])["ms-unheard-of"].claimed
    assert read == [], "and kept"
    while not long_journal.read_on():
        pass
    assert size <= sum(read) < 1.5 * size
    read.clear()
    searched = []
    for number in range(20):
        long_journal.claim(f"ms-new{number}", "1:2", None, 5.0)
        assert long_journal.read_on()
        assert read == [], "what is its own it knows"
        assert not long_journal.has_claimed(f"ms-never{number}")
        searched.append(bool(read))
        read.clear()
    assert sum(searched) <= 1, "what was never claimed is known without reading, but for one that looks like another"
    assert long_journal.has_claimed("ms-new3")
    assert long_journal.has_claimed("ms-0007")


def test_what_another_runner_appends_is_seen(long_journal: journal.Journal) -> None:
    while not long_journal.read_on():
        pass
    assert not long_journal.has_claimed("ms-other")
    other = journal.Journal()
    other.claim("ms-other", "1:2", None, 5.0)
    long_journal.claim("ms-own", "1:3", None, 5.0)
    while not long_journal.read_on():
        pass
    assert long_journal.has_claimed("ms-other")
    assert long_journal.has_claimed("ms-own")
    other.write_later("free", "ms-other", "")
    other.write_rest()
    assert not long_journal.recorded(["ms-other"])["ms-other"].claimed


def test_a_journal_that_is_cut_is_read_again(long_journal: journal.Journal) -> None:
    while not long_journal.read_on():
        pass
    os.truncate("journal.jsonl", 100)
    while not long_journal.read_on():
        pass
    assert long_journal.recorded([TOKEN])[TOKEN].end is None
    long_journal.claim(TOKEN, "1:2", None, 5.0)
    assert long_journal.has_claimed(TOKEN)


# -- a runner that lies ----------------------------------------------------------------------


class Liar:
    """A process that holds runner.lock and answers as a test says.

    Parameters
    ----------
    directory : pathlib.Path
        Of the operator.
    answer : callable
        From a token and its directory to what is said of it: a message, or bytes.
    """

    def __init__(self, directory: Path, answer: Callable[[str, str], Any]) -> None:
        directory.mkdir(exist_ok=True)
        self.answer = answer
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address = f"matterstack-test-{os.getpid()}-{time.monotonic_ns()}"
        self.listener.bind(f"\0{address}")
        self.listener.listen()
        self.lock = os.open(directory / "runner.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        holder = {"machine": processes.machine(), "host": socket.gethostname(), "address": address, "pid": os.getpid()}
        os.write(self.lock, json.dumps(holder).encode())
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rwb", buffering=0) as stream:
            while line := stream.readline():
                request = json.loads(line)
                answers = []
                for attempt in request.get("attempts", []):
                    said = self.answer(*attempt)
                    answers.append(said if isinstance(said, bytes) else json.dumps(said).encode())
                if "number" in request:
                    answers.append(json.dumps({"event": "answered", "number": request["number"]}).encode())
                connection.sendall(b"".join(answer + b"\n" for answer in answers))

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        os.close(self.lock)


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_nonsense_about_one_attempt_is_the_trouble_of_that_one_alone(tmp_path: Path, lie: dict[str, Any]) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true"), ms.Task("b", "true")]), base_path=tmp_path)
    liar = Liar(
        run.path / "operators/local",
        lambda token, directory: {**END, "exit_code": 3, **(lie if directory == "0.a.1" else {}), "token": token},
    )
    try:
        run.step()
        run = ms.open_run(run.path)  # what it did not hand over itself it asks about
        run.step()
        run.step()
        assert run.store.troubles() == {}
        assert run.tasks.loc["0.b", "reason"] == "exit code 3"
        assert run.tasks.loc["0.a", "status"] == "SUBMITTED"
        assert "makes no sense" in str(run.explain())
    finally:
        liar.close()


@pytest.mark.parametrize("said", [b"[]", b"{", b'{"event":"ended"}', b'"x"', b"[" * 100_000, b"\xff"])
def test_what_is_no_message_is_told_in_words(tmp_path: Path, said: bytes) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    liar = Liar(run.path / "operators/local", lambda token, directory: said)
    try:
        run.step()
        run = ms.open_run(run.path)
        run.step()
        assert "which no runner says" in run.store.troubles()["local"].reason
        assert run.tasks.loc["0.a", "status"] == "SUBMITTED"
    finally:
        liar.close()
