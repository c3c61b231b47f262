"""What a task costs, beside peers measured in the same run. Prints a Markdown table.

``python tests/benchmarks/benchmark.py`` installs each peer in an environment of its own, below ``--work``;
``--peers ninja`` measures that one alone, ``--only W1-1000`` that workload alone, and ``--before REV`` measures
MatterStack as of a commit in turns with the one that lies here.

MatterStack is installed from this repository into one too, anew each time, so that its modules are compiled to
bytecode at installation as the peers' are.

Every figure of W1 and W2 is of a whole fresh process, start-up included. Ours and the peers take turns, and medians
are compared. CPU is user and system time of all processes that the measured one started, also of those that have
detached themselves, as MatterStack's runner does: these are waited for after the time was taken.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
REQUIREMENTS = {
    "ninja": ["ninja"],
    "parsl": ["parsl"],
    "executorlib": ["executorlib[cache]"],
    "jobflow": ["jobflow"],
    "snakemake": ["snakemake"],
}


def environment(work: Path, peer: str, requirements: Sequence[str]) -> Path:
    """Return the Python of a peer's environment, made or completed now if it is not as it has to be."""
    place = work / peer
    python, complete = place / "bin" / "python", place / "complete"
    there = complete.read_text().split("\n") if complete.exists() else []
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    missing = [requirement for requirement in requirements if requirement not in there]
    if missing:
        subprocess.run([str(python), "-m", "pip", "install", "-q", *missing], check=True)
        complete.write_text("\n".join([*there, *missing]))
    return python


def own_environment(work: Path, before: str | None = None, requirements: Sequence[str] = ()) -> Path:
    """Return the Python of an environment with MatterStack, as it is now or as of a commit, and what else is wanted."""
    python = environment(work, "matterstack" if before is None else "matterstack-before", requirements)
    install(python, before)
    return python


def install(python: Path, before: str | None = None) -> None:
    """Install MatterStack for a Python, as it is now or as of a commit."""
    with tempfile.TemporaryDirectory() as copy:  # what a build leaves must not lie in the repository
        source = Path(copy) / "source"
        source.mkdir()
        if before is None:
            shutil.copytree(ROOT / "matterstack", source / "matterstack", ignore=shutil.ignore_patterns("__pycache__"))
            for name in ("pyproject.toml", "README.md", "LICENSE"):
                shutil.copy(ROOT / name, source)
        else:
            archive = Path(copy) / "before.tar"
            subprocess.run(["git", "archive", "--output", str(archive), before], cwd=ROOT, check=True)
            shutil.unpack_archive(archive, source)
        command = [str(python), "-m", "pip", "install", "-q", str(source)]
        subprocess.run(command, check=True)
        subprocess.run([*command, "--force-reinstall", "--no-deps"], check=True)


@dataclass(frozen=True)
class Measured:
    """What a command cost, with all that it started, and the JSON object it printed last."""

    wall_s: float
    cpu_s: float
    told: Mapping[str, Any]


def measure(command: list[str], directory: Path, environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end, and all that it started and left."""
    become_subreaper()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Files, since what stays behind would hold the ends of pipes.
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        done = subprocess.run(command, cwd=directory, env=environment, stdout=output, stderr=errors, check=False)
        wall = time.perf_counter() - began
        output.seek(0)
        errors.seek(0)
        if done.returncode:
            raise RuntimeError(f"{command[:3]} failed: {errors.read()[-2000:]}")
        told = [json.loads(line) for line in output if line.startswith("{")]
    reap(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall, cpu, told[-1] if told else {})


def become_subreaper() -> None:
    """Be the parent of what loses its own below this process: prctl(2), PR_SET_CHILD_SUBREAPER."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def reap(command: list[str], most_s: float = 60.0) -> None:
    """Wait until nothing is left below this process."""
    until = time.monotonic() + most_s
    try:
        while time.monotonic() < until:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.01)
    except ChildProcessError:
        return
    raise RuntimeError(f"{command[:3]} left processes that do not end within {most_s:g} s")


def shape_arguments(shape: str) -> tuple[str, int]:
    """Return ``layers`` or ``chain``, and the number of tasks, of W1-1000 or W2-100."""
    kind, _, number = shape.partition("-")
    return {"W1": "layers", "W2": "chain"}[kind], int(number)


