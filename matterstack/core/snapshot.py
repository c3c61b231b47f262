"""A run as the store has it at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from matterstack.core.attempts import LiveAttempt
from matterstack.core.states import RunStatus, TaskStatus


class RunRecord(NamedTuple):
    """The row of a run; ``tags`` are the words that it is found by."""

    run_id: str
    workspace: str
    status: RunStatus
    reason: str | None
    created_at: float
    iteration: int
    campaign_state: str
    tags: tuple[str, ...] = ()


class IterationCounts(NamedTuple):
    """How many tasks of an iteration stand where; ``ready`` of ``pending`` can start."""

    total: int = 0
    pending: int = 0
    ready: int = 0
    submitted: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0

    @property
    def unfinished(self) -> int:
        """Tasks without a terminal status."""
        return self.pending + self.submitted


class Stream(NamedTuple):
    """Of an iteration whose campaign streams: how many tasks it keeps unfinished, and its last event when it was asked.

    Attributes
    ----------
    places : int
    asked : int or None
        None before it is asked for the first time.
    """

    places: int
    asked: int | None


class OperatorTrouble(NamedTuple):
    """An operator that could not be asked, or raised where it must not.

    Parameters
    ----------
    operator : str
        Its name in the run.
    failures : int
        How often in a row.
    since, ask_again_at : float
        Seconds since the Unix epoch: the first failure, and when it is asked next.
    reason : str
        The last error, with its traceback.
    suspended : bool
        Nothing new goes to it.
    """

    operator: str
    failures: int
    since: float
    ask_again_at: float
    reason: str
    suspended: bool


class Snapshot(NamedTuple):
    """A run at one moment, as a tick begins with it.

    Attributes
    ----------
    run : RunRecord
    counts : IterationCounts
        Of the current iteration.
    live : list of LiveAttempt
    troubles : mapping of str to OperatorTrouble
    at : float
        Now, in seconds since the Unix epoch.
    """

    run: RunRecord
    counts: IterationCounts
    live: list[LiveAttempt]
    troubles: Mapping[str, OperatorTrouble]
    at: float


class ReadyTask(NamedTuple):
    """A task that may be submitted now; `changes` is what its next attempts differ in from `spec`, as JSON text."""

    id: int
    task_id: str
    operator: str
    attempts: int
    failures: int
    retries: int
    spec: str
    changes: str | None


class Upstream(NamedTuple):
    """A task that another one waits for; ``data`` is the JSON text of its last attempt."""

    task_id: str
    status: str
    attempts: int
    data: str | None
    operator: str


class UntakenRow(NamedTuple):
    """A task that is over, and whose result a campaign that streams has not taken; ``result`` is what it gave."""

    id: int
    result: ResultRow


class ResultRow(NamedTuple):
    """What a task gave, as the store has it; ``data`` is JSON text."""

    task_id: str
    status: TaskStatus
    operator: str
    attempts: int
    reason: str | None
    data: str | None
