"""A run of any size, nine tasks in ten of it over, written into its database: nothing is planned or executed."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import matterstack as ms

KINDS = ("relax", "scf", "bands", "dos")
_BEGAN_S = 1_790_000_000.0


def large_run(base: Path, size: int, run_id: str = "large") -> ms.Run:
    """Make a run of tasks of four kinds; every second one waits for the one before.

    Parameters
    ----------
    base : pathlib.Path
    size : int
        How many tasks, a hundred or more.
    run_id : str
    """
    run = ms.initialize_run("large", ms.Workflow([ms.Task("seed", "true")]), base_path=base, run_id=run_id)
    statuses = Counter(_status(row, size) for row in range(1, size + 1))
    with closing(sqlite3.connect(run.path / "state.sqlite")) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("DELETE FROM tasks")
        connection.executemany(
            "INSERT INTO tasks (id, iteration, task_id, status, operator, unmet, attempts, retries, allow_failure, "
            "allow_dependency_failure, reason, spec) VALUES (?, 0, ?, ?, 'local', ?, ?, 0, 1, 0, ?, ?)",
            _tasks(size),
        )
        connection.executemany(
            "INSERT INTO attempts (id, task, attempt, status, token, submitted_at, started_at, ended_at, exit_code) "
            "VALUES (?1, ?1, 1, ?2, ?1, ?3, ?4, ?5, ?6)",
            _attempts(size),
        )
        connection.executemany("INSERT INTO dependencies VALUES (?, ?)", ((row - 1, row) for row in range(2, size, 2)))
        connection.execute(
            f"INSERT INTO events (at, task, event, status) SELECT {_BEGAN_S}, id, 'complete', status FROM tasks "
            "WHERE status != 'PENDING'"
        )
        connection.execute(f"INSERT INTO events (at, event, status) VALUES ({_BEGAN_S}, 'start', 'RUNNING')")
        connection.execute("UPDATE runs SET status = 'RUNNING'")
        connection.execute(
            "UPDATE iterations SET total = ?, pending = ?, submitted = ?, completed = ?, failed = ?, "
            "ready = (SELECT count(*) FROM tasks WHERE status = 'PENDING' AND unmet = 0)",
            (size, *(statuses[name] for name in ("PENDING", "SUBMITTED", "COMPLETED", "FAILED"))),
        )
    return run


def _status(row: int, size: int) -> str:
    over = size * 9 // 10
    if row > over:
        return "SUBMITTED" if row <= over + min(100, size // 50) else "PENDING"
    return "FAILED" if row % 50 == 0 else "COMPLETED"


def _tasks(size: int) -> Iterator[tuple[Any, ...]]:
    for row in range(1, size + 1):
        kind, status = KINDS[row % 4], _status(row, size)
        spec = {"command": f"python {kind}.py --structure Al{row // 4}.cif", "group": kind}
        unmet = int(status == "PENDING" and row % 2 == 0)
        reason = "exit code 1; stderr ends with: no convergence" if status == "FAILED" else None
        yield row, f"{kind}-{row // 4}", status, unmet, int(status != "PENDING"), reason, json.dumps(spec)


def _attempts(size: int) -> Iterator[tuple[Any, ...]]:
    for row in range(1, size + 1):
        if (status := _status(row, size)) != "PENDING":
            began = _BEGAN_S + row / 100
            if status == "SUBMITTED":
                yield row, "RUNNING", began, began + 1, None, None
            else:
                yield row, status, began, began + 1, began + 5.3, int(status == "FAILED")
