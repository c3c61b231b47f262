"""Chaos: three drivers compete for a run of random shape, and are killed at random, as are its runners and servers.

Between the kills drivers are interrupted, and runners stopped for a while; the run's directory is moved, also to odd
names, and copied, and the copy stepped and cancelled; drivers have clocks that jump back; tasks fail and are retried,
and rotate their stdout.txt; run.lock and runner.lock are deleted while held. ``python tests/chaos.py --kills 1000``
goes on until so many kills have happened, and prints the seed that repeats their choice. Some campaigns stream.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("helpers")))

from ledger import check_executions, starts, witnessed

import matterstack as ms
from matterstack.errors import RunLockedError, RunStatusError
from matterstack.operators.local.runner.processes import children

DRIVER = """
import random, sys, time
real, back = time.time, float(sys.argv[2])
jump = random.Random(int(sys.argv[3]))
time.time = lambda: real() - (back if jump.random() < 0.5 else 0.0)  # a clock that jumps back and forth
import matterstack as ms
from matterstack.errors import MatterstackError
from matterstack.crash_points import arm
if jump.random() < 0.5:
    arm("kill", "*", jump.randint(1, 60))
while True:
    try:
        run = ms.open_run(sys.argv[1])
        if run.wait(timeout_s=5) in ("COMPLETED", "CANCELLED"):
            break
        if run.status == "FAILED":
            run.retry()
        if run.status == "PAUSED":
            run.resume()
    except (MatterstackError, KeyboardInterrupt):
        pass
"""
EVENTS = [
    *["driver"] * 4,
    *["runner"] * 2,
    *["server"] * 2,
    *["all", "move", "copy", "run.lock", "operators/local/runner.lock", "hold", "interrupt", "interrupt"],
]
ODD_NAMES = ["plain", "with space", "quote'\"s", "$(touch pwned)", "ünïcode", "-dash", "semi;colon & more"]
_HEAL_S = 120.0
#: From an attempt's directory, so that a copy of the run has a copy of it.
_LEDGER = Path("../../../ledger")


def called(kind: str, ledger: str) -> int:
    """Sign the ledger around what a call does, which begins warm or cold."""
    import time

    def sign(what: str) -> None:
        with open(ledger, "a") as file:
            file.write(f"{what} {os.environ['MATTERSTACK_TOKEN']}\n")

    sign("start")
    is_first = os.environ["MATTERSTACK_ATTEMPT"] == "1"
    if kind == "late":
        time.sleep(0.2)
    if kind == "leaves" and os.fork() == 0:
        os.setsid()
        os.closerange(3, 300)
        time.sleep(300)
    if kind == "crashes" and is_first:
        sign("end")
        os.kill(os.getpid(), signal.SIGSEGV)
    sign("end")
    if kind == "fails" and is_first:
        raise ValueError(kind)
    return len(kind)


def random_workflow(generator: random.Random) -> ms.Workflow:
    """Return a random graph of short commands, some of which fail at first."""
    flow = ms.Workflow()
    names: list[str] = []
    for number in range(generator.randint(6, 16)):
        command = generator.choice(
            [
                "true",
                "true",
                "sleep 0.0$MATTERSTACK_ATTEMPT",
                '[ "$MATTERSTACK_ATTEMPT" -ge 2 ]',
                "sleep 0.3",
                "mv stdout.txt old.txt; sleep 0.2",
                "rm stdout.txt; touch stdout.txt; sleep 0.1",
                "setsid sleep 300 & sleep 0.1",
            ]
        )
        above = generator.sample(names, min(len(names), generator.randint(0, 3)))
        name = f"t{number}"
        if generator.random() < 0.5:
            function = ms.task(called, dependencies=above, retries=50)
            flow.add(name, function, generator.choice(["", "", "late", "fails", "leaves", "crashes"]), str(_LEDGER))
        else:
            flow.add_task(witnessed(name, command, _LEDGER, dependencies=above, retries=50))
        names.append(name)
    return flow


class Streams(ms.Campaign):
    """Adds the tasks of a random workflow as places become free, and notes each result that it takes."""

    def __init__(self, kinds: list[str], at_once: int, ledger: str) -> None:
        self.kinds, self.at_once, self.ledger = kinds, at_once, ledger

    def initial_state(self) -> list[str]:
        return []

    def update(self, state: list[str], results: dict[str, ms.TaskResult], live: dict[str, dict[str, str]]) -> ms.Update:
        taken, more = [*state, *results], ms.Workflow()
        begun = len(taken) + len(live)
        assert {one["kind"] for one in live.values()} <= set(self.kinds)
        for number in range(begun, min(begun + self.at_once - len(live), len(self.kinds))):
            above = [f"t{number - 1}"] if number % 3 == 2 else []
            function = ms.task(called, dependencies=above, retries=50)
            more.add(f"t{number}", function, self.kinds[number], self.ledger)
        return ms.Update(taken, add=more)


def random_campaign(generator: random.Random) -> Streams:
    """Return a campaign that streams calls, some of which fail at first."""
    kinds = generator.choices(["", "", "late", "fails", "leaves", "crashes"], k=generator.randint(6, 16))
    return Streams(kinds, generator.randint(1, 4), str(_LEDGER))


def runners(path: Path) -> list[int]:
    """Return the process of the run's runner, if it lives."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        pid = int(json.loads((path / "operators/local/runner.lock").read_text())["pid"])
        if b"import runner" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return [pid]
    return []


