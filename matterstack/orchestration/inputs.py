"""Inputs of an attempt: the results of the tasks before, its parameters, and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence

from matterstack.core.attempts import Attempt
from matterstack.core.snapshot import Upstream
from matterstack.core.task import FileSource, FromTask, StoredFile
from matterstack.errors import AttemptFailedError
from matterstack.files import copy_inside, is_machine_trouble, write_new
from matterstack.orchestration.session import Session


def place_inputs(session: Session, attempt: Attempt, upstream: Sequence[Upstream]) -> None:
    """Write inputs.json, parameters.json and the task's files into an attempt's directory, which nobody else sees yet.

    Raises
    ------
    AttemptFailedError, UnsafeFileError
        A file of another task is not there, or is no plain file.
    """
    iteration, operator = attempt.iteration, attempt.record.operator
    entries = []
    for task_id, status, attempts, data, its_operator in upstream:
        name = f"{iteration}.{task_id}.{attempts}"
        way = f"../{name}" if its_operator == operator else f"../../{its_operator}/{name}"
        if folder := session.results_folder(its_operator):
            way += f"/{folder}"
        where = f'"{way}"' if attempts else "null"
        # The data is JSON text already, and ids need no escaping.
        entries.append(f'"{task_id}":{{"status":"{status}","directory":{where},"data":{data or "{}"}}}')
    if entries:
        text = "{" + ",\n".join(entries) + "}\n"
        write_new(f"{attempt.parent}/{attempt.name}/inputs.json", text.encode())
    if attempt.task.parameters is not None:
        text = json.dumps(attempt.task.parameters, indent=1, ensure_ascii=False) + "\n"
        write_new(f"{attempt.parent}/{attempt.name}/parameters.json", text.encode())
    if attempt.task.files:
        _place_files(session, attempt, upstream)


def _place_files(session: Session, attempt: Attempt, upstream: Sequence[Upstream]) -> None:
    places = {
        before.task_id: session.directory.attempt(before.operator, attempt.iteration, before.task_id, before.attempts)
        / session.results_folder(before.operator)
        for before in upstream
    }
    for relative, content in attempt.task.files.items():
        target = attempt.directory / relative
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            match content:
                case str():
                    target.write_text(content, encoding="utf-8")
                case bytes():
                    target.write_bytes(content)
                case FromTask(task_id, path):
                    copy_inside(places[task_id], path, target)
                case StoredFile(sha256):
                    session.directory.place_stored(sha256, target)
        except OSError as error:
            if is_machine_trouble(error):
                raise
            raise AttemptFailedError(_cannot_be_placed(relative, content, error)) from None


def _cannot_be_placed(relative: str, content: FileSource, error: OSError) -> str:
    """Return whose fault it is that a file of a task cannot be placed."""
    why = error.strerror
    match content, error:
        case FromTask(task_id, path), FileNotFoundError():
            lost = f"or it was lost since: run.retry({task_id!r}) does it again"
            return f"{task_id} did not leave the file {path}, {lost}"
        case FromTask(task_id, path), _:
            return f"its file {relative} cannot be placed: {path} of {task_id}: {why}"
        case StoredFile(sha256), FileNotFoundError():
            return f"its file {relative} cannot be placed: the run's files/{sha256} is not there any more"
    return f"its file {relative} cannot be placed: {why}"
