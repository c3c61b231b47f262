"""All SQL: the database of a run.

Journal mode DELETE with synchronous FULL is safe on every file system that locks, and a
tick commits a few times only (https://www.sqlite.org/atomiccommit.html). A connection
belongs to one thread, so each thread gets its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from matterstack.core.records import (
    AttemptChange,
    Change,
    IterationCounts,
    LiveAttempt,
    NewAttempt,
    OperatorTrouble,
    ReadyTask,
    RunChange,
    RunRecord,
    TaskChange,
)
from matterstack.core.states import (
    LIVE_ATTEMPT,
    AttemptStatus,
    RunStatus,
    TaskEvent,
    TaskStatus,
    advance,
)
from matterstack.errors import (
    DamagedStoreError,
    ForeignStoreError,
    NewerStoreError,
    RunNotFoundError,
    StoreConflictError,
    StoreError,
    StoreUnwritableError,
)
from matterstack.storage import migrations
from matterstack.testing import reach

log = logging.getLogger("matterstack.storage")

_BUSY_TIMEOUT_S = 30.0
_MOST_MARKS = 400  # SQLite takes 32,766 variables at most
_WRITING, _READING = "IMMEDIATE", "DEFERRED"
_LIVE = ", ".join(f"'{status}'" for status in AttemptStatus if status in LIVE_ATTEMPT)
_COUNTED = ("pending", "submitted", "completed", "failed", "skipped", "cancelled")

_ATTEMPT_SQL = """UPDATE attempts SET status = ?, reason = coalesce(?, reason), external_id = coalesce(?, external_id),
  started_at = coalesce(?, started_at), ended_at = coalesce(ended_at, ?), exit_code = coalesce(?, exit_code),
  data = coalesce(?, data) WHERE id = ? AND status = ?"""
_TASK_SQL = """UPDATE tasks SET status = ?, reason = ?, attempts = attempts + ?,
  failures = CASE WHEN ? THEN 0 ELSE failures + ? END WHERE id = ? AND status = ?"""
_EVENT_SQL = "INSERT INTO events (at, task, attempt, event, status, reason) VALUES (?, ?, ?, ?, ?, ?)"
_LIVE_SQL = f"""SELECT a.id, a.task, t.iteration, t.task_id, a.attempt, a.status, a.token, t.operator, a.external_id,
  a.reason, a.submitted_at, a.started_at, t.status, t.failures, t.retries, t.spec
  FROM attempts a JOIN tasks t ON t.id = a.task WHERE a.status IN ({_LIVE})"""
_CARD_SQL = """SELECT t.id, t.iteration, t.task_id, t.status, t.unmet, a.status, t.operator, t.attempts,
  json_extract(t.spec, '$.group'),
  CASE WHEN t.status = 'PENDING' AND t.unmet > 0 THEN 'waits for ' || t.unmet || ' of its dependencies'
    WHEN t.status = 'SUBMITTED' THEN a.reason ELSE coalesce(t.reason, a.reason) END,
  a.submitted_at, a.started_at, a.ended_at, a.exit_code
  FROM tasks t LEFT JOIN attempts a ON a.task = t.id AND a.attempt = t.attempts"""


class SQLiteStateStore:
    """The database of a run; made where there is none yet.

    Parameters
    ----------
    path : str or os.PathLike
        Of ``state.sqlite``. A missing or empty file becomes a new database of version 1.

    Raises
    ------
    DamagedStoreError, ForeignStoreError, NewerStoreError
        The file is refused with its bytes unchanged.

    Examples
    --------
    >>> import tempfile
    >>> store = SQLiteStateStore(Path(tempfile.mkdtemp()) / "state.sqlite")
    >>> store.version
    1
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._local = threading.local()
        self.version = self._open()
        log.info(
            "opened %s, schema version %d",
            self.path,
            self.version,
            extra={"database": str(self.path), "schema_version": self.version},
        )

    # -- opening ------------------------------------------------------------------------

    def _open(self) -> int:
        """Check the file without changing it, then create or migrate as needed."""
        with self._errors():
            if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
                raise ForeignStoreError(f"{self.path} is not a regular file")
            if not self.path.exists() or self.path.stat().st_size == 0:
                self._create()
            version = self._inspect()
            if version < migrations.SCHEMA_VERSION:
                migrations.migrate(self._connection(), self.path, version)
            return migrations.SCHEMA_VERSION

    def _create(self) -> None:
        connection = self._connect("rwc")
        try:
            with _transaction(connection):
                if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    schema = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
                    for statement in schema.split(";\n"):
                        connection.execute(statement)
        finally:
            connection.close()

    def _inspect(self) -> int:
        """Return the version of an existing database, reading only."""
        # A hot journal must be rolled back first, which a read-only connection cannot do.
        hot = self.path.with_name(self.path.name + "-journal").exists()
        connection = self._connect("rw" if hot else "ro")
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "schema_info" not in tables:
                raise ForeignStoreError(
                    f"{self.path} is an SQLite database without MatterStack's schema_info, so it is of another program "
                    "or has no schema version; it was left as it is"
                )
            rows = connection.execute("SELECT version FROM schema_info").fetchall()
            if len(rows) != 1 or not isinstance(rows[0][0], int):
                raise DamagedStoreError(
                    f"{self.path}: schema_info must hold one version number, but holds {rows!r}; it was left as it is"
                )
            version: int = rows[0][0]
            if version > migrations.SCHEMA_VERSION:
                raise NewerStoreError(
                    f"{self.path} has schema version {version}, and this MatterStack knows versions up to "
                    f"{migrations.SCHEMA_VERSION}; it was left as it is. Install a newer matterstack to open it"
                )
            if version == migrations.SCHEMA_VERSION:
                missing = _TABLES - tables
                if missing:
                    raise DamagedStoreError(
                        f"{self.path} lacks the tables {', '.join(sorted(missing))}; it was left as it is"
                    )
            return version
        finally:
            connection.close()

    def _connect(self, mode: str) -> sqlite3.Connection:
        quoted = self.path.absolute().as_uri()
        connection = sqlite3.connect(
            f"{quoted}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,  # each thread has its own; only the collector may close it elsewhere
            factory=_Connection,
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _connection(self) -> sqlite3.Connection:
        """Return this thread's connection to the file that is at the path now."""
        status = os.stat(self.path)
        identity = (os.getpid(), status.st_dev, status.st_ino)
        if getattr(self._local, "identity", None) != identity:
            self._local.connection = self._connect("rw")
            self._local.identity = identity
        connection: sqlite3.Connection = self._local.connection
        return connection

    def close(self) -> None:
        """Close this thread's connection; it is opened again when needed."""
        if getattr(self._local, "identity", None) is not None:
            self._local.connection.close()
            self._local.identity = None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what sqlite3 raises into an error of our tree that says what to do."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise StoreConflictError(f"{self.path}: {error}; nothing was changed") from error
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreError(f"{self.path} stayed locked for {_BUSY_TIMEOUT_S:g} s by another program") from error
            raise StoreUnwritableError(
                f"{self.path}: {error}; nothing was changed. Check free space and permissions, then step again"
            ) from error
        except sqlite3.DatabaseError as error:
            raise DamagedStoreError(
                f"{self.path} is not a readable database: {error}; it was left as it is. Restore a copy, or recover "
                "what can be read with the .recover command of the sqlite3 shell"
            ) from error
        except FileNotFoundError as error:
            raise RunNotFoundError(f"{self.path} is not there (any more): was the run moved? Open it anew") from error

    @contextlib.contextmanager
    def transaction(self, guard: Callable[[], None] | None = None) -> Iterator[None]:
        """Everything inside lands together, on disk, or not at all.

        Parameters
        ----------
        guard : callable, optional
            Called before the commit; what it raises undoes the transaction.
        """
        with self._errors(), _transaction(self._connection(), guard):
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with self._errors(), _transaction(self._connection(), kind=_READING):
            yield

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT."""
        with self._errors():
            return self._connection().execute(sql, parameters).fetchall()

    # -- reading ------------------------------------------------------------------------

    def run(self) -> RunRecord:
        """Return the row of the run."""
        rows = self.query("SELECT run_id, workspace, status, reason, created_at, iteration, campaign_state FROM runs")
        if len(rows) != 1:
            raise DamagedStoreError(f"{self.path} holds {len(rows)} runs instead of one")
        run_id, workspace, status, *rest = rows[0]
        return RunRecord(run_id, workspace, RunStatus(status), *rest)

    def counts(self, iteration: int) -> IterationCounts:
        """Return how many tasks of the iteration stand where."""
        rows = self.query(
            "SELECT total, pending, ready, submitted, completed, failed, skipped, cancelled FROM iterations "
            "WHERE iteration = ?",
            (iteration,),
        )
        return IterationCounts(*rows[0]) if rows else IterationCounts()

    def live_attempts(self) -> list[LiveAttempt]:
        """Return every attempt that is not over, oldest first."""
        return [
            LiveAttempt._make((*row[:5], AttemptStatus(row[5]), *row[6:12], TaskStatus(row[12]), *row[13:]))
            for row in self.query(_LIVE_SQL)
        ]

    def ready_tasks(self, operator: str, limit: int) -> list[ReadyTask]:
        """Return tasks of the operator that may start now, in the order of the plan."""
        rows = self.query(
            "SELECT id, task_id, operator, attempts, failures, retries, spec FROM tasks "
            "WHERE status = 'PENDING' AND unmet = 0 AND operator = ? ORDER BY id LIMIT ?",
            (operator, limit),
        )
        return [ReadyTask(*row) for row in rows]

    def ready_operators(self) -> list[str]:
        """Return the operators with a task that may start now, by a skip through the index."""
        found: list[str] = []
        sql = "SELECT min(operator) FROM tasks WHERE status = 'PENDING' AND unmet = 0 AND operator > ?"
        while (name := self.query(sql, (found[-1] if found else "",))[0][0]) is not None:
            found.append(name)
        return found

    def dependencies(self, tasks: Sequence[int]) -> dict[int, list[tuple[str, str, int, str | None, str]]]:
        """Return, by task, the id, status, attempts, data and operator of each task it waits for."""
        found: dict[int, list[tuple[str, str, int, str | None, str]]] = {}
        for task, *row in self.query(
            "SELECT d.task, p.task_id, p.status, p.attempts, a.data, p.operator FROM dependencies d "
            "JOIN tasks p ON p.id = d.dependency LEFT JOIN attempts a ON a.task = p.id AND a.attempt = p.attempts "
            f"WHERE d.task IN ({_marks(tasks)}) ORDER BY d.task, p.id",
            tasks,
        ):
            found.setdefault(task, []).append(tuple(row))
        return found

    def pending_dependants(self, task: int) -> list[tuple[int, bool]]:
        """Return each pending task that waits for this one, and whether it allows its failure."""
        rows = self.query(
            "SELECT t.id, t.allow_dependency_failure FROM dependencies d JOIN tasks t ON t.id = d.task "
            "WHERE d.dependency = ? AND t.status = 'PENDING'",
            (task,),
        )
        return [(task, bool(allows)) for task, allows in rows]

    def attempts_of(self, operators: Sequence[str]) -> list[tuple[str, str, int, str, int]]:
        """Return token, operator, iteration, task_id and number of every attempt of some operators."""
        return self.query(
            "SELECT a.token, t.operator, t.iteration, t.task_id, a.attempt "
            f"FROM attempts a JOIN tasks t ON t.id = a.task WHERE t.operator IN ({_marks(operators)})",
            operators,
        )

    def pending_tasks(self, iteration: int) -> list[int]:
        """Return the rows of the tasks of an iteration that were not submitted."""
        rows = self.query("SELECT id FROM tasks WHERE iteration = ? AND status = 'PENDING' ORDER BY id", (iteration,))
        return [row for (row,) in rows]

    def task_name(self, task: int) -> str:
        """Return the task_id of a row."""
        name: str = self.query("SELECT task_id FROM tasks WHERE id = ?", (task,))[0][0]
        return name

    def failed_for_good(self, iteration: int) -> list[str]:
        """Return up to ten failed tasks whose failure is not allowed."""
        rows = self.query(
            "SELECT task_id FROM tasks WHERE iteration = ? AND status = 'FAILED' AND NOT allow_failure LIMIT 10",
            (iteration,),
        )
        return [name for (name,) in rows]

    def results(self, iteration: int) -> list[tuple[str, str, str, int, str | None, str | None]]:
        """Return task_id, status, operator, attempts, reason and data of each task of an iteration."""
        return self.query(
            "SELECT t.task_id, t.status, t.operator, t.attempts, t.reason, a.data FROM tasks t "
            "LEFT JOIN attempts a ON a.task = t.id AND a.attempt = t.attempts WHERE t.iteration = ? ORDER BY t.id",
            (iteration,),
        )

    def troubles(self) -> dict[str, OperatorTrouble]:
        """Return the operators that cannot be asked now."""
        rows = self.query(
            "SELECT operator, failures, since, ask_again_at, reason, suspended FROM operator_troubles ORDER BY operator"
        )
        return {row[0]: OperatorTrouble._make((*row[:5], bool(row[5]))) for row in rows}

    # -- for views: what changed, and no more -----------------------------------------------

    def stamp(self) -> tuple[int, ...]:
        """Return numbers that are others when anything in the database may have changed."""
        with self._errors():
            connection = self._connection()
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            return (id(connection), version, connection.total_changes)

    def last_event(self) -> int:
        """Return the number of the last event."""
        number: int = self.query("SELECT coalesce(max(seq), 0) FROM events")[0][0]
        return number

    def cards_after(self, task: int) -> list[tuple[Any, ...]]:
        """Return what views show of the tasks after a row."""
        return self.query(f"{_CARD_SQL} WHERE t.id > ? ORDER BY t.id", (task,))

    def edges_after(self, task: int) -> list[tuple[int, int]]:
        """Return the dependencies of the tasks after a row, as pairs of rows."""
        rows = self.query("SELECT dependency, task FROM dependencies WHERE task > ? ORDER BY task, dependency", (task,))
        return [(dependency, dependant) for dependency, dependant in rows]

    def cards_changed(self, seq: int) -> tuple[int, list[tuple[Any, ...]]]:
        """Return the number of the last event, and the tasks that may look otherwise since event `seq`.

        Those are the tasks of the events, those that depend on them, and all that are live: what
        an attempt waits for may change without an event.
        """
        rows = self.query(
            f"""WITH touched(id) AS (SELECT task FROM events WHERE seq > ? AND task IS NOT NULL),
              near(id) AS (SELECT id FROM touched UNION SELECT d.task FROM dependencies d JOIN touched
              ON d.dependency = touched.id UNION SELECT task FROM attempts WHERE status IN ({_LIVE}))
            {_CARD_SQL} JOIN near ON near.id = t.id""",
            (seq,),
        )
        return self.last_event(), rows

    def journal_after(self, seq: int, limit: int) -> list[tuple[Any, ...]]:
        """Return the last `limit` events after `seq`: seq, at, iteration, task_id, attempt, event, status, reason."""
        rows = self.query(
            """SELECT e.seq, e.at, t.iteration, t.task_id, a.attempt, e.event, e.status, e.reason FROM events e
              LEFT JOIN tasks t ON t.id = e.task LEFT JOIN attempts a ON a.id = e.attempt
              WHERE e.seq > ? ORDER BY e.seq DESC LIMIT ?""",
            (seq, limit),
        )
        return rows[::-1]

    def attempts_of_task(self, task: int) -> list[tuple[Any, ...]]:
        """Return number, status, reason, submission, start, end, exit code and data of each attempt of a task."""
        return self.query(
            "SELECT attempt, status, reason, submitted_at, started_at, ended_at, exit_code, data FROM attempts "
            "WHERE task = ? ORDER BY attempt",
            (task,),
        )

    def spec_of(self, task: int) -> str:
        """Return the specification of a task as JSON text."""
        text: str = self.query("SELECT spec FROM tasks WHERE id = ?", (task,))[0][0]
        return text

    # -- writing: only inside `transaction` ---------------------------------------------

    def create_run(self, run: RunRecord) -> None:
        """Write the row of a new run."""
        self._connection().execute(
            "INSERT INTO runs (run_id, workspace, status, reason, created_at, iteration, campaign_state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (run.run_id, run.workspace, run.status, run.reason, run.created_at, run.iteration, run.campaign_state),
        )

    def add_iteration(self, iteration: int, at: float, tasks: Sequence[tuple[Any, Sequence[str], str]]) -> None:
        """Write an iteration with its tasks.

        Parameters
        ----------
        iteration : int
            Its number.
        at : float
            Seconds since the Unix epoch.
        tasks : sequence of (Task, upstream ids, spec as JSON text)
            In the order of the plan; every upstream id is among them.
        """
        connection = self._connection()
        connection.execute("INSERT INTO iterations (iteration, created_at) VALUES (?, ?)", (iteration, at))
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM tasks").fetchone()
        ids = {task.task_id: last + number for number, (task, _, _) in enumerate(tasks, 1)}
        connection.executemany(
            "INSERT INTO tasks (id, iteration, task_id, operator, unmet, retries, allow_failure, "
            "allow_dependency_failure, spec) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    ids[task.task_id],
                    iteration,
                    task.task_id,
                    task.operator,
                    len(upstream),
                    task.retries,
                    task.allow_failure,
                    task.allow_dependency_failure,
                    spec,
                )
                for task, upstream, spec in tasks
            ),
        )
        # In the order of the primary key, so that the tree grows at its end.
        edges = sorted((ids[other], ids[task.task_id]) for task, upstream, _ in tasks for other in upstream)
        connection.executemany("INSERT INTO dependencies (dependency, task) VALUES (?, ?)", edges)
        self.recount(iteration)

    def end_iteration(self, iteration: int, at: float, campaign_state: str) -> None:
        """Note that an iteration was analyzed, with the campaign's new state."""
        connection = self._connection()
        connection.execute("UPDATE iterations SET ended_at = ? WHERE iteration = ?", (at, iteration))
        connection.execute("UPDATE runs SET campaign_state = ?", (campaign_state,))

    def set_iteration(self, iteration: int) -> None:
        """Make this the current iteration."""
        self._connection().execute("UPDATE runs SET iteration = ?", (iteration,))

    def recount(self, iteration: int) -> None:
        """Count the tasks of an iteration anew: after changes that touch many at once."""
        self._connection().execute(
            f"""UPDATE iterations SET (total, ready, {", ".join(_COUNTED)}) = (
              SELECT count(*), coalesce(sum(status = 'PENDING' AND unmet = 0), 0),
              {", ".join(f"coalesce(sum(status = '{name.upper()}'), 0)" for name in _COUNTED)}
              FROM tasks WHERE iteration = iterations.iteration) WHERE iteration = ?""",
            (iteration,),
        )

    def submit(self, attempts: Sequence[NewAttempt], iteration: int) -> list[int]:
        """Write the intents: tasks SUBMITTED, attempts SUBMITTING, with their tokens.

        Returns
        -------
        list of int
            The rows of the new attempts.
        """
        connection = self._connection()
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM attempts").fetchone()
        ids = list(range(last + 1, last + 1 + len(attempts)))
        connection.executemany(
            "INSERT INTO attempts (id, task, attempt, token, submitted_at, status) "
            "VALUES (?, ?, ?, ?, ?, 'SUBMITTING')",
            [(row, new.task, new.attempt, new.token, new.at) for row, new in zip(ids, attempts, strict=True)],
        )
        self.apply([TaskChange(new.task, TaskStatus.PENDING, TaskEvent.SUBMIT, new.at) for new in attempts], iteration)
        return ids

    def apply(self, changes: Sequence[Change], iteration: int) -> None:
        """Write changes of status, each with its row in the journal.

        Parameters
        ----------
        changes : sequence of AttemptChange, TaskChange or RunChange
            Those of one attempt or task in their order.
        iteration : int
            The current iteration: every changed task is of it.

        Raises
        ------
        StoreConflictError
            A status was not the one a change leaves.
        InvalidTransitionError
            A change that is in no table.
        """
        connection = self._connection()
        attempts: dict[int, list[object]] = {}
        tasks: list[tuple[object, ...]] = []
        journal: list[tuple[object, ...]] = []
        delta = dict.fromkeys((*_COUNTED, "ready"), 0)
        ended: list[tuple[int, bool]] = []
        for change in changes:
            match change:
                case AttemptChange():
                    status = advance(change.leaves, change.event)
                    _fold(attempts, change, status)
                    journal.append((change.at, change.task, change.attempt, change.event, status, change.reason))
                case TaskChange():
                    to = advance(change.leaves, change.event)
                    again = change.event is TaskEvent.RETRY
                    by_person = again and change.leaves is not TaskStatus.SUBMITTED
                    tasks.append(
                        (
                            to,
                            change.reason,
                            change.event is TaskEvent.SUBMIT,
                            by_person,
                            again or change.event is TaskEvent.FAIL,
                            change.task,
                            change.leaves,
                        )
                    )
                    journal.append((change.at, change.task, None, change.event, to, change.reason))
                    delta[change.leaves.lower()] -= 1
                    delta[to.lower()] += 1
                    if change.event is TaskEvent.SUBMIT:
                        delta["ready"] -= 1
                    elif again:
                        delta["ready"] += 1
                    else:
                        ended.append((change.task, to is TaskStatus.COMPLETED))
                case RunChange():
                    now = advance(change.leaves, change.event)
                    done = connection.execute(
                        "UPDATE runs SET status = ?, reason = ? WHERE status = ?", (now, change.reason, change.leaves)
                    )
                    self._expect(done.rowcount, 1, "run")
                    journal.append((change.at, None, None, change.event, now, change.reason))
        if attempts:
            found = connection.executemany(_ATTEMPT_SQL, list(attempts.values())).rowcount
            self._expect(found, len(attempts), "attempt")
        if tasks:
            self._expect(connection.executemany(_TASK_SQL, tasks).rowcount, len(tasks), "task")
        for completed in (True, False):
            over = [task for task, ended_well in ended if ended_well is completed]
            if over:
                delta["ready"] += self._satisfy(connection, over, completed)
        moved = {name: number for name, number in delta.items() if number}
        if moved:
            connection.execute(
                f"UPDATE iterations SET {', '.join(f'{name} = {name} + ?' for name in moved)} WHERE iteration = ?",
                (*moved.values(), iteration),
            )
        connection.executemany(_EVENT_SQL, journal)

    def note_reasons(self, reasons: Sequence[tuple[str, int]]) -> None:
        """Write why attempts stand where they stand, where that became known without a transition."""
        self._connection().executemany("UPDATE attempts SET reason = ? WHERE id = ?", reasons)

    def _expect(self, found: int, wanted: int, what: str) -> None:
        if found != wanted:
            raise StoreConflictError(
                f"{self.path}: {wanted - found} of {wanted} {what} changes found another status than they leave; "
                "nothing was changed. Somebody else wrote to this run; step again"
            )

    def cancel_unfinished(self, iteration: int, at: float) -> None:
        """Cancel every task of the iteration that is not over, however many there are."""
        connection = self._connection()
        for status in (TaskStatus.PENDING, TaskStatus.SUBMITTED):
            to = advance(status, TaskEvent.CANCEL)
            connection.execute(
                "INSERT INTO events (at, task, event, status) SELECT ?, id, ?, ? FROM tasks "
                "WHERE iteration = ? AND status = ? ORDER BY id",
                (at, TaskEvent.CANCEL, to, iteration, status),
            )
            connection.execute(
                "UPDATE tasks SET status = ? WHERE iteration = ? AND status = ?", (to, iteration, status)
            )
        self.recount(iteration)

    def find_task(self, iteration: int, task_id: str) -> tuple[int, TaskStatus, int, int] | None:
        """Return row, status, failures and retries of a task, or None."""
        rows = self.query(
            "SELECT id, status, failures, retries FROM tasks WHERE iteration = ? AND task_id = ?", (iteration, task_id)
        )
        return (rows[0][0], TaskStatus(rows[0][1]), *rows[0][2:]) if rows else None

    def downstream(self, tasks: Sequence[int]) -> list[tuple[int, str, TaskStatus]]:
        """Return row, task_id and status of the tasks, and of all that wait for them, however far."""
        rows = self.query(
            f"""WITH RECURSIVE below(id) AS (
              SELECT id FROM tasks WHERE id IN ({_marks(tasks)})
              UNION SELECT d.task FROM dependencies d JOIN below ON d.dependency = below.id)
            SELECT t.id, t.task_id, t.status FROM tasks t JOIN below USING (id) ORDER BY t.id""",
            tasks,
        )
        return [(task, task_id, TaskStatus(status)) for task, task_id, status in rows]

    def recount_unmet(self, tasks: Sequence[int], iteration: int) -> None:
        """Count anew what each of these tasks waits for."""
        self._connection().executemany(
            """UPDATE tasks SET unmet = (SELECT count(*) FROM dependencies d JOIN tasks p ON p.id = d.dependency
              WHERE d.task = tasks.id AND p.status != 'COMPLETED' AND NOT
              (tasks.allow_dependency_failure AND p.status IN ('FAILED', 'SKIPPED', 'CANCELLED'))) WHERE id = ?""",
            [(task,) for task in tasks],
        )
        self.recount(iteration)

    def failed_tasks(self, iteration: int) -> list[tuple[str, str | None]]:
        """Return task_id and reason of each failed task."""
        return self.query(
            "SELECT task_id, reason FROM tasks WHERE iteration = ? AND status = 'FAILED' ORDER BY id", (iteration,)
        )

    def culprits(self, task: int) -> list[str]:
        """Return the failed or cancelled tasks above a task."""
        rows = self.query(
            """WITH RECURSIVE above(id) AS (
              SELECT dependency FROM dependencies WHERE task = ?
              UNION SELECT d.dependency FROM dependencies d JOIN above ON d.task = above.id)
            SELECT t.task_id FROM tasks t JOIN above USING (id) WHERE t.status IN ('FAILED', 'CANCELLED')
            ORDER BY t.id""",
            (task,),
        )
        return [name for (name,) in rows]

    @staticmethod
    def _satisfy(connection: sqlite3.Connection, tasks: Sequence[int], completed: bool) -> int:
        """Count less dependencies for those that waited for `tasks`; return how many became ready."""
        ready = 0
        for first in range(0, len(tasks), _MOST_MARKS):
            some = tasks[first : first + _MOST_MARKS]
            marks = _marks(some)
            rows = connection.execute(
                f"""UPDATE tasks SET unmet = unmet -
                  (SELECT count(*) FROM dependencies d WHERE d.task = tasks.id AND d.dependency IN ({marks}))
                  WHERE id IN (SELECT task FROM dependencies WHERE dependency IN ({marks}))
                  AND (? OR allow_dependency_failure) RETURNING unmet, status""",
                (*some, *some, completed),
            ).fetchall()
            ready += sum(unmet == 0 and status == "PENDING" for unmet, status in rows)
        return ready

    def set_troubles(self, failing: Sequence[OperatorTrouble], healthy: Sequence[str]) -> None:
        """Write which operators are in trouble, and forget those that answered."""
        connection = self._connection()
        connection.executemany("DELETE FROM operator_troubles WHERE operator = ?", [(name,) for name in healthy])
        connection.executemany(
            "INSERT OR REPLACE INTO operator_troubles (operator, failures, since, ask_again_at, reason, suspended) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [(t.operator, t.failures, t.since, t.ask_again_at, t.reason, t.suspended) for t in failing],
        )


_TABLES = frozenset({"runs", "iterations", "tasks", "dependencies", "attempts", "events", "operator_troubles"})


def _fold(rows: dict[int, list[object]], change: AttemptChange, status: AttemptStatus) -> None:
    """Add a change to what `_ATTEMPT_SQL` gets: however many changes an attempt makes, its row is written once.

    Raises
    ------
    StoreConflictError
        The change leaves another status than the one before it has led to.
    """
    now = [change.reason, change.external_id, change.started_at, change.ended_at, change.exit_code, change.data]
    row = rows.get(change.attempt)
    if row is None:
        rows[change.attempt] = [status, *now, change.attempt, change.leaves]
        return
    if row[0] is not change.leaves:
        raise StoreConflictError(f"attempt {change.attempt} is {row[0]}, and a change leaves {change.leaves}")
    ended_at = row[4]
    row[0] = status
    row[1:7] = [old if new is None else new for old, new in zip(row[1:7], now, strict=True)]
    row[4] = change.ended_at if ended_at is None else ended_at


def _marks(values: Sequence[object]) -> str:
    """Return a placeholder for each value."""
    return ",".join("?" * len(values))


class _Connection(sqlite3.Connection):
    """A connection that closes when nobody holds it any more."""

    def __del__(self) -> None:
        self.close()


@contextlib.contextmanager
def _transaction(
    connection: sqlite3.Connection, guard: Callable[[], None] | None = None, kind: str = _WRITING
) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        if guard is not None:
            guard()
        if kind == _WRITING:
            reach("store.commit")
        connection.execute("COMMIT")
        if kind == _WRITING:
            reach("store.committed")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
