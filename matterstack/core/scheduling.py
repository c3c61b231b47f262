"""The decisions of a tick, as pure functions: records in, changes out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from matterstack.core.records import (
    AttemptChange,
    Change,
    IterationCounts,
    LiveAttempt,
    Observation,
    OperatorTrouble,
    ReadyTask,
    Seen,
    TaskChange,
)
from matterstack.core.states import TERMINAL_TASK, AttemptEvent, AttemptStatus, RunStatus, TaskEvent, TaskStatus

_BACKOFF_FREE = 3
_BACKOFF_MAX_S = 60.0


def end_task(attempt: LiveAttempt, at: float, reason: str | None, kind: str = "FAILED") -> list[Change]:
    """Return what a failed or lost attempt means for its task: another try, or the end.

    Parameters
    ----------
    attempt : LiveAttempt
    at : float
        Seconds since the Unix epoch.
    reason : str or None
    kind : str
        A word for how it ended: a task may be tried again after some of them only.
    """
    if attempt.task_status in TERMINAL_TASK:
        return []
    again = attempt.failures < attempt.retries and _wanted_again(attempt, kind)
    event = TaskEvent.RETRY if again else TaskEvent.FAIL
    return [TaskChange(attempt.task, TaskStatus.SUBMITTED, event, at, reason)]


def _wanted_again(attempt: LiveAttempt, kind: str) -> bool:
    if '"retry_on"' not in attempt.spec:
        return True
    wanted: list[str] = json.loads(attempt.spec).get("retry_on", [kind])
    return kind in wanted


def judge(attempt: LiveAttempt, observation: Observation, at: float) -> list[Change]:
    """Return the changes that an observation of a live attempt implies.

    An attempt seen to have ended well only moves to COLLECTING: what its results mean is
    said by `collected` or `failed`.
    """
    status = attempt.status
    change: AttemptChange | None = None

    def move(event: AttemptEvent) -> AttemptChange:
        return AttemptChange(
            attempt.id,
            attempt.task,
            status,
            event,
            at,
            reason=observation.reason,
            external_id=observation.external_id,
            started_at=observation.started_at,
            ended_at=observation.ended_at,
            exit_code=observation.exit_code,
        )

    match observation.seen:
        case Seen.QUEUED if status is AttemptStatus.RUNNING:
            return [move(AttemptEvent.REQUEUED)]
        case Seen.RUNNING if status in (AttemptStatus.SUBMITTED, AttemptStatus.WAITING):
            return [move(AttemptEvent.STARTED)]
        case Seen.WAITING if status is AttemptStatus.SUBMITTED:
            return [move(AttemptEvent.WAITING)]
        case Seen.REJECTED if status is AttemptStatus.WAITING and observation.reason != attempt.reason:
            return [move(AttemptEvent.REJECTED)]
        case Seen.EXPIRED if status is AttemptStatus.WAITING:
            change = move(AttemptEvent.EXPIRED)
        case Seen.VANISHED if status in (AttemptStatus.SUBMITTED, AttemptStatus.RUNNING):
            change = move(AttemptEvent.VANISHED)
        case Seen.ENDED if status in (AttemptStatus.SUBMITTED, AttemptStatus.RUNNING, AttemptStatus.WAITING):
            change = move(AttemptEvent.ENDED)
            if not observation.ok:
                kind = observation.kind or "FAILED"
                return [change, *failed(attempt, at, observation.reason or "it ended badly", kind)]
            return [change]
    if change is None:
        return []
    kind = "LOST" if observation.seen is Seen.VANISHED else observation.kind or "FAILED"
    return [change, *end_task(attempt, at, observation.reason, kind)]


def failed(attempt: LiveAttempt, at: float, reason: str, kind: str = "FAILED") -> list[Change]:
    """Return the changes of an attempt that failed while it was being collected."""
    change = AttemptChange(
        attempt.id, attempt.task, AttemptStatus.COLLECTING, AttemptEvent.FAILED, at, reason=reason, ended_at=at
    )
    return [change, *end_task(attempt, at, reason, kind)]


def refused(attempt: LiveAttempt, at: float, reason: str) -> list[Change]:
    """Return the changes of an attempt that could not be prepared, or was refused."""
    change = AttemptChange(
        attempt.id, attempt.task, AttemptStatus.SUBMITTING, AttemptEvent.REFUSED, at, reason=reason, ended_at=at
    )
    return [change, *end_task(attempt, at, reason)]


def collected(attempt: LiveAttempt, at: float, data: str) -> list[Change]:
    """Return the changes of an attempt whose results are in; `data` is JSON text."""
    changes: list[Change] = [
        AttemptChange(
            attempt.id,
            attempt.task,
            AttemptStatus.COLLECTING,
            AttemptEvent.COLLECTED,
            at,
            ended_at=at,
            data=data,
        )
    ]
    if attempt.task_status not in TERMINAL_TASK:
        changes.append(TaskChange(attempt.task, TaskStatus.SUBMITTED, TaskEvent.COMPLETE, at))
    return changes


def rejected(attempt: LiveAttempt, at: float, reason: str, data: str, then: str) -> list[Change]:
    """Return the changes of an attempt whose collected answer is a person's rejection.

    Parameters
    ----------
    attempt : LiveAttempt
    at : float
        Seconds since the Unix epoch.
    reason : str
        Who rejected, and why.
    data : str
        The answer as JSON text, for ``analyze``.
    then : {'fail', 'skip', 'replan'}
        What the task asked for.
    """
    ended, *rest = failed(attempt, at, reason)
    assert isinstance(ended, AttemptChange)
    changes: list[Change] = [ended._replace(data=data)]
    if then == "fail" or attempt.task_status in TERMINAL_TASK:
        return changes + rest
    return [*changes, TaskChange(attempt.task, TaskStatus.SUBMITTED, TaskEvent.SKIP, at, reason)]


def settle(dependants: Iterable[tuple[int, bool]], at: float, culprit: str) -> list[TaskChange]:
    """Return the skips that a task which did not complete means for its pending dependants.

    Parameters
    ----------
    dependants : iterable of (int, bool)
        Each pending dependant, and whether it allows the failure of a dependency.
    at : float
        Seconds since the Unix epoch.
    culprit : str
        In plain words what happened to the dependency.
    """
    return [
        TaskChange(task, TaskStatus.PENDING, TaskEvent.SKIP, at, culprit) for task, allows in dependants if not allows
    ]


def choose(
    status: RunStatus,
    ready: Mapping[str, Sequence[ReadyTask]],
    rooms: Mapping[str, int],
) -> list[ReadyTask]:
    """Return the tasks to submit now.

    Parameters
    ----------
    status : RunStatus
        Only a RUNNING run submits.
    ready : mapping of operator name to tasks
        In the order of the plan.
    rooms : mapping of operator name to int
        How many more attempts each operator takes; 0 for one that is suspended.
    """
    if status is not RunStatus.RUNNING:
        return []
    return [task for operator, tasks in ready.items() for task in tasks[: rooms.get(operator, 0)]]


class Conclusion(Enum):
    """What an iteration calls for."""

    GO_ON = "go on"
    ANALYZE = "analyze"
    FAIL = "fail"


def conclude(status: RunStatus, counts: IterationCounts, *, failed_for_good: int) -> Conclusion:
    """Return what the run does next, once no task of its iteration is unfinished.

    Parameters
    ----------
    status : RunStatus
        Only a RUNNING run concludes.
    counts : IterationCounts
        Of the current iteration.
    failed_for_good : int
        Failed tasks whose failure is not allowed.
    """
    if status is not RunStatus.RUNNING or counts.unfinished:
        return Conclusion.GO_ON
    return Conclusion.FAIL if failed_for_good else Conclusion.ANALYZE


def next_trouble(
    before: OperatorTrouble | None, operator: str, reason: str, at: float, suspend_after: int
) -> OperatorTrouble:
    """Return the record of one more failure of an operator.

    The first failures are asked again at the next tick; then the pause doubles from one
    second to a minute.
    """
    failures = before.failures + 1 if before else 1
    late = failures - _BACKOFF_FREE
    delay = 0.0 if late < 0 else min(_BACKOFF_MAX_S, 2.0**late)
    return OperatorTrouble(
        operator,
        failures,
        before.since if before else at,
        at + delay,
        reason,
        suspended=failures >= suspend_after,
    )


def is_due(trouble: OperatorTrouble | None, at: float) -> bool:
    """Return whether an operator may be asked now; a clock set back does not silence it."""
    return trouble is None or not at < trouble.ask_again_at <= at + _BACKOFF_MAX_S
