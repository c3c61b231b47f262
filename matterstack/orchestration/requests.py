"""Requests that wait for an answer: whose, since when, where, and why the last one was refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack.core.attempts import LiveAttempt
from matterstack.core.schemas import is_costly
from matterstack.core.snapshot import RunRecord
from matterstack.core.states import TERMINAL_TASK, AttemptStatus
from matterstack.core.strict_json import dump_json
from matterstack.core.text import format_time, neutral
from matterstack.errors import (
    AnswerConflictError,
    InvalidJsonError,
    RunStatusError,
    UnknownTaskError,
    UnsafeFileError,
)
from matterstack.files import needing_disk
from matterstack.operators.requests.check_apart import NotYet, Patience
from matterstack.operators.requests.request_directory import RequestDirectory
from matterstack.orchestration import failures
from matterstack.orchestration.failures import asking
from matterstack.orchestration.naming import find_named
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from matterstack.storage.rows import TaskRow

_CHECK_S = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """One thing that waits for an answer.

    Attributes
    ----------
    workspace, run_id : str
        The run it belongs to.
    iteration : int
    task_id : str
    attempt : int
    operator : str
        Name of the operator that asks.
    assignee : str or None
        Whom it is for.
    since : float
        Seconds since the Unix epoch.
    instructions : str
        What to do.
    reason : str
        What it waits for, or why the last answer was refused.
    directory : pathlib.Path
        Where the request is.
    schema : mapping or None
        JSON Schema of the answer.
    operator_kind : str or None
        What config.json calls the operator: ``human`` takes answers from a cell.
    token : str
        Of the attempt.
    show : tuple of str
        What it shows, as paths in its folder ``show/``.
    """

    workspace: str
    run_id: str
    iteration: int
    task_id: str
    attempt: int
    operator: str
    assignee: str | None
    since: float
    instructions: str
    reason: str
    directory: Path
    schema: Any = None
    operator_kind: str | None = None
    token: str = ""
    show: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``<iteration>.<task_id>.<attempt>``, the name of its directory."""
        return f"{self.iteration}.{self.task_id}.{self.attempt}"


def waiting(store: StoreReader, directory: RunDirectory) -> list[Request]:
    """Return what waits for an answer in a run: not what was answered, and is taken up by the next tick."""
    with store.reading():
        run = store.run()
        live = store.live_attempts()
    found = []
    kinds: dict[str, str | None] = {}
    if any(attempt.status is AttemptStatus.WAITING for attempt in live):
        described = directory.read_config().get("operators", {})
        kinds = {name: operator and operator.get("kind") for name, operator in described.items()}
    for attempt in live:
        if attempt.status is not AttemptStatus.WAITING or attempt.task_status in TERMINAL_TASK:
            continue
        task = attempt.task_of()
        request = Request(
            run.workspace,
            run.run_id,
            attempt.iteration,
            attempt.task_id,
            attempt.attempt,
            attempt.operator,
            task.assignee,
            attempt.submitted_at,
            task.instructions or "",
            attempt.reason or "an answer",
            directory.attempt(attempt.operator, attempt.iteration, attempt.task_id, attempt.attempt),
            task.schema,
            kinds.get(attempt.operator),
            attempt.token,
            tuple(f"{task_id}/{path}" for task_id, path in task.shown),
        )
        if how_it_ended(request.directory, request.token) is None:
            found.append(request)
    return [*found, *(_about_failure(directory, run, row) for row in asking(store))]


def _about_failure(directory: RunDirectory, run: RunRecord, row: TaskRow) -> Request:
    return Request(
        run.workspace,
        run.run_id,
        row.iteration,
        row.task_id,
        row.attempt,
        row.operator,
        None,
        row.ended_at or run.created_at,
        failures.describe(directory, row),
        "a word on what to do: retry, retry with changes, skip, or fail",
        directory.attempt(row.operator, row.iteration, row.task_id, row.attempt),
        failures.SCHEMA,
        "human",
    )


