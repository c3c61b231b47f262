"""Explanations of limits: what a task can never get, why one that is ready gets nothing now, and what to do."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matterstack.core.limits import NOTHING, Granting, Holder, Share
from matterstack.core.machine import CPUS, FIELDS, MEMORY, in_words, is_of
from matterstack.core.snapshot import ReadyTask, RunRecord
from matterstack.core.task import Task
from matterstack.core.text import format_time
from matterstack.errors import InvalidTaskError, MatterstackError
from matterstack.orchestration.holders import held, look
from matterstack.orchestration.overview import shown_path
from matterstack.orchestration.reservations import Grants, counting, wants_of
from matterstack.orchestration.session import Session
from matterstack.storage.limits import Ledger
from matterstack.storage.machine import MachineLedger
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


def waits(session: Session, run: RunRecord, ready: Sequence[ReadyTask]) -> list[Wait]:
    """Return which of some ready tasks a limit keeps from starting."""
    machines = counting(session.operators)
    wanting = [(task, wants) for task in ready if (wants := wants_of(task, machines.get(task.operator))) is not None]
    if not wanting:
        return []
    held, now = session.reservations, time.time()
    ledger = held.machine.ledger or (MachineLedger() if machines else None)
    places = None if ledger is None else Holder(run.run_id, ledger.place_of(session.directory.path), run.created_at)
    try:
        workspace = _Seen(held.workspace.ledger, held.workspace.holder(run), now, [one.named for _, one in wanting])
        machine = _Seen(ledger, places or workspace.me, now, [one.counted for _, one in wanting])
    except MatterstackError as error:
        names = [*wanting[0][1].named, *(f"{in_words(*one)} of this machine" for one in wanting[0][1].counted.items())]
        why = f"it waits for {', '.join(names)}, and what is held cannot be read: {error}"
        return [Wait(wanting[0][0], why, None, "mend that, and the next step goes on")]
    found = []
    grants = Grants(workspace.granting, machine.granting)
    for task, wants in wanting:
        if short := workspace.granting.lacks(wants.named, wants.priority):
            name = short[0]
            if wants.named[name] > workspace.standing.amounts.get(name, 0):
                home = None if workspace.ledger is None else workspace.ledger.path.parent
                why, remedy = _never(home, name, wants.named[name], workspace.standing.amounts)
                why = f"it waits, since it {why}"
            else:
                why, remedy = workspace.why(name, name, workspace.standing.amounts[name])
            found.append(Wait(task, why, workspace.since.get(name), remedy))
        elif short := machine.granting.lacks(wants.counted, wants.priority, wants.offer):
            name = short[0]
            there = machines[task.operator].offer().amounts[name]
            if wants.counted[name] > there:
                what = in_words(name, wants.counted[name])
                why = f"it waits, since it wants {what} of this machine, of which its operator may use "
                why += in_words(name, there)
                remedy = f"run.configure({task.operator!r}, {FIELDS.get(name, name)}=...)"
            else:
                why, remedy = machine.why(name, f"{in_words(name, wants.counted[name])} of this machine", there)
            found.append(Wait(task, why, machine.since.get(name), remedy))
        else:
            grants.ask("", "", wants)
    return found


class _Seen:
    """A ledger as it stands, seen by one run.

    Parameters
    ----------
    ledger : Ledger or None
    me : Holder
    at : float
        Seconds since the Unix epoch.
    wanted : iterable of mapping
        What is asked for: with nothing, the ledger is not looked at.
    """

    def __init__(self, ledger: Ledger | None, me: Holder, at: float, wanted: Iterable[Mapping[str, int]]) -> None:
        names = {name for one in wanted for name in one}
        self.ledger = ledger if names else None
        self.me = me
        self.standing = NOTHING if self.ledger is None else self.ledger.standing()
        self.missing = {} if self.ledger is None else missing_runs(self.ledger, names)
        self.granting = Granting(self.standing, me, at)
        self.since = {one.name: one.since for one in self.standing.waiters if one.holder == me}

    def why(self, name: str, what: str, amount: int) -> tuple[str, str]:
        """Return why a task gets nothing of a limit now, and what to do."""
        assert self.ledger is not None  # else there would be no limits
        shares = [share for share in self.standing.shares if is_of(name, share.name)]
        held = sum(share.amount for share in shares)
        shown = (f"{held / 1024:.3g}", f"{amount / 1024:.3g} GiB") if name == MEMORY else (held, amount)
        why = f"it waits for {what}: {shown[0]} of {shown[1]} are held"
        if shares:
            by = [f"{self._named(share.holder)} ({self._amount(share)})" for share in shares[:_MOST_HOLDERS]]
            more = f" and {len(shares) - _MOST_HOLDERS} more" if len(shares) > _MOST_HOLDERS else ""
            why += f" by {', '.join(by)}{more}, since {format_time(min(share.since for share in shares))}"
        if self.granting.free(name) > 0:
            first = [one.holder for one in self.standing.waiters if one.name == name and one.holder != self.me]
            if first:
                why += f"; {self._named(first[0])} comes before it"
        lost = next((share.holder for share in shares if share.holder in self.missing), None)
        if lost is not None:
            return f"{why}; {self.missing[lost]}", release_of(self.ledger, lost)
        return why, "wait: each is given back when its attempt is over and its run is stepped"

    def _named(self, holder: Holder) -> str:
        if holder == self.me:
            return "this run"
        place = f" ({shown_path(Path(holder.place))})" if isinstance(self.ledger, MachineLedger) else ""
        return f"run {holder.run_id}{place}"

    def _amount(self, share: Share) -> str:
        words = isinstance(self.ledger, MachineLedger) and share.name != CPUS
        return in_words(share.name, share.amount) if words else str(share.amount)


def release_of(ledger: Ledger, holder: Holder) -> str:
    """Return what to do about what a run holds that cannot be found."""
    path = ledger.path_of(holder)
    workspace = None if path is None else RunDirectory(path).workspace
    if workspace is None:
        return f"bring that run back; or, when no run that counts has a command left, remove {ledger.path}"
    release = call(workspace, "release_reservations", f"run_id={holder.run_id!r}")
    return f"bring that run back; or, if its attempts are surely over, {release}"


def missing_runs(ledger: Ledger, names: Collection[str] | None = None) -> dict[Holder, str]:
    """Return the runs that hold something of some limits, or of any, and cannot be found, each with why."""
    said = {holder: look(ledger, holder, tokens).missing for holder, tokens in held(ledger, names).items()}
    return {holder: why for holder, why in said.items() if why is not None}
