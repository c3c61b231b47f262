"""The protocol between the tick and the way an attempt is carried out.

A tick calls, in this order and for all attempts of the operator at once: `Operator.find`
for attempts whose submission was interrupted, `Operator.cancel` for those no longer
wanted, `Operator.check_status` for the rest, `Operator.collect_results` for each that
ended well; then `Operator.prepare` for each new attempt and `Operator.submit` for all; and, once what it
returned is stored, `Operator.start` for those whose reply says that they still have to be started.

What an operator may raise, and what follows:

=====================================  ==================================================
``AttemptFailedError``, or anything    the attempt FAILS with the reason and traceback,
in ``prepare``, ``collect_results``    and the retry policy decides
``OperatorUnreachableError``           no status changes; counted, backed off, asked again
anything else in the other methods     the same: nobody can tell, so nothing is guessed
=====================================  ==================================================

A token missing from a reply also means "cannot tell".
"""

from __future__ import annotations

import contextlib
import shlex
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.attempts import (
    Absent,
    Attempt,
    Deferred,
    Observation,
    Refused,
    Submitted,
)
from matterstack.core.machine import Machine
from matterstack.core.made import Made
from matterstack.core.task import Task
from matterstack.errors import InvalidConfigError, RunStatusError

if TYPE_CHECKING:
    from matterstack.operators.handlers import Handler


class Traits(NamedTuple):
    """What a tick and a loop of ticks have to know of an operator.

    Parameters
    ----------
    by_people : bool
        Whether an attempt that is WAITING waits for a person, so that `Run.wait` need not.
    results_folder : str
        Where in an attempt's directory its results are; empty for the directory itself.
    poll_s : float
        Of a loop of ticks, the shortest time in seconds between two `Operator.check_status`: a
        scheduler that many share is not asked all the time. In between there is
        `Operator.poll_local_files`. A single `Run.step` always asks.
    most_at_once : int, optional
        Of a loop of ticks, how many attempts one tick submits at most, where each takes its time:
        the first can then start while the others are submitted.
    script : str
        Where in an attempt's directory `Operator.prepare` puts the script that runs it; empty where there is none.
    pack : int
        How many attempts that want the same resources share a job.
    queue_limit, rate_limit : str
        Limits of a workspace that each job takes one of, where they are set: while it is in a queue, and when it is
        submitted. `Operator.queued` tells who is in that queue.
    """

    by_people: bool = False
    results_folder: str = ""
    poll_s: float = 0.0
    most_at_once: int | None = None
    script: str = ""
    pack: int = 1
    queue_limit: str = ""
    rate_limit: str = ""


class RunsIn(NamedTuple):
    """What will run a task, as far as its operator can know.

    Parameters
    ----------
    name : str, optional
        What the user calls the environment; it stands for all that is in it.
    python : sequence of str, optional
        How Python is called on this machine, which may be asked.
    elsewhere : bool
        Whether it runs on another machine, which has the same if it has it at the same path.
    why_not : str
        Why neither is known.
    """

    name: str | None = None
    python: Sequence[str] | None = None
    elsewhere: bool = False
    why_not: str = ""


def check_environment(environment: object) -> None:
    """Raise `InvalidConfigError` unless this is the name of an environment."""
    if environment is not None and not (
        isinstance(environment, str) and environment.isprintable() and 0 < len(environment.strip()) <= 200
    ):
        raise InvalidConfigError(f"environment must be a name, as in 'chgnet-0.4', not {environment!r}")


def check_python(python: object) -> None:
    """Raise `InvalidConfigError` unless this says how Python is called: a program, with arguments if need be."""
    if python is None:
        return
    if isinstance(python, str) and python.isprintable():
        with contextlib.suppress(ValueError):  # a quotation that does not end
            if shlex.split(python):
                return
    raise InvalidConfigError(f"python must say how Python is called there, as in 'python3.12', not {python!r}")


def check_warm(warm: object) -> None:
    """Raise `InvalidConfigError` unless it says whether calls of functions begin warm."""
    if not isinstance(warm, bool):
        raise InvalidConfigError(f"warm must be True or False, not {warm!r}")


