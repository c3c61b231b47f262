"""What Python functions as tasks cost, warm and fresh, beside peers measured in the same run. Prints Markdown.

``python tests/benchmarks/python_tasks.py`` makes an environment for each tool below ``--work``, as compare.py in
``coming_from`` does; ``--only trivial`` does that work alone, ``--peers`` none of the peers.

The works are those of ``calls``: a function that does nothing, a single point of ASE's EMT, and CHGNet, loaded and
asked for a single point. The last one has an environment of its own, with all tools. Somebody has to make it, who then
says which torch::

    python -m venv ~/.cache/matterstack-benchmark/chgnet
    ~/.cache/matterstack-benchmark/chgnet/bin/python -m pip install torch chgnet

Every program is a whole fresh process, start-up included; two calls at once, except where jobflow has one, and one
thread each. Programs take turns, in an order that is turned around each time. A ratio is of two programs in one turn,
and medians of these are shown. Peers take part in the first turns only, and those that start a process a call have a
tenth of the calls. Memory is that of the process which carries out a call, from a run of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CALLS = HERE / "calls"
sys.path.insert(0, str(HERE / "coming_from"))

from benchmark import Measured, environment, install, machine, measure, own_environment  # noqa: E402
from compare import REQUIREMENTS  # noqa: E402

WORKS = ("trivial", "emt", "crystal")


@dataclass(frozen=True)
class Program:
    """One way to have calls carried out."""

    name: str
    tool: str
    mode: str
    means: str
    share: float = 1.0

    def command(self, python: Path, work: str, what: str, count: int) -> list[str]:
        """Return what makes so many calls."""
        script = "ours.py" if self.tool == "matterstack" else f"peer_{self.tool}.py"
        return [str(python), str(CALLS / script), self.mode, work, what, str(count)]


WARM = Program("MatterStack, warm", "matterstack", "warm", "a process and a directory a call, forked from a server")
FRESH = Program("MatterStack, fresh", "matterstack", "fresh", "a Python and a directory a call")
SCRIPT = Program("MatterStack, a script", "matterstack", "script", "a command task: a Python and a directory each")
PEERS = (
    Program("executorlib, block", "executorlib", "block", "two workers that stay"),
    Program("executorlib, single", "executorlib", "single", "a Python a call", 0.1),
    Program("Parsl, HTEX", "parsl", "pool", "two workers that stay"),
    Program("redun, process", "redun", "pool", "two workers that stay; each result in a database"),
    Program("jobflow, run_locally", "jobflow", "in-process", "no process: in the driver, one at a time"),
)


@dataclass
class Record:
    """What was measured of a program at a work."""

    count: int
    runs: list[Measured]
    memory: list[Mapping[str, int]]

    def per_call_ms(self) -> list[float]:
        """Return the wall time a call of each turn."""
        return [run.wall_s / self.count * 1e3 for run in self.runs]


class Bench:
    """Pythons with the tools, and a place for what the programs leave."""

    def __init__(self, work: Path, base: Path, given: argparse.Namespace) -> None:
        self.place, self.base, self.given = work, base, given
        self._own = own_environment(work, requirements=REQUIREMENTS["matterstack"])
        self._own_crystal: Path | None = None

    def why_not(self, work: str) -> str | None:
        """Return why a work cannot be done here."""
        python = self.place / "chgnet" / "bin" / "python"
        if work != "crystal":
            return None
        if not python.exists():
            return f"there is no {python}; the head of {Path(__file__).name} says how to make it"
        done = subprocess.run([str(python), "-c", "import chgnet"], capture_output=True, text=True, check=False)
        return done.stderr.strip().rpartition("\n")[2] or None

    def python(self, program: Program, work: str) -> Path:
        """Return the Python that has what a program needs for a work."""
        needs = [] if program.tool == "matterstack" else REQUIREMENTS[program.tool]
        if work != "crystal":
            return self._own if program.tool == "matterstack" else environment(self.place, program.tool, needs)
        python = environment(self.place, "chgnet", needs)
        if self._own_crystal is None:
            install(python)
            self._own_crystal = python
        return python

    def run(self, program: Program, work: str, what: str, count: int) -> Measured:
        """Measure a program."""
        python = self.python(program, work)
        given = {"PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": str(CALLS), "OMP_NUM_THREADS": "1"}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        directory = Path(tempfile.mkdtemp(dir=self.base))
        return measure(program.command(python, work, what, count), directory, {**inherited, **given})

    def records(self, work: str, count: int) -> dict[Program, Record]:
        """Measure all programs at a work, in turns; one that fails is told, and has no further turn."""
        ours = [WARM, FRESH, SCRIPT] if work == "trivial" else [WARM, FRESH]
        programs = [*ours, *(peer for peer in PEERS if peer.tool in self.given.peers)]
        found: dict[Program, Record] = {}
        for program in programs:
            try:
                memory = [] if program is SCRIPT else self.run(program, work, "memory", 4).told["memory"]
                found[program] = Record(max(1, round(count * program.share)), [], memory)
            except (RuntimeError, subprocess.SubprocessError) as error:
                print(f"{program.name} cannot do {work} here: {str(error).strip()}", file=sys.stderr)
        for turn in range(self.given.repeats):
            takes_part = [one for one in found if one in ours or turn < self.given.peer_repeats]
            for program in takes_part[:: -1 if turn % 2 else 1]:
                print(f"{work}, turn {turn + 1}: {program.name}", file=sys.stderr, flush=True)
                found[program].runs.append(self.run(program, work, "call", found[program].count))
        return found


def ratios(fast: Record, slow: Record) -> list[float]:
    """Return how many times the rate of the second one the first one has, turn by turn."""
    return [other / one for one, other in zip(fast.per_call_ms(), slow.per_call_ms(), strict=False)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return a median with the smallest and the largest."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def megabytes(record: Record, what: str) -> str:
    """Return the median of a kind of memory."""
    return f"{statistics.median(one[what] for one in record.memory) / 1e3:.1f}" if record.memory else "-"


def row(work: str, program: Program, found: Mapping[Program, Record]) -> str:
    """Return a program's row in the table."""
    record = found[program]
    wall = record.per_call_ms()
    took = statistics.median(run.told["took_s"] for run in record.runs) / record.count * 1e3
    cpu = statistics.median(run.cpu_s for run in record.runs) / record.count * 1e3
    cells: list[Any] = [work, program.name, program.means, record.count, len(wall)]
    cells += [f"{1e3 / statistics.median(wall):.3g}", spread(wall), f"{took:.2f}", f"{cpu:.2f}"]
    cells += [megabytes(record, "private_kB"), megabytes(record, "pss_kB")]
    cells += [spread(ratios(found[ours], record)) if ours in found else "-" for ours in (WARM, FRESH)]
    return f"| {' | '.join(map(str, cells))} |"


