"""From one version of the schema to the next, in one transaction, after a backup."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from matterstack.crash_points import reach

SCHEMA_VERSION = 1

#: All that a database of each version has, SQLite's own aside: of another one, it is not ours.
OBJECTS: Mapping[int, frozenset[tuple[str, str]]] = {
    1: frozenset(
        {
            ("table", "schema_info"),
            ("table", "runs"),
            ("table", "iterations"),
            ("table", "tasks"),
            ("table", "dependencies"),
            ("table", "attempts"),
            ("table", "events"),
            ("table", "operator_troubles"),
            ("index", "ready_tasks"),
            ("index", "dependencies_of_task"),
            ("index", "live_attempts"),
        }
    )
}

#: The columns of its tables, likewise; a generated or hidden one is none of ours.
COLUMNS: Mapping[int, Mapping[str, str]] = {
    1: {
        "schema_info": "version",
        "runs": "run_id workspace status reason created_at iteration campaign_state",
        "iterations": "iteration created_at ended_at total pending ready submitted completed failed skipped cancelled",
        "tasks": "id iteration task_id status operator unmet attempts failures retries allow_failure"
        " allow_dependency_failure reason spec",
        "dependencies": "dependency task",
        "attempts": "id task attempt status token external_id reason submitted_at started_at ended_at exit_code data",
        "events": "seq at task attempt event status reason",
        "operator_troubles": "operator failures since ask_again_at reason suspended",
    }
}

#: Each entry lifts a database of the version it stands under by one.
MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {}


def back_up(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Copy the database beside itself, whole and on disk, and return the copy's path.

    A copy that an interrupted migration left is kept: it is of the same older version.
    """
    target = path.with_name(f"{path.name}.v{version}.backup")
    if target.exists():
        return target
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    copy = sqlite3.connect(partial)
    try:
        with contextlib.closing(copy):
            connection.backup(copy)
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def migrate(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Lift a database to `SCHEMA_VERSION`, after a backup.

    Parameters
    ----------
    connection : sqlite3.Connection
        In autocommit mode.
    path : pathlib.Path
        Of the database; the backup is put beside it.
    version : int
        The version found when the database was opened.
    """
    back_up(connection, path, version)
    reach("migrate.backed_up")
    lift(connection)


def lift(connection: sqlite3.Connection) -> None:
    """Lift a database to `SCHEMA_VERSION`, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have migrated it while this one waited.
        (version,) = connection.execute("SELECT version FROM schema_info").fetchone()
        for step in range(version, SCHEMA_VERSION):
            MIGRATIONS[step](connection)
        connection.execute("UPDATE schema_info SET version = ?", (SCHEMA_VERSION,))
        reach("migrate.commit")
        connection.execute("COMMIT")
        reach("migrate.committed")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
