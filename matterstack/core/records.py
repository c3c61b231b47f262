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
    to_start : bool
        It will not begin before `Operator.start`, which the tick calls once this reply is stored.
    """

    external_id: str | None = None
    waits_for: str | None = None
    to_start: bool = False


class Refused(NamedTuple):
    """The outside has surely not taken the attempt, and will not."""

    reason: str


class Absent(NamedTuple):
    """The outside surely does not know the attempt's token."""


class Rejected(NamedTuple):
    """What `Operator.collect_results` returns at a gate where a person rejected what was asked about.

    Parameters
    ----------
    reason : str
        Who rejected, and why.
    data : Any
        The answer, for ``analyze``.
    then : {'fail', 'skip', 'replan'}
        What follows: see `Task.on_reject`.
    """

    reason: str
    data: Any
    then: str


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

    def task_of(self) -> Task:
        """Return what shall be done, parsed now; `Attempt.task` keeps it."""
        from matterstack.core.workflow import Task

        return Task.from_json({"task_id": self.task_id, **json.loads(self.spec)})


class Attempt:
    """One try at a task, as an operator is given it.

    Parameters
    ----------
    record : LiveAttempt
        What the store says of it.
    parent : str
        Path of the operator's directory.
    name : str, optional
        Name of the attempt's directory, where that is not yet ``<iteration>.<task_id>.<attempt>``.
    """

    __slots__ = ("_directory", "_task", "name", "parent", "record")

    def __init__(self, record: LiveAttempt, parent: str, name: str | None = None) -> None:
        self.record = record
        self._task: Task | None = None
        self._directory: Path | None = None
        self.parent = parent
        self.name = record.name if name is None else name

    def __repr__(self) -> str:
        return f"<Attempt {self.record.name}, {self.status}, {self.token}>"

    @property
    def iteration(self) -> int:
        """Number of its iteration."""
        return self.record.iteration

    @property
    def task_id(self) -> str:
        """Its task's id in the iteration."""
        return self.record.task_id

    @property
    def attempt(self) -> int:
        """Which try at the task it is, from 1."""
        return self.record.attempt

    @property
    def token(self) -> str:
        """Its identity outside: ``ms-<hex>``, globally unique."""
        return self.record.token

    @property
    def external_id(self) -> str | None:
        """What the outside calls it, once known."""
        return self.record.external_id

    @property
    def status(self) -> AttemptStatus:
        """Where it stands."""
        return self.record.status

    @property
    def submitted_at(self) -> float:
        """Seconds since the Unix epoch."""
        return self.record.submitted_at

    @property
    def started_at(self) -> float | None:
        """Seconds since the Unix epoch, once known."""
        return self.record.started_at

    @property
    def directory(self) -> Path:
        """Its own directory."""
        if self._directory is None:
            self._directory = Path(self.parent, self.name)
        return self._directory

    @property
    def task(self) -> Task:
        """What shall be done."""
        if self._task is None:
            self._task = self.record.task_of()
        return self._task

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that tell a command what it is."""
        return {
            "MATTERSTACK_TOKEN": self.token,
            "MATTERSTACK_TASK_ID": self.task_id,
            "MATTERSTACK_ITERATION": str(self.iteration),
            "MATTERSTACK_ATTEMPT": str(self.attempt),
        }

    def at(self, name: str) -> Attempt:
        """Return the same attempt while its directory has another name."""
        moved = Attempt(self.record, self.parent, name)
        moved._task = self.task  # parsed for both
        return moved

    def taken(self, external_id: str | None) -> Attempt:
        """Return the same attempt with what the outside calls it."""
        known = Attempt(self.record._replace(external_id=external_id), self.parent, self.name)
        known._task = self._task
        return known


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
    """A task that may be submitted now."""

    id: int
    task_id: str
    operator: str
    attempts: int
    failures: int
    retries: int
    spec: str


class Upstream(NamedTuple):
    """A task that another one waits for; ``data`` is the JSON text of its last attempt."""

    task_id: str
    status: str
    attempts: int
    data: str | None
    operator: str


class ResultRow(NamedTuple):
    """What a task gave, as the store has it; ``data`` is JSON text."""

    task_id: str
    status: TaskStatus
    operator: str
    attempts: int
    reason: str | None
    data: str | None


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


class AttemptNote(NamedTuple):
    """Why an attempt stands where it stands, where that became known without a move."""

    attempt: int
    reason: str


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


class PendingSkip(NamedTuple):
    """No task of the iteration that is still pending shall start."""

    at: float
    reason: str


Change = AttemptChange | AttemptNote | TaskChange | RunChange | PendingSkip


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


class Waiting(StrEnum):
    """What a run waits for."""

    NOTHING = "nothing"
    WORK = "work"
    PEOPLE = "people"
    OPERATOR = "operator"
    CAMPAIGN = "campaign"


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
    waits_for : Waiting
        Attempts that are under way, a person's answer or act, an operator that was not given or
        cannot be asked, the campaign that has to be passed again; nothing, once the run is over.
    look_again_s : float or None
        After how many seconds another tick may find more: 0 where there is work at once. None where
        nothing changes until somebody acts.
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
    waits_for: Waiting = Waiting.NOTHING
    look_again_s: float | None = None

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
