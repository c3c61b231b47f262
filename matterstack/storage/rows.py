"""Rows that the reader answers with, a named tuple each. A module of its own, since a tick needs none of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matterstack.core.snapshot import IterationCounts


def asks(status: str, held: str | None) -> bool:
    """Return whether a task that stands so waits for a person's word on what to do about its failure."""
    return status == "PENDING" and held is not None and '"asks":true' in held


class TaskRow(NamedTuple):
    """A task, and how its last attempt stands.

    Attributes
    ----------
    id : int
        Its row.
    iteration : int
    task_id : str
    status : str
        A `TaskStatus`.
    operator : str
    attempt : int
        Number of its last attempt; 0 for none.
    reason : str or None
        Why it stands there.
    submitted_at, started_at, ended_at : float or None
        Of its last attempt, in seconds since the Unix epoch.
    exit_code : int or None
    unmet : int
        How many dependencies it still waits for.
    attempt_status : str or None
        An `AttemptStatus`.
    group : str or None
    cached : str or None
        From which run and attempt its result was taken, as ``"<run_id> 0.relax.1"``.
    held : str or None
        What keeps it back, as JSON text.
    not_before : float or None
        When its next attempt may begin.
    tags : str or None
        Words that it is found by, as a JSON list.
    """

    id: int
    iteration: int
    task_id: str
    status: str
    operator: str
    attempt: int
    reason: str | None
    submitted_at: float | None
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    unmet: int
    attempt_status: str | None
    group: str | None
    cached: str | None
    held: str | None
    not_before: float | None
    tags: str | None

    @property
    def asks(self) -> bool:
        """Whether it waits for a person's word on what to do about its failure."""
        return asks(self.status, self.held)


class TaskColumns(NamedTuple):
    """Many tasks in columns, which are as in `TaskRow`; ``attempt_status`` is there for those that are submitted."""

    id: list[int]
    iteration: list[int]
    task_id: list[str]
    status: list[str]
    unmet: list[int]
    attempt_status: list[str | None]
    held: list[str | None]
    operator: list[str]
    group: list[str | None]


class AttemptRow(NamedTuple):
    """An attempt; times are in seconds since the Unix epoch, ``cached`` is as in `TaskRow`.

    ``changes``, what it was made with that the plan says otherwise, and ``data`` are JSON texts. ``cpu_s`` and
    ``peak_memory_gib`` are what its processes used, None where nobody has measured that.
    """

    iteration: int
    task_id: str
    attempt: int
    status: str
    operator: str
    reason: str | None
    token: str
    external_id: str | None
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    cached: str | None
    changes: str | None
    cpu_s: float | None
    peak_memory_gib: float | None
    data: str | None


class AttemptRecord(NamedTuple):
    """All that is recorded of an attempt.

    Attributes
    ----------
    id : int
        Its row.
    attempt : AttemptRow
    spec : str
        What it was made with, as JSON text: what the plan says, and what was changed of it.
    environment, not_hashed : str or None
        What it ran in; and by the names of outputs why they have no hash. As JSON text.
    archive : str or None
        The archive that its directory was put into.
    outputs : sequence of tuple
        Name, SHA-256 and size in bytes of what it left.
    removed : sequence of str
        What was said of each removal of files of it, as JSON text.
    """

    id: int
    attempt: AttemptRow
    spec: str
    environment: str | None
    not_hashed: str | None
    archive: str | None
    outputs: Sequence[tuple[str, str, int]]
    removed: Sequence[str]

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{self.attempt.iteration}.{self.attempt.task_id}.{self.attempt.attempt}"


class TimeRow(NamedTuple):
    """When an attempt was submitted, ran and ended, and what it used; otherwise as `AttemptRow`.

    Attributes
    ----------
    id : int
        Its row.
    group, function : str or None
        Of its task: the group, and the function that it calls.
    cached : bool
        Whether its result was known from before, so that it never ran.
    spec, changes : str or None
        JSON text of what was asked for; None where that says nothing of resources.
    """

    id: int
    iteration: int
    task_id: str
    attempt: int
    status: str
    operator: str
    group: str | None
    function: str | None
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    cached: bool
    cpu_s: float | None
    peak_memory_gib: float | None
    spec: str | None
    changes: str | None


class EventRow(NamedTuple):
    """A row of the journal: a transition of an attempt, else of a task, else of the run.

    ``who`` is the account of the person whose word it was, as their computer calls it; None for what a tick did.
    """

    seq: int
    at: float
    subject: str
    iteration: int | None
    task_id: str | None
    attempt: int | None
    event: str
    status: str
    reason: str | None
    who: str | None = None


class GivenRow(NamedTuple):
    """What a task gave, or that it is not completed any more, for what is drawn of results as they come in.

    Attributes
    ----------
    seq : int
        The event that completed it, or by which it is tried again.
    id : int
        Its row.
    iteration : int
    task_id : str
    attempt : int
    at : float or None
        When it ended, in seconds since the Unix epoch; None where it is not completed any more.
    function : str or None
        What it called.
    data, parameters, changes : str or None
        What it gave, what it was done with by the plan, and what was otherwise, as JSON texts; of long ones only the
        numbers and short texts at their top.
    """

    seq: int
    id: int
    iteration: int
    task_id: str
    attempt: int
    at: float | None
    function: str | None
    data: str | None
    parameters: str | None
    changes: str | None


class OverAttempt(NamedTuple):
    """An attempt that is over, and what its directory may lose.

    Attributes
    ----------
    id, task : int
        Their rows.
    attempt : int
    status : str
    iteration : int
    task_id : str
    operator : str
    spec : str
        What shall be done, as JSON text.
    """

    id: int
    task: int
    attempt: int
    status: str
    iteration: int
    task_id: str
    operator: str
    spec: str

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{self.iteration}.{self.task_id}.{self.attempt}"


class IterationRow(NamedTuple):
    """An iteration; times are in seconds since the Unix epoch."""

    iteration: int
    created_at: float
    ended_at: float | None
    counts: IterationCounts


class LinkRow(NamedTuple):
    """That an attempt takes something of another one, seen from either.

    Attributes
    ----------
    iteration, task_id, attempt
        The other attempt; None for what is of no attempt of this run.
    name : str
        Where it lies in the directory of the one that takes it.
    path : str or None
        What it is called in that of the other.
    sha256 : str or None
    origin : str or None
        Of which run, task and attempt it is, where that is another run.
    """

    iteration: int | None
    task_id: str | None
    attempt: int | None
    name: str
    path: str | None
    sha256: str | None
    origin: str | None


class NewsRow(NamedTuple):
    """An event that somebody may have to be told of, and how many there are like it.

    Attributes
    ----------
    event, status : str
    reason : str or None
    iteration : int or None
        None of the run itself.
    task_id : str or None
    task : int or None
        Its row.
    operator : str or None
    total : int
        Of this event, at this operator.
    """

    event: str
    status: str
    reason: str | None
    iteration: int | None
    task_id: str | None
    task: int | None
    operator: str | None
    total: int


class ToldRow(NamedTuple):
    """How far somebody was told, and what has happened last.

    Attributes
    ----------
    told : int
        The last event that says something of notices; 0 where none does.
    seq : int
        The last event.
    at : float
        When that was, in seconds since the Unix epoch.
    is_of_notices : bool
        Whether it only says something of notices.
    memory : str or None
        What stands in the journal for the next notices, as JSON text.
    """

    told: int
    seq: int
    at: float
    is_of_notices: bool
    memory: str | None
