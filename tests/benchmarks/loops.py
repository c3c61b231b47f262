"""What loops cost: from one measurement to the next, an iteration, ten thousand results, sixteen stations.

``python tests/benchmarks/loops.py`` takes about seven minutes; ``--only latency`` does one part, ``--before COMMIT``
takes turns with an earlier commit of this repository where that can do the work. Times are those of the runner:
when a command began, and when it was over. Medians, with the smallest and the largest.

What an optimizer finds so is measured by ``python -m self_driving.twelve_seeds``, in the folder ``notebooks``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matterstack as ms

HERE = Path(__file__)
STATIONS, MEAN_S, SIGMA = 16, 1.0, 1.0


class OneByOne(ms.Campaign):
    """Adds one task when one has ended; its state is a number, so that it does not grow."""

    at_once = 1

    def __init__(self, total: int) -> None:
        self.total = total

    def initial_state(self) -> int:
        return 0

    def update(self, state: int, results: Mapping[str, Any], live: Mapping[str, Any]) -> Any:
        if state == self.total:
            return None
        return ms.Update(state + 1, ms.Workflow([ms.Task(f"t{state}", ["/bin/true"])]))


class Iterations(ms.Campaign):
    """So many iterations of one task."""

    def __init__(self, total: int) -> None:
        self.total = total

    def initial_state(self) -> int:
        return 0

    def plan(self, state: int) -> ms.Workflow | None:
        return ms.Workflow([ms.Task("t", ["/bin/true"])]) if state < self.total else None

    def analyze(self, state: int, results: Mapping[str, Any]) -> int:
        return state + 1


def durations_s(total: int) -> list[float]:
    """Return how long each measurement takes: lognormal, of the mean and the sigma above."""
    draw = random.Random(1)
    return [MEAN_S * draw.lognormvariate(-(SIGMA**2) / 2, SIGMA) for _ in range(total)]


class Laboratory(ms.Campaign):
    """Keeps all stations busy."""

    at_once = STATIONS

    def __init__(self, total: int) -> None:
        self.seconds = durations_s(total)

    def initial_state(self) -> int:
        return 0

    def update(self, state: int, results: Mapping[str, Any], live: Mapping[str, Any]) -> Any:
        end = min(state + self.at_once - len(live), len(self.seconds))
        tasks = [ms.Task(f"m{n}", ["sleep", f"{self.seconds[n]:.4f}"]) for n in range(state, end)]
        return ms.Update(end, ms.Workflow(tasks))


class Barrier(ms.Campaign):
    """The same measurements, in batches that wait for their slowest one."""

    def __init__(self, total: int) -> None:
        self.seconds = durations_s(total)

    def initial_state(self) -> int:
        return 0

    def plan(self, state: int) -> ms.Workflow | None:
        batch = self.seconds[state : state + STATIONS]
        tasks = [ms.Task(f"m{n}", ["sleep", f"{s:.4f}"]) for n, s in enumerate(batch, state)]
        return ms.Workflow(tasks) if tasks else None

    def analyze(self, state: int, results: Mapping[str, Any]) -> int:
        return state + STATIONS


def run_of(base: str, campaign: ms.Campaign, places: int) -> tuple[ms.Run, float]:
    """Run a campaign to its end; return it, and how long that took in seconds."""
    operators = {"local": ms.LocalOperator(max_active=places)}
    run = ms.initialize_run("loops", campaign, operators=operators, base_path=tempfile.mkdtemp(dir=base))
    began = time.perf_counter()
    assert run.wait() is ms.RunStatus.COMPLETED, run.reason
    return run, time.perf_counter() - began


def times(run: ms.Run) -> list[tuple[float, float]]:
    """Return when each attempt began and was over, in the order of submission."""
    sql = "SELECT started_at, ended_at FROM attempts ORDER BY id"
    return [(began, over) for began, over in run.store.query(sql)]


def latency(base: str) -> list[float]:
    """Return in ms how long it took from the end of one measurement until the next began: 200 of them."""
    found = times(run_of(base, OneByOne(200), 1)[0])
    return [(then[0] - one[1]) * 1e3 for one, then in itertools.pairwise(found)]


def iteration(base: str) -> list[float]:
    """Return in ms how long an iteration of one /bin/true took: the mean of a hundred."""
    return [run_of(base, Iterations(100), 1)[1] / 100 * 1e3]


def results(base: str, total: int = 10_000) -> list[float]:
    """Return in ms what a result cost, in each tenth of ten thousand that were taken one by one."""
    found = times(run_of(base, OneByOne(total), 1)[0])
    part = total // 10
    edges = [found[number * part][0] for number in range(10)] + [found[-1][0]]
    return [(late - early) / part * 1e3 for early, late in itertools.pairwise(edges)]


def busy(base: str, kind: Callable[[int], ms.Campaign]) -> list[float]:
    """Return in percent how busy the stations were, until the last measurement began; and their rate."""
    found = times(run_of(base, kind(20 * STATIONS), STATIONS)[0])
    first, last = min(began for began, _ in found), max(began for began, _ in found)
    worked_s = sum(min(over, last) - began for began, over in found)
    return [100 * worked_s / (STATIONS * (last - first)), len(found) / (last - first)]


def stations(base: str) -> list[float]:
    """Return how busy the stations were with a campaign that streams, and how many measurements a second they made."""
    return busy(base, Laboratory)


def barrier(base: str) -> list[float]:
    """Return the same of one that waits."""
    return busy(base, Barrier)


PARTS = {part.__name__: part for part in (latency, iteration, results, stations, barrier)}
#: How often each is done; and what its figures are.
REPEATS = {"latency": 9, "iteration": 9, "results": 1, "stations": 1, "barrier": 1}


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return a median with the smallest and the largest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def measured(part: str, tree: Path, base: str) -> list[float] | None:
    """Return what a part measures in a process of its own, by the package of a tree; None where that cannot do it."""
    command = [sys.executable, str(HERE), "--one", part, "--base", base]
    given = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=given)
    return json.loads(done.stdout) if done.returncode == 0 else None


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--before", help="a commit to take turns with")
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(PARTS[given.one](given.base)))
        return
    with tempfile.TemporaryDirectory() as base:
        trees = {"now": HERE.parents[2]}
        if given.before:
            trees[given.before] = Path(base) / "before"
            subprocess.run(["git", "clone", "-q", str(HERE.parents[2]), str(trees[given.before])], check=True)
            subprocess.run(["git", "checkout", "-q", given.before], cwd=trees[given.before], check=True)
        print(f"Measured {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {sys.version.split()[0]}.\n")
        for part in given.only:
            found: dict[str, list[list[float]]] = {name: [] for name in trees}
            for turn in range(REPEATS[part]):
                for name in list(trees)[:: -1 if turn % 2 else 1]:
                    one = measured(part, trees[name], base)
                    if one is not None:
                        found[name].append(one)
            for name, turns in found.items():
                print(f"- {part}, {name}: {said(part, turns)}", flush=True)


def said(part: str, turns: list[list[float]]) -> str:
    """Return in words what the turns of a part came to."""
    if not turns:
        return "it cannot do that"
    match part:
        case "latency":
            medians = [statistics.median(turn) for turn in turns]
            late = statistics.quantiles([one for turn in turns for one in turn], n=20)[-1]
            return f"{spread(medians)} ms from an end until the next began, medians of 199; 95 % within {late:.2f} ms"
        case "iteration":
            return f"{spread([turn[0] for turn in turns])} ms an iteration of one /bin/true"
        case "results":
            return "ms a result, in each tenth of 10,000: " + ", ".join(f"{one:.2f}" for one in turns[0])
    share, rate = turns[0]
    return f"{STATIONS} stations busy {share:.1f} %, {rate:.2f} measurements a second"


if __name__ == "__main__":
    main()
