"""All that is written to a run's database, and nothing else writes there.

Journal mode TRUNCATE with synchronous FULL is safe on every file system that locks, and a
tick commits a few times only (https://www.sqlite.org/atomiccommit.html).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matterstack import interrupts
from matterstack.core.changes import (
    AttemptChange,
    AttemptNote,
    Change,
    Cleaned,
    NewAttempt,
    NewInput,
    Packed,
    RunChange,
    TaskChange,
)
from matterstack.core.made import Made
from matterstack.core.snapshot import OperatorTrouble, RunRecord
from matterstack.core.states import (
    TERMINAL_TASK,
    AttemptStatus,
    TaskEvent,
    TaskStatus,
    advance,
)
from matterstack.core.strict_json import to_text
from matterstack.core.text import storable
from matterstack.errors import InvalidTransitionError, StoreConflictError
from matterstack.platforms import user_name
from matterstack.storage import database, migrations
from matterstack.storage.reader import CAN_START, StoreReader

log = logging.getLogger("matterstack.storage")

_NOTHING_MADE = Made()
_COUNTED = ("pending", "submitted", "completed", "failed", "skipped", "cancelled")

#: A reason is of the status it was given with, and goes with that; what is said of an end stays while it is collected.
_ATTEMPT_SQL = """UPDATE attempts SET status = ?, reason = CASE status WHEN 'COLLECTING' THEN coalesce(?, reason)
  ELSE ? END, external_id = coalesce(?, external_id), started_at = coalesce(?, started_at),
  ended_at = coalesce(ended_at, ?), exit_code = coalesce(?, exit_code), data = coalesce(?, data),
  environment = coalesce((SELECT id FROM environments WHERE record = ?), environment),
  not_hashed = coalesce(?, not_hashed), cached = coalesce(?, cached), usage = coalesce(?, usage)
  WHERE id = ? AND status = ?"""
#: What a person retries ends anew, so that a campaign which streams takes its new result.
_TASK_SQL = """UPDATE tasks SET status = ?1, reason = ?2, attempts = attempts + ?3,
  failures = CASE WHEN ?4 THEN 0 ELSE failures + ?5 END, taken = CASE WHEN ?4 THEN taken * 0 ELSE taken END
  WHERE id = ?6 AND status = ?7"""
#: What a task waits for, counted anew.
_UNMET_SQL = """UPDATE tasks SET unmet = (SELECT count(*) FROM dependencies d JOIN tasks p ON p.id = d.dependency
  WHERE d.task = tasks.id AND p.status != 'COMPLETED' AND NOT
  (tasks.allow_dependency_failure AND p.status IN ('FAILED', 'SKIPPED', 'CANCELLED'))) WHERE id = ?"""
_EVENT_SQL = "INSERT INTO events (at, task, attempt, event, status, reason) VALUES (?, ?, ?, ?, ?, ?)"


_INPUT_SQL = """INSERT INTO inputs (attempt, name, source, path, sha256, origin) VALUES (?, ?,
  (SELECT a.id FROM tasks t JOIN attempts a ON a.task = t.id AND a.attempt = coalesce(?, t.attempts)
  WHERE t.iteration = ? AND t.task_id = ?), ?, ?, ?)"""


class SQLiteStateStore(StoreReader):
    """The database of a run, to change; made where there is none yet. It sees its own changes before they land.

    Parameters
    ----------
    path : str or os.PathLike
        Of ``state.sqlite``.
    create : bool
        Whether a missing or empty file becomes a new database of today's version; it is refused otherwise.
    final : str or os.PathLike, optional
        Where it will be, for the log, while it is made under another name.

    Raises
    ------
    DamagedStoreError, ForeignStoreError, NewerStoreError
        The file is refused with its bytes unchanged.

    Examples
    --------
    >>> import tempfile
    >>> store = SQLiteStateStore(Path(tempfile.mkdtemp()) / "state.sqlite")
    >>> store.version
    2
    """

    def __init__(
        self, path: str | os.PathLike[str], *, create: bool = True, final: str | os.PathLike[str] | None = None
    ) -> None:
        given = Path(path)
        self._guard: Callable[[], None] | None = None
        with interrupts.held(), database.errors(given):
            if create and (not os.path.lexists(given) or (given.is_file() and given.stat().st_size == 0)):
                _create(given)
        super().__init__(given)
        shown = str(final or given)
        log.info(
            "opened %s, schema version %d",
            shown,
            self.version,
            extra={"database": shown, "schema_version": self.version},
        )

    def _connection(self) -> database.Connection:
        """Return this thread's connection to the file that is at the path now; an older one is migrated first.

        In a transaction it is the connection that began it.
        """
        if (begun := self._begun()) is not None:
            return begun
        mine, status = self._mine, os.stat(self.path)
        if mine.connection is None or mine.identity != (os.getpid(), (status.st_dev, status.st_ino)):
            self.close()
            # What is refused is refused by looking, before anything of it is changed.
            looking = StoreReader(self.path)
            version = looking.version
            looking.close()
            files = database.look_at(self.path)
            mine.connection = database.open_known(self.path, files, "rw")
            if version < migrations.SCHEMA_VERSION:
                migrations.migrate(mine.connection, self.path, version)
            mine.identity, mine.version = (os.getpid(), files.identity), migrations.SCHEMA_VERSION
        return mine.connection

    def check_files(self) -> None:
        """Look at the files anew, before SQLite recovers what a killed writer left.

        Raises
        ------
        ForeignStoreError, DamagedStoreError
            Something lies there that recovering must not act upon; nothing was changed.
        """
        with database.errors(self.path):
            database.look_at(self.path)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside lands together, on disk, or not at all."""
        with (
            interrupts.held(),
            database.errors(self.path),
            database.transaction(self._connection(), self._guard),
        ):
            yield

    @contextlib.contextmanager
    def act(self) -> Iterator[None]:
        """Make a `transaction` that is a person's word: all that it writes in the journal names their account."""
        who = storable(user_name())
        with self.transaction():
            before = self.last_event()
            yield
            self._connection().execute("UPDATE events SET who = ? WHERE seq > ?", (who, before))

    @contextlib.contextmanager
    def guarded(self, guard: Callable[[], None]) -> Iterator[None]:
        """Call `guard` before each commit of the block: what it raises undoes the transaction."""
        self._guard = guard
        try:
            yield
        finally:
            self._guard = None

    # -- only inside `transaction` ------------------------------------------------------

    def create_run(self, run: RunRecord, code: str | None = None) -> None:
        """Write the row of a new run; `code` is the revision of the user's own modules as JSON text."""
        self._connection().execute(
            "INSERT INTO runs (run_id, workspace, status, reason, created_at, iteration, campaign_state, code, tags) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*run[:3], run.reason, run.created_at, run.iteration, run.campaign_state, code, _list_or_null(run.tags)),
        )

    def add_iteration(
        self,
        iteration: int,
        at: float,
        tasks: Sequence[tuple[Any, Sequence[str], str]],
        places: int | None = None,
    ) -> None:
        """Write an iteration with its tasks.

        Parameters
        ----------
        iteration : int
            Its number.
        at : float
            Seconds since the Unix epoch.
        tasks : sequence of (Task, upstream ids, spec as JSON text)
            In the order of the plan; every upstream id is among them.
        places : int, optional
            Of a campaign that streams: how many tasks it keeps unfinished.
        """
        self._connection().execute(
            "INSERT INTO iterations (iteration, created_at, places) VALUES (?, ?, ?)", (iteration, at, places)
        )
        self._insert(iteration, tasks, None if places is None else 0, {})
        self.recount(iteration)

    def add_tasks(
        self, iteration: int, tasks: Sequence[tuple[Any, Sequence[str], str]], there: Mapping[str, int]
    ) -> list[int]:
        """Write more tasks of an iteration that streams, whatever their number without a look at the others.

        Parameters
        ----------
        iteration : int
        tasks : sequence of (Task, upstream ids, spec as JSON text)
            Every upstream id is among them, or in `there`.
        there : mapping of str to int
            The rows of tasks that the iteration has already.

        Returns
        -------
        list of int
            Their rows.
        """
        rows = self._insert(iteration, tasks, 0, there)
        connection = self._connection()
        connection.executemany(_UNMET_SQL, [(row,) for row in rows])
        connection.execute(
            "UPDATE iterations SET total = total + ?1, pending = pending + ?1, ready = ready + ?2 WHERE iteration = ?3",
            (len(rows), self._ready_among(rows), iteration),
        )
        return rows

    def _insert(
        self,
        iteration: int,
        tasks: Sequence[tuple[Any, Sequence[str], str]],
        taken: int | None,
        there: Mapping[str, int],
    ) -> list[int]:
        connection = self._connection()
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM tasks").fetchone()
        ids = {task.task_id: last + number for number, (task, _, _) in enumerate(tasks, 1)}
        connection.executemany(
            "INSERT INTO tasks (id, iteration, task_id, operator, unmet, retries, allow_failure, "
            "allow_dependency_failure, spec, priority, taken, tags) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                    task.priority,
                    taken,
                    _list_or_null(task.tags),
                )
                for task, upstream, spec in tasks
            ),
        )
        known = {**there, **ids}
        # In the order of the primary key, so that the tree grows at its end.
        edges = sorted((known[other], ids[task.task_id]) for task, upstream, _ in tasks for other in upstream)
        connection.executemany("INSERT INTO dependencies (dependency, task) VALUES (?, ?)", edges)
        return list(ids.values())

    def take(self, tasks: Sequence[int], campaign_state: str) -> None:
        """Note that a campaign that streams has taken the results of these tasks, with the state that it has since."""
        connection = self._connection()
        connection.executemany("UPDATE tasks SET taken = 1 WHERE id = ?", [(task,) for task in tasks])
        connection.execute("UPDATE runs SET campaign_state = ?", (campaign_state,))

    def note_asked(self, iteration: int, asked: int, places: int) -> None:
        """Note up to which event a campaign that streams was asked."""
        self._connection().execute(
            "UPDATE iterations SET asked = ?, places = ? WHERE iteration = ?", (asked, places, iteration)
        )

    def note_update(self, at: float, status: str, reason: str, data: str) -> None:
        """Write in the journal what a campaign that streams took and added."""
        self._connection().execute(
            "INSERT INTO events (at, event, status, reason, data) VALUES (?, 'update', ?, ?, ?)",
            (at, status, reason, data),
        )

    def set_tags(self, tags: Sequence[str]) -> None:
        """Write the words that the run is found by."""
        self._connection().execute("UPDATE runs SET tags = ?", (_list_or_null(tags),))

    def set_task_tags(self, tags: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Write the words that tasks, by their rows, are found by."""
        self._connection().executemany(
            "UPDATE tasks SET tags = ? WHERE id = ?", [(_list_or_null(words), row) for row, words in tags]
        )

    def note_tags(self, at: float, event: str, status: str, reason: str, data: str) -> None:
        """Write in the journal that a person added or took away tags, and of what."""
        self._connection().execute(
            "INSERT INTO events (at, event, status, reason, data) VALUES (?, ?, ?, ?, ?)",
            (at, event, status, reason, data),
        )

    def note_told(self, at: float, status: str, said: Sequence[str], memory: str) -> int:
        """Write in the journal what somebody is told; return the number of the last event of that.

        Parameters
        ----------
        at : float
        status : str
            Of the run.
        said : sequence of str
            A row each, and not empty.
        memory : str
            All that has to be known for the next notices, as JSON text.
        """
        connection = self._connection()
        for text in said:
            last = connection.execute(
                "INSERT INTO events (at, event, status, reason) VALUES (?, 'told', ?, ?)", (at, status, storable(text))
            ).lastrowid
        connection.execute("UPDATE events SET data = ? WHERE seq = ?", (memory, last))
        connection.execute("UPDATE runs SET told = ?", (last,))
        assert last is not None
        return last

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
              SELECT count(*), coalesce(sum({CAN_START}), 0),
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
            "INSERT INTO attempts (id, task, attempt, token, submitted_at, changes, status) "
            "VALUES (?, ?, ?, ?, ?, ?, 'SUBMITTING')",
            [(row, *new) for row, new in zip(ids, attempts, strict=True)],
        )
        self.apply([TaskChange(new.task, TaskStatus.PENDING, TaskEvent.SUBMIT, new.at) for new in attempts], iteration)
        return ids

    def amend(self, changes: Sequence[tuple[int, str | None]]) -> None:
        """Note, for tasks by their rows, what their next attempts are made with that the plan says otherwise."""
        self._connection().executemany(
            "UPDATE tasks SET changes = ? WHERE id = ?", [(said, row) for row, said in changes]
        )

    def add_inputs(self, inputs: Sequence[tuple[int, NewInput]]) -> None:
        """Write what attempts, by their rows, take of others."""
        self._connection().executemany(
            _INPUT_SQL,
            [
                (row, one.name, one.attempt, one.iteration, one.task_id, one.path, one.sha256, one.origin)
                for row, one in inputs
            ],
        )

    def apply(self, changes: Sequence[Change], iteration: int) -> None:
        """Write changes of status, each with its row in the journal.

        Parameters
        ----------
        changes : sequence of AttemptChange, AttemptNote, TaskChange or RunChange
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
        rows = _Rows()
        for change in changes:
            try:
                rows.add(change)
            except (InvalidTransitionError, StoreConflictError) as error:
                raise type(error)(f"{self._subject(change)}: {error}; nothing was changed") from None
        connection = self._connection()
        ready_before = self._ready_among(rows.unsure)
        if rows.notes:
            connection.executemany("UPDATE attempts SET reason = ? WHERE id = ?", rows.notes)
        for values in rows.run:
            if connection.execute("UPDATE runs SET status = ?, reason = ? WHERE status = ?", values).rowcount != 1:
                raise self._conflict(changes)
        if rows.made:
            self._note_made(connection, rows.made)
        if rows.attempts:
            found = connection.executemany(
                _ATTEMPT_SQL, [(status, reason, reason, *rest) for status, reason, *rest in rows.attempts.values()]
            ).rowcount
            if found != len(rows.attempts):
                raise self._conflict(changes)
        if rows.tasks and connection.executemany(_TASK_SQL, rows.tasks).rowcount != len(rows.tasks):
            raise self._conflict(changes)
        self._keep_back(connection, rows)
        rows.delta["ready"] += self._ready_among(rows.unsure) - ready_before
        for completed in (True, False):
            over = [task for task, ended_well in rows.ended if ended_well is completed]
            if over:
                rows.delta["ready"] += self._satisfy(connection, over, completed)
        moved = {name: number for name, number in rows.delta.items() if number}
        if moved:
            connection.execute(
                f"UPDATE iterations SET {', '.join(f'{name} = {name} + ?' for name in moved)} WHERE iteration = ?",
                (*moved.values(), iteration),
            )
        if rows.journal:
            connection.executemany(_EVENT_SQL, rows.journal)

    @staticmethod
    def _keep_back(connection: sqlite3.Connection, rows: _Rows) -> None:
        """Note what keeps tasks back from now on."""
        if rows.held:
            connection.executemany("UPDATE tasks SET held = ? WHERE id = ?", rows.held)
        if rows.delays:
            connection.executemany("UPDATE tasks SET not_before = ? WHERE id = ?", rows.delays)

    def _ready_among(self, tasks: Sequence[int]) -> int:
        """Return how many of some tasks can start."""
        if not tasks:
            return 0
        sql = "SELECT count(*) FROM json_each(?) CROSS JOIN tasks ON tasks.id = value WHERE " + CAN_START
        number: int = self.query(sql, (to_text(list(tasks)),))[0][0]
        return number

    @staticmethod
    def _note_made(connection: sqlite3.Connection, made: Sequence[tuple[int, Made]]) -> None:
        """Note what attempts ran in, where no other has yet, and what they left."""
        records = {one.environment for _, one in made if one.environment is not None}
        connection.executemany("INSERT OR IGNORE INTO environments (record) VALUES (?)", [(one,) for one in records])
        outputs = [(attempt, *output) for attempt, one in made for output in one.outputs]
        sql = "INSERT OR REPLACE INTO outputs (attempt, name, sha256, size) VALUES (?, ?, ?, ?)"
        if outputs:
            connection.executemany(sql, outputs)

    def note_cleaned(self, cleaned: Sequence[Cleaned]) -> None:
        """Write in the journal that files of attempts are about to be removed."""
        self._connection().executemany(
            "INSERT INTO events (at, task, attempt, event, status, reason, data) VALUES (?, ?, ?, 'cleaned', ?, ?, ?)",
            [(one.at, one.task, one.attempt, one.status, one.reason, one.data) for one in cleaned],
        )

    def note_packed(self, packed: Sequence[Packed]) -> None:
        """Write in which archive attempts are, each with its row in the journal."""
        connection = self._connection()
        connection.executemany(
            "UPDATE attempts SET archive = ? WHERE id = ?", [(one.archive, one.attempt) for one in packed]
        )
        connection.executemany(
            "INSERT INTO events (at, task, attempt, event, status, reason, data) VALUES (?, ?, ?, 'packed', ?, ?, ?)",
            [(one.at, one.task, one.attempt, one.status, one.reason, one.data) for one in packed],
        )

    def _conflict(self, changes: Sequence[Change]) -> StoreConflictError:
        """Undo the transaction; return an error with the story of what stands otherwise than a change expected."""
        self._connection().execute("ROLLBACK")
        first: dict[tuple[str, int | None], Change] = {}
        for change in changes:
            match change:
                case AttemptChange():
                    first.setdefault(("attempt", change.attempt), change)
                case TaskChange():
                    first.setdefault(("task", change.task), change)
                case RunChange():
                    first.setdefault(("run", None), change)
        for (subject, row), change in first.items():
            assert isinstance(change, AttemptChange | TaskChange | RunChange)
            where = "" if row is None else f" WHERE id = {row}"
            found = self.query(f"SELECT status FROM {subject}s{where}")
            if found and found[0][0] == change.leaves:
                continue
            which = {"attempt": "attempt = ?", "task": "attempt IS NULL AND task = ?", "run": "task IS ?"}[subject]
            sql = f"SELECT event, status FROM events WHERE {which} ORDER BY seq DESC LIMIT 5"
            story = ", ".join(f"{event} -> {status}" for event, status in reversed(self.query(sql, (row,))))
            return StoreConflictError(
                f"{self.path}: {self._subject(change)} is {found[0][0] if found else 'not there'}, and a change leaves "
                f"{change.leaves} (its last events: {story or 'none'}); nothing was changed. Somebody else wrote to "
                "this run; step again",
                path=self.path,
            )
        return StoreConflictError(f"{self.path}: a change was given twice; nothing was changed", path=self.path)

    def _subject(self, change: Change) -> str:
        """Return what people call what a change is of: an attempt, a task, or the run."""
        match change:
            case AttemptChange() | AttemptNote():
                names = "t.iteration, t.task_id, a.attempt"
                sql = f"SELECT {names} FROM attempts a JOIN tasks t ON t.id = a.task WHERE a.id = ?"
                rows, kind, row = self.query(sql, (change.attempt,)), "attempt", change.attempt
            case TaskChange():
                sql = "SELECT iteration, task_id FROM tasks WHERE id = ?"
                rows, kind, row = self.query(sql, (change.task,)), "task", change.task
            case _:
                return "the run"
        return f"{kind} {'.'.join(map(str, rows[0])) if rows else f'in row {row}'}"

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

    def recount_unmet(self, tasks: Sequence[int], iteration: int) -> None:
        """Count anew what each of these tasks waits for."""
        self._connection().executemany(_UNMET_SQL, [(task,) for task in tasks])
        self.recount(iteration)

    @staticmethod
    def _satisfy(connection: sqlite3.Connection, tasks: Sequence[int], completed: bool) -> int:
        """Count less dependencies for those that waited for `tasks`; return how many became ready."""
        # As one JSON text: there is no bound on how many a statement takes.
        rows = connection.execute(
            """SELECT t.unmet - count(*), t.status = 'PENDING' AND t.held IS NULL, t.id
              FROM json_each(?) CROSS JOIN dependencies d ON d.dependency = value JOIN tasks t ON t.id = d.task
              WHERE ? OR t.allow_dependency_failure GROUP BY t.id""",
            (to_text(list(tasks)), completed),
        ).fetchall()
        connection.executemany("UPDATE tasks SET unmet = ? WHERE id = ?", [(unmet, row) for unmet, _, row in rows])
        return sum(unmet == 0 and may for unmet, may, _ in rows)

    def set_troubles(self, failing: Sequence[OperatorTrouble], healthy: Sequence[str]) -> None:
        """Write which operators are in trouble, and forget those that answered."""
        connection = self._connection()
        connection.executemany("DELETE FROM operator_troubles WHERE operator = ?", [(name,) for name in healthy])
        connection.executemany(
            "INSERT OR REPLACE INTO operator_troubles (operator, failures, since, ask_again_at, reason, suspended) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [(t.operator, t.failures, t.since, t.ask_again_at, storable(t.reason), t.suspended) for t in failing],
        )


class _Rows:
    """What changes come to in the tables: each row of an attempt is written once, however many changes it makes."""

    def __init__(self) -> None:
        self.attempts: dict[int, list[object]] = {}
        self.notes: list[tuple[str | None, int]] = []
        self.made: list[tuple[int, Made]] = []
        self.tasks: list[tuple[object, ...]] = []
        self.run: list[tuple[object, ...]] = []
        #: What keeps tasks back from now on, and until when; and those of which only the database knows whether they
        #: can start.
        self.held: list[tuple[str | None, int]] = []
        self.delays: list[tuple[float | None, int]] = []
        self.unsure: list[int] = []
        self.journal: list[tuple[object, ...]] = []
        self.delta = dict.fromkeys((*_COUNTED, "ready"), 0)
        #: Tasks that are over by these changes, and whether they completed.
        self.ended: list[tuple[int, bool]] = []

    def add(self, change: Change) -> None:
        """Take in a change.

        Raises
        ------
        InvalidTransitionError
            It is in no table.
        StoreConflictError
            It leaves another status than the one before it has led to.
        """
        if change.reason is not None and not change.reason.isascii():
            change = change._replace(reason=storable(change.reason))
        match change:
            case AttemptChange():
                status = advance(change.leaves, change.event)
                self._fold(change, status)
                self.journal.append((change.at, change.task, change.attempt, change.event, status, change.reason))
            case TaskChange():
                self._add_task(change, advance(change.leaves, change.event))
            case AttemptNote():
                self.notes.append((change.reason, change.attempt))
            case RunChange():
                now = advance(change.leaves, change.event)
                self.run.append((now, change.reason, change.leaves))
                self.journal.append((change.at, None, None, change.event, now, change.reason))

    def _add_task(self, change: TaskChange, to: TaskStatus) -> None:
        retry = change.event is TaskEvent.RETRY
        submits = change.event is TaskEvent.SUBMIT
        by_person = retry and change.leaves is not TaskStatus.SUBMITTED
        fails = retry or change.event in (TaskEvent.FAIL, TaskEvent.ASK)
        self.tasks.append((to, change.reason, submits, by_person, fails, change.task, change.leaves))
        self.journal.append((change.at, change.task, None, change.event, to, change.reason))
        self.delta[change.leaves.lower()] -= 1
        self.delta[to.lower()] += 1
        if submits:
            self.delta["ready"] -= 1
        elif change.event is not TaskEvent.COMPLETE:
            self.unsure.append(change.task)
        if change.event in (TaskEvent.ASK, TaskEvent.HOLD):
            asks = change.event is TaskEvent.ASK
            self.held.append((to_text({"asks": asks, "why": change.reason, "since": change.at}), change.task))
        elif by_person or change.event is TaskEvent.RELEASE:
            self.held.append((None, change.task))
        if by_person or change.not_before is not None:
            self.delays.append((change.not_before, change.task))
        if to in TERMINAL_TASK:
            self.ended.append((change.task, to is TaskStatus.COMPLETED))

    def _fold(self, change: AttemptChange, status: AttemptStatus) -> None:
        """Add a change to what `_ATTEMPT_SQL` gets."""
        made = change.made or _NOTHING_MADE
        if change.made is not None:
            self.made.append((change.attempt, made))
        not_hashed = to_text(made.not_hashed) if made.not_hashed else None
        now = [change.reason, change.external_id, change.started_at, change.ended_at, change.exit_code, change.data,
               made.environment, not_hashed, change.cached, change.usage]  # fmt: skip
        row = self.attempts.get(change.attempt)
        if row is None:
            self.attempts[change.attempt] = [status, *now, change.attempt, change.leaves]
            return
        if row[0] is not change.leaves:
            raise StoreConflictError(f"it is {row[0]} by the change before, and a change leaves {change.leaves}")
        reason, ended_at = row[1], row[4]
        row[0] = status
        row[1:11] = [old if new is None else new for old, new in zip(row[1:11], now, strict=True)]
        row[1] = reason if change.reason is None and change.leaves is AttemptStatus.COLLECTING else change.reason
        row[4] = change.ended_at if ended_at is None else ended_at


def _list_or_null(texts: Sequence[str]) -> str | None:
    return to_text(list(texts)) if texts else None


def _create(path: Path) -> None:
    with contextlib.suppress(FileExistsError):  # SQLite would make it for its user alone to write
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    connection = database.connect(path, "rwc")
    try:
        with database.transaction(connection):
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                schema = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
                for statement in schema.split(";\n"):
                    connection.execute(statement)
    finally:
        connection.close()
