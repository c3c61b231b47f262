"""A daemon over a workspace: real processes, killed at random, and runs that are bad in every way we know."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import slurm_lab
from daemon_lab import daemon, make
from ledger import check_executions, starts, witnessed
from waiting import alive, wait_for

import matterstack as ms
from matterstack.daemon.turns import Turns
from matterstack.errors import RunLockedError, UntrustedRunError
from matterstack.storage.limits import Ledger
from matterstack.storage.machine import MachineLedger
from matterstack.storage.run_lock import RunLock

CAMPAIGNS = """
import os
import matterstack as ms

class Raises(ms.Campaign):
    def initial_state(self): return {"n": 0}
    def plan(self, state):
        if state["n"]: raise ValueError("no more luck")
        return ms.Workflow([ms.Task("a", "true")])
    def analyze(self, state, results): return {"n": 1}

class Dies(Raises):
    def plan(self, state):
        if state["n"]: os._exit(7)
        return ms.Workflow([ms.Task("a", "true")])

class Beside(Raises):
    def plan(self, state):
        if state["n"] == 3: return None
        return ms.Workflow([ms.Task("a", "true")])
    def analyze(self, state, results): return {"n": state["n"] + 1}
"""


def ask() -> ms.Workflow:
    return ms.Workflow([ms.Task("ask", operator="human", instructions="Is it blue?")])


HUMAN = {"human": ms.HumanOperator()}


@pytest.fixture
def campaigns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A module that lies beside the notebook, and in no path that the daemon has of its own."""
    folder = tmp_path / "beside"
    folder.mkdir()
    (folder / "daemon_campaigns.py").write_text(CAMPAIGNS)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    import daemon_campaigns  # type: ignore[import-not-found]

    yield daemon_campaigns
    del sys.modules["daemon_campaigns"]


def test_all_runs_go_on_and_bad_ones_stop_nobody(tmp_path: Path, campaigns: object) -> None:
    ledger = tmp_path / "ledger"
    good = make(tmp_path, "good", ms.Workflow([witnessed(f"t{i}", "true", ledger) for i in range(5)]))
    fails = make(tmp_path, "fails", ms.Workflow([ms.Task("a", "exit 3")]))
    raises = make(tmp_path, "raises", campaigns.Raises())  # type: ignore[attr-defined]
    dies = make(tmp_path, "dies", campaigns.Dies())  # type: ignore[attr-defined]
    beside = make(tmp_path, "beside", campaigns.Beside())  # type: ignore[attr-defined]
    chain = [ms.Task("first", "true"), witnessed("p", "true", ledger, dependencies=["first"])]
    paused = make(tmp_path, "paused", ms.Workflow(chain))
    paused.step()
    paused.pause()
    asks = make(tmp_path, "asks", ask(), operators=HUMAN)
    stranger = make(tmp_path, "stranger", ms.Workflow([witnessed("s", "true", ledger)]))
    config = json.loads((stranger.path / "config.json").read_text())
    (stranger.path / "config.json").write_text(json.dumps({**config, "key": "another"}))
    held = make(tmp_path, "held", ms.Workflow([ms.Task("a", "true")]))
    lock = RunLock(held.path / "run.lock")
    lock.acquire()
    with daemon(tmp_path) as it:
        wait_for(lambda: good.status is ms.RunStatus.COMPLETED and fails.status is ms.RunStatus.FAILED)
        wait_for(lambda: raises.status is ms.RunStatus.PAUSED and beside.status is ms.RunStatus.COMPLETED)
        wait_for(lambda: "asks: RUNNING, waits for people" in it.log and "is left to who steps it" in it.log)
        wait_for(lambda: "its worker ended without a word: with exit code 7" in it.log)
        wait_for(lambda: it.log.count("raises: PAUSED: ") == 1 and "no more luck" in it.log)
        wait_for(lambda: "stranger: is not trusted here" in it.log and "paused: PAUSED" in it.log)
        assert "Traceback" not in it.log
        assert paused.counts.completed == 0
        # What is asked, begun, let go or made meanwhile is taken up.
        lock.release()
        paused.resume()
        asks.respond("ask", {"answer": "yes"})
        later = make(tmp_path, "later", ms.Workflow([witnessed("l", "true", ledger)]))
        for run in (held, paused, asks, later):
            wait_for(lambda run=run: run.status is ms.RunStatus.COMPLETED)
        assert it.end() == 0
        assert "ended by SIGTERM" in it.log
    assert stranger.status is ms.RunStatus.PENDING
    config["environment"]["python"] = "/opt/strange/python"
    (stranger.path / "config.json").write_text(json.dumps({**config, "key": "another"}))
    with pytest.raises(UntrustedRunError, match="a daemon would step it with /opt/strange/python"):
        ms.open_run(stranger.path).step()
    assert dies.status is ms.RunStatus.RUNNING
    assert sorted(starts(ledger).values()) == [1] * 7


