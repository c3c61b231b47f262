"""Reservations of a run: what its attempts take of limits across runs, and give back when they are over.

Two ledgers have such limits: that of the workspace, and that of this machine, for operators that count it.

Reserved before the intent is stored, and given back after the end is: whatever is killed when, what is live is held.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from matterstack.core.amended import amended
from matterstack.core.attempts import LiveAttempt
from matterstack.core.limits import NOTHING, Granting, Holder, Wants, is_rate
from matterstack.core.machine import Machine, gpu_of, in_words
from matterstack.core.resources import Resources, check_named
from matterstack.core.snapshot import ReadyTask, RunRecord, Snapshot
from matterstack.errors import InvalidTaskError, MatterstackError
from matterstack.operators.base import Operator
from matterstack.orchestration.holders import give_back_what_is_over, take_over
from matterstack.orchestration.job_limits import NO_JOB_LIMITS, JobLimits, all_job_limits, job_limits, still_leading
from matterstack.storage.limits import Ledger
from matterstack.storage.machine import MachineLedger
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

log = logging.getLogger("matterstack.limits")

#: What the JSON of a task has in it that names a resource, so that others are not read for it.
_MARK = '"named":'
#: A run that waits looks so often whether those that hold what it wants are over, and have not said so.
_OTHERS_S = 10.0
#: Where nothing has happened in a run, all its ready tasks are gone through again after so long only: one may have
#: waited for its time.
_BEHIND_S = 5.0


class Grants:
    """Grants of one tick, of both ledgers: an attempt gets all that it wants of both, or nothing.

    Parameters
    ----------
    workspace, machine : Granting
    """

    def __init__(self, workspace: Granting, machine: Granting) -> None:
        self.workspace = workspace
        self.machine = machine

    def ask(self, token: str, attempt: str, wants: Wants) -> bool:
        """Return whether an attempt gets all that it wants."""
        named, counted, offer, priority = wants
        lacks = [self.workspace.lacks(named, priority), self.machine.lacks(counted, priority, offer)]
        if lacks[0] or not any(lacks):
            self.workspace.ask(token, attempt, named, priority)
        if lacks[1] or not any(lacks):
            self.machine.ask(token, attempt, counted, priority, offer)
        return not any(lacks)

    def stands(self, wants: Wants) -> bool:
        """Return whether all that an attempt was granted is on disk."""
        return not (wants.named and self.workspace.is_withdrawn) and not (wants.counted and self.machine.is_withdrawn)

    @property
    def short(self) -> frozenset[str]:
        """What kept somebody from getting it, in words."""
        return frozenset(self.workspace.short) | frozenset(map(_of_machine, self.machine.short))


class Book:
    """What one session knows of what its run holds in one ledger.

    Parameters
    ----------
    ledger : Ledger or None
        None where there is none: nothing is granted there.
    directory : RunDirectory
    what : str
        What it has limits of.

    Attributes
    ----------
    short : frozenset of str
        The limits that kept ready tasks from being submitted in this tick.
    """

    def __init__(self, ledger: Ledger | None, directory: RunDirectory, what: str) -> None:
        self.ledger = ledger
        self.short: frozenset[str] = frozenset()
        self._place = "" if ledger is None else ledger.place_of(directory.path)
        self._what = what
        self._usable = True  # in this tick
        self._told = ""  # why it could not be used, once for all ticks in which that is so
        #: Tokens that the ledger has of this run; None where it has to be asked.
        self._held: set[str] | None = None
        self._names: dict[str, list[str]] = {}
        self._waits = False
        self._others_at = 0.0

    def holder(self, run: RunRecord) -> Holder:
        """Return the run as the ledger knows it."""
        return Holder(run.run_id, self._place, run.created_at)

    def names(self, token: str) -> Sequence[str]:
        """Return what an attempt of this run holds."""
        return self._names.get(token, ())

    def begin(self, store: StoreReader, run: RunRecord, *, alone: bool) -> None:
        """Begin a tick: what another process that was killed left of this run is put right.

        Parameters
        ----------
        store : StoreReader
        run : RunRecord
        alone : bool
            Whether nobody else has submitted anything of this run since the last tick.
        """
        self.short = frozenset()
        self._usable = True
        if not alone or self._held is None:
            self._settle(store, run, leaves=False)

    @contextlib.contextmanager
    def asking(self, run: RunRecord, at: float) -> Iterator[Granting]:
        """Let ready tasks ask; when the block ends, what they were granted is on disk, or was withdrawn."""
        holder, self._held = self.holder(run), None
        granting = Granting(NOTHING, holder, at)  # where the ledger cannot be used, all wait
        with contextlib.ExitStack() as stack:
            with self._noted():
                if (ledger := self._to_ask()) is not None:
                    granting = stack.enter_context(ledger.granting(holder, at))
            yield granting
            with self._noted():
                stack.close()
            if self._usable:
                self._told = ""
            else:
                granting.withdraw()
        for one in granting.granted:
            self._names.setdefault(one.token, []).append(one.name)
        self.short = self.short.union(granting.short)

    def settle(self, store: StoreReader, run: RunRecord, live: Iterable[LiveAttempt]) -> bool:
        """Give back, at the end of a tick, what attempts held that are over; return whether there was any."""
        leaves, self._waits = self._waits and not self.short, bool(self.short)
        if not leaves and self._held is not None and (not self._held or self._held.issubset(one.token for one in live)):
            return False
        return self._settle(store, run, leaves=leaves)

    def settle_others(self, run: RunRecord) -> bool:
        """Give back what others hold of what this run waits for and is over; return whether there was any."""
        now = time.monotonic()
        if not self.short or now < self._others_at or (ledger := self._in_use()) is None:
            return False
        self._others_at = now + _OTHERS_S
        given_back = False
        with self._noted():
            given_back = give_back_what_is_over(ledger, self.holder(run), self.short)
        return given_back and self._usable

    def _settle(self, store: StoreReader, run: RunRecord, *, leaves: bool) -> bool:
        gone: Collection[str] = ()
        ledger = self._in_use()
        self._held = set() if self._usable and ledger is None else None
        if ledger is not None:
            holder = self.holder(run)
            with self._noted():
                held = ledger.held_by(holder)
                gone = self._over(store, held) if held else ()
                if gone or leaves:
                    ledger.give_back(holder, gone, waits=not leaves)
                self._held = held.keys() - gone
                self._names = held
        return bool(gone) and self._held is not None

    def _over(self, store: StoreReader, tokens: Collection[str]) -> set[str]:
        """Return those of the attempts that hold something which do so no more."""
        return set(tokens) - store.live_tokens()

    def _in_use(self) -> Ledger | None:
        """Return the ledger, where there is one, and it could be used up to now in this tick."""
        is_there = False
        with self._noted():
            is_there = self._usable and self.ledger is not None and self.ledger.exists
        return self.ledger if is_there else None

    def _to_ask(self) -> Ledger | None:
        """Return the ledger for those that ask."""
        return self._in_use()

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Log that the ledger cannot be used, and go on: what needs it waits, and all else does not."""
        try:
            yield
        except MatterstackError as error:
            self._usable = False  # it may have taken seconds to learn that
            if str(error) != self._told:
                self._told = str(error)
                log.warning("the limits of %s cannot be used: %s", self._what, error)