HEAD = (
    "work|program|what carries out a call|calls|turns|calls/s|ms a call|ms from first submission to last result"
    "|CPU ms a call|private MB|PSS MB|rate of warm, times this|rate of fresh, times this"
)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(WORKS), choices=WORKS)
    parser.add_argument("--trivial", type=int, default=1000, help="how many calls")
    parser.add_argument("--emt", type=int, default=200)
    parser.add_argument("--crystal", type=int, default=20)
    parser.add_argument("--peers", nargs="*", default=[peer.tool for peer in PEERS])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--peer-repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "matterstack-benchmark")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        report(Bench(given.work, Path(base), given), given)


def report(bench: Bench, given: argparse.Namespace) -> None:
    """Measure what was asked for, and print the tables."""
    versions = dict.fromkeys(one for tool in ("matterstack", *given.peers) for one in REQUIREMENTS[tool])
    print(f"Measured {machine()}; {', '.join(versions)}.\n")
    print(f"| {HEAD.replace('|', ' | ')} |\n|{'---|' * (HEAD.count('|') + 1)}", flush=True)
    pairs: dict[str, list[float]] = {}
    for work in given.only:
        why = bench.why_not(work)
        if why is not None:
            print(f"| {work} | skipped: {why} |{' |' * (HEAD.count('|') - 1)}", flush=True)
            continue
        found = bench.records(work, getattr(given, work))
        for program in found:
            print(row(work, program, found), flush=True)
        for name, fast, slow in (("warm, times fresh", WARM, FRESH), ("fresh, times a script", FRESH, SCRIPT)):
            if fast in found and slow in found:
                pairs[f"{work}: rate of {name}"] = ratios(found[fast], found[slow])
    print("\n| pair | median (smallest to largest) |\n|---|---|")
    for name, values in pairs.items():
        print(f"| {name} | {spread(values)} |")
    if "trivial" in given.only:
        python = str(bench.python(FRESH, "trivial"))
        command = [python, str(HERE / "functions.py"), "--only", "starting", "--repeats", str(given.repeats)]
        print("\n```" + subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip() + "\n```")


if __name__ == "__main__":
    main()
