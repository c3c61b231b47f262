"""Failures that ask: a task with ``on_failure="ask"`` that failed for good waits for a person's word."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matterstack.core.changes import Change, TaskChange
from matterstack.core.schemas import violations
from matterstack.core.states import TaskEvent, TaskStatus
from matterstack.core.strict_json import dump_json
from matterstack.core.task import LAST, FromTask
from matterstack.errors import AnswerConflictError, AnswerRefusedError, UnsafeFileError
from matterstack.files import list_inside, read_tail
from matterstack.orchestration import actions
from matterstack.orchestration.changes import apply_with_skips
from matterstack.orchestration.mending import Mend
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from matterstack.storage.rows import TaskRow

_TAIL_BYTES, _MOST_LINES, _MOST_FILES = 4000, 20, 40
_NUMBERS = {"walltime_s": "number", "memory_gib": "number", "nodes": "integer", "tasks": "integer"}
_CHANGES = ("files", "arguments", "resources", "command", "env")
#: What may be answered.
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["decision"],
    "additionalProperties": False,
    "properties": {
        "decision": {
            "enum": ["retry", "skip", "fail"],
            "description": "retry, with the changes below if there are any; skip it and what waits for it; let it fail",
        },
        "files": {
            "type": "object",
            "description": 'texts by file name; {"POSCAR": {"left": "CONTCAR"}} is what the last attempt left',
            "additionalProperties": {
                "anyOf": [
                    {"type": ["string", "null"]},
                    {
                        "type": "object",
                        "required": ["left"],
                        "additionalProperties": False,
                        "properties": {"left": {"type": "string"}},
                    },
                ]
            },
        },
        "arguments": {"type": "object", "description": "of the call of a function, by name"},
        "resources": {"type": "object", "properties": {name: {"type": kind} for name, kind in _NUMBERS.items()}},
        "command": {"type": "string", "minLength": 1},
        "env": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
        "comment": {"type": "string"},
    },
    "dependentSchemas": {name: {"properties": {"decision": {"const": "retry"}}} for name in _CHANGES},
}


def asking(store: StoreReader) -> list[TaskRow]:
    """Return the tasks of the current iteration that ask what to do."""
    iteration = store.run().iteration
    counts = store.counts(iteration)
    return [row for row in store.kept_back(iteration) if row.asks] if counts.pending > counts.ready else []


def describe(directory: RunDirectory, row: TaskRow) -> str:
    """Return, as markdown, what failed: the reason, the last lines, and which files there are."""
    place = directory.attempt(row.operator, row.iteration, row.task_id, row.attempt)
    relative = place.relative_to(directory.path).as_posix()
    parts = [f"**{row.task_id} failed** in attempt {row.attempt}:", _block((row.reason or "").strip())]
    for name in ("stderr.txt", "stdout.txt"):
        lines = read_tail(directory.path, f"{relative}/{name}", _TAIL_BYTES).strip().splitlines()[-_MOST_LINES:]
        if lines:
            parts += [f"The end of {name}:", _block("\n".join(lines))]
    try:
        names = [name for name, _ in list_inside(directory.path, relative) if not name.startswith(".")]
    except (OSError, UnsafeFileError):
        names = []
    if names:
        more = f", and {len(names) - _MOST_FILES} more" if len(names) > _MOST_FILES else ""
        parts += ["Its files:", _block(", ".join(names[:_MOST_FILES]) + more)]
    return "\n\n".join(parts)


def _block(text: str) -> str:
    """Return a text as code of markdown, in which nothing means anything."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def answer(session: Session, row: TaskRow, said: object, attempt: int | None) -> None:
    """Do what a person says is to be done about a task that failed.

    Raises
    ------
    AnswerRefusedError
        It is none of the answers there are; nothing was changed.
    AnswerConflictError
        Somebody was first.
    InvalidTaskError
        The task cannot be changed so; nothing was changed.
    """
    wrong = violations(SCHEMA, json.loads(dump_json(said, "the answer", "answer")))
    if wrong:
        listed = "\n- ".join(wrong)
        raise AnswerRefusedError(f"the answer was refused, and nothing was changed:\n- {listed}", violations=wrong)
    assert isinstance(said, dict)
    if attempt not in (None, row.attempt):
        raise _too_late(row)
    if said["decision"] == "retry":
        files = {name: _file(row, source) for name, source in said["files"].items()} if "files" in said else None
        mend = Mend(files, said.get("env"), said.get("arguments"), said.get("resources"), said.get("command"))
        comment = said.get("comment")
        actions.retry(session, [row.task_id], row.iteration, mend, only=row.attempt, comment=comment)
        return
    why = f"{said['decision']}: a person's word" + (f": {said['comment']}" if said.get("comment") else "")
    event = TaskEvent.SKIP if said["decision"] == "skip" else TaskEvent.FAIL
    with session.locked() as store, store.act():
        now = store.task(row.iteration, row.task_id)
        if now is None or not now.asks or now.attempt != row.attempt:
            raise _too_late(row)
        changes: Sequence[Change] = [TaskChange(row.id, TaskStatus.PENDING, event, time.time(), f"{row.reason}; {why}")]
        apply_with_skips(store, changes, row.iteration)


def _file(row: TaskRow, source: Any) -> Any:
    return FromTask(row.task_id, source["left"], attempt=LAST) if isinstance(source, dict) else source


def _too_late(row: TaskRow) -> AnswerConflictError:
    return AnswerConflictError(
        f"{row.iteration}.{row.task_id}.{row.attempt} waits for no word any more: your answer changed nothing; "
        "run.inbox() lists what waits now"
    )
