"""Slurm by its command line: five calls, and pure parsers of what they print.

Another scheduler can take Slurm's place in `SlurmOperator` by doing the same five things:
see `Scheduler`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from matterstack.errors import OperatorUnreachableError

_TIMEOUT_S = 30.0
_MOST_NAMES = 2000
_MOST_IDS = 500
_SQUEUE_FORMAT = "%A|%j|%T|%r|%M|%l"
_SACCT_FORMAT = "JobIDRaw,JobName,State,ExitCode,Elapsed,Timelimit"
#: What sbatch says when it has surely not taken the job, and would not at another time (Slurm 22.05, slurm_errno.c).
_REFUSALS = re.compile(
    r"Invalid (partition|account|qos|feature|generic resource|wckey|node name|job array|time limit)|invalid partition|"
    r"Invalid (Trackable RESource|account or account/partition)|Requested (node configuration|time limit|partition)|"
    r"Memory (specification|required)|[Mm]ore processors requested|Access/permission denied|unrecognized option|"
    r"User's group not permitted|Job violates|[Ii]nvalid (--|\w+ specification|option)|Unable to open file|"
    r"CPU count (specification|per node)|Job size specification|Pathname of a file"
)

_NO_CONTACT = re.compile(r"[Uu]nable to contact|timed out|[Cc]onnection|[Ss]ocket|[Cc]ommunication")


class Job(NamedTuple):
    """A job, as the scheduler sees it.

    Attributes
    ----------
    id : str
        The scheduler's; it may be given again to another job.
    token : str
        The job's name: together with the id its identity.
    state : str
        As Slurm writes it: ``PENDING``, ``RUNNING``, ``TIMEOUT``, ...
    reason : str
        Why it is pending; empty otherwise.
    elapsed, limit : str
        How long it ran, and was allowed to.
    """

    id: str
    token: str
    state: str
    reason: str = ""
    elapsed: str = ""
    limit: str = ""


class NotTakenError(Exception):
    """The scheduler has surely not taken the job; the text says why."""


class Scheduler(Protocol):
    """The five things an operator asks of a scheduler.

    Each raises `OperatorUnreachableError` when nobody can tell what happened, within a bound.
    """

    def submit_held(self, script: str, directory: str, token: str, options: Sequence[str]) -> str:
        """Submit a job under the name `token` so that it cannot start yet, and return its id.

        Raises
        ------
        NotTakenError
            It was surely not taken.
        """

    def release(self, ids: Sequence[str]) -> bool:
        """Let held jobs start, and return whether all of them surely may; one that is gone does no harm."""

    def poll(self, tokens: Sequence[str]) -> list[Job]:
        """Return the jobs of these names that the queue knows, ended ones too, in one question."""

    def find(self, tokens: Sequence[str]) -> list[Job]:
        """Return the jobs of these names that the accounting knows; empty where there is none."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel jobs; those that are gone do no harm."""


class Slurm:
    """The command line of Slurm on this machine.

    Parameters
    ----------
    timeout_s : float
        How long a command may take.
    """

    def __init__(self, timeout_s: float = _TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._accounting = True

    def _run(self, command: Sequence[str], directory: str | None = None) -> subprocess.CompletedProcess[str]:
        # Options that were set for other jobs by the environment would be taken for ours.
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SBATCH_", "SLURM_JOB", "SQUEUE_"))
        }
        try:
            return subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=self.timeout_s, env=clean,
                cwd=directory, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise OperatorUnreachableError(f"{command[0]} did not answer within {self.timeout_s:g} s") from None
        except OSError as error:
            raise OperatorUnreachableError(f"{command[0]} cannot be started: {error}") from error

    def _ask(self, command: Sequence[str]) -> str:
        done = self._run(command)
        if done.returncode:
            raise OperatorUnreachableError(f"{command[0]} failed: {_last_line(done.stderr)}")
        return done.stdout

    def submit_held(self, script: str, directory: str, token: str, options: Sequence[str]) -> str:
        """See `Scheduler.submit_held`."""
        command = ["sbatch", "--parsable", "--hold", "--no-requeue", f"--job-name={token}", f"--comment={token}"]
        done = self._run([*command, "--output=slurm.out", f"--chdir={directory}", *options, script], directory)
        if done.returncode:
            said = _last_line(done.stderr)
            if _REFUSALS.search(done.stderr):
                raise NotTakenError(said)
            raise OperatorUnreachableError(f"sbatch failed, and the job may exist all the same: {said}")
        number = parse_sbatch(done.stdout)
        if number is None:
            raise OperatorUnreachableError(f"sbatch printed no job id: {done.stdout[:200]!r}")
        return number

    def release(self, ids: Sequence[str]) -> bool:
        """See `Scheduler.release`."""
        every = True
        for first in range(0, len(ids), _MOST_IDS):
            done = self._run(["scontrol", "release", ",".join(ids[first : first + _MOST_IDS])])
            if done.returncode and _NO_CONTACT.search(done.stderr):
                raise OperatorUnreachableError(f"scontrol release failed: {_last_line(done.stderr)}")
            # It fails as a whole when one of the jobs is gone or ended; the next look shows which are held still.
            every = every and not done.returncode
        return every

    def poll(self, tokens: Sequence[str]) -> list[Job]:
        """See `Scheduler.poll`."""
        which = f"--name={','.join(tokens)}" if len(tokens) <= _MOST_NAMES else "--me"
        jobs = parse_squeue(self._ask(["squeue", "--noheader", "--states=all", which, f"--format={_SQUEUE_FORMAT}"]))
        wanted = set(tokens)
        return [job for job in jobs if job.token in wanted]

    def find(self, tokens: Sequence[str]) -> list[Job]:
        """See `Scheduler.find`."""
        if not self._accounting:
            return []
        found: list[Job] = []
        for first in range(0, len(tokens), _MOST_NAMES):
            names = ",".join(tokens[first : first + _MOST_NAMES])
            command = ["sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", f"--name={names}"]
            done = self._run([*command, "--starttime=now-30days", f"--format={_SACCT_FORMAT}"])
            if "accounting storage is disabled" in done.stderr:
                self._accounting = False
                return []
            if done.returncode:
                raise OperatorUnreachableError(f"sacct failed: {_last_line(done.stderr)}")
            found += parse_sacct(done.stdout)
        wanted = set(tokens)
        return [job for job in found if job.token in wanted]

    def cancel(self, ids: Sequence[str]) -> None:
        """See `Scheduler.cancel`."""
        for first in range(0, len(ids), _MOST_IDS):
            done = self._run(["scancel", *ids[first : first + _MOST_IDS]])
            if done.returncode and "nvalid job id" not in done.stderr:
                raise OperatorUnreachableError(f"scancel failed: {_last_line(done.stderr)}")


