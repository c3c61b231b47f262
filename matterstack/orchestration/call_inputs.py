"""Inputs of a call: its program, its arguments, and the values of the tasks before."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matterstack.core.attempts import Attempt
from matterstack.core.calls import ARGUMENT_ARRAYS, VALUE, VALUE_ARRAYS, VALUES, Call, Source
from matterstack.core.snapshot import Upstream
from matterstack.core.states import TaskStatus
from matterstack.errors import AttemptFailedError, UnsafeFileError
from matterstack.files import copy_inside, is_machine_trouble, list_inside, write_new
from matterstack.orchestration.session import Session

_ARRAY = re.compile(r"[0-9a-f]{64}\.npy\Z")


def arrays_of_value(place: Path) -> list[str]:
    """Return the paths of the large arrays that belong to the value a call left in a directory."""
    try:
        found = list_inside(place, VALUE_ARRAYS)
    except FileNotFoundError:
        return []
    return [f"{VALUE_ARRAYS}/{name}" for name, size in found if _ARRAY.match(name) and size is not None]


def as_arguments(call: Call) -> bytes:
    """Return what args.json says; what is checked of a run compares that, so other bytes want another format."""
    return json.dumps({"format": 1, **call.arguments}, ensure_ascii=False).encode("utf-8", "surrogatepass")


def place_call(session: Session, attempt: Attempt, call: Call, upstream: Sequence[Upstream]) -> None:
    """Write what a call needs into an attempt's directory, which nobody else sees yet.

    Raises
    ------
    AttemptFailedError
        A value that it takes is not there, or the run has lost a part of it.
    """
    home = f"{attempt.parent}/{attempt.name}"
    try:
        session.program(str(call.program)).place(home)
        for path in call.arrays:
            os.makedirs(f"{home}/{ARGUMENT_ARRAYS}", exist_ok=True)
            if not os.path.lexists(f"{home}/{path}"):
                sha256 = path.rpartition("/")[2].removesuffix(".npy")
                session.directory.place_stored(sha256, Path(f"{home}/{path}"))
    except OSError as error:
        if is_machine_trouble(error):
            raise
        why = f"a file of the function {call.function} cannot be placed: {error.filename}: {error.strerror}"
        raise AttemptFailedError(why) from None
    write_new(f"{home}/args.json", as_arguments(call))
    befores = {before.task_id: before for before in upstream}
    for source in call.sources:
        if not source.is_data:
            _place_value(session, attempt, source, befores)


def _place_value(session: Session, attempt: Attempt, source: Source, befores: Mapping[str, Upstream]) -> None:
    """Place the value of another call; none where that did not complete: its place is None then."""
    home = attempt.directory / VALUES / source.label
    again = f". run.retry({source.task_id!r}) makes it again" if source.iteration is None else ""
    try:
        if source.files is not None:
            again = "; it was taken from another run"
            for path, sha256 in source.files.items():
                (home / path).parent.mkdir(parents=True, exist_ok=True)
                session.directory.place_stored(sha256, home / path)
        elif (place := _place_of(session, attempt, source, befores)) is not None:
            for path in (VALUE, *arrays_of_value(place)):
                (home / path).parent.mkdir(parents=True, exist_ok=True)
                copy_inside(place, path, home / path)
    except UnsafeFileError as error:
        raise AttemptFailedError(f"the value of {source.label} cannot be used: {error}") from None
    except OSError as error:
        if is_machine_trouble(error):
            raise
        raise AttemptFailedError(f"the value of {source.label} cannot be used: {error.strerror}{again}") from None


def _place_of(session: Session, attempt: Attempt, source: Source, befores: Mapping[str, Upstream]) -> Path | None:
    """Return where the value of another call of this run is; None where that did not complete."""
    if source.iteration is None:
        before = befores[source.task_id]
        if before.status != TaskStatus.COMPLETED:
            return None
        iteration, operator, number = attempt.iteration, before.operator, before.attempts
    else:
        row = session.reader.task(source.iteration, source.task_id)
        assert row is not None
        assert source.attempt is not None
        iteration, operator, number = source.iteration, row.operator, source.attempt
    home = session.home(operator, iteration, source.task_id, number)
    return home / session.results_folder(operator)


def data_of_others(session: Session, call: Call) -> dict[str, Any]:
    """Return, as ``inputs.json`` tells it, the data of tasks that are of other iterations or runs, and no calls."""
    found: dict[str, Any] = {}
    for source in call.sources:
        if not source.is_data or (source.iteration is None and source.run is None):
            continue
        data = source.data
        if source.run is None:
            assert source.iteration is not None
            row = session.reader.task(source.iteration, source.task_id)
            assert row is not None
            attempts = session.reader.attempts_of_task(row.id)
            data = json.loads(next((one.data for one in attempts if one.attempt == source.attempt), None) or "{}")
        found[source.label] = {"status": str(TaskStatus.COMPLETED), "directory": None, "data": data}
    return found
