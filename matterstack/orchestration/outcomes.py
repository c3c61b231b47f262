"""Outcomes: where a task left its files, and the value it gave."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matterstack.core.amended import amended
from matterstack.core.calls import VALUE, Call
from matterstack.core.identifiers import check_relative_path
from matterstack.core.results import TaskResult
from matterstack.core.snapshot import ResultRow
from matterstack.core.states import TERMINAL_TASK, AttemptStatus
from matterstack.errors import MissingFileError, UnknownTaskError, UnsafeFileError, ValueNotReadableError
from matterstack.files import open_inside
from matterstack.orchestration.cleaning import why_gone
from matterstack.orchestration.naming import find_latest
from matterstack.orchestration.parameters import parameters_of
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import AttemptRow


class Outcome(NamedTuple):
    """One attempt that left something.

    Attributes
    ----------
    session : Session
    row : AttemptRow
    call : Call or None
        Of a task that calls a function.
    """

    session: Session
    row: AttemptRow
    call: Call | None

    @property
    def directory(self) -> Path:
        """Its directory; that of one that was packed is unpacked now."""
        return self.session.home(self.row.operator, self.row.iteration, self.row.task_id, self.row.attempt)

    @property
    def place(self) -> Path:
        """Where its results are."""
        return self.directory / self.session.results_folder(self.row.operator)

    @property
    def label(self) -> str:
        """Its name, as `Run.attempts` calls it."""
        return f"{self.row.iteration}.{self.row.task_id}.{self.row.attempt}"


def find(session: Session, name: str, iteration: int | None, attempt: int | None, *, completed: bool) -> Outcome:
    """Return the attempt that is meant.

    Parameters
    ----------
    session : Session
    name : str
        A task, of the latest iteration that has it if none is said.
    iteration, attempt : int, optional
        By default the last attempt that is completed; where none is, and ``completed`` is false, the last one.
    completed : bool
        Whether an attempt that is not completed will not do.

    Raises
    ------
    UnknownTaskError
        There is no such task, or no such attempt.
    """
    reader = session.reader
    wanted, task_id = find_latest(reader, name, iteration)
    found = reader.find_task(wanted, task_id)
    assert found is not None
    rows = reader.attempts_of_task(found[0])
    if attempt is not None:
        chosen = next((row for row in rows if row.attempt == attempt), None)
    else:
        chosen = next((row for row in reversed(rows) if row.status == AttemptStatus.COMPLETED), None)
        if chosen is None and rows and not completed:
            chosen = rows[-1]
    label = f"{wanted}.{task_id}"
    if chosen is None or (completed and chosen.status != AttemptStatus.COMPLETED):
        stands = f"it is {found[1]}" if chosen is None else f"its attempt {chosen.attempt} is {chosen.status}"
        why = f"has no attempt {attempt}, of {len(rows)}" if attempt is not None and chosen is None else "has no value"
        if not completed and attempt is None:
            why = "has not begun"
        hint = "; iteration= says which one you mean" if iteration is None and wanted > 0 else ""
        if attempt is None:
            over = found[1] in TERMINAL_TASK
            hint += "; run.tasks has the reason" if over else "; run.explain() says what it waits for"
        raise UnknownTaskError(f"{label} {why}: {stands}{hint}", task_id=task_id)
    said = _called(reader, found[0])
    return Outcome(session, chosen, None if said is None else Call.from_json(said))


def _called(reader: StoreReader, task: int) -> dict[str, Any] | None:
    """Return what the store keeps of a task's call; None where it calls nothing, or makes no sense."""
    said = json.loads(reader.specification(task))
    called = said.get("call") if isinstance(said, dict) else None
    return called if isinstance(called, dict) else None


def value_of(session: Session, outcome: Outcome, *, raw: bool = False) -> Any:
    """Return what an attempt gave: of a call its value, of any other its data.

    Raises
    ------
    ValueNotReadableError
        It holds something that cannot be read here.
    """
    if outcome.call is None:
        return json.loads(outcome.row.data or "{}")
    place = outcome.place
    if not place.is_dir():
        row = outcome.row
        if gone := why_gone(session.reader, row.iteration, row.task_id, row.attempt, VALUE):
            raise ValueNotReadableError(f"{outcome.label} has no value any more: {gone}")
    return _read(session, place, str(outcome.call.program), raw=raw)


