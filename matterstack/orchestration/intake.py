"""Intake: what a plan brings into the run, by content: files, programs, and what other runs left.

Files and values of earlier iterations stay where they are; the plan notes which attempt they are of.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Protocol, cast

from matterstack.core.calls import VALUE, Call, Program, Source
from matterstack.core.states import TaskStatus
from matterstack.core.task import FileSource, FromTask, StoredFile, Task
from matterstack.core.text import did_you_mean
from matterstack.errors import (
    InvalidConfigError,
    InvalidTaskError,
    RunNotFoundError,
    StoreError,
    UnsafeFileError,
)
from matterstack.files import open_inside
from matterstack.operators import rebuild
from matterstack.orchestration.call_inputs import arrays_of_value
from matterstack.orchestration.capture import capture
from matterstack.orchestration.cleaning import why_gone
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import TaskRow
from matterstack.storage.run_directory import RunDirectory, open_outside


class Keeper(Protocol):
    """Where what comes from outside is kept by its SHA-256: `RunDirectory`, and `KeepsNothing`."""

    def take_file(self, source: PurePath) -> str:
        """Keep a file."""

    def take(self, content: BinaryIO) -> str:
        """Keep what can be read here."""

    def keep(self, content: bytes) -> str:
        """Keep a content that many tasks may share."""


class KeepsNothing:
    """The keeper of a plan that is only looked at: it sees whether all is there, and keeps nothing."""

    def take_file(self, source: PurePath) -> str:
        """Look whether a file is there."""
        with open_outside(source):
            return ""

    def take(self, content: BinaryIO) -> str:
        """Keep nothing."""
        return ""

    def keep(self, content: bytes) -> str:
        """Keep nothing."""
        return ""


class Intake:
    """What one plan brings into a run.

    Parameters
    ----------
    keeper : RunDirectory or KeepsNothing
        Where it is kept.
    reader : StoreReader, optional
        Knows the iterations before; None before the first.
    """

    def __init__(self, keeper: Keeper, reader: StoreReader | None) -> None:
        self._keeper = keeper
        self._reader = reader
        self._programs: dict[int, tuple[Program, str]] = {}
        self._others: dict[str, _OtherRun] = {}

    def specification(self, task: Task, is_call: Callable[[str], bool]) -> dict[str, Any]:
        """Return what the store keeps of a task, with all that it takes from outside in the run.

        Parameters
        ----------
        task : Task
        is_call : callable
            Whether the task of an id, of the same workflow, calls a function.

        Raises
        ------
        InvalidTaskError
            Something cannot be taken; naming it.
        """
        if task.files:
            task = dataclasses.replace(
                task, files={path: self.file(task, path, source) for path, source in task.files.items()}
            )
        if task.depends:
            task = dataclasses.replace(
                task, depends=[_absolute(task, one) for one in cast("Sequence[str | PurePath]", task.depends)]
            )
        spec = task.to_json()
        if task.call is not None:
            spec["call"] = self._call(task, task.call, is_call).to_json()
        return spec

    def file(self, task: Task, path: str, source: FileSource) -> FileSource:
        """Return a file of a task as the run keeps it, with what it takes from outside in the run.

        Raises
        ------
        InvalidTaskError
            It cannot be taken.
        """
        match source:
            case str() if _names_a_file(source):
                raise InvalidTaskError(
                    f"task {task.task_id!r}: files[{path!r}] would hold the text {source!r}, and there is a file of "
                    f"that name. For the file: files={{{path!r}: pathlib.Path({source!r})}}; for the text: bytes, or a "
                    "newline at its end",
                    task_id=task.task_id,
                )
            case PurePath():
                try:
                    return StoredFile(self._keeper.take_file(source))
                except InvalidTaskError as error:
                    raise InvalidTaskError(f"task {task.task_id!r}: {error}", task_id=task.task_id) from error
            case FromTask() if source.run is not None:
                other, row, attempt = self._elsewhere(
                    task, source.run, source.task_id, source.iteration, source.attempt
                )
                sha256 = self._take(task, other, row, attempt, source.path)
                return StoredFile(sha256, f"{other.origin(row, attempt)}: {source.path}")
            case FromTask() if source.iteration is not None:
                row, attempt = self._earlier(task, source.task_id, source.iteration, source.attempt)
                return dataclasses.replace(source, attempt=attempt)
        return source

    # -- calls ----------------------------------------------------------------------------

    def _call(self, task: Task, call: Call, is_call: Callable[[str], bool]) -> Call:
        assert isinstance(call.program, Program)
        assert isinstance(call.arrays, Mapping)
        for content in call.arrays.values():
            self._keeper.keep(content)
        return dataclasses.replace(
            call,
            program=self._program(call.program),
            arrays=tuple(call.arrays),
            sources=tuple(self._source(task, source, is_call) for source in call.sources),
        )

    def _program(self, program: Program) -> str:
        known = self._programs.get(id(program))
        if known is None:
            files = {path: self._keeper.keep(content) for path, content in sorted(program.files.items())}
            listing = {"function": program.function, "packages": list(program.packages), "files": files}
            known = (program, self._keeper.keep(json.dumps(listing, indent=1, ensure_ascii=False).encode() + b"\n"))
            self._programs[id(program)] = known
        return known[1]

    def _source(self, task: Task, source: Source, is_call: Callable[[str], bool]) -> Source:
        if source.run is not None:
            other, row, attempt = self._elsewhere(task, source.run, source.task_id, source.iteration, None)
            return self._taken(task, source, other, row, attempt)
        if source.iteration is not None:
            row, attempt = self._earlier(task, source.task_id, source.iteration, None)
            assert self._reader is not None
            called = "call" in json.loads(self._reader.specification(row.id))
            return dataclasses.replace(source, attempt=attempt, is_data=None if called else True)
        return source if is_call(source.task_id) else dataclasses.replace(source, is_data=True)

    def _taken(self, task: Task, source: Source, other: _OtherRun, row: TaskRow, attempt: int) -> Source:
        """Return a source whose value this run has now."""
        origin = other.origin(row, attempt)
        known = dataclasses.replace(source, run=PurePath(str(source.run)).name, origin=origin)
        if "call" not in json.loads(other.reader.specification(row.id)):
            (found,) = [one for one in other.reader.attempts_of_task(row.id) if one.attempt == attempt]
            return dataclasses.replace(known, is_data=True, data=json.loads(found.data or "{}"))
        place = other.place(row, attempt)
        return dataclasses.replace(
            known,
            files={path: self._take(task, other, row, attempt, path) for path in (VALUE, *arrays_of_value(place))},
        )

    # -- other iterations, other runs ------------------------------------------------------

    def _earlier(self, task: Task, name: str, iteration: int, attempt: int | None) -> tuple[TaskRow, int]:
        if self._reader is None:
            raise InvalidTaskError(
                f"task {task.task_id!r} takes something of {name!r} of iteration {iteration}, and this is the first",
                task_id=task.task_id,
            )
        return _find(self._reader, task, "", name, iteration, attempt)

    def _elsewhere(
        self, task: Task, run: str, name: str, iteration: int | None, attempt: int | None
    ) -> tuple[_OtherRun, TaskRow, int]:
        if run not in self._others:
            try:
                self._others[run] = _OtherRun(RunDirectory.at(run))
            except (RunNotFoundError, StoreError) as error:
                raise InvalidTaskError(f"task {task.task_id!r}: {error}", task_id=task.task_id) from None
        other = self._others[run]
        if iteration is None:
            iteration = other.last_with(name)
        return other, *_find(other.reader, task, f" of {other.run_id}", name, iteration, attempt)

    def _take(self, task: Task, other: _OtherRun, row: TaskRow, attempt: int, path: str) -> str:
        origin = other.origin(row, attempt)
        try:
            with open(open_inside(other.place(row, attempt), path), "rb") as content:
                return self._keeper.take(content)
        except FileNotFoundError:
            said = (
                f"has no file {path} any more: {gone}"
                if (gone := other.why_gone(row, attempt, path))
                else f"has left no file {path}"
            )
            raise InvalidTaskError(f"task {task.task_id!r}: {origin} {said}", task_id=task.task_id) from None
        except UnsafeFileError as error:
            raise InvalidTaskError(f"task {task.task_id!r}: {origin}: {error}", task_id=task.task_id) from None


class _OtherRun:
    """Another run, that is looked at and not changed."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self.reader = StoreReader(directory.state)
        self.run_id = self.reader.run().run_id
        try:
            self.operators = self.directory.read_config().get("operators", {})
        except InvalidConfigError:
            self.operators = {}

    def last_with(self, name: str) -> int:
        """Return the last iteration that has a task of this name; the last of all where none has."""
        last = self.reader.run().iteration
        return next((n for n in range(last, -1, -1) if self.reader.find_task(n, name) is not None), last)

    def place(self, row: TaskRow, attempt: int) -> Path:
        """Return where an attempt left its results."""
        folder = ""
        with capture():  # config.json may say anything
            said = self.operators[row.operator]
            folder = rebuild(said["kind"], said["settings"] or {}).traits.results_folder
        home = self.directory.attempt(row.operator, row.iteration, row.task_id, attempt)
        if not os.path.lexists(home):
            from matterstack.storage.archives import home_of

            home = home_of(self.directory, self.reader, row.operator, row.iteration, row.task_id, attempt)
        return home / folder

    def why_gone(self, row: TaskRow, attempt: int, path: str) -> str | None:
        """Return why a file of an attempt is not there; None where nobody removed it."""
        return why_gone(self.reader, row.iteration, row.task_id, attempt, path)

    def origin(self, row: TaskRow, attempt: int) -> str:
        return f"{self.run_id} {row.iteration}.{row.task_id}.{attempt}"


