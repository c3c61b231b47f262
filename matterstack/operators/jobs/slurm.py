"""Jobs of a Slurm cluster: held, stored, released, and judged by what they leave.

How an attempt is executed once at most, and never guessed about:

* a job is submitted held, under the attempt's token; the tick stores its id, and only then
  it is released: a job that nobody knows of cannot start;
* the first thing a job does is to claim the attempt's directory: of two
  jobs of one attempt, or a job that is requeued, one runs the command;
* a job is the one with our id *and* our token: Slurm may give an id again;
* how it ended stands in ``exit.json``, whatever the queue says or has forgotten;
* what cannot be asked is not judged;
* a job that began and is not shown any more is cancelled, and waited for, before its attempt is given up.

A job is that of one attempt, or of a chunk of them (`matterstack.operators.jobs.chunks`); Slurm
and the files of the jobs are here, or where ssh leads (`matterstack.operators.jobs.sites`).
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import (
    Absent,
    Attempt,
    Deferred,
    Observation,
    Refused,
    Seen,
    Submitted,
)
from matterstack.core.keywords import suggesting_class
from matterstack.core.limits import OF_CLUSTERS, of_cluster
from matterstack.core.states import AttemptStatus
from matterstack.core.task import Task
from matterstack.errors import InvalidConfigError, InvalidTaskError, OperatorUnreachableError, UnsafeFileError
from matterstack.files import write_inside
from matterstack.operators.base import Traits, check_environment, check_python, check_warm
from matterstack.operators.handlers import Handler, check_handlers, settings_of
from matterstack.operators.jobs.base import (
    JobOperator,
    bad_end,
    check_preamble,
    ended_badly,
    good_end,
    judge_alone,
    still,
    words_of,
)
from matterstack.operators.jobs.chunks import Chunk, chunk_of, groups, leader_of
from matterstack.operators.jobs.claim import began_at, claim_of, end_of, has_begun, has_ended
from matterstack.operators.jobs.faults import cannot_tell, spoilt
from matterstack.operators.jobs.scheduler import (
    ENDED,
    QUEUED,
    REVOKED,
    RUNNING,
    Job,
    NewJob,
    NotNow,
    NotTaken,
    Scheduler,
    Slurm,
)
from matterstack.operators.jobs.sites import (
    Here,
    Site,
    Ssh,
    has_left,
)
from matterstack.operators.lookup import missing_program
from matterstack.operators.results import last_words
from matterstack.operators.sbatch import check_options, sbatch_options
from matterstack.operators.unchanged import note_unchanged

log = logging.getLogger("matterstack.operators.jobs.slurm")

_ELSEWHERE = "Slurm says REVOKED: another cluster of the federation has its job, and does not show it here"
_HELD_BY_US = "JobHeldUser"
_CANCELLED = "cancelled.json"
_MOST_JOBS = 10
_MOST_AT_ONCE = 100
#: Where Slurm takes no more jobs it is tried again when one of this run has ended, and after 1, 2, 4, ... seconds.
_FULL_S, _FULL_MOST_S = 1.0, 30.0
_NEVER = frozenset({"DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "BadConstraints", "PartitionTimeLimit"})


class _Batch(NamedTuple):
    """The attempts of one job, under whatever id Slurm gave it."""

    name: str
    attempts: list[Attempt]
    chunk: Chunk | None

    @property
    def ids(self) -> list[str]:
        """The ids that are stored, oldest first: no other job of this name is ours."""
        if self.chunk is not None:
            return self.chunk.ids
        return [self.attempts[0].external_id] if self.attempts[0].external_id else []

    @property
    def directory(self) -> Path:
        """Where its script is."""
        return self.chunk.directory if self.chunk is not None else self.attempts[0].directory


def _is_held_by_us(directory: Path, job: Job) -> bool:
    """Return whether a job is held and was never released: one that was is held by somebody else."""
    return job.reason == _HELD_BY_US and not os.path.lexists(directory / MACHINERY / f"released.{job.id}")


def _batches(attempts: Iterable[Attempt]) -> list[_Batch]:
    found: dict[str, _Batch] = {}
    for attempt in attempts:
        name = chunk_of(attempt)
        if name is None:
            found[attempt.token] = _Batch(attempt.token, [attempt], None)
        else:
            found.setdefault(name, _Batch(name, [], Chunk(attempt.parent, name))).attempts.append(attempt)
    return list(found.values())


def _without(batches: Iterable[_Batch], tokens: Collection[str]) -> list[_Batch]:
    """Return the batches without the attempts of these tokens; one that is empty then is left out."""
    rest = [b._replace(attempts=[a for a in b.attempts if a.token not in tokens]) for b in batches]
    return [batch for batch in rest if batch.attempts]


def _ran_as(attempt: Attempt) -> str:
    """Return the id of the job that runs an attempt, as it said; empty where it did not, or has not begun."""
    claim = claim_of(attempt)
    return "" if claim is None else claim.job


def _since(attempts: Iterable[Attempt]) -> float:
    """Return since when there may be jobs of these attempts."""
    return min(attempt.submitted_at for attempt in attempts)


@suggesting_class
class SlurmOperator(JobOperator):
    """Run commands as jobs of a Slurm cluster: the one this machine belongs to, or one that ssh reaches.

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
        How long a command of Slurm, of ssh or of rsync may take before it counts as unreachable.
    poll_s : float
        How many seconds `Run.wait` leaves at least between two questions to the queue.
    pack : int
        How many ready attempts that want the same resources share a job, one after the
        other; its time limit is the sum of theirs.
    handlers : sequence of (Handler or str)
        What may mend the inputs of a task after an attempt at it failed, by its name as ``"package.module:Class"``;
        see `matterstack.operators.handlers.Handler`. An operator with objects has to be passed to `open_run` again.
    host : str, optional
        Where Slurm is, as ``ssh`` takes it: a name of your ssh_config, or ``user@name``.
    root : str
        Directory on the host, below your home directory unless it begins with a slash.
    python : str, optional
        What runs calls of functions, and chunks, where the jobs are; by default ``python3`` on a host, else the
        interpreter that planned them. It has to be a Python 3.9 or newer.
    warm : bool
        Whether calls of functions that share a job begin warm where they can: forked by a process that has imported
        what they need.
    environment : str, optional
        A name for the Python and packages there, as in ``"chgnet-0.4"``: results of functions are cached under it. Give
        another one when they change.

    Raises
    ------
    InvalidConfigError
        An argument cannot be used; the message names it.

    Notes
    -----
    Without `host`, the directory of the run has to be on a file system that the nodes share,
    and a job has the environment of the kernel that submitted it, with the directory of its
    Python first in ``PATH``, and without what tells of a job that the kernel itself may run in:
    ``SLURM_*``, ``PMI*`` and the like. With it, a job has the environment of a login there;
    attempts are copied to the host with all their files, and come home with their standard
    output and error, ``result.json``, and the ``outputs`` of the task.
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
        poll_s: float = 2.0,
        pack: int = 1,
        handlers: Sequence[Handler | str] = (),
        host: str | None = None,
        root: str = "matterstack",
        python: str | None = None,
        warm: bool = True,
        environment: str | None = None,
    ) -> None:
        check_python(python)
        check_warm(warm)
        check_environment(environment)
        self.warm = warm
        for name, value in (("max_queued", max_queued), ("max_active", max_active), ("pack", pack)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InvalidConfigError(f"{name} must be a positive whole number, not {value!r}")
        for name, seconds in (("grace_s", grace_s), ("timeout_s", timeout_s), ("poll_s", poll_s)):
            if not (isinstance(seconds, int | float) and seconds >= 0):
                raise InvalidConfigError(f"{name} must be a number of seconds, not {seconds!r}")
        check_preamble(preamble)
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
        self.handlers = check_handlers(handlers)
        self.pack = pack
        self.traits = Traits(
            poll_s=poll_s,
            most_at_once=_MOST_AT_ONCE if pack == 1 else None,
            script=f"{MACHINERY}/job.sh",
            pack=pack,
            queue_limit=of_cluster(OF_CLUSTERS[0], host),
            rate_limit=of_cluster(OF_CLUSTERS[1], host),
        )
        self.host, self.root = host, root
        self.python = python or (None if host is None else "python3")
        self.environment = environment
        self.sees_this_machine = host is None
        self.site: Site = Here() if host is None else Ssh(host, root, self.python or "")
        self.scheduler: Scheduler = Slurm(timeout_s, self.site)
        self._full_until = 0.0  # as `time.monotonic` counts
        self._full_s = _FULL_S
        self._deferred: set[str] = set()

    def __repr__(self) -> str:
        where = "" if self.host is None else f", host={self.host!r}"
        return f"SlurmOperator(max_queued={self.max_queued}, max_active={self.max_active}, pack={self.pack}{where})"

    def settings(self) -> Mapping[str, Any] | None:
        """Return the constructor's arguments; None with handlers that are objects."""
        handlers = settings_of(self.handlers)
        if handlers is None:
            return None
        return {
            "handlers": handlers,
            "max_queued": self.max_queued,
            "max_active": self.max_active,
            "preamble": self.preamble,
            "options": list(self.options),
            "grace_s": self.grace_s,
            "timeout_s": self.timeout_s,
            "poll_s": self.traits.poll_s,
            "pack": self.pack,
            "host": self.host,
            "root": self.root,
            "python": self.python,
            "warm": self.warm,
            "environment": self.environment,
        }

    @property
    def path(self) -> str | None:
        """What comes first in the ``PATH`` of commands: nothing of this machine on another one."""
        return super().path if self.host is None else None

    def take_claim(self, attempt: Attempt) -> bool:
        """Claim an attempt where its job would."""
        return self.site.claim([attempt], self.timeout_s)[0]

    def check_task(self, task: Task) -> None:
        """Refuse a task without a command, variables a shell cannot set, and options that are ours."""
        super().check_task(task)
        check_options(task.resources.extra, f"task {task.task_id!r}: extra")

    def lacks(self, task: Task) -> str | None:
        """Look for the program of its command, where jobs see the files of this machine and nothing comes before it."""
        if self.host is not None or self.preamble.strip():
            return None
        lacking = missing_program(task, self.python, f"{self.path}:{os.environ.get('PATH', os.defpath)}")
        return lacking and f"{lacking}, on this machine; its nodes may have it"

    def sbatch_options(self, task: Task) -> Sequence[str]:
        """Return what every job gets, and what the task's resources mean."""
        return [*self.options, *sbatch_options(task.resources.scaled(1))]

    def max_live(self, directory: Path) -> int | None:
        """Return how many attempts may be in the queue; none more where Slurm takes no more jobs."""
        if self._is_full():
            return 0
        return None if self.max_queued is None else self.max_queued * self.pack

    def queued(self, age_s: float, *, ask: bool) -> Sequence[str] | None:
        """Return all jobs of this user on the cluster, each task of an array for itself."""
        names = self.scheduler.queued(age_s, ask=ask)
        return None if names is None else [leader_of(name) for name in names]

    # -- submission -------------------------------------------------------------------------

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Refused | Deferred]:
        """Submit held jobs; `start` releases them once their ids are stored."""
        alone = [attempt for attempt in attempts if chunk_of(attempt) is None]
        with cannot_tell("a chunk"):
            for group in groups(alone, self.pack):
                if len(group) > 1:
                    Chunk.make(group, self.preamble, self.interpreter, self.python, self.path, warm=self.warm)
        batches = _batches(attempts)
        replies: dict[str, Submitted | Refused | Deferred] = {}
        replies |= self._push(batches)
        batches = _without(batches, replies)
        said = self._submit(batches)
        for batch in batches:
            match said.get(batch.name):
                case NotTaken(reason):
                    replies |= {attempt.token: Refused(f"Slurm refused it: {reason}") for attempt in batch.attempts}
                case NotNow(reason):
                    replies |= {attempt.token: Deferred(reason) for attempt in batch.attempts}
                case str(number):
                    replies |= self._stored(batch, number)
        self._deferred = {token for token, reply in replies.items() if isinstance(reply, Deferred)}
        if any(isinstance(reply, Submitted) for reply in replies.values()):
            self._note_room()
        if self._deferred:
            self._full_until = time.monotonic() + self._full_s
            self._full_s = min(_FULL_MOST_S, 2 * self._full_s)
        return replies

    def _note_room(self) -> None:
        """Remember that Slurm takes jobs, or may again."""
        self._full_until, self._full_s = 0.0, _FULL_S

    def _is_full(self) -> bool:
        """Return whether Slurm took no more jobs a moment ago, and none of this run is known to have ended since."""
        return time.monotonic() < self._full_until

    @property
    def interpreter(self) -> str:
        """The Python that runs chunks, where the jobs are."""
        return self.python or sys.executable

    def _push(self, batches: Sequence[_Batch]) -> dict[str, Refused]:
        """Bring attempts to the place of their jobs; refuse those that cannot be brought there."""
        names = [attempt.name for batch in batches for attempt in batch.attempts]
        names += [batch.chunk.place for batch in batches if batch.chunk is not None]
        lacking = self.site.push(batches[0].attempts[0].parent, names, self.timeout_s)
        refused: dict[str, Refused] = {}
        for batch in batches if lacking else ():
            place = batch.name if batch.chunk is None else batch.chunk.place
            lost = [attempt for attempt in batch.attempts if place in lacking or attempt.name in lacking]
            if batch.chunk is not None and lost:
                self.site.claim(lost, self.timeout_s)  # the job of the others would run what is there of them
            for attempt in lost:
                why = lacking.get(attempt.name) or lacking[place]
                refused[attempt.token] = Refused(f"it cannot be brought to {self.host}: {why}")
        return refused

    def _submit(self, batches: Sequence[_Batch]) -> Mapping[str, str | NotTaken | NotNow]:
        """Submit a held job for each batch; a name that is missing may have been submitted or not."""
        jobs = []
        for batch in batches:
            first = batch.attempts[0]
            resources = first.task.resources.scaled(first.attempt)
            if "walltime_s" in resources:
                resources["walltime_s"] *= len(batch.attempts)
            place = self.site.place(first.parent, first.name if batch.chunk is None else batch.chunk.place)
            script = f"{MACHINERY}/job.sh" if batch.chunk is None else "job.sh"
            jobs.append(NewJob(batch.name, place, script, resources, self.options))
        return self.scheduler.submit_held(jobs)

    def _stored(self, batch: _Batch, number: str) -> dict[str, Submitted]:
        """Note the id of a batch's job: that of a chunk beside it, since it may be given another one."""
        if batch.chunk is not None:
            batch.chunk.add_job(number)
        ours = number if batch.chunk is None else batch.name
        return {a.token: Submitted(ours, to_start=True) for a in batch.attempts}

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Release jobs whose ids are stored."""
        if self.max_active is not None:
            return  # how many run is known when the queue is looked at
        self._release(_batches(attempts))

    def _release(self, batches: Sequence[_Batch]) -> None:
        ids = [(batch, batch.ids[-1]) for batch in batches if batch.ids]
        if ids and self.scheduler.release([number for _, number in ids]):
            for batch, number in ids:
                with spoilt(batch.attempts[0]):  # it is released once more then
                    write_inside(batch.directory, f"{MACHINERY}/released.{number}", b"")

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Absent]:
        """Look for jobs by their names, in the queue and the accounting; not yet for those that it was too full for."""
        if self._is_full() and not (attempts := [one for one in attempts if one.token not in self._deferred]):
            return {}
        batches = _batches(attempts)
        names = [batch.name for batch in batches]
        jobs = self.scheduler.find(names, _since(attempts)) + self.scheduler.poll(names)
        replies: dict[str, Submitted | Absent] = {}
        for batch in batches:
            oldest = next((job for job in jobs if job.token == batch.name), None)
            if oldest is not None:
                replies |= self._stored(batch, oldest.id)
            else:
                # Should a submission arrive after all, its job is held, and never released.
                replies |= {attempt.token: Absent() for attempt in batch.attempts}
        return replies

    # -- looking ----------------------------------------------------------------------------

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        """Look at the queue once for all, and at what each job left."""
        at = time.time()
        # Before the queue is asked: a job may begin between its answer and our look at the files.
        begun = {attempt.token for attempt in attempts if has_begun(attempt)}
        batches = _batches(attempts)
        ids = {batch.name: batch.ids for batch in batches}
        mine = self._jobs_of(batches, ids, begun)
        self._release_more(batches, mine)
        over = {b.name for b in batches if b.name not in mine or mine[b.name].state in ENDED}
        left = [a for b in batches for a in b.attempts if (b.name in over or has_left(a)) and not has_ended(a)]
        late = self.site.fetch(left, self.timeout_s)
        seen: dict[str, Observation] = {}
        unseen: list[tuple[Attempt, str, str]] = []
        for batch in batches:
            waiting = []
            for attempt in batch.attempts:
                its = mine.get(batch.name)
                if attempt.token in late:
                    seen[attempt.token] = still(attempt, f"what it left is not home yet: {late[attempt.token]}")
                elif batch.chunk is not None and not has_ended(attempt) and not has_begun(attempt):
                    waiting.append(attempt)
                else:
                    judge = self._judge if batch.chunk is None else self._judge_member
                    seen[attempt.token] = judge_alone(attempt, judge, its, attempt.token in begun, at)
                    runs = attempt.token in begun or attempt.status is AttemptStatus.RUNNING
                    if runs and seen[attempt.token].seen is Seen.VANISHED:
                        number = _ran_as(attempt) or (ids[batch.name] or [""])[-1]
                        if number and (its is None or its.id != number):
                            unseen.append((attempt, batch.name, number))
            if batch.chunk is not None and waiting:
                seen |= self._await_turn(batch._replace(attempts=waiting), mine.get(batch.name), at)
        return seen | self._end_unseen(unseen, at)

    def _jobs_of(
        self, batches: Sequence[_Batch], ids: Mapping[str, Sequence[str]], begun: Collection[str]
    ) -> dict[str, Job]:
        """Ask for the jobs of batches, by name; cancel those that nobody knows of."""
        attempts = [attempt for batch in batches for attempt in batch.attempts]
        names = [batch.name for batch in batches]
        has_begun_in = {batch.name for batch in batches if any(one.token in begun for one in batch.attempts)}
        self.site.accompany(attempts)
        jobs = self.scheduler.glance(names, has_begun_in, self.traits.poll_s)
        folders = {batch.name: batch.directory for batch in batches}
        if jobs is None or any(self._may_be_older(job, folders[job.token]) for job in jobs):
            jobs = self.scheduler.poll(names)
        mine: dict[str, Job] = {}
        strays = []
        for job in jobs:
            if job.id == (ids[job.token] or [""])[-1]:
                mine[job.token] = job
            elif job.state in QUEUED:
                strays.append(job.id)
        if strays:
            self.scheduler.cancel(strays)  # of a submission that arrived although it seemed to fail
        gone = [b.name for b in batches if b.name not in mine and not all(map(has_ended, b.attempts))]
        if gone:
            for job in self.scheduler.find(gone, _since(attempts)):
                if job.id == (ids[job.token] or [""])[-1]:
                    mine[job.token] = job
        if any(job.state in ENDED for job in mine.values()):
            self._note_room()
        return mine

    def _may_be_older(self, job: Job, directory: Path) -> bool:
        """Return whether an answer shows a job as held that was released meanwhile: more would be released for it."""
        if job.reason != _HELD_BY_US:
            return False
        try:
            released_at = os.lstat(directory / MACHINERY / f"released.{job.id}").st_mtime
        except OSError:
            return False
        return abs(time.time() - released_at) <= self.traits.poll_s

    def _end_unseen(self, unseen: Sequence[tuple[Attempt, str, str]], at: float) -> dict[str, Observation]:
        """Cancel the jobs of attempts that began, which the queue does not show; say of those not over why they wait.

        A queue may be wrong, and the next attempt must not run beside this one. So an attempt is given up `grace_s`
        after its job was cancelled, which is time enough for it to end.
        """
        waits: dict[str, Observation] = {}
        until = time.monotonic() + self.timeout_s
        for attempt, name, number in unseen:
            said = "it began, and Slurm does not show its job any more"
            try:
                if time.monotonic() <= until:
                    if self._surely_over(attempt, name, number, at):
                        continue
                    said += f": that was cancelled, and has {self.grace_s:g} s to end"
            except OperatorUnreachableError as error:
                said += f", nor lets it be cancelled: {error}"
            except (OSError, UnsafeFileError) as error:
                said += f"; its directory cannot be looked at: {error}"
            waits[attempt.token] = still(attempt, said)
        return waits

    def _surely_over(self, attempt: Attempt, name: str, number: str, at: float) -> bool:
        """Cancel the job of an attempt, once; return whether it has had the time to end since."""
        gone = not attempt.directory.is_dir()
        if gone or not os.path.lexists(attempt.directory / MACHINERY / _CANCELLED):
            self.scheduler.cancel([number], name)
        since = None if gone else note_unchanged(attempt, _CANCELLED, number, at)
        return gone or (since is not None and at - since >= self.grace_s)

    def monitors(self) -> Sequence[Handler | str]:
        """Return the handlers, where the files of jobs are here."""
        return self.handlers if self.host is None else ()

    def poll_local_files(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        """Look for commands that ended well, where their files are here: the queue has no better word for those."""
        if self.host is not None:
            return {}
        seen: dict[str, Observation] = {}
        for attempt in attempts:
            with spoilt(attempt):
                if (ended := end_of(attempt)) is not None and ended.well:
                    seen[attempt.token] = good_end(attempt, ended)
        if seen:
            self._note_room()
        return seen

    def _release_more(self, batches: Sequence[_Batch], jobs: Mapping[str, Job]) -> None:
        """Release held jobs: of a tick that was interrupted, as many as may run now, or whose release was forgotten."""
        held, doubtful, active = [], {}, 0
        for batch in batches:
            job = jobs.get(batch.name)
            if job is None or job.state in ENDED:
                continue
            if _is_held_by_us(batch.directory, job):
                held.append(batch)
                continue
            active += 1
            if job.reason == _HELD_BY_US:
                doubtful[job.id] = batch
        for number in self.scheduler.forgotten(list(doubtful)) if doubtful else ():
            held.append(doubtful[number])
            active -= 1
        room = len(held) if self.max_active is None else max(0, self.max_active - active)
        self._release(held[:room])

    def _judge_member(self, attempt: Attempt, job: Job | None, begun: bool, at: float) -> Observation:
        """Judge an attempt of a chunk that has begun, or ended."""
        ended = end_of(attempt)
        if ended is not None and ended.well:
            return good_end(attempt, ended)
        if ended is not None:
            return ended_badly(attempt, ended, last_words(attempt.directory))
        claim = claim_of(attempt)
        began = None if claim is None else claim.started_at
        if claim is not None and job is not None and claim.job not in ("", job.id):
            return self.missing(attempt, f"job {claim.job} of its chunk ended while it ran", began, at)
        if job is not None and job.state in RUNNING:
            return Observation(Seen.RUNNING, started_at=began or at)
        if job is not None and job.state == REVOKED:
            return Observation(Seen.RUNNING, reason=_ELSEWHERE, started_at=began or at)
        if job is not None and job.state in QUEUED:
            if begun:
                return Observation(
                    Seen.VANISHED, reason="Slurm stopped its chunk after it had begun, and queued that again"
                )
            return Observation(Seen.RUNNING, started_at=began or at)
        said = f"Slurm says {job.state} of its chunk" if job else "Slurm does not know its chunk's job any more"
        return self.missing(attempt, said, began, at)

    def _await_turn(self, batch: _Batch, job: Job | None, at: float) -> dict[str, Observation]:
        """Say of attempts whose turn has not come why; give a chunk whose job was killed another one."""
        assert batch.chunk is not None
        if job is not None and job.state not in ENDED and job.reason not in _NEVER:
            held = _is_held_by_us(batch.directory, job)
            why = "held until there is room" if held else f"its turn in job {job.id} has not come"
            if job.state in QUEUED and job.reason and not held:
                why = f"Slurm says {job.reason}"
            return {a.token: Observation(Seen.QUEUED, reason=why) for a in batch.attempts}
        if job is None and batch.ids and abs(at - batch.chunk.submitted_at()) < self.grace_s:
            why = f"the queue does not show job {batch.ids[-1]}, which is new"
            return {a.token: Observation(Seen.QUEUED, reason=why) for a in batch.attempts}
        said = f"{job.reason if job.reason in _NEVER else job.state}" if job else "gone"
        words = words_of(batch.directory, "slurm.out")
        if lost := [attempt for attempt in batch.attempts if not attempt.directory.is_dir()]:
            over = {a.token: self.missing(a, f"its chunk's job ended ({said})", None, at) for a in lost}
            rest = [attempt for attempt in batch.attempts if attempt.token not in over]
            return over | (self._await_turn(batch._replace(attempts=rest), job, at) if rest else {})
        number = len(batch.ids)
        if number >= _MOST_JOBS or not batch.directory.is_dir():
            text = f"{said}: the job of its chunk ended {number} times before its turn had come{words}"
            if not batch.directory.is_dir():
                text = f"{said}: the job of its chunk ended, and the directory {batch.directory} is gone"
            return {a.token: bad_end(text, said, at) for a in batch.attempts}
        try:
            if job is not None and job.state not in ENDED:
                self.scheduler.cancel([job.id])
            reply = self._submit([batch]).get(batch.name)
        except OperatorUnreachableError as error:
            why = f"the job of its chunk ended ({said}), and another one cannot be submitted: {error}"
            return {a.token: Observation(Seen.QUEUED, reason=why) for a in batch.attempts}
        if isinstance(reply, NotTaken):
            return {a.token: bad_end(f"Slurm refused it: {reply.reason}", "FAILED", at) for a in batch.attempts}
        if isinstance(reply, NotNow):
            why = f"the job of its chunk ended ({said}), and another one has to wait: {reply.reason}"
            return {a.token: Observation(Seen.QUEUED, reason=why) for a in batch.attempts}
        if reply is not None:
            self._stored(batch, reply)
            self.start(batch.attempts)
        why = f"the job of its chunk ended ({said}) before its turn had come: another one goes on{words}"
        return {a.token: Observation(Seen.QUEUED, reason=why) for a in batch.attempts}

    def _judge(self, attempt: Attempt, job: Job | None, begun: bool, at: float) -> Observation:
        """Judge an attempt that has a job of its own."""
        ended = end_of(attempt)
        if ended is not None and ended.well:
            return good_end(attempt, ended)
        if job is not None and job.state == REVOKED and ended is None:
            if begun:
                return Observation(
                    Seen.RUNNING, reason=_ELSEWHERE, external_id=job.id, started_at=began_at(attempt) or at
                )
            return still(attempt, _ELSEWHERE)
        if job is not None and job.state in QUEUED and ended is not None:
            # Slurm queues it again, or has crashed and forgotten that it ran: its claim lets nothing run any more.
            self.scheduler.cancel([job.id])
            return ended_badly(attempt, ended, self.last_words(attempt))
        if job is not None and job.state not in ENDED and job.state != REVOKED:
            return self._judge_live(attempt, job, begun and ended is None, at)
        began = began_at(attempt)
        words = self.last_words(attempt)
        if job is not None and job.state not in ("COMPLETED", "FAILED", REVOKED):
            code = ended.exit_code if ended is not None and ended.of_command else None
            return bad_end(f"{job.state}: ran {job.elapsed} of {job.limit}{words}", job.state, at, code, began)
        if ended is not None:
            return ended_badly(attempt, ended, words)
        if job is not None and job.state == "FAILED" and began is None:
            return bad_end(f"FAILED before its command began{words}", "FAILED", at)
        said = f"Slurm says {job.state}" if job else "Slurm does not know its job any more"
        return self.missing(attempt, said, began, at)

    def _judge_live(self, attempt: Attempt, job: Job, begun: bool, at: float) -> Observation:
        """Judge an attempt whose job waits or runs."""
        if job.state in RUNNING:
            note = None if job.state == "RUNNING" else f"Slurm says {job.state}"
            return Observation(Seen.RUNNING, reason=note, external_id=job.id, started_at=began_at(attempt) or at)
        if begun:
            # Its claim lets nothing run any more; the retry policy decides.
            self.scheduler.cancel([job.id])
            return Observation(
                Seen.VANISHED, reason="Slurm stopped it after it had begun, and put it back in the queue"
            )
        if job.reason in _NEVER:
            self.scheduler.cancel([job.id])
            return bad_end(f"{job.reason}: Slurm says that it can never start", "CANCELLED", at)
        held = _is_held_by_us(attempt.directory, job)
        why = "held until there is room" if held else f"Slurm says {job.reason or job.state}"
        return Observation(Seen.QUEUED, reason=why, external_id=job.id)

    # -- the end ----------------------------------------------------------------------------

    def cancel(self, attempts: Sequence[Attempt]) -> Collection[str]:
        """Cancel the jobs; an attempt is over when none of its jobs can run it."""
        batches = _batches(attempts)
        names = [batch.name for batch in batches]
        jobs = self.scheduler.poll(names)
        alive = [job for job in jobs if job.state not in ENDED]
        over = self._cancel_members([batch for batch in batches if batch.chunk is not None])
        single = {batch.name for batch in batches if batch.chunk is None}
        # The job of a chunk goes when nothing of it is wanted any more.
        whole = {b.name for b in batches if b.chunk is not None and not b.chunk.others_may_run(b.attempts)}
        stop = [job.id for job in alive if job.token in single | whole]
        if stop:
            self.scheduler.cancel(stop)
            jobs = self.scheduler.poll(names)
        shown = {job.token for job in jobs}
        for batch in batches:
            if batch.name not in shown and any(has_begun(a) and not has_ended(a) for a in batch.attempts):
                self.scheduler.cancel(batch.ids[-1:], batch.name)  # the queue may be wrong
        busy = {job.token for job in jobs if job.state not in ENDED}
        over |= {a.token for b in batches for a in b.attempts if b.name not in busy}
        return over

    def _cancel_members(self, batches: Sequence[_Batch]) -> set[str]:
        """Take the claims of attempts in chunks; ask those that run to end. Return those that cannot run any more."""
        over: set[str] = set()
        members = [attempt for batch in batches for attempt in batch.attempts]
        if not members:
            return over
        # First what has not begun: the job would go on with it when the one before ends.
        free = self.site.claim(members, self.timeout_s)
        over |= {attempt.token for attempt, was_free in zip(members, free, strict=True) if was_free}
        for attempt in members:
            with spoilt(attempt):  # one that cannot be asked ends with its job
                write_inside(attempt.directory, f"{MACHINERY}/cancel", b"")
        asked = [f"{attempt.name}/{MACHINERY}/cancel" for attempt in members]
        try:
            self.site.push(members[0].parent, asked, self.timeout_s)
        except OperatorUnreachableError as error:
            log.warning("attempts that run cannot be asked to end yet: %s", error)
        self.site.accompany(members)
        return over | {attempt.token for attempt in members if end_of(attempt) is not None or has_left(attempt)}
