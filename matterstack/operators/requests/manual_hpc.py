"""Kits for a cluster that nothing can reach: a person carries them there, and the results home.

The directory of an attempt is a kit::

    HOWTO.txt        how to run it anywhere, and how to bring it home
    submit.sh        for sbatch or sh; needs nothing but a POSIX shell
    MANIFEST.json    whose kit it is, and the SHA-256 of every file in it
    inputs/          the task's files
    output/          what comes home: the command runs in here
    output.sha256    sums of what the command left, where the cluster has sha256sum
    status.json      that it runs, and at the end how it ended
    slurm.out        what Slurm and the script print, where Slurm runs it

Results may arrive slowly, in any order and twice. What may still be a transfer under way
waits, visibly; what cannot become whole fails the attempt; and that nothing is said about
the end does not mean that it ended well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matterstack.core.attempt_files import MACHINERY, SHOWN
from matterstack.core.attempts import Attempt, Observation, Seen
from matterstack.core.keywords import suggesting_class
from matterstack.core.made import Made, output_of
from matterstack.core.states import AttemptStatus
from matterstack.core.task import RESULT, Task
from matterstack.core.text import neutral, storable
from matterstack.errors import (
    AttemptFailedError,
    InvalidConfigError,
    InvalidJsonError,
    InvalidTaskError,
    OperatorUnreachableError,
    UnsafeFileError,
)
from matterstack.files import rename_inside, sync_tree, write_inside
from matterstack.operators.base import RunsIn, Traits, check_environment, check_python
from matterstack.operators.handlers import Handler, check_handlers, mend, settings_of
from matterstack.operators.made import of_call
from matterstack.operators.requests.base import RequestOperator
from matterstack.operators.requests.kit_ending import Kind
from matterstack.operators.requests.kit_results import OUTPUT, Came, look, read_sums, scan
from matterstack.operators.requests.kit_script import SECRET, howto, script
from matterstack.operators.requests.kit_sums import Sums, digest
from matterstack.operators.requests.notices import Notify, check_notify
from matterstack.operators.requests.request_directory import waits_for
from matterstack.operators.results import exception_of, last_words, read_result
from matterstack.operators.sbatch import check_options, sbatch_options
from matterstack.operators.unchanged import note_unchanged

_HOME = "its results were brought home"


@suggesting_class
class ManualHPCOperator(RequestOperator):
    """Have a person carry kits to a cluster and results home.

    Parameters
    ----------
    empty_output_grace_s : float
        How long an ``output/`` with nothing whole in it may be a transfer under way, in
        seconds; 0 judges at once.
    preamble : str
        Lines of shell before the command: ``module load ...``.
    sbatch : sequence of str
        More options for the ``#SBATCH`` lines, as in ``--partition=long``.
    python : str
        What runs calls of functions there, once the preamble was.
    environment : str, optional
        A name for the Python and packages there, as in ``"chgnet-0.4"``: results of functions are cached under it. Give
        another one when they change.
    notify : callable or sequence of str, optional
        Told once of each kit; see `HumanOperator`.
    handlers : sequence of (Handler or str)
        What may mend the inputs of a task after an attempt at it failed, by its name as ``"package.module:Class"``;
        see `matterstack.operators.handlers.Handler`. An operator with objects has to be passed to `open_run` again.

    Raises
    ------
    InvalidConfigError
        An argument cannot be used; the message names it.
    """

    traits = Traits(by_people=True, results_folder=OUTPUT, script="submit.sh")
    wants = "output/"

    def __init__(
        self,
        *,
        empty_output_grace_s: float = 3600.0,
        preamble: str = "",
        sbatch: Sequence[str] = (),
        python: str = "python3",
        environment: str | None = None,
        notify: Notify | None = None,
        handlers: Sequence[Handler | str] = (),
    ) -> None:
        self.handlers = check_handlers(handlers)
        if not (isinstance(empty_output_grace_s, int | float) and empty_output_grace_s >= 0):
            raise InvalidConfigError(f"empty_output_grace_s must be seconds, not {empty_output_grace_s!r}")
        if not isinstance(preamble, str) or "\0" in preamble:
            raise InvalidConfigError(f"preamble must be lines of shell, not {preamble!r}")
        for option in sbatch:
            if not (isinstance(option, str) and option.startswith("-") and option.isprintable()):
                raise InvalidConfigError(f"sbatch must list options such as '--partition=long', not {option!r}")
        check_notify(notify)
        check_python(python)
        check_environment(environment)
        self.environment = environment
        self.python = python
        self.empty_output_grace_s = empty_output_grace_s
        self.preamble = preamble
        self.sbatch = tuple(sbatch)
        self.notify = notify
        self._sums = Sums()

    def __repr__(self) -> str:
        return f"ManualHPCOperator(empty_output_grace_s={self.empty_output_grace_s:g})"

    def settings(self) -> Mapping[str, Any] | None:
        """Return the constructor's arguments; None where ``notify`` is a function."""
        handlers = settings_of(self.handlers)
        if callable(self.notify) or handlers is None:
            return None
        return {
            "handlers": handlers,
            "empty_output_grace_s": self.empty_output_grace_s,
            "preamble": self.preamble,
            "sbatch": list(self.sbatch),
            "python": self.python,
            "environment": self.environment,
            "notify": None if self.notify is None else list(self.notify),
        }

    def check_task(self, task: Task) -> None:
        """Refuse a task without a command."""
        if task.command is None:
            raise InvalidTaskError(
                f"task {task.task_id!r} has no command, and a kit is made to run one", task_id=task.task_id
            )
        check_options(task.resources.extra, f"task {task.task_id!r}: extra")
        for name, value in task.env.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise InvalidTaskError(
                    f"task {task.task_id!r}: a shell cannot set the variable {name!r}", task_id=task.task_id
                )
            if value.startswith(SECRET) and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", value):
                raise InvalidTaskError(
                    f"task {task.task_id!r}: {value!r} names no variable a shell can have", task_id=task.task_id
                )

    def sbatch_options(self, task: Task) -> Sequence[str]:
        """Return what the task's resources mean, and what every kit gets."""
        return [*sbatch_options(task.resources.scaled(1)), *self.sbatch]

    def prepare(self, attempt: Attempt) -> None:
        """Make the kit from the task's files."""
        mend(self.handlers, attempt, self.traits.results_folder)
        directory = attempt.directory
        placed = [name for name in os.listdir(directory) if not (attempt.task.show and name == SHOWN)]
        gathered = directory / MACHINERY  # no file of a task has this name, and one may be called inputs
        gathered.mkdir()
        for name in placed:
            (directory / name).rename(gathered / name)
        gathered.rename(directory / "inputs")
        (directory / "HOWTO.txt").write_bytes(howto(attempt).encode())
        text = script(attempt, self.preamble, self.sbatch, self.python)
        (directory / "submit.sh").write_bytes(text.encode())  # with the ends of lines that sh has, everywhere
        (directory / "submit.sh").chmod(0o755)
        manifest = {
            "kit": 1,
            "token": attempt.token,
            "task_id": attempt.task_id,
            "iteration": attempt.iteration,
            "attempt": attempt.attempt,
            "outputs": list(attempt.task.outputs),
            "sha256": {name: digest(directory, name) for name in sorted(scan(directory).files)},
        }
        (directory / "MANIFEST.json").write_bytes(json.dumps(manifest, indent=2, ensure_ascii=False).encode() + b"\n")
        sync_tree(directory)

    def cancel(self, attempts: Sequence[Attempt]) -> Collection[str]:
        """Note in each kit that it is no longer wanted."""
        for attempt in attempts:
            if attempt.directory.is_dir():
                write_inside(attempt.directory, "CANCELLED.txt", b"This kit is no longer wanted.\n")
                self._close(attempt, "it was cancelled and is no longer wanted")
        return [attempt.token for attempt in attempts]

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        """Look at each kit."""
        self._sums.renew()
        return super().check_status(attempts)

    def collect_results(self, attempt: Attempt) -> Any:
        """Check once more what came home, and return the content of result.json."""
        came = self._look(attempt, time.time())
        try:
            if came.problem is not None:
                if came.problem.kind is Kind.SUMMING:
                    raise OperatorUnreachableError(f"{attempt.name}: {came.problem.text}")
                raise AttemptFailedError(came.problem.text)
            for now, before in came.names.items():
                rename_inside(attempt.directory / OUTPUT, now, before)
            data = read_result(f"{attempt.directory}/{OUTPUT}")
        except AttemptFailedError as error:
            self._close(attempt, f"it failed: {error}")
            raise
        self._close(attempt, "its results were taken")
        return data

    def environment_of(self, task: Task) -> RunsIn:
        """Return the name of the environment there."""
        return super().environment_of(task)._replace(name=self.environment)

    def made(self, attempt: Attempt) -> Made:
        """Return what the kit's script, and the call in it, have told."""
        told = of_call(f"{attempt.directory}/{OUTPUT}")
        sums: Mapping[str, str] = {}
        with contextlib.suppress(OSError, UnsafeFileError, InvalidJsonError):
            sums = read_sums(attempt.directory) or {}
        found = []
        for name in (*attempt.task.outputs, RESULT):
            with contextlib.suppress(OSError):
                size = os.stat(f"{attempt.directory}/{OUTPUT}/{name}", follow_symlinks=False).st_size
                found.append(output_of(name, sums.get(name, "").lower(), size))
        known = [output for output in found if output is not None]
        return told.with_outputs(known, attempt.task.outputs, "the kit came home without its sum")

    def _look(self, attempt: Attempt, at: float) -> Came:
        if not attempt.directory.is_dir():
            raise UnsafeFileError(f"the kit {attempt.name} is not there any more")
        return look(attempt.directory, attempt.token, attempt.task.outputs, self._sums, at)

    def judge(self, attempt: Attempt, at: float) -> Observation:
        """Return what came home, and what that means."""
        came = self._look(attempt, at)
        ending, problem = came.ending, came.problem
        if ending.status == "FAILED":
            told = "status.json says FAILED" if ending.exit_code is None else f"exit code {ending.exit_code}"
            output = attempt.directory / OUTPUT
            raised = exception_of(output) if attempt.task.call else None
            reason = raised or f"{told}{last_words(output)}"
            self._close(attempt, f"it failed: {reason}")
            return Observation(Seen.ENDED, ok=False, reason=reason, exit_code=ending.exit_code, ended_at=at)
        if ending.status == "COMPLETED" and problem is None:
            return Observation(Seen.ENDED, reason=_HOME, exit_code=ending.exit_code, ended_at=at)
        if ending.status == "COMPLETED" and problem is not None and problem.kind is Kind.FINAL:
            reason = f"it says COMPLETED, but {problem.text}"
            self._close(attempt, f"it failed: {reason}")
            return Observation(Seen.ENDED, ok=False, reason=reason, ended_at=at)
        limit, held = attempt.task.timeout_s, problem is not None and problem.kind is Kind.HELD
        if limit is not None and at - attempt.submitted_at >= limit and (held or not came.anything):
            said = f": {problem.text}" if problem is not None else ""
            word = "no whole result" if came.anything else "nothing"
            return self._over(attempt, f"{word} was brought home within {limit:g} s{said}")
        if problem is not None and (held or not came.anything):
            return Observation(Seen.WAITING, reason=f"{waits_for(attempt, 'output/')}: {problem.text}")
        if not came.anything:
            return Observation(Seen.WAITING, reason=waits_for(attempt, "output/"))
        if problem is not None and problem.kind is Kind.SUMMING:
            return Observation(Seen.WAITING, reason=problem.text, settling=True)
        since = note_unchanged(attempt, "output.json", f"{came.state} {storable(str(problem))}", at)
        if problem is None:
            # Nothing says that this is all, so it has to lie still for a moment.
            if since is not None and came.rests(at):
                return Observation(Seen.ENDED, reason=_HOME, ended_at=at)
            return Observation(Seen.WAITING, reason="what came home is looked at once more", settling=True)
        waited_s = 0.0 if since is None else at - since
        if waited_s >= self.empty_output_grace_s:
            return self._over(attempt, f"{problem.text}, and nothing more came for {self.empty_output_grace_s:g} s")
        left_min = (self.empty_output_grace_s - waited_s) / 60
        reason = f"{problem.text}; a transfer may be under way: {left_min:.0f} min more are left for it"
        return Observation(Seen.WAITING, reason=reason)

    def _over(self, attempt: Attempt, reason: str) -> Observation:
        if attempt.status is AttemptStatus.WAITING:
            self._close(attempt, f"it failed: {reason}")
            return Observation(Seen.EXPIRED, reason=reason)
        return Observation(Seen.WAITING, reason=reason, settling=True)  # one move after the other

    def _close(self, attempt: Attempt, why: str) -> None:
        """Tell whoever opens the kit that it is over."""
        again = f"\nrun.take_late({attempt.task_id!r}) takes results in all the same." if "failed" in why else ""
        page = (
            f"THIS KIT IS OVER: {neutral(storable(why))}.\n"
            f"What is put here from now on is not looked at.{again}\n\n{howto(attempt)}"
        )
        with contextlib.suppress(OSError, UnsafeFileError):  # a page is no reason to lose a result
            write_inside(attempt.directory, "HOWTO.txt", page.encode())
        self._sums.forget(attempt.directory)
