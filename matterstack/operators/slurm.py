"""Jobs of a Slurm cluster: held, stored, released, and judged by what they leave.

How an attempt is executed once at most, and never guessed about:

* a job is submitted held, under the attempt's token; the tick stores its id, and only then
  it is released: a job that nobody knows of cannot start;
* the first thing a job does is to claim the attempt's directory (``mkdir claim``): of two
  jobs of one attempt, or a job that is requeued, one runs the command;
* a job is the one with our id *and* our token: Slurm may give an id again;
* how it ended stands in ``exit.json``, whatever the queue says or has forgotten;
* what cannot be asked is not judged.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from matterstack.core.records import Absent, Attempt, Observation, Refused, Seen, Submitted
from matterstack.core.workflow import Task
from matterstack.errors import InvalidConfigError, InvalidTaskError, OperatorUnreachableError
from matterstack.files import read_tail, write_inside
from matterstack.operators.jobs import JobOperator, bad_end, began_at, exit_of, good_end
from matterstack.operators.results import last_words
from matterstack.operators.slurm_scheduler import Job, NotTakenError, Scheduler, Slurm, sbatch_options

#: What each state of a job means (squeue(1), JOB STATE CODES).
QUEUED = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
RUNNING = frozenset(
    {"CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
)
ENDED = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL", "DEADLINE",
     "REVOKED"}
)  # fmt: skip
_HELD_BY_US = "JobHeldUser"
_NEVER = frozenset({"DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "BadConstraints", "PartitionTimeLimit"})


class SlurmOperator(JobOperator):
    """Run commands as jobs of the Slurm cluster that this machine belongs to.

    Parameters
    ----------
    max_queued : int, optional
        How many jobs may be in the queue at once, running ones included.
    max_active : int, optional
        How many of them may run at once; the others stay held.
    preamble : str
        Lines of shell before each command: ``module load ...``.
    options : sequence of str
        More options of sbatch for every job, as in ``--partition=long``.
    grace_s : float
        How long a job that has left the queue without an exit code is waited for: a shared
        file system may show its files late.
    timeout_s : float
        How long a command of Slurm may take before it counts as unreachable.

    Notes
    -----
    The directory of the run has to be on a file system that the nodes share. A job has the
    environment of the kernel that submitted it, with the directory of its Python first in
    ``PATH``.
    """

    def __init__(
        self,
        *,
        max_queued: int | None = None,
        max_active: int | None = None,
        preamble: str = "",
        options: Sequence[str] = (),
        grace_s: float = 60.0,
        timeout_s: float = 30.0,
    ) -> None:
        for name, value in (("max_queued", max_queued), ("max_active", max_active)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InvalidConfigError(f"{name} must be a positive whole number, not {value!r}")
        for name, seconds in (("grace_s", grace_s), ("timeout_s", timeout_s)):
            if not (isinstance(seconds, int | float) and seconds >= 0):
                raise InvalidConfigError(f"{name} must be a number of seconds, not {seconds!r}")
        if not isinstance(preamble, str) or "\0" in preamble:
            raise InvalidConfigError(f"preamble must be lines of shell, not {preamble!r}")
        try:
            check_options(options, "options")
        except InvalidTaskError as error:
            raise InvalidConfigError(str(error)) from None
        self.max_queued = max_queued
        self.max_active = max_active
        self.preamble = preamble
        self.options = tuple(options)
        self.grace_s = grace_s
        self.timeout_s = timeout_s
        self.scheduler: Scheduler = Slurm(timeout_s)

    def __repr__(self) -> str:
        return f"SlurmOperator(max_queued={self.max_queued}, max_active={self.max_active})"

    def settings(self) -> Mapping[str, Any]:
        """Return the constructor's arguments."""
        return {
            "max_queued": self.max_queued,
            "max_active": self.max_active,
            "preamble": self.preamble,
            "options": list(self.options),
            "grace_s": self.grace_s,
            "timeout_s": self.timeout_s,
        }

    def check_task(self, task: Task) -> None:
        """Refuse a task without a command, variables a shell cannot set, and options that are ours."""
        super().check_task(task)
        check_options(task.resources.extra, f"task {task.task_id!r}: extra")

    def max_live(self, directory: Path) -> int | None:
        """Return how many jobs may be in the queue."""
        return self.max_queued

    # -- submission -------------------------------------------------------------------------

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Refused]:
        """Submit each as a held job; `release` lets them start once their ids are stored."""
        replies: dict[str, Submitted | Refused] = {}
        for attempt in attempts:
            resources = attempt.task.resources.scaled(attempt.attempt)
            options = [*self.options, *sbatch_options(resources)]
            try:
                number = self.scheduler.submit_held("job.sh", str(attempt.directory), attempt.token, options)
            except NotTakenError as refusal:
                replies[attempt.token] = Refused(f"Slurm refused it: {refusal}")
            except OperatorUnreachableError:
                # The others would wait as long: a later tick looks which of them arrived.
                if not replies:
                    raise
                break
            else:
                replies[attempt.token] = Submitted(number)
        return replies

    def release(self, attempts: Sequence[Attempt]) -> None:
        """Let jobs start whose ids are stored."""
        if self.max_active is not None:
            return  # how many run is known when the queue is looked at
        self._release(attempts)

    def _release(self, attempts: Sequence[Attempt]) -> None:
        ids = [attempt.external_id for attempt in attempts if attempt.external_id]
        if ids and self.scheduler.release(ids):
            for attempt in attempts:
                write_inside(attempt.directory, ".released", b"")

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Absent]:
        """Look for jobs by their names, in the queue and the accounting."""
        tokens = [attempt.token for attempt in attempts]
        jobs = self.scheduler.poll(tokens) + self.scheduler.find(tokens)
        replies: dict[str, Submitted | Absent] = {}
        for attempt in attempts:
            mine = sorted((job for job in jobs if job.token == attempt.token), key=lambda job: int(job.id))
            if mine:
                replies[attempt.token] = Submitted(mine[0].id)
            else:
                # Should a submission arrive after all, its job is held, and never released.
                replies[attempt.token] = Absent()
        return replies

    # -- looking ----------------------------------------------------------------------------

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        """Look at the queue once for all, and at what each job left."""
        at = time.time()
        # Before the queue is asked: a job may begin between its answer and our look at the files.
        begun = {attempt.token for attempt in attempts if began_at(attempt) is not None}
        jobs = self.scheduler.poll([attempt.token for attempt in attempts])
        mine: dict[str, Job] = {}
        ids = {attempt.token: attempt.external_id for attempt in attempts}
        strays = []
        for job in jobs:
            if job.id == ids[job.token]:
                mine[job.token] = job
            elif job.state in QUEUED:
                strays.append(job.id)
        if strays:
            self.scheduler.cancel(strays)  # of a submission that arrived although it seemed to fail
        gone = [a for a in attempts if a.token not in mine and exit_of(a) is None]
        accounted = {}
        if gone:
            for job in self.scheduler.find([attempt.token for attempt in gone]):
                if job.id == ids[job.token]:
                    accounted[job.token] = job
        self._release_more(attempts, mine)
        return {
            attempt.token: self._judge(
                attempt, mine.get(attempt.token) or accounted.get(attempt.token), attempt.token in begun, at
            )
            for attempt in attempts
        }

    def _release_more(self, attempts: Sequence[Attempt], jobs: Mapping[str, Job]) -> None:
        """Release held jobs: of a tick that was interrupted, or as many as may run now."""
        held, active = [], 0
        for attempt in attempts:
            job = jobs.get(attempt.token)
            if job is None or job.state in ENDED:
                continue
            if job.reason == _HELD_BY_US and not (attempt.directory / ".released").exists():
                held.append(attempt)
            else:
                active += 1
        room = len(held) if self.max_active is None else max(0, self.max_active - active)
        self._release(held[:room])

    def _judge(self, attempt: Attempt, job: Job | None, begun: bool, at: float) -> Observation:
        ended = exit_of(attempt)
        began = began_at(attempt)
        if job is not None and job.state not in ENDED:
            if ended is not None and ended["exit_code"] == 0:
                return good_end(attempt, ended, began)
            if job.state in RUNNING:
                note = None if job.state == "RUNNING" else f"Slurm says {job.state}"
                return Observation(Seen.RUNNING, reason=note, external_id=job.id, started_at=began or at)
            if begun and ended is None:
                # Its claim lets nothing run any more; the retry policy decides.
                self.scheduler.cancel([job.id])
                return Observation(
                    Seen.VANISHED, reason="Slurm stopped it after it had begun, and put it back in the queue"
                )
            if job.reason in _NEVER:
                self.scheduler.cancel([job.id])
                return bad_end(f"{job.reason}: Slurm says that it can never start", "CANCELLED", at)
            why = "held until there is room" if job.reason == _HELD_BY_US else f"Slurm says {job.reason or job.state}"
            return Observation(Seen.QUEUED, reason=why, external_id=job.id)
        if ended is not None and ended["exit_code"] == 0:
            return good_end(attempt, ended, began)
        if job is not None and job.state not in ("COMPLETED", "FAILED"):
            code = ended["exit_code"] if ended else None
            return bad_end(
                f"{job.state}: ran {job.elapsed} of {job.limit}{last_words(attempt.directory)}",
                job.state,
                at,
                code,
                began,
            )
        if ended is not None:
            code = ended["exit_code"]
            text = f"exit code {code}{last_words(attempt.directory)}"
            return bad_end(text, "FAILED", float(ended["ended_at"]), code, began)
        if job is not None and job.state == "FAILED" and began is None:
            tail = read_tail(attempt.directory, "slurm.out", 500).strip().splitlines()
            return bad_end(f"FAILED before its command began{': ' + tail[-1] if tail else ''}", "FAILED", at)
        said = f"Slurm says {job.state}" if job else "Slurm does not know its job any more"
        return self.missing(attempt, said, began, at)

    # -- the end ----------------------------------------------------------------------------

    def cancel(self, attempts: Sequence[Attempt]) -> Collection[str]:
        """Cancel the jobs; an attempt is over when none of its jobs can run."""
        tokens = [attempt.token for attempt in attempts]
        jobs = self.scheduler.poll(tokens)
        alive = [job for job in jobs if job.state not in ENDED]
        if alive:
            self.scheduler.cancel([job.id for job in alive])
            jobs = self.scheduler.poll(tokens)
        busy = {job.token for job in jobs if job.state not in ENDED}
        return [token for token in tokens if token not in busy]


#: Options that would take an attempt out of our hands.
_OURS = (
    "job-name", "comment", "hold", "parsable", "output", "error", "chdir", "wrap", "array", "requeue", "no-requeue",
    "wait", "test-only", "uid", "gid", "batch", "quiet", "dependency", "begin", "clusters",
)  # fmt: skip


def check_options(options: Sequence[str], what: str) -> None:
    """Raise unless these are plain long options of sbatch that leave the job in our hands.

    Raises
    ------
    InvalidTaskError
        Naming the option.
    """
    for option in options:
        name = option.partition("=")[0] if isinstance(option, str) else ""
        plain = isinstance(option, str) and option.isprintable() and name.startswith("--") and name[2:3].isalpha()
        if not plain or any(character.isspace() for character in name):
            raise InvalidTaskError(f"{what}: {option!r} is not a long option of sbatch, as in '--partition=long'")
        if any(ours == name[2:] or (len(name) > 4 and ours.startswith(name[2:])) for ours in _OURS):
            raise InvalidTaskError(f"{what}: {option!r} is set by MatterStack itself")
