"""Next attempts of tasks: what they are made with that the plan says otherwise, by a word or by `Task.restart`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from matterstack.core.snapshot import ReadyTask
from matterstack.core.strict_json import to_text
from matterstack.core.task import LAST, FromTask, file_to_json
from matterstack.errors import MatterstackError, UnsafeFileError
from matterstack.files import open_inside
from matterstack.orchestration.session import Session

if TYPE_CHECKING:
    from matterstack.storage.rows import TaskRow


def made_with(session: Session, task: ReadyTask, iteration: int) -> str | None:
    """Return what the next attempt of a task is made with that its specification says otherwise, as JSON text.

    What makes no sense is returned as it is: the attempt fails of it, and no other.
    """
    try:
        return _made_with(session, task, iteration)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, MatterstackError):
        return task.changes or "{"


def _made_with(session: Session, task: ReadyTask, iteration: int) -> str | None:
    restart = json.loads(task.spec).get("restart") if task.attempts and '"restart":' in task.spec else None
    if task.changes is None and not restart:
        return None
    row = _row(session, iteration, task.task_id)
    changes = pinned(session, row, json.loads(task.changes or "{}"))
    files = changes.get("files", {})
    # A person's word on the same file counts for the first attempt after it.
    since_the_word = range(task.attempts, task.attempts - task.failures, -1)
    for path, left in (restart or {}).items():
        attempt = last_that_left(session, row, left, since_the_word if path in files else range(task.attempts, 0, -1))
        if attempt is not None:
            source = FromTask(row.task_id, left, iteration=row.iteration, attempt=attempt)
            files = {**files, path: file_to_json(source)}
    changes |= {"files": files} if files else {}
    return to_text(changes) if changes else None


def _row(session: Session, iteration: int, task_id: str) -> TaskRow:
    row = session.reader.task(iteration, task_id)
    assert row is not None
    return row


def pinned(session: Session, row: TaskRow, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes with the number of the attempt in place of "the last one"."""
    files = {
        path: file_to_json(pin(session, row, source["path"]))
        if isinstance(source, dict) and source.get("attempt") == LAST
        else source
        for path, source in changes.get("files", {}).items()
    }
    return {**changes, **({"files": files} if files else {})}


def pin(session: Session, row: TaskRow, path: str) -> FromTask:
    """Return a file of the last attempt of a task that left it; of the last one, which then fails, where none did."""
    attempt = last_that_left(session, row, path, range(row.attempt, 0, -1)) or row.attempt
    return FromTask(row.task_id, path, iteration=row.iteration, attempt=attempt)


def last_that_left(session: Session, row: TaskRow, path: str, attempts: Iterable[int]) -> int | None:
    """Return the first of some attempts of a task that left a file which is not empty; None where none has."""
    folder = session.results_folder(row.operator)
    for attempt in attempts:
        place = session.directory.attempt(row.operator, row.iteration, row.task_id, attempt) / folder
        try:
            descriptor = open_inside(place, path)
        except (OSError, UnsafeFileError):
            continue
        try:
            if os.fstat(descriptor).st_size > 0:
                return attempt
        finally:
            os.close(descriptor)
    return None
