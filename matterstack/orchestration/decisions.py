"""The decisions of a tick, as pure functions: records in, changes out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from math import inf

from matterstack.core.attempts import (
    LiveAttempt,
    Observation,
    Seen,
    Submitted,
)
from matterstack.core.changes import (
    AttemptChange,
    AttemptNote,
    Change,
    PendingSkip,
    TaskChange,
)
from matterstack.core.made import Made
from matterstack.core.snapshot import IterationCounts, ReadyTask
from matterstack.core.states import (
    LIVE_ATTEMPT,
    TERMINAL_TASK,
    AttemptEvent,
    AttemptStatus,
    RunStatus,
    TaskEvent,
    TaskStatus,
    advance,
)
from matterstack.core.strict_json import to_text

#: A year: what a factor makes of a delay shall stay a time.
_LONGEST_DELAY_S = 366 * 86400.0


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
    if attempt.failures < attempt.retries and _retries_on(attempt, kind):
        not_before = _not_before(attempt, at)
        return [TaskChange(attempt.task, TaskStatus.SUBMITTED, TaskEvent.RETRY, at, reason, not_before)]
    # Looked for in the text first: most do not say it, and a damaged specification is told elsewhere.
    asks = '"on_failure":' in attempt.spec and attempt.task_of().on_failure == "ask"
    event = TaskEvent.ASK if asks else TaskEvent.FAIL
    return [TaskChange(attempt.task, TaskStatus.SUBMITTED, event, at, reason)]


def _not_before(attempt: LiveAttempt, at: float) -> float | None:
    """Return when the next attempt may begin, after this one failed."""
    if '"retry_delay_s":' not in attempt.spec:
        return None
    task = attempt.task_of()
    try:
        delay_s = task.retry_delay_s * task.retry_delay_factor**attempt.failures
    except OverflowError:
        delay_s = _LONGEST_DELAY_S
    return at + min(delay_s, _LONGEST_DELAY_S)


def _retries_on(attempt: LiveAttempt, kind: str) -> bool:
    wanted = attempt.task_of().retry_on
    return wanted is None or kind in wanted


def judge(attempt: LiveAttempt, observation: Observation, at: float) -> list[Change]:
    """Return the changes that an observation of a live attempt implies.

    An attempt seen to have ended well only moves to COLLECTING: what its results mean is
    said by `collected` or `failed`.
    """
    status = attempt.status
    observation = observation.plausible()
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
            usage=_usage(observation),
        )

    match observation.seen:
        case Seen.QUEUED if status is AttemptStatus.RUNNING:
            return [move(AttemptEvent.REQUEUED)]
        case Seen.ABSENT if status is AttemptStatus.SUBMITTED:
            return [move(AttemptEvent.ABSENT)]
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
        # It stands where it stood; what is new is at most why. One that runs and has nothing to be said of it any more
        # is held up by nothing; who waits for a person is told once why.
        reason = observation.reason or (None if observation.seen is Seen.RUNNING else attempt.reason)
        return [AttemptNote(attempt.id, reason)] if reason != attempt.reason else []
    kind = "LOST" if observation.seen is Seen.VANISHED else observation.kind or "FAILED"
    return [change, *end_task(attempt, at, observation.reason, kind)]


def _usage(observation: Observation) -> str | None:
    """Return what an attempt used, as JSON text; None where nothing of it is known."""
    if observation.cpu_s is None and observation.peak_memory_gib is None:
        return None
    return to_text({"cpu_s": observation.cpu_s, "peak_memory_gib": observation.peak_memory_gib})


def submitted(attempt: LiveAttempt, reply: Submitted, at: float) -> list[Change]:
    """Return the changes of an attempt that the outside has taken."""
    event = AttemptEvent.SUBMITTED
    taken = AttemptChange(attempt.id, attempt.task, attempt.status, event, at, external_id=reply.external_id)
    if reply.waits_for is None:
        return [taken]
    leaves = AttemptStatus.SUBMITTED
    return [taken, AttemptChange(attempt.id, attempt.task, leaves, AttemptEvent.WAITING, at, reason=reply.waits_for)]


def cancelled(attempt: LiveAttempt, at: float) -> list[Change]:
    """Return the changes of an attempt that was not wanted any more, and is over."""
    event = AttemptEvent.CANCEL
    return [AttemptChange(attempt.id, attempt.task, attempt.status, event, at, "cancelled", ended_at=at)]


def stopped(attempt: LiveAttempt, at: float, reason: str) -> list[Change]:
    """Return the changes of an attempt that a monitor has stopped, and that is over, however its command ended."""
    event = AttemptEvent.ENDED
    change = AttemptChange(attempt.id, attempt.task, attempt.status, event, at, reason=reason, ended_at=at)
    return [change, *failed(attempt, at, reason, "STOPPED")]


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


def collected(attempt: LiveAttempt, at: float, data: str, made: Made | None = None) -> list[Change]:
    """Return the changes of an attempt whose results are in; `data` is JSON text, `made` what they were made with."""
    changes: list[Change] = [
        AttemptChange(
            attempt.id,
            attempt.task,
            AttemptStatus.COLLECTING,
            AttemptEvent.COLLECTED,
            at,
            ended_at=at,
            data=data,
            made=made,
        )
    ]
    if attempt.task_status not in TERMINAL_TASK:
        changes.append(TaskChange(attempt.task, TaskStatus.SUBMITTED, TaskEvent.COMPLETE, at))
    return changes


def recalled(attempt: LiveAttempt, at: float, data: str, cached: str, made: Made, reason: str) -> list[Change]:
    """Return the changes of an attempt whose result was known from before; `data` and `cached` are JSON text."""
    event = AttemptEvent.RECALLED
    done = AttemptChange(
        attempt.id, attempt.task, attempt.status, event, at, reason, ended_at=at, data=data, made=made, cached=cached
    )
    return [done, TaskChange(attempt.task, TaskStatus.SUBMITTED, TaskEvent.COMPLETE, at)]


def with_made(changes: Sequence[Change], made: Made | None) -> list[Change]:
    """Return the changes of an attempt that ended badly, with what it ran in; what it left counts for nothing."""
    first, *rest = changes
    if made is None or not isinstance(first, AttemptChange):
        return list(changes)
    return [first._replace(made=Made(made.environment)), *rest]


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
        changes += rest
    else:
        changes.append(TaskChange(attempt.task, TaskStatus.SUBMITTED, TaskEvent.SKIP, at, reason))
    return [*changes, PendingSkip(at, "the campaign plans again")] if then == "replan" else changes


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
    most_new: float = inf,
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
    most_new : float
        How many tasks may be begun that were not yet.
    """
    if status is not RunStatus.RUNNING:
        return []
    chosen = [task for operator, tasks in ready.items() for task in tasks[: rooms.get(operator, 0)]]
    if len(chosen) <= most_new:
        return chosen
    new = [task.id for task in chosen if not task.attempts]
    too_many = set(new[max(0, math.ceil(most_new)) :])
    return [task for task in chosen if task.id not in too_many]


def still_live(attempts: Iterable[LiveAttempt], changes: Iterable[Change]) -> list[LiveAttempt]:
    """Return the attempts as they stand after the changes, without those that are over by them."""
    now = {
        change.attempt: advance(change.leaves, change.event) for change in changes if isinstance(change, AttemptChange)
    }
    moved = (a._replace(status=now[a.id]) if a.id in now else a for a in attempts)
    return [attempt for attempt in moved if attempt.status in LIVE_ATTEMPT]


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
