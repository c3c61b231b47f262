"""Runs of a workspace that share a limit, stepped by processes that are killed at random; and a witness outside."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matterstack as ms
from matterstack.core.attempts import Absent, Attempt, Observation, Seen, Submitted
from matterstack.operators.base import Operator


class Room(Operator):
    """A room with so many places: each attempt that is in it is a file, and whoever is one too many is written down.

    An attempt leaves at the next look at it.
    """

    def __init__(self, path: Path, places: int, at_once: int) -> None:
        self.path = path
        self.places = places
        self.at_once = at_once

    def max_live(self, directory: Path) -> int:
        return self.at_once

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with open(self.path / "lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        with self.alone():
            for attempt in attempts:
                (self.path / "in" / attempt.token).touch()
            if (there := len(os.listdir(self.path / "in"))) > self.places:
                with open(self.path / "over", "a") as file:
                    file.write(f"{there}\n")
        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        with self.alone():
            for attempt in attempts:
                (self.path / "in" / attempt.token).unlink(missing_ok=True)
        return {attempt.token: Observation(Seen.ENDED, ok=True) for attempt in attempts}

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Absent]:
        there = os.listdir(self.path / "in")
        return {one.token: Submitted() if one.token in there else Absent() for one in attempts}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        return [attempt.token for attempt in attempts]


class Outcome(NamedTuple):
    """What became of it: kills, how often there were too many, and what is still held."""

    completed: int
    attempts: int
    kills: int
    over: int
    held: int
    seconds: float


def kill_at_random(base: Path, *, runs: int, tasks: int, places: int, seed: int, every_s: float) -> Outcome:
    """Step runs that share so many places, each in a process that is killed again and again, until all are over."""
    (base / "in").mkdir(parents=True)
    ms.set_limits("w", base_path=base, place=places)
    chance, began = random.Random(seed), time.monotonic()
    room = {"room": Room(base, places, at_once=max(1, 2 * places // runs))}
    wants = ms.Resources(named={"place": 1})
    paths = []
    for number in range(runs):
        flow = ms.Workflow([ms.Task(f"t{n}", ["x"], operator="room", resources=wants) for n in range(tasks)])
        paths.append(ms.initialize_run("w", flow, base_path=base, run_id=f"r{number}", operators=room).path)
    drivers = {_driver(path, room): path for path in paths}
    kills = 0
    while drivers:
        time.sleep(chance.uniform(0, 2 * every_s))  # what is tested: a kill at any instant
        os.kill(chance.choice(sorted(drivers)), signal.SIGKILL)
        for _ in range(len(drivers)):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid not in drivers:
                continue  # of a test before this one
            path = drivers.pop(pid)
            if os.waitstatus_to_exitcode(status):
                kills += 1
                drivers[_driver(path, room)] = path
    opened = [ms.open_run(path, operators=room) for path in paths]
    for run in opened:
        run.step()  # one that was killed after its last commit
    completed = sum(run.counts.completed for run in opened)
    attempts = sum(len(run.attempts) for run in opened)
    over = (base / "over").read_text().count("\n") if (base / "over").exists() else 0
    held = int(ms.limits("w", base)["held"].sum())
    return Outcome(completed, attempts, kills, over, held, time.monotonic() - began)


def _driver(path: Path, room: Mapping[str, Operator]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run = ms.open_run(path, operators=room)
            while run.status in (ms.RunStatus.PENDING, ms.RunStatus.RUNNING):
                run.wait()
            code = 0
        finally:
            os._exit(code)
    return pid
