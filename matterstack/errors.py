"""Every exception MatterStack raises on purpose.

::

    MatterstackError
    ├── WorkflowError                 a workflow that cannot be run as it stands
    │   ├── InvalidTaskError          a task with a value that makes no sense
    │   ├── InvalidIdentifierError    an id with characters or a length that is not allowed
    │   ├── DuplicateTaskError        two tasks with one id
    │   ├── CollidingTaskError        two ids that differ only in case
    │   ├── UnknownDependencyError    a dependency that is not in the workflow
    │   ├── CyclicWorkflowError       tasks that wait for each other
    │   ├── UnknownOperatorError      a task names an operator the run was not given
    │   ├── FunctionSourceError       a function or class that cannot be written down as source
    │   └── UnsafePathError           a path that would leave the attempt's directory
    ├── InvalidTransitionError        a status may not take this event
    ├── InvalidJsonError              text that is not the strict JSON we accept
    ├── UnsafeFileError               a link, a pipe, a directory or an oversize file where a plain file belongs
    ├── CampaignError                 plan or analyze raised, or returned something unusable
    ├── RunError
    │   ├── RunNotFoundError          no run at this path
    │   ├── RunExistsError            the run id is taken
    │   ├── InvalidConfigError        a setting or config.json that cannot be used
    │   ├── DiskError                 the disk is full, read-only or faulty, or may not be written; and where
    │   ├── RunStatusError            the run or task does not allow this now
    │   ├── UntrustedRunError         nobody has said that this run may be stepped here; nothing of it was run
    │   ├── UnknownTaskError          no such task in this run
    │   ├── MissingFileError          a task has left no such file
    │   ├── AnswerRefusedError        an answer violates its schema; nothing was changed
    │   ├── AnswerConflictError       another answer was first, or the request is over
    │   ├── ValueNotReadableError     what a function returned cannot be read here
    │   ├── ExportError               a run cannot be exported so; nothing was written
    │   └── KitError                  a kit archive that cannot be taken; nothing was changed
    ├── FindError                     what shall be looked for makes no sense; saying which part
    ├── OptimizerError                a space, a target or a row that an optimizer cannot work with
    ├── PlotError                     what shall be drawn is not there, or is no number
    ├── StructureError                what shall be shown in 3D is no structure
    ├── NoticeError                   a notice that did not reach whom it is for
    ├── MissingLibraryError           an optional library that a view needs is not installed
    ├── PlatformError                 this operating system cannot do that; which can, and what to do
    ├── LockError
    │   ├── RunLockedError            another process, thread or cell is stepping the run
    │   ├── RunLockLostError          run.lock was replaced while it was held
    │   └── LockUnsupportedError      the file system does not lock
    ├── StoreError
    │   ├── DamagedStoreError         state.sqlite is not a readable database
    │   ├── ForeignStoreError         a database, but not one of ours
    │   ├── NewerStoreError           written by a newer MatterStack
    │   ├── StoreUnwritableError      disk full, read-only, or another I/O failure; nothing was changed
    │   └── StoreConflictError        a status was not the one expected; nothing was changed
    └── OperatorError
        ├── OperatorUnreachableError  the outside cannot be asked now; no status changes
        └── AttemptFailedError        this attempt is over, and why

Below its message each has a note (`BaseException.add_note`), which Python and IPython show: where the page of
troubleshooting tells what lies behind it. ``str(error)`` is the message alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any


#: What a note begins with, which stands below the message wherever an error is shown whole.
SEE = "See docs/troubleshooting.md#"


class MatterstackError(Exception):
    """Base of every error MatterStack raises on purpose."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        # A class of a user's own has the section of the class of ours that it is a kind of.
        told = next(kind for kind in type(self).__mro__ if kind.__module__ == __name__)
        self.add_note(f"{SEE}{told.__name__.lower()}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Have another process get it as it is: its note once, and what its class wants by name."""
        return _again, (type(self), self.args), vars(self)


def _again(kind: type[MatterstackError], args: tuple[object, ...]) -> MatterstackError:
    """Return an error as another process had it, but for its attributes, of which its note is one."""
    error = kind.__new__(kind)
    super(MatterstackError, error).__init__(*args)  # not its own, which may want more than its message
    return error


class WorkflowError(MatterstackError, ValueError):
    """A workflow that cannot be run as it stands."""


class InvalidTaskError(WorkflowError):
    """A task holds a value that makes no sense; the message names task and field.

    Attributes
    ----------
    task_id : str or None
        None where the value was made before its task.
    """

    def __init__(self, message: str, *, task_id: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id


class InvalidIdentifierError(WorkflowError):
    """An id is not ``[A-Za-z0-9][A-Za-z0-9._-]*`` of at most 128 characters."""


class DuplicateTaskError(WorkflowError):
    """Two tasks of one workflow have the same id."""


class CollidingTaskError(WorkflowError):
    """Two ids differ only in case, so their directories collide on some file systems."""


class UnknownDependencyError(WorkflowError):
    """A task depends on an id that is not in the workflow."""


class CyclicWorkflowError(WorkflowError):
    """Tasks wait for each other; the message shows the cycle as a path."""


class FunctionSourceError(WorkflowError):
    """A function, or a class, cannot be written down whole; the message says what is in the way, and the way out."""


class UnknownOperatorError(WorkflowError):
    """A task names an operator the run was not given."""


class UnsafePathError(WorkflowError):
    """A path would leave the directory it belongs in."""


class InvalidTransitionError(MatterstackError):
    """A status may not take this event; the message lists those it may take."""


class InvalidJsonError(MatterstackError, ValueError):
    """Text is not the strict JSON MatterStack accepts; the message says where and why."""


class UnsafeFileError(MatterstackError):
    """A link, a pipe, a directory, a device or an oversize file where a plain file belongs."""


class CampaignError(MatterstackError):
    """``plan`` or ``analyze`` raised, is missing, or returned something unusable."""


class RunError(MatterstackError):
    """A run cannot do what was asked."""


class RunNotFoundError(RunError, FileNotFoundError):
    """There is no run at this path.

    Attributes
    ----------
    path : pathlib.Path or None
        Where it was looked for.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class RunExistsError(RunError, FileExistsError):
    """The run id is taken."""


class InvalidConfigError(RunError, ValueError):
    """A setting, an operator or config.json cannot be used as given."""


class DiskError(RunError):
    """The disk is full, read-only or faulty, or may not be written: what was asked for could not be done."""


class RunStatusError(RunError):
    """The status of the run or task does not allow this now."""


class UntrustedRunError(RunError):
    """Made elsewhere or by somebody else, and never trusted; nothing of the run was run.

    Attributes
    ----------
    path : pathlib.Path
        The run's directory.
    would_run : str
        What stepping it would run, in plain words.
    """

    def __init__(self, message: str, *, path: Path, would_run: str) -> None:
        super().__init__(message)
        self.path = path
        self.would_run = would_run


class UnknownTaskError(RunError, KeyError):
    """No task of this id in the run's current iteration.

    Attributes
    ----------
    task_id : str or None
        The id that was asked for.
    """

    def __init__(self, message: str, *, task_id: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr


class MissingFileError(RunError, FileNotFoundError):
    """A task has left no file of this name.

    Attributes
    ----------
    path : pathlib.Path
        Where it would be.
    """

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class AnswerRefusedError(RunError, ValueError):
    """An answer violates the schema of its request; the message lists how, and nothing was changed.

    Attributes
    ----------
    violations : tuple of str
        In plain words, each with the place in the answer.
    """

    def __init__(self, message: str, *, violations: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.violations = tuple(violations)


class AnswerConflictError(RunError):
    """The request was answered by somebody else, or is over; the message says by whom."""


class ValueNotReadableError(RunError, ValueError):
    """What a function returned is not there, or cannot be read here; the message says why, and what to do."""


class ExportError(RunError):
    """A run cannot be exported so, or not to there; nothing was written."""


class KitError(RunError, ValueError):
    """An archive of kits is damaged, altered, unsafe or of another run; nothing was changed."""


class FindError(MatterstackError, ValueError):
    """What shall be looked for makes no sense: a path, a condition, a hash; the message says which, and what would."""


class OptimizerError(MatterstackError, ValueError):
    """A space, a target or a row that an optimizer cannot work with; the message names it."""


class PlotError(MatterstackError, ValueError):
    """What shall be drawn is not there, or is no number."""


class StructureError(MatterstackError, ValueError):
    """What shall be shown is no structure that can be; the message says why."""


class NoticeError(MatterstackError):
    """A notice did not reach everybody it is for; the message says whom not, and why."""


class MissingLibraryError(MatterstackError, ImportError):
    """An optional library is not installed; the message says which, and how to get it."""


class PlatformError(MatterstackError, ImportError):
    """What is asked for cannot be done on this operating system; the message says what can, and what to do."""


class LockError(MatterstackError):
    """The run's lock cannot be had or trusted."""


class RunLockedError(LockError):
    """Another process is running: someone else holds the run's lock.

    Attributes
    ----------
    holder : dict
        What ``run.lock`` says of the holder: ``pid``, ``host``, ``user``, ``since``
        (UTC, ISO 8601). Empty when the file could not be read.
    """

    def __init__(self, message: str, holder: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.holder: dict[str, object] = dict(holder or {})


class RunLockLostError(LockError):
    """``run.lock`` was deleted or replaced while it was held; nothing more was written."""


class LockUnsupportedError(LockError):
    """The file system does not lock, so a run there could be stepped twice at once."""


class StoreError(MatterstackError):
    """The run's database cannot be used.

    Attributes
    ----------
    path : pathlib.Path or None
        Of ``state.sqlite``.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class DamagedStoreError(StoreError):
    """``state.sqlite`` is not a readable database; its bytes were left as they are."""


class ForeignStoreError(StoreError):
    """A database without MatterStack's ``schema_info``; its bytes were left as they are."""


class NewerStoreError(StoreError):
    """Written by a newer MatterStack; its bytes were left as they are."""


class StoreUnwritableError(StoreError):
    """The database could not be written (disk full, read-only, I/O error); nothing was changed."""


class StoreConflictError(StoreError):
    """A status was not the one a change expected to leave; nothing was changed."""


class OperatorError(MatterstackError):
    """An operator has something to say about an attempt."""


class OperatorUnreachableError(OperatorError):
    """The outside cannot be asked now: no status changes, it is asked again later."""


class AttemptFailedError(OperatorError):
    """The attempt is over: raised by ``prepare`` or ``collect_results`` with the reason."""
