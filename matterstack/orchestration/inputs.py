"""Inputs of an attempt: the results of the tasks before, its parameters, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matterstack.core.attempt_files import NOT_SHOWN, SHOWN
from matterstack.core.attempts import Attempt
from matterstack.core.snapshot import Upstream
from matterstack.core.strict_json import to_text
from matterstack.core.task import RESULT, FileSource, FromTask, StoredFile
from matterstack.core.text import neutral
from matterstack.errors import AttemptFailedError, UnsafeFileError
from matterstack.files import check_names, copy_inside, is_machine_trouble, read_inside, write_new
from matterstack.orchestration.call_inputs import data_of_others, place_call
from matterstack.orchestration.cleaning import why_gone
from matterstack.orchestration.session import Session

#: Of one file that is shown, and of all.
_SHOWN_BYTES, _ALL_SHOWN_BYTES = 20_000_000, 100_000_000


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
    if attempt.task.call is not None:
        others = data_of_others(session, attempt.task.call)
        entries += [f"{json.dumps(label)}:{to_text(said)}" for label, said in others.items()]
    if entries:
        text = "{" + ",\n".join(entries) + "}\n"
        write_new(f"{attempt.parent}/{attempt.name}/inputs.json", text.encode())
    if attempt.task.parameters is not None:
        write_new(f"{attempt.parent}/{attempt.name}/parameters.json", as_parameters(attempt.task.parameters))
    if attempt.task.call is not None:
        place_call(session, attempt, attempt.task.call, upstream)
    if attempt.task.files:
        _place_files(session, attempt, upstream)
    if attempt.task.show:
        _place_shown(session, attempt, upstream)


def as_parameters(parameters: Any) -> bytes:
    """Return what parameters.json says."""
    return (json.dumps(parameters, indent=1, ensure_ascii=False) + "\n").encode()


def _places(session: Session, attempt: Attempt, upstream: Sequence[Upstream]) -> Mapping[str, Path]:
    """Return where the tasks before left their results."""
    return {
        before.task_id: session.directory.attempt(before.operator, attempt.iteration, before.task_id, before.attempts)
        / session.results_folder(before.operator)
        for before in upstream
    }


def _place_shown(session: Session, attempt: Attempt, upstream: Sequence[Upstream]) -> None:
    """Place what the request shows; what cannot be shown is told, and is no reason not to ask."""
    places = _places(session, attempt, upstream)
    befores = {before.task_id: before for before in upstream}
    home = attempt.directory / SHOWN
    home.mkdir()
    missing = []
    left = _ALL_SHOWN_BYTES
    for task_id, path in attempt.task.shown:
        try:
            content = _read_shown(befores[task_id], places[task_id], path)
        except OSError as error:
            if is_machine_trouble(error):
                raise
            missing.append(f"{task_id}/{path}: it cannot be read: {error.strerror}")
        except (AttemptFailedError, UnsafeFileError) as error:
            missing.append(f"{task_id}/{path}: {error}")
        else:
            if len(content) > left:
                missing.append(f"{task_id}/{path}: all that is shown has {_ALL_SHOWN_BYTES} bytes at most")
                continue
            left -= len(content)
            (home / task_id / path).parent.mkdir(parents=True, exist_ok=True)
            write_new(f"{home}/{task_id}/{path}", content)
    if missing:
        write_new(f"{home}/{NOT_SHOWN}", neutral("\n".join(missing) + "\n").encode())


def _read_shown(before: Upstream, place: Path, path: str) -> bytes:
    """Return a file that a task left, or its data."""
    if path == RESULT and before.data not in (None, "", "{}"):
        text = json.dumps(json.loads(before.data), indent=1, ensure_ascii=False) + "\n"
        content = text.encode("utf-8", "backslashreplace")
        if len(content) > _SHOWN_BYTES:
            raise UnsafeFileError(f"{path} holds {len(content)} bytes; {_SHOWN_BYTES} at most are read")
        return content
    try:
        return read_inside(place, path, _SHOWN_BYTES)
    except FileNotFoundError:
        how = "did not leave it" if before.attempts else "did not run"
        raise AttemptFailedError(f"{before.task_id} {how}: it is {before.status}") from None


def _place_files(session: Session, attempt: Attempt, upstream: Sequence[Upstream]) -> None:
    places = _places(session, attempt, upstream)
    for relative, content in attempt.task.files.items():
        target = attempt.directory / relative
        try:
            check_names(relative)
            target.parent.mkdir(parents=True, exist_ok=True)
            match content:
                case str():
                    target.write_bytes(content.encode())
                case bytes():
                    target.write_bytes(content)
                case FromTask(task_id, path):
                    copy_inside(places[task_id] if content.is_here else _earlier(session, content), path, target)
                case StoredFile(sha256):
                    session.directory.place_stored(sha256, target)
        except OSError as error:
            if is_machine_trouble(error):
                raise
            raise AttemptFailedError(_cannot_be_placed(session, attempt, relative, content, error)) from None


def _earlier(session: Session, source: FromTask) -> Path:
    """Return where an attempt of an earlier iteration left its results."""
    assert source.iteration is not None
    assert source.attempt is not None
    row = session.reader.task(source.iteration, source.task_id)
    assert row is not None
    place = session.home(row.operator, source.iteration, source.task_id, source.attempt)
    return place / session.results_folder(row.operator)


def _cannot_be_placed(session: Session, attempt: Attempt, relative: str, content: FileSource, error: OSError) -> str:
    """Return whose fault it is that a file of a task cannot be placed."""
    why = error.strerror
    match content, error:
        case FromTask(task_id, path) as source, FileNotFoundError():
            again = f"; run.retry({task_id!r}) makes it again" if source.is_here else ""
            if gone := _why_gone(session, attempt, source):
                return f"{task_id} has no file {path} any more: {gone}{again}"
            lost = f"or it was lost since: run.retry({task_id!r}) does it again"
            return f"{task_id} did not leave the file {path}, {lost}"
        case FromTask(task_id, path), _:
            return f"its file {relative} cannot be placed: {path} of {task_id}: {why}"
        case StoredFile(sha256), FileNotFoundError():
            return f"its file {relative} cannot be placed: the run's files/{sha256} is not there any more"
    return f"its file {relative} cannot be placed: {why}"


def _why_gone(session: Session, attempt: Attempt, source: FromTask) -> str | None:
    """Return why a file is not there that another task of the run left; None where nobody removed it."""
    iteration = attempt.iteration if source.iteration is None else source.iteration
    row = session.reader.task(iteration, source.task_id)
    if row is None:
        return None
    return why_gone(session.reader, iteration, source.task_id, source.attempt or row.attempt, source.path)
