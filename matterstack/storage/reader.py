"""Every question to a run's database. To look changes nothing: no byte of it, and no name beside it.

A connection belongs to one thread, so each thread gets its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from array import array
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack import interrupts
from matterstack.core.amended import amended
from matterstack.core.attempts import LiveAttempt
from matterstack.core.identifiers import check_identifier
from matterstack.core.snapshot import (
    IterationCounts,
    OperatorTrouble,
    ReadyTask,
    ResultRow,
    RunRecord,
    Snapshot,
    Stream,
    UntakenRow,
    Upstream,
)
from matterstack.core.states import (
    LIVE_ATTEMPT,
    TERMINAL_TASK,
    AttemptStatus,
    RunStatus,
    TaskStatus,
)
from matterstack.core.strict_json import to_text
from matterstack.core.tags import tags_in
from matterstack.errors import DamagedStoreError, LockUnsupportedError
from matterstack.storage import database, migrations

if TYPE_CHECKING:
    from matterstack.storage.rows import (
        AttemptRecord,
        AttemptRow,
        EventRow,
        GivenRow,
        IterationRow,
        LinkRow,
        NewsRow,
        OverAttempt,
        TaskColumns,
        TaskRow,
        TimeRow,
        ToldRow,
    )

#: The last second that a timestamp of Python can show.
_LATEST_S = 253_402_300_799
#: Faster than to call the enums, and this is done for each live attempt at each tick.
_ATTEMPT_STATUS = {str(status): status for status in AttemptStatus}
_TASK_STATUS = {str(status): status for status in TaskStatus}
_LIVE = ", ".join(f"'{status}'" for status in AttemptStatus if status in LIVE_ATTEMPT)
_LIVE_SQL = f"""SELECT a.id, a.task, t.iteration, t.task_id, a.attempt, a.status, a.token, t.operator, a.external_id,
  a.reason, a.submitted_at, a.started_at, t.status, t.failures, t.retries, t.spec, a.changes
  FROM attempts a JOIN tasks t ON t.id = a.task WHERE a.status IN ({_LIVE})"""
#: Which tasks can start, word for word as the index `ready_tasks` has it; those that may not yet are among them.
CAN_START = "status = 'PENDING' AND unmet = 0 AND held IS NULL"
_IN_TIME = "(not_before IS NULL OR not_before <= ?)"
#: A task that names no resource of the workspace. It is told by a look at the text, as it is asked of all that are
#: ready: JSON would take ten times as long, and a table of words for each task thrice.
_NAMES_NOTHING = """instr(spec, '"named":') = 0 AND instr(coalesce(changes, ''), '"named":') = 0"""
_SAYS_NOT = "instr(spec, ?) = 0 AND instr(coalesce(changes, ''), ?) = 0"
_SAYS_NONE = """NOT EXISTS
  (SELECT 1 FROM json_each(?) WHERE instr(spec, value) > 0 OR instr(coalesce(changes, ''), value) > 0)"""
#: An expression may be so deep only (https://www.sqlite.org/limits.html).
_MOST_WORDS = 50
#: Why a task stands where it stands: that of its attempt while it is under way, its own afterwards.
_REASON = """CASE WHEN t.status = 'PENDING' AND t.unmet > 0 THEN 'waits for ' || t.unmet || ' of its dependencies'
    WHEN t.status = 'SUBMITTED' THEN a.reason ELSE coalesce(t.reason, a.reason) END"""
_CACHED = """CASE WHEN json_valid(a.cached) THEN json_extract(a.cached, '$.run') || ' '
  || json_extract(a.cached, '$.attempt') END"""
_CPU_S, _PEAK_GIB = (
    f"CASE WHEN json_valid(a.usage) AND json_type(a.usage, '$.{name}') IN ('integer', 'real') "
    f"THEN json_extract(a.usage, '$.{name}') END"
    for name in ("cpu_s", "peak_memory_gib")
)
_LAST_ATTEMPT = "tasks t LEFT JOIN attempts a ON a.task = t.id AND a.attempt = t.attempts"
_TASK_SQL = f"""SELECT t.id, t.iteration, t.task_id, t.status, t.operator, t.attempts, {_REASON}, a.submitted_at,
  a.started_at, a.ended_at, a.exit_code, t.unmet, a.status, json_extract(t.spec, '$.group'), {_CACHED},
  t.held, t.not_before, t.tags FROM {_LAST_ATTEMPT}"""
#: Columns of many tasks as JSON: SQLite makes them without Python, and while it does others may go on.
_COLUMNS_SQL = """SELECT json_group_array(id), json_group_array(iteration), json_group_array(task_id),
  json_group_array(status), json_group_array(unmet), json_group_array(doing), json_group_array(held),
  json_group_array(operator), json_group_array(part) FROM (SELECT t.id, t.iteration, t.task_id, t.status, t.unmet,
  CASE t.status WHEN 'SUBMITTED' THEN (SELECT status FROM attempts WHERE task = t.id AND attempt = t.attempts) END
  AS doing, t.held, t.operator, json_extract(t.spec, '$.group') AS part
  FROM tasks t WHERE t.id > ? ORDER BY t.id LIMIT ?)"""
#: By what the tasks of a table are sorted.
_SORTED_BY = {
    "reason": f"nullif(substr({_REASON}, -300), '')",
    "since": "coalesce(a.started_at, a.submitted_at)",
    "took_s": "a.ended_at - a.started_at",
    "attempt": "t.attempts",
    "exit code": "a.exit_code",
}
_ATTEMPT_SQL = f"""SELECT t.iteration, t.task_id, a.attempt, a.status, t.operator, a.reason, a.token, a.external_id,
  a.submitted_at, a.started_at, a.ended_at, a.exit_code, {_CACHED}, a.changes, {_CPU_S}, {_PEAK_GIB}, a.data
  FROM attempts a JOIN tasks t ON t.id = a.task"""
_WHEN = (f"min(max(CAST(a.{name}_at AS REAL), 0), {_LATEST_S})" for name in ("submitted", "started", "ended"))
_TIME_SQL = f"""SELECT a.id, t.iteration, t.task_id, a.attempt, a.status, t.operator,
  CAST(json_extract(t.spec, '$.group') AS TEXT),
  CASE WHEN instr(t.spec, '"call":') THEN CAST(json_extract(t.spec, '$.call.function') AS TEXT) END,
  {", ".join(_WHEN)}, a.cached IS NOT NULL, {_CPU_S}, {_PEAK_GIB},
  CASE WHEN a.changes IS NOT NULL OR instr(t.spec, '"resources":') THEN t.spec END, a.changes
  FROM attempts a JOIN tasks t ON t.id = a.task"""
_EVENT_SQL = """SELECT e.seq, e.at, CASE WHEN e.attempt IS NOT NULL THEN 'attempt' WHEN e.task IS NOT NULL THEN 'task'
  ELSE 'run' END, t.iteration, t.task_id, a.attempt, e.event, e.status, e.reason, e.who FROM events e
  LEFT JOIN tasks t ON t.id = e.task LEFT JOIN attempts a ON a.id = e.attempt"""
#: What an attempt takes by name; and the data of tasks that it only comes after, by the attempt that was the last then.
_UP_SQL = """SELECT t.iteration, t.task_id, s.attempt, i.name, i.path, coalesce(i.sha256, o.sha256), i.origin
  FROM inputs i LEFT JOIN attempts s ON s.id = i.source LEFT JOIN tasks t ON t.id = s.task
  LEFT JOIN outputs o ON o.attempt = s.id AND o.name = i.path WHERE i.attempt = ?1
  UNION ALL SELECT t.iteration, t.task_id, s.attempt, 'inputs.json', 'result.json', o.sha256, NULL FROM attempts a
  JOIN dependencies d ON d.task = a.task JOIN attempts s
  ON s.id = (SELECT max(id) FROM attempts WHERE task = d.dependency AND id < a.id) JOIN tasks t ON t.id = s.task
  LEFT JOIN outputs o ON o.attempt = s.id AND o.name = 'result.json' WHERE a.id = ?1
  AND NOT EXISTS (SELECT 1 FROM inputs i WHERE i.attempt = a.id AND i.source = s.id)"""
_DOWN_SQL = """SELECT t.iteration, t.task_id, a.attempt, i.name, i.path, o.sha256, NULL FROM inputs i
  JOIN attempts a ON a.id = i.attempt JOIN tasks t ON t.id = a.task
  LEFT JOIN outputs o ON o.attempt = i.source AND o.name = i.path WHERE i.source = ?1
  UNION ALL SELECT t.iteration, t.task_id, a.attempt, 'inputs.json', 'result.json', o.sha256, NULL FROM attempts s
  JOIN dependencies d ON d.dependency = s.task JOIN attempts a ON a.task = d.task JOIN tasks t ON t.id = a.task
  LEFT JOIN outputs o ON o.attempt = s.id AND o.name = 'result.json'
  WHERE s.id = ?1 AND s.id = (SELECT max(id) FROM attempts WHERE task = s.task AND id < a.id)
  AND NOT EXISTS (SELECT 1 FROM inputs i WHERE i.attempt = a.id AND i.source = s.id)"""
_FROM_ELSEWHERE_SQL = """SELECT t.iteration, t.task_id, a.attempt, i.name, i.path, i.sha256, i.origin FROM inputs i
  JOIN attempts a ON a.id = i.attempt JOIN tasks t ON t.id = a.task WHERE i.origin = ?1 ORDER BY a.id"""
_OVER = ", ".join(f"'{status}'" for status in TaskStatus if status in TERMINAL_TASK)
#: What somebody may have to be told of since an event, as far as it is so still: the first few of each kind, and how
#: many there are.
_NEWS_SQL = """SELECT event, status, reason, iteration, task_id, task, operator, total FROM (
  SELECT e.seq, e.event, e.status, e.reason, t.iteration, t.task_id, t.id AS task, t.operator,
    count(*) OVER kinds AS total, row_number() OVER (kinds ORDER BY e.seq) AS place
  FROM events e CROSS JOIN runs r LEFT JOIN tasks t ON t.id = e.task LEFT JOIN attempts a ON a.id = e.attempt
  WHERE e.seq > ? AND (
    e.event IN ('pause', 'complete', 'fail') AND e.task IS NULL AND e.status = r.status
    OR e.event = 'fail' AND e.attempt IS NULL AND t.status = 'FAILED' AND NOT t.allow_failure AND t.taken IS NULL
    OR e.event = 'ask' AND t.held IS NOT NULL
    OR e.event = 'waiting' AND a.status = 'WAITING' AND t.status = 'SUBMITTED')
  WINDOW kinds AS (PARTITION BY e.event, e.task IS NULL, t.operator)) WHERE place <= ? ORDER BY seq"""
_TOLD_SQL = """SELECT r.told, e.seq, e.at, e.event, t.data FROM runs r
  LEFT JOIN events e ON e.seq = (SELECT max(seq) FROM events) LEFT JOIN events t ON t.seq = r.told"""
#: Of results that tasks wait for: how many tasks are looked at together, up to how many characters one comes with them,
#: and how many characters of larger ones are held.
_TASKS_AT_ONCE = 50
_SMALL = 4000
_MOST_HELD = 50_000_000


def _flat(text: str) -> str:
    """Return SQL for a JSON text; for the numbers and short texts at the top of one that is long."""
    top = f"""SELECT json_group_object(key, value) FROM json_each({text})
      WHERE type IN ('integer', 'real') OR (type = 'text' AND length(value) <= 100)"""
    return f"CASE WHEN length({text}) <= {_SMALL} THEN {text} WHEN json_valid({text}) THEN ({top}) END"


_PARAMETERS = _flat("coalesce(json_extract(t.spec, '$.call.kwargs'), json_extract(t.spec, '$.parameters'))")
#: Tasks that came to be completed, or are tried again, and what they gave.
_GIVEN_SQL = f"""WITH moved(task, seq) AS (SELECT task, max(seq) FROM (SELECT task, seq FROM events WHERE seq > ?
    AND task IS NOT NULL AND attempt IS NULL AND status IN ('COMPLETED', 'PENDING') ORDER BY seq LIMIT ?) GROUP BY task)
  SELECT moved.seq, t.id, t.iteration, t.task_id, t.attempts,
  CASE WHEN t.status = 'COMPLETED' THEN coalesce(a.ended_at, e.at) END, json_extract(t.spec, '$.call.function'),
  {_flat("a.data")}, {_PARAMETERS}, a.changes FROM moved JOIN events e ON e.seq = moved.seq
  JOIN tasks t ON t.id = moved.task LEFT JOIN attempts a ON a.task = t.id AND a.attempt = t.attempts
  ORDER BY moved.seq"""
_COUNTED = IterationCounts._fields
_COUNTS = ", ".join(_COUNTED)
_COUNT_CHECK_SQL = f"""SELECT i.iteration, {", ".join(f"i.{name}" for name in _COUNTED)},
  count(t.id), coalesce(sum(t.status = 'PENDING'), 0),
  coalesce(sum(t.status = 'PENDING' AND t.unmet = 0 AND t.held IS NULL), 0),
  {", ".join(f"coalesce(sum(t.status = '{name.upper()}'), 0)" for name in _COUNTED[3:])}
  FROM iterations i LEFT JOIN tasks t ON t.iteration = i.iteration GROUP BY i.iteration"""
#: What a pending task waits for; that of one that is over does not matter any more.
_UNMET_CHECK_SQL = """SELECT t.iteration, t.task_id, t.unmet, count(p.id) AS counted FROM tasks t
  LEFT JOIN dependencies d ON d.task = t.id LEFT JOIN tasks p ON p.id = d.dependency AND p.status != 'COMPLETED'
  AND NOT (t.allow_dependency_failure AND p.status IN ('FAILED', 'SKIPPED', 'CANCELLED'))
  WHERE t.status = 'PENDING' GROUP BY t.id HAVING t.unmet != counted ORDER BY t.id"""
#: A submitted task has one live attempt; one that was cancelled may have one that is being stopped; others have none.
_ATTEMPT_CHECK_SQL = f"""SELECT t.iteration, t.task_id, t.status, t.attempts, count(a.id) AS there,
  coalesce(sum(a.status IN ({_LIVE})), 0) AS live FROM tasks t LEFT JOIN attempts a ON a.task = t.id GROUP BY t.id
  HAVING there != t.attempts OR (t.status = 'SUBMITTED' AND live != 1)
  OR (live != 0 AND t.status NOT IN ('SUBMITTED', 'CANCELLED')) ORDER BY t.id"""


class _Mine(threading.local):
    """The connections of one thread to one database."""

    identity: tuple[int, tuple[int, int]] | None = None
    connection: database.Connection | None = None
    version: int | None = None
    #: A private copy, where the database itself cannot be read as it is, and of what it was made.
    copy: database.Connection | None = None
    copied: tuple[database.Fingerprint, database.Fingerprint] | None = None


class StoreReader:
    """The database of a run, to look at: opened read-only; nothing is created, migrated or rolled back in it.

    A database that its writer left in the middle of a commit, or one of an older schema, is read from a private copy.

    Parameters
    ----------
    path : str or os.PathLike
        Of ``state.sqlite``.
    most_steps : int, optional
        How much work SQLite may do, in steps of its virtual machine, before it is cut off: where many runs
        are looked at, and one of them may be anybody's.
    patience_s : float
        How long it is waited for while another program has it locked.

    Attributes
    ----------
    path : pathlib.Path
    version : int
        Of the schema, when it was opened.

    Raises
    ------
    RunNotFoundError
        There is no file.
    DamagedStoreError, ForeignStoreError, NewerStoreError
        The file is refused with its bytes unchanged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        most_steps: int | None = None,
        patience_s: float = database.PATIENCE_S,
    ) -> None:
        self.path = Path(path)
        self._patience_s = patience_s
        self._mine = _Mine()
        self._most_steps = most_steps
        with interrupts.held(), database.errors(self.path):
            connection, version = self._connection(), self._mine.version
            self.version = database.read_version(connection, self.path) if version is None else version

    def _begun(self) -> database.Connection | None:
        """Return the connection of the transaction that this thread is in; None where it is in none."""
        mine = self._mine
        if mine.connection is None or not mine.connection.in_transaction:
            return None
        return mine.connection if mine.identity is not None and mine.identity[0] == os.getpid() else None

    def _connection(self) -> database.Connection:
        """Return this thread's connection to the file at the path; in a transaction, the connection that began it."""
        if (begun := self._begun()) is not None:
            return begun
        mine, files = self._mine, database.look_at(self.path)
        if mine.connection is None or mine.identity != (os.getpid(), files.identity):
            self.close()
            # Where nothing locks, a private copy is what can be looked at.
            with contextlib.suppress(LockUnsupportedError):
                mine.connection = database.open_known(self.path, files, "ro", patience_s=self._patience_s)
                mine.identity = (os.getpid(), files.identity)
                if self._most_steps is not None:
                    database.bound(mine.connection, self._most_steps)
        if mine.connection is not None and not (files.journal and database.must_be_rolled_back(mine.connection)):
            if mine.version != migrations.SCHEMA_VERSION:  # not known yet, or older: a step may have migrated it since
                mine.version = database.read_version(mine.connection, self.path)
            if mine.version == migrations.SCHEMA_VERSION:
                return mine.connection
        if mine.copy is None or mine.copied != database.fingerprint(self.path):
            mine.copy, mine.copied = database.open_copy(self.path)
            if self._most_steps is not None:
                database.bound(mine.copy, self._most_steps)
        return mine.copy

    def close(self) -> None:
        """Close this thread's connections; they are opened again when needed."""
        mine = self._mine
        for connection in (mine.connection, mine.copy):
            if connection is not None:
                connection.close()
        mine.identity = mine.connection = mine.version = mine.copy = mine.copied = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with (
            interrupts.held(),
            database.errors(self.path),
            database.transaction(self._connection(), kind=database.READING),
        ):
            yield

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT."""
        with interrupts.held(), database.errors(self.path):
            return self._connection().execute(sql, parameters).fetchall()

    def run(self) -> RunRecord:
        """Return the row of the run."""
        columns = "run_id, workspace, status, reason, created_at, iteration, campaign_state, tags"
        rows = self.query(f"SELECT {columns} FROM runs LIMIT 2")
        if len(rows) != 1:
            raise self._damaged(f"holds {'no run' if not rows else 'more runs than one'}")
        run_id, workspace, status, reason, created_at, iteration, campaign_state, tags = rows[0]
        texts = (run_id, workspace, campaign_state, "" if reason is None else reason)
        if not all(isinstance(text, str) for text in texts) or status not in RunStatus.__members__:
            raise self._damaged("says things of its run that make no sense")
        if not (isinstance(created_at, int | float) and 0 <= created_at <= _LATEST_S and _is_count(iteration)):
            raise self._damaged("says times or numbers of its run that make no sense")
        status = RunStatus(status)
        return RunRecord(run_id, workspace, status, reason, created_at, iteration, campaign_state, tags_in(tags))

    def _damaged(self, what: str) -> DamagedStoreError:
        return DamagedStoreError(f"{self.path} {what}; it was left as it is", path=self.path)

    def counts(self, iteration: int) -> IterationCounts:
        """Return how many tasks of the iteration stand where."""
        rows = self.query(f"SELECT {_COUNTS} FROM iterations WHERE iteration = ?", (iteration,))
        if rows and not all(map(_is_count, rows[0])):
            raise self._damaged(f"counts tasks in a way that makes no sense: {rows[0]!r:.200}")
        return IterationCounts(*rows[0]) if rows else IterationCounts()

    def live_attempts(self) -> list[LiveAttempt]:
        """Return every attempt that is not over, oldest first."""
        try:
            found = [
                LiveAttempt._make(
                    (
                        *row[:5],
                        _ATTEMPT_STATUS[row[5]],
                        *row[6:12],
                        _TASK_STATUS[row[12]],
                        *row[13:15],
                        amended(*row[15:]),
                    )
                )
                for row in self.query(_LIVE_SQL)
            ]
            # They make the names of directories.
            for operator in {live.operator for live in found}:
                check_identifier(operator, "operator name")
            for live in found:
                check_identifier(live.task_id, "task id")
                if not (_is_count(live.attempt) and _is_count(live.iteration)):
                    raise ValueError(f"attempt {live.attempt!r} of iteration {live.iteration!r}")
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged(f"holds an attempt that makes no sense ({error})") from None
        return found

    def live_tokens(self) -> set[str]:
        """Return the tokens of all attempts that are not over."""
        return {token for (token,) in self.query(f"SELECT token FROM attempts WHERE status IN ({_LIVE})")}

    def live_external_ids(self) -> set[str]:
        """Return what the outside calls the attempts that are not over."""
        sql = f"SELECT DISTINCT external_id FROM attempts WHERE status IN ({_LIVE}) AND external_id IS NOT NULL"
        return {name for (name,) in self.query(sql)}

    def statuses_of(self, tokens: Collection[str]) -> dict[str, str]:
        """Return how attempts stand, by their tokens; nothing of those that are not there."""
        sql = "SELECT token, status FROM json_each(?) CROSS JOIN attempts ON token = value"
        return dict(self.query(sql, (to_text(sorted(tokens)),)))

    def snapshot(self, at: float) -> Snapshot:
        """Return all that a tick begins with, of one moment."""
        with self.reading():
            run = self.run()
            return Snapshot(run, self.counts(run.iteration), self.live_attempts(), self.troubles(), at)

    def ready_tasks(
        self, operator: str, limit: int, at: float, without: Collection[str] = (), saying_no: Collection[str] = ()
    ) -> list[ReadyTask]:
        """Return tasks of the operator that may start now, in the order of the plan.

        Parameters
        ----------
        operator : str
            By the name that tasks call it.
        limit : int
            Most tasks to return.
        at : float
            Seconds since the Unix epoch.
        without : collection of str
            Of tasks that name one of these resources none is wanted.
        saying_no : collection of str
            Nor of those that say one of these fields of their resources.
        """
        sql, wanted = f"{CAN_START} AND operator = ? AND {_IN_TIME}", [operator, at]
        if without:
            says_none, words = _says_none(without)
            sql += f" AND ({_NAMES_NOTHING} OR {says_none})"
            wanted += words
        if saying_no:
            says_none, words = _says_none(saying_no)
            sql += f" AND {says_none}"
            wanted += words
        rows = self.query(
            "SELECT id, task_id, operator, attempts, failures, retries, spec, changes FROM tasks "
            f"WHERE {sql} ORDER BY priority DESC, id LIMIT ?",
            (*wanted, limit),
        )
        try:
            for row in rows:
                check_identifier(row[1], "task id")
        except (ValueError, TypeError) as error:
            raise self._damaged(f"holds a task that makes no sense ({error})") from None
        return [ReadyTask(*row) for row in rows]

    def next_start(self, operators: Sequence[str]) -> float | None:
        """Return when the first task of some operators may start, of those that have to wait; None where none has."""
        sql = f"SELECT min(not_before) FROM json_each(?) CROSS JOIN tasks ON operator = value WHERE {CAN_START}"
        found = self.query(sql, (to_text(list(operators)),))[0][0]
        return found if isinstance(found, float) else None

    def kept_back(self, iteration: int) -> list[TaskRow]:
        """Return the tasks of an iteration that are not submitted although they could be."""
        from matterstack.storage.rows import TaskRow

        sql = f"{_TASK_SQL} WHERE t.iteration = ? AND t.status = 'PENDING' AND t.held IS NOT NULL ORDER BY t.id"
        return [TaskRow._make(row) for row in self.query(sql, (iteration,))]

    def unfinished(self, iteration: int, group: str | None = None) -> list[TaskRow]:
        """Return the tasks of an iteration that are not over, all or those of a group."""
        from matterstack.storage.rows import TaskRow

        sql = f"{_TASK_SQL} WHERE t.iteration = ?1 AND t.status IN ('PENDING', 'SUBMITTED') "
        sql += "AND (?2 IS NULL OR json_extract(t.spec, '$.group') = ?2) ORDER BY t.id"
        return [TaskRow._make(row) for row in self.query(sql, (iteration, group))]

    def delayed(self, iteration: int, at: float, limit: int) -> list[TaskRow]:
        """Return tasks of an iteration whose next attempt may not begin yet, the first one first."""
        from matterstack.storage.rows import TaskRow

        sql = f"{_TASK_SQL} WHERE t.iteration = ? AND t.status = 'PENDING' AND t.not_before > ?"
        rows = self.query(f"{sql} ORDER BY t.not_before LIMIT ?", (iteration, at, limit))
        return [TaskRow._make(row) for row in rows]

    def ready_operators(self, at: float) -> list[str]:
        """Return the operators with a task that may start now, by a skip through the index."""
        found: list[str] = []
        sql = f"SELECT operator FROM tasks WHERE {CAN_START} AND operator > ? AND {_IN_TIME} ORDER BY operator LIMIT 1"
        while rows := self.query(sql, (found[-1] if found else "", at)):
            (name,) = rows[0]
            found.append(name)
        return found

    def upstream_of(self, tasks: Sequence[int]) -> Iterator[list[Upstream]]:
        """Yield, for one task after the other, each task it waits for, with what that gave.

        What many wait for is read once. What is held at a time is bounded, but for what a single task needs.
        """
        large: dict[int, str] = {}
        for first in range(0, len(tasks), _TASKS_AT_ONCE):
            some = tasks[first : first + _TASKS_AT_ONCE]
            # Joined with json_each, since SQLite makes a table for each IN (SELECT), for whose memory the heap may grow
            # and shrink at each tick.
            waits: dict[int, list[int]] = {task: [] for task in some}
            for task, before in self.query(
                "SELECT task, dependency FROM json_each(?) CROSS JOIN dependencies ON task = value ORDER BY dependency",
                (to_text(list(some)),),
            ):
                waits[task].append(before)
            found = {
                row: (Upstream._make(said), attempt)
                for row, attempt, *said in self.query(
                    f"SELECT p.id, CASE WHEN length(a.data) > {_SMALL} THEN a.id END, p.task_id, p.status, p.attempts, "
                    f"CASE WHEN length(a.data) <= {_SMALL} THEN a.data END, p.operator "
                    "FROM json_each(?) CROSS JOIN tasks p ON p.id = value "
                    "LEFT JOIN attempts a ON a.task = p.id AND a.attempt = p.attempts",
                    (to_text(sorted(set().union(*waits.values()))),),
                )
            }
            for task in some:
                upstream = [found[before] for before in waits[task]]
                if needed := {attempt for _, attempt in upstream if attempt is not None}:
                    self._read_large(large, needed)
                yield [one if attempt is None else one._replace(data=large[attempt]) for one, attempt in upstream]

    def _read_large(self, held: dict[int, str], needed: set[int]) -> None:
        """Read what is needed and not held yet, in the place of what is not needed where that would be too much."""
        if sum(map(len, held.values())) > _MOST_HELD:
            for attempt in held.keys() - needed:
                del held[attempt]
        for attempt in needed - held.keys():
            ((held[attempt],),) = self.query("SELECT data FROM attempts WHERE id = ?", (attempt,))

    def pending_dependants(self, task: int) -> list[tuple[int, bool]]:
        """Return each pending task that waits for this one, and whether it allows its failure."""
        rows = self.query(
            "SELECT t.id, t.allow_dependency_failure FROM dependencies d JOIN tasks t ON t.id = d.task "
            "WHERE d.dependency = ? AND t.status = 'PENDING'",
            (task,),
        )
        return [(task, bool(allows)) for task, allows in rows]

    def files_taken_of(self, task: int) -> list[str]:
        """Return the paths of files that tasks of its iteration take of a task, or show of it."""
        rows = self.query(
            "SELECT DISTINCT json_extract(one.value, '$.path') FROM tasks p JOIN dependencies d ON d.dependency = p.id "
            'JOIN tasks t ON t.id = d.task JOIN json_each(\'["$.files", "$.show"]\') part '
            "JOIN json_each(t.spec, part.value) one "
            "WHERE p.id = ? AND one.type = 'object' AND json_extract(one.value, '$.task_id') = p.task_id "
            "AND json_extract(one.value, '$.iteration') IS NULL",
            (task,),
        )
        return [path for (path,) in rows]

    def attempts_of(self, operators: Sequence[str]) -> list[tuple[str, str, int, str, int, str]]:
        """Return token, operator, iteration, task_id, number and status of every attempt of some operators."""
        return self.query(
            "SELECT a.token, t.operator, t.iteration, t.task_id, a.attempt, a.status "
            "FROM attempts a JOIN tasks t ON t.id = a.task WHERE t.operator IN (SELECT value FROM json_each(?))",
            (to_text(list(operators)),),
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
            "SELECT task_id FROM tasks WHERE iteration = ? AND status = 'FAILED' AND NOT allow_failure "
            "AND taken IS NULL LIMIT 10",  # of a campaign that streams the campaign says what follows
            (iteration,),
        )
        return [name for (name,) in rows]

    def results(self, iteration: int) -> list[ResultRow]:
        """Return what each task of an iteration gave."""
        rows = self.query(
            "SELECT t.task_id, t.status, t.operator, t.attempts, t.reason, a.data FROM tasks t "
            "LEFT JOIN attempts a ON a.task = t.id AND a.attempt = t.attempts WHERE t.iteration = ? ORDER BY t.id",
            (iteration,),
        )
        return [ResultRow(name, TaskStatus(status), *rest) for name, status, *rest in rows]

    def stream(self, iteration: int) -> Stream | None:
        """Return how an iteration streams; None where its campaign does not."""
        rows = self.query("SELECT places, asked FROM iterations WHERE iteration = ? AND places > 0", (iteration,))
        return Stream(*rows[0]) if rows else None

    def untaken(self, iteration: int) -> list[UntakenRow]:
        """Return what tasks gave that are over and were not taken yet, in the order of the plan."""
        rows = self.query(
            "SELECT t.id, t.task_id, t.status, t.operator, t.attempts, t.reason, a.data FROM tasks t "
            "LEFT JOIN attempts a ON a.task = t.id AND a.attempt = t.attempts WHERE t.iteration = ? AND t.taken = 0 "
            f"AND t.status IN ({_OVER}) ORDER BY t.id",
            (iteration,),
        )
        return [UntakenRow(row, ResultRow(name, TaskStatus(status), *rest)) for row, name, status, *rest in rows]

    def under_way(self, iteration: int) -> list[tuple[int, str, TaskStatus, str]]:
        """Return row, task_id, status and specification of the unfinished tasks of an iteration that streams."""
        rows = self.query(
            "SELECT id, task_id, status, spec, changes FROM tasks WHERE iteration = ? AND taken = 0 "
            "AND status IN ('PENDING', 'SUBMITTED') ORDER BY id",
            (iteration,),
        )
        return [(row, name, TaskStatus(status), amended(*spec)) for row, name, status, *spec in rows]

    def ended_since(self, iteration: int, seq: int) -> bool:
        """Return whether a task of an iteration ended after an event."""
        sql = (
            "SELECT 1 FROM events e JOIN tasks t ON t.id = e.task WHERE e.seq > ? AND e.attempt IS NULL "
            f"AND e.status IN ({_OVER}) AND t.iteration = ? LIMIT 1"
        )
        return bool(self.query(sql, (seq, iteration)))

    def streamed(self, iteration: int, task_ids: Sequence[str]) -> dict[str, tuple[int, str, bool]]:
        """Return which ids of a list an iteration that streams has, in whatever case.

        Returns
        -------
        dict of (int, str, bool)
            Row and task_id, and whether it calls a function, by the id in lower case.
        """
        rows = self.query(
            "SELECT t.id, t.task_id, json_type(t.spec, '$.call') IS NOT NULL FROM json_each(?) CROSS JOIN tasks t "
            "ON t.iteration = ? AND t.task_id = value COLLATE NOCASE AND t.taken IS NOT NULL",
            (to_text(list(task_ids)), iteration),
        )
        return {name.lower(): (row, name, bool(calls)) for row, name, calls in rows}

    def hopeless(self, tasks: Sequence[int]) -> list[tuple[int, int, TaskStatus]]:
        """Return which of some pending tasks wait for one that ended otherwise than they need, that one, and how."""
        rows = self.query(
            "SELECT t.id, p.id, p.status FROM json_each(?) CROSS JOIN tasks t ON t.id = value "
            "JOIN dependencies d ON d.task = t.id JOIN tasks p ON p.id = d.dependency WHERE t.status = 'PENDING' "
            "AND p.status IN ('FAILED', 'SKIPPED', 'CANCELLED') AND NOT t.allow_dependency_failure ORDER BY t.id, p.id",
            (to_text(list(tasks)),),
        )
        return [(task, culprit, TaskStatus(status)) for task, culprit, status in rows]

    def troubles(self) -> dict[str, OperatorTrouble]:
        """Return the operators that cannot be asked now."""
        rows = self.query(
            "SELECT operator, failures, since, ask_again_at, reason, suspended FROM operator_troubles ORDER BY operator"
        )
        return {row[0]: OperatorTrouble._make((*row[:5], bool(row[5]))) for row in rows}

    def find_task(self, iteration: int, task_id: str) -> tuple[int, TaskStatus, int, int] | None:
        """Return row, status, failures and retries of a task, or None."""
        sql = "SELECT id, status, failures, retries FROM tasks WHERE iteration = ? AND task_id = ?"
        try:
            rows = self.query(sql, (iteration, task_id))
        except UnicodeEncodeError:  # no task has a name that SQLite cannot be asked for
            return None
        return (rows[0][0], TaskStatus(rows[0][1]), *rows[0][2:]) if rows else None

    def task_ids(self, iteration: int, most: int = 5000) -> list[str]:
        """Return ids of the tasks of an iteration, so many at most."""
        rows = self.query("SELECT task_id FROM tasks WHERE iteration = ? ORDER BY id LIMIT ?", (iteration, most))
        return [name for (name,) in rows]

    def downstream(self, tasks: Sequence[int]) -> list[tuple[int, str, TaskStatus]]:
        """Return row, task_id and status of the tasks, and of all that wait for them, however far."""
        rows = self.query(
            """WITH RECURSIVE below(id) AS (
              SELECT id FROM tasks WHERE id IN (SELECT value FROM json_each(?))
              UNION SELECT d.task FROM dependencies d JOIN below ON d.dependency = below.id)
            SELECT t.id, t.task_id, t.status FROM tasks t JOIN below USING (id) ORDER BY t.id""",
            (to_text(list(tasks)),),
        )
        return [(task, task_id, TaskStatus(status)) for task, task_id, status in rows]

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

    # -- for views: what changed, and no more -----------------------------------------------

    def stamp(self) -> tuple[int, ...]:
        """Return numbers that are others when anything in the database may have changed."""
        with interrupts.held(), database.errors(self.path):
            connection = self._connection()
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            return (id(connection), version, connection.total_changes)

    def last_event(self) -> int:
        """Return the number of the last event."""
        number: int = self.query("SELECT coalesce(max(seq), 0) FROM events")[0][0]
        return number

    def told(self) -> ToldRow:
        """Return up to which event somebody was told, and what stands in the journal with that."""
        from matterstack.storage.rows import ToldRow

        told, seq, at, event, memory = self.query(_TOLD_SQL)[0]
        return ToldRow(told or 0, seq or 0, at or 0.0, event == "told", memory)

    def news_after(self, seq: int, most: int) -> list[NewsRow]:
        """Return what somebody may have to be told of since an event, so many of each kind at most."""
        from matterstack.storage.rows import NewsRow

        return [NewsRow._make(row) for row in self.query(_NEWS_SQL, (seq, most))]

    def begun_after(self, attempt: int) -> tuple[int, int]:
        """Return how many tasks were begun since an attempt, by its row, and the row of the last attempt."""
        sql = "SELECT coalesce(sum(attempt = 1), 0), coalesce(max(id), ?1) FROM attempts WHERE id > ?1"
        count, last = self.query(sql, (attempt,))[0]
        return count, last

    def first_submission(self) -> float | None:
        """Return when the first attempt was submitted; None where none was."""
        rows = self.query("SELECT submitted_at FROM attempts ORDER BY id LIMIT 1")
        return rows[0][0] if rows else None

    def spending_after(self, seq: int) -> Iterator[tuple[Any, ...]]:
        """Yield after an event the ends of attempts, with what they used, and the moves of the run itself."""
        over = ", ".join(f"'{status}'" for status in AttemptStatus if status not in LIVE_ATTEMPT)
        yield from self.query(
            "SELECT e.seq, e.at, e.status, e.attempt, a.started_at, a.ended_at, t.spec, a.changes FROM events e "
            "LEFT JOIN attempts a ON a.id = e.attempt LEFT JOIN tasks t ON t.id = a.task WHERE e.seq > ? "
            f"AND (e.attempt IS NOT NULL AND e.status IN ({over}) OR e.attempt IS NULL AND e.task IS NULL) "
            "ORDER BY e.seq",
            (seq,),
        )

    def moved_at(self, *, last: bool = False) -> float | None:
        """Return when the run itself first moved from one status to another, or when last; None where it never did."""
        order = "DESC" if last else "ASC"
        moves = "task IS NULL AND attempt IS NULL AND event NOT IN ('update', 'tag', 'untag', 'told')"
        rows = self.query(f"SELECT at FROM events WHERE {moves} ORDER BY seq {order} LIMIT 1")
        return rows[0][0] if rows and isinstance(rows[0][0], float) and 0 <= rows[0][0] <= _LATEST_S else None

    def tasks(self, *, after: int = 0, at_most: int = -1) -> list[TaskRow]:
        """Return the tasks in the order of the plan: of every iteration, or those after a row, or only so many."""
        from matterstack.storage.rows import TaskRow

        rows = self.query(f"{_TASK_SQL} WHERE t.id > ? ORDER BY t.id LIMIT ?", (after, at_most))
        return [TaskRow._make(row) for row in rows]

    def task_columns(self, after: int, at_most: int) -> TaskColumns:
        """Return so many tasks after a row, in the order of the plan: in columns, what their look depends on."""
        from matterstack.storage.rows import TaskColumns

        columns = self.query(_COLUMNS_SQL, (after, at_most))[0]
        return TaskColumns(*map(json.loads, columns))

    def tasks_of(self, rows: Sequence[int]) -> list[TaskRow]:
        """Return some tasks, by their rows, in the order of the plan."""
        from matterstack.storage.rows import TaskRow

        sql = f"{_TASK_SQL} WHERE t.id IN (SELECT value FROM json_each(?)) ORDER BY t.id"
        return [TaskRow._make(row) for row in self.query(sql, (to_text(list(rows)),))]

    def tasks_sorted(self, by: str, *, down: bool = False) -> array[int]:
        """Return the rows of all tasks, sorted by a reason, a time or a number; what has none comes last.

        Parameters
        ----------
        by : {'reason', 'since', 'took_s', 'attempt', 'exit code'}
        down : bool
            The largest or latest first.
        """
        value = _SORTED_BY[by]
        sql = f"SELECT t.id FROM {_LAST_ATTEMPT} ORDER BY {value} IS NULL, {value} {'DESC' if down else 'ASC'}, t.id"
        return self._rows_of(sql, ())

    def tasks_that_say(self, text: str) -> array[int]:
        """Return the rows of the tasks with some text, of lower case, in their reason."""
        return self._rows_of(f"SELECT t.id FROM {_LAST_ATTEMPT} WHERE instr(lower({_REASON}), ?)", (text,))

    def _rows_of(self, sql: str, parameters: Sequence[object]) -> array[int]:
        ((rows,),) = self.query(f"SELECT json_group_array(id) FROM ({sql})", parameters)
        return array("q", json.loads(rows))

    def task(self, iteration: int, task_id: str) -> TaskRow | None:
        """Return one task; None where there is no such task."""
        from matterstack.storage.rows import TaskRow

        rows = self.query(f"{_TASK_SQL} WHERE t.iteration = ? AND t.task_id = ?", (iteration, task_id))
        return TaskRow._make(rows[0]) if rows else None

    def edges(self, *, after: int = 0) -> list[tuple[int, int]]:
        """Return the dependencies of the tasks after a row, as pairs of rows."""
        rows = self.query(
            "SELECT dependency, task FROM dependencies WHERE task > ? ORDER BY task, dependency", (after,)
        )
        return [(dependency, dependant) for dependency, dependant in rows]

    def edge_columns(self, after: int, last: int) -> tuple[list[int], list[int]]:
        """Return in columns the dependencies of the tasks after a row, up to a last one, as `edges` does."""
        ordered = "SELECT dependency, task FROM dependencies WHERE task > ? AND task <= ? ORDER BY task, dependency"
        sql = f"SELECT json_group_array(dependency), json_group_array(task) FROM ({ordered})"
        befores, tasks = self.query(sql, (after, last))[0]
        return json.loads(befores), json.loads(tasks)

    def neighbours(self, task: int) -> tuple[list[int], list[int]]:
        """Return the tasks that one waits for, and those that wait for it; all by their rows."""
        before = self.query("SELECT dependency FROM dependencies WHERE task = ? ORDER BY dependency", (task,))
        after = self.query("SELECT task FROM dependencies WHERE dependency = ? ORDER BY task", (task,))
        return [row for (row,) in before], [row for (row,) in after]

    def tasks_changed(self, seq: int) -> tuple[int, list[TaskRow]]:
        """Return the number of the last event, and the tasks that may look otherwise since event `seq`.

        Those are the tasks of the events, those that depend on them, and all that are live: what
        an attempt waits for may change without an event.
        """
        from matterstack.storage.rows import TaskRow

        rows = self.query(
            f"""WITH touched(id) AS (SELECT task FROM events WHERE seq > ? AND task IS NOT NULL),
              near(id) AS (SELECT id FROM touched UNION SELECT d.task FROM dependencies d JOIN touched
              ON d.dependency = touched.id UNION SELECT task FROM attempts WHERE status IN ({_LIVE}))
            {_TASK_SQL} JOIN near ON near.id = t.id""",
            (seq,),
        )
        return self.last_event(), [TaskRow._make(row) for row in rows]

    def attempts(self) -> list[AttemptRow]:
        """Return every attempt, in the order of submission."""
        from matterstack.storage.rows import AttemptRow

        return [AttemptRow._make(row) for row in self.query(f"{_ATTEMPT_SQL} ORDER BY a.id")]

    def attempts_of_task(self, task: int) -> list[AttemptRow]:
        """Return the attempts at a task, by its row."""
        from matterstack.storage.rows import AttemptRow

        return [AttemptRow._make(row) for row in self.query(f"{_ATTEMPT_SQL} WHERE a.task = ? ORDER BY a.id", (task,))]

    def times(self, *, after: int = 0, at_most: int = -1) -> list[TimeRow]:
        """Return when attempts ran, in the order of submission: all, or those after a row, or only so many."""
        from matterstack.storage.rows import TimeRow

        rows = self.query(f"{_TIME_SQL} WHERE a.id > ? ORDER BY a.id LIMIT ?", (after, at_most))
        return [TimeRow._make(row) for row in rows]

    def times_changed(self, seq: int, up_to: int) -> list[TimeRow]:
        """Return when attempts ran that moved since event `seq`: of those up to a row, in the order of submission."""
        from matterstack.storage.rows import TimeRow

        moved = "SELECT attempt FROM events WHERE seq > ? AND attempt <= ?"
        rows = self.query(f"{_TIME_SQL} WHERE a.id IN ({moved}) ORDER BY a.id", (seq, up_to))
        return [TimeRow._make(row) for row in rows]

    def events(self) -> list[EventRow]:
        """Return the journal, in its order."""
        from matterstack.storage.rows import EventRow

        return [EventRow._make(row) for row in self.query(f"{_EVENT_SQL} ORDER BY e.seq")]

    def acts(self) -> list[EventRow]:
        """Return of the journal what was a person's word, in its order."""
        from matterstack.storage.rows import EventRow

        return [EventRow._make(row) for row in self.query(f"{_EVENT_SQL} WHERE e.who IS NOT NULL ORDER BY e.seq")]

    def events_after(self, seq: int, limit: int) -> list[EventRow]:
        """Return the last `limit` events after `seq`."""
        from matterstack.storage.rows import EventRow

        rows = self.query(f"{_EVENT_SQL} WHERE e.seq > ? ORDER BY e.seq DESC LIMIT ?", (seq, limit))
        return [EventRow._make(row) for row in rows[::-1]]

    def completed(self) -> list[tuple[AttemptRow, str | None]]:
        """Return the attempt that completed each completed task, and the function that it called, if any."""
        from matterstack.storage.rows import AttemptRow

        columns = _ATTEMPT_SQL.replace("a.data\n", "a.data, json_extract(t.spec, '$.call.function')\n")
        sql = f"{columns} AND a.attempt = t.attempts WHERE t.status = 'COMPLETED' ORDER BY t.id"
        return [(AttemptRow._make(row), function) for *row, function in self.query(sql)]

    def given_after(self, seq: int, at_most: int) -> tuple[int, list[GivenRow]]:
        """Return the event up to which was looked, and what came in after event `seq`, in that order.

        Of so many events at most: where there are rows, there may be more.
        """
        from matterstack.storage.rows import GivenRow

        with self.reading():
            rows = [GivenRow._make(row) for row in self.query(_GIVEN_SQL, (seq, at_most))]
            return (rows[-1].seq if rows else self.last_event()), rows

    def iterations(self) -> list[IterationRow]:
        """Return the iterations, in their order."""
        from matterstack.storage.rows import IterationRow

        rows = self.query(f"SELECT iteration, created_at, ended_at, {_COUNTS} FROM iterations ORDER BY iteration")
        return [IterationRow(n, created, ended, IterationCounts(*rest)) for n, created, ended, *rest in rows]

    def specification(self, task: int) -> str:
        """Return what shall be done, as JSON text, by the task's row."""
        text: str = self.query("SELECT spec FROM tasks WHERE id = ?", (task,))[0][0]
        return text

    def specifications(self) -> list[tuple[int, str, str]]:
        """Return iteration, task_id and what shall be done next, as JSON text, of every task, in the order of the plan.

        That is what the plan says, and what a person's words have changed of it.
        """
        rows = self.query("SELECT iteration, task_id, spec, changes FROM tasks ORDER BY id")
        return [(iteration, task_id, amended(*spec)) for iteration, task_id, *spec in rows]

    def waits(self, task: int) -> bool:
        """Return whether a task, by its row, waits for a word or a time, and not for another task."""
        waits = "status = 'PENDING' AND (held IS NOT NULL OR not_before IS NOT NULL)"
        return bool(self.query(f"SELECT 1 FROM tasks WHERE id = ? AND {waits}", (task,)))

    def amendment(self, task: int) -> str | None:
        """Return what the next attempts of a task are made with that its specification says otherwise, as JSON text."""
        text: str | None = self.query("SELECT changes FROM tasks WHERE id = ?", (task,))[0][0]
        return text

    # -- what was made from what -------------------------------------------------------------

    def attempt_row(self, label: str) -> int:
        """Return the row of an attempt by its label, ``<iteration>.<task_id>.<attempt>``.

        Raises
        ------
        KeyError
            There is no such attempt.
        """
        iteration, _, rest = label.partition(".")
        task_id, _, attempt = rest.rpartition(".")
        rows = self.query(
            "SELECT a.id FROM tasks t JOIN attempts a ON a.task = t.id "
            "WHERE t.iteration = CAST(? AS INTEGER) AND t.task_id = ? AND a.attempt = CAST(? AS INTEGER)",
            (iteration, task_id, attempt),
        )
        if not rows:
            raise KeyError(label)
        row: int = rows[0][0]
        return row

    def made_of(self, attempt: int) -> tuple[str | None, str | None, str | None, list[tuple[str, str, int]]]:
        """Return by its row what an attempt ran in, what was not hashed, which entry of a cache it took; and outputs.

        All is JSON text but the outputs, which are name, SHA-256 and size.
        """
        ((environment, not_hashed, cached),) = self.query(
            "SELECT e.record, a.not_hashed, a.cached FROM attempts a LEFT JOIN environments e ON e.id = a.environment "
            "WHERE a.id = ?",
            (attempt,),
        )
        outputs = self.query("SELECT name, sha256, size FROM outputs WHERE attempt = ? ORDER BY name", (attempt,))
        return environment, not_hashed, cached, outputs

    def code(self) -> str | None:
        """Return the revision of the user's own modules when the run was made, as JSON text."""
        found: str | None = self.query("SELECT code FROM runs")[0][0]
        return found

    def links_up(self, attempt: int) -> list[LinkRow]:
        """Return what an attempt takes, by its row."""
        return self._links(_UP_SQL, attempt)

    def links_down(self, attempt: int) -> list[LinkRow]:
        """Return what takes something of an attempt, by its row."""
        return self._links(_DOWN_SQL, attempt)

    def links_from(self, origin: str) -> list[LinkRow]:
        """Return what takes something of an attempt of another run, ``"<run_id> <label>"``."""
        return self._links(_FROM_ELSEWHERE_SQL, origin)

    def _links(self, sql: str, of: int | str) -> list[LinkRow]:
        from matterstack.storage.rows import LinkRow

        return [LinkRow._make(row) for row in self.query(sql, (of,))]

    def commands_left(self) -> int:
        """Return how many tasks that are not over run a command or a function."""
        sql = (
            "SELECT count(*) FROM tasks WHERE status IN ('PENDING', 'SUBMITTED') "
            "AND coalesce(json_type(spec, '$.command'), json_type(spec, '$.call')) IS NOT NULL"
        )
        number: int = self.query(sql)[0][0]
        return number

    def records(self) -> Iterator[AttemptRecord]:
        """Yield all that is recorded of each attempt, in the order of submission."""
        from matterstack.storage.rows import AttemptRecord, AttemptRow

        more = "a.data, a.id, t.spec, e.record, a.not_hashed, a.archive\n"
        columns = _ATTEMPT_SQL.replace("a.data\n", more)
        outputs: dict[int, list[tuple[str, str, int]]] = {}
        for attempt, *output in self.query("SELECT attempt, name, sha256, size FROM outputs ORDER BY attempt, name"):
            outputs.setdefault(attempt, []).append(tuple(output))
        removed: dict[int, list[str]] = {}
        for attempt, what in self.query("SELECT attempt, data FROM events WHERE event = 'cleaned' ORDER BY seq"):
            removed.setdefault(attempt, []).append(what)
        for *row, number, spec, environment, not_hashed, archive in self.query(
            f"{columns} LEFT JOIN environments e ON e.id = a.environment ORDER BY a.id"
        ):
            known = AttemptRow._make(row)
            yield AttemptRecord(
                number,
                known,
                amended(spec, known.changes),
                environment,
                not_hashed,
                archive,
                outputs.get(number, []),
                removed.get(number, []),
            )

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """Write the database, as it is at one moment, to a file that is not there yet.

        The same content gives the same bytes: what was removed is not in it, and no page is where it was by chance.
        """
        with interrupts.held(), database.errors(self.path):
            connection = self._connection()
            try:
                connection.execute("PRAGMA query_only = OFF")  # that of a private copy, which counts this as writing
                connection.execute("VACUUM INTO ?", (os.fspath(path),))
            finally:
                connection.execute(f"PRAGMA query_only = {'ON' if connection is self._mine.copy else 'OFF'}")
            database.forget_changes_of_schema(path)

    # -- room on disk -----------------------------------------------------------------------

    def functions(self) -> dict[tuple[int, str], str]:
        """Return which function each task calls, by iteration and task_id; of other tasks nothing."""
        sql = (
            "SELECT iteration, task_id, json_extract(spec, '$.call.function') FROM tasks "
            "WHERE json_type(spec, '$.call') IS NOT NULL"
        )
        return {(iteration, task_id): str(function) for iteration, task_id, function in self.query(sql)}

    def has_scratch(self, iteration: int) -> bool:
        """Return whether a task of an iteration names scratch: an index tells, so other runs pay nothing for it."""
        sql = "SELECT 1 FROM tasks WHERE iteration = ? AND instr(spec, '\"scratch\":') > 0 LIMIT 1"
        return bool(self.query(sql, (iteration,)))

    def scratch_after(self, tasks: Sequence[int]) -> list[OverAttempt]:
        """Return the attempts with scratch that nobody needs any more: of these tasks, or of those they wait for.

        Such a task is completed, and so is each that depends on it: what failed could be tried again, and need it.
        """
        have = "t.status = 'COMPLETED' AND json_type(t.spec, '$.scratch') IS NOT NULL"
        near = self.query(
            f"SELECT t.id FROM json_each(?1) JOIN tasks t ON t.id = value WHERE {have} UNION ALL "
            "SELECT t.id FROM json_each(?1) JOIN dependencies d ON d.task = value JOIN tasks t ON t.id = d.dependency "
            f"WHERE {have}",
            (to_text(list(tasks)),),
        )
        over = (
            "NOT EXISTS (SELECT 1 FROM dependencies d JOIN tasks n ON n.id = d.task "
            "WHERE d.dependency = t.id AND n.status != 'COMPLETED')"
        )
        return [
            one
            for task in sorted({task for (task,) in near})
            for one in self._over(f"a.attempt = t.attempts WHERE t.id = ? AND {over}", (task,))
        ]

    def scratch_of(self, iteration: int) -> list[OverAttempt]:
        """Return the attempts of an iteration that are over, and whose tasks name scratch."""
        return self._over(
            f"a.status NOT IN ({_LIVE}) WHERE t.iteration = ? AND json_type(t.spec, '$.scratch') IS NOT NULL",
            (iteration,),
        )

    def earlier_attempts(self) -> list[OverAttempt]:
        """Return the attempts at commands that surely ended, other than the last one, of tasks that are over.

        Not those that a further attempt would begin from: of a task with ``restart`` that has failed.
        """
        return self._over(
            "a.attempt < t.attempts AND a.status IN ('COMPLETED', 'FAILED', 'CANCELLED') "
            f"WHERE t.status IN ({_OVER}) "
            "AND coalesce(json_type(t.spec, '$.command'), json_type(t.spec, '$.call')) IS NOT NULL "
            "AND NOT (t.status = 'FAILED' AND json_type(t.spec, '$.restart') IS NOT NULL "
            "AND t.iteration = (SELECT max(iteration) FROM iterations))",
            (),
        )

    def attempts_to_pack(self, iteration: int) -> list[OverAttempt]:
        """Return the attempts of an iteration that surely ended, and are in no archive."""
        return self._over(
            "a.status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND a.archive IS NULL WHERE t.iteration = ?", (iteration,)
        )

    def packed_attempts(self) -> list[tuple[OverAttempt, str]]:
        """Return the attempts that are in archives, and in which."""
        where = dict(self.query("SELECT id, archive FROM attempts WHERE archive IS NOT NULL"))
        return [(one, str(where[one.id])) for one in self._over("a.archive IS NOT NULL", ())]

    def archives(self) -> list[str]:
        """Return the archives that attempts are in."""
        return [name for (name,) in self.query("SELECT DISTINCT archive FROM attempts WHERE archive IS NOT NULL")]

    def archive_of(self, iteration: int, task_id: str, attempt: int) -> str | None:
        """Return the archive that an attempt is in; None where it is in none."""
        rows = self.query(
            "SELECT a.archive FROM attempts a JOIN tasks t ON t.id = a.task "
            "WHERE t.iteration = ? AND t.task_id = ? AND a.attempt = ?",
            (iteration, task_id, attempt),
        )
        return str(rows[0][0]) if rows and rows[0][0] is not None else None

    def _over(self, joined: str, parameters: Sequence[object]) -> list[OverAttempt]:
        from matterstack.storage.rows import OverAttempt

        columns = "a.id, a.task, a.attempt, a.status, t.iteration, t.task_id, t.operator, t.spec"
        rows = self.query(
            f"SELECT {columns} FROM tasks t JOIN attempts a ON a.task = t.id AND {joined} ORDER BY a.id", parameters
        )
        try:
            for row in rows:  # they make the names of directories
                check_identifier(row[5], "task id")
                check_identifier(row[6], "operator name")
                if not (_is_count(row[2]) and _is_count(row[4])):
                    raise ValueError(f"attempt {row[2]!r} of iteration {row[4]!r}")
        except (ValueError, TypeError) as error:
            raise self._damaged(f"holds an attempt that makes no sense ({error})") from None
        return [OverAttempt._make(row) for row in rows]

    def specifications_to_come(self) -> list[str]:
        """Return what may still be done and names attempts, as JSON: plans, and words of a person on them."""
        current = "SELECT max(iteration) FROM iterations"
        sql = (
            "SELECT spec FROM tasks WHERE status IN ('PENDING', 'SUBMITTED') AND instr(spec, '\"iteration\"') > 0 "
            "UNION ALL SELECT changes FROM tasks "
            f"WHERE iteration = ({current}) AND status != 'COMPLETED' AND instr(changes, '\"attempt\"') > 0"
        )
        return [spec for (spec,) in self.query(sql)]

    def cleaned(self, iteration: int, task_id: str, attempt: int) -> list[tuple[float, str]]:
        """Return when files of an attempt were removed, and what was said of it, as JSON, in that order."""
        return self.query(
            "SELECT e.at, e.data FROM events e JOIN attempts a ON a.id = e.attempt JOIN tasks t ON t.id = a.task "
            "WHERE e.event = 'cleaned' AND t.iteration = ? AND t.task_id = ? AND a.attempt = ? ORDER BY e.seq",
            (iteration, task_id, attempt),
        )

    # -- the database against itself ------------------------------------------------------

    def check(self) -> list[str]:
        """Return in plain words where the database contradicts itself; empty where it does not.

        What SQLite finds, counters that do not agree with the rows they count, and statuses of
        tasks and attempts that cannot be together.
        """
        with self.reading():
            found = [f"SQLite: {said}" for (said,) in self.query("PRAGMA integrity_check") if said != "ok"]
            found += [
                f"table {table}, row {row}: names a row of {parent} that is not there"
                for table, row, parent, _ in self.query("PRAGMA foreign_key_check")
            ]
            for iteration, *numbers in self.query(_COUNT_CHECK_SQL):
                stored, counted = numbers[: len(_COUNTED)], numbers[len(_COUNTED) :]
                found += [
                    f"iteration {iteration}: {name} is stored as {said}, and {there} are there"
                    for name, said, there in zip(_COUNTED, stored, counted, strict=True)
                    if said != there
                ]
            found += [
                f"task {iteration}.{task_id}: it waits for {said} dependencies, and {there} are not satisfied"
                for iteration, task_id, said, there in self.query(_UNMET_CHECK_SQL)
            ]
            found += [
                f"task {iteration}.{task_id}: it is {status}, and has {there} attempts of {said}, {live} of them live"
                for iteration, task_id, status, said, there, live in self.query(_ATTEMPT_CHECK_SQL)
            ]
        return found


def _says_none(names: Collection[str]) -> tuple[str, list[str]]:
    """Return the condition that a task says none of some names, and its values."""
    words = [f'"{name}":' for name in sorted(names)]
    if len(words) > _MOST_WORDS:
        return _SAYS_NONE, [to_text(words)]
    return " AND ".join([_SAYS_NOT] * len(words)), [word for word in words for _ in range(2)]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 2**53
