"""What the parts of MatterStack tell each other: frozen records, no behaviour to speak of.

Times are seconds since the Unix epoch, as the clock of the stepping machine showed them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.states import (
    AttemptEvent,
    AttemptStatus,
    RunEvent,
    RunStatus,
    TaskEvent,
    TaskStatus,
)

if TYPE_CHECKING:
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


class Observation(NamedTuple):
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
    settling : bool
        Another look soon may say more, without anybody's doing.
    kind : str, optional
        Of an attempt that ended badly: a word for it, such as ``TIMEOUT``; see `Task.retry_on`.
    """

    seen: Seen
    ok: bool = True
    reason: str | None = None
    external_id: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    settling: bool = False
    kind: str | None = None


class Submitted(NamedTuple):
    """The outside has taken the attempt.

    Parameters
    ----------
    external_id : str, optional
        What the outside calls it.
    waits_for : str, optional
        What it waits for from now on, in plain words, where that is an answer: a person's or
        an instrument's. The attempt is WAITING at once.
    """

    external_id: str | None = None
    waits_for: str | None = None


class Refused(NamedTuple):
    """The outside has surely not taken the attempt, and will not."""

    reason: str


class Absent(NamedTuple):
    """The outside surely does not know the attempt's token."""


class LiveAttempt(NamedTuple):
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


class Attempt:
    """One try at a task, as an operator is given it.

    Parameters
    ----------
    live : LiveAttempt
        What the store says of it.
    parent : str
        Path of the operator's directory.
    name : str, optional
        Name of the attempt's directory, where that is not yet ``<iteration>.<task_id>.<attempt>``.
    """

    __slots__ = ("_directory", "_live", "_spec", "name", "parent")

    def __init__(self, live: LiveAttempt, parent: str, name: str | None = None) -> None:
        self._live = live
        self._spec: Mapping[str, Any] | None = None
        self._directory: Path | None = None
        self.parent = parent
        self.name = live.name if name is None else name

    def __repr__(self) -> str:
        return f"<Attempt {self._live.name}, {self.status}, {self.token}>"

    @property
    def iteration(self) -> int:
        """Number of its iteration."""
        return self._live.iteration

    @property
    def task_id(self) -> str:
        """Its task's id in the iteration."""
        return self._live.task_id

    @property
    def attempt(self) -> int:
        """Which try at the task it is, from 1."""
        return self._live.attempt

    @property
    def token(self) -> str:
        """Its identity outside: ``ms-<hex>``, globally unique."""
        return self._live.token

    @property
    def external_id(self) -> str | None:
        """What the outside calls it, once known."""
        return self._live.external_id

    @property
    def status(self) -> AttemptStatus:
        """Where it stands."""
        return self._live.status

    @property
    def submitted_at(self) -> float:
        """Seconds since the Unix epoch."""
        return self._live.submitted_at

    @property
    def started_at(self) -> float | None:
        """Seconds since the Unix epoch, once known."""
        return self._live.started_at

    @property
    def directory(self) -> Path:
        """Its own directory."""
        if self._directory is None:
            self._directory = Path(self.parent, self.name)
        return self._directory

    @property
    def spec(self) -> Mapping[str, Any]:
        """The task as plain data."""
        if self._spec is None:
            self._spec = {"task_id": self._live.task_id, **json.loads(self._live.spec)}
        return self._spec

    @property
    def task(self) -> Task:
        """What shall be done."""
        from matterstack.core.workflow import Task

        return Task.from_json(self.spec)


class RunRecord(NamedTuple):
    """The row of a run."""

    run_id: str
    workspace: str
    status: RunStatus
    reason: str | None
    created_at: float
    iteration: int
    campaign_state: str


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


class ReadyTask(NamedTuple):
    """A task that may be submitted now."""

    id: int
    task_id: str
    operator: str
    attempts: int
    failures: int
    retries: int
    spec: str


class NewAttempt(NamedTuple):
    """The intent to submit: committed before any side effect."""

    task: int
    attempt: int
    token: str
    at: float


class AttemptChange(NamedTuple):
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


class TaskChange(NamedTuple):
    """One move of a task."""

    task: int
    leaves: TaskStatus
    event: TaskEvent
    at: float
    reason: str | None = None


class RunChange(NamedTuple):
    """One move of the run."""

    leaves: RunStatus
    event: RunEvent
    at: float
    reason: str | None = None


Change = AttemptChange | TaskChange | RunChange


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


class TaskResult(NamedTuple):
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


class TickReport(NamedTuple):
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
    settling : bool
        Another tick may find more soon, although all that is live waits for a person.
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
    settling: bool = False

    @property
    def progressed(self) -> bool:
        """Whether the tick moved any task."""
        return bool(self.submitted or self.completed or self.failed or self.skipped)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        text = f"Tick: {self.ready} tasks ready, {self.submitted} submitted, {self.completed} completed"
        for count, word in ((self.failed, "failed"), (self.skipped, "skipped")):
            if count:
                text += f", {count} {word}"
        return text
