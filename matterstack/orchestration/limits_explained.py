"""Explanations of limits: what a task can never get, why one that is ready gets nothing now, and what to do."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matterstack.core.limits import NOTHING, Granting, Holder, Standing
from matterstack.core.snapshot import ReadyTask, RunRecord
from matterstack.core.task import Task
from matterstack.core.text import format_time
from matterstack.errors import InvalidTaskError, MatterstackError
from matterstack.orchestration.holders import held, look
from matterstack.orchestration.overview import shown_path
from matterstack.orchestration.reservations import Reservations, wants_of
from matterstack.storage.limits import Ledger
from matterstack.storage.run_directory import RunDirectory

_MOST_HOLDERS = 5


class Wait(NamedTuple):
    """A ready task that waits for a limit: why, since when, and what to do."""

    task: ReadyTask
    why: str
    since: float | None
    remedy: str


def call(workspace: Path, function: str, arguments: str) -> str:
    """Return a call of one of the functions of a workspace, as one types it here."""
    base = str(shown_path(workspace.parent.parent))
    return f"ms.{function}({workspace.name!r}, {arguments}{'' if base == '.' else f', base_path={base!r}'})"


class WorkspaceLimits:
    """The limits of the workspace of a run, as a plan is checked against them.

    Parameters
    ----------
    directory : RunDirectory
        Of the run.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._workspace = directory.workspace
        self._amounts = {} if self._workspace is None else Ledger(self._workspace).standing().amounts

    def check(self, task: Task) -> None:
        """Raise unless a task could get all that it names.

        Raises
        ------
        InvalidTaskError
            There is no such limit, or it is lower.
        """
        for name, amount in (task.resources.named or {}).items():
            if amount > self._amounts.get(name, 0):
                why, remedy = _never(self._workspace, name, amount, self._amounts)
                raise InvalidTaskError(f"task {task.task_id!r} {why}: {remedy}", task_id=task.task_id)


def _never(workspace: Path | None, name: str, amount: int, amounts: Mapping[str, int]) -> tuple[str, str]:
    """Return why a task never gets what it wants of a limit as it stands, and what to do."""
    if workspace is None:
        why = f"wants {amount} of {name}, and its run is in no workspace, so there are no limits"
        return why, "move the run's directory to workspaces/<workspace>/runs/"
    remedy = call(workspace, "set_limits", f"{name}={amount}")
    if name in amounts:
        return f"wants {amount} of {name}, and the limit of the workspace {workspace.name!r} is {amounts[name]}", remedy
    return f"wants {amount} of {name}, for which the workspace {workspace.name!r} has no limit", remedy


def waits(reservations: Reservations, run: RunRecord, ready: Sequence[ReadyTask]) -> list[Wait]:
    """Return which of some ready tasks a limit keeps from starting."""
    wanting = [(task, wants) for task in ready if (wants := wants_of(task)) is not None]
    if not wanting:
        return []
    ledger, me, now = reservations.ledger, reservations.holder(run), time.time()
    try:
        standing = NOTHING if ledger is None else ledger.standing()
        missing = {} if ledger is None else missing_runs(ledger, {name for _, wants in wanting for name in wants.named})
    except MatterstackError as error:
        why = f"it waits for {', '.join(wanting[0][1].named)}, and what is held cannot be read: {error}"
        return [Wait(wanting[0][0], why, None, "mend that, and the next step goes on")]
    granting = Granting(standing, me, now)
    since = {one.name: one.since for one in standing.waiters if one.holder == me}
    found = []
    for task, (named, priority) in wanting:
        if not (short := granting.lacks(named, priority)):
            granting.ask("", "", named, priority)
            continue
        name = short[0]
        if named[name] > standing.amounts.get(name, 0):
            why, remedy = _never(None if ledger is None else ledger.workspace, name, named[name], standing.amounts)
            why = f"it waits, since it {why}"
        else:
            why, remedy = _why(ledger, standing, me, granting, name, missing)
        found.append(Wait(task, why, since.get(name), remedy))
    return found


def _why(
    ledger: Ledger | None,
    standing: Standing,
    me: Holder,
    granting: Granting,
    name: str,
    missing: Mapping[Holder, str],
) -> tuple[str, str]:
    """Return why a task gets nothing of a limit now, and what to do."""
    assert ledger is not None  # else there would be no limits
    amount, shares = standing.amounts[name], [share for share in standing.shares if share.name == name]
    why = f"it waits for {name}: {standing.held(name)} of {amount} are held"
    if shares:
        by = [f"{_named(share.holder, me)} ({share.amount})" for share in shares[:_MOST_HOLDERS]]
        more = f" and {len(shares) - _MOST_HOLDERS} more" if len(shares) > _MOST_HOLDERS else ""
        why += f" by {', '.join(by)}{more}, since {format_time(min(share.since for share in shares))}"
    if granting.free(name) > 0:
        first = [one.holder for one in standing.waiters if one.name == name and one.holder != me]
        if first:
            why += f"; {_named(first[0], me)} comes before it"
    lost = next((share.holder for share in shares if share.holder in missing), None)
    if lost is not None:
        release = call(ledger.workspace, "release_reservations", f"run_id={lost.run_id!r}")
        return f"{why}; {missing[lost]}", f"bring that run back; or, if its attempts are surely over, {release}"
    return why, "wait: each is given back when its attempt is over and its run is stepped"


def _named(holder: Holder, me: Holder) -> str:
    return "this run" if holder == me else f"run {holder.run_id}"


def missing_runs(ledger: Ledger, names: Collection[str] | None = None) -> dict[Holder, str]:
    """Return the runs that hold something of some limits, or of any, and cannot be found, each with why."""
    said = {holder: look(ledger.workspace, holder, tokens).missing for holder, tokens in held(ledger, names).items()}
    return {holder: why for holder, why in said.items() if why is not None}
