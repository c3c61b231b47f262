"""Explanations of limits: what a task can never get, why one that is ready gets nothing now, and what to do."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from matterstack.core.limits import NOTHING, Granting, Holder, Share, Standing, Wants, amount_of, is_rate
from matterstack.core.machine import CPUS, FIELDS, MEMORY, in_words, is_of
from matterstack.core.snapshot import ReadyTask, RunRecord
from matterstack.core.states import RunStatus
from matterstack.core.task import Task
from matterstack.core.text import format_time
from matterstack.errors import InvalidTaskError, MatterstackError
from matterstack.orchestration.holders import held, look
from matterstack.orchestration.job_limits import NO_JOB_LIMITS, JobLimits, all_job_limits, job_limits
from matterstack.orchestration.overview import shown_path
from matterstack.orchestration.reservations import Grants, counting, wants_of
from matterstack.orchestration.session import Session
from matterstack.storage.limits import Ledger
from matterstack.storage.machine import MachineLedger
from matterstack.storage.run_directory import RunDirectory

_MOST_HOLDERS = 5
#: Of so many ready tasks of an operator a table tells why they wait: a run may have a million.
_MOST_ASKED = 1000


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


def setting(name: str, amount: object) -> str:
    """Return an argument of `set_limits`, as one types it."""
    return f"{name}={amount}" if name.isidentifier() else f"**{{{name!r}: {amount}}}"


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
    remedy = call(workspace, "set_limits", setting(name, amount))
    if (there := amount_of(amounts, name)) is not None:
        return f"wants {amount} of {name}, and the limit of the workspace {workspace.name!r} is {there}", remedy
    return f"wants {amount} of {name}, for which the workspace {workspace.name!r} has no limit", remedy


def why_waiting(session: Session) -> dict[int, str]:
    """Return why ready tasks wait that a limit keeps from starting, by their rows; of the first 1,000 of each operator.

    Where no limit is set and no operator counts, nothing is asked.
    """
    ledger, reader = session.reservations.workspace.ledger, session.reader
    if not (ledger is not None and ledger.exists) and not counting(session.operators):
        return {}
    with reader.reading():
        run, now = reader.run(), time.time()
        operators = reader.ready_operators(now) if run.status is RunStatus.RUNNING else []
        ready = [task for name in operators for task in reader.ready_tasks(name, _MOST_ASKED, now)]
    return {one.task.id: one.why.removeprefix("it ") for one in waits(session, run, ready)}


def waits(session: Session, run: RunRecord, ready: Sequence[ReadyTask]) -> list[Wait]:
    """Return which of some ready tasks a limit keeps from starting."""
    machines, jobs = counting(session.operators), _job_limits(session, ready)
    asking = [(task, wants_of(task, machines.get(task.operator))) for task in ready]
    wanting = [(task, own, wants) for task, own in asking if (wants := jobs.wants(task, own)) is not None]
    if not wanting:
        return []
    named, counted = [one.named for _, _, one in wanting], [one.counted for _, _, one in wanting]
    held, now = session.reservations, time.time()
    ledger = held.machine.ledger or (MachineLedger() if machines else None)
    places = None if ledger is None else Holder(run.run_id, ledger.place_of(session.directory.path), run.created_at)
    workspace = _Seen(held.workspace.ledger, held.workspace.holder(run), now, named, jobs.besides)
    machine = _Seen(ledger, places or workspace.me, now, counted)
    found = []
    grants = Grants(workspace.granting, machine.granting)
    for task, own, _ in wanting:
        wants, wait = jobs.wants(task, own), None
        if wants is not None:
            wait = _for_workspace(task, wants, workspace) or _for_machine(task, wants, machine)
        if wait is not None:
            found.append(wait)
            continue
        if wants is not None:  # else it goes with one before it
            grants.ask("", "", wants)
        jobs.note(task, "")
    return found


def _job_limits(session: Session, ready: Sequence[ReadyTask]) -> JobLimits:
    """Return what jobs of ready tasks take without naming it, as far as that is known without asking anybody."""
    ledger = session.reservations.workspace.ledger
    if ledger is None or not ledger.exists:
        return NO_JOB_LIMITS
    operators = {name: session.operators[name] for name in {task.operator for task in ready} & session.operators.keys()}
    try:
        return job_limits(ledger, operators, ask=False)
    except MatterstackError:  # it is told where the ledger is looked at
        return all_job_limits(operators)


def _for_workspace(task: ReadyTask, wants: Wants, seen: _Seen) -> Wait | None:
    if seen.error is not None and wants.named:
        return _unreadable(task, list(wants.named), seen.error)
    short = seen.granting.lacks(wants.named, wants.priority)
    if not short:
        return None
    name, amounts = short[0], seen.standing.amounts
    there = amount_of(amounts, name) or 0
    if wants.named[name] > there:
        home = None if seen.ledger is None else seen.ledger.path.parent
        why, remedy = _never(home, name, wants.named[name], amounts)
        why = f"it waits, since it {why}"
    else:
        why, remedy = seen.why(name, name, there)
    return Wait(task, why, seen.since.get(name), remedy)


def _for_machine(task: ReadyTask, wants: Wants, seen: _Seen) -> Wait | None:
    if seen.error is not None and wants.counted:
        return _unreadable(task, [f"{in_words(*one)} of this machine" for one in wants.counted.items()], seen.error)
    short = seen.granting.lacks(wants.counted, wants.priority, wants.offer)
    if not short or wants.offer is None:
        return None
    name, there = short[0], wants.offer.amounts[short[0]]
    what = f"{in_words(name, wants.counted[name])} of this machine"
    if wants.counted[name] > there:
        why = f"it waits, since it wants {what}, of which its operator may use {in_words(name, there)}"
        remedy = f"run.configure({task.operator!r}, {FIELDS.get(name, name)}=...)"
    else:
        why, remedy = seen.why(name, what, there)
    return Wait(task, why, seen.since.get(name), remedy)


def _unreadable(task: ReadyTask, names: Sequence[str], error: MatterstackError) -> Wait:
    why = f"it waits for {', '.join(names)}, and what is held cannot be read: {error}"
    return Wait(task, why, None, "mend that, and the next step goes on")


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
    besides : mapping of str to int, optional
        By limit, how much of it is taken by what no run knows of.
    """

    def __init__(
        self,
        ledger: Ledger | None,
        me: Holder,
        at: float,
        wanted: Iterable[Mapping[str, int]],
        besides: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        names = {name for one in wanted for name in one}
        self.ledger = ledger if names else None
        self.me = me
        self.standing: Standing = NOTHING
        self.missing: Mapping[Holder, str] = {}
        self.error: MatterstackError | None = None
        if self.ledger is not None:
            try:
                self.standing, self.missing = self.ledger.standing(), missing_runs(self.ledger, names)
            except MatterstackError as error:
                self.error = error
        self.besides = besides
        self.at = at
        self.granting = Granting(self.standing, me, at)
        self.granting.count_besides(besides)
        self.since = {one.name: one.since for one in self.standing.waiters if one.holder == me}

    def why(self, name: str, what: str, amount: int) -> tuple[str, str]:
        """Return why a task gets nothing of a limit now, and what to do."""
        assert self.ledger is not None  # else there would be no limits
        shares = [share for share in self.standing.shares if is_of(name, share.name)]
        held = sum(share.amount for share in shares)
        shown = (f"{held / 1024:.3g}", f"{amount / 1024:.3g} GiB") if name == MEMORY else (held, amount)
        taken = "were taken within a minute" if is_rate(name) else "are held"
        why = f"it waits for {what}: {shown[0]} of {shown[1]} {taken}"
        if shares:
            by = [f"{self._named(share.holder)} ({self._amount(share)})" for share in shares[:_MOST_HOLDERS]]
            more = f" and {len(shares) - _MOST_HOLDERS} more" if len(shares) > _MOST_HOLDERS else ""
            why += f" by {', '.join(by)}{more}"
            why += "" if is_rate(name) else f", since {format_time(min(share.since for share in shares))}"
        if besides := self.besides.get(name):
            why += f"; {besides} are jobs of yours that no run of the workspace holds"
        if self.granting.free(name) > 0:
            rivals = [one for one in self.standing.waiters if one.holder != self.me and one.is_there(self.at)]
            if first := [one.holder for one in rivals if one.name == name]:
                why += f"; {self._named(first[0])} comes before it"
        if is_rate(name):
            return why, "wait: each counts for a minute from its use on"
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