def test_an_answer_in_the_directory_is_noticed(tmp_path: Path) -> None:
    asks = make(tmp_path, "asks", ask(), operators=HUMAN)
    with daemon(tmp_path) as it:
        wait_for(lambda: "waits for people" in it.log)
        (request,) = ms.inbox("w", tmp_path)
        (request.directory / "response.json").write_text("[1")  # refused, and then mended in its place
        wait_for(lambda: (request.directory / "response.errors.md").exists())
        (request.directory / "response.json").write_text("{}")
        wait_for(lambda: asks.status is ms.RunStatus.COMPLETED)


@pytest.mark.parametrize("seed", range(2))
def test_kills_double_nothing_and_lose_nothing(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    ledger = [tmp_path / f"ledger{i}" for i in range(3)]
    runs = [
        make(
            tmp_path, f"r{i}", ms.Workflow([witnessed(f"t{k}", "sleep 0.05", ledger[i], retries=3) for k in range(30)])
        )
        for i in range(3)
    ]

    def over() -> bool:
        return all(run.status is ms.RunStatus.COMPLETED for run in runs)

    for _ in range(6):
        with daemon(tmp_path) as it:
            select.poll().poll(dice.uniform(200, 1500))
            for pid in it.workers() + it.keepers():
                if dice.random() < 0.5:
                    os.kill(pid, signal.SIGKILL)
            it.end(signal.SIGKILL)
    with daemon(tmp_path):
        wait_for(over)
    for run, witness in zip(runs, ledger, strict=True):
        check_executions(run, witness)


def test_the_end_of_a_daemon_ends_its_workers(tmp_path: Path) -> None:
    make(tmp_path, "long", ms.Workflow([ms.Task(f"t{i}", "sleep 0.2") for i in range(500)]))
    with daemon(tmp_path) as it:
        found: list[int] = []
        wait_for(lambda: found.extend(it.workers()) or found)
        worker = found[0]
        it.end(signal.SIGKILL)
        wait_for(lambda: not alive(worker))
    ms.open_run(tmp_path / "workspaces/w/runs/long").cancel()


def test_a_workspace_that_vanishes_holds_up_no_other(tmp_path: Path) -> None:
    there = make(tmp_path, "r", ask(), operators=HUMAN)
    away = ms.initialize_run("v", ask(), operators=HUMAN, base_path=tmp_path, run_id="r")
    place = tmp_path / "workspaces"
    with daemon(tmp_path, "v") as it:
        wait_for(lambda: it.log.count("waits for people") == 2)
        (place / "v").rename(tmp_path / "away")
        wait_for(lambda: "v: it cannot be looked at" in it.log)
        there.respond("ask", {})
        wait_for(lambda: there.status is ms.RunStatus.COMPLETED)
        (tmp_path / "away").rename(place / "v")
        away.respond("ask", {})
        wait_for(lambda: away.status is ms.RunStatus.COMPLETED)
        assert it.end() == 0


def test_the_turn_of_a_run_that_waits_for_a_limit_is_seen_once_where_something_is_free(tmp_path: Path) -> None:
    def run_of(name: str, resource: str) -> ms.Run:
        task = ms.Task("t", operator="human", instructions="?", resources=ms.Resources(named={resource: 1}))
        return make(tmp_path, name, ms.Workflow([task]), operators=HUMAN)

    turns = Turns(tmp_path / "workspaces/w")
    assert turns.come() == set()
    ms.set_limits("w", base_path=tmp_path, furnace=1, license=1)
    one, two, other = run_of("one", "furnace"), run_of("two", "furnace"), run_of("other", "license")
    assert [run.step().submitted for run in (one, two, other)] == [1, 0, 1]
    assert turns.come() == set()
    one.respond("t", {})
    one.step()
    assert turns.come() == {"two"}
    assert turns.come() == set()
    with closing(sqlite3.connect(tmp_path / "workspaces/w/limits.sqlite")) as connection:
        connection.execute("INSERT INTO waiting SELECT 'x', place, 0, name, wants, priority, 0, 'x', turn FROM waiting")
        connection.commit()
    assert turns.come() == {"two"}, "what nobody of us wrote counts for nothing"
    (tmp_path / "workspaces/w/limits.sqlite").write_bytes(b"damaged")
    assert turns.come() == set()


#: Whatever a run waits for, it is not stepped because some time is over.
ONLY_WHEN_SEEN = """
from matterstack.daemon.watched_run import WatchedRun
kept = WatchedRun._wait
def wait(run, *given):
    said = kept(run, *given)
    run.due_at = float("inf")
    return said
WatchedRun._wait = wait
"""


def test_a_run_is_stepped_when_its_turn_comes(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    task = ms.Task("t", operator="human", instructions="?", resources=ms.Resources(named={"furnace": 1}))
    holds, waits = (make(tmp_path, name, ms.Workflow([task]), operators=HUMAN) for name in ("holds", "waits"))
    holds.step()
    holds.pause()  # so the daemon does not step it
    with daemon(tmp_path, quick=ONLY_WHEN_SEEN) as it:
        wait_for(lambda: "waits: RUNNING" in it.log and not it.workers())
        assert waits.attempts.empty
        holds.respond("t", {})
        holds.resume()
        with contextlib.suppress(RunLockedError):  # the daemon has seen that, and steps it just now
            holds.step()
        wait_for(lambda: len(waits.attempts) == 1)


def test_one_daemon_a_workspace(tmp_path: Path) -> None:
    make(tmp_path, "asks", ask(), operators=HUMAN)
    with daemon(tmp_path) as it:
        wait_for(lambda: "steps the runs of" in it.log)
        with daemon(tmp_path) as other:
            assert other.process.wait(timeout=180) == 75
            assert f"daemon of yours steps the runs of {tmp_path}/workspaces/w (pid {it.process.pid} " in other.log
            assert "tick" not in other.log
        assert it.end(signal.SIGINT) == 0


def test_a_long_command_is_not_asked_about_but_looked_at(tmp_path: Path) -> None:
    run = make(tmp_path, "r", ms.Workflow([ms.Task("a", "sleep 600")]))
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "matterstack.daemon.worker", str(run.path), str(writer)]
    subprocess.run(command, check=True, timeout=180, pass_fds=(writer,), stdin=(idle := os.pipe())[0])
    said = json.loads(os.read(reader, 1 << 16))
    for descriptor in (reader, writer, *idle):
        os.close(descriptor)
    assert said["waits_for"] == "work"
    assert said["look_again_s"] == 600
    assert list(said["watched"]) == [str(run.path / "operators/local/journal.jsonl")]
    with daemon(tmp_path) as it:  # and once it was killed by somebody, that is seen
        wait_for(lambda: "r: RUNNING" in it.log)  # its worker has ended
        (known,) = wait_for(lambda: list(run.attempts["external_id"].dropna()))
        os.killpg(int(known.partition(":")[0]), signal.SIGKILL)
        wait_for(lambda: run.status is ms.RunStatus.FAILED)


def test_a_worker_whose_run_was_moved_meanwhile_says_so(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "matterstack.daemon.worker", str(tmp_path / "gone"), str(writer)]
    done = subprocess.run(command, timeout=180, pass_fds=(writer,), stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(os.read(reader, 1 << 16))["error"].startswith("RunNotFoundError: no run at ")
    for descriptor in (reader, writer):
        os.close(descriptor)


@pytest.mark.parametrize("of", ["workspace", "machine"])
def test_a_worker_keeps_the_place_of_a_run_that_waits_until_it_is_stepped_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    named = {"named": {"furnace": 1}} if of == "workspace" else {}
    flow = ms.Workflow([ms.Task("t", "sleep 300", resources=ms.Resources(**named))])
    operators = {"local": ms.LocalOperator(cpus=None if named else 1)}
    holds, waits = (make(tmp_path, name, flow, operators=operators) for name in ("holds", "waits"))
    assert holds.step().submitted == 1
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "matterstack.daemon.worker", str(waits.path), str(writer)]
    subprocess.run(command, timeout=180, check=True, pass_fds=(writer,), stdin=subprocess.DEVNULL)
    for descriptor in (reader, writer):
        os.close(descriptor)
    ledger = Ledger(tmp_path / "workspaces/w") if named else MachineLedger()
    (waiter,) = ledger.standing().waiters
    assert waiter.holder.run_id == "waits"
    assert waiter.seen_at > holds.attempts["submitted_at"].iloc[0].timestamp() + 40
    holds.cancel().wait(timeout_s=120)


def test_a_round_for_cron(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    done = make(tmp_path, "done", ms.Workflow([witnessed("t", "true", ledger)]))
    asks = make(tmp_path, "asks", ask(), operators=HUMAN)
    with daemon(tmp_path, "--once", "--log", str(tmp_path / "log")) as it:
        assert it.process.wait(timeout=180) == 0
    assert done.status is ms.RunStatus.COMPLETED
    assert asks.status is ms.RunStatus.RUNNING
    assert (tmp_path / "log").read_text() == it.log


def test_a_name_that_somebody_gave_a_run_says_nothing_in_the_log(tmp_path: Path) -> None:
    run = make(tmp_path, "r", ask(), operators=HUMAN)
    run.path.rename(run.path.with_name("r\x1b[2J\udcff\n2026-11-30 18:00:00,000 INFO all is well"))
    with daemon(tmp_path, "--once", "--log", str(tmp_path / "log")) as it:
        assert it.process.wait(timeout=180) == 0
    assert (tmp_path / "log").read_text() == it.log
    assert it.log.count("\n") == 3, it.log
    assert "/runs/r\\x1b[2J\\udcff\\n2026-11-30 18:00:00,000 INFO all is well: RUNNING, waits for people" in it.log


def test_commands_run_in_what_the_run_was_made_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"OMP_NUM_THREADS": "3", "MY_POTENTIALS": "/pp", "MY_TOKEN": "hush", "OTHER": "x"}.items():
        monkeypatch.setenv(name, value)
    command = 'echo "$OMP_NUM_THREADS $MY_POTENTIALS $MY_TOKEN $OTHER" > said'
    config = {"environment": ["MY_*", "MY_TOKEN"]}
    run = make(tmp_path, "r", ms.Workflow([ms.Task("a", command, outputs=["said"])]), config=config)
    assert "hush" not in (run.path / "config.json").read_text()
    for name in ("OMP_NUM_THREADS", "MY_POTENTIALS", "MY_TOKEN"):
        monkeypatch.delenv(name)
    with daemon(tmp_path) as it:
        wait_for(lambda: "the variable MY_TOKEN is not set" in it.log)
        assert run.status is ms.RunStatus.PENDING
    with daemon(tmp_path, MY_TOKEN="whisper"):
        wait_for(lambda: run.status is ms.RunStatus.COMPLETED)
    assert (run.path / "operators/local/0.a.1/said").read_text() == "3 /pp whisper \n"


def test_another_environment_is_refused_until_somebody_says_so(tmp_path: Path) -> None:
    gone = make(tmp_path, "gone", ms.Workflow([ms.Task("a", "true")]))
    older = make(tmp_path, "older", ms.Workflow([ms.Task("a", "true")]))
    for run, changes in ((gone, {"python": "/opt/gone/bin/python"}), (older, {"packages": {"pandas": "0.1"}})):
        config = json.loads((run.path / "config.json").read_text())
        config["environment"].update(changes)
        (run.path / "config.json").write_text(json.dumps(config))
    with daemon(tmp_path) as it:
        wait_for(lambda: "/opt/gone/bin/python, cannot be started" in it.log and "pandas 0.1 is " in it.log)
        assert gone.status is older.status is ms.RunStatus.PENDING
        for run in (gone, older):
            run.take_environment()
        for run in (gone, older):
            wait_for(lambda run=run: run.status is ms.RunStatus.COMPLETED)


def test_a_run_from_before_is_stepped_with_the_python_of_the_daemon(tmp_path: Path) -> None:
    run = make(tmp_path, "r", ms.Workflow([ms.Task("a", "true")]))
    config = json.loads((run.path / "config.json").read_text())
    del config["environment"]
    (run.path / "config.json").write_text(json.dumps(config))
    with daemon(tmp_path):
        wait_for(lambda: run.status is ms.RunStatus.COMPLETED)


def test_a_campaign_that_cannot_be_imported_is_polled_and_named(tmp_path: Path, campaigns: object) -> None:
    run = make(tmp_path, "r", campaigns.Beside())  # type: ignore[attr-defined]
    (tmp_path / "beside" / "daemon_campaigns.py").unlink()
    with daemon(tmp_path) as it:
        wait_for(lambda: "daemon_campaigns" in it.log)
        assert run.status is not ms.RunStatus.FAILED
        assert run.counts.completed == 1


# -- what the page says -----------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent / "docs" / "daemon.md"
PLACES = {"/home/ada/env/bin/matterstack": "PROGRAM", "/projects/cathodes/workspaces/screening": "WORKSPACE"}


def block(language: str, begins: str, program: str, workspace: Path) -> str:
    """Return a block of the page, with places of this machine in it."""
    (text,) = re.findall(rf"```{language}\n({re.escape(begins)}.*?)```", PAGE.read_text(), re.DOTALL)
    for name, place in zip(PLACES, (program, str(workspace)), strict=True):
        assert name in text
        text = text.replace(name, place)
    return str(text)


@pytest.fixture
def program(tmp_path: Path) -> str:
    """``matterstack``, as an environment has it."""
    path = tmp_path / "matterstack"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m matterstack "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_the_unit_of_systemd_is_one(tmp_path: Path, program: str) -> None:
    text = block("ini", "[Unit]", program, tmp_path / "workspaces/w")
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    assert unit["Service"]["KillMode"] == "process"
    if (linter := shutil.which("systemd-analyze")) is not None:
        (tmp_path / "matterstack.service").write_text(text)
        command = [linter, "verify", "--man=no", str(tmp_path / "matterstack.service")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "matterstack.service" not in done.stdout + done.stderr, done.stderr


def test_the_line_of_cron_runs(tmp_path: Path, program: str) -> None:
    run = make(tmp_path, "r", ms.Workflow([ms.Task("a", "true")]))
    line = block("", "*/10", program, run.path.parent.parent).strip()
    command = line.split(maxsplit=5)[5].replace("/home/ada", str(tmp_path))
    kept = ("HOME", "PYTHONPATH", "XDG_STATE_HOME")
    bare = {"PATH": "/usr/bin:/bin", **{name: os.environ[name] for name in kept if name in os.environ}}
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=180, env=bare, cwd="/", capture_output=True)
    assert run.status is ms.RunStatus.COMPLETED
    assert "COMPLETED" in (tmp_path / "matterstack.log").read_text()


def test_the_job_of_slurm_renews_itself(tmp_path: Path, program: str) -> None:
    with slurm_lab.cluster(27317) as running:
        place = Path(tempfile.mkdtemp(prefix="ms-daemon-", dir=running.state))
        run = make(place, "r", ms.Workflow([ms.Task("a", "true", operator="human", instructions="?")]), operators=HUMAN)
        text = block("sh", "#!/bin/sh", program, run.path.parent.parent)
        text = text.replace("+10minutes", "+1").replace("--mem=2G", "--mem=0")
        (place / "job.sh").write_text(text)
        subprocess.run(["sbatch", "job.sh"], check=True, cwd=place, timeout=60, capture_output=True)
        log = place / "matterstack-daemon.log"
        try:
            wait_for(lambda: log.exists() and "waits for people" in log.read_text())
            assert len(running.jobs()) == 2
            first = min(int(number) for number, _, state in running.jobs() if state == "RUNNING")
            # As Slurm does when a node fails: it would have two that follow it.
            again = subprocess.run(["scontrol", "requeue", str(first)], capture_output=True, text=True, timeout=60)
            assert again.returncode, again.stdout
            # As Slurm does when the time of a job is over soon.
            subprocess.run(["scancel", "--batch", "--signal=TERM", str(first)], check=True, timeout=60)
            wait_for(lambda: "ended by SIGTERM" in log.read_text())
            run.respond("a", {})
            wait_for(lambda: run.status is ms.RunStatus.COMPLETED)
        finally:
            subprocess.run(["scancel", "--name=matterstack-daemon"], check=True, timeout=60)