class Operator(ABC):
    """A way to carry out attempts. Subclass it; `docs/operators.md` walks through one.

    Attributes
    ----------
    traits : Traits
        Of the class, or of an object whose settings decide.
    """

    traits: Traits = Traits()

    def settings(self) -> Mapping[str, Any] | None:
        """Return the constructor's arguments as plain JSON data, for config.json.

        None where they are not plain data: the operator is then passed again to `open_run`.
        """
        return {}

    def check_task(self, task: Task) -> None:
        """Raise `InvalidTaskError` for a task this operator could never carry out."""
        return  # most take any task

    def lacks(self, task: Task) -> str | None:
        """Return, as a sentence, which program a task needs and will not find; None where nobody can tell from here."""
        return None

    def sbatch_options(self, task: Task) -> Sequence[str]:
        """Return the options of sbatch that the first attempt of a task gets; none where it is no job of Slurm."""
        return ()

    def max_live(self, directory: Path) -> int | None:
        """Return how many attempts may be live at once, or None for no limit.

        Parameters
        ----------
        directory : pathlib.Path
            Where the run keeps this operator's attempts.
        """
        return None

    def counts(self) -> Machine | None:
        """Return what it may use of this machine, where its attempts are counted together with those of other runs."""
        return None

    def queued(self, age_s: float, *, ask: bool) -> Sequence[str] | None:
        """Return the jobs of this user that count against `Traits.queue_limit`, whoever submitted them.

        Parameters
        ----------
        age_s : float
            How old the answer may be.
        ask : bool
            Whether somebody may be asked; else None where nobody was lately.

        Returns
        -------
        sequence of str or None
            A name per job; of a job of ours the token of its first attempt.
        """
        return ()

    def prepare(self, attempt: Attempt) -> None:
        """Fill ``attempt.directory``, which holds the task's files already.

        It is not yet at its final place: a rename puts it there when this returns.
        """
        return  # most need nothing more

    @abstractmethod
    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Refused | Deferred]:
        """Hand the attempts to the outside; return by token what became of each.

        One that is deferred stays as it is, with the reason; `find` says when it is submitted again.
        """

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Let attempts begin whose reply said `Submitted.to_start`; their external ids are on disk now."""
        return  # most begin at once

    @abstractmethod
    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        """Look at live attempts; return by token what was seen. It must not block."""

    def poll_local_files(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        """Return what can be seen without asking anybody, as `check_status` returns it; see `Traits.poll_s`."""
        return {}

    def monitors(self) -> Sequence[Handler | str]:
        """Return the handlers that may look at attempts that run: none where those do not run in their directory."""
        return ()

    @abstractmethod
    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Absent]:
        """Tell by token whether an interrupted submission reached the outside.

        `Absent` only when that is sure: the attempt is then submitted again.
        """

    @abstractmethod
    def cancel(self, attempts: Sequence[Attempt]) -> Collection[str]:
        """Stop the attempts; return the tokens of those surely over. Others are asked again."""

    def collect_results(self, attempt: Attempt) -> Any:
        """Return the data of an attempt that ended well: a JSON value, ``{}`` for none; or `Rejected`."""
        return {}

    def environment_of(self, task: Task) -> RunsIn:
        """Return what will run a task: whether its result is known from before depends on that."""
        why_not = f"{type(self).__name__} cannot know which Python and packages will run it"
        return RunsIn(why_not=f"{why_not}: name them, as in environment='chgnet-0.4'")

    def made(self, attempt: Attempt) -> Made:
        """Return what an attempt that is over was made with and left, as what ran beside it tells."""
        return Made(not_hashed=dict.fromkeys(attempt.task.outputs, "its operator tells no hashes"))

    def answer(self, attempt: Attempt, answer: Any) -> None:
        """Take an answer to an attempt that is WAITING from a cell.

        Raises
        ------
        RunStatusError
            This operator takes none.
        """
        raise RunStatusError(f"{attempt.task_id} waits at {attempt.task.operator}, which takes no answers from a cell")

    def wakeup(self, directory: Path) -> int | None:
        """Return a file descriptor that turns readable when a poll would see something new.

        Parameters
        ----------
        directory : pathlib.Path
            Where the run keeps this operator's attempts.

        Returns
        -------
        int or None
            None when there is none to wait for: then the run is polled.
        """
        return None
