"""Slurm by its command line: eight calls, and pure parsers of what they print.

Another scheduler can take Slurm's place in `SlurmOperator` by doing the same eight things:
see `Scheduler`.

No answer is never "no jobs": a command is believed when it ended well and told so itself (`site_agent.proved`), and
that a job is not there only when the list it is missing from begins with its heading.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from matterstack.errors import OperatorUnreachableError
from matterstack.operators.jobs.answers import Answers
from matterstack.operators.jobs.sites import Command, Done, Site
from matterstack.operators.sbatch import sbatch_options

_MOST_ACCOUNTED = 2000
_MOST_IDS = 500
_SQUEUE_FORMAT = "%A|%j|%T|%r|%M|%l"
_SQUEUE_HEADING = "JOBID|NAME|STATE|"
#: All jobs of this user: an answer that serves every run.
_SQUEUE = ("squeue", "--states=all", "--me", f"--format={_SQUEUE_FORMAT}")
_SACCT_FORMAT = "JobIDRaw,JobName,State,ExitCode,Elapsed,Timelimit"
_SACCT_HEADING = "JobIDRaw|JobName|State|"
_CLOCKS_DIFFER_S = 3600
#: Each job that counts against MaxSubmitJobs, and so each task of an array: a line (seen with Slurm 22.05).
_COUNT = ("squeue", "--states=all", "--me", "--array", "--format=%T|%j")
_COUNT_HEADING = "STATE|NAME"
#: What each state of a job means (squeue(1), JOB STATE CODES).
QUEUED = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
RUNNING = frozenset(
    {"CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
)
ENDED = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL", "DEADLINE"}
)
#: Of a job that another cluster of the federation has: that one knows how it stands.
REVOKED = "REVOKED"
#: What sbatch says when it takes no more jobs of this user, account or QOS now: ``AssocMaxSubmitJobLimit``,
#: ``QOSMaxSubmitJobPerUserLimit``, ``MaxSubmitJobsPerAccount`` and so on (Slurm 22.05, slurm_protocol_defs.c).
_FULL = r"\w*SubmitJobs?(Limit|Per)\w*"
#: What sbatch says when it has surely not taken the job, and would not at another time (Slurm 22.05, slurm_errno.c).
_REFUSALS = (
    r"Invalid (partition|account|qos|feature|generic resource|wckey|node name|job array|time limit)|invalid partition|"
    r"Invalid (Trackable RESource|account or account/partition)|Requested (node configuration|time limit|partition)|"
    r"Memory (specification|required)|[Mm]ore processors requested|Access/permission denied|unrecognized option|"
    r"User's group not permitted|Job violates|[Ii]nvalid (--|\w+ specification|option)|Unable to open file|"
    r"CPU count (specification|per node)|Job size specification|Pathname of a file"
)

_NO_CONTACT = r"[Uu]nable to contact|timed out|[Cc]onnection|[Ss]ocket|[Cc]ommunication|slurm_load_jobs error"


class Job(NamedTuple):
    """A job, as the scheduler sees it.

    Attributes
    ----------
    id : str
        The scheduler's, without white space or a slash; it may be given again to another job.
    token : str
        The job's name: together with the id its identity.
    state : str
        As Slurm writes it: ``PENDING``, ``RUNNING``, ``TIMEOUT``, ...
    reason : str
        Why it is pending; empty otherwise. ``JobHeldUser`` of a job that was submitted held.
    elapsed, limit : str
        How long it ran, and was allowed to.
    """

    id: str
    token: str
    state: str
    reason: str = ""
    elapsed: str = ""
    limit: str = ""


class NewJob(NamedTuple):
    """A job to be submitted.

    Attributes
    ----------
    token : str
        Its name.
    directory : str
        Where it starts, and its script is.
    script : str
        Name of the script.
    resources : mapping
        What it may use, as `matterstack.core.resources.Resources` names it.
    options : sequence of str
        More options of the scheduler, for every job.
    """

    token: str
    directory: str
    script: str
    resources: Mapping[str, object]
    options: Sequence[str]


class NotTaken(NamedTuple):
    """The scheduler has surely not taken a job."""

    reason: str


class NotNow(NamedTuple):
    """The scheduler has surely not taken a job, and may when others have ended."""

    reason: str


class Scheduler(Protocol):
    """The eight things an operator asks of a scheduler.

    Each raises `OperatorUnreachableError` when nobody can tell what happened, within a bound.
    """

    def submit_held(self, jobs: Sequence[NewJob]) -> Mapping[str, str | NotTaken | NotNow]:
        """Submit jobs so that they cannot start yet; return their ids by token.

        A token that is missing may have been submitted or not.
        """

    def release(self, ids: Sequence[str]) -> bool:
        """Let held jobs start, and return whether all of them surely may; one that is gone does no harm."""

    def forgotten(self, ids: Sequence[str]) -> list[str]:
        """Return those of held jobs of which the scheduler does not know that they were ever released.

        One that crashed soon after a release has lost it. A job that a person holds was released before.
        """

    def poll(self, tokens: Sequence[str]) -> list[Job]:
        """Return the jobs of these names that the queue knows, ended ones too, oldest first, in one question."""

    def glance(self, tokens: Sequence[str], begun: Collection[str], age_s: float) -> list[Job] | None:
        """Return what `poll` told another run at most `age_s` seconds ago, where that will do, or None.

        It will do where it shows all of these names, and none of `begun`, those known to have begun, as waiting: what
        an answer does not show may have been submitted, and what waits may have begun, after it was given.
        """

    def queued(self, age_s: float, *, ask: bool) -> list[str] | None:
        """Return the names of all jobs of this user that are not over, one for each that counts.

        What another run was told at most `age_s` seconds ago will do; without `ask`, None where none was.
        """

    def find(self, tokens: Sequence[str], since: float) -> list[Job]:
        """Return the jobs of these names that the accounting knows, oldest first; empty where there is none.

        None of them was submitted before `since`, in seconds since the Unix epoch.
        """

    def cancel(self, ids: Sequence[str], token: str | None = None) -> None:
        """Cancel jobs; those that are gone do no harm.

        With a token, those among them of this name: the id of a job that cannot be seen may be another's by now.
        """


class Slurm:
    """The command line of Slurm on this machine.

    Parameters
    ----------
    timeout_s : float
        How long a command may take.
    site : Site
        Where its commands run.
    """

    def __init__(self, timeout_s: float, site: Site) -> None:
        self.timeout_s = timeout_s
        self.site = site
        self.answers = Answers(site)
        self._accounting = True

    def _run(self, words: Sequence[str]) -> Done:
        (done,) = self.site.run([Command(words)], self.timeout_s)
        if done.code is None:
            raise OperatorUnreachableError(done.error)
        return done

    def _ask(self, command: Sequence[str]) -> str:
        """Ask for a list; one that an error cut short, whatever the exit code, is none."""
        done = self._run(command)
        if done.code or re.search(_NO_CONTACT, done.error):
            raise OperatorUnreachableError(f"{command[0]} failed: {_last_line(done.error)}")
        return done.output

    def submit_held(self, jobs: Sequence[NewJob]) -> Mapping[str, str | NotTaken | NotNow]:
        """See `Scheduler.submit_held`."""
        replies: dict[str, str | NotTaken | NotNow] = {}
        trouble = ""
        left, until = list(jobs), time.monotonic() + self.timeout_s
        while left and (len(left) == len(jobs) or time.monotonic() < until):
            asked, left = left, []
            # When the first is not answered, the others would wait as long; when one is too many, so are those like it.
            done = self.site.run([_sbatch(job) for job in asked], self.timeout_s, f"{_NO_CONTACT}|{_FULL}")
            full = next((number for number, one in enumerate(done) if one.code and re.search(_FULL, one.error)), None)
            if full is not None:
                said = re.search(_FULL, done[full].error)
                assert said is not None
                reply = NotNow(f"Slurm takes no more jobs now: {said.group()}")
                replies |= {job.token: reply for job in asked[full:] if _counts_with(job, asked[full])}
                left = [job for job in asked[full:] if not _counts_with(job, asked[full])]
                asked, done = asked[:full], done[:full]
            trouble = trouble or self._read_replies(asked, done, replies)
        if jobs and not replies:
            raise OperatorUnreachableError(trouble)
        return replies

    @staticmethod
    def _read_replies(
        jobs: Sequence[NewJob], answers: Sequence[Done], replies: dict[str, str | NotTaken | NotNow]
    ) -> str:
        """Add to `replies` what sbatch said of each; return why of some nobody can tell."""
        trouble = ""
        for job, done in zip(jobs, answers, strict=True):
            if done.code is None:
                trouble = trouble or done.error
            elif done.code and re.search(_REFUSALS, done.error):
                replies[job.token] = NotTaken(_last_line(done.error))
            elif done.code:
                trouble = trouble or f"sbatch failed, and the job may exist all the same: {_last_line(done.error)}"
            elif (number := parse_sbatch(done.output)) is None:
                trouble = trouble or f"sbatch printed no job id: {done.output[:200]!r}"
            else:
                replies[job.token] = number
        return trouble

    def release(self, ids: Sequence[str]) -> bool:
        """See `Scheduler.release`."""
        every = True
        for first in range(0, len(ids), _MOST_IDS):
            done = self._run(["scontrol", "release", ",".join(ids[first : first + _MOST_IDS])])
            if done.code and re.search(_NO_CONTACT, done.error):
                raise OperatorUnreachableError(f"scontrol release failed: {_last_line(done.error)}")
            # It fails as a whole when one of the jobs is gone or ended; the next look shows which are held still.
            every = every and not done.code
        return every

    def forgotten(self, ids: Sequence[str]) -> list[str]:
        """See `Scheduler.forgotten`."""
        found = []
        for first in range(0, len(ids), _MOST_IDS):
            some = ids[first : first + _MOST_IDS]
            # A job that was released has been in the queue for its turn, since when its priority accrues.
            output = self._ask(["squeue", f"--jobs={','.join(some)}", "--Format=JobID:|,AccrueTime:|"])
            found += [line.split("|")[0] for line in output.splitlines() if line.split("|")[1:2] == ["N/A"]]
        return [number for number in ids if number in found]

    def poll(self, tokens: Sequence[str]) -> list[Job]:
        """See `Scheduler.poll`."""
        output, is_own = self.answers.ask(_SQUEUE, lambda: self._ask(_SQUEUE))
        if not is_own:
            self._look()
        jobs = _oldest_first(parse_squeue(output), tokens)
        if any(job.state == REVOKED for job in jobs):
            output = self._ask([*_SQUEUE, "--federation"])
            jobs = _oldest_first(parse_squeue(output), tokens)
        if not _headed(output, _SQUEUE_HEADING) and not {job.token for job in jobs}.issuperset(tokens):
            raise OperatorUnreachableError(f"squeue ended well without a list of jobs; it begins with {output[:200]!r}")
        return jobs

    def glance(self, tokens: Sequence[str], begun: Collection[str], age_s: float) -> list[Job] | None:
        """See `Scheduler.glance`."""
        output = self.answers.known(_SQUEUE, time.monotonic() - age_s)
        if output is None:
            return None
        jobs = _oldest_first(parse_squeue(output), tokens)
        unsure = any(job.state == REVOKED or (job.state in QUEUED and job.token in begun) for job in jobs)
        if unsure or not {job.token for job in jobs}.issuperset(tokens):
            return None
        self._look()
        return jobs

    def queued(self, age_s: float, *, ask: bool) -> list[str] | None:
        """See `Scheduler.queued`."""
        output = self.answers.known(_COUNT, time.monotonic() - age_s)
        if output is None and not ask:
            return None
        if output is None:
            output = self.answers.ask(_COUNT, lambda: self._ask(_COUNT)).text
        if not _headed(output, _COUNT_HEADING):
            raise OperatorUnreachableError(f"squeue ended well without a list of jobs; it begins with {output[:200]!r}")
        return parse_count(output)

    def _look(self) -> None:
        """Have the site tell what it was asked to accompany a question with that another run has asked."""
        self.site.run((), self.timeout_s)

    def find(self, tokens: Sequence[str], since: float) -> list[Job]:
        """See `Scheduler.find`."""
        found: list[Job] = []
        if not self._accounting:
            return found
        for first in range(0, len(tokens), _MOST_ACCOUNTED):
            jobs = self._accounted(tokens[first : first + _MOST_ACCOUNTED], since)
            if any(job.state == REVOKED for job in jobs):
                jobs = self._accounted(tokens[first : first + _MOST_ACCOUNTED], since, "--federation")
            found += jobs
        return _oldest_first(found, tokens)

    def _accounted(self, tokens: Sequence[str], since: float, *options: str) -> list[Job]:
        """Ask the accounting about jobs of these names."""
        ago = max(0, round(time.time() - since)) + _CLOCKS_DIFFER_S  # by the clock of the host that is asked
        command = ["sacct", "--parsable2", "--allocations", "--duplicates", f"--name={','.join(tokens)}"]
        done = self._run([*command, f"--starttime=now-{ago}", f"--format={_SACCT_FORMAT}", *options])
        if "accounting storage is disabled" in done.error:
            self._accounting = False
            return []
        if done.code or re.search(_NO_CONTACT, done.error):
            raise OperatorUnreachableError(f"sacct failed: {_last_line(done.error)}")
        if not _headed(done.output, _SACCT_HEADING):
            raise OperatorUnreachableError(f"sacct ended well without a list; it begins with {done.output[:200]!r}")
        return _oldest_first(parse_sacct(done.output), tokens)

    def cancel(self, ids: Sequence[str], token: str | None = None) -> None:
        """See `Scheduler.cancel`."""
        which = [] if token is None else [f"--name={token}"]
        for first in range(0, len(ids), _MOST_IDS):
            done = self._run(["scancel", *which, *ids[first : first + _MOST_IDS]])
            if done.code and "nvalid job id" not in done.error:
                raise OperatorUnreachableError(f"scancel failed: {_last_line(done.error)}")


def _sbatch(job: NewJob) -> Command:
    words = ["sbatch", "--parsable", "--hold", "--no-requeue", f"--job-name={job.token}", f"--comment={job.token}"]
    options = [*job.options, *sbatch_options(job.resources)]
    return Command([*words, "--output=slurm.out", *options, job.script], job.directory)


def _counts_with(job: NewJob, other: NewJob) -> bool:
    """Return whether two jobs are of one account, QOS and partition, as far as can be seen from here."""
    names = ("account", "qos", "partition", "extra")
    return [job.resources.get(name) for name in names] == [other.resources.get(name) for name in names]


def _oldest_first(jobs: Iterable[Job], tokens: Iterable[str]) -> list[Job]:
    """Sort jobs of these names; of a job that clusters of a federation each tell of, leave out who gave it away."""
    wanted = set(tokens)
    mine = sorted((job for job in jobs if job.token in wanted), key=lambda job: int(job.id))
    kept = {(job.id, job.token) for job in mine if job.state != REVOKED}
    return [job for job in mine if job.state != REVOKED or (job.id, job.token) not in kept]


def _headed(output: str, heading: str) -> bool:
    """Return whether a list begins with its heading, which is printed of an empty one too."""
    return any(line.startswith(heading) for line in output.splitlines())


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


def parse_count(text: str) -> list[str]:
    r"""Return the names of the jobs of ``squeue --array --format=%T|%j`` that are not over; other lines are left out.

    Examples
    --------
    >>> parse_count("STATE|NAME\nPENDING|a|b\nCOMPLETED|c\nRUNNING|d\n")
    ['a|b', 'd']
    """
    pairs = [line.split("|", 1) for line in text.splitlines() if "|" in line]
    return [name for state, name in pairs if state in QUEUED | RUNNING]


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


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it said nothing"
