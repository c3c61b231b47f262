"""What a job costs, beside plain sbatch: `python tests/benchmarks/slurm.py [--jobs N]` prints a table.

Each way runs the same N tasks of `/bin/true`, one way after the other, each in a Slurm of its own whose node claims 32 CPUs; the time is
that from the first submission until the last job has ended. Where it may (as root), each has a new ext4 of its own too, in a
file of 4 GiB: a controller that remembers thousands of ended jobs, and a file system from which thousands of files were just
removed, are slow, and would make the last way pay for the first.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from dask_lab import Farm
from disk import fresh_disk
from slurm_lab import Cluster, cluster
from waiting import wait_for

import matterstack as ms


def drained(lab: Cluster, name: str) -> bool:
    return not lab.command("squeue", "-h", f"--name={name}", "-t", "PD,R,CG,CF", "-o", "%A").strip()


def plain(lab: Cluster, jobs: int, directory: Path) -> None:
    """Submit each with an sbatch of its own, as a loop in a shell does."""
    for _ in range(jobs):
        subprocess.run(
            [
                "sbatch",
                "--parsable",
                "--job-name=plain",
                "--output=/dev/null",
                f"--chdir={directory}",
                "--wrap=/bin/true",
            ],
            check=True,
            capture_output=True,
        )
    wait_for(lambda: drained(lab, "plain"), most_s=3600)


def array(lab: Cluster, jobs: int, directory: Path) -> None:
    """Submit all as one array."""
    subprocess.run(
        ["sbatch", "--parsable", "--job-name=array", "--output=/dev/null", f"--chdir={directory}", f"--array=1-{jobs}", "--wrap=/bin/true"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    wait_for(lambda: drained(lab, "array"), most_s=3600)


def direct(lab: Cluster, jobs: int, directory: Path, pack: int = 1) -> None:
    """Run them as a workflow, in jobs of their own or so many in one."""
    flow = ms.Workflow(ms.Task(f"t{i}", ["/bin/true"], operator="slurm") for i in range(jobs))
    run = ms.initialize_run("bench", flow, base_path=directory, operators={"slurm": ms.SlurmOperator(pack=pack)})
    assert run.wait() is ms.RunStatus.COMPLETED


def chunks(lab: Cluster, jobs: int, directory: Path) -> None:
    """Run them as a workflow, packed."""
    direct(lab, jobs, directory, pack=200)


def dask(lab: Cluster, jobs: int, directory: Path) -> None:
    """Run them as a workflow on Dask, whose two workers are jobs of the cluster."""
    place = directory / "dask"
    place.mkdir()
    farm = Farm(place, workers=0)
    try:
        for _ in range(2):
            command = shlex.join([sys.executable, "-m", *farm.worker(threads=8)])
            lab.command(
                "sbatch",
                "--job-name=dask",
                "--cpus-per-task=8",
                f"--output={place}/dask.log",
                f"--chdir={place}",
                f"--wrap={command}",
            )
        flow = ms.Workflow(ms.Task(f"t{i}", ["/bin/true"], operator="dask") for i in range(jobs))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            operator = ms.DaskOperator(farm.address)
            run = ms.initialize_run("bench", flow, base_path=directory, operators={"dask": operator})
            assert run.wait() is ms.RunStatus.COMPLETED
            operator.close()
    finally:
        lab.command("scancel", "--name=dask")
        farm.close()


def live_tick(lab: Cluster, jobs: int, directory: Path) -> float:
    """Return the milliseconds of a tick over so many live jobs that wait in the queue."""
    flow = ms.Workflow(
        ms.Task(f"t{i}", ["/bin/true"], operator="slurm", resources=ms.Resources(extra=["--nice=9000"]))
        for i in range(jobs)
    )
    lab.command("scontrol", "update", "partitionname=debug", "state=down")
    run = ms.initialize_run("live", flow, base_path=directory, operators={"slurm": ms.SlurmOperator()})
    while run.step().submitted:
        pass
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        report = run.step()
        took.append(time.perf_counter() - begin)
        assert report.live == jobs
    squeue = []
    for _ in range(5):
        begin = time.perf_counter()
        lab.command("squeue", "-h", "-t", "all", "--me", "-o", "%A|%j|%T|%r|%M|%l")
        squeue.append(time.perf_counter() - begin)
    lab.command("scontrol", "update", "partitionname=debug", "state=up")
    print(
        f"a tick over {jobs} live jobs: {min(took) * 1000:.0f} ms, of which a bare squeue is {min(squeue) * 1000:.0f} ms (best of 5)"
    )
    return min(took)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--ways", nargs="*", help="some of them only, by their first word")
    parser.add_argument("--live", type=int, default=1000)
    given = parser.parse_args()
    ways: dict[str, Callable[[Cluster, int, Path], None]] = {
        "sbatch in a loop": plain,
        "array": array,
        "direct": direct,
        "chunks of 200": chunks,
        "dask, its workers two jobs": dask,
    }
    first = None
    print(f"{given.jobs} tasks of /bin/true, one node that claims 32 CPUs\n")
    print("| way | s | tasks/s | rate, times sbatch's |\n|---|---|---|---|")
    for name, way in ways.items():
        if given.ways and name.split()[0].strip(",") not in given.ways:
            continue
        with fresh_disk() as place, cluster(26997, place=str(place), SLURM_LAB_CPUS="32") as lab:
            begin = time.perf_counter()
            way(lab, given.jobs, place)
            took = time.perf_counter() - begin
        first = first or took
        print(f"| {name} | {took:.1f} | {given.jobs / took:.1f} | {first / took:.2f} |", flush=True)
    with fresh_disk() as place, cluster(26997, place=str(place), SLURM_LAB_CPUS="32") as lab:
        live_tick(lab, given.live, place)


if __name__ == "__main__":
    main()
