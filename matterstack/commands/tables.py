"""Tables of a run: its tasks, attempts, journal and results, a row each."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matterstack.commands.command import DONE, Commands
from matterstack.commands.output import Table, moment, show, write
from matterstack.commands.places import add_run, run_path
from matterstack.core.states import AttemptStatus, TaskStatus
from matterstack.core.tags import tags_in
from matterstack.core.text import neutral

if TYPE_CHECKING:
    from enum import StrEnum

    from matterstack.storage.reader import StoreReader
    from matterstack.storage.rows import TaskRow

_TIMES = ("submitted_at", "started_at", "ended_at")
_TASKS = ("iteration", "task_id", "status", "operator", "attempt", "exit_code", "reason")
_ATTEMPTS = ("iteration", "task_id", "attempt", "status", "operator", *_TIMES[1:], "exit_code", "reason")
_EVENTS = ("seq", "at", "subject", "iteration", "task_id", "attempt", "event", "status", "reason", "who")
_RESULTS = ("iteration", "task_id", "attempt", "function")


def add(commands: Commands) -> None:
    """Add what lists what is in a run."""
    tasks = commands.add(
        "tasks",
        _tasks,
        "List the tasks of a run, of every iteration: where each stands, and its last attempt.",
        "matterstack tasks oxides/r1 --status FAILED",
    )
    add_run(tasks)
    _add_status(tasks, TaskStatus)
    attempts = commands.add(
        "attempts",
        _attempts,
        "List every attempt, in the order of submission.",
        "matterstack attempts oxides/r1 --json",
    )
    add_run(attempts)
    _add_status(attempts, AttemptStatus)
    add_run(
        commands.add(
            "events",
            _events,
            "List the journal: a row per transition of the run, a task or an attempt.",
            "matterstack events oxides/r1 | tail",
        )
    )
    results = commands.add(
        "results",
        _results,
        "List what completed tasks gave: a row each, a column for each key of its data.",
        "matterstack results oxides/r1 --function relax --csv > relaxed.csv",
    )
    add_run(results)
    results.add_argument("--function", metavar="NAME", help="only what calls of this function gave")
    results.add_argument("--csv", action="store_true", help="write comma-separated values; nested data as JSON")


def _add_status(parser: argparse.ArgumentParser, known: type[StrEnum]) -> None:
    said = "only those of this status, as FAILED"
    parser.add_argument("--status", metavar="STATUS", type=str.upper, choices=[str(one) for one in known], help=said)


def _store(given: argparse.Namespace) -> StoreReader:
    from matterstack.storage.reader import StoreReader
    from matterstack.storage.run_directory import RunDirectory

    return StoreReader(RunDirectory.at(run_path(given)).state)


def _timed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the store with its times as moments."""
    return {name: moment(value) if name == "at" or name in _TIMES else value for name, value in row.items()}


def _wanted(rows: list[dict[str, Any]], status: str | None) -> list[dict[str, Any]]:
    return [row for row in rows if status in (None, row["status"])]


def _tasks(given: argparse.Namespace) -> int:
    rows = []
    for task in _with_reasons(given, _store(given).tasks()):
        row = _timed(task._asdict())
        del row["id"]
        words = {"tags": list(tags_in(task.tags)), "not_before": moment(task.not_before)}
        rows.append(row | words | {"held": task.held is not None, "asks": task.asks})
    rows = _wanted(rows, given.status)
    show(given, {"tasks": rows}, Table(_TASKS, rows, "There is no such task.", ("exit_code", "attempt", "operator")))
    return DONE


def _with_reasons(given: argparse.Namespace, tasks: Sequence[TaskRow]) -> Sequence[TaskRow]:
    """Return tasks with the reasons why they wait for a limit, for which a run has to be opened; most are over."""
    if not any(task.status == "PENDING" for task in tasks):
        return tasks
    from matterstack.orchestration.examination import waiting_at
    from matterstack.orchestration.tables import with_reasons

    return with_reasons(tasks, waiting_at(run_path(given)))


def _attempts(given: argparse.Namespace) -> int:
    rows = []
    for attempt in _store(given).attempts():
        row = _timed(attempt._asdict())
        del row["data"]  # that is in the results
        rows.append(row | {"changes": json.loads(attempt.changes) if attempt.changes else None})
    rows = _wanted(rows, given.status)
    show(
        given,
        {"attempts": rows},
        Table(_ATTEMPTS, rows, "There is no such attempt.", ("exit_code", *_TIMES[1:], "operator")),
    )
    return DONE


def _events(given: argparse.Namespace) -> int:
    rows = [_timed(event._asdict()) for event in _store(given).events()]
    show(given, {"events": rows}, Table(_EVENTS, rows, spare=("subject", "seq", "iteration", "event", "attempt")))
    return DONE


def _results(given: argparse.Namespace) -> int:
    from matterstack.orchestration.tables import given_data, result_column

    document, rows = [], []
    for attempt, function, data in given_data(_store(given), given.function):
        row = dict(zip(_RESULTS, (attempt.iteration, attempt.task_id, attempt.attempt, function), strict=True))
        document.append(row | {"data": data})
        rows.append(row | {result_column(key): value for key, value in data.items()})
    columns = list(dict.fromkeys([*_RESULTS, *(name for row in rows for name in row)]))
    if given.csv and not given.json:
        _write_csv(columns, rows)
    else:
        whose = "task" if given.function is None else f"call of {given.function!r}"
        show(given, {"results": document}, Table(columns, rows, f"No {whose} has given anything yet.", _RESULTS[:1:-1]))
    return DONE


def _write_csv(columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Write values as they are, so that a program reads what was given; to a terminal as harmless text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = (row.get(name) for name in columns)
        writer.writerow([json.dumps(one) if isinstance(one, dict | list | bool) else one for one in values])
    write(neutral(text.getvalue()) if sys.stdout.isatty() else text.getvalue(), end="")
