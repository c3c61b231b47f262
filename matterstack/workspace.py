"""The runs of a workspace: where each stands, what waits in any, two beside each other, limits across them."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matterstack.core.limits import Holder, amount_of, check_limit
from matterstack.core.machine import in_words
from matterstack.core.text import format_time
from matterstack.errors import InvalidConfigError, RunNotFoundError, RunStatusError
from matterstack.notebook.inbox import Inbox
from matterstack.orchestration.capture import capture
from matterstack.orchestration.holders import give_back_what_is_over, held, look
from matterstack.orchestration.limits_explained import call, missing_runs, release_of, setting
from matterstack.orchestration.overview import MOST_STEPS, overviews
from matterstack.orchestration.requests import Request, waiting
from matterstack.run import Run
from matterstack.run_lifecycle import open_run
from matterstack.storage.limits import Ledger
from matterstack.storage.machine import MachineLedger
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory, list_runs, runs_root

if TYPE_CHECKING:
    import pandas as pd

    from matterstack.notebook.workspace_view import WorkspaceView
    from matterstack.orchestration.comparison import Comparison


def runs(workspace: str, base_path: str | os.PathLike[str] = ".") -> pd.DataFrame:
    """Return a row per run of the workspace, by run id.

    Parameters
    ----------
    workspace : str
        Its name: that of its directory below ``workspaces/``.
    base_path : path-like
        Where ``workspaces/`` is.

    Returns
    -------
    pandas.DataFrame
        With ``run_id, status, iteration, tasks, completed, failed, created_at, reason, path, tags``.
        A run whose database cannot be read has the error as its reason, and no status.

    Raises
    ------
    RunNotFoundError
        There is no such workspace.
    """
    import pandas as pd

    from matterstack.notebook.runs_table import RunsTable
    from matterstack.orchestration.tables import column_of

    rows = []
    known = {}
    for path, seen in overviews(base_path, workspace):
        row: dict[str, Any] = {"run_id": path.name, "path": str(path)}
        if isinstance(seen, str):
            row["reason"] = seen
        else:
            record, counts, *_ = seen
            row |= {
                "status": str(record.status),
                "iteration": record.iteration,
                "tasks": counts.total,
                "completed": counts.completed,
                "failed": counts.failed,
                "created_at": pd.Timestamp(record.created_at, unit="s", tz="UTC").round("us"),
                "reason": record.reason,
                "tags": ", ".join(record.tags),
            }
            known[path.name] = counts
        rows.append(row)
    columns = ["run_id", "status", "iteration", "tasks", "completed", "failed", "created_at", "reason", "path", "tags"]
    frame = pd.DataFrame({name: column_of([row.get(name) for row in rows]) for name in columns})
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
        Its name: that of its directory below ``workspaces/``.
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


def watch(workspace: str | None = None, base_path: str | os.PathLike[str] = ".") -> WorkspaceView:
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


def set_limits(workspace: str, /, *, base_path: str | os.PathLike[str] = ".", **amounts: int | None) -> pd.DataFrame:
    """Say how much there is of what a workspace has little of, for all its runs and whoever steps them.

    Tasks say what they take of it: ``resources=ms.Resources(named={"furnace": 1})``. What is held stays held: with a
    lower limit nothing new starts until enough was given back.

    Parameters
    ----------
    workspace : str
        It is made if it is not there yet.
    base_path : path-like
        Where ``workspaces/`` is.
    **amounts : int or None
        How much there is of each, by a name of your own; 0 for nothing now, None to take the limit away. One that ends
        in ``_per_min`` is so much a minute. Jobs of Slurm take ``slurm_jobs`` and ``slurm_submissions_per_min`` by
        themselves, of each cluster; ``**{"slurm_jobs@hpc": 100}`` is for the one of the host ``hpc`` alone.

    Returns
    -------
    pandas.DataFrame
        As `limits` returns it.

    Raises
    ------
    InvalidTaskError
        A name that is none.
    InvalidConfigError
        An amount that is no whole number.
    StoreError
        The file of limits is damaged, foreign or newer; it was left as it is.

    Examples
    --------
    >>> import tempfile, matterstack as ms
    >>> ms.set_limits("oxides", base_path=tempfile.mkdtemp(), vasp_license=4, furnace=1)[["name", "amount", "held"]]
               name  amount  held
    0       furnace       1     0
    1  vasp_license       4     0
    """
    for name, amount in amounts.items():
        check_limit(name)
        if amount is not None and (not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount < 2**53):
            raise InvalidConfigError(f"the limit {name} must be a whole number, 0 or more, or None, not {amount!r}")
    _ledger(workspace, base_path).set_amounts(amounts)
    return limits(workspace, base_path)


def limits(workspace: str, base_path: str | os.PathLike[str] = ".") -> pd.DataFrame:
    """Return a row for each limit of a workspace, and for what is held or waited for without one.

    Parameters
    ----------
    workspace : str
        Its name: that of its directory below ``workspaces/``.
    base_path : path-like
        Where ``workspaces/`` is.

    Returns
    -------
    pandas.DataFrame
        With ``name, amount, held, by, waiting``: which runs hold how much, and which wait.

    Raises
    ------
    RunNotFoundError
        There is no such workspace.
    StoreError
        The file of limits is damaged, foreign or newer; it was left as it is.
    """
    import pandas as pd

    ledger = _ledger(workspace, base_path)
    if not ledger.exists:
        list_runs(base_path, workspace)  # says so where there is no such workspace
    standing = ledger.standing()
    rows = [
        {
            "name": name,
            "amount": amount_of(standing.amounts, name),
            "held": standing.held(name),
            "by": ", ".join(f"{one.holder.run_id} ({one.amount})" for one in standing.shares if one.name == name),
            "waiting": ", ".join(one.holder.run_id for one in standing.waiters if one.name == name),
        }
        for name in standing.names()
    ]
    frame = pd.DataFrame(rows, columns=["name", "amount", "held", "by", "waiting"])
    return frame.astype({"amount": "Int64", "held": "Int64"})


def release_reservations(workspace: str, run_id: str, base_path: str | os.PathLike[str] = ".") -> int:
    """Give back, on your word, what a run holds that cannot be found any more.

    Of a run that is there, only what is over is given back: its own next step would do so too.

    Parameters
    ----------
    workspace : str
        Its name: that of its directory below ``workspaces/``.
    run_id : str
        Of the run that holds; its directory need not be there.
    base_path : path-like
        Where ``workspaces/`` is.

    Returns
    -------
    int
        How many attempts held something.

    Raises
    ------
    RunNotFoundError
        No run of this name holds anything.
    RunStatusError
        The run is there, and its attempts are not over: nothing of these was given back.
    """
    ledger, machine = _ledger(workspace, base_path), MachineLedger()
    place = machine.place_of(runs_root(base_path, workspace) / run_id)
    ledgers: list[Ledger] = [ledger, machine]
    whose: list[tuple[Ledger, Holder, set[str]]]
    whose = [(ledger, holder, tokens) for holder, tokens in held(ledger).items() if holder.run_id == run_id]
    whose += [(machine, holder, tokens) for holder, tokens in held(machine).items() if holder.place == place]
    if not whose:
        raise RunNotFoundError(f"no run {run_id!r} holds anything in the workspace {workspace!r}", path=ledger.path)
    for one in ledgers:
        give_back_what_is_over(one)
    for one, holder, tokens in whose:
        if look(one, holder, tokens).missing is not None:
            one.give_back(holder, tokens, waits=False)
    if left := set().union(*(held(one).get(holder, ()) for one, holder, _ in whose)):
        raise RunStatusError(
            f"the run {run_id} is there, and {len(left)} of its attempts that hold something are not over: "
            "cancel or step it"
        )
    return len(set().union(*(tokens for _, _, tokens in whose)))


def doctor(workspace: str | os.PathLike[str]) -> tuple[str, list[str]]:
    """Look at the limits of a workspace, by its name or its path; change nothing.

    Returns
    -------
    table : str
        The limits, and who holds what.
    found : list of str
        What somebody has to see to, each with what to do.
    """
    path = Path(workspace).absolute()
    if path.parent.name != "workspaces":
        path = runs_root(".", str(workspace)).parent
    ledger, machine = Ledger(path), MachineLedger()
    frame, counted = limits(path.name, path.parent.parent), _counted(machine)
    table = frame.to_string(index=False) if len(frame) else "The workspace has no limits."
    if counted:
        table += "\n\nOf this machine runs hold:\n" + "\n".join(counted)
    found = [
        f"run {holder.run_id} holds {len(held(one)[holder])} reservations, and {why}: {release_of(one, holder)}"
        for one in (ledger, machine)
        for holder, why in missing_runs(one).items()
    ]
    standing = ledger.standing()
    for name in sorted({share.name for share in standing.shares}):
        if standing.held(name) > (most := amount_of(standing.amounts, name) or 0):
            what = f"{standing.held(name)} of {name} are held, and the limit is {most}"
            remedy = call(path, "set_limits", setting(name, "..."))
            found.append(f"{what}: nothing new starts until enough was given back, or {remedy}")
    return table, found


def _counted(machine: MachineLedger) -> list[str]:
    """Return a line for each share that a run has of this machine."""
    return [
        f"{in_words(share.name, share.amount)}: run {share.holder.run_id} ({share.holder.place}), since "
        f"{format_time(share.since)}"
        for share in machine.standing().shares
    ]


def _ledger(workspace: str, base_path: str | os.PathLike[str]) -> Ledger:
    return Ledger(runs_root(base_path, workspace).parent)