class WorkspaceBook(Book):
    """What one session knows of what its run holds of its workspace.

    Attributes
    ----------
    jobs : JobLimits
        What jobs take without naming it, in this tick.
    """

    def __init__(self, directory: RunDirectory) -> None:
        workspace = directory.workspace
        super().__init__(None if workspace is None else Ledger(workspace), directory, "the workspace")
        self.jobs: JobLimits = NO_JOB_LIMITS
        #: Whether rates were taken whose use is not noted yet.
        self._used = True

    def begin(self, store: StoreReader, run: RunRecord, *, alone: bool) -> None:
        """Begin a tick; which limits jobs take is found out only where some may be submitted."""
        self.jobs = NO_JOB_LIMITS
        super().begin(store, run, alone=alone)

    def look_around(self, operators: Mapping[str, Operator]) -> None:
        """Find out what jobs of some operators take without naming it, before any of their tasks asks."""
        self.jobs = NO_JOB_LIMITS
        if (ledger := self._in_use()) is not None:
            with self._noted():
                self.jobs = job_limits(ledger, operators, ask=True)
        if not self._usable:
            self.jobs = all_job_limits(operators)

    @contextlib.contextmanager
    def asking(self, run: RunRecord, at: float) -> Iterator[Granting]:
        """Let ready tasks ask; what is in queues and no run of the workspace knows of counts, too."""
        with super().asking(run, at) as granting:
            granting.count_besides(self.jobs.besides)
            yield granting
        self._used |= any(is_rate(one.name) for one in granting.granted)

    def _settle(self, store: StoreReader, run: RunRecord, *, leaves: bool) -> bool:
        if self._used and (ledger := self._in_use()) is not None:
            with self._noted():
                ledger.note_used(self.holder(run), time.time())
                self._used = False
        return super()._settle(store, run, leaves=leaves)

    def _over(self, store: StoreReader, tokens: Collection[str]) -> set[str]:
        """Return those of the attempts that hold something which do so no more: a job is over when all in it are."""
        over = super()._over(store, tokens)
        return over - still_leading(store, over)