def _find(
    reader: StoreReader, task: Task, where: str, name: str, iteration: int, attempt: int | None
) -> tuple[TaskRow, int]:
    """Return a task, and which of its attempts is meant: the one that completed it, if none is named."""
    row = reader.task(iteration, name)
    if row is None:
        hint = did_you_mean(name, reader.task_ids(iteration))
        raise InvalidTaskError(
            f"task {task.task_id!r}: there is no task {name!r} in iteration {iteration}{where}{hint}",
            task_id=task.task_id,
        )
    if attempt is None:
        if row.status != TaskStatus.COMPLETED:
            raise InvalidTaskError(
                f"task {task.task_id!r}: {iteration}.{name}{where} is {row.status}, and only what is COMPLETED can be "
                "used",
                task_id=task.task_id,
            )
        return row, row.attempt
    if not 1 <= attempt <= row.attempt:
        raise InvalidTaskError(
            f"task {task.task_id!r}: {iteration}.{name}{where} has {row.attempt} attempts, none of number {attempt}",
            task_id=task.task_id,
        )
    return row, attempt


def _absolute(task: Task, one: str | PurePath) -> str | PurePath:
    """Return what a task depends on, a file by its whole path."""
    if isinstance(one, str):
        if os.path.isfile(one):
            raise InvalidTaskError(
                f"task {task.task_id!r}: depends holds the text {one!r}, and there is a file of that name; for the "
                f"file: pathlib.Path({one!r})",
                task_id=task.task_id,
            )
        return one
    if not os.path.isfile(one):
        raise InvalidTaskError(f"task {task.task_id!r}: depends: {one} is no file", task_id=task.task_id)
    return Path(one).absolute()


def _names_a_file(text: str) -> bool:
    """Return whether a text is the name of a file that is there."""
    return 0 < len(text) < 256 and text.isprintable() and os.path.isfile(text)
