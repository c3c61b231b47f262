"""Moves of a run, its tasks and its attempts, as they are decided and then written."""

from __future__ import annotations

from typing import NamedTuple

from matterstack.core.states import AttemptEvent, AttemptStatus, RunEvent, RunStatus, TaskEvent, TaskStatus


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
    reason: str | None


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
