"""Tasks of a run completed at a stroke, as if they had been run: what views do with ten thousand results."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

import matterstack as ms

#: When the first task was submitted, and how long after each other they ended.
BEGAN, APART_S = 1_750_000_000.0, 0.5


def fill(run: ms.Run, results: Iterable[Any]) -> None:
    """Complete the next tasks of a run, one a result, in the order of the plan."""
    connection = sqlite3.connect(run.store.path)
    with connection:
        (done,) = connection.execute("SELECT count(*) FROM attempts").fetchone()
        tasks = connection.execute("SELECT id, iteration FROM tasks WHERE status = 'PENDING' ORDER BY id").fetchall()
        for number, ((task, iteration), data) in enumerate(zip(tasks, results, strict=False), done):
            ended = BEGAN + (number + 1) * APART_S
            connection.execute(
                "INSERT INTO attempts (task, attempt, status, token, submitted_at, started_at, ended_at, exit_code, "
                "data) VALUES (?, 1, 'COMPLETED', ?, ?, ?, ?, 0, ?)",
                (task, f"ms-{task:032x}", BEGAN, BEGAN, ended, json.dumps(data)),
            )
            connection.execute("UPDATE tasks SET status = 'COMPLETED', attempts = 1 WHERE id = ?", (task,))
            connection.execute(
                "INSERT INTO events (at, task, event, status) VALUES (?, ?, 'complete', 'COMPLETED')", (ended, task)
            )
            connection.execute(
                "UPDATE iterations SET completed = completed + 1, pending = pending - 1, ready = ready - 1 "
                "WHERE iteration = ?",
                (iteration,),
            )
    connection.close()
