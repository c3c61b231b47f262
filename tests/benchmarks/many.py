"""Many runs of one workspace: what they reserve of a limit, while the processes that step them are killed at random.

``python tests/benchmarks/many.py reservations`` takes some minutes. It prints how many reservations were made, by how
many kills they were disturbed, how often a witness outside saw more in use than there is, and what was held at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["reservations"])
    parser.add_argument("--total", type=int, default=10_000)
    given = parser.parse_args()
    reservations(given.total)