class MachineBook(Book):
    """What one session knows of what its run holds of this machine; it sleeps until an operator counts it."""

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__(None, directory, "this machine")
        self._was_moved_asked = False

    def wake(self, directory: RunDirectory) -> None:
        """Use the ledger from now on: that of now, since it may go with a login session that ends."""
        ledger = MachineLedger()
        if self.ledger is None or self.ledger.path != ledger.path:
            self.ledger, self._held = ledger, None
            self._place = ledger.place_of(directory.path)

    def begin(self, store: StoreReader, run: RunRecord, *, alone: bool) -> None:
        """Begin a tick; the first one also looks whether the run was moved, and holds something by its old place."""
        super().begin(store, run, alone=alone)
        if not self._was_moved_asked and (ledger := self._in_use()) is not None:
            self._was_moved_asked = True
            with self._noted():
                take_over(ledger, self.holder(run))
            self._settle(store, run, leaves=False)

    def _to_ask(self) -> Ledger | None:
        """Return the ledger for those that ask; it is made where there is none."""
        if self._usable and self.ledger is not None:
            self.ledger.make()
        return self._in_use()


class Reservations:
    """What one session knows of what its run holds, in both ledgers.

    Parameters
    ----------
    directory : RunDirectory

    Attributes
    ----------
    workspace : WorkspaceBook
    machine : MachineBook
    counting : mapping of str to Machine
        What operators count of this machine, as this tick began.
    starved : frozenset of str
        The operators with room, all of whose ready tasks wait for a limit.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.workspace = WorkspaceBook(directory)
        self.machine = MachineBook(directory)
        self.counting: Mapping[str, Machine] = {}
        self.starved: frozenset[str] = frozenset()
        self._directory = directory
        #: Tokens that were live when the last tick ended: who submits others has reserved for them.
        self._lately: frozenset[str] = frozenset()
        self._names_any = False
        self._nothing: tuple[tuple[int, frozenset[str], frozenset[str]], float] | None = None

    @property
    def short(self) -> frozenset[str]:
        """The limits that kept ready tasks from being submitted in this tick, in words."""
        return self.workspace.short.union(map(_of_machine, self.machine.short))

    def begin(self, store: StoreReader, snapshot: Snapshot, operators: Mapping[str, Operator]) -> None:
        """Begin a tick: what another process that was killed left of this run is put right."""
        self.starved = frozenset()
        alone = all(one.token in self._lately for one in snapshot.live)
        self.workspace.begin(store, snapshot.run, alone=alone)
        self.counting = counting(operators)
        if self.counting:
            self.machine.wake(self._directory)
        if self.machine.ledger is not None:
            self.machine.begin(store, snapshot.run, alone=alone)

    @contextlib.contextmanager
    def asking(self, run: RunRecord, at: float, wanted: Iterable[Wants | None]) -> Iterator[Grants]:
        """Let ready tasks ask; when the block ends, what they were granted is on disk, or was withdrawn.

        Parameters
        ----------
        run : RunRecord
        at : float
            Seconds since the Unix epoch.
        wanted : iterable of Wants or None
            Of those that ask first: a ledger is not opened for nothing.
        """
        self._names_any = self._names_any or any(wants is not None and wants.named for wants in wanted)
        nothing = Granting(NOTHING, self.workspace.holder(run), at)
        with contextlib.ExitStack() as stack:
            # Everybody opens them in this order, so nobody waits for who waits for him.
            named = stack.enter_context(self.workspace.asking(run, at)) if self._names_any else nothing
            counted = stack.enter_context(self.machine.asking(run, at)) if self.counting else nothing
            yield Grants(named, counted)
            self._names_any = self._names_any or bool(named.short)  # one of those that asked later: the next tick opens

    def nothing_behind(self, looked_at: tuple[int, frozenset[str], frozenset[str]], at: float) -> bool:
        """Return whether nothing was found a moment ago behind ready tasks that wait.

        Parameters
        ----------
        looked_at : (int, frozenset of str, frozenset of str)
            The last event of the run, the limits that are short, and the operators whose tasks were gone through.
        at : float
            Seconds since the Unix epoch.
        """
        return self._nothing is not None and self._nothing[0] == looked_at and 0 <= at - self._nothing[1] < _BEHIND_S

    def note_nothing_behind(self, looked_at: tuple[int, frozenset[str], frozenset[str]], at: float) -> None:
        """Remember that nothing was found; see `nothing_behind`."""
        self._nothing = (looked_at, at)

    def settle(self, store: StoreReader, run: RunRecord, live: Sequence[LiveAttempt]) -> bool:
        """Give back, at the end of a tick, what attempts held that are over; return whether there was any."""
        self._lately = frozenset(one.token for one in live)
        given_back = self.workspace.settle(store, run, live)
        return (self.machine.ledger is not None and self.machine.settle(store, run, live)) or given_back

    def settle_others(self, run: RunRecord) -> bool:
        """Give back what others hold of what this run waits for and is over; return whether there was any."""
        given_back = self.workspace.settle_others(run)
        return self.machine.settle_others(run) or given_back

    def gpus(self, token: str) -> tuple[str, ...]:
        """Return which GPUs an attempt holds."""
        return tuple(gpu for name in self.machine.names(token) if (gpu := gpu_of(name)) is not None)


def counting(operators: Mapping[str, Operator]) -> Mapping[str, Machine]:
    """Return what operators count of this machine, of those that do."""
    return {name: machine for name, operator in operators.items() if (machine := operator.counts()) is not None}


def wants_of(task: ReadyTask, machine: Machine | None = None) -> Wants | None:
    """Return what the next attempt of a task wants of limits; None where it wants nothing.

    What makes no sense wants nothing: the attempt fails of it.

    Parameters
    ----------
    task : ReadyTask
    machine : Machine, optional
        What its operator counts of this machine.
    """
    if machine is None and _MARK not in task.spec and _MARK not in (task.changes or ""):
        return None
    try:
        spec = json.loads(amended(task.spec, task.changes))
        said = spec.get("resources") or {}
        named = check_named(said.get("named") or {}) or {}
        counted = {} if machine is None else machine.wants(Resources(**said), task.attempts + 1)
        if not named and not counted:
            return None
        return Wants(named, counted, None if machine is None else machine.offer(), int(spec.get("priority", 0)))
    except (ValueError, TypeError, AttributeError, RecursionError, InvalidTaskError):
        return None


def _of_machine(name: str) -> str:
    return f"{in_words(name)} of this machine"
