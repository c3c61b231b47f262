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

import shlex
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from matterstack.core.operator import Operator
from matterstack.core.records import Absent, Attempt, Observation, Refused, Seen, Submitted
from matterstack.core.states import AttemptStatus
from matterstack.core.strict_json import MAX_BYTES, parse_json
from matterstack.core.workflow import Task
from matterstack.errors import (
    AttemptFailedError,
    InvalidConfigError,
    InvalidJsonError,
    InvalidTaskError,
    OperatorUnreachableError,
    UnsafeFileError,
)
from matterstack.files import open_inside, read_inside, read_tail, write_inside
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


class SlurmOperator(Operator):
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
        """Refuse a task without a command, and variables a shell cannot set."""
        if task.command is None:
            raise InvalidTaskError(f"task {task.task_id!r} has no command, and a job is made to run one")
        for name, value in task.env.items():
            if not name.isidentifier() or not name.isascii():
                raise InvalidTaskError(f"task {task.task_id!r}: a shell cannot set the variable {name!r}")
            if value.startswith("env:") and not value.removeprefix("env:").isidentifier():
                raise InvalidTaskError(f"task {task.task_id!r}: {value!r} names no variable a shell can have")
        check_options(task.resources.extra, f"task {task.task_id!r}: extra")

    def max_live(self, directory: Path) -> int | None:
        """Return how many jobs may be in the queue."""
        return self.max_queued

    def prepare(self, attempt: Attempt) -> None:
        """Write the job's script."""
        (attempt.directory / "job.sh").write_text(job_script(attempt, self.preamble), encoding="utf-8")

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
        gone = [a for a in attempts if a.token not in mine and _ended(a) is None]
        accounted = {}
        if gone:
            for job in self.scheduler.find([attempt.token for attempt in gone]):
                if job.id == ids[job.token]:
                    accounted[job.token] = job
        self._release_more(attempts, mine)
        return {
            attempt.token: self._judge(attempt, mine.get(attempt.token) or accounted.get(attempt.token), at)
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

    def _judge(self, attempt: Attempt, job: Job | None, at: float) -> Observation:
        ended = _ended(attempt)
        began = _began(attempt)
        if job is not None and job.state not in ENDED:
            if ended is not None and ended["exit_code"] == 0:
                return _good(attempt, ended, began)
            if job.state in RUNNING:
                note = None if job.state == "RUNNING" else f"Slurm says {job.state}"
                return Observation(Seen.RUNNING, reason=note, external_id=job.id, started_at=began or at)
            if began is not None and ended is None:
                # Its claim lets nothing run any more; the retry policy decides.
                self.scheduler.cancel([job.id])
                return Observation(
                    Seen.VANISHED, reason="Slurm stopped it after it had begun, and put it back in the queue"
                )
            if job.reason in _NEVER:
                self.scheduler.cancel([job.id])
                return _bad(f"{job.reason}: Slurm says that it can never start", "CANCELLED", at)
            why = "held until there is room" if job.reason == _HELD_BY_US else f"Slurm says {job.reason or job.state}"
            return Observation(Seen.QUEUED, reason=why, external_id=job.id)
        if ended is not None and ended["exit_code"] == 0:
            return _good(attempt, ended, began)
        if job is not None and job.state not in ("COMPLETED", "FAILED"):
            code = ended["exit_code"] if ended else None
            return _bad(f"{job.state}: ran {job.elapsed} of {job.limit}{_words(attempt)}", job.state, at, code, began)
        if ended is not None:
            code = ended["exit_code"]
            text = f"exit code {code}{_words(attempt)}"
            return _bad(text, "FAILED", float(ended["ended_at"]), code, began)
        if job is not None and job.state == "FAILED" and began is None:
            tail = read_tail(attempt.directory, "slurm.out", 500).strip().splitlines()
            return _bad(f"FAILED before its command began{': ' + tail[-1] if tail else ''}", "FAILED", at)
        return self._missing(attempt, job, began, at)

    def _missing(self, attempt: Attempt, job: Job | None, began: float | None, at: float) -> Observation:
        """Judge an attempt whose job is over or gone, and which left no exit code."""
        said = f"Slurm says {job.state}" if job else "Slurm does not know its job any more"
        waited_s = _since(attempt, at)
        if waited_s < self.grace_s:
            state = Seen.RUNNING if attempt.status is AttemptStatus.RUNNING else Seen.QUEUED
            return Observation(state, reason=f"{said}, and it left no exit code yet: waited for {self.grace_s:g} s")
        if began is None:
            try:
                (attempt.directory / "claim").mkdir()
            except FileExistsError:
                return Observation(Seen.VANISHED, reason=f"{said}; it began, and left no exit code")
            return Observation(Seen.VANISHED, reason=f"{said}; it never began, and cannot any more")
        return Observation(Seen.VANISHED, reason=f"{said}; it began, and left no exit code")

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

    def collect_results(self, attempt: Attempt) -> Any:
        """Check the outputs, and return the content of result.json."""
        for output in attempt.spec.get("outputs", ()):
            try:
                open(open_inside(attempt.directory, output), "rb").close()
            except FileNotFoundError:
                raise AttemptFailedError(f"the command ended well, but its output {output} is not there") from None
            except (OSError, UnsafeFileError) as error:
                raise AttemptFailedError(f"the output {output} cannot be used: {error}") from None
        try:
            return parse_json(read_inside(attempt.directory, "result.json", MAX_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, UnsafeFileError, InvalidJsonError) as error:
            raise AttemptFailedError(f"result.json cannot be used: {error}") from None


def _good(attempt: Attempt, ended: Mapping[str, Any], began: float | None) -> Observation:
    return Observation(Seen.ENDED, exit_code=0, started_at=began, ended_at=float(ended["ended_at"]))


def _bad(reason: str, kind: str, at: float, exit_code: int | None = None, began: float | None = None) -> Observation:
    return Observation(
        Seen.ENDED, ok=False, reason=reason, kind=kind, exit_code=exit_code, started_at=began, ended_at=at
    )


def _words(attempt: Attempt) -> str:
    lines = [line.strip() for line in read_tail(attempt.directory, "stderr.txt", 2000).splitlines() if line.strip()]
    return f"; stderr ends with: {lines[-1][:300]}" if lines else ""


def _ended(attempt: Attempt) -> dict[str, Any] | None:
    """Return what the job wrote when its command ended; None where it has not, or is being written."""
    try:
        said = parse_json(read_inside(attempt.directory, "exit.json", MAX_BYTES))
        return {"exit_code": int(said["exit_code"]), "ended_at": float(said["ended_at"])}
    except (FileNotFoundError, InvalidJsonError, KeyError, TypeError, ValueError):
        return None


def _began(attempt: Attempt) -> float | None:
    """Return when the job claimed the attempt; 0 where it did, and could not say when."""
    try:
        return float(parse_json(read_inside(attempt.directory, "claim/started.json", MAX_BYTES))["started_at"])
    except FileNotFoundError:
        return 0.0 if (attempt.directory / "claim").is_dir() else None
    except (InvalidJsonError, KeyError, TypeError, ValueError):
        return 0.0


def _since(attempt: Attempt, at: float) -> float:
    """Return for how many seconds the attempt has been missing, by our own clock."""
    try:
        first = float(read_inside(attempt.directory, ".missing", 100))
        if first <= at:
            return at - first
    except (FileNotFoundError, ValueError):
        pass
    write_inside(attempt.directory, ".missing", repr(at).encode())
    return 0.0


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


def job_script(attempt: Attempt, preamble: str) -> str:
    """Return the script of an attempt's job."""
    task = attempt.task
    lines = [
        f"export MATTERSTACK_TOKEN={attempt.token}",
        f"export MATTERSTACK_TASK_ID={shlex.quote(attempt.task_id)}",
        f"export MATTERSTACK_ITERATION={attempt.iteration}",
        f"export MATTERSTACK_ATTEMPT={attempt.attempt}",
        f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
    ]
    for name, value in task.env.items():
        if value.startswith("env:"):
            secret = value.removeprefix("env:")
            lines.append(f': "${{{secret}?has to be set: the task needs it}}"; export {name}="${secret}"')
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    command = task.command if isinstance(task.command, str) else shlex.join(task.command or ())
    return f"""#!/bin/sh
# One attempt of task {attempt.task_id}; whoever claims the directory runs it, and nobody else.
if ! mkdir claim 2>/dev/null; then
  echo "this attempt was claimed by another job: nothing is done" >&2
  exit 0
fi
printf '{{"started_at": %s, "job": "%s", "host": "%s"}}\\n' "$(date +%s)" "$SLURM_JOB_ID" "$(hostname)" >claim/new
mv claim/new claim/started.json
{chr(10).join(lines)}
{preamble}
sh -c {shlex.quote(command)} </dev/null >stdout.txt 2>stderr.txt
code=$?
[ "$code" -le 128 ] && said=$code || said=$((128 - code))
printf '{{"exit_code": %d, "ended_at": %s}}\\n' "$said" "$(date +%s)" >exit.json.new
sync exit.json.new 2>/dev/null
mv exit.json.new exit.json
exit "$code"
"""
