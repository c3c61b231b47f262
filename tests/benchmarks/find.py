"""To find over many runs: ``python tests/benchmarks/find.py`` makes 1,000 runs of 1,000 tasks, and prints its costs.

The runs are copies of one database with other ids and other results. Medians of nine, the files being in memory, and
what the process asked to read.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd

import matterstack as ms

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from filled import fill


def make(base: Path, runs: int, tasks: int) -> int:
    """Make so many runs; return how many bytes their databases have."""
    flow = ms.Workflow([ms.Task(f"t{n}", "true", parameters={"strain": n / 1000}) for n in range(tasks)])
    first = ms.initialize_run("w", flow, base_path=base, run_id="r0")
    fill(first, ({"energy_eV": -n / tasks, "formula": f"Li{n}CoO2", "converged": n % 7 > 0} for n in range(tasks)))
    for number in range(1, runs):
        place = first.path.with_name(f"r{number}")
        place.mkdir()
        shutil.copyfile(first.path / "state.sqlite", place / "state.sqlite")
        with closing(sqlite3.connect(place / "state.sqlite")) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("UPDATE runs SET run_id = ?", (place.name,))
            connection.execute(
                "UPDATE attempts SET data = json_set(data, '$.energy_eV', json_extract(data, '$.energy_eV') - ?)",
                (number / 1000 / runs,),
            )
    return sum((path / "state.sqlite").stat().st_size for path in first.path.parent.iterdir())


def read_bytes() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def main(runs: int, tasks: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        size = make(base, runs, tasks)
        print(f"{runs} runs of {tasks} tasks, {size / 1e6:.0f} MB")
        lowest = -(tasks - 1) / tasks
        asked: dict[str, Callable[[], pd.DataFrame]] = {
            "one in a thousand by its energy": lambda: ms.find_tasks(
                "w", where={"energy_eV": ("<=", lowest)}, columns=["energy_eV", "formula"], base_path=base
            ),
            "by two conditions": lambda: ms.find_tasks(
                "w", where={"energy_eV": ("<", -0.99), "converged": False}, base_path=base
            ),
            "by what they were done with": lambda: ms.find_tasks("w", where={"strain": 0.5}, base_path=base),
            "by status": lambda: ms.find_tasks("w", status="FAILED", base_path=base),
            "by tag": lambda: ms.find_tasks("w", tags="cathode", base_path=base),
            "their results": lambda: ms.results("w", where={"energy_eV": ("<=", lowest)}, base_path=base),
            "a file": lambda: ms.find_file("0" * 64, base_path=base),
        }
        for name, ask in asked.items():
            found = ask()  # which brings the files to memory, and imports what is needed
            took_s, cpu_s, began = [], [], read_bytes()
            for _ in range(9):
                wall, cpu = time.perf_counter(), time.process_time()
                found = ask()
                took_s.append(time.perf_counter() - wall)
                cpu_s.append(time.process_time() - cpu)
            read_mb = (read_bytes() - began) / 9 / 1e6
            print(
                f"{name}: {len(found)} found in {statistics.median(took_s):.2f} s, "
                f"{min(took_s):.2f} to {max(took_s):.2f} ({statistics.median(cpu_s):.2f} s of a core), "
                f"{read_mb:.0f} MB asked for"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=1000)
    given = parser.parse_args()
    main(given.runs, given.tasks)
