"""Inputs of an attempt: the results of the tasks before, its parameters, and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence

from matterstack.core.attempts import Attempt
from matterstack.core.snapshot import Upstream
from matterstack.core.task import FromTask, StoredFile
from matterstack.errors import AttemptFailedError
from matterstack.files import copy_inside, write_new
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
        target.parent.mkdir(parents=True, exist_ok=True)
        match content:
            case str():
                target.write_text(content, encoding="utf-8")
            case bytes():
                target.write_bytes(content)
            case FromTask(task_id, path):
                try:
                    copy_inside(places[task_id], path, target)
                except FileNotFoundError:
                    raise AttemptFailedError(f"{task_id} did not leave the file {path}") from None
            case StoredFile(sha256):
                session.directory.place_stored(sha256, target)
