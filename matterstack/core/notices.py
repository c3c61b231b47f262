"""Notices: what somebody is told of a run, and the kinds there are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class NoticeKind(StrEnum):
    """What a notice may be about; ``config={"notify": {"on": [...]}}`` chooses among all but TRIAL."""

    FAILED = "failed"
    COMPLETED = "completed"
    PAUSED = "paused"
    TASKS_FAILED = "tasks_failed"
    NEEDS_YOU = "needs_you"
    REMINDER = "reminder"
    OPERATOR_SUSPENDED = "operator_suspended"
    BUDGET_NEAR = "budget_near"
    STILL = "still"
    TRIAL = "trial"


#: What may be chosen.
CHOICES = tuple(str(kind) for kind in NoticeKind if kind is not NoticeKind.TRIAL)


@dataclass(frozen=True, slots=True)
class Notice:
    """What somebody is told of a run.

    Attributes
    ----------
    number : int
        Of the notices of the run, from 1.
    kinds : tuple of str
        What it is about, the most urgent first: what came at one moment is told together.
    title : str
        In a line.
    text : str
        All of it, a few lines.
    workspace, run_id : str
    path : str
        The run's directory.
    at : float
        Seconds since the Unix epoch.
    """

    number: int
    kinds: tuple[str, ...]
    title: str
    text: str
    workspace: str
    run_id: str
    path: str
    at: float
