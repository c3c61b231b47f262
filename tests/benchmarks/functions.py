"""What functions as tasks cost, beside commands: `python tests/benchmarks/functions.py` prints a table.

Planning: a workflow of N tasks is made and a run initialized with it, of calls and of commands in turns, each in this
process; medians of nine, with their smallest and largest. Starting: `python task.py` of a call that does nothing beside
`python script.py` that reads a JSON file and writes one, also in turns; a process each.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matterstack as ms

SCRIPT = "import json\ngiven = json.load(open('in.json'))\njson.dump({'value': given['x']}, open('result.json', 'w'))\n"


def unchanged(x: float, scale: float = 1.0) -> float:
    return x * scale


def calls(number: int) -> ms.Workflow:
    flow = ms.Workflow()
    flow.map(unchanged, range(number), scale=2.0)
    return flow


def commands(number: int) -> ms.Workflow:
    flow = ms.Workflow()
    for n in range(number):
        flow.add_task(ms.Task(f"command-{n}", ["python", "script.py", str(n)], group="command"))
    return flow


def in_turns(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(way())
    return times


def show(title: str, times: dict[str, list[float]], unit_s: float, unit: str) -> None:
    first = statistics.median(next(iter(times.values())))
    print(f"\n{title}\n{'':12}{'median':>10}{'from':>10}{'to':>10}{'ratio':>8}")
    for name, values in times.items():
        middle = statistics.median(values)
        row = "".join(f"{value / unit_s:10.2f}" for value in (middle, min(values), max(values)))
        print(f"{name:12}{row}{middle / first:8.2f}  {unit}")


def planning(number: int, repeats: int) -> None:
    sizes = {}

    def plan(make: Callable[[int], ms.Workflow]) -> float:
        with tempfile.TemporaryDirectory() as base:
            begin = time.perf_counter()
            run = ms.initialize_run("bench", make(number), base_path=base)
            took = time.perf_counter() - begin
            sizes[make.__name__] = (run.path / "state.sqlite").stat().st_size / number
        return took

    times = in_turns({"commands": lambda: plan(commands), "calls": lambda: plan(calls)}, repeats)
    show(f"Planning {number} tasks", times, 1.0, "s")
    print("bytes of state.sqlite a task: " + ", ".join(f"{name} {size:.0f}" for name, size in sizes.items()))


def starting(repeats: int) -> None:
    flow = ms.Workflow()
    flow.add("call", unchanged, 1.0)
    flow.add_task(ms.Task("script", "python script.py", files={"script.py": SCRIPT, "in.json": '{"x": 1.0}'}))
    with tempfile.TemporaryDirectory() as base:
        run = ms.initialize_run("bench", flow, base_path=base)
        run.wait()

        def start(task: str, script: str) -> float:
            where: Path = run.task_directory(task)
            begin = time.perf_counter()
            subprocess.run([sys.executable, script], cwd=where, check=True)
            return time.perf_counter() - begin

        ways = {"script": lambda: start("script", "script.py"), "call": lambda: start("call", "task.py")}
        show("Starting one", in_turns(ways, repeats), 0.001, "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--only", choices=["planning", "starting"])
    given = parser.parse_args()
    if given.only != "starting":
        planning(given.tasks, given.repeats)
    if given.only != "planning":
        starting(3 * given.repeats)


if __name__ == "__main__":
    main()
