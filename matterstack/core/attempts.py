"""Attempts, as the tick and the operators speak of them.

Times are seconds since the Unix epoch, as the clock of the stepping machine showed them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.numbers import is_amount, is_exit_code, is_time
from matterstack.core.states import AttemptStatus, TaskStatus
from matterstack.errors import InvalidTaskError

if TYPE_CHECKING:
    from matterstack.core.task import Task


_SMALL = 2000  # characters of a specification


class Seen(StrEnum):
    """What an operator can see of an attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    REJECTED = "rejected"
    EXPIRED = "expired"
    ENDED = "ended"
    VANISHED = "vanished"
    ABSENT = "absent"


class Observation(NamedTuple):
    """What an operator saw of one attempt.

    Parameters
    ----------
    seen : Seen
        The state of the thing outside. ABSENT is what never began, surely: it is submitted again, under its token.
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
    cpu_s, peak_memory_gib : float, optional
        CPU time of its processes, and the most memory that one of them had; None where nobody has measured that.
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
    cpu_s: float | None = None
    peak_memory_gib: float | None = None

    def plausible(self) -> Observation:
        """Return the same without numbers that are no time and no exit code, whoever wrote them; the reason says so.

        Examples
        --------
        >>> Observation(Seen.ENDED, exit_code=10**30).plausible().reason
        '1000000000000000... is no exit code'
        """
        wrong: dict[str, str] = {}
        for name, is_right, what in (
            ("started_at", is_time, "no time"),
            ("ended_at", is_time, "no time"),
            ("exit_code", is_exit_code, "no exit code"),
            ("cpu_s", is_amount, "no CPU time"),
            ("peak_memory_gib", is_amount, "no amount of memory"),
        ):
            value = getattr(self, name)
            if value is not None and not is_right(value):
                wrong[name] = f"{_short(value)} is {what}"
        if not wrong:
            return self
        reason = "; ".join([*([self.reason] if self.reason else []), *wrong.values()])
        kept: dict[str, Any] = dict.fromkeys(wrong)
        return self._replace(**kept, reason=reason)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes out no integer of more than 4300 digits
        return "what was written"
    return text if len(text) <= 20 else f"{text[:16]}..."


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


class Deferred(NamedTuple):
    """The outside has surely not taken the attempt, and may at another time: it is asked again, under its token."""

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
        try:
            # Submitted at one tick, collected at another. One without objects in it cannot be changed by who gets it.
            is_flat = len(self.spec) <= _SMALL and "{" not in self.spec[1:]
            task = (_parsed_lately if is_flat else _parse)(self.task_id, self.spec)
            for shown in (task.instructions, task.assignee):
                if not isinstance(shown, str | None):
                    raise TypeError(f"{shown!r:.100} is no text")
            return task
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidTaskError(
                f"task {self.task_id!r}: what the database says of it cannot be read: {error}", task_id=self.task_id
            ) from None


def _parse(task_id: str, spec: str) -> Task:
    from matterstack.core.task import Task

    return Task.from_json({"task_id": task_id, **json.loads(spec)})


_parsed_lately = functools.lru_cache(maxsize=512)(_parse)


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
    gpus : sequence of str
        Which GPUs of this machine it holds, where its operator counts them.
    """

    __slots__ = ("_directory", "_name", "_task", "gpus", "parent", "record")

    def __init__(self, record: LiveAttempt, parent: str, name: str | None = None, gpus: Sequence[str] = ()) -> None:
        self.record = record
        self.gpus = gpus
        self._task: Task | None = None
        self._directory: Path | None = None
        self.parent = parent
        self._name = name

    def __repr__(self) -> str:
        return f"<Attempt {self.record.name}, {self.status}, {self.token}>"

    @property
    def name(self) -> str:
        """Name of its directory."""
        if self._name is None:
            self._name = self.record.name
        return self._name

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
        moved = Attempt(self.record, self.parent, name, self.gpus)
        moved._task = self.task  # parsed for both
        return moved

    def taken(self, external_id: str | None) -> Attempt:
        """Return the same attempt with what the outside calls it."""
        known = Attempt(self.record._replace(external_id=external_id), self.parent, self.name, self.gpus)
        known._task = self._task
        return known
