"""The run as pandas tables: one row a thing, plain columns, times in UTC."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matterstack.core.states import AttemptStatus, TaskStatus
from matterstack.storage.reader import StoreReader

if TYPE_CHECKING:
    import pandas as pd

_TIMES = frozenset({"at", "submitted_at", "started_at", "ended_at", "created_at", "since"})
_WHOLE = frozenset({"exit_code", "attempt"})


def _frame(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(columns))
    for name in columns:
        if name in _TIMES:
            # Whole microseconds: seconds as floats would show rounding noise.
            stamps = frame[name].astype("Float64") * 1e6
            frame[name] = pd.to_datetime(stamps.round().astype("Int64"), unit="us", utc=True)
        elif name in _WHOLE:
            frame[name] = frame[name].astype("Int64")
        elif name in ("task_id", "reason", "token", "external_id", "event"):
            frame[name] = frame[name].astype("str")
    return frame


def _status(frame: pd.DataFrame, statuses: type[TaskStatus] | type[AttemptStatus]) -> pd.DataFrame:
    import pandas as pd

    kind = pd.CategoricalDtype([str(status) for status in statuses])
    frame["status"] = frame["status"].astype(kind)
    frame["operator"] = frame["operator"].astype("category")
    return frame


def tasks(store: StoreReader) -> pd.DataFrame:
    """Return a row a task; the times and the exit code are those of its last attempt.

    The index is ``<iteration>.<task_id>``.
    """
    columns = (
        "iteration",
        "task_id",
        "status",
        "operator",
        "attempt",
        "reason",
        "submitted_at",
        "started_at",
        "ended_at",
        "exit_code",
    )
    rows = store.query(
        """SELECT t.iteration, t.task_id, t.status, t.operator, t.attempts,
          CASE WHEN t.status = 'PENDING' AND t.unmet > 0 THEN 'waits for ' || t.unmet || ' of its dependencies'
            WHEN t.status = 'SUBMITTED' THEN a.reason ELSE coalesce(t.reason, a.reason) END,
          a.submitted_at, a.started_at, a.ended_at, a.exit_code
          FROM tasks t LEFT JOIN attempts a ON a.task = t.id AND a.attempt = t.attempts ORDER BY t.id"""
    )
    frame = _status(_frame(columns, rows), TaskStatus)
    frame.index = _labels(frame, "task", "iteration", "task_id")
    return frame


def attempts(store: StoreReader) -> pd.DataFrame:
    """Return a row an attempt, in the order of submission; the index is ``<iteration>.<task_id>.<attempt>``."""
    columns = (
        "iteration",
        "task_id",
        "attempt",
        "status",
        "operator",
        "reason",
        "token",
        "external_id",
        "submitted_at",
        "started_at",
        "ended_at",
        "exit_code",
    )
    rows = store.query(
        """SELECT t.iteration, t.task_id, a.attempt, a.status, t.operator, a.reason, a.token, a.external_id,
          a.submitted_at, a.started_at, a.ended_at, a.exit_code
          FROM attempts a JOIN tasks t ON t.id = a.task ORDER BY a.id"""
    )
    frame = _status(_frame(columns, rows), AttemptStatus)
    frame.index = _labels(frame, "attempt", "iteration", "task_id", "attempt")
    return frame


def events(store: StoreReader) -> pd.DataFrame:
    """Return the journal: a row a transition, in its order; the index is its sequence number."""
    columns = ("seq", "at", "subject", "iteration", "task_id", "attempt", "event", "status", "reason")
    rows = store.query(
        """SELECT e.seq, e.at, CASE WHEN e.attempt IS NOT NULL THEN 'attempt' WHEN e.task IS NOT NULL THEN 'task'
          ELSE 'run' END, t.iteration, t.task_id, a.attempt, e.event, e.status, e.reason
          FROM events e LEFT JOIN tasks t ON t.id = e.task LEFT JOIN attempts a ON a.id = e.attempt ORDER BY e.seq"""
    )
    frame = _frame(columns, rows)
    frame["iteration"] = frame["iteration"].astype("Int64")
    frame.index = frame["seq"].rename("event")
    return frame


def results(store: StoreReader) -> pd.DataFrame:
    """Return a row a completed task, with a column for each key of its ``result.json``.

    The index is ``<iteration>.<task_id>``. A key that would hide ``iteration``, ``task_id`` or
    ``attempt`` gets a trailing underscore; data that is not an object stands in ``data``.
    """
    import pandas as pd

    rows = store.query(
        """SELECT t.iteration, t.task_id, t.attempts, a.data FROM tasks t
          JOIN attempts a ON a.task = t.id AND a.attempt = t.attempts WHERE t.status = 'COMPLETED' ORDER BY t.id"""
    )
    taken = ("iteration", "task_id", "attempt")
    records = []
    for *identity, text in rows:
        data = json.loads(text) if text else {}
        if not isinstance(data, dict):
            data = {"data": data}
        safe = {f"{key}_" if key in taken else key: value for key, value in data.items()}
        records.append(dict(zip(taken, identity, strict=True)) | safe)
    frame = pd.DataFrame(records) if records else pd.DataFrame(columns=list(taken))
    frame.index = _labels(frame, "task", "iteration", "task_id")
    return frame


def _labels(frame: pd.DataFrame, name: str, *parts: str) -> pd.Index[Any]:
    import pandas as pd

    columns = [frame[part].astype(str) for part in parts]
    return pd.Index([".".join(values) for values in zip(*columns, strict=True)], name=name, dtype="str")
