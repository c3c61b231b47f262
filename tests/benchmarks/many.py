"""Many runs of one workspace, and the limits that they share.

``python tests/benchmarks/many.py reservations`` takes some minutes. It prints how many reservations were made, by how
many kills they were disturbed, how often a witness outside saw more in use than there is, and what was held at the end.
``python tests/benchmarks/many.py delay``: how long a single task waits beside a run of 100,000 tasks that always wants
the same two places, each for a fifth of a second; ten times, in runs of their own.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import matterstack as ms

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from limit_lab import kill_at_random


def reservations(total: int) -> None:
    """Make so many reservations of forty places by four runs, under kills."""
    runs, places = 4, 40
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        said = kill_at_random(base, runs=runs, tasks=total // runs, places=places, seed=1, every_s=0.15)
    print(f"{said.completed} of {total} reservations were used and ended, by {runs} runs with {places} places")
    print(f"{said.kills} kills; {said.attempts} attempts; {said.seconds:.0f} s")
    print(f"over the limit: {said.over}; still held: {said.held}")


def delay(total: int) -> None:
    """Measure from the first look of a run with one task until its command began."""
    wants = ms.Resources(named={"place": 1})
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        ms.set_limits("w", base_path=base, place=2)
        flow = ms.Workflow([ms.Task(f"t{n}", "sleep 0.2", resources=wants) for n in range(total)])
        many = ms.initialize_run("w", flow, base_path=base, run_id="many")
        driver = os.fork()
        if driver == 0:
            ms.open_run(many.path).wait()
            os._exit(0)
        delays_s = []
        try:
            while not ms.limits("w", base)["held"].sum():
                time.sleep(0.1)
            for number in range(10):
                task = ms.Task("t", "true", resources=wants)
                run = ms.initialize_run("w", ms.Workflow([task]), base_path=base, run_id=f"single{number}")
                began = time.time()
                run.wait()
                delays_s.append(run.attempts["started_at"].iloc[0].timestamp() - began)
        finally:
            os.kill(driver, signal.SIGKILL)
            os.waitpid(driver, 0)
            many.cancel()
        print(f"a single task began after {statistics.median(delays_s):.2f} s, at most {max(delays_s):.2f} s")
        print(f"meanwhile {many.counts.completed} of {total} were completed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["reservations", "delay"])
    parser.add_argument("--total", type=int)
    given = parser.parse_args()
    if given.part == "reservations":
        reservations(given.total or 10_000)
    else:
        delay(given.total or 100_000)
