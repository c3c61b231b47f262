"""Changes of statuses, written with all that follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from matterstack.core import scheduling
from matterstack.core.records import Change, TaskChange
from matterstack.core.states import TaskEvent
from matterstack.storage.state_store import SQLiteStateStore


def apply_with_skips(store: SQLiteStateStore, changes: Sequence[Change], iteration: int) -> Counter[TaskEvent]:
    """Apply changes, and skip what can no longer start because of them, level by level.

    Parameters
    ----------
    store : SQLiteStateStore
        Inside a transaction.
    changes : sequence of AttemptChange, TaskChange or RunChange
    iteration : int
        The current iteration.

    Returns
    -------
    Counter of TaskEvent
        How often each happened to a task.
    """
    moves: Counter[TaskEvent] = Counter()
    while changes:
        store.apply(changes, iteration)
        skips: dict[int, TaskChange] = {}
        for change in changes:
            if not isinstance(change, TaskChange):
                continue
            moves[change.event] += 1
            if change.event in (TaskEvent.FAIL, TaskEvent.SKIP):
                what = "failed" if change.event is TaskEvent.FAIL else "was skipped"
                culprit = f"{store.task_name(change.task)} {what}"
                for skip in scheduling.settle(store.pending_dependants(change.task), change.at, culprit):
                    skips.setdefault(skip.task, skip)
        changes = list(skips.values())
    return moves
