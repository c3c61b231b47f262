"""Watching runs: a table that follows them in a terminal, and a line per change elsewhere."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack.commands.command import DONE, Commands
from matterstack.commands.output import Table, cell_text, is_rich, moment, rich_table, show, write
from matterstack.commands.places import add_place, place_of
from matterstack.commands.runs import row_of_run, rows_of_runs, table_of_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matterstack.storage.reader import StoreReader
    from matterstack.storage.rows import TaskRow

_LOOK_EACH_S = 1.0
_TASKS = ("task_id", "status", "attempt", "operator", "started_at", "reason")
_MOST_TASKS = 20


def add(commands: Commands) -> None:
    """Add what watches."""
    add_place(
        commands.add(
            "watch",
            _watch,
            "Follow a run, or all runs of a workspace, until they are over.",
            "matterstack watch oxides",
            more="It steps nothing, and Ctrl-C ends it. In a terminal a table is drawn anew, with the tasks of a run "
            "that are under way, have failed or wait for a limit; elsewhere a line is written where a run has moved. "
            "With --json it writes where they stand in the end.",
            when_stopped="stopped watching; nothing else was stopped",
        )
    )


def _watch(given: argparse.Namespace) -> int:
    from matterstack.core.states import TERMINAL_RUN

    place = place_of(given)
    with _drawing(place, quiet=given.json) as draw:
        while True:
            rows = rows_of_runs(*place) if isinstance(place, tuple) else [_row(place)]
            draw(rows)
            if all(row["status"] is None or row["status"] in TERMINAL_RUN for row in rows):
                break
            time.sleep(_LOOK_EACH_S)
    if given.json:
        show(given, {"runs": rows})
    return DONE


def _row(path: Path) -> dict[str, Any]:
    from matterstack.orchestration.overview import overview

    return row_of_run(path, overview(path))


@contextmanager
def _drawing(place: Path | tuple[Path, str], *, quiet: bool) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Give what draws where runs stand: not at all, as a table that stays where it is, or as a line per change."""
    if quiet:
        yield lambda rows: None
    elif is_rich():
        from rich.console import Console, Group
        from rich.live import Live

        from matterstack.storage.reader import StoreReader
        from matterstack.storage.run_directory import RunDirectory

        store = None if isinstance(place, tuple) else StoreReader(RunDirectory.at(place).state)
        with Live(console=Console(highlight=False), auto_refresh=False) as live:

            def draw(rows: list[dict[str, Any]]) -> None:
                tables = [table_of_runs(rows), *([_tasks(place, store)] if store and isinstance(place, Path) else [])]
                width = live.console.width
                live.update(Group(*(rich_table(table, width) for table in tables if table.rows)), refresh=True)

            yield draw
    else:
        lines: set[str] = set()

        def tell(rows: list[dict[str, Any]]) -> None:
            for line in map(_line, rows):
                if line not in lines:
                    write(line)
            lines.clear()
            lines.update(map(_line, rows))

        yield tell


def _tasks(path: Path, store: StoreReader) -> Table:
    """Return the last tasks that are under way, have failed, or wait for a limit; those with the reason why."""
    from matterstack.orchestration.examination import waiting_at
    from matterstack.orchestration.tables import with_reasons

    tasks = store.tasks()
    waiting = waiting_at(path) if any(row.status == "PENDING" for row in tasks) else {}
    shown = [row for row in with_reasons(tasks, waiting) if row.status in ("SUBMITTED", "FAILED") or row.id in waiting]
    shown.sort(key=lambda row: row.status != "PENDING")  # of more than there is room for, those that wait are left out
    rows = [row._asdict() | {"status": _stands(row), "started_at": moment(row.started_at)} for row in shown]
    return Table(_TASKS, rows[-_MOST_TASKS:], spare=("started_at", "operator", "attempt"))


def _stands(row: TaskRow) -> str:
    return row.status if row.status == "PENDING" else row.attempt_status or row.status


def _line(row: dict[str, Any]) -> str:
    if row["status"] is None:
        return cell_text(f"{row['run_id']} cannot be read: {row['reason']}")
    counts = f"{row['completed']} of {row['tasks']} tasks completed, {row['failed']} failed"
    return cell_text(f"{row['run_id']} {row['status']}: iteration {row['iteration']}, {counts}")
