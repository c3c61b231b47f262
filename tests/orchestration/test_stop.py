"""Stop at any instruction: no transaction is left open, no lock is held, nothing is done twice, lost or stuck.

``MATTERSTACK_EVERY_LINE=1`` stops at every instruction instead of a sample.
"""

from __future__ import annotations

import fcntl
import gc
import os
import random
import shutil
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from crashes import ENDED, in_child

import matterstack as ms
from matterstack.core.attempts import Absent, Attempt, Observation, Seen, Submitted
from matterstack.operators.base import Operator

SAMPLE = None if os.environ.get("MATTERSTACK_EVERY_LINE") else 40
#: The standard library's own, for which nothing of ours is responsible and which takes long.
_NOT_TRACED = ("<frozen importlib", "/logging/")


class Outside(Operator):
    """An outside that counts how often each attempt was submitted to it; what it took is over at the next look."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def max_live(self, directory: Path) -> int:
        return 2

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        self.taken.update(attempt.token for attempt in attempts)
        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        return {attempt.token: Observation(Seen.ENDED) for attempt in attempts}

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Absent]:
        return {a.token: Submitted() if self.taken[a.token] else Absent() for a in attempts}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        return [attempt.token for attempt in attempts]


class Rounds(ms.Campaign):
    """Two iterations of three tasks."""

    def initial_state(self) -> Any:
        return {"round": 0}

    def plan(self, state: Any) -> ms.Workflow | None:
        tasks = [ms.Task(f"t{n}", ["x"], operator="outside") for n in range(2)]
        last = ms.Task("last", ["x"], operator="outside", dependencies=["t0", "t1"])
        return ms.Workflow([*tasks, last]) if state["round"] < 2 else None

    def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
        assert len(results) == 3
        return {"round": state["round"] + 1}


def make(base: Path) -> tuple[ms.Run, Outside]:
    outside = Outside()
    run = ms.initialize_run("w", Rounds(), base_path=base, run_id="r", operators={"outside": outside})
    return run, outside


def stopped_at(number: int, work: Callable[[], object]) -> tuple[int, BaseException | None]:
    """Do some work, with a SIGINT at its `number`-th instruction; return how many there were, and what it raised."""
    count = 0

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "opcode":
            count += 1
            if count == number:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return local

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if any(name in frame.f_code.co_filename for name in _NOT_TRACED):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return local

    gc.disable()
    raised = None
    sys.settrace(trace)
    try:
        work()
    except BaseException as error:
        raised = error
    finally:
        sys.settrace(None)
        gc.enable()
    return count, raised


def chosen(total: int, seed: int) -> Iterator[int]:
    """Return the instructions to stop at: a sample spread over all, or every one."""
    if SAMPLE is None:
        yield from range(1, total + 1)
        return
    generator = random.Random(seed)
    for n in range(SAMPLE):
        yield 1 + int(total / SAMPLE * (n + generator.random()))


def check_free(run: ms.Run) -> None:
    """Check that the run is nobody's: others can lock it and write."""
    with (run.path / "run.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    other = sqlite3.connect(run.path / "state.sqlite", timeout=0, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    other.execute("ROLLBACK")
    other.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def descriptors() -> Counter[str]:
    """Return what this process has open, by name."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{name}").split("/")[-1]] += 1
        except FileNotFoundError:
            continue  # that of the listing
    return found


STAGES = {"submits": 0, "collects": 1, "analyzes": 3, "ends": 7}


@pytest.mark.parametrize("stage", STAGES)
def test_stopped_at_instructions_of_a_step(tmp_path: Path, stage: str) -> None:
    def staged(name: str) -> tuple[ms.Run, Outside]:
        run, outside = make(tmp_path / name)
        for _ in range(STAGES[stage]):
            run.step()
        return run, outside

    for name in ("warm", "count"):
        run, _ = staged(name)
        before = descriptors()
        total, raised = stopped_at(0, run.step)
        assert raised is None
        more = descriptors() - before
    for number in chosen(total, seed=1):
        run, outside = staged(str(number))
        before = descriptors()
        count, kept = stopped_at(number, run.step)  # the traceback is kept, as a notebook does
        if number <= count:
            assert isinstance(kept, KeyboardInterrupt), (number, kept)
        assert descriptors() - before <= more, number
        check_free(run)
        assert in_child(lambda: run.step()) == ENDED, number  # noqa: B023
        run.step()
        assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED, number
        assert run.campaign_state == {"round": 2}
        assert len(run.attempts) == 6
        assert run.store.check() == []
        shutil.rmtree(tmp_path / str(number))
