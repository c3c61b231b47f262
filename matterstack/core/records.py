"""What the parts of MatterStack tell each other: frozen records, no behaviour to speak of.

Times are seconds since the Unix epoch, as the clock of the stepping machine showed them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from matterstack.core.states import (
    AttemptEvent,
    AttemptStatus,
    RunEvent,
    RunStatus,
    TaskEvent,
    TaskStatus,
)
from matterstack.core.workflow import Task


class Seen(StrEnum):
    """What an operator can see of an attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    REJECTED = "rejected"
    EXPIRED = "expired"
    ENDED = "ended"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True)
class Observation:
    """What an operator saw of one attempt.

    Parameters
    ----------
    seen : Seen
        The state of the thing outside.
    ok : bool
        For ENDED: whether it ended well, so that its results are worth collecting.
    reason : str, optional
        In plain words: why it ended badly, why it waits.
    external_id : str, optional
        What the outside calls it, where that is known only now.
    started_at, ended_at : float, optional
        Seconds since the Unix epoch.
    exit_code : int, optional
        Of the command; minus the signal's number where one killed it.
    """

    seen: Seen
    ok: bool = True
    reason: str | None = None
    external_id: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The outside has taken the attempt."""

    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The outside has surely not taken the attempt, and will not."""

    reason: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The outside surely does not know the attempt's token."""


@dataclass(frozen=True)
class Attempt:
    """One try at a task, as an operator is given it.

    Attributes
    ----------
    iteration, task_id, attempt : int, str, int
        Its identity in the run.
    token : str
        Its identity outside: ``ms-<hex>``, globally unique.
    parent, name : str
        Where its directory is: that of the operator, and ``<iteration>.<task_id>.<attempt>``.
    directory : pathlib.Path
        Its own directory.
    external_id : str or None
        What the outside calls it, once known.
    status : AttemptStatus
        Where it stands.
    submitted_at, started_at : float or None
        Seconds since the Unix epoch.
    task : Task
        What shall be done.
    """

    iteration: int
    task_id: str
    attempt: int
    token: str
    external_id: str | None
    status: AttemptStatus
    submitted_at: float
    started_at: float | None
    parent: str = field(repr=False)
    name: str
    spec_text: str = field(repr=False)

    # A tick makes many of these and needs the parts below of a few.
    @cached_property
    def directory(self) -> Path:
        """The attempt's own directory."""
        return Path(self.parent, self.name)

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The task as plain data."""
        return {"task_id": self.task_id, **json.loads(self.spec_text)}

    @cached_property
    def task(self) -> Task:
        """What shall be done."""
        return Task.from_json(self.spec)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The row of a run."""

    run_id: str
    workspace: str
    status: RunStatus
    reason: str | None
    created_at: float
    iteration: int
    campaign_state: str


@dataclass(frozen=True, slots=True)
class IterationCounts:
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


@dataclass(frozen=True, slots=True)
class ReadyTask:
    """A task that may be submitted now."""

    id: int
    task_id: str
    operator: str
    attempts: int
    failures: int
    retries: int
    spec: str


@dataclass(frozen=True, slots=True)
class LiveAttempt:
    """An attempt that is not over, with what deciding about it takes."""

    id: int
    task: int
    iteration: int
    task_id: str
    attempt: int
    status: AttemptStatus
    token: str
    operator: str
    external_id: str | None
    reason: str | None
    submitted_at: float
    started_at: float | None
    task_status: TaskStatus
    failures: int
    retries: int
    spec: str

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{self.iteration}.{self.task_id}.{self.attempt}"


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """The intent to submit: committed before any side effect."""

    task: int
    attempt: int
    token: str
    at: float


@dataclass(frozen=True, slots=True)
class AttemptChange:
    """One move of an attempt, with what became known by it."""

    attempt: int
    task: int
    leaves: AttemptStatus
    event: AttemptEvent
    at: float
    reason: str | None = None
    external_id: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class TaskChange:
    """One move of a task."""

    task: int
    leaves: TaskStatus
    event: TaskEvent
    at: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RunChange:
    """One move of the run."""

    leaves: RunStatus
    event: RunEvent
    at: float
    reason: str | None = None


Change = AttemptChange | TaskChange | RunChange


@dataclass(frozen=True, slots=True)
class OperatorTrouble:
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


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task of an iteration gave.

    Attributes
    ----------
    task_id : str
    status : TaskStatus
        COMPLETED, or FAILED or SKIPPED where that was allowed.
    data : Any
        The content of its ``result.json``; ``{}`` where there is none.
    directory : pathlib.Path or None
        Where its files are; None when it never ran.
    reason : str or None
        Why it did not complete.
    """

    task_id: str
    status: TaskStatus
    data: Any
    directory: Path | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TickReport:
    """What one tick found and did.

    Attributes
    ----------
    ready : int
        Tasks that could have started when the tick began to submit.
    submitted, completed, failed, skipped : int
        Tasks this tick submitted, saw completed, gave up, and skipped.
    live : int
        Attempts that are not over.
    iteration : int
        The iteration the tick worked on.
    status : RunStatus
        Where the run stands now.
    reason : str or None
        Why it stands there, where that needs saying.
    again : bool
        Another tick would find work at once.
    """

    ready: int
    submitted: int
    completed: int
    failed: int
    skipped: int
    live: int
    iteration: int
    status: RunStatus
    reason: str | None = None
    again: bool = False

    @property
    def progressed(self) -> bool:
        """Whether the tick moved any task."""
        return bool(self.submitted or self.completed or self.failed or self.skipped)

    def __str__(self) -> str:
        text = f"Tick: {self.ready} tasks ready, {self.submitted} submitted, {self.completed} completed"
        for count, word in ((self.failed, "failed"), (self.skipped, "skipped")):
            if count:
                text += f", {count} {word}"
        return text
