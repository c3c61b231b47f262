"""Statuses of runs, tasks and attempts, and the three tables of moves between them.

A move that is not in a table does not exist: `advance` is the only way from one status
to the next, and the store refuses an update that does not leave the status it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar, cast

from matterstack.errors import InvalidTransitionError


class RunStatus(StrEnum):
    """Status of a run."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class RunEvent(StrEnum):
    """What may happen to a run."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    RETRY = "retry"
    REOPEN = "reopen"


class TaskStatus(StrEnum):
    """Status of a task. READY and BLOCKED are computed, never stored."""

    PENDING = "PENDING"
    SUBMITTED = "SUBMITTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"


class TaskEvent(StrEnum):
    """What may happen to a task."""

    SUBMIT = "submit"
    SKIP = "skip"
    COMPLETE = "complete"
    RETRY = "retry"
    FAIL = "fail"
    CANCEL = "cancel"
    ASK = "ask"
    HOLD = "hold"
    RELEASE = "release"


class AttemptStatus(StrEnum):
    """Status of an attempt."""

    SUBMITTING = "SUBMITTING"
    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COLLECTING = "COLLECTING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    LOST = "LOST"
    CANCELLED = "CANCELLED"


class AttemptEvent(StrEnum):
    """What may happen to an attempt."""

    SUBMITTED = "submitted"
    RECALLED = "recalled"
    REFUSED = "refused"
    STARTED = "started"
    REQUEUED = "requeued"
    WAITING = "waiting"
    REJECTED = "rejected"
    ENDED = "ended"
    COLLECTED = "collected"
    FAILED = "failed"
    EXPIRED = "expired"
    VANISHED = "vanished"
    ABSENT = "absent"
    CANCEL = "cancel"


Event = RunEvent | TaskEvent | AttemptEvent
S = TypeVar("S", RunStatus, TaskStatus, AttemptStatus)

_R, _T, _A = RunStatus, TaskStatus, AttemptStatus
_TASK_AGAIN = {TaskEvent.RETRY: _T.PENDING}

RUN_TRANSITIONS: Mapping[RunStatus, Mapping[RunEvent, RunStatus]] = MappingProxyType(
    {
        _R.PENDING: {RunEvent.START: _R.RUNNING, RunEvent.CANCEL: _R.CANCELLED},
        _R.RUNNING: {
            RunEvent.PAUSE: _R.PAUSED,
            RunEvent.COMPLETE: _R.COMPLETED,
            RunEvent.FAIL: _R.FAILED,
            RunEvent.CANCEL: _R.CANCELLED,
        },
        _R.PAUSED: {RunEvent.RESUME: _R.RUNNING, RunEvent.CANCEL: _R.CANCELLED},
        _R.FAILED: {RunEvent.RETRY: _R.RUNNING},
        _R.COMPLETED: {RunEvent.REOPEN: _R.RUNNING},
        _R.CANCELLED: {},
    }
)
TASK_TRANSITIONS: Mapping[TaskStatus, Mapping[TaskEvent, TaskStatus]] = MappingProxyType(
    {
        _T.PENDING: {
            TaskEvent.SUBMIT: _T.SUBMITTED,
            TaskEvent.SKIP: _T.SKIPPED,
            TaskEvent.CANCEL: _T.CANCELLED,
            TaskEvent.RETRY: _T.PENDING,
            TaskEvent.FAIL: _T.FAILED,
            TaskEvent.HOLD: _T.PENDING,
            TaskEvent.RELEASE: _T.PENDING,
        },
        _T.SUBMITTED: {
            TaskEvent.COMPLETE: _T.COMPLETED,
            TaskEvent.RETRY: _T.PENDING,
            TaskEvent.FAIL: _T.FAILED,
            TaskEvent.SKIP: _T.SKIPPED,
            TaskEvent.CANCEL: _T.CANCELLED,
            TaskEvent.ASK: _T.PENDING,
            TaskEvent.HOLD: _T.SUBMITTED,
            TaskEvent.RELEASE: _T.SUBMITTED,
        },
        _T.COMPLETED: _TASK_AGAIN,
        _T.FAILED: _TASK_AGAIN,
        _T.SKIPPED: _TASK_AGAIN,
        _T.CANCELLED: _TASK_AGAIN,
    }
)
ATTEMPT_TRANSITIONS: Mapping[AttemptStatus, Mapping[AttemptEvent, AttemptStatus]] = MappingProxyType(
    {
        _A.SUBMITTING: {
            AttemptEvent.SUBMITTED: _A.SUBMITTED,
            AttemptEvent.RECALLED: _A.COMPLETED,
            AttemptEvent.REFUSED: _A.FAILED,
            AttemptEvent.CANCEL: _A.CANCELLED,
        },
        _A.SUBMITTED: {
            AttemptEvent.STARTED: _A.RUNNING,
            AttemptEvent.WAITING: _A.WAITING,
            AttemptEvent.ENDED: _A.COLLECTING,
            AttemptEvent.VANISHED: _A.LOST,
            AttemptEvent.ABSENT: _A.SUBMITTING,
            AttemptEvent.CANCEL: _A.CANCELLED,
        },
        _A.RUNNING: {
            AttemptEvent.REQUEUED: _A.SUBMITTED,
            AttemptEvent.ENDED: _A.COLLECTING,
            AttemptEvent.VANISHED: _A.LOST,
            AttemptEvent.CANCEL: _A.CANCELLED,
        },
        _A.WAITING: {
            AttemptEvent.STARTED: _A.RUNNING,
            AttemptEvent.REJECTED: _A.WAITING,
            AttemptEvent.ENDED: _A.COLLECTING,
            AttemptEvent.EXPIRED: _A.FAILED,
            AttemptEvent.CANCEL: _A.CANCELLED,
        },
        _A.COLLECTING: {AttemptEvent.COLLECTED: _A.COMPLETED, AttemptEvent.FAILED: _A.FAILED},
        _A.COMPLETED: {},
        _A.FAILED: {},
        _A.LOST: {},
        _A.CANCELLED: {},
    }
)
_TABLES: dict[type, Mapping[Any, Mapping[Any, Any]]] = {
    RunStatus: RUN_TRANSITIONS,
    TaskStatus: TASK_TRANSITIONS,
    AttemptStatus: ATTEMPT_TRANSITIONS,
}
_EVENTS: dict[type, type] = {
    RunStatus: RunEvent,
    TaskStatus: TaskEvent,
    AttemptStatus: AttemptEvent,
}

TERMINAL_RUN = frozenset({_R.COMPLETED, _R.FAILED, _R.CANCELLED})
TERMINAL_TASK = frozenset({_T.COMPLETED, _T.FAILED, _T.SKIPPED, _T.CANCELLED})
TERMINAL_ATTEMPT = frozenset(s for s, moves in ATTEMPT_TRANSITIONS.items() if not moves)
LIVE_ATTEMPT = frozenset(AttemptStatus) - TERMINAL_ATTEMPT


def advance(status: S, event: Event) -> S:
    """Return the status that follows.

    Parameters
    ----------
    status : RunStatus, TaskStatus or AttemptStatus
        Where the thing stands; its class chooses the table.
    event : RunEvent, TaskEvent or AttemptEvent
        What happened, of the same kind as the status.

    Returns
    -------
    RunStatus, TaskStatus or AttemptStatus
        Of the class of `status`.

    Raises
    ------
    InvalidTransitionError
        The table has no such move, or the event is of another kind.

    Examples
    --------
    >>> advance(TaskStatus.PENDING, TaskEvent.SUBMIT)
    <TaskStatus.SUBMITTED: 'SUBMITTED'>
    """
    moves = _TABLES[type(status)][status]
    # The classes are compared too: members of two StrEnums with one text are equal.
    if type(event) is _EVENTS[type(status)] and event in moves:
        return cast(S, moves[event])
    allowed = ", ".join(sorted(moves)) or "none, it is final"
    raise InvalidTransitionError(
        f"a {type(status).__name__} of {status} does not take the event {str(event)!r} ({type(event).__name__}); "
        f"it takes: {allowed}"
    )
