"""Finding over workspaces: tasks by what they gave, and who made or used a file."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack.commands.command import DONE, FAILED, Commands
from matterstack.commands.output import Table, show
from matterstack.commands.places import add_workspace, workspace_place
from matterstack.errors import FindError

if TYPE_CHECKING:
    import pandas as pd

_TASKS = ("workspace", "run_id", "iteration", "task_id", "status", "function", "tags")
_FILES = ("role", "workspace", "run_id", "attempt", "name", "of_run", "of_attempt", "sha256")
#: Paths parted by commas, but for those in the quotes of a key.
_PATHS = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+')


def add(commands: Commands) -> None:
    """Add what looks through many runs."""
    find = commands.add(
        "find",
        _find,
        "Find tasks in all runs of workspaces by what they gave, function, status or tag; or find who made a file.",
        "matterstack find oxides --where 'energy_eV < -3' --tag cathode --columns energy_eV,formula",
        more="WORKSPACE may be a pattern, as '*'. A condition is a path, one of == != < <= > >= in between contains "
        "exists, and a value as JSON; a word stands for itself: --where formula==LiCoO2, --where 'n in [1, 2]', "
        "--where 'cell.a between [3.9, 4.1]'. All have to hold. A run that cannot be read is named and left out, "
        "and the exit status is 1.",
    )
    add_workspace(find, several=True)
    find.add_argument("--function", metavar="NAME", help="only calls of this function")
    find.add_argument("--task", metavar="PATTERN", help="only tasks whose id matches this pattern, as 'relax-*'")
    find.add_argument("--status", metavar="STATUS", type=str.upper, help="only tasks of this status, as FAILED")
    for option, metavar, said in (
        ("--tag", "TAG", "only with this tag; if given several times, with all of them"),
        ("--where", "CONDITION", "only where this holds; if given several times, where all do"),
    ):
        find.add_argument(option, metavar=metavar, action="append", default=[], help=said)
    find.add_argument("--columns", metavar="PATH,...", help="show these values (default: those of the conditions)")
    find.add_argument("--file", metavar="FILE|SHA256", help="find who made and used this file, instead")


def _find(given: argparse.Namespace) -> int:
    places = [_place(name, given.base_path) for name in given.workspace]
    tasks: list[dict[str, Any]] = []
    files: list[dict[str, Any]] = []
    if given.file is not None:
        if given.function or given.task or given.status or given.tag or given.where or given.columns:
            raise FindError("--file is looked for alone: leave the other options out")
        files, unread = _files(places, given)
        nowhere = {}
        table = Table(_FILES, files, "No run has made or used it.", ("sha256", "of_attempt", "of_run"))
    else:
        tasks, columns, attrs = _tasks(places, given)
        unread, nowhere = attrs["unread"], attrs["nowhere"]
        shown = [{**row, "tags": ", ".join(row["tags"]), **row["values"]} for row in tasks]
        table = Table([*_TASKS, *columns], shown, "There is no such task.", ("function", "tags", "iteration"))
    show(given, {"tasks": tasks, "files": files, "unread": unread, "nowhere": nowhere}, table)
    return FAILED if unread else DONE


def _place(name: str, base_path: str) -> str | Path:
    """Return a pattern as it is, and anything else as the path of a workspace."""
    if set("*?[") & set(name):
        return name
    base, workspace = workspace_place(name, base_path)
    return base / "workspaces" / workspace


def _tasks(
    places: list[str | Path], given: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[str], dict[Any, Any]]:
    from matterstack.core.conditions import parse_condition
    from matterstack.orchestration.find import find_tasks

    conditions = [parse_condition(text) for text in given.where]
    where: dict[Any, list[tuple[Any, ...]]] = {}
    for condition in conditions:
        where.setdefault(condition.path, []).append(condition.said)
    paths = _PATHS.findall(given.columns) if given.columns else list(where)
    frame = find_tasks(
        places,
        given.function,
        task=given.task,
        status=given.status,
        tags=given.tag,
        where=where,
        columns=paths,
        base_path=given.base_path,
    )
    columns = [str(name) for name in frame.columns[len(_TASKS) :]]
    rows = []
    for row in _rows(frame):
        first = {name: row[name] for name in _TASKS} | {"tags": row["tags"].split(", ") if row["tags"] else []}
        rows.append(first | {"values": {name: row[name] for name in columns}})
    return rows, columns, frame.attrs


def _files(places: list[str | Path], given: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, str]]:
    from matterstack.orchestration.find import find_file

    frame = find_file(given.file, places, base_path=given.base_path)
    return _rows(frame), frame.attrs["unread"]


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as rows of plain values, None where there is none."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows
