"""Reservations of a run: what its attempts take of the limits of its workspace, and give back when they are over.

Reserved before the intent is stored, and given back after the end is: whatever is killed when, what is live is held.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from matterstack.core.amended import amended
from matterstack.core.attempts import LiveAttempt
from matterstack.core.limits import NOTHING, Granting, Holder
from matterstack.core.resources import check_named
from matterstack.core.snapshot import ReadyTask, RunRecord, Snapshot
from matterstack.errors import InvalidTaskError, MatterstackError
from matterstack.orchestration.holders import give_back_what_is_over
from matterstack.storage.limits import Ledger
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


class Wants(NamedTuple):
    """What an attempt wants of limits, all together, and the priority of its task."""

    named: Mapping[str, int]
    priority: int


class Reservations:
    """What one session knows of what its run holds.

    Parameters
    ----------
    directory : RunDirectory

    Attributes
    ----------
    ledger : Ledger or None
        None where the directory is in no workspace: nothing is granted there.
    short : frozenset of str
        The limits that kept ready tasks from being submitted in this tick.
    starved : frozenset of str
        The operators with room, all of whose ready tasks wait for one of these.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.ledger = None if directory.workspace is None else Ledger(directory.workspace)
        self.short: frozenset[str] = frozenset()
        self.starved: frozenset[str] = frozenset()
        self._place = f"runs/{directory.path.name}"
        self._usable = True  # in this tick
        #: Tokens that the ledger has of this run; None where it has to be asked.
        self._held: set[str] | None = None
        self._waits = False
        self._others_at = 0.0
        self._nothing: tuple[tuple[int, frozenset[str], frozenset[str]], float] | None = None

    def holder(self, run: RunRecord) -> Holder:
        """Return the run as the ledger knows it."""
        return Holder(run.run_id, self._place, run.created_at)

    def begin(self, store: StoreReader, snapshot: Snapshot) -> None:
        """Begin a tick: what another process that was killed left of this run is put right."""
        self.short = self.starved = frozenset()
        self._usable = True
        known = self._held
        if known is not None and any(_MARK in one.spec and one.token not in known for one in snapshot.live):
            self._held = None
        if self._held is None:
            self._settle(store, snapshot.run, leaves=False)

    @contextlib.contextmanager
    def asking(self, run: RunRecord, at: float) -> Iterator[Granting]:
        """Let ready tasks ask; when the block ends, what they were granted is on disk, or was withdrawn."""
        holder, self._held = self.holder(run), None
        granting = Granting(NOTHING, holder, at)  # where the ledger cannot be used, all wait
        with contextlib.ExitStack() as stack:
            if (ledger := self._in_use()) is not None:
                with self._noted():
                    granting = stack.enter_context(ledger.granting(holder, at))
            yield granting
            with self._noted():
                stack.close()
            if not self._usable:
                granting.withdraw()
        self.short = self.short.union(granting.short)

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
        self._held = set() if self._usable else None
        if (ledger := self._in_use()) is not None:
            self._held = None
            holder = self.holder(run)
            with self._noted():
                held = ledger.tokens(holder)
                gone = held - store.live_tokens() if held else ()
                if gone or leaves:
                    ledger.give_back(holder, gone, waits=not leaves)
                self._held = held.difference(gone)
        return bool(gone) and self._held is not None

    def _in_use(self) -> Ledger | None:
        """Return the ledger, where there is one, and it could be used up to now in this tick."""
        return self.ledger if self._usable and self.ledger is not None and self.ledger.exists else None

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Log that the ledger cannot be used, and go on: what needs it waits, and all else does not."""
        try:
            yield
        except MatterstackError as error:
            self._usable = False  # it may have taken seconds to learn that
            log.warning("the limits of the workspace cannot be used: %s", error)


def wants_of(task: ReadyTask) -> Wants | None:
    """Return what the next attempt of a task wants of limits; None where it wants nothing.

    What makes no sense wants nothing: the attempt fails of it.
    """
    if _MARK not in task.spec and _MARK not in (task.changes or ""):
        return None
    try:
        spec = json.loads(amended(task.spec, task.changes))
        named = check_named(spec.get("resources", {}).get("named") or {})
        return None if named is None else Wants(named, int(spec.get("priority", 0)))
    except (ValueError, TypeError, AttributeError, RecursionError, InvalidTaskError):
        return None