def kill_runner(path: Path) -> int:
    """Kill the run's runner, if it lives; return how many were killed."""
    killed = 0
    for pid in runners(path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


def kill_servers(path: Path) -> int:
    """Kill the warm servers of the run's runner; return how many were killed."""
    killed = 0
    for runner in runners(path):
        for pid in children(runner):
            with contextlib.suppress(OSError):
                if b"\0MATTERSTACK_ROOM=" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
    return killed


def stop(drivers: list[subprocess.Popen[bytes]]) -> int:
    """Kill the drivers that live; return how many there were."""
    killed = 0
    for driver in drivers:
        killed += driver.poll() is None
        driver.kill()
        driver.wait()
    drivers.clear()
    return killed


def start_driver(path: Path, generator: random.Random) -> subprocess.Popen[bytes]:
    """Return a process that steps the run until it is over."""
    arguments = [str(path), str(generator.choice([0, 5, 3600, 86400])), str(generator.randrange(10**9))]
    command = [sys.executable, "-c", DRIVER, *arguments]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)


def hold(path: Path, seconds: float) -> None:
    """Stop the run's runner for a while."""
    for pid in runners(path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            select.select([], [], [], seconds)
            os.kill(pid, signal.SIGCONT)


def step_and_cancel_a_copy(path: Path, copy: Path) -> None:
    """Copy a run that nobody steps now, though its commands may be under way; step the copy, cancel it, remove it."""
    with contextlib.suppress(shutil.Error):  # a command has renamed a file meanwhile
        shutil.copytree(path, copy)
    ms.trust(copy)
    run = ms.open_run(copy)
    with contextlib.suppress(RunStatusError):  # it is over
        run.step()
        run.cancel()
    check_executions(run, copy / "ledger")
    shutil.rmtree(copy)


def episode(base: Path, generator: random.Random, most: int) -> int:
    """Torment one run until it has ended or `most` kills have happened, let it heal, and check it; return the kills."""
    operators = {"local": ms.LocalOperator(max_active=generator.randint(1, 3))}
    plan = random_campaign(generator) if generator.random() < 0.4 else random_workflow(generator)
    path = ms.initialize_run("w", plan, base_path=base, operators=operators).path
    drivers: list[subprocess.Popen[bytes]] = []
    kills = 0
    try:
        while kills < most and ms.open_run(path).status is not ms.RunStatus.COMPLETED:
            drivers += [start_driver(path, generator) for _ in range(3 - len(drivers))]
            # A pause of random length is what chaos is made of; nothing is waited for.
            select.select([], [], [], generator.uniform(0.05, 0.5))
            match generator.choice(EVENTS):
                case "driver":
                    driver = generator.choice(drivers)
                    driver.kill()
                    driver.wait()
                case "runner":
                    kills += kill_runner(path)
                case "server":
                    kills += kill_servers(path)
                case "all":
                    kills += stop(drivers)
                case "move":
                    kills += stop(drivers)
                    new = base / f"{generator.choice(ODD_NAMES)} {generator.randrange(10**6)}"
                    path.rename(new)
                    path = new
                case "run.lock" | "operators/local/runner.lock" as lock:
                    (path / lock).unlink(missing_ok=True)
                case "interrupt":
                    generator.choice(drivers).send_signal(signal.SIGINT)
                case "hold":
                    hold(path, generator.uniform(0.05, 0.5))
                case "copy":
                    kills += stop(drivers)
                    step_and_cancel_a_copy(path, base / f"copy {generator.randrange(10**6)}")
            # Those armed to kill themselves at a crash point count too.
            kills += sum(driver.poll() == -signal.SIGKILL for driver in drivers)
            drivers = [driver for driver in drivers if driver.poll() is None]
    finally:
        kills += stop(drivers)
    run = ms.open_run(path)
    ledger = path / "ledger"
    until = time.monotonic() + _HEAL_S
    if generator.random() < 0.2 and run.status is not ms.RunStatus.COMPLETED:
        check_cancelled(run, ledger, until)
        return kills
    while wait_unlocked(run, until) is not ms.RunStatus.COMPLETED:
        assert time.monotonic() < until, f"stuck: {run.explain()}"
        if run.status is ms.RunStatus.FAILED:
            run.retry()
        if run.status is ms.RunStatus.PAUSED:
            run.resume()
    check_completed(run, plan, ledger)
    assert not list(base.rglob("pwned"))
    return kills


def check_completed(run: ms.Run, plan: ms.Campaign | ms.Workflow, ledger: Path) -> None:
    """Check that each task was carried out once, and that a campaign which streams has taken each result once."""
    assert (run.tasks["status"] == "COMPLETED").all()
    if isinstance(plan, Streams):
        assert sorted(run.campaign_state) == sorted(f"t{n}" for n in range(len(plan.kinds)))
    check_executions(run, ledger)
    check_overlaps(run, ledger)
    check_signals(run)


def wait_unlocked(run: ms.Run, until: float) -> ms.RunStatus:
    """Step a run; a driver that was killed while it started a process leaves its lock to that one for a moment."""
    while True:
        try:
            return run.wait(timeout_s=20)
        except RunLockedError:
            if time.monotonic() >= until:
                raise
            select.select([], [], [], 0.05)


def check_cancelled(run: ms.Run, ledger: Path, until: float) -> None:
    """Cancel what is left of a tormented run, and check that nothing of it is alive."""
    if run.status is ms.RunStatus.FAILED:
        run.retry()
    run.cancel()
    while run.step().live:
        assert time.monotonic() < until, f"stuck: {run.explain()}"
    assert run.counts.unfinished == 0
    check_executions(run, ledger)
    for token in run.attempts["token"]:
        for place in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                assert f"MATTERSTACK_TOKEN={token}".encode() not in place.read_bytes(), f"{token} is alive"


def check_signals(run: ms.Run) -> None:
    """Check that no command was killed, as those of a copy were."""
    reasons = [str(reason) for reason in run.attempts["reason"] if "SIGSEGV" not in str(reason)]
    assert not [reason for reason in reasons if reason.startswith(("killed", "cancelled"))], reasons


def check_overlaps(run: ms.Run, ledger: Path) -> None:
    """Check that two attempts of one task were never alive at once."""
    task_of = dict(zip(run.attempts["token"], run.attempts["task_id"], strict=True))
    alive: dict[str, str] = {}
    ended = {line.split()[1] for line in ledger.read_text().splitlines() if line.startswith("end ")}
    for line in ledger.read_text().splitlines():
        kind, token = line.split()
        task = task_of[token]
        if kind == "start":
            assert task not in alive, f"{task}: {alive[task]} was alive when {token} started"
            if token in ended:  # one that was killed signs no end
                alive[task] = token
        elif alive.get(task) == token:
            del alive[task]
    assert starts(ledger)


def chaos(base: Path, kills: int, seed: int) -> int:
    """Torment runs until so many kills have happened; return how many did."""
    generator = random.Random(seed)
    done = number = 0
    while done < kills:
        number += 1
        place = base / f"episode{number}"
        place.mkdir()
        done += episode(place, generator, most=max(1, min(40, kills - done)))
        print(f"episode {number}: {done} kills", flush=True)
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        print(f"{chaos(Path(directory), given.kills, given.seed)} kills; nothing doubled, lost or stuck")