def programs(work: Path, peers: list[str], before: str | None) -> dict[str, Callable[[str], list[str]]]:
    """Return, by name, what makes the command that runs a workload."""
    made: dict[str, Callable[[str], list[str]]] = {}

    def of(python: str, script: str) -> Callable[[str], list[str]]:
        return lambda shape: [python, str(HERE / script), *map(str, shape_arguments(shape))]

    made["matterstack"] = of(str(own_environment(work)), "ours.py")
    if before is not None:
        made[before] = of(str(own_environment(work, before)), "ours.py")
    for peer in peers:
        try:
            made[peer] = of(str(environment(work, peer, REQUIREMENTS[peer])), f"peer_{peer}.py")
        except subprocess.CalledProcessError as error:
            print(f"{peer} cannot be installed here: {error}", file=sys.stderr)
    return made


def compare(
    shape: str, made: dict[str, Callable[[str], list[str]]], repeats: int, base: Path
) -> dict[str, list[Measured]]:
    """Return what each run of each program cost, in turns.

    What they leave is removed at the very end: removing it in between slows what is measured next.
    """
    seen: dict[str, list[Measured]] = {name: [] for name in made}
    for turn in range(repeats):
        # Who comes first changes, since each is measured while the file system digests what the one before it made.
        for name, command in sorted(made.items(), reverse=bool(turn % 2)):
            seen[name].append(measure(command(shape), Path(tempfile.mkdtemp(dir=base))))
    return seen


def wall_of(command: list[str], repeats: int = 9) -> float:
    """Return the median wall seconds of a command."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def machine() -> str:
    """Return what the figures were measured on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    kernel, python = platform.release(), platform.python_version()
    return f"{date.today()}, {model}, {os.cpu_count()} cores, Linux {kernel}, Python {python}"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["W1-1000", "W1-10000", "W2-100", "small"])
    parser.add_argument("--peers", nargs="*", default=list(REQUIREMENTS), choices=[*REQUIREMENTS, []])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "matterstack-benchmark")
    parser.add_argument("--before", help="a commit to measure beside what lies here")
    given = parser.parse_args()
    made = programs(given.work, given.peers, given.before)
    with tempfile.TemporaryDirectory() as base:
        report(given, made, Path(base))


def report(given: argparse.Namespace, made: dict[str, Callable[[str], list[str]]], base: Path) -> None:
    """Measure what was asked for, and print the table."""
    print(f"Measured {machine()}; medians of {given.repeats}, in turns.\n")
    print(
        "| workload | program | tasks/s | ms a task (quartiles) | CPU ms a task | rate, times ninja's |\n"
        "|---|---|---|---|---|---|"
    )
    for shape in given.only:
        if shape == "small":
            continue
        count = shape_arguments(shape)[1]
        # The slow peers are measured at the smallest size only.
        some = {n: make for n, make in made.items() if count <= 1000 or n in ("matterstack", given.before, "ninja")}
        times = compare(shape, some, given.repeats, base)
        medians = {name: statistics.median(run.wall_s for run in runs) for name, runs in times.items()}
        for name, runs in times.items():
            low, middle, high = statistics.quantiles([run.wall_s for run in runs], n=4, method="inclusive")
            spread = f"{middle / count * 1e3:.2f} ({low / count * 1e3:.2f} to {high / count * 1e3:.2f})"
            cpu = statistics.median(run.cpu_s for run in runs)
            ratio = f"{medians['ninja'] / middle:.2f}" if "ninja" in medians else "-"
            figures = f"{count / middle:.0f} | {spread} | {cpu / count * 1e3:.2f} | {ratio}"
            print(f"| {shape} | {name} | {figures} |", flush=True)
    if "small" in given.only:
        print("\n| what | figure |\n|---|---|")
        python = made["matterstack"]("W1-10")[0]
        bare = wall_of([python, "-c", "pass"])
        ours = wall_of([python, "-c", "import matterstack"])
        print(f"| `import matterstack`, more than Python itself | {(ours - bare) * 1e3:.0f} ms |")
        done = subprocess.run([python, str(HERE / "small.py")], check=True, capture_output=True, text=True)
        print(done.stdout.strip())


if __name__ == "__main__":
    main()
