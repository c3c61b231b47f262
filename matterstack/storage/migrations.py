"""From one version of the schema to the next, in one transaction, after a backup."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from matterstack.crash_points import reach

SCHEMA_VERSION = 2

_OBJECTS_1 = frozenset(
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
_COLUMNS_1 = {
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

#: All that a database of each version has, SQLite's own aside: of another one, it is not ours.
OBJECTS: Mapping[int, frozenset[tuple[str, str]]] = {
    1: _OBJECTS_1,
    2: _OBJECTS_1
    | {
        ("table", "environments"),
        ("table", "inputs"),
        ("table", "outputs"),
        ("index", "uses_of_attempt"),
        ("index", "scratch_tasks"),
        ("index", "untaken_tasks"),
        ("index", "streamed_tasks"),
    },
}

#: The columns of its tables, likewise; a generated or hidden one is none of ours.
COLUMNS: Mapping[int, Mapping[str, str]] = {
    1: _COLUMNS_1,
    2: {
        **_COLUMNS_1,
        "runs": f"{_COLUMNS_1['runs']} code tags told",
        "iterations": f"{_COLUMNS_1['iterations']} places asked",
        "tasks": f"{_COLUMNS_1['tasks']} priority held not_before changes taken tags",
        "environments": "id record",
        "attempts": f"{_COLUMNS_1['attempts']} environment not_hashed cached changes usage archive",
        "inputs": "attempt name source path sha256 origin",
        "outputs": "attempt name sha256 size",
        "events": f"{_COLUMNS_1['events']} who data",
    },
}

#: As `schema.sql` has them, with the columns at the ends of their tables.
_TO_2 = (
    "ALTER TABLE runs ADD COLUMN code TEXT",
    "ALTER TABLE runs ADD COLUMN tags TEXT",
    "ALTER TABLE runs ADD COLUMN told INTEGER",
    "ALTER TABLE iterations ADD COLUMN places INTEGER",
    "ALTER TABLE iterations ADD COLUMN asked INTEGER",
    "ALTER TABLE tasks ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE tasks ADD COLUMN held TEXT",
    "ALTER TABLE tasks ADD COLUMN not_before REAL",
    "ALTER TABLE tasks ADD COLUMN changes TEXT",
    "ALTER TABLE tasks ADD COLUMN taken INTEGER",
    "ALTER TABLE tasks ADD COLUMN tags TEXT",
    "DROP INDEX ready_tasks",
    "CREATE INDEX ready_tasks ON tasks (operator, priority DESC, id)"
    " WHERE status = 'PENDING' AND unmet = 0 AND held IS NULL",
    "CREATE INDEX scratch_tasks ON tasks (iteration) WHERE instr(spec, '\"scratch\":') > 0",
    "CREATE INDEX untaken_tasks ON tasks (iteration, status, id) WHERE taken = 0",
    "CREATE UNIQUE INDEX streamed_tasks ON tasks (iteration, task_id COLLATE NOCASE) WHERE taken IS NOT NULL",
    "CREATE TABLE environments (id INTEGER PRIMARY KEY, record TEXT NOT NULL UNIQUE)",
    "ALTER TABLE attempts ADD COLUMN environment INTEGER REFERENCES environments",
    "ALTER TABLE attempts ADD COLUMN not_hashed TEXT",
    "ALTER TABLE attempts ADD COLUMN cached TEXT",
    "ALTER TABLE attempts ADD COLUMN changes TEXT",
    "ALTER TABLE attempts ADD COLUMN usage TEXT",
    "ALTER TABLE attempts ADD COLUMN archive TEXT",
    "CREATE TABLE inputs (attempt INTEGER NOT NULL REFERENCES attempts, name TEXT NOT NULL,"
    " source INTEGER REFERENCES attempts, path TEXT, sha256 TEXT, origin TEXT, PRIMARY KEY (attempt, name))"
    " WITHOUT ROWID",
    "CREATE INDEX uses_of_attempt ON inputs (source) WHERE source IS NOT NULL",
    "CREATE TABLE outputs (attempt INTEGER NOT NULL REFERENCES attempts, name TEXT NOT NULL, sha256 TEXT NOT NULL,"
    " size INTEGER NOT NULL, PRIMARY KEY (attempt, name)) WITHOUT ROWID",
    "ALTER TABLE events ADD COLUMN who TEXT",
    "ALTER TABLE events ADD COLUMN data TEXT",
)


def _to_2(connection: sqlite3.Connection) -> None:
    for statement in _TO_2:
        connection.execute(statement)


#: Each entry lifts a database of the version it stands under by one.
MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {1: _to_2}


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