def how_it_ended(directory: Path, token: str) -> str | None:
    """Return in words how a request has ended; None while it is open, and where its directory does not say so.

    Parameters
    ----------
    directory : pathlib.Path
        Of the request.
    token : str
        Of its attempt.
    """
    if not token:
        return None  # a failure that asks; what lies there is of the attempt itself
    try:
        verdict = RequestDirectory(directory, {}, token).verdict()
    except (OSError, UnsafeFileError):
        return None
    if verdict is None:
        return None
    word = "answered" if verdict.outcome == "accepted" else verdict.outcome
    who = f" by {verdict.who}" if verdict.who else ""
    why = f": {neutral(verdict.reason)}" if verdict.reason else ""
    return f"It was {word}{who}, {format_time(verdict.at)}{why}."


def check_answer(schema: Mapping[str, Any], answer: object) -> list[tuple[list[str | int], str]]:
    """Return path and words of all that is wrong with an answer, which is not given; see `is_slow`.

    Parameters
    ----------
    schema : mapping
        JSON Schema of the answer.
    answer : object
        As somebody has filled it in.
    """
    try:
        raw = dump_json(answer, "the answer", "answer").encode()
    except InvalidJsonError as error:
        return [([], str(error))]
    reading = Patience(_CHECK_S).read("response.json", raw, schema)
    if isinstance(reading, NotYet):
        return [([], f"{reading.value}: try again")]
    return [(list(violation.path), violation.text) for violation in reading.violations]


def is_slow(schema: Mapping[str, Any], answer: object) -> bool:
    """Return whether `check_answer` may take longer than an event loop can wait: many seconds, within bounds."""
    try:
        return is_costly(schema, len(json.dumps(answer)))
    except (TypeError, ValueError, RecursionError):
        return False


def find_waiting(session: Session, task_id: str, iteration: int | None, attempt: int | None) -> LiveAttempt:
    """Return the attempt of a task that waits for an answer.

    Parameters
    ----------
    session : Session
    task_id : str
        Or ``<iteration>.<task_id>``.
    iteration : int or None
        None for the current one.
    attempt : int or None
        None for whichever waits.

    Raises
    ------
    UnknownTaskError
        No such task or attempt.
    AnswerConflictError
        That attempt is over.
    RunStatusError
        It waits for nothing.
    """
    store = session.reader
    wanted, task_id = find_named(store, task_id, iteration)
    found = store.find_task(wanted, task_id)
    assert found is not None
    for live in store.live_attempts():
        asked = attempt in (None, live.attempt)
        waits = live.status is AttemptStatus.WAITING and live.task_status not in TERMINAL_TASK
        if live.task == found[0] and asked and waits:
            return live
    if iteration is None and attempt is None:
        raise RunStatusError(f"{task_id} is {found[1]} and waits for no answer now; run.inbox() lists what does")
    tried = {row.attempt: row.status for row in store.attempts_of_task(found[0])}
    if attempt is not None and attempt not in tried:
        raise UnknownTaskError(f"{wanted}.{task_id} has no attempt {attempt}; run.attempts lists them", task_id=task_id)
    name, now = f"{wanted}.{task_id}", found[1] if attempt is None else tried[attempt]
    raise AnswerConflictError(
        f"the request {name if attempt is None else f'{name}.{attempt}'} waits no more, it is {now}: your answer "
        "changed nothing; run.inbox() lists what waits now"
    )


def respond(
    session: Session, task_id: str, answer: object, *, iteration: int | None = None, attempt: int | None = None
) -> None:
    """Answer a request of the run; the next tick takes the answer up.

    Raises
    ------
    UnknownTaskError, RunStatusError
        The task does not wait for an answer.
    AnswerRefusedError
        It violates the schema; nothing was changed.
    AnswerConflictError
        Somebody else was first, or the request that is named is over.
    RunNotFoundError
        The run's directory was moved or removed since it was opened.
    DiskError
        The disk is full, read-only or faulty: it may not have been kept.
    """
    session.require_place()
    row = session.reader.task(*find_named(session.reader, task_id, iteration))
    if row is not None and row.asks:
        failures.answer(session, row, answer, attempt)
        return
    live = find_waiting(session, task_id, iteration, attempt)
    operator = session.operators.get(live.operator)
    if operator is None:
        raise RunStatusError(
            f"the operator {live.operator!r} was not given to this process: open_run(path, "
            f"operators={{{live.operator!r}: ...}})"
        )
    asked = session.attempt(live)
    with needing_disk(
        f"the answer to {live.task_id} cannot be kept in {asked.directory}",
        "then look whether run.inbox() still lists it, and answer again",
    ):
        operator.answer(asked, answer)
