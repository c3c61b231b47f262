"""Figures of one process: adding tasks, an idle tick, the status of a run. Prints rows of a table."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ours import workload

import matterstack as ms
from matterstack.core.attempts import (
    Attempt,
    Observation,
    Seen,
    Submitted,
)
from matterstack.operators.base import Operator


class Idle(Operator):
    """Keeps two attempts running for ever."""

    def max_live(self, directory: Path) -> int:
        return 2

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        return {attempt.token: Observation(Seen.RUNNING) for attempt in attempts}

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        return {}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        return []


def main() -> None:
    for count in (10_000, 100_000):
        with tempfile.TemporaryDirectory() as base:
            began = time.perf_counter()
            flow = workload("layers", count)
            built = time.perf_counter()
            run = ms.initialize_run("benchmark", flow, base_path=base, operators={"local": Idle()})
            added = time.perf_counter()
            size = (run.path / "state.sqlite").stat().st_size
            for _ in range(3):
                run.step()
            ticks = []
            for _ in range(200):
                before = time.perf_counter()
                run.step()
                ticks.append(time.perf_counter() - before)
            print(f"| {count:,} tasks: made as objects | {built - began:.2f} s |")
            print(f"| {count:,} tasks: `initialize_run` | {added - built:.2f} s, {size / count:.0f} bytes a task |")
            print(f"| {count:,} tasks: idle tick | {statistics.median(ticks) * 1e3:.2f} ms |", flush=True)
    with tempfile.TemporaryDirectory() as base:
        run = ms.initialize_run("benchmark", workload("layers", 1000), base_path=base)
        run.wait()
        command = [sys.executable, "-m", "matterstack", "status", str(run.path)]
        times = []
        for _ in range(15):
            before = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - before)
        print(f"| W3: status of 1,000 tasks, whole process | {statistics.median(times) * 1e3:.0f} ms |")
        size = (run.path / "state.sqlite").stat().st_size
        print(f"| state.sqlite after 1,000 tasks have run | {size / 1000:.0f} bytes a task |")


if __name__ == "__main__":
    main()