def parse_sbatch(text: str) -> str | None:
    r"""Return the job id that ``sbatch --parsable`` printed: ``id`` or ``id;cluster``.

    Examples
    --------
    >>> parse_sbatch("1234;lab\n"), parse_sbatch("sbatch: something else")
    ('1234', None)
    """
    lines = [line for line in text.splitlines() if line.strip()]
    found = re.fullmatch(r"(\d+)(;[\w.-]+)?", lines[-1].strip()) if lines else None
    return found.group(1) if found else None


def parse_squeue(text: str) -> list[Job]:
    r"""Return the jobs of ``squeue --format=%A|%j|%T|%r|%M|%l``; a line that is none of these is left out.

    Examples
    --------
    >>> parse_squeue("7|ms-a|PENDING|JobHeldUser|0:00|1:00\n")
    [Job(id='7', token='ms-a', state='PENDING', reason='JobHeldUser', elapsed='0:00', limit='1:00')]
    """
    found = []
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) == 6 and parts[0].isdigit() and parts[2].isupper():
            number, token, state, reason, elapsed, limit = parts
            found.append(Job(number, token, state, "" if reason == "None" else reason, elapsed, limit))
    return found


def parse_sacct(text: str) -> list[Job]:
    r"""Return the jobs of ``sacct --parsable2`` with the columns that `Slurm.find` asks for.

    Examples
    --------
    >>> parse_sacct("7|ms-a|CANCELLED by 1000|0:15|00:00:03|00:01:00\n")
    [Job(id='7', token='ms-a', state='CANCELLED', reason='', elapsed='00:00:03', limit='00:01:00')]
    """
    found = []
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) == 6 and parts[0].isdigit() and parts[2]:
            number, token, state, _, elapsed, limit = parts
            found.append(Job(number, token, state.split()[0].rstrip("+"), "", elapsed, limit))
    return found


def sbatch_options(resources: Mapping[str, object]) -> list[str]:
    """Return what resources mean to sbatch.

    Parameters
    ----------
    resources : mapping
        As `matterstack.core.workflow.Resources` names them.

    Examples
    --------
    >>> sbatch_options({"tasks": 4, "memory_gib": 1.5, "walltime_s": 90})
    ['--ntasks=4', '--mem=1536M', '--time=0-00:01:30']
    """
    options = []
    words = {"nodes": "nodes", "tasks": "ntasks", "cpus_per_task": "cpus-per-task", "gpus": "gpus",
             "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint"}  # fmt: skip
    for name, option in words.items():
        if resources.get(name):
            options.append(f"--{option}={resources[name]}")
    if memory_gib := resources.get("memory_gib"):
        nodes = int(str(resources.get("nodes", 1)))
        options.append(f"--mem={max(1, round(float(str(memory_gib)) * 1024 / nodes))}M")  # sbatch counts by node
    if walltime_s := resources.get("walltime_s"):
        minutes, seconds = divmod(max(1, round(float(str(walltime_s)))), 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        options.append(f"--time={days}-{hours:02d}:{minutes:02d}:{seconds:02d}")
    extra = resources.get("extra", ())
    assert isinstance(extra, list | tuple)
    return options + [str(option) for option in extra]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it said nothing"
