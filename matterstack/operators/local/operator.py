"""Commands on this machine, through a runner process that outlives the kernel.

`matterstack.operators.local.runner` says how an attempt is executed once at most.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from matterstack import interrupts
from matterstack.core.attempts import (
    Absent,
    Attempt,
    Observation,
    Refused,
    Submitted,
)
from matterstack.core.calls import COMMAND
from matterstack.core.keywords import suggesting_class
from matterstack.core.machine import Machine, visible_gpus
from matterstack.core.made import Made
from matterstack.core.numbers import is_number
from matterstack.core.task import Task
from matterstack.errors import InvalidConfigError, InvalidTaskError, OperatorUnreachableError
from matterstack.operators.base import Operator, RunsIn, check_python, check_warm
from matterstack.operators.handlers import Handler, check_handlers, mend, settings_of
from matterstack.operators.local.link import Link, path_for_commands
from matterstack.operators.lookup import missing_program
from matterstack.operators.made import of_command_here
from matterstack.operators.results import collect
from matterstack.operators.warm_calls import start_of

#: By which programs see no other GPUs than their own (CUDA C++ Programming Guide, "CUDA Environment Variables").
_VISIBLE = "CUDA_VISIBLE_DEVICES"
#: More than any machine has; a GPU is a name for each, and the ledger takes 64 bits.
_MOST_CPUS, _MOST_GPUS, _MOST_GIB = 1_000_000, 10_000, 1_000_000_000
#: How many threads OpenMP, MKL and OpenBLAS start; else each of them takes all cores of the machine.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@suggesting_class
class LocalOperator(Operator):
    """Run commands on this machine.

    Parameters
    ----------
    max_active : int, optional
        How many commands run at once; by default one a core.
    kill_grace_s : float
        How long a command that is cancelled or over its time has between SIGTERM and
        SIGKILL, in seconds.
    python : str, optional
        What runs calls of functions, as in ``conda run -n ase python``; by default the interpreter that planned them.
    warm : bool
        Whether calls of functions begin warm where they can: forked by a process that has imported what they need.
    handlers : sequence of (Handler or str)
        What may mend the inputs of a task after an attempt at it failed, by its name as ``"package.module:Class"``;
        see `matterstack.operators.handlers.Handler`. An operator with objects has to be passed to `open_run` again.
    cpus, gpus : int, optional
        How many cores and GPUs of this machine the tasks of all runs may take together that say so; by default they
        are not counted.
    memory_gib : float, optional
        How much of its memory, in GiB, likewise. A task that names its ``memory_gib`` is then kept to it.

    Raises
    ------
    InvalidConfigError
        An argument cannot be used; the message names it.

    Notes
    -----
    A command starts in its own directory and session, with the environment that the kernel
    had when it submitted it, the directory of that kernel's Python first in ``PATH``, the task's
    ``env``, and ``MATTERSTACK_TOKEN``, ``_TASK_ID``, ``_ITERATION``, ``_ATTEMPT`` and ``_CLAIM``.
    ``resources.walltime_s`` is its time limit; the other resources count where ``cpus``, ``gpus`` or ``memory_gib`` are
    given, and are not enforced otherwise. Where they are counted, ``OMP_NUM_THREADS`` and the like are the cores of
    a rank, and ``CUDA_VISIBLE_DEVICES`` names the GPUs that the attempt has, and no other (``docs/limits.md``).
    What it leaves running is stopped when it ends, also what has left its session.
    """

    def __init__(
        self,
        max_active: int | None = None,
        *,
        kill_grace_s: float = 5.0,
        python: str | None = None,
        warm: bool = True,
        handlers: Sequence[Handler | str] = (),
        cpus: int | None = None,
        gpus: int | None = None,
        memory_gib: float | None = None,
    ) -> None:
        self.handlers = check_handlers(handlers)
        if max_active is not None and (not isinstance(max_active, int) or max_active < 1):
            raise InvalidConfigError(f"max_active must be a positive whole number, not {max_active!r}")
        if not kill_grace_s >= 0:
            raise InvalidConfigError(f"kill_grace_s must not be negative, but is {kill_grace_s!r}")
        check_warm(warm)
        _check_counts(cpus, gpus, memory_gib)
        self.cpus = cpus
        self.gpus = gpus
        self.memory_gib = memory_gib
        self.max_active = max_active
        check_python(python)
        self.warm = warm
        self.kill_grace_s = kill_grace_s
        self.python = python
        self._links: dict[tuple[int, str], Link] = {}

    def __repr__(self) -> str:
        counted = "".join(f", {name}={value}" for name, value in self._counted().items())
        return f"LocalOperator(max_active={self.max_active}, kill_grace_s={self.kill_grace_s:g}{counted})"

    def settings(self) -> Mapping[str, Any] | None:
        """Return the constructor's arguments; None with handlers that are objects."""
        handlers = settings_of(self.handlers)
        if handlers is None:
            return None
        return {
            "handlers": handlers,
            "max_active": self.max_active,
            "kill_grace_s": self.kill_grace_s,
            "python": self.python,
            "warm": self.warm,
            **self._counted(),
        }

    def _counted(self) -> dict[str, Any]:
        counted = {"cpus": self.cpus, "gpus": self.gpus, "memory_gib": self.memory_gib}
        return {name: value for name, value in counted.items() if value is not None}

    def counts(self) -> Machine | None:
        """Return what it may use of this machine; None where it counts nothing."""
        if not self._counted():
            return None
        gpus = None if self.gpus is None else visible_gpus(os.environ.get(_VISIBLE), self.gpus)
        return Machine(self.cpus, gpus, self.memory_gib)

    def prepare(self, attempt: Attempt) -> None:
        """Have handlers mend the inputs after failed attempts."""
        mend(self.handlers, attempt)

    def monitors(self) -> Sequence[Handler | str]:
        """Return the handlers: all runs here."""
        return self.handlers

    def check_task(self, task: Task) -> None:
        """Refuse a task without a command, and one that wants more of this machine than there is."""
        if task.command is None:
            raise InvalidTaskError(
                f"task {task.task_id!r} has no command, and the local operator runs commands only", task_id=task.task_id
            )
        machine = self.counts()
        if machine is None:
            return
        if why := machine.never(task.resources, task.operator):
            raise InvalidTaskError(f"task {task.task_id!r} {why}", task_id=task.task_id)
        if self.gpus is not None and _VISIBLE in task.env:
            raise InvalidTaskError(
                f"task {task.task_id!r} sets {_VISIBLE}, and its operator counts the GPUs and says which it gets: take "
                "that out of its env, and say how many with ms.Resources(gpus=...)",
                task_id=task.task_id,
            )

    def lacks(self, task: Task) -> str | None:
        """Look for the program of its command."""
        return missing_program(task, self.python, path_for_commands())

    def max_live(self, directory: Path) -> int:
        """Return how many attempts to hand over: those that may run, and a few that wait their turn.

        As many wait as ended during the last second, so that short tasks follow each
        other without a gap, and a pause stops long ones at once.
        """
        link = self._known_link(directory)
        return self._active() + (link.ended_lately() if link else 0)

    def _active(self) -> int:
        return self.max_active or self.cpus or os.cpu_count() or 1

    def _known_link(self, directory: str | Path) -> Link | None:
        """Return the link that was made last to what was at the path then, where there is one."""
        return self._links.get((os.getpid(), str(directory)))

    def _link(self, attempts: Sequence[Attempt]) -> Link:
        directory = Path(attempts[0].parent)
        link = self._known_link(directory)
        if link is None or not link.leads_there():
            for key, other in list(self._links.items()):
                if not other.leads_there():
                    self._links.pop(key, other).close()
            link = self._links[os.getpid(), str(directory)] = Link(directory, self._active())
        return link

    def _refreshed(self, attempts: Sequence[Attempt]) -> Link:
        link = self._link(attempts)
        try:
            link.refresh(attempts)
        except OperatorUnreachableError:
            link = self._link(attempts)  # the runner had left or was killed: another one takes over
            link.refresh(attempts)
        return link

    @interrupts.held()  # what the runner reports is told once
    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Refused]:
        """Hand the attempts to the run's runner, which is started if there is none."""
        self._link(attempts).start([self._job(attempt) for attempt in attempts])
        return {attempt.token: Submitted() for attempt in attempts}

    def _job(self, attempt: Attempt) -> dict[str, Any]:
        task = attempt.task
        command = task.command_with(self.python)
        machine = self.counts()
        return {
            "token": attempt.token,
            "directory": attempt.name,
            "argv": ["/bin/sh", "-c", command] if isinstance(command, str) else list(command),
            "env": {**self._counted_variables(attempt), **task.env, **attempt.variables},
            "limit_s": task.resources.walltime_of(attempt.attempt),
            "grace_s": self.kill_grace_s,
            "call": start_of(attempt, command, is_wanted=self.warm),
            "memory_gib": None if machine is None else machine.memory_of(task.resources, attempt.attempt),
        }

    def _counted_variables(self, attempt: Attempt) -> dict[str, str]:
        """Return the variables that keep an attempt to the cores and GPUs that it has."""
        threads = str(attempt.task.resources.cpus_per_task)
        variables = {} if self.cpus is None else dict.fromkeys(_THREADS, threads)
        return variables if self.gpus is None else {**variables, _VISIBLE: ",".join(attempt.gpus)}

    @interrupts.held()
    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        """Return what the runner says.

        What a runner took and did not start before it was killed is ABSENT: its directory is looked at again before
        it is handed to the next runner, since the power may have gone as well.
        """
        link = self._refreshed(attempts)
        link.forget_others(attempts)
        return {
            attempt.token: observation for attempt in attempts if (observation := link.observe(attempt)) is not None
        }

    @interrupts.held()
    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Absent]:
        """Ask the runner, or look for the claim."""
        link = self._refreshed(attempts)
        return {
            attempt.token: Absent() if link.known[attempt.token]["event"] == "absent" else Submitted()
            for attempt in attempts
            if attempt.token in link.known
        }

    @interrupts.held()
    def cancel(self, attempts: Sequence[Attempt]) -> Collection[str]:
        """Stop each command with its whole process group."""
        link = self._link(attempts)
        link.ask("cancel", attempts)
        return [
            attempt.token
            for attempt in attempts
            if link.known.get(attempt.token, {}).get("event") in ("ended", "absent", "vanished")
        ]

    def collect_results(self, attempt: Attempt) -> Any:
        """Check the outputs, and return the content of result.json."""
        return collect(f"{attempt.parent}/{attempt.name}", attempt.task.outputs)

    def environment_of(self, task: Task) -> RunsIn:
        """Return the Python of this machine that runs calls."""
        command = task.command_with(self.python)
        return RunsIn(python=command[: -len(COMMAND) + 1] if task.call and not isinstance(command, str) else None)

    def made(self, attempt: Attempt) -> Made:
        """Return what a call told of itself, and hash what it or a command has left on this machine."""
        task = attempt.task
        return of_command_here(f"{attempt.parent}/{attempt.name}", task.outputs, is_call=task.call is not None)

    def wakeup(self, directory: Path) -> int | None:
        """Return the connection to the runner: it turns readable when a command starts or ends."""
        link = self._known_link(directory)
        return link.socket.fileno() if link is not None and not link.closed else None


def _check_counts(cpus: object, gpus: object, memory_gib: object) -> None:
    """Raise `InvalidConfigError` unless these say how much of a machine there is."""
    for name, value, least, most in (("cpus", cpus, 1, _MOST_CPUS), ("gpus", gpus, 0, _MOST_GPUS)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most):
            raise InvalidConfigError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    if memory_gib is not None and not (is_number(memory_gib) and 0 < memory_gib <= _MOST_GIB):
        raise InvalidConfigError(f"memory_gib must be a positive number, {_MOST_GIB} at most, not {memory_gib!r}")
