"""Changes of statuses, written with all that follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from matterstack.core.changes import Change, PendingSkip, TaskChange
from matterstack.core.states import TaskEvent, TaskStatus
from matterstack.orchestration import decisions as scheduling
from matterstack.storage.state_store import SQLiteStateStore

#: What keeps those that wait for a task from starting, in words.
KEEPS_FROM_STARTING = {TaskEvent.FAIL: "failed", TaskEvent.SKIP: "was skipped", TaskEvent.CANCEL: "was cancelled"}


def apply_with_skips(store: SQLiteStateStore, changes: Sequence[Change], iteration: int) -> Counter[TaskEvent]:
    """Apply changes, and skip what can no longer start because of them, level by level.

    Parameters
    ----------
    store : SQLiteStateStore
        Inside a transaction.
    changes : sequence of Change
    iteration : int
        The current iteration.

    Returns
    -------
    Counter of TaskEvent
        How often each happened to a task.
    """
    moves: Counter[TaskEvent] = Counter()
    everything = [change for change in changes if isinstance(change, PendingSkip)]
    left: Sequence[Change] = [change for change in changes if not isinstance(change, PendingSkip)]
    while left:
        store.apply(left, iteration)
        moves.update(change.event for change in left if isinstance(change, TaskChange))
        left = _skips(store, left)
    for skip in everything:
        rows = store.pending_tasks(iteration)
        event = TaskEvent.SKIP
        store.apply([TaskChange(row, TaskStatus.PENDING, event, skip.at, skip.reason) for row in rows], iteration)
        moves[event] += len(rows)
    return moves


def _skips(store: SQLiteStateStore, changes: Sequence[Change]) -> list[TaskChange]:
    """Return the skips of the tasks that cannot start because of tasks that did not complete."""
    skips: dict[int, TaskChange] = {}
    for change in changes:
        if isinstance(change, TaskChange) and change.event in KEEPS_FROM_STARTING:
            culprit = f"{store.task_name(change.task)} {KEEPS_FROM_STARTING[change.event]}"
            for skip in scheduling.settle(store.pending_dependants(change.task), change.at, culprit):
                skips.setdefault(skip.task, skip)
    return list(skips.values())
