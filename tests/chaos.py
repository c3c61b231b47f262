"""Chaos: three drivers compete for a run of random shape, and are killed at random, as are its runners.

Between the kills the run's directory is moved, also to odd names; drivers have clocks that jump back; tasks fail and
are retried; run.lock is deleted while held. ``python tests/chaos.py --kills 1000`` goes on until so many kills have
happened, and prints the seed that repeats their choice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("helpers")))

from ledger import check_executions, starts, witnessed

import matterstack as ms

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
    except MatterstackError:
        pass
"""
ODD_NAMES = ["plain", "with space", "quote'\"s", "$(touch pwned)", "ünïcode", "-dash", "semi;colon & more"]
_HEAL_S = 120.0


def random_workflow(generator: random.Random, ledger: Path) -> ms.Workflow:
    """Return a random graph of short commands, some of which fail at first."""
    flow = ms.Workflow()
    names: list[str] = []
    for number in range(generator.randint(6, 16)):
        command = generator.choice(
            ["true", "true", "sleep 0.0$MATTERSTACK_ATTEMPT", '[ "$MATTERSTACK_ATTEMPT" -ge 2 ]', "sleep 0.3"]
        )
        above = generator.sample(names, min(len(names), generator.randint(0, 3)))
        name = f"t{number}"
        flow.add_task(witnessed(name, command, ledger, dependencies=above, retries=50))
        names.append(name)
    return flow


def runners(path: Path) -> list[int]:
    """Return the process of the run's runner, if it lives."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        pid = int(json.loads((path / "operators/local/runner.lock").read_text())["pid"])
        if b"import runner" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return [pid]
    return []


def stop(drivers: list[subprocess.Popen[bytes]]) -> int:
    """Kill the drivers that live; return how many there were."""
    killed = 0
    for driver in drivers:
        killed += driver.poll() is None
        driver.kill()
        driver.wait()
    drivers.clear()
    return killed


def episode(base: Path, generator: random.Random, most: int) -> int:
    """Torment one run until it has ended or `most` kills have happened, let it heal, and check it; return the kills."""
    ledger = base / "ledger"
    operators = {"local": ms.LocalOperator(max_active=generator.randint(1, 3))}
    path = ms.initialize_run("w", random_workflow(generator, ledger), base_path=base, operators=operators).path
    drivers: list[subprocess.Popen[bytes]] = []
    kills = 0
    try:
        while kills < most and ms.open_run(path).status is not ms.RunStatus.COMPLETED:
            while len(drivers) < 3:
                arguments = [str(path), str(generator.choice([0, 5, 3600, 86400])), str(generator.randrange(10**9))]
                drivers.append(
                    subprocess.Popen(
                        [sys.executable, "-c", DRIVER, *arguments],
                        stderr=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                )
            # A pause of random length is what chaos is made of; nothing is waited for.
            select.select([], [], [], generator.uniform(0.05, 0.5))
            match generator.choice(["driver", "driver", "driver", "runner", "all", "move", "lock"]):
                case "driver":
                    driver = generator.choice(drivers)
                    driver.kill()
                    driver.wait()
                case "runner":
                    for pid in runners(path):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                            kills += 1
                case "all":
                    kills += stop(drivers)
                case "move":
                    kills += stop(drivers)
                    new = base / f"{generator.choice(ODD_NAMES)} {generator.randrange(10**6)}"
                    path.rename(new)
                    path = new
                case "lock":
                    (path / "run.lock").unlink(missing_ok=True)
            # Those armed to kill themselves at a crash point count too.
            kills += sum(driver.poll() == -signal.SIGKILL for driver in drivers)
            drivers = [driver for driver in drivers if driver.poll() is None]
    finally:
        kills += stop(drivers)
    run = ms.open_run(path)
    until = time.monotonic() + _HEAL_S
    if generator.random() < 0.2 and run.status is not ms.RunStatus.COMPLETED:
        check_cancelled(run, ledger, until)
        return kills
    while run.wait(timeout_s=20) is not ms.RunStatus.COMPLETED:
        assert time.monotonic() < until, f"stuck: {run.explain()}"
        if run.status is ms.RunStatus.FAILED:
            run.retry()
        if run.status is ms.RunStatus.PAUSED:
            run.resume()
    assert (run.tasks["status"] == "COMPLETED").all()
    check_executions(run, ledger)
    check_overlaps(run, ledger)
    assert not list(base.rglob("pwned"))
    return kills


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
