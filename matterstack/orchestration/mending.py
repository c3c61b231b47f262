"""Mends: what a person's word changes for the next attempts of a task, and what each attempt is made with by it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.amended import PARTS, amended, combined
from matterstack.core.calls import ARGUMENT_ARRAYS, Call, Reference
from matterstack.core.resources import Resources
from matterstack.core.strict_json import to_text
from matterstack.core.task import LAST, FileSource, FromTask, Task, file_to_json
from matterstack.core.text import did_you_mean
from matterstack.errors import InvalidTaskError
from matterstack.orchestration.findings import check_by_operator
from matterstack.orchestration.intake import Intake
from matterstack.orchestration.limits_explained import WorkspaceLimits
from matterstack.orchestration.next_attempts import last_that_left, pin, pinned
from matterstack.orchestration.session import Session

if TYPE_CHECKING:
    from matterstack.storage.rows import TaskRow


class Mend(NamedTuple):
    """A person's word on what the next attempts of a task shall be made with.

    Attributes
    ----------
    files, env : mapping, optional
        By name; None goes back to what was planned.
    arguments : mapping, optional
        Of a call, by name.
    resources : Resources or mapping, optional
        All of them, or some by name; None goes back to what was planned.
    command : str or sequence of str, optional
    as_planned : bool
        Whether what earlier words changed is dropped.
    """

    files: Mapping[str, Any] | None = None
    env: Mapping[str, Any] | None = None
    arguments: Mapping[str, Any] | None = None
    resources: Resources | Mapping[str, Any] | None = None
    command: Any = None
    as_planned: bool = False

    def __bool__(self) -> bool:
        return bool(self.as_planned) or any(getattr(self, part) is not None for part in PARTS)


class Word(NamedTuple):
    """What a mend comes to for one task: what it says, as plain data, with all it takes from outside in the run."""

    said: Mapping[str, Any]
    as_planned: bool

    def on(self, session: Session, row: TaskRow, before: str | None) -> str | None:
        """Return the changes of a task as JSON text, with this word added to those that are there; None for none.

        Raises
        ------
        InvalidTaskError
            The task cannot be carried out so.
        """
        changes = combined({} if self.as_planned else json.loads(before or "{}"), self.said)
        if not changes:
            return None
        text = to_text(pinned(session, row, changes))
        _check(session, row, amended(session.reader.specification(row.id), text))
        return to_text(changes)


def word(session: Session, row: TaskRow, mend: Mend) -> Word:
    """Take a mend of one task: what it brings is checked as of a task that is planned, and kept by its content.

    Raises
    ------
    InvalidTaskError, UnsafePathError
        Something cannot be used; naming it.
    """
    if not isinstance(mend.as_planned, bool):
        raise InvalidTaskError(
            f"task {row.task_id!r}: as_planned must be True or False, not {mend.as_planned!r}", task_id=row.task_id
        )
    for part in ("files", "env", "arguments"):
        given = getattr(mend, part)
        if given is not None and not isinstance(given, Mapping):
            raise InvalidTaskError(
                f"task {row.task_id!r}: {part} must be a mapping, not {given!r}", task_id=row.task_id
            )
    task = Task.from_json({"task_id": row.task_id, **json.loads(session.reader.specification(row.id))})
    said: dict[str, Any] = {}
    if mend.files is not None:
        said["files"] = _files(session, row, task, mend.files)
    if mend.env is not None:
        dataclasses.replace(task, env={name: value for name, value in mend.env.items() if value is not None})
        said["env"] = dict(mend.env)
    if mend.resources is not None:
        said["resources"] = _resources(task, mend.resources)
    if mend.command is not None:
        changed = dataclasses.replace(task, command=mend.command).command
        said["command"] = changed if isinstance(changed, str) else list(changed or ())
    if mend.arguments is not None:
        said["arguments"] = _arguments(session, task, mend.arguments)
    return Word(said, mend.as_planned)


def _files(session: Session, row: TaskRow, task: Task, given: Mapping[str, Any]) -> dict[str, Any]:
    own = {path: source for path, source in given.items() if _is_last(row, source)}
    brought = {path: source for path, source in given.items() if source is not None and path not in own}
    brought = {path: _of_a_task(session, row, source) for path, source in brought.items()}
    for source in own.values():
        if last_that_left(session, row, source.path, range(row.attempt, 0, -1)) is None:
            raise InvalidTaskError(
                f"task {row.task_id!r}: no attempt of it left a file {source.path} that is not empty",
                task_id=row.task_id,
            )
    last_ones = {path: pin(session, row, source.path) for path, source in own.items()}
    dataclasses.replace(task, files={**task.files, **brought, **last_ones})
    intake = Intake(session.directory, session.reader)
    kept = {path: file_to_json(intake.file(task, path, source)) for path, source in brought.items()}
    last = {path: {"task_id": row.task_id, "path": source.path, "attempt": LAST} for path, source in own.items()}
    return {**dict.fromkeys(given), **kept, **last}


def _is_last(row: TaskRow, source: object) -> bool:
    if not isinstance(source, FromTask) or source.attempt != LAST or source.run is not None:
        return False
    return source.task_id == row.task_id and source.iteration in (None, row.iteration)


def _of_a_task(session: Session, row: TaskRow, source: FileSource) -> FileSource:
    """Return a file of a task of this iteration as one of a known attempt: it makes no dependency."""
    if not isinstance(source, FromTask):
        return source
    if source.attempt == LAST:
        raise InvalidTaskError(
            f"task {row.task_id!r}: attempt=-1 is the last one of {row.task_id!r} itself; leave it out for "
            f"the one that completed {source.task_id!r}",
            task_id=row.task_id,
        )
    return dataclasses.replace(source, iteration=row.iteration) if source.is_here else source


def _resources(task: Task, given: Resources | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(given, Resources):
        said: dict[str, Any] = {one.name: getattr(given, one.name) for one in dataclasses.fields(Resources)}
    elif isinstance(given, Mapping):
        known = [one.name for one in dataclasses.fields(Resources)]
        if wrong := next((name for name in given if name not in known), None):
            hint = f"{did_you_mean(wrong, known)}; there is: {', '.join(known)}"
            raise InvalidTaskError(f"task {task.task_id!r}: resources have no {wrong!r}{hint}", task_id=task.task_id)
        said = dict(given)
        dataclasses.replace(task.resources, **{name: value for name, value in said.items() if value is not None})
    else:
        raise InvalidTaskError(
            f"task {task.task_id!r}: resources must be an ms.Resources, or a mapping as in {{'walltime_s': 60}}, not "
            f"{given!r}",
            task_id=task.task_id,
        )
    return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


def _arguments(session: Session, task: Task, given: Mapping[str, Any]) -> dict[str, Any]:
    if task.call is None:
        raise InvalidTaskError(
            f"task {task.task_id!r} calls no function, so it has no arguments: command=, files= and env= are what "
            "changes it",
            task_id=task.task_id,
        )
    return {name: _argument(session, task, task.call, name, value) for name, value in given.items()}


def _argument(session: Session, task: Task, call: Call, name: str, value: Any) -> dict[str, Any]:
    from matterstack.functions.codec import Encoder, NotWritableError  # a tick needs none of it

    at = _place(session, task, call, name)
    program = session.program(str(call.program))
    encoder = Encoder({Reference: _refuse_reference})
    try:
        said = encoder.encode(value, name)
    except NotWritableError as error:
        raise InvalidTaskError(f"task {task.task_id!r}: {error}", task_id=task.task_id) from None
    for which in encoder.classes:
        package = which.partition(":")[0].partition(".")[0]
        if package not in program.packages and package not in sys.stdlib_module_names:
            raise InvalidTaskError(
                f"task {task.task_id!r}: {name} has an object of {which.replace(':', '.')}, which the program of "
                f"{call.function} does not import: give it as numbers and texts, or plan the call in another run",
                task_id=task.task_id,
            )
    arrays = [f"{ARGUMENT_ARRAYS}/{file}" for file in encoder.arrays]
    for content in encoder.arrays.values():
        session.directory.take(BytesIO(content))
    return {"value": said, **({} if at is None else {"at": at}), **({"arrays": arrays} if arrays else {})}


def _refuse_reference(reference: Reference) -> Any:
    raise InvalidTaskError(
        f"what {reference.task_id} gives is no dependency of the task: pass run.value({reference.task_id!r})"
    )


def _place(session: Session, task: Task, call: Call, name: str) -> int | None:
    """Return at which place an argument stands; None where it is given by its name.

    Raises
    ------
    InvalidTaskError
        The function has no such parameter.
    """
    from matterstack.functions.parameters import parameters_of

    known = parameters_of(session.program(str(call.program)).text, call.function)
    by_name = frozenset(call.arguments["kwargs"])  # with what has a default, as it was planned
    args = call.arguments["args"]
    if known is not None and name in known.by_position[: len(args)]:
        return known.by_position.index(name)
    is_known = name in by_name if known is None else known.any_name or name in known.by_name
    if not is_known:
        names = sorted(by_name if known is None else {*known.by_position, *known.by_name})
        raise InvalidTaskError(
            f"task {task.task_id!r}: {call.function} has no argument {name!r}{did_you_mean(name, names)}; it has: "
            f"{', '.join(names)}",
            task_id=task.task_id,
        )
    return None


def _check(session: Session, row: TaskRow, spec: str) -> None:
    """Check a task as it will be carried out by the same rules as one that is planned."""
    task = dataclasses.replace(Task.from_json({"task_id": row.task_id, **json.loads(spec)}))
    operator = session.operators.get(row.operator)
    if operator is not None:
        check_by_operator(task, operator)
    if task.resources.named:
        WorkspaceLimits(session.directory).check(task)