def _read(session: Session, place: Path, program: str, *, raw: bool) -> Any:
    # A tick, and most cells, read none.
    from matterstack.functions.definitions import stored_classes
    from matterstack.functions.values import read_value

    packages: tuple[str, ...] | None = None
    classes: Mapping[str, type] = {}
    if session.is_trusted():
        packages = session.program(program).packages
        if session.campaign is not None:
            classes = stored_classes(type(session.campaign))
    return read_value(place, trusted_packages=packages, classes=classes, raw=raw)


def task_results(session: Session, iteration: int, rows: Sequence[ResultRow]) -> dict[str, TaskResult]:
    """Return what tasks of an iteration gave, as campaigns see it, by their ids."""
    folders = {operator: session.results_folder(operator) for operator in {row.operator for row in rows}}
    left = LeftBehind(session, iteration)

    def directory(operator: str, name: str) -> Path:
        # One text, since there is one for each task.
        return Path(f"{session.directory.path}/operators/{operator}/{name}/{folders[operator]}")

    return {
        task_id: TaskResult(
            task_id,
            status,
            json.loads(data) if data and data != "{}" else {},
            directory(operator, f"{iteration}.{task_id}.{attempts}") if attempts else None,
            reason,
            left,
        )
        for task_id, status, operator, attempts, reason, data in rows
    }


class LeftBehind:
    """What tasks of an iteration left, for `TaskResult`.

    Parameters
    ----------
    session : Session
    iteration : int
    """

    def __init__(self, session: Session, iteration: int) -> None:
        self._session, self._iteration = session, iteration

    def value(self, result: TaskResult) -> Any:
        """Return the value that a task gave."""
        found = self._session.reader.find_task(self._iteration, result.task_id)
        assert found is not None
        called = _called(self._session.reader, found[0])
        if called is None or result.directory is None:
            return result.data
        return _read(self._session, result.directory, called["program"], raw=False)

    def parameters(self, result: TaskResult) -> dict[str, Any]:
        """Return what a task was done with."""
        reader = self._session.reader
        found = reader.find_task(self._iteration, result.task_id)
        assert found is not None
        return parameters_of(
            self._session, json.loads(amended(reader.specification(found[0]), reader.amendment(found[0])))
        )

    def file(self, result: TaskResult, path: str) -> Path:
        """Return where a file of a task is."""
        assert result.directory is not None
        row = self._session.reader.task(self._iteration, result.task_id)
        attempt = row.attempt if row else 0
        label = f"{self._iteration}.{result.task_id}"
        return file_in(self._session, result.directory, path, label, (self._iteration, result.task_id, attempt))


def file_of(session: Session, outcome: Outcome, path: str) -> Path:
    """Return where a file of an attempt is.

    Raises
    ------
    MissingFileError
        It did not leave such a file, or that was removed since.
    UnsafeFileError, UnsafePathError
        It is a link, or lies elsewhere.
    """
    which = (outcome.row.iteration, outcome.row.task_id, outcome.row.attempt)
    return file_in(session, outcome.place, path, outcome.label, which)


def file_in(session: Session, place: Path, path: str, label: str, which: tuple[int, str, int]) -> Path:
    """Return where a plain file below a place is; see `file_of`."""
    check_relative_path(path, "the file")
    try:
        os.close(open_inside(place, path))
    except FileNotFoundError:
        there = (
            sorted(entry.name for entry in os.scandir(place) if not entry.name.startswith("."))
            if place.is_dir()
            else []
        )
        if gone := why_gone(session.reader, *which, path):
            raise MissingFileError(f"{label} has no file {path} any more: {gone}", path=place / path) from None
        raise MissingFileError(
            f"{label} has left no file {path}; there is: {', '.join(there[:20]) or 'nothing'}", path=place / path
        ) from None
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{label}: {error}") from None
    return place / path
