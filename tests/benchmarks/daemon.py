"""Many runs under one daemon: what idle ones cost, how soon an answer is noticed, and whether all get their turn.

``python tests/benchmarks/daemon.py [idle|busy] [--runs N] [--tasks N]`` prints a table.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import matterstack as ms
from matterstack.operators.local.runner.processes import children

TICK = os.sysconf("SC_CLK_TCK")


def pause(seconds: float) -> None:
    select.poll().poll(seconds * 1000)


@contextlib.contextmanager
def daemon(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "matterstack", "daemon", "w", "--base-path", str(place)]
    with open(place / "daemon.log", "w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        yield process
        process.terminate()


def family(pid: int) -> list[int]:
    """Return a daemon and its keepers."""
    return [pid, *children(pid)]


def cpu_s(pids: list[int]) -> float:
    """Return the time on a processor of processes and of those of their children that are over."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(sum(map(int, some[11:15])) for some in fields) / TICK


def memory_mib(pids: list[int]) -> float:
    """Return the memory of processes, of which each counts its share of what they share."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def idle(runs: int, seconds: float = 60.0) -> None:
    """Measure runs that wait for people."""
    with tempfile.TemporaryDirectory(prefix="ms-many-") as name:
        place = Path(name)
        ask = ms.Workflow([ms.Task("ask", operator="human", instructions="?")])
        human = {"human": ms.HumanOperator()}
        made = [ms.initialize_run("w", ask, operators=human, base_path=place, run_id=f"r{i}") for i in range(runs)]
        with daemon(place) as process:
            while (place / "daemon.log").read_text().count("waits for people") < runs:
                pause(1.0)
            pause(15.0)
            pids = family(process.pid)
            before, at = cpu_s(pids), time.monotonic()
            pause(seconds)
            share = (cpu_s(pids) - before) / (time.monotonic() - at)
            print(f"{runs} idle runs: {share:.2%} of a core, {memory_mib(pids):.0f} MiB", flush=True)
            noticed = []
            for run in made[:: max(1, runs // 5)]:
                (request,) = run.inbox()
                at = time.monotonic()
                (request.directory / "response.json").write_text("{}")
                while run.status is not ms.RunStatus.COMPLETED:
                    pause(0.05)
                noticed.append(time.monotonic() - at)
            print(f"an answer was taken after {', '.join(f'{seconds:.1f}' for seconds in noticed)} s")


def rate(runs: int, tasks: int) -> tuple[float, list[float]]:
    """Return tasks a second of all runs together, and of each until its own end."""
    with tempfile.TemporaryDirectory(prefix="ms-many-") as name:
        place = Path(name)
        flow = ms.Workflow([ms.Task(f"t{i}", ["/bin/true"]) for i in range(tasks)])
        made = [ms.initialize_run("w", flow, base_path=place, run_id=f"r{i}") for i in range(runs)]
        ends: dict[str, float] = {}
        begun = time.monotonic()
        with daemon(place):
            while len(ends) < runs:
                pause(0.2)
                for run in made:
                    if run.run_id not in ends and run.status is ms.RunStatus.COMPLETED:
                        ends[run.run_id] = time.monotonic() - begun
        return runs * tasks / max(ends.values()), [tasks / end for end in ends.values()]


def busy(runs: int, tasks: int) -> None:
    """Measure runs of short commands."""
    alone, _ = rate(1, tasks)
    together, each = rate(runs, tasks)
    mean = sum(each) / len(each)
    print(f"one run: {alone:.0f} tasks/s; {runs} runs: {together:.0f} tasks/s in all, {together / alone:.2f} of that")
    print(f"the slowest has {min(each) / mean:.2f} of the mean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["idle", "busy"])
    parser.add_argument("--runs", type=int)
    parser.add_argument("--tasks", type=int, default=1000)
    given = parser.parse_args()
    if given.what != "busy":
        idle(given.runs or 1000)
    if given.what != "idle":
        busy(given.runs or 100, given.tasks)


if __name__ == "__main__":
    main()
