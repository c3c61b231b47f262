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
            if self.ledger is not None and self.ledger.exists:
                with _noted():
                    granting = stack.enter_context(self.ledger.granting(holder, at))
            yield granting
            said = _noted()
            with said:
                stack.close()
            if said.error is not None:
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
        if not self.short or self.ledger is None or not self.ledger.exists or now < self._others_at:
            return False
        self._others_at = now + _OTHERS_S
        with _noted():
            return give_back_what_is_over(self.ledger, self.holder(run), self.short)
        return False

    def _settle(self, store: StoreReader, run: RunRecord, *, leaves: bool) -> bool:
        gone: Collection[str] = ()
        self._held = set()
        if self.ledger is not None and self.ledger.exists:
            self._held = None
            holder = self.holder(run)
            with _noted():
                held = self.ledger.tokens(holder)
                gone = held - store.live_tokens() if held else ()
                if gone or leaves:
                    self.ledger.give_back(holder, gone, waits=not leaves)
                self._held = held.difference(gone)
        return bool(gone) and self._held is not None


class _noted:  # noqa: N801  (used like a function)
    """Log that the ledger cannot be used, and go on: what needs it waits, and all else does not."""

    error: MatterstackError | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, value: BaseException | None, traceback: object) -> bool:
        if not isinstance(value, MatterstackError):
            return False
        self.error = value
        log.warning("the limits of the workspace cannot be used: %s", value)
        return True


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
