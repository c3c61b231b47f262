"""Results of tasks, and the report of a tick."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from matterstack.core.states import RunStatus, TaskStatus
from matterstack.errors import MissingFileError


class Left(Protocol):
    """What knows how to read what a task left."""

    def value(self, result: TaskResult) -> Any:
        """Return the value it gave."""

    def file(self, result: TaskResult, path: str) -> Path:
        """Return where a file of it is."""

    def parameters(self, result: TaskResult) -> dict[str, Any]:
        """Return what it was done with."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task of an iteration gave.

    Attributes
    ----------
    task_id : str
    status : TaskStatus
        COMPLETED, or FAILED or SKIPPED where that was allowed.
    data : Any
        The content of its ``result.json``; ``{}`` where there is none. Of a call, the numbers and texts of its value.
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
    left: Left | None = field(default=None, repr=False, compare=False)

    @property
    def value(self) -> Any:
        """What it gave: of the call of a function what that returned, of any other task its data.

        None where the task did not complete.

        Raises
        ------
        ValueNotReadableError
            It holds something that cannot be read here.
        """
        if self.status is not TaskStatus.COMPLETED:
            return None
        return self.data if self.left is None else self.left.value(self)

    @property
    def parameters(self) -> dict[str, Any]:
        """What it was done with: of the call of a function its arguments by name, of an experiment its parameters.

        Raises
        ------
        ValueNotReadableError
            One of them holds something that cannot be read here.
        """
        return {} if self.left is None else self.left.parameters(self)

    def file(self, path: str) -> Path:
        """Return where a file that it left is.

        Parameters
        ----------
        path : str
            Relative to its directory.

        Raises
        ------
        MissingFileError
            It did not leave such a file.
        """
        if self.left is None or self.directory is None:
            raise MissingFileError(f"{self.task_id} has left no file {path}: it never ran", path=Path(path))
        return self.left.file(self, path)


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
    tell_again_s : float or None
        After how many seconds there may be something to tell whom the run tells of itself, although nothing changes.
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
    tell_again_s: float | None = None

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
        return text if self.status is RunStatus.RUNNING else f"{text}; the run is {self.status}"
