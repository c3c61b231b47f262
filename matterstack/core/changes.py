"""Moves of a run, its tasks and its attempts, as they are decided and then written."""

from __future__ import annotations

from typing import NamedTuple

from matterstack.core.made import Made
from matterstack.core.states import AttemptEvent, AttemptStatus, RunEvent, RunStatus, TaskEvent, TaskStatus


class NewAttempt(NamedTuple):
    """The intent to submit: committed before any side effect; `changes` is what it is made with instead of the plan."""

    task: int
    attempt: int
    token: str
    at: float
    changes: str | None = None


class NewInput(NamedTuple):
    """A file or value that an attempt takes.

    Attributes
    ----------
    name : str
        Where it lies in the attempt's directory.
    task_id, iteration, attempt
        Whose it is, of this run; None for what is not. Without an attempt, of the last one.
    path : str or None
        What it is called there.
    sha256 : str or None
        Of what comes from outside.
    origin : str or None
        Of which run, task and attempt that is, as ``"<run_id> 0.relax.1"``.
    """

    name: str
    task_id: str | None = None
    iteration: int | None = None
    attempt: int | None = None
    path: str | None = None
    sha256: str | None = None
    origin: str | None = None


class AttemptChange(NamedTuple):
    """One move of an attempt, with what became known by it; `data`, `cached` and `usage` are JSON texts."""

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
    made: Made | None = None
    cached: str | None = None
    usage: str | None = None


class AttemptNote(NamedTuple):
    """Why an attempt stands where it stands, where that became known without a move."""

    attempt: int
    reason: str | None


class TaskChange(NamedTuple):
    """One move of a task; `not_before` is when its next attempt may begin, in seconds since the Unix epoch."""

    task: int
    leaves: TaskStatus
    event: TaskEvent
    at: float
    reason: str | None = None
    not_before: float | None = None


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


class Cleaned(NamedTuple):
    """Files of an attempt that are about to be removed; ``data`` is the JSON of what they are."""

    attempt: int
    task: int
    status: str
    at: float
    reason: str
    data: str


class Packed(NamedTuple):
    """An attempt whose directory is in an archive now, and about to be removed."""

    attempt: int
    task: int
    status: str
    at: float
    reason: str
    archive: str
    data: str


Change = AttemptChange | AttemptNote | TaskChange | RunChange | PendingSkip
