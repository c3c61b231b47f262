"""Farms of small tasks on a running dask.distributed scheduler.

A task of Dask runs the script of an attempt, in the attempt's directory, in a session of its
own: so it outlives the worker, claims the directory before anything else, and leaves how it
ended in a file. Dask's key is the attempt's token. What Dask forgets, because its scheduler
died, is handed over again: the claim makes that safe.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import (
    Absent,
    Attempt,
    Observation,
    Refused,
    Seen,
    Submitted,
)
from matterstack.core.keywords import suggesting_class
from matterstack.errors import InvalidConfigError, MissingLibraryError, OperatorUnreachableError
from matterstack.files import write_inside
from matterstack.operators.base import check_environment, check_python
from matterstack.operators.handlers import Handler, check_handlers, settings_of
from matterstack.operators.jobs.base import JobOperator, check_preamble, ended_badly, good_end, judge_alone, still
from matterstack.operators.jobs.claim import began_at, end_of
from matterstack.operators.jobs.faults import spoilt

_MOST = 5000


@suggesting_class
class DaskOperator(JobOperator):
    """Run commands on the workers of a Dask cluster.

    Parameters
    ----------
    address : str
        Of the scheduler, as in ``tcp://login1:8786``.
    max_queued : int
        How many attempts the scheduler may know at once.
    preamble : str
        Lines of shell before each command.
    grace_s : float
        How long a command that shows no sign of life, and left no exit code, is waited for.
    timeout_s : float
        How long the scheduler may take to answer before it counts as unreachable.
    python : str, optional
        What runs calls of functions on the workers; by default the interpreter that planned them.
    environment : str, optional
        A name for the Python and packages there, as in ``"chgnet-0.4"``: results of functions are cached under it. Give
        another one when they change.
    handlers : sequence of (Handler or str)
        What may mend the inputs of a task after an attempt at it failed, by its name as ``"package.module:Class"``;
        see `matterstack.operators.handlers.Handler`. An operator with objects has to be passed to `open_run` again.

    Raises
    ------
    InvalidConfigError
        An argument cannot be used; the message names it.

    Notes
    -----
    The workers run as you, on machines that share the run's directory, with matterstack
    installed. ``Resources.walltime_s`` and the like are not enforced: they are the workers'.
    """

    watched = True
    script_output = f"{MACHINERY}/job.out"

    def __init__(
        self,
        address: str,
        *,
        max_queued: int = _MOST,
        preamble: str = "",
        grace_s: float = 30.0,
        timeout_s: float = 10.0,
        python: str | None = None,
        environment: str | None = None,
        handlers: Sequence[Handler | str] = (),
    ) -> None:
        self.handlers = check_handlers(handlers)
        check_python(python)
        check_environment(environment)
        if not (isinstance(address, str) and "://" in address):
            raise InvalidConfigError(f"address must be that of a scheduler, as in 'tcp://login1:8786', not {address!r}")
        if not isinstance(max_queued, int) or isinstance(max_queued, bool) or max_queued < 1:
            raise InvalidConfigError(f"max_queued must be a positive whole number, not {max_queued!r}")
        for name, seconds in (("grace_s", grace_s), ("timeout_s", timeout_s)):
            if not (isinstance(seconds, int | float) and seconds >= 0):
                raise InvalidConfigError(f"{name} must be a number of seconds, not {seconds!r}")
        check_preamble(preamble)
        self.address = address
        self.max_queued = max_queued
        self.preamble = preamble
        self.grace_s = grace_s
        self.timeout_s = timeout_s
        self.python = python
        self.environment = environment
        self._clients: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"DaskOperator({self.address!r}, max_queued={self.max_queued})"

    def settings(self) -> Mapping[str, Any] | None:
        """Return the constructor's arguments; None with handlers that are objects."""
        handlers = settings_of(self.handlers)
        if handlers is None:
            return None
        return {
            "handlers": handlers,
            "address": self.address,
            "max_queued": self.max_queued,
            "preamble": self.preamble,
            "grace_s": self.grace_s,
            "timeout_s": self.timeout_s,
            "python": self.python,
            "environment": self.environment,
        }

    def max_live(self, directory: Path) -> int:
        """Return how many attempts the scheduler may know."""
        return self.max_queued

    def _client(self) -> Any:
        """Return this process's connection, made anew when the scheduler was away."""
        try:
            import distributed
        except ImportError as error:
            raise MissingLibraryError("DaskOperator needs distributed: pip install 'matterstack[dask]'") from error
        client = self._clients.get(os.getpid())
        if client is not None and client.status == "running":
            return client
        if client is not None:
            client.close(timeout=0)
        try:
            make: Any = distributed.Client
            client = make(self.address, timeout=self.timeout_s, set_as_default=False, name="matterstack")
        except (OSError, TimeoutError) as error:
            raise OperatorUnreachableError(f"the Dask scheduler {self.address} does not answer: {error}") from error
        self._clients[os.getpid()] = client
        return client

    def close(self) -> None:
        """Let go of the scheduler; it is connected to again when needed."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close(timeout=self.timeout_s)

    def _ask(self, tokens: Sequence[str]) -> Mapping[str, str]:
        """Return by token what the scheduler says of the tasks that it knows."""
        client = self._client()
        try:
            found: dict[str, str] = client.sync(
                client._run_on_scheduler,  # noqa: SLF001 - the public one has no time limit
                _states,
                list(tokens),
                callback_timeout=self.timeout_s,
            )
        except (OSError, TimeoutError) as error:
            raise OperatorUnreachableError(f"the Dask scheduler {self.address} does not answer: {error}") from error
        return found

    def _hand_over(self, attempts: Sequence[Attempt]) -> None:
        """Have the attempts run; one whose token the scheduler knows is not taken twice."""
        import distributed

        client = self._client()
        try:
            futures = client.map(
                run_script,
                [str(attempt.directory) for attempt in attempts],
                key=[a.token for a in attempts],
                pure=False,
            )
            # They go on without us, and are forgotten once they have ended: what they left is in files.
            forget: Any = distributed.fire_and_forget
            for future in futures:
                forget(future)
        except (OSError, TimeoutError) as error:
            raise OperatorUnreachableError(f"the Dask scheduler {self.address} does not answer: {error}") from error

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Refused]:
        """Hand the attempts to the scheduler."""
        self._hand_over(attempts)
        return {attempt.token: Submitted(attempt.token) for attempt in attempts}

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Absent]:
        """Ask the scheduler, and look for claims."""
        known = self._ask([attempt.token for attempt in attempts])
        return {
            a.token: Submitted(a.token) if a.token in known or began_at(a) is not None else Absent() for a in attempts
        }

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        """Look at what was left, and ask once about the rest."""
        at = time.time()
        seen = {}
        open_ = []
        for attempt in attempts:
            try:
                ended = end_of(attempt)
            except OSError as error:
                seen[attempt.token] = still(attempt, f"its directory cannot be looked at: {error}")
                continue
            if ended is None:
                open_.append(attempt)
            elif ended.well:
                seen[attempt.token] = good_end(attempt, ended)
            else:
                seen[attempt.token] = ended_badly(attempt, ended, self.last_words(attempt))
        if not open_:
            return seen
        known = self._ask([attempt.token for attempt in open_])
        lost = []
        for attempt in open_:
            began = began_at(attempt)
            state = known.get(attempt.token)
            if began is None and not attempt.directory.is_dir():
                seen[attempt.token] = self.missing(attempt, "it never began", began, at)
            elif began is None and state in (None, "erred", "forgotten", "released", "memory"):
                lost.append(attempt)  # the scheduler was started anew, or no worker could run it
                seen[attempt.token] = Observation(
                    Seen.QUEUED, reason="Dask did not know it any more: handed over again"
                )
            elif began is None:
                seen[attempt.token] = Observation(Seen.QUEUED, reason=f"Dask says {state}")
            elif state == "processing":
                seen[attempt.token] = Observation(Seen.RUNNING, started_at=began or at)
            else:
                seen[attempt.token] = judge_alone(attempt, self._silent, began, at)
        if lost:
            self._hand_over(lost)
        return seen

    def _silent(self, attempt: Attempt, began: float, at: float) -> Observation:
        """Judge an attempt that began, and that Dask has forgotten; one that is given up shall end if it comes back."""
        seen = self.missing(attempt, "its worker is gone", began, at)
        if seen.seen is Seen.VANISHED and attempt.directory.is_dir():
            write_inside(attempt.directory, f"{MACHINERY}/cancel", b"")
        return seen

    def cancel(self, attempts: Sequence[Attempt]) -> Collection[str]:
        """Take the attempts back from the scheduler, and have those that began end themselves."""
        over = []
        waiting = []
        for attempt in attempts:
            if not attempt.directory.is_dir() or end_of(attempt) is not None:
                over.append(attempt.token)
                continue
            waiting.append(attempt.token)
            with spoilt(attempt):
                write_inside(attempt.directory, f"{MACHINERY}/cancel", b"")
                if self.take_claim(attempt):
                    over.append(attempt.token)  # it has not begun, and cannot any more
                elif self.missing(attempt, "", began_at(attempt), time.time()).seen is Seen.VANISHED:
                    over.append(attempt.token)
        if waiting:
            client = self._client()
            try:
                client.sync(
                    client._run_on_scheduler,  # noqa: SLF001 - the public one has no time limit
                    _forget,
                    waiting,
                    callback_timeout=self.timeout_s,
                )
            except (OSError, TimeoutError) as error:
                raise OperatorUnreachableError(f"the Dask scheduler does not answer: {error}") from error
        return over


def run_script(directory: str) -> int:
    """Run the script of an attempt, on a worker, and return its exit code.

    Parameters
    ----------
    directory : str
        Of the attempt.
    """
    import subprocess

    with open(f"{directory}/{MACHINERY}/job.out", "ab") as out:
        # A session of its own: neither an interrupt nor the end of the worker reaches the command.
        return subprocess.run(
            ["/bin/sh", f"{MACHINERY}/job.sh"],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        ).returncode


def _states(tokens: list[str], dask_scheduler: Any = None) -> dict[str, str]:
    """Return the states of tasks; runs in the scheduler."""
    return {token: dask_scheduler.tasks[token].state for token in tokens if token in dask_scheduler.tasks}


def _forget(tokens: list[str], dask_scheduler: Any = None) -> None:
    """Drop tasks that nobody wants any more; runs in the scheduler."""
    for client in list(dask_scheduler.clients):
        known = [token for token in tokens if token in dask_scheduler.tasks]
        dask_scheduler.client_releases_keys(keys=known, client=client)
