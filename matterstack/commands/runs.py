"""Runs: those of a workspace, and where one stands, and what holds it up."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack.commands.command import DONE, FAILED, Commands
from matterstack.commands.output import Table, moment, show, write_error
from matterstack.commands.places import add_run, add_workspace, run_path, workspace_place, workspaces_below
from matterstack.errors import MatterstackError

if TYPE_CHECKING:
    from matterstack.orchestration.overview import Overview

_COLUMNS = ("workspace", "run_id", "status", "iteration", "tasks", "completed", "failed", "reason")


def add(commands: Commands) -> None:
    """Add what looks at whole runs."""
    commands.heading("Look at runs")
    runs = commands.add(
        "runs",
        _runs,
        "List the runs of a workspace, or of all: where each stands.",
        "matterstack runs oxides",
        more="Exit status 1 if a workspace cannot be read; which one is said.",
    )
    add_workspace(runs, optional=True)
    add_run(commands.add("status", _status, "Say in a few lines where a run stands.", "matterstack status oxides/r1"))
    add_run(
        commands.add(
            "explain",
            _explain,
            "Say what holds a run up, since when, and what to do about each.",
            "matterstack explain oxides/r1",
        )
    )


def status_document(seen: Overview) -> dict[str, Any]:
    """Return what ``--json`` says of where a run stands; the schema is ``status.json``."""
    run, counts, path, would_run = seen
    return {
        "run_id": run.run_id,
        "workspace": run.workspace,
        "status": str(run.status),
        "reason": run.reason,
        "iteration": run.iteration,
        "counts": counts._asdict(),
        "created_at": moment(run.created_at),
        "path": path,
        "would_run": would_run,
    }


def row_of_run(path: Path, seen: Overview | str) -> dict[str, Any]:
    """Return a row of a run for tables; one that cannot be read has only the reason why."""
    row: dict[str, Any] = dict.fromkeys((*_COLUMNS, "created_at"))
    row |= {"workspace": path.parents[1].name, "run_id": path.name, "path": path}
    if isinstance(seen, str):
        return row | {"reason": seen}
    run, counts, *_ = seen
    row |= {"status": str(run.status), "iteration": run.iteration, "reason": run.reason}
    row |= {"tasks": counts.total, "completed": counts.completed, "failed": counts.failed}
    return row | {"created_at": moment(run.created_at)}


def rows_of_runs(base_path: Path, workspace: str) -> list[dict[str, Any]]:
    """Return a row per run of a workspace."""
    from matterstack.orchestration.overview import overviews

    return [row_of_run(path, seen) for path, seen in overviews(base_path, workspace)]


def table_of_runs(rows: list[dict[str, Any]]) -> Table:
    """Return rows of runs as a table; of a reason with a traceback, what says most."""
    from matterstack.notebook.summary import in_a_line

    shown = [row | {"reason": in_a_line(row["reason"] or "")} for row in rows]
    return Table(_COLUMNS, shown, "There are no runs.", ("iteration", "tasks", "completed"))


def _runs(given: argparse.Namespace) -> int:
    if given.workspace is None:
        places = workspaces_below(given.base_path)
    else:
        places = [workspace_place(given.workspace, given.base_path)]
    rows, unread = [], {}
    for place in places:
        try:
            rows += rows_of_runs(*place)
        except (MatterstackError, OSError) as error:
            if given.workspace is not None:
                raise
            unread[place[1]] = str(error)
    show(given, {"runs": rows, "unread": unread}, table_of_runs(rows))
    for name, why in unread.items():  # one that nobody can read hides no other
        write_error(f"the workspace {name} cannot be read: {why}")
    return FAILED if unread else DONE


def _status(given: argparse.Namespace) -> int:
    from matterstack.notebook.summary import summary_text
    from matterstack.orchestration.overview import overview

    seen = overview(run_path(given))
    show(given, status_document(seen), summary_text(seen))
    return DONE


def _explain(given: argparse.Namespace) -> int:
    from matterstack.run_lifecycle import open_run

    explanation = open_run(run_path(given)).explain()
    blockers = [
        {"what": one.what, "why": one.why, "since": moment(one.since), "remedy": one.remedy} for one in explanation
    ]
    show(given, {"headline": explanation.headline, "blockers": blockers}, str(explanation))
    return DONE
