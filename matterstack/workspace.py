"""All the runs of a workspace: where each stands, what waits in any of them, and two beside each other."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from matterstack.notebook.inbox import Inbox
from matterstack.orchestration.capture import capture, describe
from matterstack.orchestration.overview import MOST_STEPS, overview
from matterstack.orchestration.requests import Request, waiting
from matterstack.run import Run
from matterstack.run_lifecycle import open_run
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory, list_runs

if TYPE_CHECKING:
    import pandas as pd

    from matterstack.orchestration.comparison import Comparison


def runs(workspace: str, base_path: str | os.PathLike[str] = ".") -> pd.DataFrame:
    """Return a row a run of the workspace, by run id.

    Parameters
    ----------
    workspace : str
    base_path : path-like
        Where ``workspaces/`` is.

    Returns
    -------
    pandas.DataFrame
        With ``run_id, status, iteration, tasks, completed, failed, created_at, reason, path``.
        A run whose database cannot be read has the error as its reason, and no status.

    Raises
    ------
    RunNotFoundError
        There is no such workspace.
    """
    import pandas as pd

    from matterstack.notebook.runs_table import RunsTable

    rows = []
    known = {}
    for directory in list_runs(base_path, workspace):
        row: dict[str, Any] = {"run_id": directory.path.name, "path": str(directory.path)}
        with capture() as caught:  # one bad run is its own row, whatever is wrong with it
            record, counts, *_ = overview(directory.path, MOST_STEPS)
            row |= {
                "status": str(record.status),
                "iteration": record.iteration,
                "tasks": counts.total,
                "completed": counts.completed,
                "failed": counts.failed,
                "created_at": pd.Timestamp(record.created_at, unit="s", tz="UTC").round("us"),
                "reason": record.reason,
            }
            known[directory.path.name] = counts
        if caught.error is not None:
            row["reason"] = describe(caught.error)
        rows.append(row)
    columns = ["run_id", "status", "iteration", "tasks", "completed", "failed", "created_at", "reason", "path"]
    frame = pd.DataFrame(rows, columns=columns)
    for name in ("iteration", "tasks", "completed", "failed"):
        frame[name] = frame[name].astype("Int64")
    frame["created_at"] = pd.to_datetime(frame["created_at"], utc=True)
    table = RunsTable(frame)
    table.counts = known
    return table


def inbox(workspace: str, base_path: str | os.PathLike[str] = ".") -> Inbox:
    """Return what waits for an answer in any run of a workspace.

    Parameters
    ----------
    workspace : str
    base_path : path-like
        Where ``workspaces/`` is.

    Returns
    -------
    Inbox
        A sequence of `Request`. A run whose database cannot be read is left out;
        `matterstack.runs` shows it.

    Raises
    ------
    RunNotFoundError
        There is no such workspace.
    """
    found: list[Request] = []
    for directory in list_runs(base_path, workspace):
        with capture():  # one bad run does not hide what waits in the others
            found += waiting(StoreReader(directory.state, MOST_STEPS), directory)
    opened = functools.cache(open_run)
    # The run of a request lies below it.
    return Inbox(found, lambda request: opened(request.directory.parents[2]))


def watch(workspace: str | None = None, base_path: str | os.PathLike[str] = ".") -> Any:
    """Show all runs of a workspace, live: where each stands and what needs you; a click opens its cockpit below.

    Parameters
    ----------
    workspace : str, optional
        By default all workspaces below the base path.
    base_path : path-like
        Where ``workspaces/`` is.

    Raises
    ------
    RunNotFoundError
        There is no such workspace.
    """
    from matterstack.notebook.runs_board import RunsBoard
    from matterstack.notebook.workspace_view import WorkspaceView

    if workspace is not None:
        list_runs(base_path, workspace)
    return WorkspaceView(RunsBoard(base_path, workspace), open_run)


def compare(a: Run | str | os.PathLike[str], b: Run | str | os.PathLike[str]) -> Comparison:
    """Return two runs beside each other: settings, tasks, results and timing, what differs first.

    Parameters
    ----------
    a, b : Run or path-like
        The runs, or their directories. They are only looked at.

    Returns
    -------
    Comparison
        With DataFrames; a notebook shows what differs.

    Raises
    ------
    RunNotFoundError
        There is no run at a path.
    StoreError
        A database cannot be used.
    """
    from matterstack.orchestration import comparison

    return comparison.compare(*(RunDirectory.at(run.path if isinstance(run, Run) else run) for run in (a, b)))
